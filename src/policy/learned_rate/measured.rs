//! How fast are events? Counted by half seconds and smoothed, as the AWS SDKs measure.

use std::time::{Duration, Instant};

/// The length of time by which events are counted.
const BUCKET: Duration = Duration::from_millis(500);

/// The weight of the latest count.
const SMOOTH: f64 = 0.8;

/// A measured rate.
#[derive(Clone, Debug)]
pub(super) struct Measured {
    /// The beginning of the count that goes on.
    since: Instant,
    count: u32,
    rate: f64,
}

impl Measured {
    pub(super) const fn new(now: Instant) -> Self {
        Self { since: now, count: 0, rate: 0.0 }
    }

    /// Counts an event.
    pub(super) fn count(&mut self, now: Instant) {
        self.count = self.count.saturating_add(1);
        let whole = whole_buckets(now.saturating_duration_since(self.since));
        if !whole.is_zero() {
            let current = f64::from(self.count) / whole.as_secs_f64();
            self.rate = current * SMOOTH + self.rate * (1.0 - SMOOTH);
            self.count = 0;
            self.since += whole;
        }
    }

    /// Leaves a time that begins now out, in which nothing is let happen.
    pub(super) fn skip(&mut self, now: Instant, until: Instant) {
        let open = now.saturating_duration_since(self.since);
        self.since = self.since.max(until.checked_sub(open).unwrap_or(until));
    }

    /// Events a second. While too few have been counted for a rate, they are the rate.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        let open = now.saturating_duration_since(self.since);
        if self.rate == 0.0 {
            return f64::from(self.count) / open.max(BUCKET).as_secs_f64();
        }
        self.rate
    }
}

/// The part of a time that is whole buckets.
fn whole_buckets(time: Duration) -> Duration {
    let count = time.as_nanos() / BUCKET.as_nanos();
    BUCKET.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}
