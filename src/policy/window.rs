//! Counts over the last seconds: a ring of time buckets.
//!
//! A window of some length is cut into ten buckets. The newest one is filling, so what is counted
//! reaches back between nine tenths of the window and the whole of it. The sums are kept beside the
//! buckets, so that counting and asking cost the same whatever the rate; there is no allocation.
//! The length is an argument, not state: when it changes, counting starts anew.
//!
//! Not here: rates, averages, quantiles, and any judgement of the counts.

use std::time::{Duration, Instant};

/// How many buckets a window has: a tenth of the window is the error of its edge.
const BUCKETS: usize = 10;

/// The shortest bucket. A window of no length would divide by zero when it rolls.
const BUCKET_MIN_NANOS: u64 = 1000;

/// How many attempts there were, and how many of them failed or were slow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All attempts.
    pub total: u32,
    /// Those that failed.
    pub failures: u32,
    /// Those that were slow, whether they failed or not.
    pub slow: u32,
}

/// Attempts counted over a time that moves on; 160 bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    buckets: [Totals; BUCKETS],
    sum: Totals,
    /// When the newest bucket began; none before the first use.
    began: Option<Instant>,
    bucket_nanos: u64,
    newest: u8,
}

impl Totals {
    /// The share of attempts that failed, 0 to 1; 0 when there were none.
    #[must_use]
    pub fn failure_ratio(&self) -> f64 {
        share(self.failures, self.total)
    }

    /// The share of attempts that were slow, 0 to 1; 0 when there were none.
    #[must_use]
    pub fn slow_ratio(&self) -> f64 {
        share(self.slow, self.total)
    }

    fn add(&mut self, failure: bool, slow: bool) {
        self.total += 1;
        self.failures += u32::from(failure);
        self.slow += u32::from(slow);
    }

    fn take_off(&mut self, old: Self) {
        self.total -= old.total;
        self.failures -= old.failures;
        self.slow -= old.slow;
    }
}

/// A quotient rather than a product is compared with settings: 7 of 100 is the very number that
/// `7%` parses to, while 7 % times 100 is a little more than 7.
pub(super) fn share(part: u32, whole: u32) -> f64 {
    if whole == 0 { 0.0 } else { f64::from(part) / f64::from(whole) }
}

impl Window {
    /// A window in which nothing has been counted.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one attempt that ended now.
    pub fn record(&mut self, window_len: Duration, now: Instant, failure: bool, slow: bool) {
        self.roll(window_len, now);
        // Four thousand million attempts in one window: further ones cannot be counted, and leaving
        // them out whole keeps the shares right and the sums equal to the buckets.
        if self.sum.total == u32::MAX {
            return;
        }
        if let Some(bucket) = self.buckets.get_mut(usize::from(self.newest)) {
            bucket.add(failure, slow);
            self.sum.add(failure, slow);
        }
    }

    /// What was counted in the window that ends now.
    pub fn totals(&mut self, window_len: Duration, now: Instant) -> Totals {
        self.roll(window_len, now);
        self.sum
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Drops the buckets that have left the window. A clock that goes backwards counts as standing
    /// still.
    fn roll(&mut self, window_len: Duration, now: Instant) {
        let len = (nanos(window_len) / BUCKETS as u64).max(BUCKET_MIN_NANOS);
        let began = match self.began {
            Some(began) if self.bucket_nanos == len => began,
            _ => {
                *self = Self { began: Some(now), bucket_nanos: len, ..Self::default() };
                return;
            }
        };
        let elapsed = nanos(now.saturating_duration_since(began));
        if elapsed < len {
            return;
        }
        let steps = elapsed / len;
        // What has passed of the newest bucket stays passed: were it dropped, each roll would
        // lengthen the window by up to a bucket.
        self.began = began.checked_add(Duration::from_nanos(steps * len)).or(Some(now));
        if steps >= BUCKETS as u64 {
            self.buckets = Default::default();
            self.sum = Totals::default();
            return;
        }
        for _ in 0..steps {
            self.newest = (self.newest + 1) % BUCKETS as u8;
            if let Some(bucket) = self.buckets.get_mut(usize::from(self.newest)) {
                self.sum.take_off(std::mem::take(bucket));
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
