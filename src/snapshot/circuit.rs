//! The circuit of one route to one upstream, shared by the workers.

use std::sync::Arc;
use std::time::Instant;

use crate::policy::Mode;
use crate::policy::circuit_breaker::{
    Breaker, Open, Permit, Settings, State, Transition, Verdict, View,
};
use crate::shared::Shared;
use crate::telemetry::metrics::BreakerMetrics;

/// A breaker with its names and metrics.
pub struct Circuit {
    route: Arc<str>,
    upstream: Arc<str>,
    machine: Shared<Breaker>,
    metrics: BreakerMetrics,
}

/// Leave to send one attempt; the circuit learns its outcome, or that there was none when this is
/// dropped before.
pub struct Pass {
    circuit: Arc<Circuit>,
    permit: Option<Permit>,
}

impl Circuit {
    /// A closed circuit.
    #[must_use]
    pub fn new(route: Arc<str>, upstream: Arc<str>, metrics: BreakerMetrics) -> Self {
        Self { route, upstream, machine: Shared::new(Breaker::new()), metrics }
    }

    /// Asks for leave to send an attempt.
    ///
    /// # Errors
    /// When the circuit is open and the policy is enforced.
    pub fn admit(
        self: &Arc<Self>,
        settings: &Settings,
        now: Instant,
        random: f64,
    ) -> Result<Pass, Open> {
        let off = Pass { circuit: Arc::clone(self), permit: None };
        if settings.mode == Mode::Off {
            return Ok(off);
        }
        let (before, answer, after) = {
            let mut machine = self.machine.lock();
            let before = machine.state(settings, now);
            let answer = machine.admit(settings, now, random);
            (before, answer, machine.state(settings, now))
        };
        if before != after {
            self.tell(before, after, "the wait is over");
        }
        match answer {
            Ok(permit) => Ok(Pass { circuit: Arc::clone(self), permit: Some(permit) }),
            Err(_) if settings.mode == Mode::Observe => {
                self.metrics.would_reject.inc();
                Ok(off)
            }
            Err(open) => Err(open),
        }
    }

    /// Opens the circuit until it is closed by hand.
    pub fn isolate(&self, settings: &Settings, now: Instant) {
        let transition = self.machine.lock().isolate(settings, now);
        self.tell_of(transition);
    }

    /// Closes the circuit by hand.
    pub fn close(&self, settings: &Settings, now: Instant) {
        let transition = self.machine.lock().close(settings, now);
        self.tell_of(transition);
    }

    /// The state, for operators.
    pub fn view(&self, settings: &Settings, now: Instant) -> View {
        self.machine.lock().view(settings, now)
    }

    /// Sets the state's gauge, for what only time has changed.
    pub fn measure(&self, settings: &Settings, now: Instant) {
        let state = self.machine.lock().state(settings, now);
        self.metrics.state.set(gauge(state));
    }

    fn tell_of(&self, transition: Option<Transition>) {
        if let Some(transition) = transition {
            self.tell(transition.from, transition.to, transition.cause.as_str());
        }
    }

    fn tell(&self, from: State, to: State, cause: &str) {
        self.metrics.state.set(gauge(to));
        self.metrics.entered(to);
        tracing::warn!(
            route = %self.route,
            upstream = %self.upstream,
            from = from.as_str(),
            to = to.as_str(),
            cause,
            "circuit changed"
        );
    }
}

impl Pass {
    /// Whether this attempt is a trial, which is neither retried nor copied.
    #[must_use]
    pub fn is_trial(&self) -> bool {
        self.permit.as_ref().is_some_and(Permit::is_trial)
    }

    /// Tells the circuit how the attempt ended.
    pub fn record(mut self, settings: &Settings, verdict: Verdict, now: Instant, random: f64) {
        let Some(permit) = self.permit.take() else { return };
        let transition = self.circuit.machine.lock().record(settings, permit, verdict, now, random);
        self.circuit.tell_of(transition);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.circuit.machine.lock().cancel(permit);
        }
    }
}

const fn gauge(state: State) -> i64 {
    match state {
        State::Closed => 0,
        State::Open => 1,
        State::HalfOpen => 2,
        State::Ramping => 3,
        State::Isolated => 4,
    }
}
