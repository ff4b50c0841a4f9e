//! Again, and when? What is retried, and the wait before it.
//!
//! [`decide`] looks at one attempt that has just ended and says whether another one may follow, and
//! after which wait. It keeps no state: everything that it weighs is an argument. Three things are
//! left to the caller: the budget ([`super::retry_budget`]) is asked after [`Decision::Retry`], the
//! endpoint is chosen elsewhere, and `mode: observe` is acted on where the decision is used.
//!
//! What may be repeated rests on evidence. A method that RFC 9110 section 9.2.2 calls idempotent
//! may be repeated whatever happened; any other only when it is proved that nothing was executed.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Mode;
use super::outcome::{End, Outcome};
use crate::units::{ByteSize, Period, text_value};

pub mod backoff;
mod decision;
#[cfg(test)]
mod tests;

pub use decision::{Attempt, Decision, Request, Suppressed, decide};

/// What is retried, how often and after which wait.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Retry")]
pub struct Settings {
    /// Whether the policy acts.
    pub mode: Mode,
    /// The most attempts of one request, the first send included; 1 to 10.
    pub max_attempts: u32,
    /// The ends of an attempt that are worth another one.
    pub on: Vec<Condition>,
    /// What may be retried of the methods that are not safe to repeat (POST, PATCH and the like).
    pub unsafe_methods: UnsafeMethods,
    /// The wait before a retry.
    pub backoff: Backoff,
    /// How `Retry-After` and gRPC push-back are taken.
    pub retry_after: RetryAfter,
    /// The most of a request's body that is kept to be sent again; a larger one is not retried once
    /// it has been sent.
    pub buffer: ByteSize,
    /// Prefer an endpoint that this request has not tried yet.
    pub other_endpoint: bool,
}

/// One condition on how an attempt ended, as written in `retry.on` and `circuit_breaker.failures`:
/// `connect_failure`, `refused`, `reset`, `timeout`, `per_try_timeout`, a status `"503"`, a class
/// `"5xx"`, `grpc:<code>`, `header:<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No connection was made, in time or at all.
    ConnectFailure,
    /// The peer refused the stream unprocessed.
    Refused,
    /// The connection broke before the answer's head.
    Reset,
    /// Any timeout: connect, per try or total.
    Timeout,
    /// The attempt's own time ran out.
    PerTryTimeout,
    /// This HTTP status.
    Status(u16),
    /// Any HTTP status of this class; 5 stands for `5xx`.
    StatusClass(u8),
    /// This gRPC status.
    Grpc(u16),
    /// An answer that carries this header, in lower case.
    Header(String),
}

/// What may be retried of the methods that are not safe to repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnsafeMethods {
    /// Only what is proved to have executed nothing, or carries a key that the peer honours.
    #[default]
    UnsentOrKeyed,
    /// Nothing.
    Never,
    /// Everything, as if the method were safe.
    Always,
}

/// The wait before a retry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// The upper end of the first wait; doubled for each further one.
    pub base: Period,
    /// The longest wait.
    pub max: Period,
    /// How the wait is spread.
    pub jitter: Jitter,
}

/// How a wait is spread, so that clients that failed together do not return together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Jitter {
    /// From nothing to the whole wait.
    #[default]
    Full,
    /// From half of the wait to the whole.
    Equal,
    /// From the base to three times the wait before.
    Decorrelated,
}

/// How the peer's wish to wait is taken.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryAfter {
    /// Whether it is honoured.
    pub honour: bool,
    /// A request that would have to wait longer is not retried.
    pub max: Period,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            max_attempts: 3,
            on: vec![
                Condition::ConnectFailure,
                Condition::Refused,
                Condition::Reset,
                Condition::Status(502),
                Condition::Status(503),
                Condition::Status(504),
                Condition::Grpc(14),
            ],
            unsafe_methods: UnsafeMethods::UnsentOrKeyed,
            backoff: Backoff::default(),
            retry_after: RetryAfter::default(),
            buffer: ByteSize::kib(64),
            other_endpoint: true,
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Period::from_millis(25), max: Period::from_millis(250), jitter: Jitter::Full }
    }
}

impl Default for RetryAfter {
    fn default() -> Self {
        Self { honour: true, max: Period::from_secs(5) }
    }
}

/// The canonical gRPC status names, by code.
pub const GRPC_NAMES: [&str; 17] = [
    "ok",
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
];

impl Condition {
    /// Whether an attempt ended in this way. `has_header` says whether the answer carries a header
    /// of that lower-case name; it is asked about answers only.
    #[must_use]
    pub fn matches(&self, outcome: &Outcome, has_header: &dyn Fn(&str) -> bool) -> bool {
        match (self, outcome.end) {
            (Self::ConnectFailure, End::ConnectFailure | End::ConnectTimeout)
            | (Self::Refused, End::Refused)
            | (Self::Reset, End::Reset)
            | (Self::Timeout, End::ConnectTimeout | End::PerTryTimeout | End::DeadlineExceeded)
            | (Self::PerTryTimeout, End::PerTryTimeout) => true,
            (Self::Status(wanted), End::Answer { status, .. }) => *wanted == status,
            (Self::StatusClass(class), End::Answer { status, .. }) => {
                u16::from(*class) == status / 100
            }
            (Self::Grpc(wanted), End::Answer { grpc, .. }) => Some(*wanted) == grpc,
            (Self::Header(name), End::Answer { .. }) => has_header(name),
            _ => false,
        }
    }
}

impl FromStr for Condition {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || {
            format!(
                "`{text}` is not a condition; write connect_failure, refused, reset, timeout, \
                 per_try_timeout, a status such as \"503\" or \"5xx\", grpc:<code> or header:<name>"
            )
        };
        match text {
            "connect_failure" => return Ok(Self::ConnectFailure),
            "refused" => return Ok(Self::Refused),
            "reset" => return Ok(Self::Reset),
            "timeout" => return Ok(Self::Timeout),
            "per_try_timeout" => return Ok(Self::PerTryTimeout),
            _ => {}
        }
        if let Some(code) = text.strip_prefix("grpc:") {
            let by_name = GRPC_NAMES.iter().position(|name| *name == code.replace('-', "_"));
            let code = by_name.or_else(|| code.parse().ok().filter(|code| *code < 17));
            return code.and_then(|c| u16::try_from(c).ok()).map(Self::Grpc).ok_or_else(wanted);
        }
        if let Some(name) = text.strip_prefix("header:") {
            let token = !name.is_empty()
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(&b));
            return if token { Ok(Self::Header(name.to_ascii_lowercase())) } else { Err(wanted()) };
        }
        if let Some(class @ 1..=5) = text.strip_suffix("xx").and_then(|c| c.parse::<u8>().ok()) {
            return Ok(Self::StatusClass(class));
        }
        match text.parse() {
            Ok(status @ 200..=599) => Ok(Self::Status(status)),
            _ => Err(wanted()),
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectFailure => f.write_str("connect_failure"),
            Self::Refused => f.write_str("refused"),
            Self::Reset => f.write_str("reset"),
            Self::Timeout => f.write_str("timeout"),
            Self::PerTryTimeout => f.write_str("per_try_timeout"),
            Self::Status(status) => write!(f, "{status}"),
            Self::StatusClass(class) => write!(f, "{class}xx"),
            Self::Grpc(code) => match GRPC_NAMES.get(usize::from(*code)) {
                Some(name) => write!(f, "grpc:{name}"),
                None => write!(f, "grpc:{code}"),
            },
            Self::Header(name) => write!(f, "header:{name}"),
        }
    }
}

text_value!(
    Condition,
    "Condition",
    "^(connect_failure|refused|reset|timeout|per_try_timeout|[2-5][0-9]{2}|[1-5]xx|\
     grpc:[a-z0-9_-]+|header:.+)$",
    "a way in which an attempt ended, such as connect_failure, 503, 5xx or grpc:unavailable",
    200..=599
);
