//! Should this endpoint be chosen? Passive ejection of endpoints that fail.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Mode;
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
    /// The largest share of the endpoints that may be ejected at once: at least one may be, and never
    /// the last.
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
