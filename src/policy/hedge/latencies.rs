//! Percentiles of a route's latencies, in bounded memory and a few nanoseconds a sample.
//!
//! A histogram whose buckets grow with the latency: 16 to each doubling, from a microsecond to a
//! minute, so that a percentile is exact to 7 % (as HdrHistogram does it; Tene). Every three
//! seconds in which there is enough to go by, the percentiles are found anew, and what was counted
//! before then weighs half as much as what is counted from then on.

use std::time::{Duration, Instant};

/// How often percentiles are found anew.
pub const REFRESH: Duration = Duration::from_secs(3);

/// Fewer samples than this say nothing about the slow ones.
pub const SAMPLES_MIN: u32 = 100;

/// Buckets to a doubling, as a power of two.
const FINE_BITS: u32 = 4;
const FINE: usize = 1 << FINE_BITS;

/// The shortest latency that is told from shorter ones, as a power of two of nanoseconds: 1 µs.
const LEAST_BITS: u32 = 10;

/// How many doublings there are: up to 69 s.
const DOUBLINGS: usize = 26;

const BUCKETS: usize = FINE * DOUBLINGS;

/// Latencies, counted.
#[derive(Clone, Debug)]
pub struct Latencies {
    counts: Box<[u32; BUCKETS]>,
    total: u32,
    refreshed: Instant,
    known: Option<Known>,
}

/// What was found at the last refresh.
#[derive(Clone, Copy, Debug)]
struct Known {
    permille: u16,
    quantile: Duration,
    median: Duration,
}

impl Latencies {
    /// None yet.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { counts: Box::new([0; BUCKETS]), total: 0, refreshed: now, known: None }
    }

    /// Counts one. `permille` is the quantile that is wanted, 1 to 999 of a thousand.
    pub fn record(&mut self, permille: u16, latency: Duration, now: Instant) {
        if let Some(count) = self.counts.get_mut(place(latency)) {
            // At four billion a refresh is long due.
            *count = count.saturating_add(1);
            self.total = self.total.saturating_add(1);
        }
        let due = now.saturating_duration_since(self.refreshed) >= REFRESH;
        if due && self.total >= SAMPLES_MIN {
            self.refresh(permille, now);
        }
    }

    /// A quantile, if it is the one that was wanted at the last refresh.
    #[must_use]
    pub fn quantile(&self, permille: u16) -> Option<Duration> {
        self.known.filter(|known| known.permille == permille).map(|known| known.quantile)
    }

    /// What half of them take at most, if there are enough.
    #[must_use]
    pub fn median(&self) -> Option<Duration> {
        self.known.map(|known| known.median)
    }

    fn refresh(&mut self, permille: u16, now: Instant) {
        let (quantile, median) = (self.find(permille), self.find(500));
        self.known = Some(Known { permille, quantile, median });
        self.refreshed = now;
        self.total = 0;
        for count in self.counts.iter_mut() {
            *count /= 2;
            self.total += *count;
        }
    }

    /// The upper end of the bucket in which the wanted one lies.
    fn find(&self, permille: u16) -> Duration {
        let rank = (u64::from(self.total) * u64::from(permille)).div_ceil(1000).max(1);
        let mut below = 0;
        for (place, count) in self.counts.iter().enumerate() {
            below += u64::from(*count);
            if below >= rank {
                return end(place);
            }
        }
        end(BUCKETS - 1)
    }
}

/// The bucket of a latency: by its highest bit, and the four below that.
fn place(latency: Duration) -> usize {
    let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1 << LEAST_BITS);
    let top = u64::BITS - 1 - nanos.leading_zeros();
    let fine = (nanos >> (top - FINE_BITS)) as usize & (FINE - 1);
    ((top - LEAST_BITS) as usize * FINE + fine).min(BUCKETS - 1)
}

/// The shortest latency that is longer than those of a bucket.
fn end(place: usize) -> Duration {
    let (doubling, fine) = (place / FINE, place % FINE);
    Duration::from_nanos(((FINE + fine + 1) as u64) << (doubling as u32 + LEAST_BITS - FINE_BITS))
}

#[cfg(test)]
mod tests;
