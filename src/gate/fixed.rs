//! The gate of a route: its bulkhead.

use std::time::{Duration, Instant};

use super::{Gate, Limit};
use crate::policy::bulkhead::{Bulkhead, Settings};
use crate::policy::queue::{self, Pace};

/// The bulkhead of a route, with the settings that it is under.
pub struct Fixed {
    bulkhead: Bulkhead,
    settings: Settings,
}

impl Limit for Fixed {
    type Start = ();
    type Lesson = ();

    fn try_acquire(&mut self, _now: Instant) -> bool {
        self.bulkhead.try_acquire(&self.settings)
    }

    fn acquire(&mut self) {
        self.bulkhead.acquire();
    }

    fn release(&mut self) {
        self.bulkhead.release();
    }

    fn start(&mut self, _refusing: bool) {}

    fn learn(&mut self, (): (), (): ()) {}

    fn pace(&self) -> Pace {
        Pace { limit: self.settings.max_concurrent, latency: Duration::ZERO }
    }

    fn queue(&self) -> &queue::Settings {
        &self.settings.queue
    }

    fn tiers(&self) -> Option<usize> {
        None
    }
}

impl Gate<Fixed> {
    /// The gate of a route with nothing in flight.
    #[must_use]
    pub fn fixed(settings: &Settings, now: Instant) -> Self {
        let bulkhead = Bulkhead::new();
        Self::new(Fixed { bulkhead, settings: settings.clone() }, now)
    }

    /// Changes the settings, and keeps who is in.
    pub fn configure(&self, settings: &Settings) {
        self.with(|fixed| fixed.settings.clone_from(settings));
    }

    /// How many are in flight, and how many may be.
    #[must_use]
    pub fn filled(&self) -> (u32, u32) {
        self.with(|fixed| (fixed.bulkhead.in_flight(), fixed.settings.max_concurrent))
    }
}
