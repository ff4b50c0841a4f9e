//! Counts requests as whoever sent them sees them: how many, how many good, how fast.
//!
//! Latencies go into a histogram whose places are a sixteenth of a power of two wide, so that a
//! quantile is off by at most 3 % and memory does not grow with time.

use std::time::Duration;

/// Places in each power of two.
const FINE: u64 = 16;
/// Places in all, for up to 2^27 microseconds: two minutes, far above any timeout of the demo.
const PLACES: usize = 384;
/// The length of a slot; the recent window moves on by this.
const SLOT: Duration = Duration::from_millis(250);
/// Slots in the recent window, which is five seconds long.
const SLOTS: usize = 20;
/// How many seconds the history holds.
pub const HISTORY: usize = 60;

/// Latencies by size.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; PLACES], total: 0 }
    }
}

impl Histogram {
    fn record(&mut self, latency: Duration) {
        let place = place(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        if let Some(count) = self.counts.get_mut(place) {
            *count = count.saturating_add(1);
            self.total += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.total += other.total;
    }

    /// The latency that this share of all latencies, 0 to 1, does not exceed (nearest rank); `None`
    /// when there are none.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        if self.total == 0 {
            return None;
        }
        let rank = ((share * self.total as f64).ceil() as u64).clamp(1, self.total);
        let mut seen = 0;
        let place = self.counts.iter().position(|count| {
            seen += u64::from(*count);
            seen >= rank
        })?;
        Some(Duration::from_micros(middle(place)))
    }
}

/// The place of a latency in microseconds.
fn place(micros: u64) -> usize {
    let octave = u64::from(micros.max(FINE).ilog2());
    let place = if micros < FINE {
        micros
    } else {
        (octave - 3) * FINE + ((micros >> (octave - 4)) & (FINE - 1))
    };
    usize::try_from(place).unwrap_or(PLACES).min(PLACES - 1)
}

/// The middle of a place in microseconds.
fn middle(place: usize) -> u64 {
    let place = place as u64;
    if place < FINE {
        return place;
    }
    let shift = place / FINE - 1;
    ((FINE + place % FINE) << shift) + ((1 << shift) >> 1)
}

/// Requests that ended in some length of time.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// All of them.
    pub requests: u64,
    /// Those that were answered 2xx in time.
    pub good: u64,
    /// How long each took, whatever came of it.
    pub latency: Histogram,
}

impl Count {
    /// The share of good ones, 0 to 1; `None` when there were none.
    #[must_use]
    pub fn success(&self) -> Option<f64> {
        (self.requests > 0).then(|| self.good as f64 / self.requests as f64)
    }

    /// Those that were not good.
    #[must_use]
    pub const fn failed(&self) -> u64 {
        self.requests - self.good
    }

    fn record(&mut self, good: bool, latency: Duration) {
        self.requests += 1;
        self.good += u64::from(good);
        self.latency.record(latency);
    }

    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.good += other.good;
        self.latency.add(&other.latency);
    }
}

/// Requests and good ones of one second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    requests: u32,
    good: u32,
}

/// All requests of one way, by the time since the start at which they ended.
#[derive(Clone, Debug)]
pub struct Tally {
    total: Count,
    slots: Vec<(u64, Count)>,
    seconds: [Second; HISTORY],
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            total: Count::default(),
            slots: vec![(0, Count::default()); SLOTS],
            seconds: [Second::default(); HISTORY],
        }
    }
}

impl Tally {
    /// Counts a request that ended now.
    pub fn record(&mut self, now: Duration, good: bool, latency: Duration) {
        self.total.record(good, latency);
        let number = slot(now);
        if let Some((of, count)) = self.slots.get_mut(number as usize % SLOTS) {
            if *of != number {
                (*of, *count) = (number, Count::default());
            }
            count.record(good, latency);
        }
        let number = now.as_secs();
        if let Some(second) = self.seconds.get_mut(number as usize % HISTORY) {
            if second.number != number {
                *second = Second { number, ..Second::default() };
            }
            second.requests += 1;
            second.good += u32::from(good);
        }
    }

    /// All since the start.
    #[must_use]
    pub const fn total(&self) -> &Count {
        &self.total
    }

    /// The last five seconds.
    #[must_use]
    pub fn recent(&self, now: Duration) -> Count {
        let newest = slot(now);
        let mut recent = Count::default();
        for (number, count) in &self.slots {
            if *number <= newest && newest - number < SLOTS as u64 {
                recent.add(count);
            }
        }
        recent
    }

    /// The share of good requests in each of the last seconds that are over, oldest first; `None`
    /// where nothing ended.
    #[must_use]
    pub fn history(&self, now: Duration) -> Vec<Option<f64>> {
        let over = now.as_secs();
        let first = over.saturating_sub(HISTORY as u64 - 1);
        let share = |number: u64| {
            let second = self.seconds.get(number as usize % HISTORY)?;
            let known = second.number == number && second.requests > 0;
            known.then(|| f64::from(second.good) / f64::from(second.requests))
        };
        (first..over).map(share).collect()
    }
}

/// The time that [`Tally::recent`] covers at this time: five seconds less what is left of a slot.
#[must_use]
pub fn covered(now: Duration) -> Duration {
    let newest = u32::try_from(slot(now)).unwrap_or(u32::MAX);
    let oldest = newest.saturating_sub(SLOTS as u32 - 1);
    now.saturating_sub(SLOT * oldest)
}

fn slot(now: Duration) -> u64 {
    u64::try_from(now.as_millis() / SLOT.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
