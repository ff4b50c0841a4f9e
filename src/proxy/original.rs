//! Requests on connections that the kernel has redirected here: where they were going, and the
//! proxy's own among them.
//!
//! The destination is the kernel's word alone. Nothing in a request names it, so that no client can
//! make the proxy connect to where it could not itself.

use std::sync::Arc;
use std::time::Instant;

use super::context::Context;
use super::peer::Peer;
use crate::telemetry::reason::Reason;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::{Upstream, own};

/// Refuses what the proxy itself has sent: a rule of the kernel that spares it is missing, and the
/// request would go round for ever.
///
/// # Errors
/// When the client is this process.
pub fn not_ourselves(peer: &Peer) -> Result<(), Reason> {
    match peer.ends.client {
        Some(client) if peer.ends.redirected && own::is_client(client) => {
            // Kept, it would lead back here when the rules have long been put right.
            peer.end_soon();
            Err(Reason::Loop)
        }
        _ => Ok(()),
    }
}

/// The endpoint of a request that brings its destination.
///
/// # Errors
/// When it brings none, when that is the proxy itself, and when there is no room for one more.
pub fn endpoint(ctx: &Context, upstream: &Upstream, now: Instant) -> Result<Arc<Endpoint>, Reason> {
    let ends = &ctx.peer.ends;
    let destination = ends.destination.filter(|_| ends.redirected);
    let destination = destination.ok_or(Reason::NoOriginalDestination)?;
    if own::is_listener(destination) {
        return Err(Reason::Loop);
    }
    let metrics = &ctx.worker.proxy.metrics;
    upstream.reach(destination, metrics, now).ok_or(Reason::NoEndpoint)
}
