//! A listener's settings in the form that each of its requests needs.

use super::body::Bounds;
use super::headers::forward::Forwarding;
use super::peer::Peer;
use crate::config::listener::{AmbiguousPaths, Listener, Trust};

/// A listener's settings, compiled once a reload.
pub struct Site {
    /// Whether headers that steer us are believed.
    pub trusted: bool,
    /// Whether absolute-form requests are served.
    pub forward_proxy: bool,
    /// Whether paths are refused that other servers could read as those of another route.
    pub one_reading: bool,
    /// The bounds on request bodies.
    pub bounds: Bounds,
    /// The forwarding fields.
    pub forwarding: Forwarding,
    max_requests: u64,
    header_bytes: usize,
    headers: usize,
}

impl Site {
    /// Compiles a listener's settings.
    ///
    /// # Errors
    /// When a name in them is not valid in a header field.
    pub fn compile(listener: &Listener) -> Result<Self, String> {
        let limits = &listener.limits;
        Ok(Self {
            trusted: listener.trust == Trust::Local,
            forward_proxy: listener.forward_proxy,
            one_reading: listener.ambiguous_paths == AmbiguousPaths::Refuse,
            bounds: Bounds {
                keep_bytes: 0,
                replay_bytes: 0,
                max_bytes: limits.body_bytes.map_or(u64::MAX, super::super::units::ByteSize::get),
                timeout: (*limits.body_timeout),
            },
            forwarding: Forwarding::compile(&listener.forwarded, listener.trust)?,
            header_bytes: limits.header_bytes.as_usize(),
            headers: limits.headers,
            max_requests: limits.max_requests_per_connection.unwrap_or(u64::MAX),
        })
    }

    /// Whether a head has more bytes or fields than the listener takes, counted as they stand on an
    /// HTTP/1.1 wire; `fields` is the bytes of its fields.
    pub fn head_too_large(&self, parts: &http::request::Parts, fields: usize) -> bool {
        let line = parts.method.as_str().len() + parts.uri.path().len();
        let query = parts.uri.query().map_or(0, str::len);
        parts.headers.len() > self.headers || line + query + fields > self.header_bytes
    }

    /// Whether the connection has had its last request.
    pub fn last_request(&self, peer: &Peer) -> bool {
        peer.closing() || peer.activity.served() >= self.max_requests
    }
}
