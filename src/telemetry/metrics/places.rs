//! The numbers of limits of concurrency: an upstream's adaptive limit and a route's bulkhead. All
//! are gauges that a scrape brings up to its moment; a request pays nothing for them.

use super::cell::{Level, Measure};
use super::children::Emit;
use super::family::Family;
use super::samples::Samples;

/// The numbers of an upstream's limit.
#[derive(Debug, Default)]
pub struct LimitMetrics {
    /// How many requests may be in flight.
    pub limit: Level,
    /// How many are.
    pub in_flight: Level,
    /// How many wait for a place.
    pub waiting: Level,
    /// How long an answer takes while nothing queues, seconds.
    pub baseline: Measure,
    /// How long answers took in the last round, as a multiple of that.
    pub ratio: Measure,
    /// The share of the requests which found no free place that was refused, 0 to 1.
    pub refused: Measure,
    /// The lowest level that is admitted, counted from the bottom.
    pub threshold: Level,
}

impl Emit for LimitMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        let value = match samples.family() {
            Family::LimitPlaces => self.limit.get() as f64,
            Family::LimitInFlight => self.in_flight.get() as f64,
            Family::LimitWaiting => self.waiting.get() as f64,
            Family::LimitBaseline => self.baseline.get(),
            Family::LimitRatio => self.ratio.get(),
            Family::LimitPressure => self.refused.get(),
            Family::LimitThreshold => self.threshold.get() as f64,
            _ => return,
        };
        samples.gauge(owner, None, value);
    }
}

/// The numbers of a route's bulkhead; nothing is shown of a route without one.
#[derive(Debug, Default)]
pub struct BulkheadMetrics {
    /// How many requests may be in flight.
    pub limit: Level,
    /// How many are.
    pub in_flight: Level,
    /// How many wait for a place.
    pub waiting: Level,
}

impl Emit for BulkheadMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        let value = match samples.family() {
            Family::BulkheadPlaces => &self.limit,
            Family::BulkheadInFlight => &self.in_flight,
            Family::BulkheadWaiting => &self.waiting,
            _ => return,
        };
        if self.limit.get() > 0 {
            samples.gauge(owner, None, value.get() as f64);
        }
    }
}
