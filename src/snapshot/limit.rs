//! The rate limiter of a route, on the process's clock.

use governor::clock::Clock;

use crate::clock;
use crate::policy::rate_limit::Limiter;

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
