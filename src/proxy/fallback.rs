//! What answers when the main way has failed: the links of the route's chain, tried in order.
//!
//! The way has failed when no answer came or the final one has status 500, 502, 503 or 504, and
//! when we refused with 502, 503 or 504 ourselves. What is the client's own doing is answered as it
//! is: a request that is wrong or too large, a route that does not exist, and 429, which tells the
//! client alone to slow down. When no link can answer, the client gets the failure.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    AGE, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};

use super::answer::AnswerKind;
use super::attempt::Answer;
use super::body::Body;
use super::cache;
use super::context::Context;
use super::error::Refusal;
use super::headers::names::{CACHE_STATUS, FALLBACK, REASON};
use super::pipeline::{self, Journey};
use crate::clock;
use crate::gate::{Fixed as Bulkhead, Place};
use crate::policy::cache::freshness::Use;
use crate::policy::retry::UnsafeMethods;
use crate::snapshot::cache::Kept;
use crate::snapshot::fallback::{Does, Fixed};
use crate::snapshot::route::Route;
use crate::telemetry::metrics::FallbackLink;
use crate::telemetry::reason::Reason;

/// What the attempts have made of a request: an answer with its place in the route's bulkhead, or
/// none.
pub type Made = Result<(Answer, Option<Place<Bulkhead>>), Box<Refusal>>;

/// The fields of an answer that say nothing without its body (RFC 9110, 15.4.5).
const OF_BODY: [HeaderName; 6] = [
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    LAST_MODIFIED,
];

/// Whether the chain is to answer instead.
#[must_use]
pub fn wanted(route: &Route, made: &Made) -> bool {
    if route.fallback.is_empty() {
        return false;
    }
    match made {
        Ok((answer, _)) => failed(answer.response.status()),
        Err(refusal) => matches!(refusal.reason.status(), 502..=504),
    }
}

/// Whether a status says that the upstream could not do its work. 501 and 505 say that it never
/// will, and the rest of 5xx are about the request.
fn failed(status: StatusCode) -> bool {
    matches!(status.as_u16(), 500 | 502 | 503 | 504)
}

/// Why the chain is asked.
struct Failure {
    /// Our own reason, where no answer came.
    reason: Option<Reason>,
    /// The status, where one came.
    status: Option<u16>,
}

impl Failure {
    fn of(made: &Made) -> Self {
        match made {
            Ok((answer, _)) => {
                Self { reason: None, status: Some(answer.response.status().as_u16()) }
            }
            Err(refusal) => Self { reason: Some(refusal.reason), status: None },
        }
    }
}

/// Asks the links in their order; the failure itself is the answer when none has one.
pub(super) async fn answer(
    mut ctx: Box<Context>,
    mut journey: Box<Journey>,
    mut made: Made,
) -> Response<Body> {
    let route = Arc::clone(&journey.route);
    let failure = Failure::of(&made);
    // Whoever waits for this request's answer gets none, and must not wait for the chain's.
    drop(journey.leader.take());
    let main = journey.target;
    for (place, link) in route.fallback.iter().enumerate() {
        match &link.does {
            Does::Stale => {
                let request = journey.outbound.headers();
                let Some((kept, usable)) = cache::find(&ctx, &route, request) else { continue };
                let sent = ctx.attempts > 0;
                let said = Said { usable, sent, failure: &failure };
                let mut response = from_kept(&ctx, &route, &kept, request, &said.to_string());
                response.headers_mut().insert(FALLBACK.clone(), link.name.clone());
                taken(&mut ctx, place, FallbackLink::Stale, made);
                return ours(ctx, &failure, response);
            }
            Does::Upstream(target) if *target != main && may_go(&ctx, &journey) => {
                // The route's place is for one exchange at a time: the next one asks for its own.
                if let Ok((_, bulkhead)) = &mut made {
                    drop(bulkhead.take());
                }
                if let Some((answer, held)) = elsewhere(&mut ctx, &mut journey, *target).await {
                    taken(&mut ctx, place, FallbackLink::Upstream, made);
                    let mut response = pipeline::reply(ctx, journey, answer, held);
                    response.headers_mut().insert(FALLBACK.clone(), link.name.clone());
                    return response;
                }
                journey.target = main;
                ctx.target = Some(main);
            }
            // A gRPC client cannot read it.
            Does::Respond(fixed) if ctx.answers() == AnswerKind::Http => {
                let mut response = from_fixed(&ctx, &route, fixed);
                response.headers_mut().insert(FALLBACK.clone(), link.name.clone());
                taken(&mut ctx, place, FallbackLink::Respond, made);
                return ours(ctx, &failure, response);
            }
            Does::Upstream(_) | Does::Respond(_) => {}
        }
    }
    route.metrics.fallback.answered(FallbackLink::None);
    match made {
        Ok((answer, bulkhead)) => pipeline::reply(ctx, journey, answer, bulkhead),
        Err(refusal) => refusal.answer(ctx),
    }
}

/// Notes the link that answers, and lets go of what it answers instead of.
fn taken(ctx: &mut Context, place: usize, link: FallbackLink, made: Made) {
    ctx.fallback = Some(place);
    if let Some(route) = &ctx.route {
        route.metrics.fallback.answered(link);
    }
    if let Ok((answer, _)) = made {
        answer.discard();
    }
}

/// Whether the request may be sent to another upstream: by the same rule as a retry, what is not
/// safe to repeat only with proof that nothing was executed, and there is time left.
fn may_go(ctx: &Context, journey: &Journey) -> bool {
    let repeatable = ctx.method.is_idempotent()
        || match journey.route.settings.retry.unsafe_methods {
            UnsafeMethods::UnsentOrKeyed => !ctx.executed,
            UnsafeMethods::Never => ctx.attempts == 0,
            UnsafeMethods::Always => true,
        };
    let outbound = &journey.outbound;
    repeatable
        && outbound.replayable()
        && outbound.body_failure().is_none()
        && ctx.deadline.is_none_or(|deadline| clock::now() < deadline)
}

/// One more set of attempts, to another upstream; its answer when it is a good one.
async fn elsewhere(
    ctx: &mut Context,
    journey: &mut Journey,
    target: usize,
) -> Option<(Answer, Option<Place<Bulkhead>>)> {
    journey.target = target;
    ctx.target = Some(target);
    journey.outbound.forget_tried();
    let (answer, held) = pipeline::exchange(ctx, journey).await.ok()?;
    if failed(answer.response.status()) {
        answer.discard();
        return None;
    }
    Some((answer, held))
}

/// An answer that was made here, with the reason that led to it.
fn ours(mut ctx: Box<Context>, failure: &Failure, response: Response<Bytes>) -> Response<Body> {
    let (mut head, bytes) = response.into_parts();
    ctx.status = Some(head.status.as_u16());
    ctx.reason = failure.reason;
    if let Some(reason) = failure.reason {
        head.headers.insert(REASON.clone(), HeaderValue::from_static(reason.as_str()));
    }
    Response::from_parts(head, Body::Local(Some(bytes), ctx))
}

/// A kept answer as it goes to the client: with its age, whole, or 304 where the client has it
/// already (RFC 9111, 4.3.2).
#[must_use]
pub fn from_kept(
    ctx: &Context,
    route: &Route,
    kept: &Kept,
    request: &HeaderMap,
    status: &str,
) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let mut headers = kept.headers.clone();
    headers.insert(AGE, HeaderValue::from(kept.times.age(clock::now()).as_secs()));
    if let Ok(status) = HeaderValue::from_str(status) {
        headers.append(CACHE_STATUS.clone(), status);
    }
    if not_modified(request, &kept.headers) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        for name in &OF_BODY {
            headers.remove(name);
        }
    } else {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(kept.body.len()));
        if ctx.method != Method::HEAD {
            *response.body_mut() = kept.body.clone();
        }
    }
    pipeline::dress(ctx, route, &mut headers, kept.version);
    *response.headers_mut() = headers;
    response
}

/// Whether the client has what was kept: by its tag, compared weakly, or else by its date
/// (RFC 9110, 13.2.2).
fn not_modified(request: &HeaderMap, kept: &HeaderMap) -> bool {
    if request.contains_key(IF_NONE_MATCH) {
        let Some(tag) = kept.get(ETAG).map(|tag| weak(tag.as_bytes())) else { return false };
        let lines = request.get_all(IF_NONE_MATCH).iter().map(HeaderValue::as_bytes);
        let mut tags = lines.flat_map(|line| line.split(|b| *b == b','));
        return tags.any(|given| matches!(given.trim_ascii(), b"*") || weak(given) == tag);
    }
    let date =
        |value: Option<&HeaderValue>| httpdate::parse_http_date(value?.to_str().ok()?.trim()).ok();
    match (date(request.get(IF_MODIFIED_SINCE)), date(kept.get(LAST_MODIFIED))) {
        (Some(since), Some(modified)) => modified <= since,
        _ => false,
    }
}

fn weak(tag: &[u8]) -> &[u8] {
    let tag = tag.trim_ascii();
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

fn from_fixed(ctx: &Context, route: &Route, fixed: &Fixed) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = fixed.status;
    let headers = response.headers_mut();
    // It is right only for as long as the failure lasts.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(kind) = &fixed.content_type {
        headers.insert(CONTENT_TYPE, kind.clone());
    }
    if !matches!(fixed.status.as_u16(), 204 | 304) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(fixed.body.len()));
    }
    route.response_ops.apply(headers);
    if pipeline::closes(ctx) {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if ctx.method != Method::HEAD {
        *response.body_mut() = fixed.body.clone();
    }
    response
}

/// What `Cache-Status` says of a kept answer (RFC 9211). It was a hit when nothing was sent; a
/// fresh one that was not used at first had been passed by on purpose.
struct Said<'a> {
    usable: Use,
    sent: bool,
    failure: &'a Failure,
}

impl std::fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("outrigger; ")?;
        f.write_str(match (self.sent, self.usable) {
            (false, _) => "hit",
            (true, Use::Fresh(_)) => "fwd=bypass",
            (true, _) => "fwd=stale",
        })?;
        if let Some(status) = self.failure.status {
            write!(f, "; fwd-status={status}")?;
        }
        match self.usable {
            Use::Fresh(left) => write!(f, "; ttl={}", left.as_secs())?,
            Use::Stale(since) => write!(f, "; ttl=-{}", since.as_secs())?,
            Use::Expired | Use::Unwanted => {}
        }
        f.write_str("; detail=")?;
        f.write_str(self.failure.reason.map_or("upstream_status", Reason::as_str))
    }
}
