//! Who opens the one connection to an endpoint that all share, while the others wait.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::Notify;

use super::{Pools, opened};
use crate::clock;
use crate::policy::outcome::End;
use crate::upstream::error::{Cause, Error};

/// A connection that is being opened.
#[derive(Default)]
pub(super) struct Opening {
    over: Notify,
    /// Why it came to nothing, for all who wait for it.
    failure: RefCell<Option<Rc<Cause>>>,
}

/// The right to open; whoever holds it lets the others know when it is over, also when the request
/// that held it is given up.
pub(super) struct Turn<'a, B> {
    pools: &'a Pools<B>,
    endpoint: u64,
    opening: Rc<Opening>,
}

impl<B> Pools<B> {
    /// The right to open a connection to this endpoint, unless somebody else has it.
    pub(super) fn turn(&self, endpoint: u64) -> Option<Turn<'_, B>> {
        let mut openings = self.openings.borrow_mut();
        if openings.contains_key(&endpoint) {
            return None;
        }
        let opening = Rc::new(Opening::default());
        openings.insert(endpoint, Rc::clone(&opening));
        Some(Turn { pools: self, endpoint, opening })
    }
}

impl<B> Turn<'_, B> {
    /// Ends the turn. What went wrong with the endpoint went wrong for all; a time that ran out was
    /// that of one request alone.
    pub(super) fn over<T>(self, result: Result<T, Error>) -> Result<T, Error> {
        result.map_err(|error| {
            if error.end != End::ConnectFailure {
                return error;
            }
            let cause = Rc::new(error.cause);
            *self.opening.failure.borrow_mut() = Some(Rc::clone(&cause));
            Error { cause: Cause::Shared(cause), ..error }
        })
    }

    /// Waits until whoever has the turn is through with it.
    ///
    /// # Errors
    /// When that came to nothing, or not in time.
    pub(super) async fn wait(pools: &Pools<B>, endpoint: u64, by: Instant) -> Result<(), Error> {
        let opening = pools.openings.borrow().get(&endpoint).cloned();
        let Some(opening) = opening else { return Ok(()) };
        let waited = clock::until(by, opening.over.notified()).await;
        let failure = opening.failure.borrow().clone();
        opened(waited.ok().map(|()| match failure {
            Some(cause) => Err(Cause::Shared(cause)),
            None => Ok(()),
        }))
    }
}

impl<B> Drop for Turn<'_, B> {
    fn drop(&mut self) {
        self.pools.openings.borrow_mut().remove(&self.endpoint);
        self.opening.over.notify_waiters();
    }
}
