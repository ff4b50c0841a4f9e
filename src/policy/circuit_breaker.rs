//! Is it worth trying? A circuit per route and upstream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Mode;
use super::retry::Condition;
use crate::units::{Period, Ratio};

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
    /// How long the circuit stays open the first time; doubled, with jitter, each time it opens again
    /// before it has closed.
    pub open: Period,
    /// The longest time that it stays open.
    pub open_max: Period,
    /// How many trial attempts decide, once the wait is over.
    pub trials: u32,
    /// After good trials the share of requests admitted rises in a line from nothing to all in this
    /// time, or in half of the time for which the circuit was open if that is longer.
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
