//! The process's own sockets, by which it knows its own traffic when a rule of the kernel sends it
//! back: where it listens, and from where it has connected.
//!
//! One list for the process, as sockets are the process's. What it connects from is written down
//! only from the moment on that a listener takes redirected connections.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::shared::Shared;

/// Whether connections may come back.
static MAY_RETURN: AtomicBool = AtomicBool::new(false);
/// Where the process listens. Bounded by the listeners of the configuration.
static LISTENS: Shared<BTreeSet<SocketAddr>> = Shared::new(BTreeSet::new());
/// From where it has connected. Bounded by the limits of the upstreams' connections.
static CONNECTED: Shared<BTreeSet<SocketAddr>> = Shared::new(BTreeSet::new());

/// A connection that the process has made; forgotten when this is dropped.
#[derive(Debug)]
pub struct Connected(SocketAddr);

impl Drop for Connected {
    fn drop(&mut self) {
        CONNECTED.lock().remove(&self.0);
    }
}

/// From now on connections may come back by a rule of the kernel.
pub fn may_return() {
    if !MAY_RETURN.load(Ordering::Relaxed) {
        MAY_RETURN.store(true, Ordering::Relaxed);
    }
}

/// Notes where the process listens.
pub fn listens(address: SocketAddr) {
    LISTENS.lock().insert(canonical(address));
}

/// Notes from where the process has connected, if that can matter.
pub(super) fn connected(from: impl FnOnce() -> Option<SocketAddr>) -> Option<Connected> {
    if !MAY_RETURN.load(Ordering::Relaxed) {
        return None;
    }
    let from = canonical(from()?);
    CONNECTED.lock().insert(from);
    Some(Connected(from))
}

/// Whether a client is the process itself.
#[must_use]
pub fn is_client(address: SocketAddr) -> bool {
    CONNECTED.lock().contains(&canonical(address))
}

/// Whether the process listens at an address, or at its port on every address of a machine that is
/// this one for sure.
#[must_use]
pub fn is_listener(address: SocketAddr) -> bool {
    let address = canonical(address);
    let listens = LISTENS.lock();
    listens.contains(&address)
        || (address.ip().is_loopback()
            && listens.iter().any(|at| at.ip().is_unspecified() && at.port() == address.port()))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests;
