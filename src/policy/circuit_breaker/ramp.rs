//! The ramp after good trials: the share of requests admitted grows in a line from none to all.
//!
//! The rule is that of the ratio controller in vulcand/oxy: a request is admitted when the share
//! admitted so far, this one included, stays below half of `t / T`. As the running share is held at
//! `t / 2T`, requests admitted rise with the square of the time, and of those that come at `t` the
//! share `t / T` passes. It needs no random number and cannot drift. Unlike there, the first
//! request always passes, so that a trickle of requests is not refused until the ramp is over.

use std::time::{Duration, Instant};

use super::Settings;

/// During the ramp no ratio is judged on fewer outcomes than this, or than `min_requests` if that
/// is less: with fewer, two stray failures would send a healthy upstream back for twice as long.
pub const RAMP_MIN_REQUESTS: u32 = 5;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ramp {
    began: Instant,
    admitted: u64,
    refused: u64,
}

impl Ramp {
    pub(super) const fn new(now: Instant) -> Self {
        Self { began: now, admitted: 0, refused: 0 }
    }

    /// Whether one more request passes; counted either way.
    pub(super) fn admit(&mut self, length: Duration, now: Instant) -> bool {
        let admitted = (self.admitted + 1) as f64;
        let share = admitted / (admitted + self.refused as f64);
        let passes = self.admitted == 0 || share < 0.5 * self.share(length, now);
        *(if passes { &mut self.admitted } else { &mut self.refused }) += 1;
        passes
    }

    /// The share of new requests that passes, 0 to 1; 1 when the ramp is over.
    pub(super) fn share(&self, length: Duration, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.began);
        if elapsed >= length { 1.0 } else { elapsed.as_secs_f64() / length.as_secs_f64() }
    }

    pub(super) fn is_over(&self, length: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.began) >= length
    }

    /// How many outcomes it takes to judge a ratio now.
    ///
    /// Traffic that just meets `min_requests` when all of it passes must not go unjudged because
    /// little of it passes. So the number is scaled by what the ramp lets through in the part of
    /// the window that lies in the ramp: of `w` seconds that end `t` seconds into the ramp, the
    /// mean share admitted is `(t - w / 2) / T`.
    pub(super) fn min_requests(&self, settings: &Settings, length: Duration, now: Instant) -> u32 {
        let most = settings.min_requests.max(1);
        let elapsed = now.saturating_duration_since(self.began).as_secs_f64();
        let window = settings.window.as_secs_f64().max(f64::MIN_POSITIVE);
        let within = elapsed.min(window);
        let admitted = (elapsed - within / 2.0) / length.as_secs_f64().max(f64::MIN_POSITIVE);
        // A float is cast to the nearest integer in range, so nothing can overflow here.
        let scaled = (f64::from(most) * (within / window) * admitted).ceil() as u32;
        scaled.clamp(most.min(RAMP_MIN_REQUESTS), most)
    }
}

/// The length of the ramp: the setting, or half of the time that the circuit had to stay open if
/// that is longer, since what took longer to heal is given longer to warm up. A setting of nothing
/// means no ramp.
pub(super) fn length(settings: &Settings, open_wait: Duration) -> Duration {
    let ramp = settings.ramp.get();
    if ramp.is_zero() { ramp } else { ramp.max(open_wait / 2) }
}
