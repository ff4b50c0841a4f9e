//! The numbers of a route's hedging.

use super::cell::{Counter, Measure};
use super::children::Emit;
use super::family::Family;
use super::samples::Samples;
use crate::policy::hedge::Why;

/// The numbers of second copies that a route sends; nothing is shown of a route that sends none.
#[derive(Debug, Default)]
pub struct HedgeMetrics {
    /// Copies whose answer was taken.
    pub won: Counter,
    /// Copies that were sent in vain.
    pub lost: Counter,
    /// How long the first attempt may take, seconds; 0 = not known. A scrape brings it up to its
    /// moment.
    pub delay: Measure,
    suppressed: [Counter; Why::ALL.len()],
}

impl HedgeMetrics {
    /// Counts a request that was slow and of which no copy was sent.
    pub fn suppressed(&self, why: Why) {
        if let Some(counter) = self.suppressed.get(why as usize) {
            counter.inc();
        }
    }
}

impl Emit for HedgeMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        match samples.family() {
            Family::Hedges => {
                samples.occurred(owner, "won", self.won.get());
                samples.occurred(owner, "lost", self.lost.get());
            }
            Family::HedgesSuppressed => {
                for (counter, why) in self.suppressed.iter().zip(Why::ALL) {
                    samples.occurred(owner, why.as_str(), counter.get());
                }
            }
            Family::HedgeDelay if self.delay.get() > 0.0 => {
                samples.gauge(owner, None, self.delay.get());
            }
            _ => {}
        }
    }
}
