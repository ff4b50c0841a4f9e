//! Where requests go: endpoints, the choice among them, and the connections to them.
//!
//! Knows connections and endpoints; knows no route, no retry and no breaker.

pub mod address;
pub mod answer;
pub mod connect;
pub mod connections;
pub mod endpoint;
pub mod error;
pub mod health;
pub mod http1;
pub mod keeper;
mod local;
pub mod message;
mod original;
pub mod own;
pub mod pool;
pub mod resolve;
pub mod set;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::{Instant, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use self::connections::Connections;
use self::endpoint::Endpoint;
use self::set::{EndpointSet, Spec};
use crate::clock;
use crate::config::upstream::Upstream as Settings;
use crate::gate::{Adaptive, Gate};
use crate::policy::Mode;
use crate::policy::concurrency::{self, Beat};
use crate::policy::ejection;
use crate::policy::load_balancing::{Chance, Policy};
use crate::policy::outcome::Outcome;
use crate::policy::resolution::Resolution;
use crate::policy::retry_budget::{Balance, Budget, Cost};
use crate::shared::Shared;
use crate::telemetry::metrics::{Metrics, UpstreamMetrics};
use crate::tls::client::Client;

pub use self::local::LocalExecutor;

/// A named group of endpoints: its settings, which a reload replaces, and its state, which it
/// keeps.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its settings.
    pub settings: Settings,
    /// TLS, if it is spoken.
    pub tls: Option<Arc<Client>>,
    /// What lives on when the settings change.
    pub state: Arc<State>,
}

/// The part of an upstream that outlives a reload.
#[derive(Debug)]
pub struct State {
    /// The endpoints as they are now.
    pub endpoints: ArcSwap<EndpointSet>,
    /// The connections that are open.
    pub connections: Arc<Connections>,
    /// Its metrics.
    pub metrics: Arc<UpstreamMetrics>,
    /// Its adaptive limit, and who waits for it.
    pub gate: Arc<Gate<Adaptive>>,
    budget: Shared<Budget>,
    turn: AtomicUsize,
    /// What is known of each name, so that a reload does not forget the last good answer.
    names: Shared<BTreeMap<String, Resolution>>,
    /// Whether every name has been answered, or refused, once.
    answered: watch::Sender<bool>,
    /// One publication at a time, so that two sources of addresses do not undo each other.
    publishing: Shared<()>,
}

impl State {
    /// A state with no endpoint yet.
    #[must_use]
    pub fn new(metrics: Arc<UpstreamMetrics>, concurrency: &concurrency::Settings) -> Self {
        // How many tiers there are is told before the first request.
        let now = clock::now();
        let gate = Gate::adaptive(concurrency, 1, now);
        let of_day = clock::wall_now().duration_since(UNIX_EPOCH).unwrap_or_default();
        gate.set_beat(Beat::new(now, of_day));
        Self {
            gate: Arc::new(gate),
            endpoints: ArcSwap::default(),
            connections: Arc::default(),
            metrics,
            budget: Shared::new(Budget::new(clock::now())),
            turn: AtomicUsize::new(0),
            names: Shared::default(),
            answered: watch::Sender::new(false),
            publishing: Shared::default(),
        }
    }
}

impl Upstream {
    /// Chooses an endpoint that this request has not tried, if there is one.
    #[must_use]
    pub fn choose(&self, tried: &[u64], hash: Option<u64>, now: Instant) -> Option<Arc<Endpoint>> {
        if self.settings.original_destination.is_some() {
            // Its endpoints have nothing in common: there is no choice among them.
            return None;
        }
        let turn = match self.settings.load_balancing.policy {
            Policy::RoundRobin => self.state.turn.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        let chance = Chance { random: fastrand::f64(), turn, hash };
        self.state.endpoints.load().choose(&self.settings, tried, chance, now)
    }

    /// Whether there is an endpoint that can be chosen and is not among these.
    #[must_use]
    pub fn has_other(&self, tried: &[u64], now: Instant) -> bool {
        if self.settings.original_destination.is_some() {
            return false;
        }
        let set = self.state.endpoints.load();
        set.endpoints.iter().any(|e| !tried.contains(&e.id) && e.available(now))
    }

    /// Who vouches for its endpoints: the [`Client::id`] of its TLS, or 0 in the clear.
    #[must_use]
    pub fn opens_by(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| tls.id())
    }

    /// Waits until every name of the upstream has been answered, or refused, once.
    pub async fn answered(&self) {
        if keeper::has_names(self) {
            // The sender lives in the state that is borrowed here.
            let _ = self.state.answered.subscribe().wait_for(|answered| *answered).await;
        }
    }

    /// Pays a first attempt into the retry budget.
    pub fn deposit(&self, now: Instant) {
        self.state.budget.lock().deposit(&self.settings.retry_budget, now);
    }

    /// Takes the cost of a retry out of the budget, if it is there.
    #[must_use]
    pub fn withdraw(&self, cost: Cost, now: Instant) -> bool {
        self.state.budget.lock().withdraw(&self.settings.retry_budget, now, cost)
    }

    /// The balance of the retry budget.
    #[must_use]
    pub fn budget(&self, now: Instant) -> Balance {
        self.state.budget.lock().balance(&self.settings.retry_budget, now)
    }

    /// Lets the endpoint learn from an attempt, and ejects it when that is due and allowed.
    pub fn learn(&self, endpoint: &Arc<Endpoint>, outcome: &Outcome, failure: bool, now: Instant) {
        if endpoint.learn(&self.settings, outcome, failure, now) {
            self.eject(endpoint, now);
        }
    }

    /// Lets the endpoint learn how an answer ended whose head has taught its latency already, and
    /// ejects it as [`Upstream::learn`] does. The times are the attempt's beginning and now.
    pub fn learn_end(
        &self,
        endpoint: &Arc<Endpoint>,
        outcome: &Outcome,
        failure: bool,
        times: (Instant, Instant),
    ) {
        if endpoint.learn_end(&self.settings, outcome, failure, times) {
            self.eject(endpoint, times.1);
        }
    }

    fn eject(&self, endpoint: &Arc<Endpoint>, now: Instant) {
        if self.settings.ejection.mode == Mode::Off {
            return;
        }
        let set = self.state.endpoints.load();
        let out = set.endpoints.iter().filter(|other| !other.available(now)).count();
        if !ejection::may_eject(&self.settings.ejection, out, set.endpoints.len()) {
            return;
        }
        let period = endpoint.eject(&self.settings, now, fastrand::f64());
        if self.settings.ejection.mode == Mode::Observe {
            self.state.metrics.would_eject.inc();
            let (upstream, endpoint) = (&self.name, &endpoint.name);
            tracing::info!(%upstream, %endpoint, "would eject endpoint");
            return;
        }
        self.state.metrics.ejections.inc();
        tracing::warn!(
            upstream = %self.name,
            endpoint = %endpoint.name,
            seconds = period.as_secs_f64(),
            "endpoint ejected"
        );
    }

    /// Replaces the endpoints; those that stay keep their state and their connections.
    pub fn publish(&self, metrics: &Metrics, specs: &[Spec]) {
        let one_at_a_time = self.state.publishing.lock();
        self.replace(metrics, specs, &one_at_a_time);
    }

    fn replace(&self, metrics: &Metrics, specs: &[Spec], _one_at_a_time: &MutexGuard<'_, ()>) {
        let old = self.state.endpoints.load();
        let new = set::build(&self.name, &self.settings, &old, specs, metrics);
        self.state.endpoints.store(Arc::new(new));
    }

    /// Builds the set anew under changed settings, with the endpoints that are known.
    pub fn rebuild(&self, metrics: &Metrics) {
        let specs: Vec<Spec> =
            self.state.endpoints.load().endpoints.iter().map(|e| e.spec()).collect();
        self.publish(metrics, &specs);
    }
}
