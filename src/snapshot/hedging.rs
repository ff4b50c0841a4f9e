//! The second copies of one route's requests, shared by the workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::policy::hedge::{Facts, Hedge, Settings, Why};
use crate::shared::Shared;
use crate::telemetry::metrics::RouteMetrics;

/// What is known of a route's latencies and copies.
pub struct Hedging {
    machine: Shared<Hedge>,
    metrics: Arc<RouteMetrics>,
}

impl Hedging {
    /// One that knows nothing.
    #[must_use]
    pub fn new(metrics: Arc<RouteMetrics>, now: Instant) -> Self {
        Self { machine: Shared::new(Hedge::new(now)), metrics }
    }

    /// Counts a first attempt, and says how long to wait for it before a copy may be sent.
    ///
    /// # Errors
    /// Why there will be none.
    pub fn first(&self, s: &Settings, facts: &Facts) -> Result<Duration, Why> {
        let mut machine = self.machine.lock();
        machine.first(s);
        machine.delay(s, facts)
    }

    /// Decides whether a copy of a slow request is sent, and pays for it. Counts it if not.
    #[must_use]
    pub fn send(&self, s: &Settings, facts: &Facts) -> bool {
        let decided = self.machine.lock().send(s, facts);
        if let Err(why) = decided {
            self.metrics.hedge.suppressed(why);
        }
        decided.is_ok()
    }

    /// Gives back what was paid for a copy that was not sent after all.
    pub fn give_back(&self, why: Why) {
        self.machine.lock().give_back();
        self.metrics.hedge.suppressed(why);
    }

    /// Learns how long a first attempt took, or at least took until its copy had won.
    pub fn record(&self, s: &Settings, latency: Duration, now: Instant) {
        self.machine.lock().record(s, latency, now);
    }

    /// Counts what became of a copy.
    pub fn ended(&self, won: bool) {
        let metrics = &self.metrics.hedge;
        if won { metrics.won.inc() } else { metrics.lost.inc() }
    }

    /// How long the first attempt may take, and how many copies the budget would pay for.
    #[must_use]
    pub fn view(&self, s: &Settings) -> (Option<Duration>, f64) {
        let machine = self.machine.lock();
        (machine.after(s), machine.available())
    }

    /// Sets the gauge.
    pub fn measure(&self, s: &Settings) {
        let delay = self.view(s).0.unwrap_or_default();
        self.metrics.hedge.delay.set(delay.as_secs_f64());
    }
}
