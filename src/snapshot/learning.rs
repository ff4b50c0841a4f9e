//! The rate of one route that is learned from its upstream, shared by the workers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::policy::learned_rate::{Answer, End, LearnedRate, Ticket, View};
use crate::policy::rate_limit::Settings;
use crate::shared::Shared;
use crate::telemetry::metrics::LearnedMetrics;

/// A learned rate with its metrics.
pub struct Learning {
    machine: Shared<LearnedRate>,
    metrics: Arc<LearnedMetrics>,
}

/// The answer to a request.
pub enum Asked {
    /// It goes now.
    Pass,
    /// It has a place in the line.
    Wait(Place),
    /// It does not go; its turn would come after this time.
    Refused(Duration),
}

/// A place in the line, left when this is dropped. The ones behind it move up then.
pub struct Place {
    learning: Arc<Learning>,
    /// There is none any more when the turn has come, or never will.
    ticket: Option<Ticket>,
    /// How long to sleep before asking again.
    pub sleep: Duration,
}

impl Learning {
    /// One that knows nothing.
    #[must_use]
    pub fn new(metrics: Arc<LearnedMetrics>, now: Instant) -> Self {
        Self { machine: Shared::new(LearnedRate::new(now)), metrics }
    }

    /// Asks for one request that may wait so long.
    pub fn ask(self: &Arc<Self>, s: &Settings, patience: Duration, now: Instant) -> Asked {
        let answer = self.machine.lock().ask(&s.bounds(), patience, now);
        match answer {
            Answer::Pass => Asked::Pass,
            Answer::Refused(wait) => Asked::Refused(wait),
            Answer::Wait(ticket, sleep) => {
                let learning = Arc::clone(self);
                Asked::Wait(Place { learning, ticket: Some(ticket), sleep })
            }
        }
    }

    /// Asks for one request that goes whatever the answer is; whether it would have been held back.
    pub fn observe(&self, s: &Settings, now: Instant) -> bool {
        let mut machine = self.machine.lock();
        let held_back = machine.ask(&s.bounds(), Duration::ZERO, now) != Answer::Pass;
        if held_back {
            machine.sent_anyway(now);
        }
        held_back
    }

    /// Asks for a further attempt of a request; `false` = it must not be made.
    #[must_use]
    pub fn again(&self, s: &Settings, now: Instant) -> bool {
        self.machine.lock().again(&s.bounds(), now)
    }

    /// Learns from the end of an attempt that brought an answer.
    pub fn ended(&self, s: &Settings, end: &End, now: Instant) {
        if end.throttled {
            self.metrics.throttles.inc();
        }
        self.machine.lock().ended(&s.bounds(), end, now);
    }

    /// What is known, for operators.
    #[must_use]
    pub fn view(&self, s: &Settings, now: Instant) -> View {
        self.machine.lock().view(&s.bounds(), now)
    }

    /// Sets the gauges.
    pub fn measure(&self, s: &Settings, now: Instant) {
        let view = self.view(s, now);
        self.metrics.rate.set(view.rate.unwrap_or(0.0));
        self.metrics.waiting.set(view.waiting);
    }
}

impl Place {
    /// Asks again after the sleep, for one that may wait so much longer.
    #[must_use]
    pub fn turn(mut self, s: &Settings, patience: Duration, now: Instant) -> Asked {
        let Some(ticket) = self.ticket.take() else { return Asked::Pass };
        let answer = self.learning.machine.lock().turn(&s.bounds(), ticket, patience, now);
        match answer {
            Answer::Pass => Asked::Pass,
            Answer::Refused(wait) => Asked::Refused(wait),
            Answer::Wait(ticket, sleep) => {
                self.ticket = Some(ticket);
                self.sleep = sleep;
                Asked::Wait(self)
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.learning.machine.lock().leave(ticket);
        }
    }
}
