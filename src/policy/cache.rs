//! The last good answers of a route, for the moment when its upstream fails.
//!
//! Not a cache that saves requests: every request goes to the upstream, and what is kept here
//! stands in only when no good answer comes back (`stale-if-error`, RFC 5861, 4, for connect errors
//! and our own refusals too). The machines: [`directives`] reads `Cache-Control`, [`freshness`]
//! says whether an answer may be kept and used (RFC 9111, 3 and 4), [`validators`] whether a 304
//! speaks of it, [`reference`] which URI a field of an answer names, and [`store`] keeps answers by
//! URI and `Vary` within a bound of bytes. What an answer is made of is its caller's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, Period};

pub mod directives;
pub mod freshness;
pub mod reference;
pub mod store;
#[cfg(test)]
mod tests;
pub mod validators;

/// Which good answers are kept, how many of them, and for how long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Cache")]
pub struct Settings {
    /// How long past its freshness an answer may stand in for a failure. An answer without
    /// `max-age` or `Expires` is fresh for no time at all; its own `stale-if-error` can only make
    /// this shorter.
    pub stale_if_error: Period,
    /// The most bytes that are kept, each answer's head and bookkeeping included. The answers that
    /// were not used for the longest time make room.
    pub max_bytes: ByteSize,
    /// The largest body that is kept: one answer must not displace all others, and each answer that
    /// is on its way is copied up to this.
    pub max_body: ByteSize,
    /// Header fields of requests by which answers differ although their `Vary` does not say so,
    /// such as the name of a tenant.
    pub vary: Vec<String>,
    /// Whether equal GETs in flight share one exchange with the upstream.
    pub coalesce: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            stale_if_error: Period::from_secs(300),
            max_bytes: ByteSize::kib(16 << 10),
            max_body: ByteSize::kib(1 << 10),
            vary: Vec::new(),
            coalesce: false,
        }
    }
}
