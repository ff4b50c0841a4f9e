//! Should this endpoint be chosen? Passive ejection of endpoints that fail.
//!
//! Each endpoint has an [`Ejection`], which counts its outcomes and says when it deserves to go.
//! Whether it may go is a matter of the group, see [`may_eject`]: an upstream keeps its last
//! endpoint however bad it is. Both agreed, the caller ejects it. An ejection ends by time; what
//! shortens the next one is good outcomes alone, never the passing of time, since an endpoint that
//! gets no traffic has proved nothing.
//!
//! Outcomes of attempts that began before the endpoint came back are old news: ask
//! [`Ejection::counts`] first.
//!
//! Not here: what is a failure, the choice of an endpoint, what happens when all are ejected, and
//! the mode. With `mode: off` the caller does not record; with `observe` it records and ejects as
//! usual and does not look at [`Ejection::is_ejected`] in its choice.

use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Mode;
use super::circuit_breaker::growing_wait;
use super::window::Window;
use crate::units::{Period, Ratio};

/// When an endpoint is taken out of the choice, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Ejection")]
pub struct Settings {
    /// Whether the policy acts.
    pub mode: Mode,
    /// An endpoint is ejected after this many failures in a row.
    pub consecutive_failures: u32,
    /// An endpoint is ejected when at least this share of its attempts in the window failed.
    pub failure_ratio: Ratio,
    /// The time over which attempts are counted.
    pub window: Period,
    /// The ratio is not judged on fewer attempts than this.
    pub min_requests: u32,
    /// The first ejection lasts this long; each further one twice as long, until health is proved.
    pub base: Period,
    /// The longest ejection.
    pub max: Period,
    /// The largest share of the endpoints that may be ejected at once: at least one may be, and
    /// never the last.
    pub max_ejected: Ratio,
    /// What to do when no endpoint can be chosen.
    pub when_all_ejected: WhenAllEjected,
}

/// What to do when no endpoint of an upstream can be chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenAllEjected {
    /// Send to the endpoint that was ejected longest ago.
    #[default]
    LeastBad,
    /// Ignore health and choose among all.
    Panic,
    /// Answer 503 at once.
    FailFast,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            consecutive_failures: 7,
            failure_ratio: Ratio::percent(50),
            window: Period::from_secs(10),
            min_requests: 20,
            base: Period::from_secs(5),
            max: Period::from_secs(60),
            max_ejected: Ratio::percent(50),
            when_all_ejected: WhenAllEjected::LeastBad,
        }
    }
}

/// Good outcomes in a row that take one doubling off the next ejection.
pub const PROOF: u32 = 5;

/// The record of one endpoint; about 220 bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ejection {
    window: Window,
    /// Failures in a row.
    failures: u32,
    /// Good outcomes in a row since the last step was taken off.
    proof: u32,
    /// Ejections, less those that good outcomes have made up for: the step of the growing wait.
    steps: u32,
    /// The current or the last ejection.
    term: Option<Term>,
    /// Whether the counts are of the time since `term`.
    afresh: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Term {
    since: Instant,
    until: Instant,
}

/// What an endpoint's outcomes ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave it in the choice.
    Keep,
    /// Take it out, if the group can spare it. Asked for again at each further outcome until it is
    /// done or the counts are better.
    Eject,
}

impl Ejection {
    /// An endpoint of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the outcome of an attempt that began then is news: not when it began before the
    /// endpoint came back from its last ejection.
    #[must_use]
    pub fn counts(&self, began: Instant) -> bool {
        self.term.is_none_or(|term| began >= term.until)
    }

    /// Takes the outcome of an attempt. During an ejection it changes nothing.
    pub fn record(&mut self, settings: &Settings, failure: bool, now: Instant) -> Verdict {
        if self.is_ejected(now) {
            return Verdict::Keep;
        }
        if !self.afresh {
            self.forget_counts();
        }
        self.window.record(settings.window.get(), now, failure, false);
        if failure {
            self.failures = self.failures.saturating_add(1);
            self.proof = 0;
        } else {
            self.failures = 0;
            self.prove();
        }
        if self.is_due(settings, now) { Verdict::Eject } else { Verdict::Keep }
    }

    /// Takes the endpoint out of the choice and returns until when: `base`, doubled for each
    /// ejection that good outcomes have not made up for, at most `max`; spread by up to a tenth
    /// with `random` from `[0, 1)`. One that is out already stays out as long as was said.
    pub fn eject(&mut self, settings: &Settings, now: Instant, random: f64) -> Instant {
        if let Some(term) = self.current(now) {
            return term.until;
        }
        self.steps = self.steps.saturating_add(1);
        let wait = growing_wait(settings.base.get(), settings.max.get(), self.steps, random);
        let until = now.checked_add(wait).unwrap_or(now);
        self.term = Some(Term { since: now, until });
        self.afresh = false;
        until
    }

    /// Whether the endpoint is out of the choice.
    #[must_use]
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.current(now).is_some()
    }

    /// The end of the current or, when that has passed, of the last ejection.
    #[must_use]
    pub fn ejected_until(&self) -> Option<Instant> {
        self.term.map(|term| term.until)
    }

    /// The start of the current or of the last ejection, by which the one ejected longest ago is
    /// found.
    #[must_use]
    pub fn ejected_since(&self) -> Option<Instant> {
        self.term.map(|term| term.since)
    }

    /// Ends the ejection now. Its growth stays, for nothing has been proved.
    pub fn release(&mut self, now: Instant) {
        if let Some(term) = &mut self.term
            && now < term.until
        {
            term.until = now;
        }
    }

    /// How many ejections good outcomes have not made up for; 0 for one whose health is proved.
    #[must_use]
    pub const fn steps(&self) -> u32 {
        self.steps
    }

    fn current(&self, now: Instant) -> Option<Term> {
        self.term.filter(|term| now < term.until)
    }

    fn forget_counts(&mut self) {
        self.window.clear();
        self.failures = 0;
        self.proof = 0;
        self.afresh = true;
    }

    fn prove(&mut self) {
        if self.steps == 0 {
            return;
        }
        self.proof += 1;
        if self.proof >= PROOF {
            self.proof = 0;
            self.steps -= 1;
        }
    }

    fn is_due(&mut self, settings: &Settings, now: Instant) -> bool {
        if self.failures >= settings.consecutive_failures.max(1) {
            return true;
        }
        let totals = self.window.totals(settings.window.get(), now);
        // At least one failure, or a ratio of 0 % would eject an endpoint that never failed.
        totals.total >= settings.min_requests.max(1)
            && totals.failures > 0
            && totals.failure_ratio() >= settings.failure_ratio.get()
    }
}

/// Whether one more of `total` endpoints may be ejected when `ejected_now` are: at most the share
/// `max_ejected`, rounded down to whole endpoints, but always one, and never the last. The only
/// endpoint of an upstream is never ejected.
#[must_use]
pub fn may_eject(settings: &Settings, ejected_now: usize, total: usize) -> bool {
    // Without the small addition 29 % of 100 would be 28, for want of an exact 0.29.
    let share = (settings.max_ejected.get() * total as f64 + 1e-9).floor() as usize;
    let most = share.max(1).min(total.saturating_sub(1));
    ejected_now < most
}

#[cfg(test)]
mod tests;
