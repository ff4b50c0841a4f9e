//! The numbers of one listener.

use super::cell::{Counter, Level};
use super::children::{Emit, count};
use super::family::Family;
use super::proxy_header::HeadersIn;
use super::samples::Samples;
use super::tls::HandshakesIn;
use crate::policy::flood::Flood;
use crate::telemetry::reason::Reason;

/// The numbers of a listener.
#[derive(Debug)]
pub struct ListenerMetrics {
    /// Open connections.
    pub connections: Level,
    /// Connections that were accepted.
    pub accepted: Counter,
    /// The most connections that may be open.
    pub connection_limit: Level,
    /// How its TLS handshakes ended.
    pub handshakes: HandshakesIn,
    /// What came of the headers of the PROXY protocol that it demands.
    pub proxy_headers: HeadersIn,
    reasons: [Counter; Reason::COUNT],
    floods: [Counter; Flood::ALL.len()],
}

impl Default for ListenerMetrics {
    fn default() -> Self {
        Self {
            connections: Level::default(),
            accepted: Counter::default(),
            connection_limit: Level::default(),
            handshakes: HandshakesIn::default(),
            proxy_headers: HeadersIn::default(),
            reasons: std::array::from_fn(|_| Counter::default()),
            floods: Default::default(),
        }
    }
}

impl ListenerMetrics {
    /// Counts a request that was answered, or broken off, before a route was chosen.
    pub fn reason(&self, reason: Reason) {
        count(&self.reasons, reason.index());
    }

    /// Counts a connection that was ended because its client sent too many frames of a kind.
    pub fn flood(&self, flood: Flood) {
        count(&self.floods, flood as usize);
    }
}

impl Emit for ListenerMetrics {
    fn emit(&self, owner: &[&str], samples: &mut Samples) {
        match samples.family() {
            Family::ListenerConnections => {
                samples.gauge(owner, None, self.connections.get() as f64);
            }
            Family::ListenerConnectionsAccepted => {
                samples.counter(owner, None, self.accepted.get() as f64);
            }
            Family::ListenerConnectionLimit => {
                samples.gauge(owner, None, self.connection_limit.get() as f64);
            }
            Family::ListenerFloods => {
                for (counter, flood) in self.floods.iter().zip(Flood::ALL) {
                    samples.occurred(owner, flood.as_str(), counter.get());
                }
            }
            Family::ListenerHandshakes => self.handshakes.emit(owner, samples),
            Family::ListenerProxyHeaders => self.proxy_headers.emit(owner, samples),
            Family::ListenerReasons => {
                for (counter, reason) in self.reasons.iter().zip(Reason::ALL) {
                    samples.occurred(owner, reason.as_str(), counter.get());
                }
            }
            _ => {}
        }
    }
}
