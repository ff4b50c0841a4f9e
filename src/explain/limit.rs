//! What is told of an upstream's adaptive limit, in the explanation of a request and in the list of
//! upstreams alike.

use std::time::Instant;

use serde::Serialize;

use crate::policy::Mode;
use crate::policy::concurrency::{Cause, Change};
use crate::snapshot::importance::Importance;
use crate::upstream::Upstream;

/// The adaptive limit of an upstream. Lengths of time are seconds, as their names say.
#[derive(Clone, Debug, Serialize)]
pub struct Limit {
    /// Whether it acts.
    pub mode: Mode,
    /// How many requests may be in flight.
    pub limit: u32,
    /// How many are.
    pub in_flight: u32,
    /// How many wait.
    pub waiting: usize,
    /// How many may wait.
    pub queue_max: usize,
    /// How long an answer takes while nothing queues; absent before the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub baseline_seconds: Option<f64>,
    /// How long answers took in the last round at the limit, as a multiple of the baselines.
    pub latency_ratio: f64,
    /// The last cut of the limit made nothing quicker, so the next one waits.
    pub holding: bool,
    /// The share of the requests which found no free place that was refused lately.
    pub refused_share: f64,
    /// The lowest level that is admitted; absent while all are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<Threshold>,
    /// The last changes of the limit, the oldest first.
    pub changes: Vec<Changed>,
}

/// The lowest level that is admitted while requests wait.
#[derive(Clone, Debug, Serialize)]
pub struct Threshold {
    /// Its tier; those below are refused.
    pub tier: String,
    /// Its cohort within the tier, 0 to 127; those below are refused.
    pub cohort: usize,
}

/// A change of the limit.
#[derive(Clone, Debug, Serialize)]
pub struct Changed {
    /// How long ago.
    pub seconds_ago: f64,
    /// The limit before.
    pub from: u32,
    /// The limit after.
    pub to: u32,
    /// `room`, `latency`, `drop` or `unproved`.
    pub cause: Cause,
}

/// The limit of an upstream as it is now; nothing while it is off.
#[must_use]
pub fn limit(upstream: &Upstream, importance: &Importance, now: Instant) -> Option<Limit> {
    let mode = upstream.settings.concurrency.mode;
    if mode == Mode::Off {
        return None;
    }
    let view = upstream.state.gate.view(now);
    let changed = |(at, change): (Instant, Change)| Changed {
        seconds_ago: now.saturating_duration_since(at).as_secs_f64(),
        from: change.from,
        to: change.to,
        cause: change.cause,
    };
    let threshold = |(tier, cohort)| Threshold {
        tier: importance.name(tier).unwrap_or_default().to_owned(),
        cohort,
    };
    Some(Limit {
        mode,
        limit: view.limiter.limit,
        in_flight: view.limiter.in_flight,
        waiting: view.waiting,
        queue_max: view.queue_max,
        baseline_seconds: view.limiter.baseline.map(|baseline| baseline.as_secs_f64()),
        latency_ratio: view.limiter.ratio,
        holding: view.limiter.holding,
        refused_share: view.refused_share,
        threshold: view.threshold.map(threshold),
        changes: view.changes.into_iter().map(changed).collect(),
    })
}
