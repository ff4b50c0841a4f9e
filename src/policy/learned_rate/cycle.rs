//! What is let through over a whole cycle of sending and waiting: the limit of a third party that
//! counts by windows, whatever their length.

use std::time::{Duration, Instant};

use super::LONG;

/// How far back a cycle is looked at: quotas are by the minute or shorter, or else their pauses too
/// long to be measured.
pub(super) const LENGTH_MAX: Duration = Duration::from_secs(60);

/// The shortest cycle that a rate is made of.
const LENGTH_MIN: Duration = Duration::from_secs(1);

/// Requests that were accepted since a cycle began.
#[derive(Clone, Debug)]
pub(super) struct Cycle {
    accepted: u64,
    began: Instant,
    latest: Instant,
}

impl Cycle {
    pub(super) const fn new(began: Instant) -> Self {
        Self { accepted: 0, began, latest: began }
    }

    /// Begins another one.
    pub(super) const fn restart(&mut self, began: Instant) {
        *self = Self::new(began);
    }

    /// Counts one that was accepted. A cycle that gets long forgets its first half, and time in
    /// which nobody asked does not belong to one.
    pub(super) fn count(&mut self, now: Instant) {
        let length = self.length(now);
        if self.quiet(now) >= LONG {
            self.restart(now);
        } else if length > LENGTH_MAX {
            self.accepted /= 2;
            self.began += length / 2;
        }
        self.accepted = self.accepted.saturating_add(1);
        self.latest = self.latest.max(now);
    }

    /// How long it has gone on.
    pub(super) fn length(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.began)
    }

    /// How long nothing has been accepted.
    pub(super) fn quiet(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.latest)
    }

    /// What was accepted by the length of a cycle that ends at this time, requests a second.
    pub(super) fn rate(&self, end: Instant) -> f64 {
        let length = self.length(end).max(LENGTH_MIN);
        self.accepted as f64 / length.as_secs_f64()
    }
}
