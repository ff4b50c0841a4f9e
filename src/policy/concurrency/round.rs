//! What is learned between two decisions of the limiter, and the proof of its cuts.

use std::time::{Duration, Instant};

/// The fewest answers that make a round.
const FEWEST: u32 = 8;

/// So many answers are wanted: the mean of 50 exponential latencies is right within 14 %.
const ENOUGH: u32 = 50;

/// Of a large limit two round trips' worth is wanted, up to so many.
const ENOUGH_MOST: u32 = 1000;

/// Where so many take longer than this, two round trips' worth will do.
const PATIENCE: Duration = Duration::from_secs(1);

/// A ratio as high as this is believed after the fewest answers.
const PLAIN: f64 = 2.0;

/// A round that has not filled in this time is begun anew, or in so many of its own latencies.
const STALE: Duration = Duration::from_secs(1);
const STALE_LATENCIES: f64 = 8.0;

/// One answer counts as at most so many times what was expected of it.
const OUTLIER: f64 = 16.0;

/// How long the next cut waits when one did not prove itself: at first, and at most.
const HOLD_FIRST: Duration = Duration::from_secs(1);
const HOLD_MOST: Duration = Duration::from_secs(32);

/// The first hold in round trips, where these are long.
const HOLD_LATENCIES: f64 = 4.0;

/// A ratio that rises by so much during a hold is something new, and ends it.
const WORSE: f64 = 1.5;

/// In this time the baselines may double while the limit is reached.
const DOUBLING: Duration = Duration::from_secs(60);

/// The answers of a round.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    began: Instant,
    answers: u32,
    took: f64,
    expected: f64,
}

impl Round {
    pub(super) const fn new(now: Instant) -> Self {
        Self { began: now, answers: 0, took: 0.0, expected: 0.0 }
    }

    /// Begins anew without a time at hand; staleness counts from the old beginning.
    pub(super) const fn restart(&mut self) {
        *self = Self::new(self.began);
    }

    /// Adds an answer, in seconds. `ratio` is that of the last round.
    pub(super) fn add(&mut self, latency: f64, expected: f64, ratio: f64) {
        self.answers += 1;
        self.took += latency.min(expected * OUTLIER * ratio.max(1.0));
        self.expected += expected;
    }

    pub(super) fn ratio(&self) -> f64 {
        if self.expected > 0.0 { self.took / self.expected } else { 1.0 }
    }

    /// The mean latency in seconds.
    pub(super) fn latency(&self) -> f64 {
        self.took / f64::from(self.answers.max(1))
    }

    pub(super) fn is_over(&self, limit: u32, now: Instant) -> bool {
        let trips = limit.saturating_mul(2);
        let slow = now.saturating_duration_since(self.began) > PATIENCE;
        self.answers >= trips.clamp(ENOUGH, ENOUGH_MOST)
            || (slow && self.answers >= trips.clamp(FEWEST, ENOUGH))
            || (self.answers >= FEWEST && self.ratio() > PLAIN)
    }

    /// Whether it takes too long to fill. `recent` is how long answers take, in seconds.
    pub(super) fn is_stale(&self, recent: f64, now: Instant) -> bool {
        let patience = STALE.as_secs_f64().max(recent.max(self.latency()) * STALE_LATENCIES);
        now.saturating_duration_since(self.began).as_secs_f64() > patience
    }
}

/// A cut that has yet to prove itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    /// The limit and the ratio before it.
    pub(super) limit: f64,
    pub(super) ratio: f64,
    /// What it left of the limit.
    pub(super) share: f64,
}

impl Trial {
    /// Whether the ratio came down by at least half as much as the limit did.
    pub(super) fn is_proved(&self, ratio: f64) -> bool {
        ratio <= self.ratio * f64::midpoint(1.0, self.share)
    }
}

/// The time after a cut that did not prove itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    until: Option<Instant>,
    length: Duration,
    /// The ratio that the cut did not change.
    ratio: f64,
    /// When the baselines last rose.
    risen: Option<Instant>,
}

impl Hold {
    /// Begins, for a time that doubles with each cut in a row. `latency` is in seconds.
    pub(super) fn begin(&mut self, ratio: f64, latency: f64, now: Instant) {
        let first = Duration::try_from_secs_f64(latency * HOLD_LATENCIES).unwrap_or(HOLD_MOST);
        let first = first.max(HOLD_FIRST);
        self.length = (self.length * 2).max(first).min(HOLD_MOST.max(first));
        self.until = now.checked_add(self.length);
        self.ratio = ratio;
        self.risen = self.risen.or(Some(now));
    }

    pub(super) const fn has_begun(&self) -> bool {
        self.until.is_some()
    }

    pub(super) fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether a cut at this ratio has to wait.
    pub(super) fn forbids(&self, ratio: f64, now: Instant) -> bool {
        self.holds(now) && ratio <= self.ratio * WORSE
    }

    /// Ends once the upstream is as quick as expected.
    pub(super) fn forgive(&mut self, now: Instant) {
        if !self.holds(now) {
            *self = Self::default();
        }
    }

    /// The factor by which the baselines may rise now; 1 unless a cut has not proved itself.
    pub(super) fn rise(&mut self, now: Instant) -> f64 {
        let Some(risen) = self.risen else { return 1.0 };
        self.risen = Some(now);
        let passed = now.saturating_duration_since(risen).min(HOLD_MOST);
        (passed.as_secs_f64() / DOUBLING.as_secs_f64()).exp2()
    }
}
