//! A question to a store under way, as its circuit breaker counts it.

use std::time::Instant;

use crate::policy::circuit_breaker::{Breaker, Permit, Settings, Verdict};
use crate::shared::Shared;

/// Holds the breaker's permit. Dropped without an answer, since whoever asked has gone, it gives
/// the permit back: a trial of a store that was left alone is then somebody else's.
pub(super) struct Question<'a> {
    breaker: &'a Shared<Breaker>,
    settings: &'a Settings,
    permit: Option<Permit>,
}

impl<'a> Question<'a> {
    /// Nothing when the store is left alone.
    pub(super) fn ask(
        breaker: &'a Shared<Breaker>,
        settings: &'a Settings,
        now: Instant,
    ) -> Option<Self> {
        let permit = breaker.lock().admit(settings, now, 0.0).ok()?;
        Some(Self { breaker, settings, permit: Some(permit) })
    }

    /// The store answered, or failed to.
    pub(super) fn answered(mut self, failure: bool, now: Instant) {
        if let Some(permit) = self.permit.take() {
            let verdict = Verdict { failure, slow: false };
            self.breaker.lock().record(self.settings, permit, verdict, now, 0.0);
        }
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.breaker.lock().cancel(permit);
        }
    }
}
