//! Every answer that the proxy itself makes.
//!
//! Over HTTP it is an RFC 9457 problem; a gRPC request gets its status in a trailers-only answer
//! instead, since its client cannot read anything else, and one of gRPC-Web the same. All name the
//! reason in `x-outrigger-reason`.

mod details;
pub mod keyed;

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER,
};
use http::{Response, StatusCode};
use serde::Serialize;

use self::details::Details;
use crate::policy::idempotency::problem::Code;
use crate::proxy::headers::names::{
    GRPC_MESSAGE, GRPC_PUSHBACK_MS, GRPC_STATUS, GRPC_STATUS_DETAILS, RATE_LIMIT,
    RATE_LIMIT_POLICY, REASON, SHED,
};
use crate::snapshot::grpc::Wire;
use crate::telemetry::reason::Reason;

/// The shortest wait that a client is asked for: `Retry-After` knows whole seconds only.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// The longest; whoever computes a longer one cannot mean that the client should still come back.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);

/// By how much a wait is spread upwards, so that those who were refused together do not come back
/// together.
const SPREAD: f64 = 0.25;

/// The language of the request, and so of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// Any HTTP but gRPC.
    Http,
    /// gRPC.
    Grpc,
    /// gRPC-Web, whose clients take the status from the head of an answer without a body.
    Web,
}

impl AnswerKind {
    /// The kind of a request by its fields.
    #[must_use]
    pub fn of(request: &HeaderMap) -> Self {
        match Wire::of_message(request) {
            Some(Wire::Own) => Self::Grpc,
            Some(Wire::Web | Wire::WebText) => Self::Web,
            None => Self::Http,
        }
    }

    /// The type of the content of an answer that is a status alone.
    const fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Http => "application/problem+json",
            Self::Grpc => "application/grpc",
            Self::Web => "application/grpc-web+proto",
        })
    }
}

/// What is known about the refused request beside the reason.
#[derive(Clone, Copy, Debug, Default)]
pub struct Detail<'a> {
    /// The route's name.
    pub route: Option<&'a str>,
    /// The upstream's name.
    pub upstream: Option<&'a str>,
    /// After how long it is worth trying again; 1 s where waiting helps and nothing better is
    /// known.
    pub retry_after: Option<Duration>,
    /// What exactly went wrong, in a sentence for people. It must hold no secret.
    pub detail: Option<&'a str>,
    /// The limit that was reached, for 429.
    pub rate_limit: Option<RateLimitFields>,
    /// The connection is closed after this answer. HTTP/1 only: HTTP/2 has no such field.
    pub close: bool,
    /// The request was HEAD: the fields are those of the full answer, the body is empty.
    pub head: bool,
}

/// What the `RateLimit` and `RateLimit-Policy` fields say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitFields {
    /// How many requests a window allows.
    pub quota: u64,
    /// The window in seconds, at least 1.
    pub window: u64,
    /// How many are left.
    pub remaining: u64,
    /// In how many seconds the limit lets a request pass again.
    pub reset: u64,
}

/// The body of the answer (RFC 9457).
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    route: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'a str>,
}

/// The answer for a reason. `random`, in `[0, 1)`, spreads the wait that a client is asked for.
///
/// A reason without a status of its own, which says that an answer already begun was cut off, is
/// answered 502, for then there was no answer to cut.
#[must_use]
pub fn local(
    reason: Reason,
    kind: AnswerKind,
    detail: &Detail<'_>,
    random: f64,
) -> Response<Bytes> {
    let mut answer = match kind {
        AnswerKind::Http => problem(reason, detail),
        AnswerKind::Grpc | AnswerKind::Web => trailers_only(reason, kind, detail, random),
    };
    let headers = answer.headers_mut();
    headers.insert(REASON.clone(), HeaderValue::from_static(reason.as_str()));
    if is_refusal(reason) {
        headers.insert(SHED.clone(), HeaderValue::from_static("1"));
        ask_to_wait(headers, kind, waited(detail), random);
    }
    if let Some(limit) = &detail.rate_limit {
        let RateLimitFields { quota, window, remaining, reset } = limit;
        insert(headers, &RATE_LIMIT_POLICY, &format!("\"default\";q={quota};w={window}"));
        insert(headers, &RATE_LIMIT, &format!("\"default\";r={remaining};t={reset}"));
    }
    if detail.close {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

/// The answer to a client whose bytes never became a request, as bytes of HTTP/1.1: nobody else is
/// there to write it.
#[must_use]
pub fn raw(reason: Reason, detail: Option<&str>) -> Vec<u8> {
    let detail = Detail { close: true, detail, ..Detail::default() };
    let answer = local(reason, AnswerKind::Http, &detail, 0.0);
    let status = answer.status();
    let mut raw = format!("HTTP/1.1 {status}\r\n").into_bytes();
    for (name, value) in answer.headers() {
        raw.extend_from_slice(name.as_str().as_bytes());
        raw.extend_from_slice(b": ");
        raw.extend_from_slice(value.as_bytes());
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"\r\n");
    raw.extend_from_slice(answer.body());
    raw
}

/// True when the proxy refused a request that it could have sent: nothing was executed, so another
/// endpoint or a later time may serve it, and no endpoint is to blame.
///
/// An open circuit is among them: the refusal tells of what happened before, and a caller's proxy
/// that counted it again would judge the peer in front, which is alive, by what is behind it.
#[must_use]
pub const fn is_refusal(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::RateLimited
            | Reason::CircuitOpen
            | Reason::NoEndpoint
            | Reason::ConnectionLimit
            | Reason::Shed
            | Reason::ConcurrencyLimit
            | Reason::QueueTimeout
            | Reason::BulkheadFull
            | Reason::SelfProtection
            | Reason::KeyQuota
            | Reason::StoreUnavailable
            | Reason::StoreFull
    )
}

/// The wait that a client is asked for before it is spread.
fn waited(detail: &Detail<'_>) -> Duration {
    detail.retry_after.unwrap_or(WAIT_MIN).clamp(WAIT_MIN, WAIT_MAX)
}

/// The wait that a client is asked for, as `Retry-After` has it or gRPC's push-back.
pub(super) fn ask_to_wait(headers: &mut HeaderMap, kind: AnswerKind, wait: Duration, random: f64) {
    let wait = wait.clamp(WAIT_MIN, WAIT_MAX);
    let (name, value) = match kind {
        AnswerKind::Http => (RETRY_AFTER, spread_seconds(wait, random)),
        // What `Retry-After` is to HTTP clients, this is to gRPC's.
        AnswerKind::Grpc | AnswerKind::Web => {
            (GRPC_PUSHBACK_MS.clone(), spread_millis(wait, random))
        }
    };
    headers.insert(name, HeaderValue::from(value));
}

fn problem(reason: Reason, detail: &Detail<'_>) -> Response<Bytes> {
    let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = serde_json::to_vec(&Problem {
        r#type: format!("urn:outrigger:reason:{}", reason.as_str()),
        title: reason.title(),
        status: status.as_u16(),
        detail: detail.detail,
        route: detail.route,
        upstream: detail.upstream,
    })
    .unwrap_or_default();
    let length = HeaderValue::from(body.len());
    let mut answer = Response::new(if detail.head { Bytes::new() } else { Bytes::from(body) });
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CONTENT_LENGTH, length);
    // 404 and 501 may be kept by caches unless they are told not to (RFC 9110, 15.1).
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// A gRPC answer of one header block: status 200, and the call's status where its trailers would
/// be.
fn trailers_only(
    reason: Reason,
    kind: AnswerKind,
    detail: &Detail<'_>,
    random: f64,
) -> Response<Bytes> {
    let mut message = reason.title().to_owned();
    if let Some(detail) = detail.detail {
        let _ = write!(message, ": {detail}");
    }
    let mut answer = Response::new(Bytes::new());
    let headers = answer.headers_mut();
    let code = grpc_code(reason);
    headers.insert(CONTENT_TYPE, kind.content_type());
    headers.insert(GRPC_STATUS.clone(), HeaderValue::from(code));
    insert(headers, &GRPC_MESSAGE, &percent_encode(&message));
    let wait = is_refusal(reason).then(|| spread_millis(waited(detail), random));
    let known = [("route", detail.route), ("upstream", detail.upstream)];
    let reason = reason.as_str();
    let details = Details { code, message: &message, reason, known: &known, wait };
    insert(headers, &GRPC_STATUS_DETAILS, &details.encode());
    answer
}

/// The gRPC status of a reason. Statuses 400, 404, 501, 502 and 503 go as gRPC's own table for HTTP
/// has them; limits are RESOURCE_EXHAUSTED and lapsed times DEADLINE_EXCEEDED, which that table
/// cannot tell. No connection in time is UNAVAILABLE: nothing was sent, and so it may be tried
/// again.
#[must_use]
pub const fn grpc_code(reason: Reason) -> u16 {
    const DEADLINE_EXCEEDED: u16 = 4;
    const PERMISSION_DENIED: u16 = 7;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    const CANCELLED: u16 = 1;
    match reason {
        Reason::KeyMissing => Code::KeyMissing.grpc(),
        Reason::KeyInvalid => Code::KeyInvalid.grpc(),
        Reason::ScopeMissing => Code::ScopeMissing.grpc(),
        Reason::KeyInProgress => Code::InProgress.grpc(),
        Reason::OutcomeUnknown => Code::OutcomeUnknown.grpc(),
        Reason::ResultUnavailable => Code::ResultUnavailable.grpc(),
        Reason::KeyExpired => Code::KeyExpired.grpc(),
        Reason::KeyReused => Code::KeyReused.grpc(),
        Reason::KeyQuota => Code::Quota.grpc(),
        Reason::StoreUnavailable => Code::StoreUnavailable.grpc(),
        Reason::StoreFull => Code::StoreFull.grpc(),
        Reason::BadRequest | Reason::Loop => INTERNAL,
        Reason::TunnelRefused => PERMISSION_DENIED,
        Reason::NoRoute | Reason::NoOriginalDestination | Reason::NotSupported => UNIMPLEMENTED,
        Reason::RateLimited | Reason::BodyTooLarge | Reason::HeadersTooLarge => RESOURCE_EXHAUSTED,
        Reason::RequestTimeout
        | Reason::PerTryTimeout
        | Reason::Deadline
        | Reason::BodyDeadline => DEADLINE_EXCEEDED,
        Reason::ConnectFailure
        | Reason::TlsFailure
        | Reason::UpstreamRefused
        | Reason::UpstreamReset
        | Reason::CircuitOpen
        | Reason::NoEndpoint
        | Reason::ConnectionLimit
        | Reason::Shed
        | Reason::ConcurrencyLimit
        | Reason::QueueTimeout
        | Reason::BulkheadFull
        | Reason::SelfProtection
        | Reason::ConnectTimeout
        | Reason::UpstreamCut
        | Reason::BodyIdle
        | Reason::TunnelIdle
        | Reason::TunnelDrained => UNAVAILABLE,
        Reason::ClientGone => CANCELLED,
    }
}

/// Encodes a gRPC status message: every byte of its UTF-8 but visible ASCII, space included and `%`
/// excepted, is written as `%XX`.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for b in text.bytes() {
        match b {
            b'%' => out.push_str("%25"),
            b' '..=b'~' => out.push(char::from(b)),
            _ => {
                let _ = write!(out, "%{b:02X}");
            }
        }
    }
    out
}

/// A wait in whole seconds, rounded up, and spread upwards by up to a quarter, itself rounded up to
/// a whole second: even of a wait of 1 s, some clients are asked for 2.
fn spread_seconds(wait: Duration, random: f64) -> u64 {
    let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let extra = random.clamp(0.0, 1.0 - f64::EPSILON) * (whole as f64 * SPREAD + 1.0);
    whole + extra as u64
}

fn spread_millis(wait: Duration, random: f64) -> u64 {
    wait.mul_f64(1.0 + SPREAD * random.clamp(0.0, 1.0)).as_millis() as u64
}

fn insert(headers: &mut HeaderMap, name: &HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name.clone(), value);
    }
}

#[cfg(test)]
mod tests;
