//! What goes wrong when: a list of phases that is gone through again and again.

use std::time::Duration;

/// How many endpoints the service has that is broken on schedule.
pub const ENDPOINTS: usize = 3;

/// What an endpoint does instead of answering well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It answers 503 at once.
    Fails,
    /// It takes requests and says nothing until the phase is over.
    Hangs,
    /// It resets the connection.
    Resets,
    /// It answers well after this time.
    Slow(Duration),
}

/// A length of time in which the same things go wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// How long it lasts.
    pub lasts: Duration,
    /// What happens, in words.
    pub what: &'static str,
    /// What each endpoint does; `None` = it answers well.
    pub troubles: [Option<Trouble>; ENDPOINTS],
}

/// The phases, one after another and from the start again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    phases: Vec<Phase>,
}

/// Where in the schedule a moment lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment<'a> {
    /// The phase that is under way.
    pub phase: &'a Phase,
    /// How long it still lasts.
    pub left: Duration,
    /// The phase after it.
    pub next: &'a Phase,
}

impl Schedule {
    /// A schedule of these phases; `None` when they last no time at all.
    #[must_use]
    pub fn new(phases: Vec<Phase>) -> Option<Self> {
        let phases: Vec<_> = phases.into_iter().filter(|phase| !phase.lasts.is_zero()).collect();
        (!phases.is_empty()).then_some(Self { phases })
    }

    /// The schedule of the demo: one endpoint after another fails in its own way, then the whole
    /// service, and there is time to see it come back.
    #[must_use]
    pub fn standard() -> Self {
        use Trouble::{Fails, Hangs, Resets, Slow};
        let slow = Some(Slow(Duration::from_millis(150)));
        let phase = |seconds, what, troubles| {
            let lasts = Duration::from_secs(seconds);
            Phase { lasts, what, troubles }
        };
        let phases = vec![
            phase(5, "all is well", [None; ENDPOINTS]),
            phase(6, "orders-1 takes 150 ms", [slow, None, None]),
            phase(6, "orders-2 answers 503 within 1 ms", [None, Some(Fails), None]),
            phase(6, "orders-3 takes requests and never answers", [None, None, Some(Hangs)]),
            phase(6, "orders-1 resets its connections", [Some(Resets), None, None]),
            phase(6, "orders is down: all three answer 503", [Some(Fails); ENDPOINTS]),
            phase(5, "orders is back, all is well", [None; ENDPOINTS]),
        ];
        Self { phases }
    }

    /// What goes on this long after the start.
    #[must_use]
    pub fn at(&self, since_start: Duration) -> Option<Moment<'_>> {
        let round: Duration = self.phases.iter().map(|phase| phase.lasts).sum();
        let nanos = since_start.as_nanos().checked_rem(round.as_nanos())?;
        let mut into = Duration::from_nanos(u64::try_from(nanos).ok()?);
        for (phase, next) in self.phases.iter().zip(self.phases.iter().cycle().skip(1)) {
            if into < phase.lasts {
                return Some(Moment { phase, left: phase.lasts - into, next });
            }
            into -= phase.lasts;
        }
        None
    }
}

#[cfg(test)]
mod tests;
