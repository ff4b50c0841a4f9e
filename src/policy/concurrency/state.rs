//! What the limiter tells of itself.

use std::time::Duration;

use serde::Serialize;

/// Why the limit changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The limit held requests back, and the upstream was as quick as ever.
    Room,
    /// Requests queue in the upstream.
    Latency,
    /// An attempt was dropped.
    Drop,
    /// The last cut is taken back: it did not make requests quicker.
    Unproved,
}

/// A change of the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The limit before.
    pub from: u32,
    /// The limit from now on.
    pub to: u32,
    /// Why.
    pub cause: Cause,
}

/// What an operator sees of the limiter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// How many may be in flight.
    pub limit: u32,
    /// How many are.
    pub in_flight: u32,
    /// The time that requests took in the last round, as a multiple of their baselines.
    pub ratio: f64,
    /// The time that a request of the recent mix takes while nothing queues; nothing before the
    /// first answer.
    pub baseline: Option<Duration>,
    /// True while a cut was taken back and the next one waits: the upstream has become slower and
    /// its load is not the reason.
    pub holding: bool,
}
