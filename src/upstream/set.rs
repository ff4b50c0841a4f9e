//! The endpoints of an upstream at one time, and the choice among them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::address::EndpointAddress;
use super::endpoint::Endpoint;
use crate::clock;
use crate::config::upstream::Upstream as Settings;
use crate::policy::ejection::WhenAllEjected;
use crate::policy::load_balancing::{Chance, Endpoints, Member, Plan};
use crate::telemetry::metrics::Metrics;

/// The endpoints of an upstream, replaced whole when an address comes or goes.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// The endpoints, in a stable order.
    pub endpoints: Vec<Arc<Endpoint>>,
    plan: Plan,
    /// The place of each by its address, where requests bring that.
    places: HashMap<SocketAddr, usize>,
}

/// What an endpoint should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Where it is.
    pub address: EndpointAddress,
    /// Its share relative to the others.
    pub weight: u32,
    /// The zone that it is in.
    pub zone: Option<Arc<str>>,
    /// The name that it was resolved from, or its IP address: what its certificate is for.
    pub host: Arc<str>,
}

/// What one attempt sees of the endpoints.
struct View<'a> {
    set: &'a EndpointSet,
    settings: &'a Settings,
    tried: &'a [u64],
    now: Instant,
    /// Whether ejection and health are looked at.
    all: bool,
}

impl View<'_> {
    fn of<T>(&self, index: usize, absent: T, ask: impl FnOnce(&Endpoint) -> T) -> T {
        self.set.endpoints.get(index).map_or(absent, |endpoint| ask(endpoint))
    }
}

impl Endpoints for View<'_> {
    fn available(&self, index: usize) -> bool {
        self.of(index, false, |endpoint| self.all || endpoint.available(self.now))
    }

    fn tried(&self, index: usize) -> bool {
        !self.tried.is_empty() && self.of(index, false, |e| self.tried.contains(&e.id))
    }

    fn in_flight(&self, index: usize) -> usize {
        self.of(index, 0, Endpoint::in_flight)
    }

    fn cost(&self, index: usize) -> Option<f64> {
        self.of(index, None, |endpoint| endpoint.cost(self.now))
    }

    fn ramp(&self, index: usize) -> f64 {
        self.of(index, 1.0, |endpoint| endpoint.ramp(self.settings, self.now))
    }
}

impl EndpointSet {
    /// The endpoint of an address, where requests bring that.
    pub(super) fn at(&self, address: &SocketAddr) -> Option<&Arc<Endpoint>> {
        self.endpoints.get(*self.places.get(address)?)
    }

    /// Chooses an endpoint. When the rules leave none, what the settings say of that decides.
    pub(super) fn choose(
        &self,
        settings: &Settings,
        tried: &[u64],
        chance: Chance,
        now: Instant,
    ) -> Option<Arc<Endpoint>> {
        if let [only] = self.endpoints.as_slice()
            && only.available(now)
        {
            return Some(Arc::clone(only));
        }
        let by_rule = |all| {
            let view = View { set: self, settings, tried, now, all };
            self.plan.choose(&settings.load_balancing, &view, chance)
        };
        let index = by_rule(false).or_else(|| match settings.ejection.when_all_ejected {
            WhenAllEjected::FailFast => None,
            WhenAllEjected::Panic => by_rule(true),
            WhenAllEjected::LeastBad => self.least_bad(now),
        });
        self.endpoints.get(index?).cloned()
    }

    /// The endpoint that was ejected longest ago and is not found unhealthy, if there is one; of
    /// those alike, the one with the least in flight.
    fn least_bad(&self, now: Instant) -> Option<usize> {
        let rank = |endpoint: &Endpoint| {
            (!endpoint.healthy(), endpoint.ejected_since(now), endpoint.in_flight())
        };
        let ranked = self.endpoints.iter().enumerate().map(|(index, e)| (rank(e), index));
        ranked.min().map(|(_, index)| index)
    }
}

/// The set of these endpoints; those that were in the old set stay what they are.
pub(super) fn build(
    upstream: &str,
    settings: &Settings,
    old: &EndpointSet,
    specs: &[Spec],
    metrics: &Metrics,
) -> EndpointSet {
    let mut known: HashMap<&EndpointAddress, &Arc<Endpoint>> =
        old.endpoints.iter().map(|endpoint| (&endpoint.address, endpoint)).collect();
    // The first endpoints of all are there from the start; later ones start slowly.
    let returned = (!old.endpoints.is_empty()).then(clock::now);
    let mut endpoints = Vec::with_capacity(specs.len());
    let mut taken = std::collections::HashSet::new();
    for spec in specs {
        if !taken.insert(&spec.address) {
            continue;
        }
        let same = known.remove(&spec.address);
        endpoints.push(match same.filter(|endpoint| endpoint.spec() == *spec) {
            Some(endpoint) => Arc::clone(endpoint),
            None => {
                let metrics = metrics.endpoint(upstream, &spec.address.to_string());
                Arc::new(Endpoint::new(spec.clone(), metrics, returned))
            }
        });
    }
    for gone in known.into_values() {
        metrics.forget_endpoint(upstream, &gone.name);
    }
    let members: Vec<Member<'_>> = endpoints
        .iter()
        .map(|endpoint| Member {
            name: &endpoint.name,
            weight: endpoint.weight,
            local: settings.zone.is_some() && settings.zone.as_deref() == endpoint.zone.as_deref(),
        })
        .collect();
    if settings.original_destination.is_some() {
        let place = |(place, endpoint): (usize, &Arc<Endpoint>)| match endpoint.address {
            EndpointAddress::Tcp(address) => Some((address, place)),
            EndpointAddress::Unix(_) => None,
        };
        let places = endpoints.iter().enumerate().filter_map(place).collect();
        return EndpointSet { endpoints, places, ..EndpointSet::default() };
    }
    let plan = Plan::build(&settings.load_balancing, &members);
    EndpointSet { endpoints, plan, places: HashMap::new() }
}
