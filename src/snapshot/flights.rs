//! Equal GETs in flight that share one exchange with the upstream.
//!
//! The first of them leads, the others wait for its whole answer. When it fails, one of those that
//! wait leads next, so that a failure does not let all of them loose at once; when its answer turns
//! out to be for nobody else, they all go themselves, for no later answer will be either. Across
//! all workers: the map's shards are locked for one step each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::watch;

use super::cache::Kept;
use crate::policy::cache::store::Selecting;

/// The most requests that wait for one exchange; more go themselves. Each holds its memory and its
/// place in whatever bounds requests, and all are answered in the same moment.
const WAITERS_MAX: usize = 1024;

/// What became of a shared exchange.
#[derive(Clone, Debug)]
pub enum Landing {
    /// A whole answer that others may have, and the fields that must agree.
    Answer(Arc<Kept>, Arc<Selecting>),
    /// An answer for the leader alone.
    Unshared,
    /// No good answer.
    Failed,
}

/// An exchange that goes on.
#[derive(Debug)]
struct Flight {
    landing: watch::Sender<Option<Landing>>,
    waiters: AtomicUsize,
}

/// The exchanges by key.
#[derive(Debug, Default)]
pub struct Flights(DashMap<Arc<str>, Arc<Flight>, foldhash::fast::RandomState>);

/// What a request is to do.
pub enum Turn {
    /// Go, and tell the others.
    Lead(Leader),
    /// Wait for the one that went.
    Wait(Waiter),
    /// Go for itself: too many wait already.
    Alone,
}

/// The request that went. Dropped, it has failed.
pub struct Leader {
    flights: Arc<Flights>,
    key: Arc<str>,
    flight: Arc<Flight>,
}

/// A request that waits.
pub struct Waiter {
    flight: Arc<Flight>,
    landing: watch::Receiver<Option<Landing>>,
}

impl Flights {
    /// Joins the exchange of a key, or begins one. One that was waited for in vain is left behind:
    /// the first to do so leads a new one.
    pub fn join(self: &Arc<Self>, key: &str, in_vain: Option<&Waiter>) -> Turn {
        match self.0.entry(key.into()) {
            Entry::Vacant(place) => {
                let key = Arc::clone(place.key());
                let flight = Arc::new(Flight::new());
                place.insert(Arc::clone(&flight));
                Turn::Lead(Leader { flights: Arc::clone(self), key, flight })
            }
            Entry::Occupied(mut place) => {
                if in_vain.is_some_and(|waiter| Arc::ptr_eq(&waiter.flight, place.get())) {
                    let key = Arc::clone(place.key());
                    let flight = Arc::new(Flight::new());
                    place.insert(Arc::clone(&flight));
                    return Turn::Lead(Leader { flights: Arc::clone(self), key, flight });
                }
                let flight = Arc::clone(place.get());
                // Counted before the check, so that many at once cannot pass it together; the
                // waiter gives it back.
                let before = flight.waiters.fetch_add(1, Ordering::Relaxed);
                let landing = flight.landing.subscribe();
                let waiter = Waiter { flight, landing };
                if before < WAITERS_MAX { Turn::Wait(waiter) } else { Turn::Alone }
            }
        }
    }
}

impl Flights {
    /// How many requests wait for others now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.iter().map(|flight| flight.waiters.load(Ordering::Relaxed)).sum()
    }
}

impl Flight {
    fn new() -> Self {
        Self { landing: watch::Sender::new(None), waiters: AtomicUsize::new(0) }
    }
}

impl Leader {
    /// Tells those that wait. Whoever comes from here on begins a new exchange.
    pub fn land(self, landing: Landing) {
        self.tell(landing);
    }

    fn tell(&self, landing: Landing) {
        self.flights.0.remove_if(&self.key, |_, flight| Arc::ptr_eq(flight, &self.flight));
        self.flight.landing.send_if_modified(|told| {
            let first = told.is_none();
            if first {
                *told = Some(landing);
            }
            first
        });
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.tell(Landing::Failed);
    }
}

impl Waiter {
    /// Waits for the end of the exchange.
    pub async fn landing(&mut self) -> Landing {
        let landed = self.landing.wait_for(Option::is_some).await;
        // The sender lives in the flight, which this holds.
        landed.ok().and_then(|landing| landing.clone()).unwrap_or(Landing::Failed)
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.flight.waiters.fetch_sub(1, Ordering::Relaxed);
    }
}
