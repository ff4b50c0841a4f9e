//! What is learned between two decisions of the limiter.

use std::time::{Duration, Instant};

/// So many answers are wanted, and so many always do; of a large limit two round trips' worth, up
/// to a bound. Latencies that queue behind each other are alike, so fewer would seem to say more
/// than they do.
const WANTED: u32 = 50;
const ENOUGH: u32 = 200;
const ENOUGH_MOST: u32 = 1000;

/// A ratio that is known to this share of itself (one standard error) needs no more answers. For
/// exponential latencies these are 150.
const KNOWN: f64 = 0.08;

/// The fewest answers that make a round.
const FEWEST: u32 = 8;

/// So few make one if their ratio asks for a cut even when it is less by three standard errors, and
/// one error is no more than this.
const ROUGHLY: f64 = 0.1;
const ERRORS: f64 = 3.0;

/// Where more takes longer than this, two round trips' worth will do.
const PATIENCE: Duration = Duration::from_secs(1);

/// A round that has not filled in this time is begun anew, or in so many of its own latencies.
const STALE: Duration = Duration::from_secs(2);
const STALE_LATENCIES: f64 = 10.0;

/// One answer counts as at most so many times what was expected of it.
const OUTLIER: f64 = 16.0;

/// The answers of a round, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    began: Instant,
    answers: u32,
    took: f64,
    expected: f64,
    /// The sums of the products, for the error of the ratio.
    took2: f64,
    both: f64,
    expected2: f64,
}

impl Round {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            began: now,
            answers: 0,
            took: 0.0,
            expected: 0.0,
            took2: 0.0,
            both: 0.0,
            expected2: 0.0,
        }
    }

    /// Adds an answer. `ratio` is that of the last round.
    pub(super) fn add(&mut self, latency: f64, expected: f64, ratio: f64) {
        let latency = latency.min(expected * OUTLIER * ratio.max(1.0));
        self.answers = self.answers.saturating_add(1);
        self.took += latency;
        self.expected += expected;
        self.took2 += latency * latency;
        self.both += latency * expected;
        self.expected2 += expected * expected;
    }

    pub(super) fn ratio(&self) -> f64 {
        if self.expected > 0.0 { self.took / self.expected } else { 1.0 }
    }

    /// Whether it is long enough to say anything.
    pub(super) const fn tells(&self) -> bool {
        self.answers >= FEWEST
    }

    /// The mean latency.
    pub(super) fn latency(&self) -> f64 {
        self.took / f64::from(self.answers.max(1))
    }

    /// How long it has been going on, in seconds.
    pub(super) fn age(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.began).as_secs_f64()
    }

    /// Whether it is known what to do. Above `plain` the ratio asks for a cut.
    pub(super) fn is_over(&self, limit: u32, plain: f64, now: Instant) -> bool {
        if self.answers < FEWEST {
            return false;
        }
        let trips = limit.saturating_mul(2);
        let error = self.error();
        self.answers >= trips.clamp(ENOUGH, ENOUGH_MOST)
            || (self.answers >= trips.clamp(FEWEST, WANTED)
                && self.age(now) > PATIENCE.as_secs_f64())
            || (self.answers >= trips.clamp(WANTED, ENOUGH) && error <= KNOWN)
            || (error <= ROUGHLY && self.ratio() * (1.0 - ERRORS * error) > plain)
    }

    /// Whether it takes too long to fill. `recent` is how long answers take.
    pub(super) fn is_stale(&self, recent: f64, now: Instant) -> bool {
        let patience = STALE.as_secs_f64().max(recent.max(self.latency()) * STALE_LATENCIES);
        self.age(now) > patience
    }

    /// The standard error of the ratio as a share of it: that of a ratio estimator (Cochran,
    /// "Sampling Techniques", 6.4).
    fn error(&self) -> f64 {
        let ratio = self.ratio();
        let squares = self.took2 - 2.0 * ratio * self.both + ratio * ratio * self.expected2;
        squares.max(0.0).sqrt() / self.took
    }
}

/// The part of a rise that the ratio follows if it follows at all.
const RAISED: f64 = 0.25;

/// A change of the limit that has yet to prove itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    /// The limit and the ratio before it.
    pub(super) limit: f64,
    pub(super) ratio: f64,
    /// What it made of the limit: less than 1 for a cut.
    pub(super) share: f64,
    /// Whether other proxies try the same at this time.
    pub(super) together: bool,
}

impl Trial {
    /// Whether the ratio follows the limit, as it does when requests queue: after a cut it is
    /// nearer to what it would be then than to what it was. After a rise less is enough: one of
    /// which it is not sure that it did no harm has to be taken back, since other proxies may go
    /// on with theirs.
    pub(super) fn follows(&self, ratio: f64) -> bool {
        if self.share < 1.0 {
            ratio <= self.ratio * f64::midpoint(1.0, self.share)
        } else {
            ratio >= self.ratio * (1.0 + (self.share - 1.0) * RAISED)
        }
    }
}
