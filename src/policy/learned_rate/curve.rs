//! The rate over time after a cut: CUBIC.
//!
//! Up to the ceiling it is the curve of the AWS SDKs, `0.4 * (t - K)^3 + ceiling` with
//! `K = cbrt(ceiling * 0.3 / 0.4)`, in seconds and requests a second. Beyond, time runs more
//! slowly, and only while somebody wants more than the ceiling.

use std::time::{Duration, Instant};

/// What a cut leaves of the ceiling.
pub(super) const BETA: f64 = 0.7;

/// How steep the curve is, requests a second per second cubed.
pub(super) const STEEPNESS: f64 = 0.4;

/// How many seconds of climbing above the ceiling are one of the curve's.
pub(super) const STRETCH: f64 = 6.0;

/// Below this ceiling the curve would grow too fast in proportion, requests a second.
const STRETCHED_BELOW: f64 = 50.0;

/// The rate since the last cut.
#[derive(Clone, Debug)]
pub(super) struct Curve {
    ceiling: f64,
    cut: Instant,
    /// The time from the cut to the ceiling, seconds.
    way: f64,
    /// Seconds of the curve beyond the ceiling.
    climbed: f64,
    rate: f64,
}

impl Curve {
    /// The curve after a cut at this time.
    pub(super) fn new(ceiling: f64, cut: Instant) -> Self {
        Self { ceiling, cut, way: way(ceiling), climbed: 0.0, rate: ceiling * BETA }
    }

    /// The rate that is thought to be allowed.
    pub(super) const fn ceiling(&self) -> f64 {
        self.ceiling
    }

    /// When the rate was cut.
    pub(super) const fn cut(&self) -> Instant {
        self.cut
    }

    /// The rate when it was last looked at.
    pub(super) const fn rate(&self) -> f64 {
        self.rate
    }

    /// Whether it has gone beyond the ceiling.
    pub(super) fn climbs(&self) -> bool {
        self.climbed > 0.0
    }

    /// Time has gone by in which the rate may climb beyond the ceiling, if it has come to it.
    /// `told` = the third party advertises more, so that there is no need for care.
    pub(super) fn climb(&mut self, time: Duration, told: bool, now: Instant) {
        let beyond = now.saturating_duration_since(self.cut).as_secs_f64() - self.way;
        if beyond > 0.0 {
            let time = time.as_secs_f64().min(beyond);
            self.climbed += if told { time } else { time / stretch(self.ceiling) };
        }
    }

    /// The rate at this time.
    pub(super) fn rate_at(&mut self, now: Instant) -> f64 {
        let time = now.saturating_duration_since(self.cut).as_secs_f64().min(self.way);
        self.rate = cubic(self.ceiling, self.way, time + self.climbed);
        self.rate
    }
}

/// The time from a cut to the ceiling, seconds.
pub(super) fn way(ceiling: f64) -> f64 {
    (ceiling * (1.0 - BETA) / STEEPNESS).cbrt()
}

/// The rate at a time after a cut, seconds.
pub(super) fn cubic(ceiling: f64, way: f64, time: f64) -> f64 {
    STEEPNESS * (time - way).powi(3) + ceiling
}

/// How many seconds of climbing above a ceiling are one of the curve's: a small ceiling is as much
/// in need of care as a large one, in proportion.
fn stretch(ceiling: f64) -> f64 {
    STRETCH * (STRETCHED_BELOW / ceiling).cbrt().max(1.0)
}
