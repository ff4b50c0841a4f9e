//! Too fast? A limit on the rate of a route, whole or per key.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Mode;
use super::load_balancing::HashOn;
use crate::units::{Period, Rate};

/// How many requests may pass in a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RateLimit")]
pub struct Settings {
    /// Whether the policy acts.
    #[serde(default)]
    pub mode: Mode,
    /// The sustained rate. Required.
    pub rate: Rate,
    /// How many may pass at once after a pause; null = the events of one second of the rate, at least 1.
    #[serde(default)]
    pub burst: Option<u32>,
    /// What has a limit of its own: `header:NAME` or `client_ip`; null = the whole route has one.
    #[serde(default)]
    pub key: Option<HashOn>,
    /// What happens to a request above the limit.
    #[serde(default)]
    pub on_limit: OnLimit,
    /// With `wait`: a request that would have to wait longer is refused.
    #[serde(default)]
    pub max_wait: Period,
}

/// What happens to a request above the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLimit {
    /// It is answered 429 at once.
    #[default]
    Reject,
    /// It waits for its turn, at most `max_wait`.
    Wait,
}
