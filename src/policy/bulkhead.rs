//! How much of the proxy may one route take? A fixed limit of concurrency with its own queue.
//!
//! A slow dependency then holds its own places alone, and the other routes keep theirs. There is
//! nothing to learn: requests are counted, and what finds no place waits in a
//! [`WaitQueue`](super::queue::WaitQueue), if there is one, or is refused.
//!
//! Not here: the queue itself, and the adaptive limit of the upstream behind (`concurrency`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Mode;
use super::queue::{self, Discipline, Length};
use crate::units::Period;

/// The share of one route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Bulkhead")]
pub struct Settings {
    /// Whether the policy acts.
    #[serde(default)]
    pub mode: Mode,
    /// How many requests of the route may be in flight; at least 1.
    pub max_concurrent: u32,
    /// Where further ones wait; nobody waits unless it is given.
    #[serde(default = "no_queue")]
    pub queue: queue::Settings,
}

/// Requests that wait behind a slow dependency make its slowness worse, so waiting has to be asked
/// for.
fn no_queue() -> queue::Settings {
    queue::Settings {
        max: Length::Count(0),
        max_wait: Period::from_millis(50),
        discipline: Discipline::Priority,
    }
}

/// The places that are taken.
#[derive(Clone, Debug, Default)]
pub struct Bulkhead {
    in_flight: u32,
}

impl Bulkhead {
    /// One in which every place is free.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a place, to be given back with [`Bulkhead::release`]; false if there is none.
    #[must_use]
    pub fn try_acquire(&mut self, settings: &Settings) -> bool {
        let free = self.in_flight < settings.max_concurrent.max(1);
        self.in_flight += u32::from(free);
        free
    }

    /// Takes a place whether there is one or not, to be given back like any other.
    pub const fn acquire(&mut self) {
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// Gives a place back.
    pub const fn release(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// How many places are taken.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }
}

#[cfg(test)]
mod tests;
