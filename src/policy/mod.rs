//! Pure state machines, one file a policy.
//!
//! Each file holds its `Settings` with their defaults, its state, and methods that take the
//! settings, the time and, where chance is involved, a number from `[0, 1)`. They return facts and
//! do nothing else: no clock, no randomness, no lock, no task, no log line, no metric is touched
//! here. State never contains a setting, so a reload that changes a setting keeps the state.
//!
//! [`rate_limit`] alone is different: the crate behind it keeps its own lock and state, asks for
//! the time through a type parameter, and fixes the rate, the burst and the key when a limiter is
//! made.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub mod bulkhead;
pub mod cache;
pub mod circuit_breaker;
pub mod concurrency;
pub mod ejection;
pub mod flood;
pub mod health_check;
pub mod hedge;
pub mod idempotency;
pub mod learned_rate;
pub mod load_balancing;
pub mod mirror;
pub mod outcome;
pub mod path_reading;
pub mod priority;
pub mod protection;
pub mod queue;
pub mod rate_limit;
pub mod resolution;
pub mod retry;
pub mod retry_budget;
pub mod shedding;
pub mod slow_start;
pub mod timeout;
pub mod window;

/// Whether a policy acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Takes no decision and keeps no state.
    Off,
    /// Takes every decision and counts what it would have done, and does nothing.
    Observe,
    /// Takes every decision and acts on it.
    #[default]
    Enforce,
}
