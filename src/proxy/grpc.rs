//! Calls of gRPC: the status that says how a call ended comes last.
//!
//! An answer that is nothing but a status has it in its head (trailers-only). One that has messages
//! has it in its trailers; what an attempt teaches then waits for them ([`Late`]). Some servers
//! send a head at once and the trailers right behind it: [`peek`] takes the two together, so that
//! such a failure is tried again like one in the head. No message is ever held back.
//!
//! Not here: gRPC-Web, whose status is a frame in the body, which is not read; and the answers that
//! the proxy makes itself ([`super::answer`]).

mod late;
mod peek;

use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::Body as _;

use super::answer;
use super::body::AnswerBody;
use super::context::Context;
use super::headers::{hint, is_grpc, names};
use crate::telemetry::reason::Reason;

pub use late::{Late, Open};
pub use peek::{Look, peek};

/// CANCELLED: the caller has gone.
pub const CANCELLED: u16 = 1;
/// UNKNOWN, which is also what a client makes of an answer that ends without a status.
pub const UNKNOWN: u16 = 2;
const DEADLINE_EXCEEDED: u16 = 4;
const RESOURCE_EXHAUSTED: u16 = 8;
/// UNIMPLEMENTED: no such service or method.
pub const UNIMPLEMENTED: u16 = 12;
const PERMISSION_DENIED: u16 = 7;
const INTERNAL: u16 = 13;
const UNAVAILABLE: u16 = 14;
const DATA_LOSS: u16 = 15;
const UNAUTHENTICATED: u16 = 16;

/// Whether a status blames the server: UNKNOWN, DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, INTERNAL,
/// UNAVAILABLE and DATA_LOSS.
#[must_use]
pub const fn is_failure(code: u16) -> bool {
    matches!(
        code,
        UNKNOWN | DEADLINE_EXCEEDED | RESOURCE_EXHAUSTED | INTERNAL | UNAVAILABLE | DATA_LOSS
    )
}

/// Whether a status says that there is more work than can be done in time, as 429, 503 and a
/// timeout do: RESOURCE_EXHAUSTED, UNAVAILABLE and DEADLINE_EXCEEDED.
#[must_use]
pub const fn is_overload(code: u16) -> bool {
    matches!(code, DEADLINE_EXCEEDED | RESOURCE_EXHAUSTED | UNAVAILABLE)
}

/// The status of an answer as far as it is known: from its head, or from trailers that came right
/// behind it.
#[must_use]
pub fn status(response: &Response<AnswerBody>) -> Option<u16> {
    let trailers = response.body().peeked_trailers();
    hint::grpc_status(response.headers()).or_else(|| trailers.and_then(hint::grpc_status))
}

/// Whether the status of a call's answer is still to come.
#[must_use]
pub fn is_open(response: &Response<AnswerBody>) -> bool {
    response.status() == StatusCode::OK
        && is_grpc(response.headers())
        && !response.body().is_end_stream()
        && status(response).is_none()
}

/// What a client of gRPC makes of an answer of HTTP that has no status of gRPC, as the protocol's
/// table for such answers has it.
#[must_use]
pub const fn of_http(status: u16) -> u16 {
    match status {
        400 => INTERNAL,
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 => UNIMPLEMENTED,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// How a call ended for its client.
#[must_use]
pub const fn ended(ctx: &Context, reason: Option<Reason>) -> u16 {
    match (ctx.grpc_status, reason, ctx.status) {
        (Some(code), ..) => code,
        (None, Some(reason), _) => answer::grpc_code(reason),
        (None, None, Some(status)) => of_http(status),
        (None, None, None) => CANCELLED,
    }
}

/// What a client of gRPC makes of a stream that its peer resets with this code, as the protocol's
/// table for such codes has it. By it a server that cancels a call is no server that is broken.
#[must_use]
pub const fn of_reset(code: u32) -> u16 {
    match code {
        // STREAM_CLOSED, which is not in the table.
        5 => UNKNOWN,
        // REFUSED_STREAM, CANCEL, ENHANCE_YOUR_CALM and INADEQUATE_SECURITY.
        7 => UNAVAILABLE,
        8 => CANCELLED,
        11 => RESOURCE_EXHAUSTED,
        12 => PERMISSION_DENIED,
        _ => INTERNAL,
    }
}

/// The trailers that end an answer which cannot be whole: to a client of gRPC they say more than a
/// stream that breaks off.
#[must_use]
pub fn cut(code: u16, reason: Reason) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(names::GRPC_STATUS.clone(), HeaderValue::from(code));
    if let Ok(title) = HeaderValue::from_str(&answer::percent_encode(reason.title())) {
        trailers.insert(names::GRPC_MESSAGE.clone(), title);
    }
    trailers
}

#[cfg(test)]
mod tests;
