//! How often a request was sent before it came here, and how often once we send it on: the count by
//! which each tier of a chain retries less than the one above it.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::names::{GRPC_PREVIOUS_ATTEMPTS, RETRY_ATTEMPT};
use crate::upstream::message::OwnFields;

/// The largest number that is believed and written; what decides is whether it is 0, 1 or more.
pub const ATTEMPTS_MAX: u32 = 1000;

/// How often the request was sent before, as its caller says: the larger of `x-retry-attempt` and
/// `grpc-previous-rpc-attempts`, 0 to [`ATTEMPTS_MAX`]; 0 when there is neither or no number.
#[must_use]
pub fn read_attempts(headers: &HeaderMap) -> u32 {
    read(headers, &RETRY_ATTEMPT).max(read(headers, &GRPC_PREVIOUS_ATTEMPTS))
}

fn read(headers: &HeaderMap, name: &HeaderName) -> u32 {
    let Some(digits) = headers.get(name).map(HeaderValue::as_bytes) else { return 0 };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let add = |sum: u32, digit: &u8| (sum * 10 + u32::from(digit - b'0')).min(ATTEMPTS_MAX);
    digits.iter().fold(0, add)
}

/// Writes how often the request was sent before: `attempts` is what came in
/// ([`read_attempts`]) plus our own retries so far.
pub fn write_attempts(own: &mut OwnFields, attempts: u32, grpc: bool) {
    let value = HeaderValue::from(attempts.min(ATTEMPTS_MAX));
    if grpc {
        own.set(&GRPC_PREVIOUS_ATTEMPTS, value.clone());
    }
    own.set(&RETRY_ATTEMPT, value);
}

#[cfg(test)]
mod tests;
