//! Logs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Later;
use crate::units::Ratio;

/// Logs and traces.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// The process log.
    pub log: Log,
    /// One line a request.
    pub access_log: AccessLog,
    /// Spans to a collector.
    pub tracing: Later,
}

/// The process log, on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The form of a line.
    pub format: Format,
    /// The least level that is written.
    pub level: Level,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// The least level that is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// What stops the process.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And changes of state.
    #[default]
    Info,
    /// And each decision.
    Debug,
}

/// One line a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AccessLog {
    /// Where it goes.
    pub to: AccessLogTo,
    /// The share of requests that is logged.
    pub sample: Ratio,
    /// Log every request that ended with a 5xx or an answer of our own.
    pub always_on_error: bool,
}

/// Where the access log goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AccessLogTo {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
    /// Nowhere.
    None,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self { to: AccessLogTo::Stdout, sample: Ratio::percent(1), always_on_error: true }
    }
}
