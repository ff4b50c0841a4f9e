//! What a peer's answer says about itself and about trying again.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue};

use super::names::{GRPC_PUSHBACK_MS, GRPC_STATUS, SHED, TRIED};
use crate::policy::outcome::Hint;

/// The longest wait that is taken as said; a longer one is taken as this. 366 days, so that adding
/// it to an instant cannot overflow; the retry policy has its own, much lower limit.
const WAIT_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// What the answer's head, or its trailers, say about trying again.
///
/// `grpc-retry-pushback-ms` (gRFC A6) goes before `Retry-After`: a negative or unreadable one means
/// not to try again. `Retry-After` is seconds or a date (RFC 9110, 10.2.3), which is taken relative
/// to `wall_now` and is no wait at all once past; an unreadable one says nothing.
#[must_use]
pub fn retry_hint(headers: &HeaderMap, wall_now: SystemTime) -> Option<Hint> {
    if let Some(value) = headers.get(&GRPC_PUSHBACK_MS) {
        return Some(pushback(value));
    }
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim_ascii();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        // A number that does not fit is longer than any limit.
        let seconds = text.parse().unwrap_or(u64::MAX);
        return Some(Hint::Wait(Duration::from_secs(seconds).min(WAIT_MAX)));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(Hint::Wait(at.duration_since(wall_now).unwrap_or_default().min(WAIT_MAX)))
}

fn pushback(value: &HeaderValue) -> Hint {
    // The field is a 32-bit number, and a larger one unreadable.
    let ms = value.to_str().ok().and_then(|text| text.trim_ascii().parse::<i32>().ok());
    match ms.and_then(|ms| u64::try_from(ms).ok()) {
        Some(ms) => Hint::Wait(Duration::from_millis(ms)),
        None => Hint::Stop,
    }
}

/// True when the answer was made by a peer's own overload protection, which executed nothing.
#[must_use]
pub fn peer_shed(headers: &HeaderMap) -> bool {
    headers.contains_key(&SHED)
}

/// True when a failure was passed on by a peer proxy after its own retries.
#[must_use]
pub fn peer_tried(headers: &HeaderMap) -> bool {
    headers.contains_key(&TRIED)
}

/// The `grpc-status` of an answer's head or trailers; `None` when there is none. An unreadable one
/// is UNKNOWN (2), as gRPC's clients take it.
#[must_use]
pub fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    const UNKNOWN: u16 = 2;
    let value = headers.get(&GRPC_STATUS)?;
    Some(value.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(UNKNOWN))
}

#[cfg(test)]
mod tests;
