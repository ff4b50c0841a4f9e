//! Can we afford it? The budget of all retries to one upstream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Factor, Period};

/// How many retries an upstream can be sent, beside the first attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "RetryBudget")]
pub struct Settings {
    /// Retries as a share of first attempts.
    pub ratio: Factor,
    /// Retries that are always allowed in a second, so that a quiet service can retry at all.
    pub min_per_second: u32,
    /// How many seconds' worth of the share can be saved up.
    pub burst: Period,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ratio: Factor::percent(20), min_per_second: 3, burst: Period::from_secs(2) }
    }
}
