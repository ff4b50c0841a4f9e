//! Does the endpoint answer when asked? Active checks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Period;

/// How endpoints are asked for their health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The path of the GET request.
    pub path: String,
    /// The mean time between two checks of an endpoint; each wait is jittered by up to a fifth.
    pub interval: Period,
    /// A check that takes longer has failed.
    pub timeout: Period,
    /// This many good checks in a row make an unhealthy endpoint healthy.
    pub healthy_after: u32,
    /// This many failed checks in a row make a healthy endpoint unhealthy.
    pub unhealthy_after: u32,
    /// The statuses that are good: `200`, or a range `200-299`.
    pub expect: StatusRange,
}

/// A range of HTTP statuses, both ends included, written `200` or `200-299`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The lowest status.
    pub from: u16,
    /// The highest status.
    pub to: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path: "/healthz".to_owned(),
            interval: Period::from_secs(5),
            timeout: Period::from_secs(1),
            healthy_after: 2,
            unhealthy_after: 3,
            expect: StatusRange { from: 200, to: 299 },
        }
    }
}
