//! The wait before a retry: exponential, capped and spread at random.
//!
//! The three spreads are those of Marc Brooker, "Exponential Backoff and Jitter" (2015). All are
//! pure in a number from `[0, 1)`, cannot overflow, and never exceed the longest wait.

use std::time::Duration;

use super::{Backoff, Jitter};

/// The wait before the retry that follows attempt number `attempt` (from 1), after the wait
/// `previous` (zero before the first retry); `random` is from `[0, 1)`.
#[must_use]
pub fn wait(s: &Backoff, attempt: u32, previous: Duration, random: f64) -> Duration {
    let (base, max) = (s.base.get(), s.max.get());
    match s.jitter {
        Jitter::Full => full(base, max, attempt, random),
        Jitter::Equal => equal(base, max, attempt, random),
        Jitter::Decorrelated => decorrelated(base, max, previous, random),
    }
}

/// From nothing to the whole wait: `U(0, min(max, base * 2^(attempt - 1)))`.
#[must_use]
pub fn full(base: Duration, max: Duration, attempt: u32, random: f64) -> Duration {
    part(ceiling(base, max, attempt), random)
}

/// From half of the wait to the whole: `t/2 + U(0, t/2)`, where
/// `t = min(max, base * 2^(attempt - 1))`.
#[must_use]
pub fn equal(base: Duration, max: Duration, attempt: u32, random: f64) -> Duration {
    let half = ceiling(base, max, attempt) / 2;
    half + part(half, random)
}

/// From the base to three times the wait before: `min(max, U(base, 3 * previous))`. A wait before
/// that is shorter than the base, such as none, counts as the base.
#[must_use]
pub fn decorrelated(base: Duration, max: Duration, previous: Duration, random: f64) -> Duration {
    let widest = previous.max(base).saturating_mul(3);
    base.saturating_add(part(widest.saturating_sub(base), random)).min(max)
}

/// `min(max, base * 2^(attempt - 1))`: the widest wait after this attempt.
fn ceiling(base: Duration, max: Duration, attempt: u32) -> Duration {
    let factor = 1_u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    base.saturating_mul(factor).min(max)
}

/// The share `random`, from `[0, 1)`, of a length of time. A number outside of the range is taken
/// as its nearer end, and no number as 0, because a float conversion of `Duration` would panic
/// there.
#[must_use]
pub(super) fn part(whole: Duration, random: f64) -> Duration {
    let nanos = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos((nanos as f64 * random) as u64).min(whole)
}
