//! What a route does with an Idempotency-Key, with its defaults and bounds.
//!
//! The bounds are checked where the file is read; here are their numbers with their reasons, and
//! what a null stands for.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::machine::LEASE_MAX;
use super::record::{NEVER, Retention};
use crate::policy::health_check::StatusRange;
use crate::units::{ByteSize, Period, text_value};

/// The longest `lease`, and what bounds every wait for an upstream's answer.
pub const LONGEST_LEASE: Period = Period::from_millis(LEASE_MAX);
/// The shortest `lease`: it is renewed every third of it, and two renewals may be lost.
pub const SHORTEST_LEASE: Period = Period::from_secs(5);
/// By how much a lease is longer than the time of its request, so that a request that takes all of
/// it still has the time to write down its result.
pub const LEASE_MARGIN: Duration = Duration::from_secs(2);
/// The shortest `takeover_grace`: an owner that was stopped for a moment is not dead.
pub const SHORTEST_GRACE: Period = Period::from_millis(500);
/// The shortest `ttl`: a client that repeats after its own timeout must still find the answer.
pub const SHORTEST_TTL: Period = Period::from_secs(60);
/// The longest `ttl`: a month, the longest that payment services keep answers.
pub const LONGEST_TTL: Period = Period::from_secs(31 * 24 * 3600);
/// The shortest deadline of a store's operation; less would fail on a busy disk.
pub const SHORTEST_DEADLINE: Period = Period::from_millis(20);
/// The longest deadline of a store's operation: requests wait for it.
pub const LONGEST_DEADLINE: Period = Period::from_secs(5);
/// The largest `fingerprint_body`: so much of each keyed request is in memory at once.
pub const MOST_FINGERPRINT_BODY: ByteSize = ByteSize::kib(16 << 10);
/// The largest `stored_body`: stores keep answers in one piece.
pub const MOST_STORED_BODY: ByteSize = ByteSize::kib(4 << 10);
/// The largest `stored_headers`: no server sends larger heads by default.
pub const MOST_STORED_HEADERS: ByteSize = ByteSize::kib(64);
/// The most requests of a process that wait for others with the same key, of all keys together:
/// each holds a connection and its body.
pub const WAITERS_IN_ALL: u32 = 1024;
/// The most fields of a request that its fingerprint covers; each is looked up in every request.
pub const MOST_FINGERPRINT_HEADERS: usize = 32;
/// The most sources of a scope.
pub const MOST_SOURCES: usize = 8;
/// The most ranges in a list of statuses.
pub const MOST_STATUSES: usize = 64;
/// The longest namespace; it is a part of what every request's record is named by.
pub const LONGEST_NAMESPACE: usize = 255;

/// What a route does with an Idempotency-Key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Idempotency")]
pub struct Settings {
    /// Beside the service (`enforce`) or beside its caller (`originate`).
    pub role: Role,
    /// The name of the store of the records. Required for `enforce`.
    pub store: Option<String>,
    /// Whose key it is: the first of these that a request has. The same key of two principals is
    /// two operations. Required for `enforce`; `[none]` says that all callers are one.
    pub scope: Vec<Source>,
    /// The methods that are covered; GET, HEAD, OPTIONS, TRACE and CONNECT never are.
    pub methods: Vec<String>,
    /// Whether a covered request without a key is refused.
    pub required: bool,
    /// The service that a key is for: the same key in two namespaces is two operations. Null = one
    /// namespace for all routes of the store that name none, so that no new name of a route, an
    /// upstream or a store makes a used key look new.
    pub namespace: Option<String>,
    /// The field that carries the key.
    pub key_header: String,
    /// The field of every answer that says what was done with the key.
    pub status_header: String,
    /// The field in which the upstream is told the fence, a number that rises with every sending of
    /// a key, so that it can refuse a late writer; null = not told.
    pub fence_header: Option<String>,
    /// Whether the key is kept from the upstream.
    pub strip_key: bool,
    /// How long an answer can be given again, from its completion on; 60 s to 31 days.
    pub ttl: Period,
    /// How long a used key is remembered, from its completion on; at least `ttl` and 10 minutes.
    pub key_ttl: Period,
    /// How long an unknown outcome is remembered; at least `key_ttl`, or `never` = never forgotten.
    pub unknown_ttl: Forget,
    /// How long a request that gives no sign of life counts as being worked on; 5 s to 10 min. Null
    /// = the route's total timeout and 2 s.
    pub lease: Option<Period>,
    /// How long after a lease an operation of unknown outcome may be sent again; at least 500 ms.
    /// Only with `unknown: redispatch`.
    pub takeover_grace: Period,
    /// How long an answer is still waited for when its caller has given up; at most 10 min. Null =
    /// the route's total timeout.
    pub late_result_window: Option<Period>,
    /// How long a claim may take before the store counts as unreachable; 20 ms to 5 s.
    pub claim_deadline: Period,
    /// How long an answer may wait to be stored before it is passed on without; 20 ms to 5 s.
    pub commit_deadline: Period,
    /// What becomes of a repeated request whose first outcome is unknown.
    pub unknown: Unknown,
    /// What becomes of a request while the store cannot be reached.
    pub on_store_error: OnStoreError,
    /// What becomes of a repeated request while the first is worked on.
    pub on_concurrent: OnConcurrent,
    /// How long a repeated request waits for the first one's answer, with `on_concurrent: wait`; at
    /// most 10 min.
    pub max_wait: Period,
    /// How many requests may wait for one key; at most 1024, which is the bound of all together.
    pub max_waiters: u32,
    /// Whether the upstream itself recognises a key that it has seen, so that an ambiguous failure
    /// may be sent again.
    pub upstream_idempotent: bool,
    /// The largest body of an answer that is stored; a larger one cannot be given again. At most
    /// 4 MiB.
    pub stored_body: ByteSize,
    /// The most that the fields and trailers of an answer may take, to be stored; at most 64 KiB.
    pub stored_headers: ByteSize,
    /// What of a repeated request must be as it was in the first.
    pub fingerprint: Fingerprints,
    /// The largest body of a covered request, which is read whole before it is sent; at most
    /// 16 MiB. Not with `fingerprint: none`.
    pub fingerprint_body: ByteSize,
    /// The fields of a request that must be as they were in the first. Not with
    /// `fingerprint: none`.
    pub fingerprint_headers: Vec<String>,
    /// What a 5xx answer other than 502, 503 and 504 says of the operation; the same for gRPC's
    /// unknown, internal and data_loss.
    pub on_5xx: On5xx,
    /// Statuses that are the operation's result, whatever else would hold of them.
    pub store_statuses: Vec<StatusRange>,
    /// Statuses that prove that nothing was executed: the key can be used again.
    pub release_statuses: Vec<StatusRange>,
    /// Statuses that leave open whether it was executed.
    pub unknown_statuses: Vec<StatusRange>,
    /// The answer by which the upstream's own layer says that a request with the key is being
    /// worked on; null = it has none.
    pub upstream_conflict: Option<UpstreamConflict>,
    /// What becomes of keys that do not tell when they were made, when the store cannot know them.
    pub stale_keys: StaleKeys,
    /// How the upstream is asked what became of an operation; null = it is not.
    pub probe: Option<Probe>,
    /// Whether `Set-Cookie` is stored and given again; needs the store's `aead_key`.
    pub allow_set_cookie: bool,
    /// Whether an answer with `Cache-Control: no-store` is not kept for repetition.
    pub honor_no_store: bool,
    /// With `originate`: whether the peer is known to enforce keys.
    pub peer: Peer,
    /// The page that problem documents link to, with the code as its fragment; null = they name the
    /// code as a URN.
    pub docs: Option<String>,
}

/// On which side of a call the proxy stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "IdempotencyRole")]
pub enum Role {
    /// Beside the service: keeps records, and executes each key once.
    #[default]
    Enforce,
    /// Beside the caller: gives each request that has none a key, the same for all its attempts.
    Originate,
}

/// A part of a request that says whose it is: `header:NAME`, `authorization`, `mtls.san`, `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The value of a field; the name in lower case. Only as good as the hop that sets it.
    Header(String),
    /// A digest of `Authorization`. A token that is renewed between two attempts makes the second
    /// one another principal's.
    Authorization,
    /// The name in the client's certificate.
    MtlsSan,
    /// All callers are one principal.
    Nobody,
}

/// How long something is remembered: a period, or `never` forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// For so long.
    After(Period),
    /// Never.
    Never,
}

/// What becomes of a repeated request whose first outcome is unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "IdempotencyUnknown")]
pub enum Unknown {
    /// It is refused until somebody knows.
    #[default]
    Hold,
    /// It is sent again; only where `upstream_idempotent`.
    Redispatch,
}

/// What becomes of a request while the store cannot be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "IdempotencyStoreError")]
pub enum OnStoreError {
    /// It is refused, and nothing is sent.
    #[default]
    Closed,
    /// It is sent without protection, and its answer says so.
    Open,
}

/// What becomes of a repeated request while the first is worked on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "IdempotencyConcurrent")]
pub enum OnConcurrent {
    /// It is refused, and told when to come back.
    #[default]
    Conflict,
    /// It waits for the first one's answer, up to `max_wait`.
    Wait,
}

/// What of a repeated request must be as it was in the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "IdempotencyFingerprint")]
pub enum Fingerprints {
    /// Method, path and query, some fields, and every byte of the body.
    #[default]
    Full,
    /// Method, path and query: for bodies that a client does not write twice in the same bytes.
    None,
}

/// What a 5xx answer says of the operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "IdempotencyOn5xx")]
pub enum On5xx {
    /// It is the result, and is given again.
    #[default]
    Store,
    /// It may have been executed or not.
    Unknown,
    /// Nothing was executed: a repetition runs the operation again. Only where the service undoes
    /// all of a request that ends in a 5xx.
    Release,
}

/// What becomes of keys that do not tell when they were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "IdempotencyStaleKeys")]
pub enum StaleKeys {
    /// One that is not known is new.
    #[default]
    TreatAsNew,
    /// They are refused: keys are UUIDs of version 7 or ULIDs.
    RequireTimeBased,
}

/// Whether the peer is known to enforce keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "IdempotencyPeer")]
pub enum Peer {
    /// When an answer of the route has said so within five minutes.
    #[default]
    Learned,
    /// It does.
    Enforcing,
}

/// The answer by which an upstream says that it is at work on the key already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "IdempotencyUpstreamConflict")]
pub struct UpstreamConflict {
    /// Its status.
    pub status: u16,
    /// A field that it carries; null = none is asked for.
    pub header: Option<String>,
    /// What the field's value contains; null = any value.
    pub contains: Option<String>,
}

/// How the upstream is asked what became of an operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "IdempotencyProbe")]
pub struct Probe {
    /// The path of the GET, with `{key}` for the key. Required.
    pub path: String,
    /// The statuses that say that it was executed.
    #[serde(default = "good")]
    pub executed: StatusRange,
    /// The statuses that say that it was not.
    #[serde(default = "not_found")]
    pub not_executed: StatusRange,
    /// How long after the last sending a negative answer counts: as long as the upstream may still
    /// be at work on a request that it has read. At least 1 s.
    #[serde(default = "one_minute")]
    pub settle_delay: Period,
    /// How long an answer may take; 20 ms to 5 s.
    #[serde(default = "one_second")]
    pub timeout: Period,
}

const fn good() -> StatusRange {
    StatusRange { from: 200, to: 299 }
}

const fn not_found() -> StatusRange {
    StatusRange { from: 404, to: 404 }
}

const fn one_minute() -> Period {
    Period::from_secs(60)
}

const fn one_second() -> Period {
    Period::from_secs(1)
}

/// What of a request's fields can change its meaning.
const FINGERPRINT_HEADERS: [&str; 6] = [
    "content-type",
    "content-encoding",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "prefer",
];

const HOUR: u64 = 3600;

impl Default for Settings {
    fn default() -> Self {
        Self {
            role: Role::Enforce,
            store: None,
            scope: Vec::new(),
            methods: ["POST", "PATCH"].map(str::to_owned).into(),
            required: false,
            namespace: None,
            key_header: "Idempotency-Key".to_owned(),
            status_header: "Idempotency-Status".to_owned(),
            fence_header: None,
            strip_key: false,
            ttl: Period::from_secs(24 * HOUR),
            key_ttl: Period::from_secs(72 * HOUR),
            unknown_ttl: Forget::After(Period::from_secs(7 * 24 * HOUR)),
            lease: None,
            takeover_grace: Period::from_secs(2),
            late_result_window: None,
            claim_deadline: Period::from_millis(250),
            commit_deadline: Period::from_secs(1),
            unknown: Unknown::Hold,
            on_store_error: OnStoreError::Closed,
            on_concurrent: OnConcurrent::Conflict,
            max_wait: Period::from_secs(5),
            max_waiters: 64,
            upstream_idempotent: false,
            stored_body: ByteSize::kib(256),
            stored_headers: ByteSize::kib(16),
            fingerprint: Fingerprints::Full,
            fingerprint_body: ByteSize::kib(1 << 10),
            fingerprint_headers: FINGERPRINT_HEADERS.map(str::to_owned).into(),
            on_5xx: On5xx::Store,
            store_statuses: Vec::new(),
            release_statuses: Vec::new(),
            unknown_statuses: Vec::new(),
            upstream_conflict: None,
            stale_keys: StaleKeys::TreatAsNew,
            probe: None,
            allow_set_cookie: false,
            honor_no_store: false,
            peer: Peer::Learned,
            docs: None,
        }
    }
}

impl Default for UpstreamConflict {
    fn default() -> Self {
        Self { status: 409, header: None, contains: None }
    }
}

impl Settings {
    /// Whether requests of this method are covered.
    #[must_use]
    pub fn covers(&self, method: &str) -> bool {
        self.methods.iter().any(|covered| covered == method)
    }

    /// The lease of a request whose whole time is `total`, as a store takes it.
    #[must_use]
    pub fn lease(&self, total: Option<Duration>) -> Duration {
        let derived =
            || total.map_or(LONGEST_LEASE.get(), |total| total.saturating_add(LEASE_MARGIN));
        let wanted = self.lease.map_or_else(derived, Period::get);
        wanted.clamp(SHORTEST_LEASE.get(), LONGEST_LEASE.get())
    }

    /// How long an answer is still waited for after its caller has gone or given up, in a route
    /// whose requests may take `total`.
    #[must_use]
    pub fn late_result_window(&self, total: Option<Duration>) -> Duration {
        let wanted = self.late_result_window.map(Period::get).or(total);
        wanted.unwrap_or(LONGEST_LEASE.get()).min(LONGEST_LEASE.get())
    }

    /// How long records are kept, as a store takes it.
    #[must_use]
    pub fn retention(&self) -> Retention {
        let unknown = match self.unknown_ttl {
            Forget::After(period) => millis(period),
            Forget::Never => NEVER,
        };
        Retention { body: millis(self.ttl), key: millis(self.key_ttl), unknown }
    }
}

fn millis(period: Period) -> u64 {
    u64::try_from(period.as_millis()).unwrap_or(u64::MAX)
}

impl FromStr for Source {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("header", name)) if !name.is_empty() => {
                Ok(Self::Header(name.to_ascii_lowercase()))
            }
            Some(("jwt", _)) => Err(format!(
                "`{text}` is not available: this proxy verifies no tokens, and the claims of one \
                 that nobody has verified are anybody's; let the hop that verifies it set a field, \
                 and write header:<name>"
            )),
            None if text == "authorization" => Ok(Self::Authorization),
            None if text == "mtls.san" => Ok(Self::MtlsSan),
            None if text == "none" => Ok(Self::Nobody),
            _ => Err(format!("`{text}` is not header:<name>, authorization, mtls.san or none")),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Authorization => f.write_str("authorization"),
            Self::MtlsSan => f.write_str("mtls.san"),
            Self::Nobody => f.write_str("none"),
        }
    }
}

impl FromStr for Forget {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "never" {
            return Ok(Self::Never);
        }
        text.parse().map(Self::After).map_err(|why: String| format!("{why}, or never"))
    }
}

impl fmt::Display for Forget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::After(period) => period.fmt(f),
            Self::Never => f.write_str("never"),
        }
    }
}

text_value!(
    Source,
    "IdempotencySource",
    r"^(header:.+|authorization|mtls\.san|none)$",
    "whose a request is, such as header:x-tenant, authorization, mtls.san or none"
);
text_value!(
    Forget,
    "Forget",
    r"^([0-9.]+(us|ms|s|m|h)|0|never)$",
    "a length of time such as 168h, or never",
    0..=0
);

#[cfg(test)]
mod tests;
