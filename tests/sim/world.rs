//! The run of a scenario under one seed: the clock, the clients, the reloads and the dice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use outrigger::clock;
use outrigger::config::Loaded;
use outrigger::policy::retry::Suppressed;
use outrigger::snapshot::Snapshot;
use outrigger::telemetry::metrics::Metrics;
use outrigger::upstream::endpoint::Endpoint;

use super::events::{Event, Queue};
use super::invariants::{self, Broken, Budget, Passes, Step, check, view};
use super::model::{Model, exponential};
use super::proxy::Request;
use super::scenario::Scenario;
use super::tally::Tally;

/// After so many events a run counts as one that never ends.
const STEPS_MAX: u64 = 5_000_000;

/// How often, in steps, everything that is in flight is counted.
const COUNT_EVERY: u64 = 16;

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
}

/// Everything that there is in a run.
pub(crate) struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) mutation: Option<Mutation>,
    /// The instant at which the scenario begins, and the time since.
    pub(crate) zero: Instant,
    pub(crate) now: Duration,
    pub(crate) rng: Rng,
    pub(crate) snapshot: Snapshot,
    pub(crate) model: Model,
    pub(crate) requests: BTreeMap<usize, Request>,
    pub(crate) tally: Tally,
    pub(crate) budget: Budget,
    pub(crate) passes: Passes,
    /// The largest share of the endpoints that any of the settings lets be ejected.
    pub(crate) max_ejected: f64,
    configurations: Vec<Loaded>,
    metrics: Metrics,
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
        let metrics = Metrics::new(Suppressed::NAMES);
        let snapshot = Snapshot::compile(configurations[0].clone(), None, &metrics);
        let snapshot = snapshot.unwrap_or_else(|problems| panic!("{problems:?}"));
        let budgets = configurations
            .iter()
            .flat_map(|l| l.config.upstreams.values().map(|u| &u.retry_budget));
        let breakers =
            configurations.iter().flat_map(|l| l.config.routes.iter().map(|r| &r.circuit_breaker));
        let upstreams = configurations.iter().flat_map(|l| l.config.upstreams.values());
        let max_ejected = upstreams.map(|u| u.ejection.max_ejected.get()).fold(0.0, f64::max);
        Self {
            max_ejected,
            scenario,
            mutation,
            zero: clock::now(),
            now: Duration::ZERO,
            rng: Rng::with_seed(seed ^ 0x5851_f42d_4c95_7f2d),
            snapshot,
            model: Model::new(scenario),
            requests: BTreeMap::new(),
            tally: Tally::new(scenario),
            budget: Budget::new(budgets),
            passes: Passes::new(breakers),
            configurations,
            metrics,
            queue: Queue::default(),
            arrived: 0,
            reloaded: 0,
        }
    }

    async fn play(&mut self) -> Result<(), Failure> {
        self.queue.push(Duration::ZERO, Event::Arrive);
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
            let held = self.handle(event).and_then(|()| self.look());
            let held = held.and_then(|()| match step % COUNT_EVERY {
                0 => self.count(),
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
                Some(request) => self.proceed(id, request),
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
            Event::Leave(id) => match self.requests.remove(&id) {
                Some(request) => self.left(request),
                None => Ok(()),
            },
        }
    }

    fn arrive(&mut self) -> Step {
        let clients = &self.scenario.clients;
        let surge = clients.surges.iter().find(|s| (*s.from..*s.until).contains(&self.now));
        let rate = clients.rate * surge.map_or(1.0, |surge| surge.factor);
        let next = self.now + Duration::from_secs_f64(exponential(&mut self.rng) / rate);
        if next < *self.scenario.length {
            self.queue.push(next, Event::Arrive);
        }
        let id = self.arrived;
        self.arrived += 1;
        self.tally.arrived(self.now);
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
        let request = Request::new(self, safe, inbound);
        self.admit(id, request)
    }

    fn reload(&mut self) -> Step {
        let Some(reloads) = &self.scenario.reloads else { return Ok(()) };
        if self.now + *reloads.every < *self.scenario.length {
            self.queue.push(self.now + *reloads.every, Event::Reload);
        }
        self.reloaded += 1;
        let loaded = self.configurations[self.reloaded % self.configurations.len()].clone();
        let previous = (!self.is(Mutation::ForgetState)).then_some(&self.snapshot);
        let new = Snapshot::compile(loaded, previous, &self.metrics);
        let new = new.unwrap_or_else(|problems| panic!("{problems:?}"));
        let settings = &self.snapshot.routes[0].settings.circuit_breaker;
        let of = |snapshot: &Snapshot| {
            view(&snapshot.routes[0].targets[0].circuit, settings, self.instant())
        };
        invariants::carried_over(&self.snapshot, &new, [&of(&self.snapshot), &of(&new)])?;
        self.snapshot = new;
        self.count()
    }

    /// What endpoints count in flight is what requests hold.
    fn count(&self) -> Step {
        let target = &self.snapshot.routes[0].targets[0];
        let mut held: BTreeMap<u64, usize> = BTreeMap::new();
        for endpoint in self.requests.values().flat_map(Request::holds) {
            *held.entry(endpoint.id).or_default() += 1;
        }
        for endpoint in &target.upstream.state.endpoints.load().endpoints {
            let held = held.get(&endpoint.id).copied().unwrap_or_default();
            let counted = endpoint.in_flight();
            check(3, counted == held, || {
                format!("{} counts {counted} in flight, requests hold {held}", endpoint.name)
            })?;
        }
        Ok(())
    }

    fn drained(&self) -> Step {
        self.count()?;
        check(3, self.requests.is_empty(), || "requests are left".to_owned())?;
        let Passes { given, recorded, cancelled, .. } = &self.passes;
        check(3, *given == recorded + cancelled, || {
            format!("{given} passes, {recorded} recorded, {cancelled} cancelled")
        })
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
