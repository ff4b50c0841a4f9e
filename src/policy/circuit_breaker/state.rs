//! What the circuit tells others: its state, why it changed, and a picture for operators.

use std::time::Duration;

use crate::policy::window::Totals;

/// The state of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Everything passes and is counted.
    Closed,
    /// Nothing passes until the wait is over.
    Open,
    /// Only trials pass.
    HalfOpen,
    /// A growing share passes.
    Ramping,
    /// Nothing passes until an operator closes the circuit.
    Isolated,
}

impl State {
    /// Every state, in the order of [`State::index`].
    pub const ALL: [Self; Self::COUNT] =
        [Self::Closed, Self::Open, Self::HalfOpen, Self::Ramping, Self::Isolated];

    /// How many states there are.
    pub const COUNT: usize = 5;

    /// The spelling in labels, logs and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Ramping => "ramping",
            Self::Isolated => "isolated",
        }
    }

    /// The place of this state in [`State::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Why a circuit changed its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Too large a share of the attempts failed.
    FailureRatio,
    /// Too large a share of the attempts, or of the trials, was slow.
    SlowRatio,
    /// Too many attempts in a row failed.
    Consecutive,
    /// A trial failed.
    TrialFailed,
    /// The time to stay open is over.
    WaitOver,
    /// Every trial was good.
    TrialsPassed,
    /// The ramp reached its end.
    RampOver,
    /// An operator asked for it.
    Operator,
}

impl Cause {
    /// The spelling in labels and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FailureRatio => "failure_ratio",
            Self::SlowRatio => "slow_ratio",
            Self::Consecutive => "consecutive",
            Self::TrialFailed => "trial_failed",
            Self::WaitOver => "wait_over",
            Self::TrialsPassed => "trials_passed",
            Self::RampOver => "ramp_over",
            Self::Operator => "operator",
        }
    }
}

/// A change of state that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// The state that was left.
    pub from: State,
    /// The state that was entered.
    pub to: State,
    /// What brought it about.
    pub cause: Cause,
}

/// A picture of a circuit for operators.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View {
    /// The state.
    pub state: State,
    /// What the window holds. While the circuit is open these are the counts that opened it, until
    /// they are too old.
    pub totals: Totals,
    /// Failures in a row up to the last outcome that was counted.
    pub consecutive: u32,
    /// How often in a row the circuit opened without closing in between; 0 when closed.
    pub opened: u32,
    /// While open: the time left before trials are admitted.
    pub next_trial_in: Option<Duration>,
    /// While half-open: trials whose outcome is awaited.
    pub trials_leased: u32,
    /// While half-open: trials that were good.
    pub trials_good: u32,
    /// While ramping: the share of new requests that passes, 0 to 1.
    pub ramp_share: Option<f64>,
}
