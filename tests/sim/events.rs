//! What happens next, in the order of time; what happens at once, in the order of scheduling.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Something that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    /// A client comes.
    Arrive,
    /// A wait of a request is over: the limiter's or a backoff.
    Go(usize),
    /// An attempt of a request ends, or its time does.
    Ended { request: usize, attempt: u32 },
    /// The answer's body has been passed on.
    Done(usize),
    /// A client leaves.
    Leave(usize),
    /// Something has become of a request that waits for a place, or its wait is over.
    Called(usize),
    /// Somebody looks at the gates.
    Gauge,
    /// The settings are replaced.
    Reload,
}

/// An event with its time and its place among those of the same time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Due(Duration, u64, Event);

/// Events to come.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Reverse<Due>>,
    serial: u64,
}

impl Queue {
    pub(crate) fn push(&mut self, at: Duration, event: Event) {
        self.serial += 1;
        self.heap.push(Reverse(Due(at, self.serial, event)));
    }

    pub(crate) fn pop(&mut self) -> Option<(Duration, Event)> {
        self.heap.pop().map(|Reverse(Due(at, _, event))| (at, event))
    }
}
