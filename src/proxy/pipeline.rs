//! The way of a request, straight down. The only retry loop and the only wait between attempts are
//! here.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version, request};

use super::Live;
use super::admission::{self, Held};
use super::attempt::{self, Answer, Tried, Way};
use super::body::{Body, ClientBody, Exchange};
use super::cache;
use super::coalesce;
use super::context::Context;
use super::egress::{self, Turn};
use super::error::Refusal;
use super::fallback::{self, Made};
use super::grpc;
use super::headers::names::{OUTCOME, TRIED};
use super::headers::seen::{Fields, Seen};
use super::headers::{crumbs, framing, hint, hop, path, trust};
use super::hedge;
use super::idempotency;
use super::mirror;
use super::original;
use super::outbound::{self, Matched, Outbound};
use super::peer::Peer;
use super::site::Site;
use super::tunnel;
use super::worker::Worker;
use crate::clock;
use crate::gate::{Adaptive, Fixed, Place};
use crate::policy::Mode;
use crate::policy::retry::{self, Decision, Suppressed};
use crate::policy::retry_budget::Cost;
use crate::snapshot::flights::Leader;
use crate::snapshot::matcher::Target as Wanted;
use crate::snapshot::route::Route;
use crate::telemetry::metrics::Would;
use crate::telemetry::reason::Reason;

/// Serves one request. What can be decided at once is decided before the future is made, which so
/// holds one box and stays small.
pub fn handle<B>(
    worker: &Rc<Worker>,
    peer: &Rc<Peer>,
    request: Request<B>,
) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    let request = request.map(ClientBody::of);
    let mut ctx = Context::begin(worker, peer, &request);
    // The route and the listener's site are all that is held on to: the rest may be replaced
    // meanwhile.
    let admitted = admit(&worker.proxy.live(), &mut ctx, request);
    async move {
        Ok(match admitted {
            Ok(journey) => forward(ctx, journey).await,
            Err(refusal) => refusal.answer(ctx),
        })
    }
}

/// An admitted request on its way.
pub(super) struct Journey {
    pub(super) route: Arc<Route>,
    /// The place of the chosen upstream among the route's.
    pub(super) target: usize,
    /// The turn under the rate limit that it must wait for.
    turn: Option<Turn>,
    pub(super) outbound: Outbound,
    /// Tells those that wait for its answer.
    pub(super) leader: Option<Leader>,
}

/// Checks the head, finds the route, and asks the policies that come before any sending.
fn admit(
    live: &Live,
    ctx: &mut Context,
    request: Request<ClientBody>,
) -> Result<Box<Journey>, Box<Refusal>> {
    let (mut parts, body) = request.into_parts();
    if parts.version >= Version::HTTP_2 && ctx.seen.fields.any(Fields::COOKIES) {
        crumbs::join(&mut parts.headers);
    }
    let snapshot = &live.snapshot;
    let (index, site) = live.site(&ctx.peer.listener).ok_or(Reason::NoRoute)?;
    check_head(site, &parts, &ctx.seen, &body)?;
    original::not_ourselves(&ctx.peer)?;
    if !site.trusted {
        trust::strip_untrusted(&mut parts.headers, snapshot.importance.header());
    }
    framing::settle_host(&parts.uri, &mut parts.headers);
    let wanted = Wanted {
        listener: index,
        host: framing::host_of(&parts.uri, ctx.seen.host.as_ref()),
        path: parts.uri.path(),
        query: parts.uri.query(),
        method: &parts.method,
        headers: &parts.headers,
    };
    let found = snapshot.matcher.find(&wanted).ok_or_else(|| tunnel::no_route(&parts.method))?;
    if site.one_reading {
        path::one_reading(&snapshot.matcher, &wanted, found.index).map_err(Refusal::bad_request)?;
    }
    let route = snapshot.routes.get(found.index).cloned().ok_or(Reason::NoRoute)?;
    ctx.enter(Arc::clone(&route), Arc::clone(site), &parts.headers);
    admission::protect(ctx, &route)?;
    admission::body_size(body.length(), site.bounds.max_bytes)?;
    let turn = admission::rate_limit(ctx, &route, &parts.headers)?;
    let target = route.choose_target(fastrand::f64);
    ctx.target = Some(target);
    ctx.mirrored = mirror::draw(&route);
    let names = match &route.rewrite {
        Some(_) => snapshot.matcher.capture_names(found.index),
        None => &[],
    };
    let matched = Matched { route: &route, found, names };
    let outbound = outbound::prepare(ctx, site, &matched, parts, body)?;
    Ok(Box::new(Journey { route, target, turn, outbound, leader: None }))
}

/// Refuses what is not one clear HTTP request, or more than the listener takes.
fn check_head(
    site: &Site,
    parts: &request::Parts,
    seen: &Seen,
    body: &ClientBody,
) -> Result<(), Refusal> {
    if site.head_too_large(parts, seen.bytes) {
        return Err(Reason::HeadersTooLarge.into());
    }
    if let Some(detail) = framing::ambiguous_framing(parts, seen) {
        return Err(Refusal::bad_request(detail));
    }
    if parts.method == Method::CONNECT {
        return tunnel::check_connect(site, parts, body);
    }
    if parts.uri.scheme().is_some() && parts.version < Version::HTTP_2 && !site.forward_proxy {
        return Err(Refusal::bad_request("absolute-form request, and forward_proxy is off"));
    }
    Ok(())
}

/// Takes an admitted request through its attempts to its answer.
async fn forward(mut ctx: Box<Context>, mut journey: Box<Journey>) -> Response<Body> {
    if let Some(turn) = journey.turn.take()
        && let Err(refusal) = egress::wait(&ctx, &journey.route, turn).await
    {
        return refusal.answer(ctx);
    }
    if idempotency::covers(&ctx, &journey.route).is_some() {
        return Box::pin(idempotency::forward(ctx, journey)).await;
    }
    if coalesce::wanted(&ctx, &journey.route, journey.outbound.headers()) {
        return Box::pin(coalesce::forward(ctx, journey)).await;
    }
    let made = exchange(&mut ctx, &mut journey).await;
    conclude(ctx, journey, made).await
}

/// The answer to the client: what the attempts have made, or the fallback chain's in its place.
/// Not an `async fn`, so that the common way holds no future of the rare one.
pub(super) fn conclude(
    ctx: Box<Context>,
    journey: Box<Journey>,
    made: Made,
) -> impl Future<Output = Response<Body>> {
    let answered = if ctx.method != Method::CONNECT && fallback::wanted(&journey.route, &made) {
        Err(Box::pin(fallback::answer(ctx, journey, made)))
    } else {
        Ok(match made {
            Ok((answer, bulkhead)) => reply(ctx, journey, answer, bulkhead),
            Err(refusal) => refusal.answer(ctx),
        })
    };
    async move {
        match answered {
            Ok(response) => response,
            Err(chain) => chain.await,
        }
    }
}

/// Takes the request's places, makes its attempts, and gives the upstream's place back.
pub(super) async fn exchange(ctx: &mut Context, journey: &mut Journey) -> Made {
    let Journey { route, target, outbound, .. } = journey;
    let target = route.targets.get(*target).ok_or(Reason::NoEndpoint)?;
    let mut now = clock::now();
    let Held { bulkhead, mut limit } = admission::enter(ctx, route, target, &mut now).await?;
    let answer = attempts(ctx, &Way { route, target, outbound }, &mut limit, now).await;
    mirror::copy(ctx, route, outbound);
    admission::used(ctx, target, now);
    Ok((answer?, bulkhead))
}

/// Attempts, with waits between them, until one is final. When the last one brought no answer, the
/// last real answer of the upstream is what the client gets.
pub(super) async fn attempts(
    ctx: &mut Context,
    way: &Way<'_>,
    limit: &mut Option<Place<Adaptive>>,
    mut now: Instant,
) -> Result<Answer, Box<Refusal>> {
    way.target.upstream.deposit(now);
    let mut so_far = SoFar { before: ctx.attempts, ..SoFar::default() };
    loop {
        let first = ctx.attempts == so_far.before;
        let tried = match way.route.hedging {
            // Aside, so that the common way does not hold two attempts.
            Some(_) if first && ctx.keyed.is_none() && !ctx.switching => {
                Box::pin(hedge::run(ctx, way, limit, now)).await
            }
            _ => attempt::run(ctx, way, limit, now).await,
        };
        let tried = match tried {
            Ok(tried) => tried,
            Err(refusal) => {
                if ctx.attempts > so_far.before
                    && let Some(why) = stopped_by(refusal.reason)
                {
                    suppress(ctx, way.route, why);
                }
                return so_far.answer.ok_or(refusal);
            }
        };
        ctx.executed |= !tried.outcome.unsent;
        ctx.trial |= tried.trial;
        let Some(wait) = again(ctx, way, &tried, &mut so_far) else {
            return so_far.last(tried.answer);
        };
        if let Ok(answer) = tried.answer {
            so_far.keep(answer);
        }
        way.route.metrics.retries.inc();
        if let Some(place) = limit {
            place.again();
        }
        so_far.waited = wait;
        if !wait.is_zero() {
            clock::sleep(wait).await;
        }
        now = clock::now();
    }
}

/// What earlier attempts of a request leave to the next.
#[derive(Default)]
struct SoFar {
    /// The last real answer, kept unread.
    answer: Option<Answer>,
    /// The wait before the last attempt.
    waited: Duration,
    /// Whether a peer's overload protection has answered.
    shed: bool,
    /// How many attempts the request had made, to another upstream, before these.
    before: u32,
}

impl SoFar {
    fn keep(&mut self, answer: Answer) {
        if let Some(older) = self.answer.replace(answer) {
            older.discard();
        }
    }

    /// The last real answer: the last attempt's, or else an earlier one's.
    fn last(mut self, answer: Result<Answer, Reason>) -> Result<Answer, Box<Refusal>> {
        let earlier = self.answer.take();
        match (answer, earlier) {
            (Ok(answer), earlier) => {
                if let Some(earlier) = earlier {
                    earlier.discard();
                }
                Ok(answer)
            }
            (Err(_), Some(earlier)) => Ok(earlier),
            (Err(reason), None) => Err(reason.into()),
        }
    }
}

/// Whether to try again, and after which wait: the policy, then the budget.
fn again(ctx: &mut Context, way: &Way<'_>, tried: &Tried, so_far: &mut SoFar) -> Option<Duration> {
    let Way { route, target, outbound } = *way;
    let settings = &route.settings.retry;
    let now = tried.at;
    let answer = tried.answer.as_ref().ok();
    if answer.is_some_and(|answer| tunnel::opened(ctx, answer.response.status())) {
        return None;
    }
    let headers = answer.map(|answer| answer.response.headers());
    let has_header = |name: &str| headers.is_some_and(|headers| headers.contains_key(name));
    let keyed = match ctx.keyed.take() {
        Some(mut keyed) => {
            let may = keyed.judge(ctx, tried);
            ctx.keyed = Some(keyed);
            may
        }
        None => false,
    };
    let request = retry::Request {
        safe: is_repeatable(&ctx.method),
        replayable: outbound.replayable(),
        keyed,
        inbound_attempt: ctx.inbound_attempts,
    };
    let attempt = retry::Attempt {
        number: ctx.attempts - so_far.before,
        outcome: &tried.outcome,
        has_header: &has_header,
        previous_wait: so_far.waited,
        trial: tried.trial,
        shed_before: so_far.shed,
        tried_there: headers.is_some_and(hint::peer_tried)
            && !(settings.other_endpoint && target.upstream.has_other(&outbound.tried(), now)),
    };
    so_far.shed |= tried.outcome.peer_shed;
    let remaining = ctx.deadline.map(|deadline| deadline.saturating_duration_since(now));
    let decision = retry::decide(settings, &request, &attempt, remaining, fastrand::f64());
    let (after, cost_half) = match decision {
        Decision::Stop(None) => return None,
        Decision::Stop(Some(why)) => return suppress(ctx, route, why),
        Decision::Retry { after, cost_half } => (after, cost_half),
    };
    if settings.mode == Mode::Observe {
        ctx.would(route, Would::Retry);
        return None;
    }
    let cost = if cost_half { Cost::Half } else { Cost::Whole };
    if !target.upstream.withdraw(cost, now) {
        return suppress(ctx, route, Suppressed::Budget);
    }
    if let Some(keyed) = &mut ctx.keyed {
        keyed.goes_again();
    }
    Some(after)
}

/// What kept a retry that was decided on from being sent.
const fn stopped_by(reason: Reason) -> Option<Suppressed> {
    match reason {
        Reason::CircuitOpen => Some(Suppressed::CircuitOpen),
        Reason::NoEndpoint => Some(Suppressed::NoEndpoint),
        Reason::Deadline => Some(Suppressed::Deadline),
        Reason::RateLimited => Some(Suppressed::RateLimit),
        _ => None,
    }
}

fn suppress(ctx: &mut Context, route: &Route, why: Suppressed) -> Option<Duration> {
    ctx.suppressed = Some(why);
    route.metrics.retry_suppressed(why.index());
    None
}

/// Safe and idempotent methods (RFC 9110, 9.2.2): doing them twice is doing them once.
fn is_repeatable(method: &Method) -> bool {
    method.is_idempotent()
}

/// The upstream's answer as it goes to the client.
pub(super) fn reply(
    mut ctx: Box<Context>,
    journey: Box<Journey>,
    answer: Answer,
    bulkhead: Option<Place<Fixed>>,
) -> Response<Body> {
    if tunnel::opened(&ctx, answer.response.status()) {
        return tunnel::open(ctx, *journey, answer, bulkhead);
    }
    let Answer { mut response, lease, in_flight, late } = answer;
    let Journey { route, outbound, leader, .. } = *journey;
    ctx.status = Some(response.status().as_u16());
    ctx.grpc_status = if ctx.grpc { grpc::status(&response) } else { None };
    let fields = Seen::of(response.headers()).fields;
    // An answer that goes on by design (server-sent events, gRPC) is not cut off by the total time:
    // only the idle timeout ends it, and the time that the caller of gRPC gives.
    let streams = ctx.grpc || fields.any(Fields::EVENTS);
    let version = response.version();
    *response.version_mut() = Version::HTTP_11;
    hop::strip_hop_by_hop(response.headers_mut(), fields);
    if cache::changes(&ctx.method, response.status().as_u16()) {
        cache::invalidate(&ctx, outbound.headers(), response.headers());
    }
    let recording = route.cache.as_ref().and_then(|_| {
        let request = outbound.headers();
        let answered = cache::Answered { request, response: &response, seen: fields, version };
        cache::confirm(&ctx, &route, &answered);
        cache::record(&ctx, &route, &answered, leader)
    });
    dress(&ctx, &route, response.headers_mut(), version);
    if ctx.suppressed.is_some_and(Suppressed::is_final) {
        response.headers_mut().insert(TRIED.clone(), http::HeaderValue::from_static("1"));
    }
    let source = outbound.into_source();
    if let Some(source) = source.as_ref().filter(|_| ctx.grpc) {
        source.allow_pauses();
    }
    let exchange = Box::new(Exchange {
        lease,
        in_flight,
        late,
        bulkhead,
        before: VecDeque::new(),
        deadline: if streams { ctx.call_ends } else { ctx.deadline },
        idle: *route.settings.timeouts.idle,
        timer: None,
        waiting: None,
        ctx,
        recording,
        source,
        heard: 0,
    });
    response.map(|incoming| Body::upstream(incoming, exchange))
}

/// The fields that every answer of an upstream gets on its way to the client.
pub(super) fn dress(ctx: &Context, route: &Route, headers: &mut HeaderMap, version: Version) {
    if let Some(site) = &ctx.site {
        site.forwarding.response(headers, version);
    }
    if let Some((name, value)) = &ctx.said {
        headers.insert(name, value.clone());
        headers.remove(&OUTCOME);
    }
    if closes(ctx) {
        headers.insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    }
    route.response_ops.apply(headers);
}

/// Whether the answer has to say that it is the connection's last.
pub(super) fn closes(ctx: &Context) -> bool {
    ctx.version < Version::HTTP_2
        && ctx.site.as_ref().is_some_and(|site| site.last_request(&ctx.peer))
}
