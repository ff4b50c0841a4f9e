//! When must it end? Total, per-try, connect and idle timeouts, and the caller's deadline.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::Period;

/// How long a request, and each part of it, may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Timeouts")]
pub struct Settings {
    /// From the first byte of the request to the last of the answer, retries and waits included;
    /// null = no limit but the caller's deadline.
    pub total: Option<Period>,
    /// From the start of an attempt to its answer's head; null = total / attempts.
    pub per_try: Option<Period>,
    /// To make a connection.
    pub connect: Period,
    /// Without a byte of body either way.
    pub idle: Period,
    /// Taken off the caller's deadline, so that our answer reaches it in time.
    pub deadline_offset: Period,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            total: Some(Period::from_secs(15)),
            per_try: None,
            connect: Period::from_secs(1),
            idle: Period::from_secs(300),
            deadline_offset: Period::from_millis(5),
        }
    }
}
