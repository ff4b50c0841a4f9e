//! The only clock. Everything above reads time here, everything below takes it as an argument.
//!
//! Reading through tokio keeps paused-time tests honest; it costs the same as the plain read.
#![expect(clippy::disallowed_methods, reason = "this is the file that the ban points to")]

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

/// The time now, for everything that measures or waits.
#[must_use]
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The time of day, for header fields and log lines only.
#[must_use]
pub fn wall_now() -> SystemTime {
    SystemTime::now()
}

/// Waits for a length of time.
pub async fn sleep(period: Duration) {
    tokio::time::sleep(period).await;
}

/// Waits until an instant.
pub async fn sleep_until(at: Instant) {
    tokio::time::sleep_until(at.into()).await;
}

/// Runs a future until it is done or the instant has come; an error when the instant came first.
/// Not an `async fn`, which would hold the future twice.
pub fn until<F: Future>(at: Instant, future: F) -> tokio::time::Timeout<F> {
    tokio::time::timeout_at(at.into(), future)
}

/// A timer that is set again and again without being made anew.
#[derive(Debug)]
pub struct Timer(Pin<Box<tokio::time::Sleep>>);

impl Timer {
    /// A timer that rings at this instant.
    #[must_use]
    pub fn at(at: Instant) -> Self {
        Self(Box::pin(tokio::time::sleep_until(at.into())))
    }

    /// Sets it to ring at another instant.
    pub fn set(&mut self, at: Instant) {
        self.0.as_mut().reset(at.into());
    }

    /// Ready when it has rung.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

/// The most timers that are kept: about as many as requests of a thread wait at once.
const KEPT_MAX: usize = 64;

/// Timers of one thread that are used again and again.
///
/// To set a timer that stands in the runtime's wheel to ring later costs next to nothing, since it
/// is moved only when its earlier time comes; to make one and take it out again costs more than all
/// else of a wait that ends in time. The time of a request that follows another is later than that
/// one's, so a kept timer is nearly always set forward. One that nobody uses may wake the task that
/// used it last, once.
#[derive(Debug, Default)]
pub struct Timers(RefCell<Vec<Timer>>);

/// The time came before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Late;

impl Timers {
    /// Runs a future until it is done or the instant has come. No timer is set for one that is done
    /// at once.
    ///
    /// # Errors
    /// When the instant came first.
    pub async fn until<F: Future>(
        &self,
        at: Instant,
        mut future: Pin<&mut F>,
    ) -> Result<F::Output, Late> {
        let mut used = Used { timers: self, timer: None };
        poll_fn(|cx| {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                return Poll::Ready(Ok(output));
            }
            let timer = used.timer.get_or_insert_with(|| self.take(at));
            timer.poll(cx).map(|()| Err(Late))
        })
        .await
    }

    fn take(&self, at: Instant) -> Timer {
        match self.0.borrow_mut().pop() {
            Some(mut timer) => {
                timer.set(at);
                timer
            }
            None => Timer::at(at),
        }
    }
}

/// A timer in use; it is kept when this is dropped.
struct Used<'a> {
    timers: &'a Timers,
    timer: Option<Timer>,
}

impl Drop for Used<'_> {
    fn drop(&mut self) {
        let mut kept = self.timers.0.borrow_mut();
        if let Some(timer) = self.timer.take()
            && kept.len() < KEPT_MAX
        {
            kept.push(timer);
        }
    }
}

#[cfg(test)]
mod tests;
