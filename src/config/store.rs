//! Where Idempotency-Key records live.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, Period};

/// One store: exactly one of its kinds.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// In this process's memory: nothing survives its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// In a file of this process's own: survives crashes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedded: Option<Embedded>,
    /// In Redis or Valkey: shared; may forget in a failover.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Redis>,
    /// In etcd: shared and consistent; refuses where it has no majority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etcd: Option<Etcd>,
    /// Encrypts what is stored of answers (ChaCha20-Poly1305): 32 bytes in base64, from outside
    /// (`${NAME}` or `${file:/path}`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aead_key: Option<String>,
    /// Makes fingerprints a keyed digest (HMAC-SHA-256): 32 bytes in base64, from outside, the same
    /// for all proxies that share the store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint_key: Option<String>,
}

impl Store {
    /// The name of its kind; nothing when it has none, or more than one, which reading refuses.
    #[must_use]
    pub const fn kind(&self) -> Option<&'static str> {
        match (&self.memory, &self.embedded, &self.redis, &self.etcd) {
            (Some(_), None, None, None) => Some("memory"),
            (None, Some(_), None, None) => Some("embedded"),
            (None, None, Some(_), None) => Some("redis"),
            (None, None, None, Some(_)) => Some("etcd"),
            _ => None,
        }
    }

    /// What `aead_key` stands for.
    #[must_use]
    pub fn seal_key(&self) -> Option<[u8; KEY_BYTES]> {
        self.aead_key.as_deref().and_then(key)
    }

    /// What `fingerprint_key` stands for.
    #[must_use]
    pub fn digest_key(&self) -> Option<[u8; KEY_BYTES]> {
        self.fingerprint_key.as_deref().and_then(key)
    }
}

impl fmt::Debug for Store {
    /// Says nothing of the content, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.kind().unwrap_or("?"))
    }
}

impl fmt::Debug for Redis {
    /// Says nothing of the content: the address may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redis")
    }
}

/// How long a key is, in bytes: that of ChaCha20-Poly1305 (RFC 8439) and of SHA-256's output.
pub const KEY_BYTES: usize = 32;

/// A key from base64 (RFC 4648, 4 and 5: either alphabet, padded or not).
pub(super) fn key(text: &str) -> Option<[u8; KEY_BYTES]> {
    let digits = text.trim();
    let digits = digits.strip_suffix('=').unwrap_or(digits).as_bytes();
    if digits.len() != (KEY_BYTES * 8).div_ceil(6) {
        return None;
    }
    let mut bytes = [0; KEY_BYTES];
    let (mut bits, mut held) = (0_u32, 0_u32);
    let mut out = bytes.iter_mut();
    for digit in digits {
        bits = (bits << 6) | u32::from(sextet(*digit)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            *out.next()? = u8::try_from((bits >> held) & 0xff).ok()?;
        }
        bits &= 0xff;
    }
    // What is left over is not a part of the key, and says so by being 0.
    (bits & ((1 << held) - 1) == 0).then_some(bytes)
}

const fn sextet(digit: u8) -> Option<u8> {
    match digit {
        b'A'..=b'Z' => Some(digit - b'A'),
        b'a'..=b'z' => Some(digit - b'a' + 26),
        b'0'..=b'9' => Some(digit - b'0' + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

/// A store in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// The most records.
    pub max_entries: u32,
    /// The most that they may take.
    pub max_bytes: ByteSize,
}

impl Default for Memory {
    fn default() -> Self {
        Self { max_entries: 10_000, max_bytes: ByteSize::kib(64 << 10) }
    }
}

/// A store in a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Embedded {
    /// The file; its directory must exist. One process at a time. Required.
    pub path: PathBuf,
    /// The most that it may take.
    #[serde(default = "one_gib")]
    pub max_bytes: ByteSize,
    /// Commit in two phases, for files that somebody else might damage on purpose; about twice the
    /// latency.
    #[serde(default)]
    pub paranoid: bool,
}

const fn one_gib() -> ByteSize {
    ByteSize::kib(1 << 20)
}

/// A store in Redis or Valkey.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// `redis://`, `rediss://` (TLS) or `unix:` with the address; several, separated by commas, are
    /// a cluster's nodes, or sentinels when `sentinel` is given. Required.
    pub url: String,
    /// The name of the primary that the sentinels at `url` know.
    #[serde(default)]
    pub sentinel: Option<String>,
    /// The PEM file of the authorities that the server's certificate is checked against; null =
    /// public roots.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// How many replicas must have a claim or a result before it counts.
    #[serde(default)]
    pub wait_replicas: u32,
    /// How long one operation may take.
    #[serde(default = "quarter_second")]
    pub op_timeout: Period,
    /// Refuse new claims for some seconds after a failover, until every proxy has put its live ones
    /// back.
    #[serde(default = "yes")]
    pub failover_guard: bool,
    /// What names of records begin with.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// The file of results that could not be stored in time; null = they are only kept in memory.
    #[serde(default)]
    pub spool: Option<PathBuf>,
}

/// A store in etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Etcd {
    /// The members: `http://host:port` or `https://host:port`. Required.
    pub endpoints: Vec<String>,
    /// The PEM file of the authorities that the members' certificates are checked against.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// How long one operation may take.
    #[serde(default = "quarter_second")]
    pub op_timeout: Period,
    /// What names of records begin with.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// The file of results that could not be stored in time; null = they are only kept in memory.
    #[serde(default)]
    pub spool: Option<PathBuf>,
}

const fn quarter_second() -> Period {
    Period::from_millis(250)
}

const fn yes() -> bool {
    true
}

fn prefix() -> String {
    "outrigger:".to_owned()
}

#[cfg(test)]
mod tests;
