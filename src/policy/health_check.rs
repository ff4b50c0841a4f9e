//! Does the endpoint answer when asked? Active checks.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Period, text_value};

/// How endpoints are asked for their health.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "HealthCheck")]
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

impl FromStr for StatusRange {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        match (from.trim().parse(), to.trim().parse()) {
            (Ok(from @ 100..=599), Ok(to @ 100..=599)) if from <= to => Ok(Self { from, to }),
            _ => Err(format!("`{text}` is not a status or a range such as 200-299")),
        }
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to {
            write!(f, "{}", self.from)
        } else {
            write!(f, "{}-{}", self.from, self.to)
        }
    }
}

text_value!(
    StatusRange,
    "StatusRange",
    r"^[1-5][0-9]{2}( *- *[1-5][0-9]{2})?$",
    "a status or a range of them, such as 200 or 200-299",
    100..=599
);
