//! The only clock. Everything above reads time here, everything below takes it as an argument.
//!
//! Reading through tokio keeps paused-time tests honest; it costs the same as the plain read.
#![expect(clippy::disallowed_methods, reason = "this is the file that the ban points to")]

use std::future::Future;
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
