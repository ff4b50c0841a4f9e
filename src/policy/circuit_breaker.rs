//! Is it worth trying? A circuit per route and upstream.
//!
//! ```text
//!            too many failed or slow                  wait over
//!   closed ---------------------------------> open -------------> half_open
//!     ^                                       ^  ^                  |    |
//!     |                 too many failed or slow  +--- trial failed -+    |
//!     +----- ramp over ----- ramping ---------+                          |
//!                               ^------------ all trials good -----------+
//! ```
//!
//! Each opening before the circuit has closed again doubles the wait. An operator can isolate the
//! circuit, which holds it open, and close it.
//!
//! Every admission hands out a [`Permit`], to be given back once: with a verdict, or cancelled when
//! there is none, because the client left or the proxy itself refused the attempt further on.
//! Permits carry the epoch, which rises at every transition, so news from an earlier state changes
//! nothing.
//!
//! Not here: what counts as a failure (see [`Condition`]), endpoints (see `ejection`), and the
//! mode. With `mode: off` the caller does not ask; with `observe` it asks, counts a refusal and
//! sends the attempt all the same, without a permit, so that the machine moves exactly as if it
//! were obeyed.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::ramp::RAMP_MIN_REQUESTS;
use self::ramp::Ramp;
pub use self::state::{Cause, State, Transition, View};
use self::trials::{Finding, Lease, Trials};
pub use self::trials::{LEASE_MIN, MAX_TRIALS};
use super::Mode;
use super::retry::Condition;
use super::window::Window;
use crate::units::{Period, Ratio};

mod ramp;
mod state;
mod trials;

/// When the circuit opens, for how long, and how it comes back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "CircuitBreaker")]
pub struct Settings {
    /// Whether the policy acts.
    pub mode: Mode,
    /// The circuit opens when at least this share of the attempts in the window failed.
    pub failure_ratio: Ratio,
    /// The circuit opens when at least this share of the attempts in the window was slow.
    pub slow: Slow,
    /// The time over which attempts are counted.
    pub window: Period,
    /// No ratio is judged on fewer attempts in the window than this.
    pub min_requests: u32,
    /// The circuit opens after this many failures in a row; null = not judged.
    pub consecutive: Option<u32>,
    /// How long the circuit stays open the first time; doubled, with jitter, each time it opens
    /// again before it has closed.
    pub open: Period,
    /// The longest time that it stays open.
    pub open_max: Period,
    /// How many trial attempts decide, once the wait is over; 1 to 10.
    pub trials: u32,
    /// After good trials the share of requests admitted rises in a line from nothing to all in this
    /// time, or in half of the time that the circuit had to stay open if that is longer; 0 = all
    /// pass at once.
    pub ramp: Period,
    /// What counts as a failure.
    pub failures: Vec<Condition>,
}

/// When an attempt counts as slow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Slow {
    /// An attempt is slow when its answer's head took longer than this; null = not judged.
    pub over: Option<Period>,
    /// The share of slow attempts that opens the circuit.
    pub ratio: Ratio,
}

impl Default for Slow {
    fn default() -> Self {
        Self { over: None, ratio: Ratio::percent(80) }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            failure_ratio: Ratio::percent(50),
            slow: Slow::default(),
            window: Period::from_secs(10),
            min_requests: 20,
            consecutive: None,
            open: Period::from_secs(5),
            open_max: Period::from_secs(60),
            trials: 3,
            ramp: Period::from_secs(10),
            failures: vec![
                Condition::StatusClass(5),
                Condition::Timeout,
                Condition::Reset,
                Condition::Status(429),
            ],
        }
    }
}

/// A wait is shortened or lengthened by up to this share, so that proxies that opened together do
/// not try again together.
const JITTER: f64 = 0.1;

/// The shortest wait. A setting of nothing would make an open circuit that refuses nobody.
const WAIT_MIN: Duration = Duration::from_millis(1);

/// What a caller is told to wait when trials are under way or the ramp has refused it: either can
/// change at any moment, and a second is the least that `Retry-After` can say.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// A circuit; about 250 bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Breaker {
    window: Window,
    phase: Phase,
    /// Rises at every transition.
    epoch: u64,
    /// How long the circuit had to stay open the last time, jitter included.
    wait: Duration,
    /// Openings since the circuit was last closed.
    opened: u32,
    /// Failures in a row.
    streak: u32,
}

#[derive(Clone, Debug, PartialEq)]
enum Phase {
    Closed,
    Open { since: Instant },
    HalfOpen(Trials),
    Ramping(Ramp),
    Isolated,
}

/// The right to make one attempt. Give it to [`Breaker::record`] or [`Breaker::cancel`]; a trial
/// that is lost holds its slot until its lease runs out.
#[must_use = "a permit that is neither recorded nor cancelled holds up the trials"]
#[derive(Debug)]
pub struct Permit {
    epoch: u64,
    lease: Option<Lease>,
    transition: Option<Transition>,
}

/// The refusal of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// When it may be worth asking again: more than nothing, at most 1.1 times `open_max`.
    pub retry_after: Duration,
}

/// What an attempt says about the upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// It ended in one of the settings' failures.
    pub failure: bool,
    /// It took longer than the settings' `slow.over`.
    pub slow: bool,
}

impl Permit {
    /// Whether this attempt is a trial, which must not be retried, hedged or mirrored.
    #[must_use]
    pub const fn is_trial(&self) -> bool {
        self.lease.is_some()
    }

    /// The transition that came due by time and was made by this admission: the end of the wait or
    /// of the ramp. Together with those that [`Breaker::record`], [`Breaker::isolate`] and
    /// [`Breaker::close`] return, these are all there are.
    #[must_use]
    pub const fn transition(&self) -> Option<Transition> {
        self.transition
    }
}

impl Breaker {
    /// A closed circuit that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            window: Window::new(),
            phase: Phase::Closed,
            epoch: 0,
            wait: Duration::ZERO,
            opened: 0,
            streak: 0,
        }
    }

    /// Asks for an attempt. `random`, from `[0, 1)`, spreads the wait named in a refusal.
    ///
    /// # Errors
    /// The attempt is refused.
    pub fn admit(
        &mut self,
        settings: &Settings,
        now: Instant,
        random: f64,
    ) -> Result<Permit, Open> {
        let transition = self.advance(settings, now);
        let epoch = self.epoch;
        match &mut self.phase {
            Phase::Closed => Ok(Permit { epoch, lease: None, transition }),
            Phase::Open { since } => {
                let retry_after = self.wait.saturating_sub(now.saturating_duration_since(*since));
                Err(Open { retry_after: retry_after.max(WAIT_MIN) })
            }
            Phase::HalfOpen(trials) => match trials.lease(settings, now) {
                Some(lease) => Ok(Permit { epoch, lease: Some(lease), transition }),
                None => Err(busy(settings, random)),
            },
            Phase::Ramping(ramp) => {
                if ramp.admit(ramp::length(settings, self.wait), now) {
                    Ok(Permit { epoch, lease: None, transition })
                } else {
                    Err(busy(settings, random))
                }
            }
            // Nobody knows when an operator comes back; the longest wait is the most polite guess.
            Phase::Isolated => Err(Open { retry_after: settings.open_max.get().max(WAIT_MIN) }),
        }
    }

    /// Takes the outcome of an attempt. `random`, from `[0, 1)`, spreads the wait if the circuit
    /// opens by it.
    pub fn record(
        &mut self,
        settings: &Settings,
        permit: Permit,
        verdict: Verdict,
        now: Instant,
        random: f64,
    ) -> Option<Transition> {
        if permit.epoch != self.epoch {
            return None;
        }
        let enough = match &mut self.phase {
            Phase::Closed => settings.min_requests.max(1),
            Phase::Ramping(ramp) => {
                let length = ramp::length(settings, self.wait);
                // The ramp has ended and only nobody has asked since: this is news from before.
                if ramp.is_over(length, now) {
                    return None;
                }
                ramp.min_requests(settings, length, now)
            }
            Phase::HalfOpen(trials) => {
                let finding = trials.record(settings, permit.lease.as_ref()?, verdict);
                return self.conclude(settings, finding, now, random);
            }
            Phase::Open { .. } | Phase::Isolated => return None,
        };
        self.window.record(settings.window.get(), now, verdict.failure, verdict.slow);
        self.streak = if verdict.failure { self.streak.saturating_add(1) } else { 0 };
        let cause = self.judge(settings, enough, now)?;
        Some(self.open(settings, cause, now, random))
    }

    /// Gives a permit back without an outcome; a trial's slot is free again.
    pub fn cancel(&mut self, permit: Permit) {
        if let Permit { epoch, lease: Some(lease), .. } = permit
            && let Phase::HalfOpen(trials) = &mut self.phase
            && epoch == self.epoch
        {
            trials.free(&lease);
        }
    }

    /// Holds the circuit open until [`Breaker::close`]; `None` when it was isolated already.
    pub fn isolate(&mut self) -> Option<Transition> {
        if self.phase == Phase::Isolated {
            return None;
        }
        Some(self.enter(Phase::Isolated, Cause::Operator))
    }

    /// Closes the circuit by hand, from any state and without trials or ramp; what was counted and
    /// the growth of the wait are forgotten. `None` when it was closed already.
    pub fn close(&mut self) -> Option<Transition> {
        let was_closed = self.phase == Phase::Closed;
        let transition = self.enter(Phase::Closed, Cause::Operator);
        self.forget();
        (!was_closed).then_some(transition)
    }

    /// The state now, with what has come due by time.
    #[must_use]
    pub fn state(&self, settings: &Settings, now: Instant) -> State {
        match &self.phase {
            Phase::Open { since } if self.wait_left(*since, now).is_zero() => State::HalfOpen,
            Phase::Ramping(ramp) if ramp.is_over(ramp::length(settings, self.wait), now) => {
                State::Closed
            }
            phase => phase.state(),
        }
    }

    /// A picture for operators; changes nothing.
    #[must_use]
    pub fn view(&self, settings: &Settings, now: Instant) -> View {
        let state = self.state(settings, now);
        let (trials_leased, trials_good) = match &self.phase {
            Phase::HalfOpen(trials) => (trials.leased(now), trials.good()),
            _ => (0, 0),
        };
        let ramp_share = match &self.phase {
            Phase::Ramping(ramp) if state == State::Ramping => {
                Some(ramp.share(ramp::length(settings, self.wait), now))
            }
            _ => None,
        };
        let next_trial_in = match &self.phase {
            Phase::Open { since } if state == State::Open => Some(self.wait_left(*since, now)),
            _ => None,
        };
        View {
            state,
            totals: self.window.clone().totals(settings.window.get(), now),
            consecutive: self.streak,
            opened: if state == State::Closed { 0 } else { self.opened },
            next_trial_in,
            trials_leased,
            trials_good,
            ramp_share,
        }
    }

    /// Makes the transition that time, or a reload with fewer trials, has brought due.
    fn advance(&mut self, settings: &Settings, now: Instant) -> Option<Transition> {
        match &self.phase {
            Phase::Open { since } if self.wait_left(*since, now).is_zero() => {
                Some(self.enter(Phase::HalfOpen(Trials::new(now)), Cause::WaitOver))
            }
            Phase::Ramping(ramp) if ramp.is_over(ramp::length(settings, self.wait), now) => {
                // The window stays: what failed late in the ramp still counts.
                self.opened = 0;
                Some(self.enter(Phase::Closed, Cause::RampOver))
            }
            Phase::HalfOpen(trials) if trials.finding(settings) != Finding::Pending => {
                Some(self.ramp_up(settings, now))
            }
            _ => None,
        }
    }

    fn wait_left(&self, since: Instant, now: Instant) -> Duration {
        self.wait.saturating_sub(now.saturating_duration_since(since))
    }

    fn judge(&mut self, settings: &Settings, enough: u32, now: Instant) -> Option<Cause> {
        if settings.consecutive.is_some_and(|most| self.streak >= most.max(1)) {
            return Some(Cause::Consecutive);
        }
        let totals = self.window.totals(settings.window.get(), now);
        if totals.total < enough {
            return None;
        }
        // At least one, or a ratio of 0 % would open the circuit on nothing but good outcomes.
        if totals.failures > 0 && totals.failure_ratio() >= settings.failure_ratio.get() {
            return Some(Cause::FailureRatio);
        }
        (totals.slow > 0 && totals.slow_ratio() >= settings.slow.ratio.get())
            .then_some(Cause::SlowRatio)
    }

    fn conclude(
        &mut self,
        settings: &Settings,
        finding: Finding,
        now: Instant,
        random: f64,
    ) -> Option<Transition> {
        match finding {
            Finding::Pending => None,
            Finding::Passed => Some(self.ramp_up(settings, now)),
            Finding::Failed => Some(self.open(settings, Cause::TrialFailed, now, random)),
            Finding::Slow => Some(self.open(settings, Cause::SlowRatio, now, random)),
        }
    }

    fn open(&mut self, settings: &Settings, cause: Cause, now: Instant, random: f64) -> Transition {
        self.opened = self.opened.saturating_add(1);
        let (open, open_max) = (settings.open.get(), settings.open_max.get());
        self.wait = growing_wait(open, open_max, self.opened, random);
        self.enter(Phase::Open { since: now }, cause)
    }

    fn ramp_up(&mut self, settings: &Settings, now: Instant) -> Transition {
        if settings.ramp.is_zero() {
            let transition = self.enter(Phase::Closed, Cause::TrialsPassed);
            self.forget();
            return transition;
        }
        // The ramp is judged by its own outcomes alone.
        self.window.clear();
        self.streak = 0;
        self.enter(Phase::Ramping(Ramp::new(now)), Cause::TrialsPassed)
    }

    fn forget(&mut self) {
        self.window.clear();
        self.streak = 0;
        self.opened = 0;
    }

    fn enter(&mut self, phase: Phase, cause: Cause) -> Transition {
        let from = self.phase.state();
        self.phase = phase;
        self.epoch = self.epoch.wrapping_add(1);
        Transition { from, to: self.phase.state(), cause }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Self::new()
    }
}

impl Phase {
    const fn state(&self) -> State {
        match self {
            Self::Closed => State::Closed,
            Self::Open { .. } => State::Open,
            Self::HalfOpen(_) => State::HalfOpen,
            Self::Ramping(_) => State::Ramping,
            Self::Isolated => State::Isolated,
        }
    }
}

/// A wait that doubles with each step, the first being step 1, up to `max`; then spread by up to a
/// tenth either way. `random` is from `[0, 1)`. Shared with the ejection of endpoints.
pub(super) fn growing_wait(base: Duration, max: Duration, step: u32, random: f64) -> Duration {
    let doublings = step.saturating_sub(1).min(31);
    let wait = base.saturating_mul(1 << doublings).min(max).max(WAIT_MIN);
    wait.mul_f64(1.0 - JITTER + 2.0 * JITTER * random.clamp(0.0, 1.0))
}

fn busy(settings: &Settings, random: f64) -> Open {
    let spread = BUSY_WAIT.mul_f64(0.5 + random.clamp(0.0, 1.0));
    Open { retry_after: spread.min(settings.open_max.get()).max(WAIT_MIN) }
}

#[cfg(test)]
mod tests;
