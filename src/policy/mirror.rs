//! Which requests are copied to another upstream, and why a copy is not sent?
//!
//! A copy is of a request that was admitted and sent, and is work that nobody waits for: whatever
//! is short, it is the first to be left out. Its limits are its own: a share of the requests, so
//! many at once, and bodies up to a size. A request that was drawn and is not copied is counted
//! with the first [`Skip`] that holds; one that was not drawn is not.
//!
//! Not here: sending, and places of the copies under way, which the route counts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, Ratio};

/// Copies of a route's requests to another upstream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Mirror")]
pub struct Settings {
    /// The upstream that the copies go to; not one that the route's requests go to. Required.
    pub upstream: String,
    /// The share of the requests that is copied.
    #[serde(default = "all")]
    pub share: Ratio,
    /// Requests with larger bodies are not copied. So much is kept in memory of each while it is
    /// served.
    #[serde(default = "small")]
    pub max_body: ByteSize,
    /// How many copies may be under way at once, of all workers together; at least 1.
    #[serde(default = "few")]
    pub max_concurrent: u32,
}

const fn all() -> Ratio {
    Ratio::percent(100)
}

/// As much as is kept for a retry by default, so that a copy by default costs no memory of its own.
const fn small() -> ByteSize {
    ByteSize::kib(64)
}

/// Enough for 160 copies a second of 100 ms each; with bodies of the default size, 1 MiB at most.
const fn few() -> u32 {
    16
}

impl Settings {
    /// Whether a request is drawn; `random` is from `[0, 1)`.
    #[must_use]
    pub fn draws(&self, random: f64) -> bool {
        random < self.share.get()
    }

    /// Whether a copy may begin beside so many that are under way.
    #[must_use]
    pub const fn has_place(&self, under_way: u32) -> bool {
        under_way < self.max_concurrent
    }

    /// Why a drawn request is not copied, as far as the request itself and the proxy tell; nothing
    /// when it may be.
    #[must_use]
    pub const fn skip(&self, request: &Request) -> Option<Skip> {
        if request.is_copy {
            Some(Skip::Copy)
        } else if request.is_retry {
            Some(Skip::Retry)
        } else if request.trial {
            Some(Skip::Trial)
        } else if request.short {
            Some(Skip::Overload)
        } else {
            None
        }
    }
}

/// What a request that was drawn is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request {
    /// It is itself a copy: to copy copies could go in a circle.
    pub is_copy: bool,
    /// Its caller has tried before: the first try was, or could be, copied.
    pub is_retry: bool,
    /// An attempt of it was a trial of a circuit.
    pub trial: bool,
    /// The proxy is short of something, or the mirror has all that it can take from others.
    pub short: bool,
}

/// Why a request that was drawn is not copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It is a copy itself.
    Copy,
    /// It is a retry of its caller's.
    Retry,
    /// It was a trial of a circuit.
    Trial,
    /// The proxy is short of something, or the mirror has enough to do.
    Overload,
    /// Its body is too large, or was not whole when its answer came.
    Body,
    /// Too many copies are under way.
    Cap,
    /// No endpoint of the mirror can be chosen.
    Unhealthy,
}

/// What became of a request that was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The copy was begun; it is counted again at its end.
    Sent,
    /// The copy was answered, with a status below 500.
    Ok,
    /// The copy was not answered in time, or with a server error.
    Failed,
    /// There was none.
    Skipped(Skip),
}

impl Copied {
    /// All, in the order of [`Copied::index`].
    pub const ALL: [Self; 10] = [
        Self::Sent,
        Self::Ok,
        Self::Failed,
        Self::Skipped(Skip::Copy),
        Self::Skipped(Skip::Retry),
        Self::Skipped(Skip::Trial),
        Self::Skipped(Skip::Overload),
        Self::Skipped(Skip::Body),
        Self::Skipped(Skip::Cap),
        Self::Skipped(Skip::Unhealthy),
    ];

    /// Its place in [`Copied::ALL`].
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Sent => 0,
            Self::Ok => 1,
            Self::Failed => 2,
            Self::Skipped(skip) => 3 + skip as usize,
        }
    }

    /// The spelling in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Skipped(Skip::Copy) => "skipped_copy",
            Self::Skipped(Skip::Retry) => "skipped_retry",
            Self::Skipped(Skip::Trial) => "skipped_trial",
            Self::Skipped(Skip::Overload) => "skipped_overload",
            Self::Skipped(Skip::Body) => "skipped_body",
            Self::Skipped(Skip::Cap) => "skipped_cap",
            Self::Skipped(Skip::Unhealthy) => "skipped_unhealthy",
        }
    }
}

#[cfg(test)]
mod tests;
