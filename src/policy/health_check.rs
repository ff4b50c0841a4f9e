//! Does the endpoint answer when asked? Active checks.
//!
//! Here is what a row of answers means and when to ask again; asking is done elsewhere. An endpoint
//! of which nothing is known yet counts as healthy, so that a proxy that has just started does not
//! refuse work.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

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
    /// Ask with gRPC's own health protocol instead of a GET; null = not.
    pub grpc: Option<Grpc>,
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

/// A check in gRPC's own protocol (`grpc.health.v1.Health/Check`), of which `SERVING` is good and
/// everything else is not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "GrpcHealthCheck")]
pub struct Grpc {
    /// The service that is asked for, with its package; empty = the server as a whole.
    pub service: String,
}

/// A range of HTTP statuses, both ends included, written `200` or `200-299`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusRange {
    /// The lowest status.
    pub from: u16,
    /// The highest status.
    pub to: u16,
}

/// The share by which a wait between two checks is shortened or lengthened at most, so that many
/// proxies that check one endpoint do not do so in step.
const JITTER: f64 = 0.2;

/// The shortest wait between two checks: an interval of nothing must not become a busy loop.
const WAIT_MIN: Duration = Duration::from_millis(10);

/// What the checks of one endpoint have shown so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    healthy: bool,
    /// Checks in a row that contradict `healthy`.
    against: u32,
}

impl Health {
    /// An endpoint that has not been checked, which counts as healthy.
    #[must_use]
    pub const fn new() -> Self {
        Self { healthy: true, against: 0 }
    }

    /// Takes the result of a check. `Some` when the endpoint becomes healthy or unhealthy by it.
    pub fn record(&mut self, settings: &Settings, good: bool) -> Option<bool> {
        if good == self.healthy {
            self.against = 0;
            return None;
        }
        self.against = self.against.saturating_add(1);
        let enough = if good { settings.healthy_after } else { settings.unhealthy_after };
        if self.against < enough {
            return None;
        }
        *self = Self { healthy: good, against: 0 };
        Some(good)
    }

    /// Whether the endpoint counts as healthy.
    #[must_use]
    pub const fn healthy(&self) -> bool {
        self.healthy
    }

    /// How long to wait before the next check: the interval, up to a fifth shorter or longer.
    /// `random` is from `[0, 1)`.
    #[must_use]
    pub fn next_wait(settings: &Settings, random: f64) -> Duration {
        let factor = 1.0 - JITTER + 2.0 * JITTER * random.clamp(0.0, 1.0);
        settings.interval.get().mul_f64(factor).max(WAIT_MIN)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl StatusRange {
    /// Whether the status is in the range.
    #[must_use]
    pub const fn contains(self, status: u16) -> bool {
        self.from <= status && status <= self.to
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path: "/healthz".to_owned(),
            grpc: None,
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

#[cfg(test)]
mod tests;
