//! How slow is an endpoint? A moving average of its latency that jumps to a peak and falls slowly.
//!
//! With `c` the cost, `rtt` a new latency, `dt` the time since the last one and
//! `w = exp(-dt / 10 s)`: `c = rtt` if `rtt > c`, else `c = c * w + rtt * (1 - w)`. A slow answer
//! counts at once; that it was an exception has to be proved over time. The shape is that of
//! Finagle's and Linkerd's balancers.
//!
//! A failure counts as a latency of its own ([`failure_latency`]), since the quickest endpoint of
//! all is often one that refuses everything.
//!
//! Seen without new answers the cost falls towards nothing (`c * w`), so that an endpoint that was
//! slow is tried again in the end, and its answer says whether it still is.
//!
//! An endpoint that has never answered has no cost. While nothing is in flight to it, it is
//! preferred, so it gets the one request that measures it; while that is in flight it counts as if
//! it failed, so it does not get a flood before the answer is there. See [`super::load`].
//!
//! The functions [`next`] and [`cost`] are the same over plain numbers, for state that is kept in
//! atomics: the bits of the cost as `u64` (zero = never answered), and nanoseconds since any fixed
//! instant.

use std::time::{Duration, Instant};

use super::Settings;

/// The time in which the weight of what was measured falls to 1/e.
const DECAY: Duration = Duration::from_secs(10);

/// The least that an endpoint which has not answered yet counts as while a request to it is in
/// flight, however little a failure costs: longer than the answers of most services, so that the
/// others are preferred.
pub const SEED: Duration = Duration::from_secs(1);

/// The longest hint of a failure that counts, so that a bad `Retry-After` does not shut out an
/// endpoint for hours.
const HINT_MAX: Duration = Duration::from_secs(300);

/// The measured latency of one endpoint.
#[derive(Clone, Copy, Debug, Default)]
pub struct PeakEwma {
    /// The cost in nanoseconds and when it was last measured; nothing before the first answer.
    measured: Option<(f64, Instant)>,
}

impl PeakEwma {
    /// Takes in the latency of an attempt that did not fail, cancelled ones included: what they
    /// waited for is a lower bound of it.
    pub fn observe(&mut self, rtt: Duration, now: Instant) {
        let (before, dt) = match self.measured {
            Some((cost, last)) => (cost, now.saturating_duration_since(last)),
            None => (0.0, Duration::ZERO),
        };
        let last = self.measured.map_or(now, |(_, last)| last.max(now));
        self.measured = Some((next(before, 0, nanoseconds(rtt), to_u64(dt)), last));
    }

    /// Takes in a failed attempt. `hint` is how long the endpoint said it needs (`Retry-After`).
    pub fn observe_failure(
        &mut self,
        settings: &Settings,
        rtt: Duration,
        hint: Option<Duration>,
        now: Instant,
    ) {
        self.observe(failure_latency(settings, rtt, hint), now);
    }

    /// The cost in nanoseconds as of `now`; nothing before the first answer.
    #[must_use]
    pub fn cost(&self, now: Instant) -> Option<f64> {
        let (before, last) = self.measured?;
        cost(before, 0, to_u64(now.saturating_duration_since(last)))
    }
}

/// The latency that a failed attempt counts as: the penalty of the settings, or how long the
/// endpoint said it needs (at most 300 s), or what the attempt took, whichever is longest.
#[must_use]
pub fn failure_latency(settings: &Settings, rtt: Duration, hint: Option<Duration>) -> Duration {
    let hint = hint.unwrap_or_default().min(HINT_MAX);
    settings.failure_penalty.get().max(hint).max(rtt)
}

/// The cost in nanoseconds after an answer in `rtt_ns`, from the cost before (0 = never answered)
/// and the times of the last answer and of this one, in nanoseconds since a fixed instant. A time
/// before the last one counts as the last one.
#[must_use]
pub fn next(cost_ns: f64, last_ns: u64, rtt_ns: f64, now_ns: u64) -> f64 {
    // The smallest latency there is keeps a measured cost apart from "never answered".
    let rtt_ns = rtt_ns.max(1.0);
    if rtt_ns > cost_ns {
        return rtt_ns;
    }
    let w = weight(last_ns, now_ns);
    cost_ns * w + rtt_ns * (1.0 - w)
}

/// The cost in nanoseconds as of `now_ns`, of a cost that was measured at `last_ns`; nothing if it
/// never was.
#[must_use]
pub fn cost(cost_ns: f64, last_ns: u64, now_ns: u64) -> Option<f64> {
    (cost_ns > 0.0).then(|| cost_ns * weight(last_ns, now_ns))
}

/// The weight that a measurement still has.
fn weight(last_ns: u64, now_ns: u64) -> f64 {
    let dt = Duration::from_nanos(now_ns.saturating_sub(last_ns));
    (-dt.as_secs_f64() / DECAY.as_secs_f64()).exp()
}

fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

fn to_u64(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
