//! What an attempt teaches when its status has come.
//!
//! The head of an answer says how long the work took, and that is learned at once. Whether the call
//! was a failure is known with its status, which may be hours later: until then the circuit and the
//! endpoint's ejection have heard nothing of it, so that a failure is not outweighed by the good
//! head that came before it. A trial of a circuit is the exception: the first message is enough to
//! call it good, for a stream may have no end.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;

use super::{UNKNOWN, is_failure};
use crate::clock;
use crate::gate::{Adaptive, Gate, Lesson, Limit as _, Place, Started};
use crate::policy::circuit_breaker::Verdict;
use crate::policy::concurrency::Sample;
use crate::policy::outcome::{End, Outcome};
use crate::proxy::attempt::{self, Answer, Way};
use crate::proxy::context::Context;
use crate::proxy::egress;
use crate::proxy::headers::hint;
use crate::snapshot::circuit::Pass;
use crate::snapshot::route::{Route, Target};
use crate::upstream::endpoint::Endpoint;

/// An attempt whose answer goes on, and whose status is to come. Dropped before that, because the
/// client has gone, it says nothing of the upstream.
pub struct Late {
    route: Arc<Route>,
    target: Target,
    endpoint: Arc<Endpoint>,
    /// The place under the upstream's limit that the attempt had, and how it began there.
    place: Option<Held>,
    pass: Option<Pass>,
    /// What is known from the head.
    outcome: Outcome,
    /// Whether the circuit counts the head alone as a failure.
    verdict: Verdict,
    began: Instant,
    /// Whether the endpoint counted the attempt already.
    counted: bool,
}

/// The gate of an upstream, and how an attempt began there.
type Held = (Arc<Gate<Adaptive>>, Started);

/// An attempt whose answer's head has come.
pub struct Open<'a> {
    /// What it was for.
    pub way: &'a Way<'a>,
    /// Where it went.
    pub endpoint: &'a Arc<Endpoint>,
    /// The leave that it had of the circuit.
    pub pass: Option<Pass>,
    /// Its place under the upstream's limit.
    pub place: Option<&'a Place<Adaptive>>,
    /// When it began.
    pub began: Instant,
}

impl Late {
    /// Learns what the head says, and keeps the rest for later.
    pub fn begin(ctx: &Context, open: Open<'_>, outcome: &Outcome, answer: &mut Answer) {
        let Open { way, endpoint, pass, place, began } = open;
        let Some(route) = ctx.route.clone() else { return };
        let upstream = &way.target.upstream;
        upstream.state.metrics.ended(outcome);
        endpoint.learn_latency(outcome.latency, clock::now());
        let breaker = &route.settings.circuit_breaker;
        let verdict = attempt::verdict(breaker, outcome, Some(answer.response.headers()));
        answer.late = Some(Box::new(Self {
            target: way.target.clone(),
            endpoint: Arc::clone(endpoint),
            place: place.map(|place| (Arc::clone(place.gate()), place.start())),
            pass,
            outcome: *outcome,
            verdict,
            began,
            counted: false,
            route,
        }));
    }

    /// A message came.
    pub fn message(&mut self) {
        if let Some(pass) = self.pass.take_if(|pass| pass.is_trial()) {
            let breaker = &self.route.settings.circuit_breaker;
            pass.record(breaker, self.verdict, clock::now(), fastrand::f64());
        }
    }

    /// The answer is whole; its trailers say how the call ended. Without a status there it is
    /// UNKNOWN, as its client takes it.
    pub fn end(mut self, trailers: Option<&HeaderMap>) {
        let code = trailers.and_then(hint::grpc_status).unwrap_or(UNKNOWN);
        if let End::Answer { grpc, .. } = &mut self.outcome.end {
            *grpc = Some(code);
        }
        if let Some(trailers) = trailers.filter(|_| code != 0) {
            self.outcome.hint = hint::retry_hint(trailers, clock::wall_now());
            self.outcome.peer_shed |= hint::peer_shed(trailers);
        }
        self.learn(trailers);
    }

    /// The answer broke off; to its client that is this status, if it is known. That a server
    /// cancels a call is no fault of it.
    pub fn broke_off(mut self, code: Option<u16>) {
        match (code, &mut self.outcome.end) {
            (Some(code), End::Answer { grpc, .. }) if !is_failure(code) => *grpc = Some(code),
            (_, end) => *end = End::Reset,
        }
        self.learn(None);
    }

    fn learn(&mut self, trailers: Option<&HeaderMap>) {
        let (now, outcome) = (clock::now(), self.outcome);
        let breaker = &self.route.settings.circuit_breaker;
        let upstream = &self.target.upstream;
        if let Some((gate, started)) = &self.place
            && attempt::sample(&outcome) == Some(Sample::Dropped)
        {
            let lesson = Lesson { route: self.target.baseline, sample: Sample::Dropped, at: now };
            gate.with(|limit| limit.learn(*started, lesson));
        }
        if let Some(trailers) = trailers {
            egress::learn_late(&self.route, &self.target, (&outcome, trailers), (self.began, now));
        }
        let failure = attempt::endpoint_failure(&outcome);
        self.counted = true;
        self.endpoint.metrics.ended(!failure, outcome.latency);
        upstream.learn_end(&self.endpoint, &outcome, failure, (self.began, now));
        if let Some(pass) = self.pass.take() {
            let mut verdict = attempt::verdict(breaker, &outcome, trailers);
            verdict.failure |= self.verdict.failure && !outcome.peer_shed;
            pass.record(breaker, verdict, now, fastrand::f64());
        }
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        if !self.counted {
            self.endpoint.metrics.ended(true, self.outcome.latency);
        }
    }
}
