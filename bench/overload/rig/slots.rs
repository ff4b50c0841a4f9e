//! The work of an upstream: N slots that each serve one request at a time for a fixed time, and a
//! queue before them that has no bound and no order but that of arrival.
//!
//! A slot is a thread that waits on the system's fine timer, since the runtime's timer is coarse
//! against a service time of some milliseconds. A busy slot begins the next request when the last
//! one should have ended, so that late wake-ups do not add up and the capacity is exact.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use outrigger::clock;
use tokio::sync::oneshot;

use super::ledger::{Fate, Ledger};

/// A request that waits or is served. Its client may leave; the work is done all the same.
struct Job {
    service: Duration,
    served: oneshot::Sender<()>,
}

struct State {
    waiting: VecDeque<Job>,
    /// How many slots serve now.
    open: usize,
}

/// The slots and the queue of one upstream.
pub(crate) struct Slots {
    state: Mutex<State>,
    /// A request came.
    arrival: Condvar,
    /// The number of open slots changed.
    opening: Condvar,
    count: usize,
    ledger: Arc<Ledger>,
}

impl Slots {
    /// Starts the slots; their threads end with the process.
    pub(crate) fn start(count: usize, ledger: Arc<Ledger>) -> io::Result<Arc<Self>> {
        let state = Mutex::new(State { waiting: VecDeque::new(), open: count });
        let (arrival, opening) = (Condvar::new(), Condvar::new());
        let slots = Arc::new(Self { state, arrival, opening, count, ledger });
        for place in 0..count {
            let slots = Arc::clone(&slots);
            thread::Builder::new().name("slot".to_owned()).spawn(move || slots.serve(place))?;
        }
        Ok(slots)
    }

    /// Queues one request; the receiver fails when the upstream dies first.
    pub(crate) fn enter(&self, service: Duration) -> oneshot::Receiver<()> {
        let (served, receiver) = oneshot::channel();
        self.lock().waiting.push_back(Job { service, served });
        self.arrival.notify_one();
        receiver
    }

    /// Lets only a share of the slots serve; none of them ends what it has begun before its time.
    pub(crate) fn open(&self, share: f64) {
        self.lock().open = ((self.count as f64 * share).round() as usize).max(1);
        self.arrival.notify_all();
        self.opening.notify_all();
    }

    /// Loses all that waits.
    pub(crate) fn clear(&self) {
        self.lock().waiting.clear();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, place: usize) {
        let mut ended = clock::now();
        loop {
            let (job, waited) = self.next(place);
            let begun = if waited { clock::now() } else { ended };
            ended = begun + job.service;
            wait_until(ended);
            let left = job.served.send(()).is_err();
            self.ledger.count(if left { Fate::Wasted } else { Fate::Done }, clock::now());
        }
    }

    /// The next request for a slot, and whether the slot had to wait for it.
    fn next(&self, place: usize) -> (Job, bool) {
        let (mut state, mut waited) = (self.lock(), false);
        loop {
            let closed = place >= state.open;
            if !closed && let Some(job) = state.waiting.pop_front() {
                return (job, waited);
            }
            waited = true;
            let event = if closed { &self.opening } else { &self.arrival };
            state = event.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Holds the thread until an instant, without burning time.
pub(crate) fn wait_until(at: Instant) {
    loop {
        let left = at.saturating_duration_since(clock::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left);
    }
}
