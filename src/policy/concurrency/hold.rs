//! The time after a cut that did not prove itself.

use std::time::{Duration, Instant};

/// How long the next cut waits: at first, and at most.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(32);

/// The first wait in round trips, where these are long.
const LATENCIES: f64 = 4.0;

/// A ratio that rises by so much is something new, and ends the wait.
const WORSE: f64 = 1.5;

/// In this time the baselines may double while the limit is reached.
const DOUBLING: Duration = Duration::from_secs(60);

/// A wait that doubles each time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    until: Option<Instant>,
    length: Duration,
}

impl Pause {
    /// Begins anew, twice as long as the last one. `latency` is in seconds.
    pub(super) fn begin(&mut self, latency: f64, now: Instant) {
        let first = Duration::try_from_secs_f64(latency * LATENCIES).unwrap_or(MOST).max(FIRST);
        self.length = (self.length * 2).max(first).min(MOST.max(first));
        self.until = now.checked_add(self.length);
    }

    pub(super) fn lasts(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// What follows from a cut for latency that did not prove itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    pause: Pause,
    /// The ratio that the cut did not change.
    ratio: f64,
    /// Since then, when the baselines last rose.
    risen: Option<Instant>,
    /// The limit may be raised to see whether that changes the ratio.
    may_raise: bool,
}

impl Hold {
    /// Begins, for a time that doubles with each cut in a row. `latency` is in seconds.
    pub(super) fn begin(&mut self, ratio: f64, latency: f64, now: Instant) {
        self.pause.begin(latency, now);
        self.ratio = ratio;
        self.risen = self.risen.or(Some(now));
        self.may_raise = true;
    }

    /// A cut has proved itself, and perhaps has solved the matter. If it has not, a later cut that
    /// does not prove itself still counts as one more in a row.
    pub(super) fn proved(&mut self, solved: bool) {
        let length = if solved { Duration::ZERO } else { self.pause.length };
        *self = Self { pause: Pause { until: None, length }, ..Self::default() };
    }

    pub(super) const fn has_begun(&self) -> bool {
        self.risen.is_some()
    }

    pub(super) fn holds(&self, now: Instant) -> bool {
        self.pause.lasts(now)
    }

    /// Whether a cut at this ratio has to wait.
    pub(super) fn forbids(&self, ratio: f64, now: Instant) -> bool {
        self.holds(now) && ratio <= self.ratio * WORSE
    }

    pub(super) const fn may_raise(&self) -> bool {
        self.may_raise
    }

    /// Raising the limit changed the ratio in proportion, or did not: it is this now.
    pub(super) const fn raised(&mut self, in_proportion: bool, ratio: f64) {
        if in_proportion {
            self.may_raise = false;
        } else {
            self.ratio = self.ratio.max(ratio);
        }
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
        let passed = now.saturating_duration_since(risen).min(MOST);
        (passed.as_secs_f64() / DOUBLING.as_secs_f64()).exp2()
    }
}
