//! When must it end? Total, per-try, connect and idle timeouts, and the caller's deadline.
//!
//! The request's deadline is the earlier of its own total, from its first byte on, and of the
//! caller's deadline less an offset that lets our answer reach the caller in time. Every attempt
//! has its own end inside of it, and tells the upstream what is left of that: relative lengths of
//! time only, so that no two clocks have to agree.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Period;

#[cfg(test)]
mod tests;

/// How long a request, and each part of it, may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Timeouts")]
pub struct Settings {
    /// From the first byte of the request to the last of the answer, retries and waits included;
    /// null = no limit but the caller's deadline.
    pub total: Option<Period>,
    /// From the start of an attempt to its answer's head; null = total / attempts.
    pub per_try: Option<Period>,
    /// To make a connection.
    pub connect: Period,
    /// Without a byte of body either way.
    pub idle: Period,
    /// Taken off the caller's deadline, so that our answer reaches it in time.
    pub deadline_offset: Period,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            total: Some(Period::from_secs(15)),
            per_try: None,
            connect: Period::from_secs(1),
            idle: Period::from_secs(300),
            deadline_offset: Period::from_millis(5),
        }
    }
}

/// When the request must have ended: the earlier of its total and of the caller's deadline less the
/// offset, both from `start`, its first byte. `caller` is the time that the caller said is left;
/// `None` = it said nothing. The result is `None` when nothing limits the request.
#[must_use]
pub fn deadline(s: &Settings, start: Instant, caller: Option<Duration>) -> Option<Instant> {
    let total = s.total.and_then(|total| start.checked_add(total.get()));
    earlier(total, inherited(s, start, caller))
}

/// When the caller's time is over, less the offset; `None` when it said nothing, or more than an
/// instant can hold.
#[must_use]
pub fn inherited(s: &Settings, start: Instant, caller: Option<Duration>) -> Option<Instant> {
    let left = caller?.saturating_sub(s.deadline_offset.get());
    start.checked_add(left)
}

/// How long one attempt may take to its answer's head: `per_try`, else an equal part of the total
/// for each of `max_attempts`; `None` = no limit but the deadline.
#[must_use]
pub fn per_try(s: &Settings, max_attempts: u32) -> Option<Duration> {
    s.per_try.map(Period::get).or_else(|| Some(s.total?.get() / max_attempts.max(1)))
}

/// When an attempt that starts now must have its answer's head: after its own time or at the
/// request's deadline, whichever is first.
#[must_use]
pub fn try_deadline(
    s: &Settings,
    max_attempts: u32,
    now: Instant,
    deadline: Option<Instant>,
) -> Option<Instant> {
    earlier(per_try(s, max_attempts).and_then(|time| now.checked_add(time)), deadline)
}

/// When a connection attempt that starts now must have succeeded: after its own time or when the
/// attempt that needs it ends, whichever is first.
#[must_use]
pub fn connect_deadline(s: &Settings, now: Instant, try_deadline: Option<Instant>) -> Instant {
    // A period is at most 366 days, which an instant can always be moved by.
    let own = now + s.connect.get();
    try_deadline.map_or(own, |end| end.min(own))
}

/// The time that an attempt has left, to be told to the upstream: to its own end or to the
/// request's, whichever is first. `None` = it has no end; zero = it is over, and must not be sent.
#[must_use]
pub fn remaining(
    now: Instant,
    try_deadline: Option<Instant>,
    deadline: Option<Instant>,
) -> Option<Duration> {
    earlier(try_deadline, deadline).map(|end| end.saturating_duration_since(now))
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
