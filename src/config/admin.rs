//! The process: the operator's listener, threads, shutdown, reload.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Later;
use super::listener::Bind;
use crate::units::{ByteSize, Period, text_value};

/// The operator's listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// The address; `unix:/path` works too.
    pub bind: Bind,
    /// A file with the bearer token that mutating calls need; without one they are refused.
    pub token_file: Option<PathBuf>,
    /// The most connections at once.
    pub max_connections: usize,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            bind: Bind::Tcp("127.0.0.1:15000".to_owned()),
            token_file: None,
            max_connections: 64,
        }
    }
}

/// Threads, memory and shutdown of the process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Data-path threads: a number, or `auto` for the CPU quota of the cgroup, at least 1.
    pub workers: Workers,
    /// Refuse work before the container is killed: `auto` for 80 % of the cgroup's limit or,
    /// without one, of the machine; a size for the process's own resident memory; null = never for
    /// memory.
    pub max_memory: Option<MaxMemory>,
    /// What happens between SIGTERM and the end.
    pub drain: Drain,
}

impl Default for Runtime {
    fn default() -> Self {
        let (workers, drain) = (Workers::default(), Drain::default());
        Self { workers, max_memory: Some(MaxMemory::Auto), drain }
    }
}

/// How much memory there is for the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxMemory {
    /// 80 % of the least limit of the cgroups around it, less what others use of that; of the
    /// machine's memory where there is no limit.
    Auto,
    /// So much for its own resident memory.
    Size(ByteSize),
}

/// The number of data-path threads: `auto` or 1 to 256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// The CPU quota of the cgroup, at least 1.
    #[default]
    Auto,
    /// This many.
    Count(usize),
}

/// What happens between SIGTERM and the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// Work in flight that has not ended by then is cut off.
    pub timeout: Period,
    /// Between the failing of readiness and the closing of the listeners, while connections are
    /// open.
    pub linger: Period,
}

impl Default for Drain {
    fn default() -> Self {
        Self { timeout: Period::from_secs(120), linger: Period::from_secs(5) }
    }
}

/// How the file is read again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reload {
    /// Watch the file, and a Kubernetes ConfigMap's `..data` link.
    pub watch: bool,
    /// Try a new file on a share of the requests first.
    pub canary: Later,
    /// Where the last good file is kept.
    pub last_good: Later,
}

impl Default for Reload {
    fn default() -> Self {
        Self { watch: true, canary: Later, last_good: Later }
    }
}

/// More workers than this are a mistake rather than a machine.
const WORKERS_MAX: usize = 256;

impl FromStr for Workers {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "auto" => Ok(Self::Auto),
            Ok(count @ 1..=WORKERS_MAX) => Ok(Self::Count(count)),
            _ => Err(format!("`{text}` is not `auto` or a number from 1 to {WORKERS_MAX}")),
        }
    }
}

impl FromStr for MaxMemory {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let wanted = |_| format!("`{text}` is not `auto` or a size, such as 512MiB");
        text.parse().map(Self::Size).map_err(wanted)
    }
}

impl fmt::Display for MaxMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Size(size) => size.fmt(f),
        }
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Count(count) => write!(f, "{count}"),
        }
    }
}

text_value!(
    Workers,
    "Workers",
    "^(auto|[0-9]+)$",
    "auto or a number of threads from 1 to 256",
    1..=256
);
text_value!(
    MaxMemory,
    "MaxMemory",
    "^(auto|[0-9]+ *(B|KiB|MiB|GiB)|0)$",
    "auto, or a size such as 512MiB",
    0..=0
);
