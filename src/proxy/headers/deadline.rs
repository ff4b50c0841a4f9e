//! The caller's deadline in, and what is left of it out.
//!
//! Deadlines travel as lengths of time, never as times of day, so that clocks which differ do no
//! harm.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::names::{ENVOY_EXPECTED_TIMEOUT_MS, GRPC_TIMEOUT, REQUEST_TIMEOUT_MS};
use crate::upstream::message::OwnFields;

/// The longest deadline that is taken as said; a longer one is taken as this, so that adding one to
/// an instant cannot overflow. 366 days.
pub const DEADLINE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The digits that a `grpc-timeout` can have.
const GRPC_DIGITS: usize = 8;
const GRPC_VALUE_MAX: u128 = 99_999_999;

/// How much time the caller gives: the least of `x-request-timeout-ms`,
/// `x-envoy-expected-rq-timeout-ms` and `grpc-timeout`; `None` when no field says a length of time.
#[must_use]
pub fn read_deadline(headers: &HeaderMap) -> Option<Duration> {
    let mut least: Option<Duration> = None;
    for (name, value) in headers {
        let parse = match name.as_str() {
            "x-request-timeout-ms" | "x-envoy-expected-rq-timeout-ms" => parse_timeout_ms,
            "grpc-timeout" => parse_grpc_timeout,
            _ => continue,
        };
        let given = value.to_str().ok().and_then(parse);
        least = match (least, given) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }
    least
}

/// Writes how much time is left: `x-request-timeout-ms` always; Envoy's field where the request
/// brought it; `grpc-timeout` for gRPC requests, and for others (gRPC-Web) that brought it.
/// Milliseconds are rounded down, because the next hop must end before we do, but never to 0, which
/// some recipients read as no limit.
pub fn write_deadline(
    own: &mut OwnFields,
    headers: &HeaderMap,
    remaining: Duration,
    is_grpc: bool,
) {
    let ms = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX).max(1);
    let value = decimal(ms);
    let mut of_grpc = is_grpc;
    // To hash a name of this length costs more than to pass a dozen others by.
    for name in headers.keys() {
        if *name == ENVOY_EXPECTED_TIMEOUT_MS {
            own.set(&ENVOY_EXPECTED_TIMEOUT_MS, value.clone());
        }
        of_grpc |= *name == GRPC_TIMEOUT;
    }
    own.set(&REQUEST_TIMEOUT_MS, value);
    if of_grpc && let Ok(value) = HeaderValue::from_str(&format_grpc_timeout(remaining)) {
        own.set(&GRPC_TIMEOUT, value);
    }
}

/// A number as a value. `HeaderValue::from` allocates twice, once for the longest number and once
/// to share it; this takes the digits alone.
fn decimal(number: u64) -> HeaderValue {
    let mut digits = [b'0'; 20];
    let mut rest = number;
    let mut length = 0;
    for place in digits.iter_mut().rev() {
        *place = b'0' + (rest % 10) as u8;
        rest /= 10;
        length += 1;
        if rest == 0 {
            break;
        }
    }
    let digits = digits.get(digits.len() - length..).unwrap_or_default();
    HeaderValue::from_bytes(digits).unwrap_or_else(|_| HeaderValue::from(number))
}

/// A length of time in whole milliseconds. `None` for what is not a number and for 0, which Envoy
/// means as no limit; at most [`DEADLINE_MAX`].
#[must_use]
pub fn parse_timeout_ms(text: &str) -> Option<Duration> {
    let text = text.trim_ascii();
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // A number that does not fit is longer than any limit.
    let ms = text.parse::<u64>().unwrap_or(u64::MAX);
    (ms > 0).then(|| Duration::from_millis(ms).min(DEADLINE_MAX))
}

/// A length of time as gRPC writes it: one to eight digits and one of `H`, `M`, `S`, `m`, `u`, `n`.
/// 0 means a deadline that has passed; at most [`DEADLINE_MAX`].
#[must_use]
pub fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let text = text.trim_ascii();
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > GRPC_DIGITS {
        return None;
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    };
    Some(timeout.min(DEADLINE_MAX))
}

/// Writes a length of time as gRPC does, in the finest unit in which eight digits hold it, rounded
/// down; at least 1 ns.
#[must_use]
pub fn format_grpc_timeout(timeout: Duration) -> String {
    let nanos = timeout.as_nanos().max(1);
    let units = [
        ("n", 1),
        ("u", 1_000),
        ("m", 1_000_000),
        ("S", 1_000_000_000),
        ("M", 60_000_000_000),
        ("H", 3_600_000_000_000),
    ];
    for (unit, size) in units {
        if nanos / size <= GRPC_VALUE_MAX {
            return format!("{}{unit}", nanos / size);
        }
    }
    format!("{GRPC_VALUE_MAX}H")
}

#[cfg(test)]
mod tests;
