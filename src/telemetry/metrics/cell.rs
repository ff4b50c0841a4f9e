//! The atomics that the data path writes: a counter and two gauges.
//!
//! Each operation is one relaxed atomic instruction, a few nanoseconds when one worker writes and
//! some tens when the cache line moves between workers. Nothing is ordered by them.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// A number of events, which only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one event.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts this many events.
    pub fn add(&self, events: u64) {
        self.0.fetch_add(events, Ordering::Relaxed);
    }

    /// How many were counted.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A length of time that only rises, kept in nanoseconds: one thread fills it in 584 years.
#[derive(Debug, Default)]
pub struct Elapsed(AtomicU64);

impl Elapsed {
    /// Adds a length of time.
    pub fn add(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_add(nanos, Ordering::Relaxed);
    }

    /// The sum in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.0.load(Ordering::Relaxed) as f64 / 1e9
    }
}

/// A number of things that there are now.
#[derive(Debug, Default)]
pub struct Level(AtomicI64);

impl Level {
    /// One more.
    pub fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less.
    pub fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// As many as this. A number beyond the range of `i64` is taken as the largest.
    pub fn set(&self, number: usize) {
        self.0.store(i64::try_from(number).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// How many there are.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A measured value that may go up and down; zero at first.
#[derive(Debug, Default)]
pub struct Measure(AtomicU64);

impl Measure {
    /// Replaces the value.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}
