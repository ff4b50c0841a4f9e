//! What the third party says of its limit, as a pace.

use std::time::{Duration, Instant};

use super::LONG;
use super::control::MARGIN;

/// What one answer advertises: the `RateLimit` and `RateLimit-Policy` fields of IETF draft
/// `ratelimit-headers`, of the policy that allows least.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Advice {
    /// The quota and its window (`q` and `w`).
    pub quota: Option<(u64, Duration)>,
    /// What is left of it, and until when (`r` and `t`).
    pub left: Option<(u64, Duration)>,
}

/// How long advice holds. It comes with every answer of a third party that gives it.
const HOLDS: Duration = Duration::from_secs(60);

impl Advice {
    /// The pace that uses up what is allowed and no more, requests a second.
    ///
    /// What is left until the reset, spread evenly, is right for a counted window and for a bucket
    /// that fills all the time (there it settles where the bucket stays half full). Where times are
    /// too short for whole seconds it is the quota by its window.
    #[must_use]
    pub fn pace(&self) -> Option<f64> {
        let by = |amount: u64, time: Duration| amount as f64 / time.as_secs_f64();
        let quota = self.quota.filter(|(_, window)| !window.is_zero());
        match (self.left, quota) {
            (Some((left, until)), _) if until >= LONG => Some(by(left, until)),
            (_, Some((quota, window))) => Some(by(quota, window) * MARGIN),
            _ => None,
        }
    }
}

/// The latest advice.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Advised(Option<(f64, Instant)>);

impl Advised {
    pub(super) fn hear(&mut self, advice: Advice, now: Instant) {
        if let Some(pace) = advice.pace() {
            self.0 = Some((pace, now));
        }
    }

    /// The pace, requests a second, while the advice holds.
    pub(super) fn pace(&self, now: Instant) -> Option<f64> {
        self.0.filter(|(_, at)| now.saturating_duration_since(*at) <= HOLDS).map(|(pace, _)| pace)
    }
}
