//! A histogram of durations that costs two atomic additions an observation.
//!
//! The bounds are round decimal numbers, as people write them in alerts, and each is at least twice
//! the one before. So between one power of two and the next there is at most one bound, and a table
//! by the position of the highest bit followed by a single comparison finds the bucket: no search,
//! no floating point. The count is the sum of the buckets and needs no atomic of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of a histogram's buckets, with the table that finds a bucket.
#[derive(Debug)]
pub struct Buckets<const N: usize> {
    /// Inclusive upper bounds in nanoseconds, ascending.
    bounds: [u64; N],
    /// By the number of significant bits of a value: how many bounds are below all such values.
    below: [u8; 65],
}

impl<const N: usize> Buckets<N> {
    /// Buckets with these inclusive upper bounds, in microseconds. Fails to compile, when used in a
    /// constant, where a bound is less than twice the one before.
    #[must_use]
    pub const fn from_micros(micros: [u64; N]) -> Self {
        assert!(N < 256, "a bucket's place is kept in a byte");
        let mut bounds = [0; N];
        let mut i = 0;
        while i < N {
            bounds[i] = micros[i] * 1000;
            assert!(bounds[i] > 0, "a bound is more than zero");
            assert!(i == 0 || bounds[i] >= 2 * bounds[i - 1], "a bound is twice the one before");
            i += 1;
        }
        let mut below = [0; 65];
        let mut bits = 1;
        while bits <= 64 {
            let least = 1 << (bits - 1);
            let mut count = 0;
            while count < N && bounds[count] < least {
                count += 1;
            }
            below[bits] = count as u8;
            bits += 1;
        }
        Self { bounds, below }
    }

    /// The place of a duration's bucket, by nanoseconds; `N` stands for the one without a bound.
    fn place(&self, nanos: u64) -> usize {
        let bits = (u64::BITS - nanos.leading_zeros()) as usize;
        let place = usize::from(self.below.get(bits).copied().unwrap_or_default());
        match self.bounds.get(place) {
            Some(bound) if nanos > *bound => place + 1,
            _ => place,
        }
    }
}

/// Sixteen buckets from 0.5 ms to 60 s, for requests and attempts.
pub(super) const WIDE: Buckets<15> = Buckets::from_micros([
    500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 15_000_000, 60_000_000,
]);

/// Six buckets from 1 ms to 10 s, for endpoints, of which there may be many.
pub(super) const NARROW: Buckets<5> =
    Buckets::from_micros([1000, 10_000, 100_000, 1_000_000, 10_000_000]);

/// A histogram of durations.
#[derive(Debug)]
pub struct Latency<const N: usize> {
    buckets: &'static Buckets<N>,
    counts: [AtomicU64; N],
    /// Observations above the last bound.
    above: AtomicU64,
    /// In microseconds: in nanoseconds a thousand requests in flight would overflow it in 7 months.
    sum: AtomicU64,
}

/// What a histogram holds, read bucket by bucket while it may be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// For each bound in seconds, the number of observations at or below it.
    pub buckets: Vec<(f64, u64)>,
    /// The number of all observations.
    pub count: u64,
    /// The sum of all observations in seconds.
    pub sum: f64,
}

impl<const N: usize> Latency<N> {
    /// An empty histogram.
    #[must_use]
    pub const fn new(buckets: &'static Buckets<N>) -> Self {
        let counts = [const { AtomicU64::new(0) }; N];
        Self { buckets, counts, above: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let count = self.counts.get(self.buckets.place(nanos)).unwrap_or(&self.above);
        count.fetch_add(1, Ordering::Relaxed);
        // Rounded, not cut, so that many short durations do not lose half a microsecond each.
        self.sum.fetch_add(nanos.saturating_add(500) / 1000, Ordering::Relaxed);
    }

    /// What it holds now. An observation made meanwhile may be in the count and not yet in the sum.
    #[must_use]
    pub fn read(&self) -> Reading {
        let sum = self.sum.load(Ordering::Relaxed) as f64 / 1e6;
        let mut count = 0;
        let mut buckets = Vec::with_capacity(N);
        for (bound, n) in self.buckets.bounds.iter().zip(&self.counts) {
            count += n.load(Ordering::Relaxed);
            buckets.push((*bound as f64 / 1e9, count));
        }
        count += self.above.load(Ordering::Relaxed);
        Reading { buckets, count, sum }
    }
}

#[cfg(test)]
mod tests;
