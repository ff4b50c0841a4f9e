//! The numbers of a route's tunnels.

use super::cell::{Counter, Level};
use super::children::{Emit, count};
use super::family::Family;
use super::samples::Samples;
use crate::telemetry::reason::Reason;

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both sides have said that they send no more.
    Closed,
    /// The client broke off, or did not take what was sent to it.
    ClientGone,
    /// The upstream broke off.
    UpstreamCut,
    /// No byte moved for the idle timeout.
    Idle,
    /// The process ended.
    Drained,
}

impl TunnelEnd {
    /// Every end, in the order of declaration.
    pub const ALL: [Self; 5] =
        [Self::Closed, Self::ClientGone, Self::UpstreamCut, Self::Idle, Self::Drained];

    /// Why it was broken off, if it was.
    #[must_use]
    pub const fn reason(self) -> Option<Reason> {
        match self {
            Self::Closed => None,
            Self::ClientGone => Some(Reason::ClientGone),
            Self::UpstreamCut => Some(Reason::UpstreamCut),
            Self::Idle => Some(Reason::TunnelIdle),
            Self::Drained => Some(Reason::TunnelDrained),
        }
    }

    /// The spelling in labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.reason().map_or("closed", Reason::as_str)
    }
}

/// The numbers of a route's tunnels; nothing is shown of a route that never had one.
#[derive(Debug, Default)]
pub struct TunnelMetrics {
    /// Bytes from clients.
    pub up: Counter,
    /// Bytes to clients.
    pub down: Counter,
    open: Level,
    all: Counter,
    ends: [Counter; TunnelEnd::ALL.len()],
}

impl TunnelMetrics {
    /// One more is open.
    pub fn opened(&self) {
        self.all.inc();
        self.open.inc();
    }

    /// One has ended so.
    pub fn ended(&self, end: TunnelEnd) {
        self.open.dec();
        count(&self.ends, end as usize);
    }
}

impl Emit for TunnelMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        match samples.family() {
            Family::TunnelsOpen if self.all.get() > 0 => {
                samples.gauge(owner, None, self.open.get() as f64);
            }
            Family::TunnelBytes => {
                samples.occurred(owner, "up", self.up.get());
                samples.occurred(owner, "down", self.down.get());
            }
            Family::TunnelEnds => {
                for (counter, end) in self.ends.iter().zip(TunnelEnd::ALL) {
                    samples.occurred(owner, end.as_str(), counter.get());
                }
            }
            _ => {}
        }
    }
}
