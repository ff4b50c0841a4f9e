//! One address of an upstream, and what its attempts have taught us.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::address::EndpointAddress;
use super::set::Spec;
use crate::config::upstream::Upstream as Settings;
use crate::policy::Mode;
use crate::policy::ejection::{Ejection, Verdict};
use crate::policy::health_check::Health;
use crate::policy::load_balancing::PeakEwma;
use crate::policy::outcome::{Hint, Outcome};
use crate::policy::slow_start;
use crate::shared::Shared;
use crate::telemetry::metrics::EndpointMetrics;

/// Gives every endpoint of the process a number of its own, by which pools know it.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// One address of an upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// Never given twice in a process, so that a pool cannot mistake one for another.
    pub id: u64,
    /// Where it is.
    pub address: EndpointAddress,
    /// The address as text: label, log field and ring key.
    pub name: Arc<str>,
    /// Its share relative to the others.
    pub weight: u32,
    /// The zone that it is in.
    pub zone: Option<Arc<str>>,
    /// The name that it was resolved from, or its IP address: what its certificate is for.
    pub host: Arc<str>,
    /// Its metrics.
    pub metrics: Arc<EndpointMetrics>,
    in_flight: AtomicUsize,
    /// The turn of the last request that brought its address.
    used: AtomicUsize,
    ejected: AtomicBool,
    unhealthy: AtomicBool,
    /// Whether it is in slow start; spares the choice a lock when it is not.
    returning: AtomicBool,
    state: Shared<State>,
}

/// What is learned from attempts and checks; one short lock an attempt.
#[derive(Debug)]
struct State {
    ejection: Ejection,
    health: Health,
    latency: PeakEwma,
    /// When it last came (back) into the choice; `None` = it was there from the start.
    returned: Option<Instant>,
}

impl State {
    /// Starts the slow start, and forgets the latency: it is that of the failures which took the
    /// endpoint out. They have been paid for by the time out of the choice; kept, their penalty
    /// would take most of a minute to decay, and slow start would have nothing to ramp up.
    fn come_back(&mut self, now: Instant) {
        self.returned = Some(now);
        self.latency = PeakEwma::default();
    }

    /// Takes in whether an attempt was a failure. True when the thresholds of ejection are crossed.
    fn judge(
        &mut self,
        settings: &Settings,
        outcome: &Outcome,
        failure: bool,
        (began, now): (Instant, Instant),
    ) -> bool {
        if failure {
            let hint = match outcome.hint {
                Some(Hint::Wait(wait)) if outcome.is_overload() => Some(wait),
                _ => None,
            };
            let settings = &settings.load_balancing;
            self.latency.observe_failure(settings, outcome.latency, hint, now);
        }
        // An overloaded peer that shed the request is slow, not broken.
        let hard = failure && !outcome.is_throttled();
        // What began before an ejection says nothing of the time after it.
        self.ejection.counts(began)
            && self.ejection.record(&settings.ejection, hard, now) == Verdict::Eject
    }
}

/// An attempt in flight to an endpoint; counted for as long as this lives.
#[derive(Debug)]
pub struct InFlight(Arc<Endpoint>);

impl InFlight {
    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.in_flight.dec();
    }
}

impl Endpoint {
    /// A new endpoint; `returned` starts its slow start.
    #[must_use]
    pub fn new(spec: Spec, metrics: Arc<EndpointMetrics>, returned: Option<Instant>) -> Self {
        let Spec { address, weight, zone, host } = spec;
        let name: Arc<str> = address.to_string().into();
        metrics.healthy.set(1);
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            address,
            name,
            weight: weight.max(1),
            zone,
            host,
            metrics,
            in_flight: AtomicUsize::new(0),
            used: AtomicUsize::new(0),
            ejected: AtomicBool::new(false),
            unhealthy: AtomicBool::new(false),
            returning: AtomicBool::new(returned.is_some()),
            state: Shared::new(State {
                ejection: Ejection::new(),
                health: Health::new(),
                latency: PeakEwma::default(),
                returned,
            }),
        }
    }

    /// Counts one attempt in flight.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        self.metrics.in_flight.inc();
        InFlight(Arc::clone(self))
    }

    /// Attempts in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Notes that it is used in this turn of its upstream.
    pub fn use_in(&self, turn: usize) {
        self.used.store(turn, Ordering::Relaxed);
    }

    /// The turn in which it was used last.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether it may be chosen at this time.
    #[must_use]
    pub fn available(&self, now: Instant) -> bool {
        if self.unhealthy.load(Ordering::Relaxed) {
            return false;
        }
        !self.ejected.load(Ordering::Relaxed) || self.try_return(now)
    }

    /// Whether active checks find it healthy.
    #[must_use]
    pub fn healthy(&self) -> bool {
        !self.unhealthy.load(Ordering::Relaxed)
    }

    /// When its ejection ends, if it is ejected.
    #[must_use]
    pub fn ejected_until(&self, now: Instant) -> Option<Instant> {
        if !self.ejected.load(Ordering::Relaxed) {
            return None;
        }
        let state = self.state.lock();
        state.ejection.ejected_until().filter(|until| *until > now)
    }

    /// Ends an ejection whose time is over; true when it is over.
    fn try_return(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        if state.ejection.is_ejected(now) {
            return false;
        }
        if self.ejected.swap(false, Ordering::Relaxed) {
            state.ejection.release(now);
            state.come_back(now);
            self.returning.store(true, Ordering::Relaxed);
            drop(state);
            self.metrics.ejected.set(0);
            tracing::info!(endpoint = %self.name, "endpoint returned from ejection");
        }
        true
    }

    /// What it was made from.
    #[must_use]
    pub fn spec(&self) -> Spec {
        Spec {
            address: self.address.clone(),
            weight: self.weight,
            zone: self.zone.clone(),
            host: Arc::clone(&self.host),
        }
    }

    /// The measured latency in nanoseconds; nothing before the first answer.
    #[must_use]
    pub fn cost(&self, now: Instant) -> Option<f64> {
        self.state.lock().latency.cost(now)
    }

    /// Its share of its weight while it is coming back.
    #[must_use]
    pub fn ramp(&self, settings: &Settings, now: Instant) -> f64 {
        if !self.returning.load(Ordering::Relaxed) {
            return 1.0;
        }
        let Some(at) = self.state.lock().returned else { return 1.0 };
        let share = slow_start::factor(*settings.slow_start, now.saturating_duration_since(at));
        if share >= 1.0 {
            self.returning.store(false, Ordering::Relaxed);
        }
        share
    }

    /// Since when it is ejected, if it is.
    #[must_use]
    pub fn ejected_since(&self, now: Instant) -> Option<Instant> {
        let state = self.state.lock();
        state.ejection.ejected_since().filter(|_| state.ejection.is_ejected(now))
    }

    /// Learns from an attempt that ended. True when the thresholds of ejection are crossed.
    pub fn learn(
        &self,
        settings: &Settings,
        outcome: &Outcome,
        failure: bool,
        now: Instant,
    ) -> bool {
        let began = now.checked_sub(outcome.latency).unwrap_or(now);
        let mut state = self.state.lock();
        if !failure {
            state.latency.observe(outcome.latency, now);
        }
        state.judge(settings, outcome, failure, (began, now))
    }

    /// Learns how an attempt ended that began then, and whose latency is known already unless it
    /// failed. True when the thresholds of ejection are crossed.
    pub fn learn_end(
        &self,
        settings: &Settings,
        outcome: &Outcome,
        failure: bool,
        times: (Instant, Instant),
    ) -> bool {
        self.state.lock().judge(settings, outcome, failure, times)
    }

    /// Learns the latency so far of an attempt that was given up.
    pub fn learn_abandoned(&self, elapsed: Duration, now: Instant) {
        self.learn_latency(elapsed, now);
    }

    /// Learns how long an attempt took to the head of its answer.
    pub fn learn_latency(&self, latency: Duration, now: Instant) {
        self.state.lock().latency.observe(latency, now);
    }

    /// Takes it out of the choice, when the policy is enforced; returns for how long. Observed, it
    /// keeps the time all the same, so that one ejection is counted once.
    pub fn eject(&self, settings: &Settings, now: Instant, random: f64) -> Duration {
        let mut state = self.state.lock();
        let until = state.ejection.eject(&settings.ejection, now, random);
        if settings.ejection.mode == Mode::Enforce {
            self.ejected.store(true, Ordering::Relaxed);
            self.metrics.ejected.set(1);
        }
        until.saturating_duration_since(now)
    }

    /// Takes in the result of an active check; `Some` when its health changed.
    pub fn checked(&self, settings: &Settings, good: bool, now: Instant) -> Option<bool> {
        let check = settings.health_check.as_ref()?;
        let mut state = self.state.lock();
        let healthy = state.health.record(check, good)?;
        self.unhealthy.store(!healthy, Ordering::Relaxed);
        if healthy {
            state.come_back(now);
            self.returning.store(true, Ordering::Relaxed);
        }
        drop(state);
        self.metrics.healthy.set(usize::from(healthy));
        Some(healthy)
    }

    /// Forgets what active checks found, when they are turned off.
    pub fn forget_health(&self) {
        self.state.lock().health = Health::new();
        self.unhealthy.store(false, Ordering::Relaxed);
        self.metrics.healthy.set(1);
    }
}

#[cfg(test)]
mod tests;
