//! What follows from a round: the limit grows, is cut, or is tried at another height.
//!
//! Not here: what a round is, and when it is over.

use std::time::Instant;

use super::baseline::FOUND_MOST;
use super::hold::Cut;
use super::round::{Round, Trial};
use super::{
    CUT_ABOVE, CUT_LEAST, CUT_MOST, Cause, Change, GROW_BELOW, GROWTH, Limiter, RAISE, Settings,
    TARGET, bounds,
};

impl Limiter {
    /// Decides at the end of a round.
    pub(super) fn conclude(&mut self, settings: &Settings, now: Instant) -> Option<Change> {
        let (ratio, latency) = (self.round.ratio(), self.round.latency());
        self.ratio = ratio;
        self.round = Round::new(now);
        self.round_fresh = false;
        if let Some(trial) = self.trial.take() {
            let (cut, follows) = (trial.share < 1.0, trial.follows(ratio));
            match (cut, follows) {
                (true, true) => {
                    let cut = Cut { ratio, latency };
                    self.hold.proved(ratio <= CUT_ABOVE, self.beat, cut, now);
                }
                (true, false) => {
                    let cut = Cut { ratio: trial.ratio, latency };
                    self.hold.begin(self.beat, cut, trial.together, now);
                    // A queue of others can be of any length; first answers are not so wrong.
                    if trial.together || trial.ratio <= FOUND_MOST {
                        self.baselines.found(trial.ratio);
                    }
                    return self.change(settings, trial.limit, Cause::Unproved, now);
                }
                (false, _) => self.hold.raised(follows, self.beat, Cut { ratio, latency }, now),
            }
            if !cut && follows {
                return self.change(settings, trial.limit, Cause::Latency, now);
            }
        }
        self.baselines.follow(ratio);
        if ratio <= GROW_BELOW {
            self.hold.forgive(now);
            return self.grow(settings, ratio, now);
        }
        self.searching = false;
        let (min, _) = bounds(settings);
        let least = self.limit(settings) <= min;
        if ratio > CUT_ABOVE && !least && !self.hold.forbids(ratio) {
            return self.try_limit(
                settings,
                (TARGET / ratio).clamp(CUT_MOST, CUT_LEAST),
                false,
                now,
            );
        }
        // At the minimum no cut can prove anything, so it counts as one that did not.
        if ratio > CUT_ABOVE && least && !self.hold.holds(now) {
            self.hold.begin(self.beat, Cut { ratio, latency }, true, now);
        }
        let rise = self.hold.rise(now);
        self.baselines.scale_by(rise.min(ratio));
        None
    }

    /// Under a cut that did not prove itself: raises the limit, or cuts it again, when its time has
    /// come and without a round of its own.
    pub(super) fn try_on_beat(&mut self, settings: &Settings, now: Instant) -> Option<Change> {
        if self.trial.is_some() || !self.hold.has_begun() {
            return None;
        }
        let (cut, raise) = (self.hold.may_cut(now), self.hold.may_raise(now));
        if !cut && !raise {
            return None;
        }
        if self.round.tells() {
            self.ratio = self.round.ratio();
        }
        let (min, _) = bounds(settings);
        if self.ratio <= CUT_ABOVE || (cut && self.limit(settings) <= min) {
            return None;
        }
        let share = (TARGET / self.ratio).clamp(CUT_MOST, CUT_LEAST);
        let change = self.try_limit(settings, if cut { share } else { RAISE }, true, now);
        if change.is_none() {
            // It is at its maximum, where it cannot do any harm to take the upstream as it is.
            let now_is = Cut { ratio: self.ratio, latency: self.baselines.recent() };
            self.hold.raised(false, self.beat, now_is, now);
        }
        change
    }

    /// Changes the limit to this share of it, to be proved by the next round.
    fn try_limit(
        &mut self,
        settings: &Settings,
        share: f64,
        together: bool,
        now: Instant,
    ) -> Option<Change> {
        self.trial = Some(Trial { limit: self.limit, ratio: self.ratio, share, together });
        let cause = if share < 1.0 { Cause::Latency } else { Cause::Room };
        let change = self.change(settings, self.limit * share, cause, now);
        if change.is_none() {
            self.trial = None;
        }
        change
    }

    pub(super) fn grow(&mut self, settings: &Settings, ratio: f64, now: Instant) -> Option<Change> {
        let growth = if self.searching { 2.0 } else { (TARGET / ratio).min(GROWTH) };
        let limit = (self.limit * growth).max(self.limit + 1.0);
        self.change(settings, limit, Cause::Room, now)
    }

    pub(super) fn change(
        &mut self,
        settings: &Settings,
        limit: f64,
        cause: Cause,
        now: Instant,
    ) -> Option<Change> {
        let from = self.limit(settings);
        self.set(settings, limit);
        let to = self.limit(settings);
        if from == to {
            return None;
        }
        // What is sent just after a rise still finds the shorter queue of before.
        let settling = if to > from { u64::from(to) } else { 0 };
        self.round_from = self.started.saturating_add(settling);
        self.fresh = 0;
        self.changed = now;
        self.round = Round::new(now);
        self.round_fresh = true;
        Some(Change { from, to, cause })
    }

    pub(super) fn set(&mut self, settings: &Settings, limit: f64) {
        let (min, max) = bounds(settings);
        self.limit = limit.clamp(f64::from(min), f64::from(max));
    }
}
