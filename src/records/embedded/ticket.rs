//! A question on its way to a thread, and its answer on the way back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::clock;
use crate::records::{Cause, Fault, Kind, Reply};

/// Not yet looked at.
const WAITING: u8 = 0;
/// The thread is at it: it will be done.
const TAKEN: u8 = 1;
/// Who asked has gone: it will not be done.
const GIVEN_UP: u8 = 2;

/// The thread's end.
#[derive(Debug)]
pub(in crate::records) struct Ticket<T> {
    answer: oneshot::Sender<Result<T, Fault>>,
    state: Arc<AtomicU8>,
    deadline: Instant,
}

impl<T> Ticket<T> {
    /// Begins with it, unless nobody waits for it any more or there is no time left.
    pub(in crate::records) fn take(self, now: Instant) -> Option<Self> {
        if now >= self.deadline {
            self.refuse(too_late());
            return None;
        }
        let order = Ordering::AcqRel;
        self.state.compare_exchange(WAITING, TAKEN, order, Ordering::Acquire).ok().map(|_| self)
    }

    pub(in crate::records) fn answer(self, answer: Result<T, Fault>) {
        // Nobody may be there to hear it.
        let _ = self.answer.send(answer);
    }

    /// It was not done.
    pub(in crate::records) fn refuse(self, cause: Cause) {
        self.answer(Err(Fault::NotApplied(cause)));
    }
}

/// The end of who asked. What has not been begun when this is dropped is not done.
struct Waiting<T> {
    answer: oneshot::Receiver<Result<T, Fault>>,
    state: Arc<AtomicU8>,
}

impl<T> Waiting<T> {
    /// Whether the thread has not begun, and now will not.
    fn give_up(&self) -> bool {
        let order = Ordering::AcqRel;
        let before = self.state.compare_exchange(WAITING, GIVEN_UP, order, Ordering::Acquire);
        matches!(before, Ok(_) | Err(GIVEN_UP))
    }
}

impl<T> Drop for Waiting<T> {
    fn drop(&mut self) {
        self.give_up();
    }
}

fn too_late() -> Cause {
    Cause::new(Kind::Timeout, "the deadline passed before the store came to it")
}

/// An answer that is there already.
pub(in crate::records) fn at_once<T: Send + 'static>(answer: Result<T, Fault>) -> Reply<T> {
    Box::pin(std::future::ready(answer))
}

/// Asks a thread. The question is on its way when this returns; `changes` says whether it may
/// change anything, so that an answer that is lost leaves a doubt.
pub(in crate::records) fn ask<T: Send + 'static, Q>(
    thread: &SyncSender<Q>,
    deadline: Instant,
    changes: bool,
    question: impl FnOnce(Ticket<T>) -> Q,
) -> Reply<T> {
    if clock::now() >= deadline {
        return at_once(Err(Fault::NotApplied(too_late())));
    }
    let (answer, heard) = oneshot::channel();
    let state = Arc::new(AtomicU8::new(WAITING));
    let waiting = Waiting { answer: heard, state: Arc::clone(&state) };
    let refused = match thread.try_send(question(Ticket { answer, state, deadline })) {
        Ok(()) => return Box::pin(hear(waiting, deadline, changes)),
        Err(TrySendError::Full(_)) => {
            Cause::new(Kind::Busy, "more is being asked of the store than it can write")
        }
        Err(TrySendError::Disconnected(_)) => Cause::new(Kind::Unreachable, "the store is closed"),
    };
    at_once(Err(Fault::NotApplied(refused)))
}

async fn hear<T>(mut waiting: Waiting<T>, deadline: Instant, changes: bool) -> Result<T, Fault> {
    let doubt = |kind, detail| {
        let cause = Cause::new(kind, detail);
        if changes { Fault::Ambiguous(cause) } else { Fault::NotApplied(cause) }
    };
    match clock::until(deadline, &mut waiting.answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err(doubt(Kind::Io, "the store's thread ended in the middle of it")),
        Err(_) if waiting.give_up() => Err(Fault::NotApplied(too_late())),
        Err(_) => Err(doubt(Kind::Timeout, "the disk has not finished in time")),
    }
}

#[cfg(test)]
mod tests;
