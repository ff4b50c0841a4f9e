//! One address of an upstream, and what its attempts have taught us.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::address::EndpointAddress;
use crate::config::upstream::Upstream as Settings;
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
    /// Its metrics.
    pub metrics: Arc<EndpointMetrics>,
    in_flight: AtomicUsize,
    ejected: AtomicBool,
    unhealthy: AtomicBool,
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
    pub fn new(
        address: EndpointAddress,
        weight: u32,
        zone: Option<Arc<str>>,
        metrics: Arc<EndpointMetrics>,
        returned: Option<Instant>,
    ) -> Self {
        let name: Arc<str> = address.to_string().into();
        metrics.healthy.set(1);
        Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            address,
            name,
            weight: weight.max(1),
            zone,
            metrics,
            in_flight: AtomicUsize::new(0),
            ejected: AtomicBool::new(false),
            unhealthy: AtomicBool::new(false),
            state: Shared::new(State {
                ejection: Ejection::new(),
                health: Health::new(),
                latency: PeakEwma::new(),
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
            state.returned = Some(now);
            drop(state);
            self.metrics.ejected.set(0);
            tracing::info!(endpoint = %self.name, "endpoint returned from ejection");
        }
        true
    }

    /// The cost of choosing it: expected latency times the attempts that it would then hold, more
    /// while it is coming back.
    #[must_use]
    pub fn load(&self, settings: &Settings, by_latency: bool, now: Instant) -> f64 {
        let pending = self.in_flight() as f64 + 1.0;
        let state = self.state.lock();
        let cost = if by_latency { state.latency.cost(now) } else { 1.0 };
        let share = returning_share(settings, state.returned, now);
        cost * pending / (share * f64::from(self.weight))
    }

    /// Its weight in the choice by turn, less while it is coming back.
    #[must_use]
    pub fn returning_share(&self, settings: &Settings, now: Instant) -> f64 {
        returning_share(settings, self.state.lock().returned, now)
    }

    /// The latency estimate, for operators.
    #[must_use]
    pub fn expected_latency(&self, now: Instant) -> Duration {
        Duration::from_nanos(self.state.lock().latency.cost(now) as u64)
    }

    /// Learns from an attempt that ended. True when the thresholds of ejection are crossed.
    pub fn learn(&self, settings: &Settings, outcome: &Outcome, failure: bool, now: Instant) -> bool {
        let began = now.checked_sub(outcome.latency).unwrap_or(now);
        let mut state = self.state.lock();
        if failure {
            let hint = match outcome.hint {
                Some(Hint::Wait(wait)) if matches!(outcome.status(), Some(429 | 503)) => Some(wait),
                _ => None,
            };
            state.latency.observe_failure(&settings.load_balancing, hint, now);
        } else {
            state.latency.observe(outcome.latency, now);
        }
        // An overloaded peer that shed the request is slow, not broken.
        let hard = failure && outcome.status() != Some(429);
        // What began before an ejection says nothing of the time after it.
        state.ejection.counts(began)
            && state.ejection.record(&settings.ejection, hard, now) == Verdict::Eject
    }

    /// Learns the latency so far of an attempt that was given up.
    pub fn learn_abandoned(&self, elapsed: Duration, now: Instant) {
        self.state.lock().latency.observe(elapsed, now);
    }

    /// Takes it out of the choice; returns for how long.
    pub fn eject(&self, settings: &Settings, now: Instant, random: f64) -> Duration {
        let mut state = self.state.lock();
        let until = state.ejection.eject(&settings.ejection, now, random);
        self.ejected.store(true, Ordering::Relaxed);
        self.metrics.ejected.set(1);
        until.saturating_duration_since(now)
    }

    /// Takes in the result of an active check; `Some` when its health changed.
    pub fn checked(&self, settings: &Settings, good: bool, now: Instant) -> Option<bool> {
        let check = settings.health_check.as_ref()?;
        let mut state = self.state.lock();
        let healthy = state.health.record(check, good)?;
        self.unhealthy.store(!healthy, Ordering::Relaxed);
        if healthy {
            state.returned = Some(now);
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

fn returning_share(settings: &Settings, returned: Option<Instant>, now: Instant) -> f64 {
    match returned {
        Some(at) => slow_start::factor(*settings.slow_start, now.saturating_duration_since(at)),
        None => 1.0,
    }
}
