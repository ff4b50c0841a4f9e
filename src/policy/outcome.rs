//! How one attempt ended: the one description that every policy consumes.
//!
//! An attempt is classified once, where it ended, and the same [`Outcome`] goes to the breaker, the
//! endpoint's ejection and load estimate, the retry decision and the metrics.

use std::time::Duration;

/// What gRPC says in the place of 429.
const RESOURCE_EXHAUSTED: u16 = 8;
/// What gRPC says in the place of 503.
const UNAVAILABLE: u16 = 14;

/// The way in which an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The upstream answered with this status, and, for gRPC, with this `grpc-status`: from the
    /// answer's head, or from its trailers once they have come.
    Answer {
        /// The HTTP status, 200 to 599.
        status: u16,
        /// The gRPC status, when known.
        grpc: Option<u16>,
    },
    /// No connection could be made: refused, unreachable, or the name did not resolve.
    ConnectFailure,
    /// No connection was made in time.
    ConnectTimeout,
    /// The peer said that it did not process the request (HTTP/2 REFUSED_STREAM or GOAWAY).
    Refused,
    /// The connection broke, or the peer's bytes were not HTTP, before the answer's head was whole.
    Reset,
    /// The attempt's own time ran out.
    PerTryTimeout,
    /// The whole request's time ran out during the attempt.
    DeadlineExceeded,
}

/// How one attempt ended, with what the policies need to know of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// True when it is proved that the upstream executed nothing: no byte of the request was
    /// written, or the peer said that it refused the stream.
    pub unsent: bool,
    /// From the start of the attempt to the answer's head or to the failure.
    pub latency: Duration,
    /// How long the peer asked us to wait (`Retry-After`, `grpc-retry-pushback-ms`), if it did.
    pub hint: Option<Hint>,
    /// True when the answer was made by a peer's own overload protection (`x-outrigger-shed`): the
    /// endpoint behind it is not at fault.
    pub peer_shed: bool,
}

/// What the peer said about trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Wait this long first.
    Wait(Duration),
    /// Do not try again (negative or unreadable gRPC push-back).
    Stop,
}

impl Outcome {
    /// The status of the answer, if there was one.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self.end {
            End::Answer { status, .. } => Some(status),
            _ => None,
        }
    }

    /// Whether the peer said that it gets too many requests: 429, or RESOURCE_EXHAUSTED in gRPC.
    #[must_use]
    pub const fn is_throttled(&self) -> bool {
        matches!(
            self.end,
            End::Answer { status: 429, .. } | End::Answer { grpc: Some(RESOURCE_EXHAUSTED), .. }
        )
    }

    /// Whether the peer said that it has too much to do: the same, or 503 or UNAVAILABLE in gRPC.
    #[must_use]
    pub const fn is_overload(&self) -> bool {
        self.is_throttled()
            || matches!(
                self.end,
                End::Answer { status: 503, .. } | End::Answer { grpc: Some(UNAVAILABLE), .. }
            )
    }
}
