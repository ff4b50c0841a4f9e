//! The circuit of one route to one upstream, shared by the workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::policy::Mode;
use crate::policy::circuit_breaker::{
    Breaker, Open, Permit, Settings, State, Transition, Verdict, View,
};
use crate::shared::Shared;
use crate::telemetry::metrics::{BreakerMetrics, BreakerState};

/// A breaker with its names and metrics.
pub struct Circuit {
    route: Arc<str>,
    upstream: Arc<str>,
    machine: Shared<Breaker>,
    metrics: Arc<BreakerMetrics>,
}

/// Leave to send one attempt; the circuit learns its outcome, or that there was none when this is
/// dropped before.
pub struct Pass {
    circuit: Arc<Circuit>,
    permit: Option<Permit>,
}

/// The circuit's answer to an attempt.
pub enum Admission {
    /// It may be sent.
    Pass(Pass),
    /// It may be sent, because the policy only observes.
    WouldRefuse(Pass),
    /// It may not.
    Refuse(Open),
}

impl Circuit {
    /// A closed circuit.
    #[must_use]
    pub fn new(route: Arc<str>, upstream: Arc<str>, metrics: Arc<BreakerMetrics>) -> Self {
        Self { route, upstream, machine: Shared::new(Breaker::new()), metrics }
    }

    /// Asks for leave to send an attempt. Only `enforce` refuses.
    pub fn admit(self: &Arc<Self>, settings: &Settings, now: Instant, random: f64) -> Admission {
        let pass = |permit| Pass { circuit: Arc::clone(self), permit };
        if settings.mode == Mode::Off {
            return Admission::Pass(pass(None));
        }
        let answer = self.machine.lock().admit(settings, now, random);
        match answer {
            Ok(permit) => {
                self.tell_of(permit.transition());
                Admission::Pass(pass(Some(permit)))
            }
            Err(_) if settings.mode == Mode::Observe => Admission::WouldRefuse(pass(None)),
            Err(open) => Admission::Refuse(open),
        }
    }

    /// Opens the circuit until it is closed by hand.
    pub fn isolate(&self) {
        let transition = self.machine.lock().isolate();
        self.tell_of(transition);
    }

    /// Closes the circuit by hand.
    pub fn close(&self) {
        let transition = self.machine.lock().close();
        self.tell_of(transition);
    }

    /// The state, for operators.
    pub fn view(&self, settings: &Settings, now: Instant) -> View {
        self.machine.lock().view(settings, now)
    }

    /// Whether attempts pass without a question.
    #[must_use]
    pub fn is_closed(&self, settings: &Settings, now: Instant) -> bool {
        settings.mode != Mode::Enforce || self.machine.lock().state(settings, now) == State::Closed
    }

    /// For how long attempts are refused for sure, if they are: when the circuit is open, and no
    /// trial is due.
    #[must_use]
    pub fn refuses(&self, settings: &Settings, now: Instant) -> Option<Duration> {
        if settings.mode != Mode::Enforce {
            return None;
        }
        let machine = self.machine.lock();
        match machine.state(settings, now) {
            State::Open => machine.view(settings, now).next_trial_in,
            State::Isolated => Some(*settings.open_max),
            State::Closed | State::HalfOpen | State::Ramping => None,
        }
    }

    /// Sets the state's gauge, for what only time has changed.
    pub fn measure(&self, settings: &Settings, now: Instant) {
        let state = self.machine.lock().state(settings, now);
        self.metrics.show(shown(state));
    }

    fn tell_of(&self, transition: Option<Transition>) {
        if let Some(transition) = transition {
            self.tell(transition.from, transition.to, transition.cause.as_str());
        }
    }

    fn tell(&self, from: State, to: State, cause: &str) {
        self.metrics.entered(shown(to));
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

const fn shown(state: State) -> BreakerState {
    match state {
        State::Closed => BreakerState::Closed,
        State::Open => BreakerState::Open,
        State::HalfOpen => BreakerState::HalfOpen,
        State::Ramping => BreakerState::Ramping,
        State::Isolated => BreakerState::Isolated,
    }
}
