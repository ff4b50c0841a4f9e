//! The count of open connections to one upstream, of all workers together, and its limit.
//!
//! A waiter counts itself before it looks for a place, and a closing connection frees its place
//! before it looks for waiters; sequential consistency then makes one of the two see the other.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

use super::own::Connected;
use crate::clock;

/// How many connections are open, and who waits for one to close.
#[derive(Debug, Default)]
pub struct Connections {
    open: AtomicUsize,
    waiting: AtomicUsize,
    closed: Notify,
}

/// One open connection; its place is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    /// How we know our own connection when it comes back to us.
    own: Option<Connected>,
}

impl Place {
    /// Keeps the note of the connection for as long as the place is taken.
    pub fn keep(&mut self, own: Option<Connected>) {
        self.own = own;
    }
}

/// Counts a waiter for as long as it waits, however the wait ends.
struct Waiting<'a>(&'a AtomicUsize);

impl Connections {
    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// Whether somebody waits for a place, so that an idle connection had better be closed.
    pub fn wanted(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// Takes a place if there is one under the limit.
    pub fn try_take(self: &Arc<Self>, limit: usize) -> Option<Place> {
        let below = |open: usize| (open < limit).then_some(open + 1);
        let taken = self.open.fetch_update(Ordering::SeqCst, Ordering::SeqCst, below);
        taken.ok().map(|_| Place { connections: Arc::clone(self), own: None })
    }

    /// Waits for a place until the instant; `None` when none became free in time.
    pub async fn take(self: &Arc<Self>, limit: usize, until: Instant) -> Option<Place> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let waiting = Waiting(&self.waiting);
        loop {
            // In the queue before the check: of two places freed in between, each wakes a waiter
            // of its own. Outside of it both would leave one and the same wake-up behind.
            let mut closed = pin!(self.closed.notified());
            closed.as_mut().enable();
            if let Some(place) = self.try_take(limit) {
                drop(waiting);
                self.pass_on(limit);
                return Some(place);
            }
            clock::until(until, closed).await.ok()?;
        }
    }

    /// Wakes the next waiter when there is room left: that it sleeps all the same must cost nobody
    /// his time, however it came about.
    fn pass_on(&self, limit: usize) {
        if self.wanted() && self.open() < limit {
            self.closed.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::SeqCst);
        if self.connections.wanted() {
            self.connections.closed.notify_one();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
