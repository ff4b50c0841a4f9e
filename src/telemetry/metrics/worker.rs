//! The numbers of one worker thread.

use super::cell::{Elapsed, Level, Measure};
use super::children::Emit;
use super::family::Family;
use super::samples::Samples;

/// The numbers of a worker thread.
#[derive(Debug, Default)]
pub struct WorkerMetrics {
    /// Time for which it ran tasks.
    pub busy: Elapsed,
    /// Open connections that it serves.
    pub connections: Level,
    /// How late its last timer fired, seconds.
    pub delay: Measure,
    /// The pressure of its lateness, 0 to 1.
    pub pressure: Measure,
}

impl Emit for WorkerMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        match samples.family() {
            Family::WorkerBusy => samples.counter(owner, None, self.busy.seconds()),
            Family::WorkerConnections => samples.gauge(owner, None, self.connections.get() as f64),
            Family::WorkerDelay => samples.gauge(owner, None, self.delay.get()),
            _ => {}
        }
    }
}
