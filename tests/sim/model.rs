//! The upstream as a model: endpoints that work on a few requests at once and queue the others.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;
use outrigger::policy::outcome::{End, Hint};

use super::scenario::{Does, Pauses, Scenario};

/// A refusal, or an answer that needs no work, takes this long.
const AT_ONCE: Duration = Duration::from_millis(1);

/// The endpoints.
pub(crate) struct Model {
    /// When each place of each endpoint is free again.
    places: Vec<Vec<Duration>>,
    /// When each request that is in each endpoint will be out of it, the next one first.
    inside: Vec<BinaryHeap<Reverse<Duration>>>,
    /// The restarts that have emptied the queue of each endpoint, as far as they have been seen.
    restarted: Vec<Option<Duration>>,
}

/// An attempt as it is sent: to which endpoint, for which route, and by when there must be a
/// connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Send {
    pub(crate) endpoint: usize,
    pub(crate) route: usize,
    pub(crate) now: Duration,
    pub(crate) connect_by: Duration,
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
        let of_each = scenario.endpoints;
        Self {
            places: vec![places; of_each],
            inside: vec![BinaryHeap::new(); of_each],
            restarted: vec![None; of_each],
        }
    }

    /// Sends an attempt.
    pub(crate) fn send(&mut self, scenario: &Scenario, send: Send, rng: &mut Rng) -> Sent {
        let Send { endpoint, route, now, connect_by } = send;
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
                    return Sent::plain(now + scenario.time(route).mul_f64(rng.f64()), End::Reset);
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
        self.work(scenario, send, rng)
    }

    fn work(&mut self, scenario: &Scenario, send: Send, rng: &mut Rng) -> Sent {
        let Send { endpoint, route, now, .. } = send;
        let service = &scenario.service;
        self.restart(scenario, endpoint, now);
        let place = self.places[endpoint].iter_mut().min().expect("a place");
        let begin = thawed(scenario, endpoint, now.max(*place));
        if begin - now > *service.backlog {
            return Sent::status(now + AT_ONCE, 503);
        }
        let slow: f64 = scenario
            .faults
            .iter()
            .filter(|fault| fault.active(endpoint, begin))
            .map(|fault| if let Does::Slow { factor } = fault.does { factor } else { 1.0 })
            .product();
        let inside = &mut self.inside[endpoint];
        while inside.peek().is_some_and(|Reverse(out)| *out <= now) {
            inside.pop();
        }
        let crowded = service.knee.as_ref().map_or(1.0, |knee| {
            1.0 + knee.slows * (inside.len() + 1).saturating_sub(knee.above) as f64
        });
        let spread = 1.0 - service.jitter + service.jitter * exponential(rng);
        let work = scenario.time(route).mul_f64(slow * spread * crowded);
        let end = match &service.pauses {
            Some(pauses) => pauses.stretched(endpoint, begin, work),
            None => begin + work,
        };
        let end = thawed(scenario, endpoint, end);
        *place = end;
        inside.push(Reverse(end));
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
            self.inside[endpoint].clear();
        }
    }
}

impl Pauses {
    /// When work that is begun at this time will be done.
    fn stretched(&self, endpoint: usize, begin: Duration, work: Duration) -> Duration {
        let (every, length) = (*self.every, *self.length);
        // No two endpoints of a few stand still together.
        let shift = every.mul_f64((endpoint as f64 * 0.618).fract());
        let (mut at, mut left) = (begin + every - shift, work);
        loop {
            let in_turn = Duration::from_nanos((at.as_nanos() % every.as_nanos()) as u64);
            // It stands still at the beginning of each turn.
            at += length.saturating_sub(in_turn);
            let until_next = every - in_turn.max(length);
            if left < until_next {
                return at + left + shift - every;
            }
            left -= until_next;
            at += until_next;
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
