//! One proxy of a run: what it runs with, and what is known of it from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;
use outrigger::config::Loaded;
use outrigger::policy::circuit_breaker::LEASE_MIN;
use outrigger::policy::concurrency::Beat;
use outrigger::policy::retry::Suppressed;
use outrigger::records::registry::Registry;
use outrigger::snapshot::Snapshot;
use outrigger::snapshot::route::Route;
use outrigger::telemetry::metrics::Metrics;
use outrigger::upstream::Upstream;

use super::gates::Waits;
use super::invariants::{self, Budget, Passes, Step, check, view};
use super::places::{self, Count, Tiers};
use super::proxy::Request;

pub(crate) struct Sidecar {
    pub(crate) snapshot: Snapshot,
    pub(crate) budget: Budget,
    /// Of each route.
    pub(crate) passes: Vec<Passes>,
    pub(crate) tiers: Tiers,
    metrics: Metrics,
}

impl Sidecar {
    /// One under the first of these configurations, all of which it may get. Its clock of day is
    /// wrong by so much.
    pub(crate) fn new(configurations: &[Loaded], now: Instant, wrong: Duration) -> Self {
        let metrics = Metrics::new(Suppressed::NAMES);
        let snapshot =
            Snapshot::compile(configurations[0].clone(), None, &metrics, &Registry::default());
        let snapshot = snapshot.unwrap_or_else(|problems| panic!("{problems:?}"));
        let budgets = configurations
            .iter()
            .flat_map(|l| l.config.upstreams.values().map(|u| &u.retry_budget));
        let passes = |route: usize| {
            Passes::new(configurations.iter().map(|l| &l.config.routes[route].circuit_breaker))
        };
        for upstream in snapshot.upstreams.values() {
            upstream.state.gate.set_beat(Beat::new(now, wrong));
        }
        Self {
            budget: Budget::new(budgets),
            passes: (0..snapshot.routes.len()).map(passes).collect(),
            tiers: Tiers::default(),
            snapshot,
            metrics,
        }
    }

    pub(crate) fn upstream(&self) -> &Arc<Upstream> {
        &self.snapshot.routes[0].targets[0].upstream
    }

    /// The tier of a request that says this: as `context::tier_under`.
    pub(crate) fn tier(&self, route: &Route, said: Option<&str>) -> usize {
        let importance = &self.snapshot.importance;
        if let Some(fixed) = &route.tier {
            return fixed.tier();
        }
        let said = said.map(|said| HeaderValue::from_str(said).expect("a field's value"));
        let headers = said.into_iter().map(|said| (importance.header().clone(), said)).collect();
        importance.tier_of(&headers)
    }

    /// Replaces the settings; `forget` replaces the state too.
    pub(crate) fn reload(&mut self, loaded: Loaded, forget: bool, now: Instant) -> Step {
        let previous = (!forget).then_some(&self.snapshot);
        let new = Snapshot::compile(loaded, previous, &self.metrics, &Registry::default());
        let new = new.unwrap_or_else(|problems| panic!("{problems:?}"));
        for (old, new) in self.snapshot.routes.iter().zip(&new.routes) {
            let settings = &old.settings.circuit_breaker;
            let circuits = [&old.targets[0].circuit, &new.targets[0].circuit];
            let [was, is] = circuits.map(|circuit| view(circuit, settings, now));
            invariants::carried_over(old, new, [&was, &is])?;
        }
        self.snapshot = new;
        Ok(())
    }

    /// What must hold of circuits and endpoints at any time.
    pub(crate) fn look(&self, max_ejected: f64, now: Instant) -> Step {
        for (route, passes) in self.snapshot.routes.iter().zip(&self.passes) {
            let target = &route.targets[0];
            let breaker = &route.settings.circuit_breaker;
            let lease = breaker.open.get().max(LEASE_MIN);
            passes.conserved(&view(&target.circuit, breaker, now), lease, now)?;
            let ejection = &target.upstream.settings.ejection;
            invariants::ejected(ejection, max_ejected, target, now)?;
        }
        Ok(())
    }

    /// What endpoints and gates count is what these requests of its hold.
    pub(crate) fn count<'a>(
        &self,
        requests: impl Iterator<Item = (&'a usize, &'a Request)> + Clone,
        rung: &BTreeSet<usize>,
    ) -> Step {
        let mut held: BTreeMap<u64, usize> = BTreeMap::new();
        for endpoint in requests.clone().flat_map(|(_, request)| request.holds()) {
            *held.entry(endpoint.id).or_default() += 1;
        }
        let upstream = self.upstream();
        for endpoint in &upstream.state.endpoints.load().endpoints {
            let held = held.get(&endpoint.id).copied().unwrap_or_default();
            let counted = endpoint.in_flight();
            check(3, counted == held, || {
                format!("{} counts {counted} in flight, requests hold {held}", endpoint.name)
            })?;
        }
        let gate = &upstream.state.gate;
        let mut limit = Count::default();
        for (id, request) in requests.clone() {
            let places = &request.places;
            let here = |of: &Arc<_>| Arc::ptr_eq(of, gate);
            limit.held += places.limit.iter().filter(|place| here(place.gate())).count();
            limit.held += places.more.len();
            if matches!(places.waits, Some(Waits::Limit(_))) {
                limit.waits(rung.contains(id));
            }
        }
        limit.is_counted("the limit", gate.filled().0, gate.waiting())?;
        for route in &self.snapshot.routes {
            let Some(gate) = &route.bulkhead else { continue };
            let mut bulkhead = Count::default();
            for (id, request) in requests.clone().filter(|(_, r)| r.route.name == route.name) {
                let places = &request.places;
                let place = places.bulkhead.iter().filter(|place| Arc::ptr_eq(place.gate(), gate));
                bulkhead.held += place.count();
                if matches!(places.waits, Some(Waits::Bulkhead(_))) {
                    bulkhead.waits(rung.contains(id));
                }
            }
            bulkhead.is_counted("a bulkhead", gate.filled().0, gate.waiting())?;
        }
        Ok(())
    }

    /// When all requests are over, all passes and places are back.
    pub(crate) fn drained(&self) -> Step {
        for Passes { given, recorded, cancelled, .. } in &self.passes {
            check(3, *given == recorded + cancelled, || {
                format!("{given} passes, {recorded} recorded, {cancelled} cancelled")
            })?;
        }
        places::all_free(&self.snapshot)
    }
}
