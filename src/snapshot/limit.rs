//! The rate limiter of a route, on the process's clock.

use std::sync::Arc;
use std::time::Duration;

use governor::clock::Clock;

use crate::clock;
use crate::policy::rate_limit::{Limiter, Settings, Turn, Verdict};

/// The process's clock in the shape that the limiter asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessClock;

impl Clock for ProcessClock {
    type Instant = std::time::Instant;
    fn now(&self) -> Self::Instant {
        clock::now()
    }
}

/// The limiter of a route.
pub type RouteLimiter = Limiter<ProcessClock>;

/// A turn that a request waits for. Dropped before it has come, it is given back where that makes
/// nobody go faster than the rate.
pub struct Reserved {
    limiter: Arc<RouteLimiter>,
    turn: Option<Turn>,
    /// How long it is until the turn comes.
    pub wait: Duration,
}

impl Reserved {
    /// Asks for one request that has only so much time: `Ok(None)` = it goes now; else how long
    /// until it could.
    ///
    /// # Errors
    /// How long it would have to wait, where that is too long.
    pub fn ask(
        limiter: &Arc<RouteLimiter>,
        s: &Settings,
        key: Option<&str>,
        time: Duration,
    ) -> Result<Option<Self>, Duration> {
        match limiter.ask(s, key, time) {
            (Verdict::Refused { retry_after }, _) => Err(retry_after),
            (Verdict::Wait(wait), Some(turn)) => {
                limiter.waits();
                Ok(Some(Self { limiter: Arc::clone(limiter), turn: Some(turn), wait }))
            }
            _ => Ok(None),
        }
    }

    /// The turn has come, and is used.
    pub fn came(mut self) {
        if let Some(turn) = self.turn.take() {
            self.limiter.waited(turn, true);
        }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.limiter.waited(turn, false);
        }
    }
}
