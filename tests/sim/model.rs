//! The upstream as a model: endpoints that work on a few requests at once and queue the others.

use std::time::Duration;

use fastrand::Rng;
use outrigger::policy::outcome::{End, Hint};

use super::scenario::{Does, Scenario};

/// A refusal, or an answer that needs no work, takes this long.
const AT_ONCE: Duration = Duration::from_millis(1);

/// The endpoints.
pub(crate) struct Model {
    /// When each place of each endpoint is free again.
    places: Vec<Vec<Duration>>,
    /// The restarts that have emptied the queue of each endpoint, as far as they have been seen.
    restarted: Vec<Option<Duration>>,
}

/// What will come of an attempt, if it is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) end: End,
    pub(crate) unsent: bool,
    pub(crate) hint: Option<Hint>,
    pub(crate) shed: bool,
}

impl Sent {
    fn plain(at: Duration, end: End) -> Self {
        Self { at, end, unsent: false, hint: None, shed: false }
    }

    fn unsent(at: Duration, end: End) -> Self {
        Self { unsent: true, ..Self::plain(at, end) }
    }

    fn status(at: Duration, status: u16) -> Self {
        Self::plain(at, End::Answer { status, grpc: None })
    }
}

impl Model {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let places = vec![Duration::ZERO; scenario.service.at_once];
        Self { places: vec![places; scenario.endpoints], restarted: vec![None; scenario.endpoints] }
    }

    /// Sends an attempt. A connection must be there by `connect_by`.
    pub(crate) fn send(
        &mut self,
        scenario: &Scenario,
        endpoint: usize,
        now: Duration,
        connect_by: Duration,
        rng: &mut Rng,
    ) -> Sent {
        for fault in scenario.faults.iter().filter(|fault| fault.active(endpoint, now)) {
            let at = now + AT_ONCE;
            match &fault.does {
                Does::Refuse | Does::Restart => return Sent::unsent(at, End::ConnectFailure),
                Does::Vanish => return Sent::unsent(connect_by, End::ConnectTimeout),
                Does::Errors { status, share, retry_after } if rng.f64() < *share => {
                    let hint = retry_after.map(|wait| Hint::Wait(*wait));
                    return Sent { hint, ..Sent::status(at, *status) };
                }
                Does::Resets { share } if rng.f64() < *share => {
                    return Sent::plain(now + scenario.service.time.mul_f64(rng.f64()), End::Reset);
                }
                Does::Streams { share } if rng.f64() < *share => {
                    return Sent::unsent(at, End::Refused);
                }
                Does::Shed { share } if rng.f64() < *share => {
                    return Sent { shed: true, ..Sent::status(at, 503) };
                }
                _ => {}
            }
        }
        self.work(scenario, endpoint, now, rng)
    }

    fn work(&mut self, scenario: &Scenario, endpoint: usize, now: Duration, rng: &mut Rng) -> Sent {
        self.restart(scenario, endpoint, now);
        let place = self.places[endpoint].iter_mut().min().expect("a place");
        let begin = thawed(scenario, endpoint, now.max(*place));
        if begin - now > *scenario.service.backlog {
            return Sent::status(now + AT_ONCE, 503);
        }
        let slow: f64 = scenario
            .faults
            .iter()
            .filter(|fault| fault.active(endpoint, begin))
            .map(|fault| if let Does::Slow { factor } = fault.does { factor } else { 1.0 })
            .product();
        // Half of the time is fixed, the other half is exponential.
        let spread = 0.5 + 0.5 * exponential(rng);
        let end = begin + scenario.service.time.mul_f64(slow * spread);
        let end = thawed(scenario, endpoint, end);
        *place = end;
        match restart_within(scenario, endpoint, now, end) {
            Some(at) => Sent::plain(at, End::Reset),
            None => Sent::status(end, 200),
        }
    }

    /// Forgets the queue if there was a restart since the last request.
    fn restart(&mut self, scenario: &Scenario, endpoint: usize, now: Duration) {
        let seen = self.restarted[endpoint].unwrap_or_default();
        if let Some(at) = restart_within(scenario, endpoint, seen, now) {
            self.restarted[endpoint] = Some(at);
            self.places[endpoint].fill(Duration::ZERO);
        }
    }
}

/// The time at which an endpoint that hangs goes on.
fn thawed(scenario: &Scenario, endpoint: usize, at: Duration) -> Duration {
    let hangs = scenario.faults.iter().filter(|fault| matches!(fault.does, Does::Hang));
    hangs.filter_map(|fault| fault.active_until(endpoint, at)).fold(at, Duration::max)
}

fn restart_within(s: &Scenario, endpoint: usize, from: Duration, to: Duration) -> Option<Duration> {
    let restarts = s.faults.iter().filter(|fault| matches!(fault.does, Does::Restart));
    let of = |fault: &&super::scenario::Fault| fault.active(endpoint, *fault.from);
    restarts.filter(of).map(|fault| *fault.from).find(|at| *at > from && *at <= to)
}

/// A number from the exponential distribution of mean 1.
pub(crate) fn exponential(rng: &mut Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}
