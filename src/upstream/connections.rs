//! The count of open connections to one upstream, of all workers together, and its limit.
//!
//! A waiter counts itself before it looks for a place, and a closing connection frees its place
//! before it looks for waiters; sequential consistency then makes one of the two see the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::Notify;

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
pub struct Place(Arc<Connections>);

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
        taken.ok().map(|_| Place(Arc::clone(self)))
    }

    /// Waits for a place until the instant; `None` when none became free in time.
    pub async fn take(self: &Arc<Self>, limit: usize, until: Instant) -> Option<Place> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiting = Waiting(&self.waiting);
        loop {
            // Registered before the check, so that a place freed in between is not missed.
            let closed = self.closed.notified();
            if let Some(place) = self.try_take(limit) {
                return Some(place);
            }
            clock::until(until, closed).await.ok()?;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        if self.0.wanted() {
            self.0.closed.notify_one();
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
