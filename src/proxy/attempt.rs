//! One attempt: leave of the circuit, an endpoint, the send, and the classification of its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;

use super::admission;
use super::body::{AnswerBody, RequestBody};
use super::context::Context;
use super::egress;
use super::error::Refusal;
use super::grpc::{self, Late, Look, Open};
use super::headers::names::BROWNOUT;
use super::headers::{attempt as attempt_fields, deadline as deadline_fields, hint};
use super::original;
use super::outbound::Outbound;
use super::worker::Worker;
use crate::clock;
use crate::gate::{Adaptive, Lesson, Place};
use crate::policy::circuit_breaker::{Settings as BreakerSettings, Verdict};
use crate::policy::concurrency::Sample;
use crate::policy::load_balancing::{Policy, hash};
use crate::policy::outcome::{End, Outcome};
use crate::policy::retry::Condition;
use crate::policy::timeout;
use crate::snapshot::circuit::{Admission, Pass};
use crate::snapshot::route::{Route, Target};
use crate::telemetry::metrics::Would;
use crate::telemetry::reason::Reason;
use crate::upstream::Upstream;
use crate::upstream::endpoint::{Endpoint, InFlight};
use crate::upstream::error::{Cause, Error};
use crate::upstream::message::OwnFields;
use crate::upstream::pool::Lease;

/// The end of an attempt that has none: longer than any period of the configuration.
const NEVER: Duration = Duration::from_secs(366 * 24 * 3600);

/// How an attempt came out.
pub struct Tried {
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended.
    pub at: Instant,
    /// Whether it was a trial of a circuit that may close again.
    pub trial: bool,
    /// The answer, or why there is none.
    pub answer: Result<Answer, Reason>,
}

/// An answer's head, and what its body holds.
pub struct Answer {
    /// The head and the body to come.
    pub response: Response<AnswerBody>,
    /// The connection.
    pub lease: Lease<RequestBody>,
    /// The endpoint's count.
    pub in_flight: InFlight,
    /// What is learned when a call's status has come, if that is still to come.
    pub late: Option<Box<Late>>,
}

/// The most that is read of an answer that nobody wants, to keep its connection.
const DISCARD_BYTES: u64 = 64 * 1024;
/// How long such an answer may take to end.
const DISCARD_TIME: Duration = Duration::from_secs(1);

impl Answer {
    /// Lets go of an answer that another one has taken the place of. A short one is read to its end
    /// aside, so that its connection can be used again.
    pub fn discard(self) {
        let Self { response, lease, in_flight, late } = self;
        drop((in_flight, late));
        let mut body = response.into_body();
        if body.is_end_stream() {
            return lease.finish(body);
        }
        if body.size_hint().upper().is_none_or(|upper| upper > DISCARD_BYTES) {
            return;
        }
        tokio::task::spawn_local(clock::until(clock::now() + DISCARD_TIME, async move {
            while let Some(frame) = body.frame().await {
                if frame.is_err() {
                    return;
                }
            }
            lease.finish(body);
        }));
    }
}

/// An attempt that goes on. Dropped before its end, it frees its trial and lets the endpoint learn
/// how long it has waited in vain.
struct Underway<'a> {
    upstream: &'a Arc<Upstream>,
    in_flight: Option<InFlight>,
    pass: Option<Pass>,
    began: Instant,
}

impl Drop for Underway<'_> {
    fn drop(&mut self) {
        if let Some(in_flight) = self.in_flight.take() {
            let now = clock::now();
            in_flight.endpoint().learn_abandoned(now.saturating_duration_since(self.began), now);
            self.upstream.state.metrics.cancelled();
        }
    }
}

/// Makes one attempt.
///
/// # Errors
/// When nothing was tried: the time is over, the circuit is open, or there is no endpoint.
pub async fn run(
    ctx: &mut Context,
    way: &Way<'_>,
    limit: &mut Option<Place<Adaptive>>,
    began: Instant,
) -> Result<Tried, Box<Refusal>> {
    let fullness = limit.as_ref().map_or(0, |place| place.start().fullness);
    let prepared = prepare(ctx, way, fullness, began)?;
    let ended = send(&ctx.worker, ctx.deadline, &prepared, way.outbound).await;
    conclude(ctx, way, limit, prepared, ended)
}

/// What the attempts of a request have in common.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    /// Its route.
    pub route: &'a Route,
    /// The route's upstream that was chosen.
    pub target: &'a Target,
    /// The request as it goes there.
    pub outbound: &'a Outbound,
}

/// An attempt that has leave of the circuit, and an endpoint.
pub struct Prepared<'a> {
    underway: Underway<'a>,
    endpoint: Arc<Endpoint>,
    own: OwnFields,
    connect_by: Instant,
    end: Option<Instant>,
    look: Look,
}

impl Prepared<'_> {
    /// The endpoint that was chosen.
    pub fn endpoint(&self) -> Arc<Endpoint> {
        Arc::clone(&self.endpoint)
    }

    /// Whether it is a trial of a circuit that may close again.
    pub fn is_trial(&self) -> bool {
        self.underway.pass.as_ref().is_some_and(Pass::is_trial)
    }
}

/// Asks for leave, and chooses the endpoint.
///
/// # Errors
/// As [`run`].
pub fn prepare<'a>(
    ctx: &mut Context,
    way: &Way<'a>,
    fullness: u8,
    began: Instant,
) -> Result<Prepared<'a>, Box<Refusal>> {
    let Way { route, target, outbound } = *way;
    let timeouts = &route.settings.timeouts;
    // An attempt under a key is waited for beyond its client's time: its result is worth having.
    let patience = ctx.keyed.as_ref().and_then(|keyed| keyed.patience);
    let end = patience
        .or_else(|| timeout::try_deadline(timeouts, route.max_attempts, began, ctx.deadline));
    let remaining = timeout::remaining(began, end, ctx.deadline);
    if remaining.is_some_and(|remaining| remaining.is_zero()) {
        return Err(Reason::Deadline.into());
    }
    if ctx.keyed.as_ref().is_some_and(|keyed| !keyed.may_send(clock::now())) {
        return Err(Reason::StoreUnavailable.into());
    }
    let breaker = &route.settings.circuit_breaker;
    let pass = match target.circuit.admit(breaker, began, fastrand::f64()) {
        Admission::Pass(pass) => pass,
        Admission::WouldRefuse(pass) => {
            ctx.would(route, Would::CircuitBreaker);
            pass
        }
        Admission::Refuse(open) => return Err(Box::new(Refusal::circuit_open(open.retry_after))),
    };
    let upstream = &target.upstream;
    let hash = hash_of(ctx, upstream, outbound.headers());
    let endpoint = if upstream.settings.original_destination.is_some() {
        original::endpoint(ctx, upstream, began)?
    } else {
        let tried = outbound.tried();
        let excluded = if route.settings.retry.other_endpoint { &*tried } else { &[] };
        upstream.choose(excluded, hash, began).ok_or(Reason::NoEndpoint)?
    };
    egress::again(ctx, route, target, began)?;
    outbound.note(&endpoint);
    ctx.attempts += 1;
    ctx.endpoint = Some(Arc::clone(&endpoint));
    let own = own_fields(ctx, outbound.headers(), remaining, fullness);
    let connect_by = timeout::connect_deadline(timeouts, began, end);
    let in_flight = Some(endpoint.enter());
    let underway = Underway { upstream, in_flight, pass: Some(pass), began };
    let look = Look::of(ctx, way);
    Ok(Prepared { underway, endpoint, own, connect_by, end, look })
}

/// Sends it, and waits for the head of the answer.
pub async fn send(
    worker: &Worker,
    deadline: Option<Instant>,
    prepared: &Prepared<'_>,
    outbound: &Outbound,
) -> Ended {
    let Prepared { underway, endpoint, own, connect_by, end, look } = prepared;
    let by = end.unwrap_or(*connect_by + NEVER);
    let (pools, message) = (&worker.pools, outbound.message(own));
    let sending = pin!(pools.send(underway.upstream, endpoint, message, *connect_by));
    match worker.timers.until(by, sending).await {
        Ok(Ok((mut response, lease))) => {
            let broken = match *look {
                Look::Never => None,
                look => Box::pin(grpc::peek(&mut response, look, outbound, by)).await,
            };
            match broken {
                Some(cause) => Ended::Failed(Error::broken_off(cause)),
                None => Ended::Answered(response, lease),
            }
        }
        Ok(Err(error)) => Ended::Failed(error),
        Err(_) => Ended::TimedOut { deadline: *end == deadline },
    }
}

/// Classifies the end of an attempt, once, and lets all learn from it.
///
/// # Errors
/// When the fault is ours or the client's.
pub fn conclude(
    ctx: &Context,
    way: &Way<'_>,
    limit: &mut Option<Place<Adaptive>>,
    prepared: Prepared<'_>,
    ended: Ended,
) -> Result<Tried, Box<Refusal>> {
    let Way { route, target, outbound } = *way;
    let Prepared { mut underway, endpoint, look, .. } = prepared;
    let now = clock::now();
    let in_flight = underway.in_flight.take();
    let pass = underway.pass.take();
    let began = underway.began;
    let mut tried = classify(ctx, ended, in_flight, (began, now), outbound);
    let sample = if tried.ours.is_none() { sample(&tried.tried.outcome) } else { None };
    if let (Some(place), Some(sample)) = (limit.as_mut(), sample) {
        place.learn(Lesson { route: target.baseline, sample, at: now });
    }
    egress::learn(route, target, &tried.tried, began);
    if look != Look::Never
        && let Tried { outcome, answer: Ok(answer), trial, .. } = &mut tried.tried
        && grpc::is_open(&answer.response)
    {
        *trial = pass.as_ref().is_some_and(Pass::is_trial);
        let open = Open { way, endpoint: &endpoint, pass, place: limit.as_ref(), began };
        Late::begin(ctx, open, outcome, answer);
        return Ok(tried.tried);
    }
    let breaker = &route.settings.circuit_breaker;
    settle(&target.upstream, &endpoint, breaker, pass, tried, now)
}

/// What this attempt tells the upstream of itself: how much time it has, and how many came before.
fn own_fields(
    ctx: &Context,
    headers: &HeaderMap,
    remaining: Option<Duration>,
    fullness: u8,
) -> OwnFields {
    let mut own = OwnFields::default();
    if fullness > 0 {
        own.set(&BROWNOUT, HeaderValue::from(u16::from(fullness)));
    }
    if let Some(remaining) = remaining {
        deadline_fields::write_deadline(&mut own, headers, remaining, ctx.grpc);
    }
    let before = ctx.inbound_attempts + ctx.attempts - 1;
    if before > 0 {
        attempt_fields::write_attempts(&mut own, before, ctx.grpc);
    }
    own
}

/// What became of the send.
pub enum Ended {
    /// The head of an answer came.
    Answered(Response<AnswerBody>, Lease<RequestBody>),
    /// No answer came.
    Failed(crate::upstream::error::Error),
    /// The time was over; the whole request's, or the attempt's alone.
    TimedOut {
        /// Whether it was the whole request's.
        deadline: bool,
    },
}

impl Ended {
    /// Whether it is an answer that needs no other: none of failure or overload.
    pub fn is_acceptable(&self) -> bool {
        match self {
            Self::Answered(response, _) => {
                let status = response.status();
                !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS
            }
            Self::Failed(_) | Self::TimedOut { .. } => false,
        }
    }
}

/// What is known of an attempt before anybody learns from it.
struct Classified {
    tried: Tried,
    /// The fault is ours or the client's: nobody learns from it.
    ours: Option<Refusal>,
}

fn classify(
    ctx: &Context,
    ended: Ended,
    in_flight: Option<InFlight>,
    (began, at): (Instant, Instant),
    outbound: &Outbound,
) -> Classified {
    let latency = at.saturating_duration_since(began);
    let outcome = |end, unsent| Outcome { end, unsent, latency, hint: None, peer_shed: false };
    let failed = |outcome, reason| Tried { outcome, at, trial: false, answer: Err(reason) };
    match (ended, in_flight) {
        (Ended::Answered(response, lease), Some(in_flight)) => {
            let headers = response.headers();
            let status = response.status().as_u16();
            let grpc = if ctx.grpc { grpc::status(&response) } else { None };
            let end = End::Answer { status, grpc };
            let mut outcome = outcome(end, false);
            if status >= 400 || grpc.is_some_and(|code| code != 0) {
                let last = response.body().peeked_trailers().unwrap_or(headers);
                outcome.hint = hint::retry_hint(last, clock::wall_now());
                outcome.peer_shed = hint::peer_shed(headers) || hint::peer_shed(last);
            }
            let answer = Ok(Answer { response, lease, in_flight, late: None });
            Classified { tried: Tried { outcome, at, trial: false, answer }, ours: None }
        }
        (Ended::Failed(error), _) => {
            let ours = if error.local_limit {
                Some(Reason::ConnectionLimit.into())
            } else {
                outbound.body_failure().map(Refusal::from)
            };
            let reason = match error.cause.root() {
                Cause::Tls(_) => Reason::TlsFailure,
                _ => reason_of(error.end),
            };
            tracing::debug!(end = ?error.end, cause = %error.cause, "attempt failed");
            Classified { tried: failed(outcome(error.end, error.unsent), reason), ours }
        }
        (Ended::TimedOut { deadline }, _) => {
            let end = if deadline { End::DeadlineExceeded } else { End::PerTryTimeout };
            let ours = outbound.body_failure().map(Refusal::from);
            Classified { tried: failed(outcome(end, false), reason_of(end)), ours }
        }
        (Ended::Answered(..), None) => {
            let reset = failed(outcome(End::Reset, false), Reason::UpstreamReset);
            Classified { tried: reset, ours: None }
        }
    }
}

/// What the upstream's limit learns from an attempt. Only answers say how long work takes, and an
/// answer of failure may be quicker than any work. What we, or the proxy of a peer, refused says
/// nothing of the upstream.
#[must_use]
pub fn sample(outcome: &Outcome) -> Option<Sample> {
    let Outcome { end, latency, peer_shed, .. } = *outcome;
    if peer_shed {
        return None;
    }
    match end {
        End::Answer { status: 429 | 503, .. } => Some(Sample::Dropped),
        End::Answer { grpc: Some(code), .. } if grpc::is_overload(code) => Some(Sample::Dropped),
        End::Answer { grpc: Some(code), .. } if grpc::is_failure(code) => None,
        End::Answer { status, .. } if status < 500 => Some(Sample::Answered(latency)),
        End::PerTryTimeout | End::DeadlineExceeded => Some(Sample::Dropped),
        _ => None,
    }
}

/// Lets the circuit, the endpoint and the metrics learn, each once, from the one classification.
fn settle(
    upstream: &Arc<Upstream>,
    endpoint: &Arc<Endpoint>,
    breaker: &BreakerSettings,
    pass: Option<Pass>,
    classified: Classified,
    now: Instant,
) -> Result<Tried, Box<Refusal>> {
    let Classified { mut tried, ours } = classified;
    if let Some(refusal) = ours {
        // The pass is dropped, and with it a trial is free again.
        return Err(Box::new(refusal));
    }
    let outcome = tried.outcome;
    upstream.state.metrics.ended(&outcome);
    let failure = endpoint_failure(&outcome);
    endpoint.metrics.ended(!failure, outcome.latency);
    upstream.learn(endpoint, &outcome, failure, now);
    if let Some(pass) = pass {
        tried.trial = pass.is_trial();
        let headers = tried.answer.as_ref().ok().map(|answer| answer.response.headers());
        let verdict = verdict(breaker, &outcome, headers);
        pass.record(breaker, verdict, now, fastrand::f64());
    }
    Ok(tried)
}

/// Whether the endpoint is at fault: it did not answer, or answered with a server error or
/// overload.
#[must_use]
pub fn endpoint_failure(outcome: &Outcome) -> bool {
    match outcome.end {
        End::Answer { .. } if outcome.peer_shed => false,
        End::Answer { status, grpc } => {
            (status >= 500 && status != StatusCode::NOT_IMPLEMENTED.as_u16())
                || status == 429
                || grpc.is_some_and(grpc::is_failure)
        }
        _ => true,
    }
}

/// What the circuit makes of an attempt. One without an answer counts as the status that we would
/// answer in its place, so that `5xx` covers an upstream that is gone. What a peer's proxy has shed
/// is none: an open circuit would take the rest of its goodput as well.
#[must_use]
pub fn verdict(
    settings: &BreakerSettings,
    outcome: &Outcome,
    headers: Option<&HeaderMap>,
) -> Verdict {
    let has_header = |name: &str| headers.is_some_and(|headers| headers.contains_key(name));
    let server_error = match outcome.end {
        End::Answer { grpc, .. } => grpc.is_some_and(grpc::is_failure),
        _ => true,
    };
    let counts = |condition: &Condition| {
        condition.matches(outcome, &has_header)
            || (server_error && *condition == Condition::StatusClass(5))
    };
    let failure = !outcome.peer_shed && settings.failures.iter().any(counts);
    let slow = settings.slow.over.is_some_and(|over| outcome.latency > *over);
    Verdict { failure, slow }
}

const fn reason_of(end: End) -> Reason {
    match end {
        End::ConnectFailure => Reason::ConnectFailure,
        End::ConnectTimeout => Reason::ConnectTimeout,
        End::Refused => Reason::UpstreamRefused,
        End::PerTryTimeout => Reason::PerTryTimeout,
        End::DeadlineExceeded => Reason::Deadline,
        End::Reset | End::Answer { .. } => Reason::UpstreamReset,
    }
}

fn hash_of(ctx: &Context, upstream: &Upstream, headers: &HeaderMap) -> Option<u64> {
    let settings = &upstream.settings.load_balancing;
    if settings.policy != Policy::RingHash {
        return None;
    }
    let part = admission::part(ctx, headers, settings.hash_on.as_ref()?)?;
    Some(hash(part.as_bytes()))
}
