//! The numbers of a rate that is learned from a third party.

use super::cell::{Counter, Level, Measure};
use super::children::Emit;
use super::family::Family;
use super::samples::Samples;

/// The numbers of a route whose rate is learned.
#[derive(Debug, Default)]
pub struct LearnedMetrics {
    /// What may be sent, requests a second; 0 = nothing is limited yet. A scrape brings it up to
    /// its moment.
    pub rate: Measure,
    /// How many requests wait for their turn, as of the last scrape.
    pub waiting: Level,
    /// Attempts that the upstream throttled.
    pub throttles: Counter,
}

impl Emit for LearnedMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        match samples.family() {
            Family::LearnedRate if self.rate.get() > 0.0 => {
                samples.gauge(owner, None, self.rate.get());
            }
            Family::LearnedWaiting => samples.gauge(owner, None, self.waiting.get() as f64),
            Family::LearnedThrottles => {
                samples.counter(owner, None, self.throttles.get() as f64);
            }
            _ => {}
        }
    }
}
