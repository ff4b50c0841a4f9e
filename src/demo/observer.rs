//! Looks at the sidecar from inside, several times a second: the state now, and what changed.
//!
//! States last longer than the time between two looks, so no opening is missed; counts are the
//! sidecar's own.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::service::Arrivals;
use crate::config::Problem;
use crate::policy::Mode;
use crate::policy::circuit_breaker::{State, View};
use crate::policy::retry_budget::Balance;
use crate::proxy::Proxy;
use crate::upstream::Upstream;
use crate::upstream::endpoint::Endpoint;

/// How many events are remembered; more would not fit on a screen.
const EVENTS: usize = 8;
/// Rates are taken over this time.
const RATE_OVER: Duration = Duration::from_secs(2);

/// A thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, since the start.
    pub at: Duration,
    /// What, in words.
    pub what: String,
}

/// A circuit as the table shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct CircuitSight {
    /// Its route.
    pub route: String,
    /// Its picture.
    pub view: View,
}

/// An endpoint as the table shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSight {
    /// Its name in the schedule, else its address.
    pub name: String,
    /// How long it is still ejected, if it is.
    pub ejected: Option<Duration>,
}

/// The retry budget of an upstream as the table shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetSight {
    /// The upstream.
    pub upstream: String,
    /// What is saved.
    pub balance: Balance,
}

/// The sidecar at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sight {
    /// Circuits, in the order of routes.
    pub circuits: Vec<CircuitSight>,
    /// Endpoints of upstreams that have more than one.
    pub endpoints: Vec<EndpointSight>,
    /// Budgets of the same.
    pub budgets: Vec<BudgetSight>,
    /// Retries a second.
    pub retries: f64,
    /// Requests a second that reached the service through the sidecar.
    pub through: f64,
    /// Requests a second that reached it past the sidecar.
    pub past: f64,
    /// How many configurations there were.
    pub generation: u64,
    /// The first thing that is wrong with the last edit, if it was refused.
    pub refused: Option<String>,
}

/// What the policies did since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deeds {
    /// Attempts beyond the first.
    pub retries: u64,
    /// Endpoints taken out of the choice.
    pub ejections: u64,
    /// Circuits opened.
    pub openings: u64,
}

/// Remembers what was seen last.
#[derive(Debug)]
pub struct Observer {
    began: Instant,
    names: BTreeMap<String, String>,
    circuits: BTreeMap<String, (State, u32)>,
    out: BTreeMap<String, bool>,
    generation: u64,
    problems: Vec<Problem>,
    events: VecDeque<Event>,
    deeds: Deeds,
    retries: Rate,
    through: Rate,
    past: Rate,
}

impl Observer {
    /// An observer that has seen nothing. Addresses are shown by their names.
    #[must_use]
    pub fn new(began: Instant, named: &[(&str, SocketAddr)]) -> Self {
        let names = named.iter().map(|(name, at)| (at.to_string(), (*name).to_owned())).collect();
        Self {
            began,
            names,
            circuits: BTreeMap::new(),
            out: BTreeMap::new(),
            generation: 1,
            problems: Vec::new(),
            events: VecDeque::new(),
            deeds: Deeds::default(),
            retries: Rate::default(),
            through: Rate::default(),
            past: Rate::default(),
        }
    }

    /// The events of late, oldest first.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        self.events.iter()
    }

    /// What the policies did since the start.
    #[must_use]
    pub const fn deeds(&self) -> Deeds {
        self.deeds
    }

    /// Looks.
    pub fn look(&mut self, proxy: &Proxy, arrivals: &Arrivals, now: Instant) -> Sight {
        let at = now.saturating_duration_since(self.began);
        let live = proxy.live();
        let snapshot = &live.snapshot;
        let mut sight = Sight { generation: snapshot.generation, ..Sight::default() };
        let mut deeds = Deeds { openings: self.deeds.openings, ..Deeds::default() };
        for route in &snapshot.routes {
            deeds.retries += route.metrics.retries.get();
            let settings = &route.settings.circuit_breaker;
            for (_, circuit) in route.circuits().filter(|_| settings.mode != Mode::Off) {
                let view = circuit.view(settings, now);
                deeds.openings += self.circuit(&route.name, &view, at);
                sight.circuits.push(CircuitSight { route: route.name.to_string(), view });
            }
        }
        for upstream in snapshot.upstreams.values() {
            deeds.ejections += upstream.state.metrics.ejections.get();
            self.upstream(upstream, now, at, &mut sight);
        }
        // A route or upstream that an edit took away takes its counts along.
        self.deeds = Deeds {
            retries: deeds.retries.max(self.deeds.retries),
            ejections: deeds.ejections.max(self.deeds.ejections),
            openings: deeds.openings,
        };
        sight.retries = self.retries.at(at, self.deeds.retries);
        sight.through = self.through.at(at, arrivals.through());
        sight.past = self.past.at(at, arrivals.past());
        self.configuration(proxy, snapshot.generation, at);
        sight.refused = self.problems.first().map(ToString::to_string);
        sight
    }

    /// Notes how a circuit changed; returns how often it has opened since the last look.
    fn circuit(&mut self, route: &str, view: &View, at: Duration) -> u64 {
        let seen = (view.state, view.opened);
        let before = self.circuits.insert(route.to_owned(), seen);
        let (state, opened) = before.unwrap_or((State::Closed, 0));
        let again = view.opened.saturating_sub(opened);
        let what = match view.state {
            State::Open if again > 0 && opened == 0 => {
                let failed = view.totals.failure_ratio() * 100.0;
                format!("circuit of {route} opened: {failed:.0}% of the attempts failed")
            }
            State::Open if again > 0 => format!("circuit of {route} open again: a trial failed"),
            State::Ramping if state != State::Ramping => {
                format!("circuit of {route}: trials good, a growing share passes")
            }
            State::Closed if state != State::Closed => format!("circuit of {route} closed"),
            State::Isolated if state != State::Isolated => {
                format!("circuit of {route} isolated by hand")
            }
            _ => return u64::from(again),
        };
        self.note(at, what);
        u64::from(again)
    }

    fn upstream(&mut self, upstream: &Upstream, now: Instant, at: Duration, sight: &mut Sight) {
        let set = upstream.state.endpoints.load();
        for endpoint in &set.endpoints {
            let seen = self.endpoint(endpoint, now, at);
            if set.endpoints.len() > 1 {
                sight.endpoints.push(seen);
            }
        }
        if set.endpoints.len() > 1 {
            let balance = upstream.budget(now);
            sight.budgets.push(BudgetSight { upstream: upstream.name.to_string(), balance });
        }
    }

    fn endpoint(&mut self, endpoint: &Endpoint, now: Instant, at: Duration) -> EndpointSight {
        let name = self.names.get(&*endpoint.name);
        let name = name.cloned().unwrap_or_else(|| endpoint.name.to_string());
        let until = endpoint.ejected_until(now);
        let ejected = until.map(|until| until.saturating_duration_since(now));
        let was = self.out.insert(endpoint.name.to_string(), ejected.is_some());
        match (was.unwrap_or(false), ejected) {
            (false, Some(left)) => {
                self.note(at, format!("{name} ejected for {:.1} s", left.as_secs_f64()));
            }
            (true, None) => self.note(at, format!("{name} is back in the choice")),
            _ => {}
        }
        EndpointSight { name, ejected }
    }

    fn configuration(&mut self, proxy: &Proxy, generation: u64, at: Duration) {
        let problems = proxy.last_problems();
        if generation != self.generation {
            self.generation = generation;
            self.note(at, format!("your edit is in force (configuration {generation})"));
        } else if problems != self.problems
            && let Some(first) = problems.first()
        {
            self.note(at, format!("your edit is refused: {first}"));
        }
        self.problems = problems;
    }

    fn note(&mut self, at: Duration, what: String) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(Event { at, what });
    }
}

/// A count's growth.
#[derive(Debug, Default)]
struct Rate {
    seen: VecDeque<(Duration, u64)>,
}

impl Rate {
    /// Growth a second over the last two seconds.
    fn at(&mut self, at: Duration, count: u64) -> f64 {
        self.seen.push_back((at, count));
        while self.seen.len() > 2
            && self.seen.get(1).is_some_and(|(then, _)| *then + RATE_OVER <= at)
        {
            self.seen.pop_front();
        }
        let Some((then, before)) = self.seen.front() else { return 0.0 };
        let over = at.saturating_sub(*then).as_secs_f64();
        if over > 0.0 { count.saturating_sub(*before) as f64 / over } else { 0.0 }
    }
}

#[cfg(test)]
mod tests;
