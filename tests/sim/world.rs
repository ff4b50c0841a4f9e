//! The run of a scenario under one seed: the clock, the clients, the reloads and the dice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::{Duration, Instant};

use fastrand::Rng;
use outrigger::clock;
use outrigger::config::Loaded;
use outrigger::upstream::endpoint::Endpoint;

use super::events::{Event, Queue};
use super::invariants::{Broken, Step, check};
use super::model::{Model, exponential};
use super::proxy::{Coming, Request};
use super::scenario::{Scenario, Surge};
use super::sidecar::Sidecar;
use super::tally::{Gauge, Tally, Who};

/// After so many events a run counts as one that never ends.
const STEPS_MAX: u64 = 5_000_000;

/// How often, in steps, everything that is in flight is counted.
const COUNT_EVERY: u64 = 16;

/// How often somebody looks at the gates.
const GAUGE_EVERY: Duration = Duration::from_millis(100);

/// By how much the clocks of day of the proxies differ.
const CLOCKS_DIFFER: Duration = Duration::from_millis(20);

/// A fault of the proxy itself, put in to see that it is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// The retry budget is not asked.
    NoBudget,
    /// A stale outcome closes the circuit.
    StaleMoves,
    /// A pass is lost when a client leaves.
    LosePass,
    /// The deadline is not looked at before an attempt.
    LateStart,
    /// An endpoint is ejected at each failure, whatever the others are.
    EjectAll,
    /// What the proxy refuses itself is recorded as a failure.
    BlameOurs,
    /// The decision is not told of trials.
    RetryTrial,
    /// A reload starts from nothing.
    ForgetState,
    /// Waits are longer than was decided.
    LongWait,
    /// The limit learns from what the proxy refuses itself.
    SampleOurs,
    /// A place is lost when a client leaves.
    LosePlace,
    /// Each attempt takes a place of its own.
    PlaceEach,
    /// The lowest tier counts as the highest.
    UpsideDown,
    /// Nobody waits for a place, nor is refused one.
    ForceIn,
    /// The queue is not told of deadlines.
    NoDeadline,
    /// The rate limit is asked before the proxy's own protection.
    ProtectLast,
}

/// Everything that there is in a run.
pub(crate) struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) mutation: Option<Mutation>,
    /// The instant at which the scenario begins, and the time since.
    pub(crate) zero: Instant,
    pub(crate) now: Duration,
    pub(crate) rng: Rng,
    pub(crate) sidecars: Vec<Sidecar>,
    pub(crate) model: Model,
    pub(crate) requests: BTreeMap<usize, Request>,
    pub(crate) tally: Tally,
    /// The bells of those who wait for a place.
    pub(crate) bells: (Sender<usize>, Receiver<usize>),
    /// Whose bell was rung and who has not looked yet.
    pub(crate) rung: BTreeSet<usize>,
    /// The largest share of the endpoints that any of the settings lets be ejected.
    max_ejected: f64,
    configurations: Vec<Loaded>,
    queue: Queue,
    arrived: usize,
    reloaded: usize,
}

/// A run that broke a rule.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) broken: Broken,
    pub(crate) step: u64,
    pub(crate) at: Duration,
}

/// Runs a scenario to its end.
pub(crate) fn run(s: &Scenario, seed: u64, mutation: Option<Mutation>) -> Result<Tally, Failure> {
    // The policies draw from the thread's generator, and some of their state is made at the time
    // that the process's clock shows; with both held, a seed gives the same run each time.
    fastrand::seed(seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut world = World::new(s, seed, mutation);
        world.play().await?;
        Ok(world.tally)
    })
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario, seed: u64, mutation: Option<Mutation>) -> Self {
        let configurations = scenario.configurations();
        let upstreams = configurations.iter().flat_map(|l| l.config.upstreams.values());
        let max_ejected = upstreams.map(|u| u.ejection.max_ejected.get()).fold(0.0, f64::max);
        Self {
            max_ejected,
            scenario,
            mutation,
            zero: clock::now(),
            now: Duration::ZERO,
            rng: Rng::with_seed(seed ^ 0x5851_f42d_4c95_7f2d),
            sidecars: (0..scenario.sidecars)
                .map(|at| {
                    let wrong = CLOCKS_DIFFER.mul_f64(at as f64 * 0.618 % 1.0);
                    Sidecar::new(&configurations, clock::now(), wrong)
                })
                .collect(),
            model: Model::new(scenario),
            requests: BTreeMap::new(),
            tally: Tally::new(scenario),
            bells: mpsc::channel(),
            rung: BTreeSet::new(),
            configurations,
            queue: Queue::default(),
            arrived: 0,
            reloaded: 0,
        }
    }

    async fn play(&mut self) -> Result<(), Failure> {
        self.queue.push(Duration::ZERO, Event::Arrive);
        self.queue.push(GAUGE_EVERY, Event::Gauge);
        if let Some(reloads) = &self.scenario.reloads {
            self.queue.push(*reloads.every, Event::Reload);
        }
        let mut step = 0;
        while let Some((at, event)) = self.queue.pop() {
            step += 1;
            if at > self.now {
                tokio::time::advance(at - self.now).await;
                self.now = at;
            }
            let turn = usize::try_from(step).expect("a number");
            let held = self.handle(event).and_then(|()| self.answer_bells(true));
            let held = held
                .and_then(|()| {
                    self.sidecars[turn % self.sidecars.len()].look(self.max_ejected, self.instant())
                })
                .and_then(|()| match step % COUNT_EVERY {
                    0 => self.count(turn / COUNT_EVERY as usize),
                    _ => Ok(()),
                });
            let held = held.and_then(|()| {
                check(0, step < STEPS_MAX, || "the run does not come to an end".to_owned())
            });
            held.map_err(|broken| Failure { broken, step, at })?;
        }
        self.drained().map_err(|broken| Failure { broken, step, at: self.now })?;
        self.tally.steps = step;
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Step {
        match event {
            Event::Arrive => self.arrive(),
            Event::Reload => self.reload(),
            Event::Go(id) => match self.requests.remove(&id) {
                Some(request) => self.go_on(id, request),
                None => Ok(()),
            },
            Event::Ended { request: id, attempt } => match self.requests.remove(&id) {
                Some(request) => self.ended(id, request, attempt),
                None => Ok(()),
            },
            Event::Done(id) => {
                self.requests.remove(&id);
                Ok(())
            }
            Event::Called(id) => match self.requests.remove(&id) {
                Some(request) => self.called(id, request),
                None => Ok(()),
            },
            Event::Gauge => {
                self.gauge();
                Ok(())
            }
            Event::Leave(id) => match self.requests.remove(&id) {
                Some(request) => self.left(request),
                None => Ok(()),
            },
        }
    }

    fn arrive(&mut self) -> Step {
        let clients = &self.scenario.clients;
        let surge = clients.surges.iter().find_map(|surge: &Surge| surge.at(self.now));
        let rate = clients.rate * surge.unwrap_or(1.0);
        let next = self.now + Duration::from_secs_f64(exponential(&mut self.rng) / rate);
        if next < *self.scenario.length {
            self.queue.push(next, Event::Arrive);
        }
        let id = self.arrived;
        self.arrived += 1;
        let who = Who { born: self.now, kind: self.kind() };
        self.tally.arrived(who);
        let sidecar = match self.sidecars.len() {
            1 => 0,
            all => self.rng.usize(0..all),
        };
        let safe = self.rng.f64() >= clients.not_repeatable;
        let retried = self.rng.f64() < clients.already_retried;
        let inbound = if retried { self.rng.u32(1..3) } else { 0 };
        if self.rng.f64() < clients.abandon {
            let patience = clients.patience.mul_f64(exponential(&mut self.rng));
            self.queue.push(self.now + patience, Event::Leave(id));
            if self.rng.f64() < self.scenario.buggify.twice {
                self.queue.push(self.now + patience, Event::Leave(id));
            }
        }
        let request = Request::new(self, Coming { who, sidecar, safe, inbound });
        self.admit(id, request)
    }

    /// Draws the kind of a client.
    fn kind(&mut self) -> usize {
        let kinds = &self.scenario.clients.kinds;
        if kinds.len() < 2 {
            return 0;
        }
        let all: f64 = kinds.iter().map(|kind| kind.share(self.now)).sum();
        let mut left = self.rng.f64() * all;
        let taken = |kind: &super::scenario::Kind| {
            left -= kind.share(self.now);
            left < 0.0
        };
        kinds.iter().position(taken).unwrap_or_default()
    }

    /// Notes what an operator sees of the gates.
    fn gauge(&mut self) {
        if self.now + GAUGE_EVERY < *self.scenario.length {
            self.queue.push(self.now + GAUGE_EVERY, Event::Gauge);
        }
        let limits = self.sidecars.iter().map(|one| one.upstream().state.gate.filled().1);
        let limit: u32 = limits.sum();
        let threshold =
            self.sidecars[0].upstream().state.gate.view(self.instant()).threshold_height;
        self.tally.gauge(self.now, Gauge { limit, threshold });
    }

    fn reload(&mut self) -> Step {
        let Some(reloads) = &self.scenario.reloads else { return Ok(()) };
        if self.now + *reloads.every < *self.scenario.length {
            self.queue.push(self.now + *reloads.every, Event::Reload);
        }
        self.reloaded += 1;
        let (now, forget) = (self.instant(), self.is(Mutation::ForgetState));
        for sidecar in &mut self.sidecars {
            let loaded = &self.configurations[self.reloaded % self.configurations.len()];
            sidecar.reload(loaded.clone(), forget, now)?;
        }
        self.count_all()
    }

    /// What endpoints and gates of the proxy whose turn it is count is what requests hold.
    fn count(&self, turn: usize) -> Step {
        let at = turn % self.sidecars.len();
        let requests = self.requests.iter().filter(|(_, request)| request.sidecar == at);
        self.sidecars[at].count(requests, &self.rung)
    }

    fn count_all(&self) -> Step {
        (0..self.sidecars.len()).try_for_each(|at| self.count(at))
    }

    fn drained(&self) -> Step {
        self.count_all()?;
        check(3, self.requests.is_empty(), || "requests are left".to_owned())?;
        self.sidecars.iter().try_for_each(Sidecar::drained)
    }

    pub(crate) fn instant(&self) -> Instant {
        self.zero + self.now
    }

    pub(crate) fn is(&self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }

    /// Schedules an event, which the dice may hold back.
    pub(crate) fn later(&mut self, wait: Duration, event: Event) {
        let buggify = &self.scenario.buggify;
        let late = if self.rng.f64() < buggify.late {
            buggify.late_max.mul_f64(self.rng.f64())
        } else {
            Duration::ZERO
        };
        self.queue.push(self.now + wait + late, event);
    }

    pub(crate) fn index_of(&self, endpoint: &Arc<Endpoint>) -> usize {
        let port = endpoint.name.rsplit(':').next().and_then(|port| port.parse::<usize>().ok());
        port.expect("a port") - 1000
    }
}
