//! One route, ready to be followed.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Uri;
use http::uri::PathAndQuery;

use super::cache::RouteCache;
use super::circuit::Circuit;
use super::fallback::{self, Does, Link};
use super::hedging::Hedging;
use super::importance::{self, Importance};
use super::keys::{Keys, Names};
use super::learning::Learning;
use super::limit::{ProcessClock, RouteLimiter};
use super::matcher::Found;
use super::mirror::Mirror;
use super::ops::CompiledOps;
use super::rewrite::{self, Matched, Rewrite};
use crate::clock;
use crate::config::fallback::Link as LinkSetting;
use crate::config::route::Route as Settings;
use crate::gate::{Fixed, Gate};
use crate::policy::Mode;
use crate::policy::concurrency::RouteSlot;
use crate::policy::load_balancing::hash;
use crate::records::registry::Registry;
use crate::telemetry::metrics::{Metrics, RouteMetrics};
use crate::upstream::Upstream;

/// One route.
pub struct Route {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its settings.
    pub settings: Settings,
    /// Where its requests go, and, with weight 0, where only its fallback chain leads.
    pub targets: Vec<Target>,
    /// What answers when they failed, in this order.
    pub fallback: Vec<Link>,
    /// The last good answers, if they are kept.
    pub cache: Option<Arc<RouteCache>>,
    /// Its metrics.
    pub metrics: Arc<RouteMetrics>,
    /// Its rate limiter, if it has one of a known rate.
    pub limiter: Option<Arc<RouteLimiter>>,
    /// Its rate limiter, if it has one that learns.
    pub learning: Option<Arc<Learning>>,
    /// Its second copies, if it sends any.
    pub hedging: Option<Arc<Hedging>>,
    /// Its bulkhead, if it has one.
    pub bulkhead: Option<Arc<Gate<Fixed>>>,
    /// What recognises its requests by their keys, if any does.
    pub keys: Option<Arc<Keys>>,
    /// How important its requests are.
    pub importance: Arc<Importance>,
    /// The tier of all its requests, if it gives them one.
    pub tier: Option<importance::Fixed>,
    /// Where copies of its requests go, if any do.
    pub mirror: Option<Mirror>,
    /// Changes of header fields on the way to the upstream.
    pub request_ops: CompiledOps,
    /// Changes of header fields on the way back.
    pub response_ops: CompiledOps,
    /// Changes of path and host.
    pub rewrite: Option<Rewrite>,
    /// The most attempts of one request.
    pub max_attempts: u32,
    total_weight: u32,
}

/// An upstream of a route.
#[derive(Clone)]
pub struct Target {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// The circuit of this route to it.
    pub circuit: Arc<Circuit>,
    /// Where the upstream's limit keeps this route's baseline.
    pub baseline: RouteSlot,
    /// Its share relative to the route's other targets.
    pub weight: u32,
}

/// What a route is made with, beside its settings.
pub struct Around<'a> {
    /// The upstreams by name.
    pub upstreams: &'a BTreeMap<String, Arc<Upstream>>,
    /// The tiers of importance.
    pub importance: &'a Arc<Importance>,
    /// Every metric.
    pub metrics: &'a Metrics,
    /// The stores of records.
    pub stores: &'a Registry,
}

/// What a route changes of its requests and answers, compiled: all of a route that can be wrong,
/// and nothing that the running proxy knows of.
pub struct Changes {
    request_ops: CompiledOps,
    response_ops: CompiledOps,
    rewrite: Option<Rewrite>,
    keys: Option<Names>,
}

impl Changes {
    /// Compiles the changes of a route, and looks whether its upstreams are among the known ones.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub fn compile(
        settings: &Settings,
        upstreams: &BTreeMap<String, crate::config::upstream::Upstream>,
    ) -> Result<Self, (&'static str, String)> {
        let mirror = settings.mirror.iter().map(|mirror| (mirror.upstream.as_str(), 0));
        let mut all = named(settings).chain(mirror);
        if let Some((name, _)) = all.find(|(name, _)| !upstreams.contains_key(*name)) {
            return Err(("upstream", format!("no upstream is named `{name}`")));
        }
        let headers = &settings.headers;
        let rewrite = settings.rewrite.as_ref().map(Rewrite::compile).transpose();
        Ok(Self {
            request_ops: CompiledOps::compile(&headers.request)
                .map_err(|message| ("headers.request", message))?,
            response_ops: CompiledOps::compile(&headers.response)
                .map_err(|message| ("headers.response", message))?,
            rewrite: rewrite.map_err(|message| ("rewrite", message))?,
            keys: settings.idempotency.as_ref().map(Names::compile).transpose()?,
        })
    }
}

impl Route {
    /// A route; its circuits, limiter and metrics are those of the route known by its name.
    pub fn new(
        settings: &Settings,
        changes: Changes,
        known: Option<&Arc<Self>>,
        around: &Around<'_>,
    ) -> Self {
        let Around { upstreams, importance, metrics, stores } = *around;
        let name: Arc<str> = settings.name.as_str().into();
        let route_metrics = known.map_or_else(|| metrics.route(&name), |k| Arc::clone(&k.metrics));
        let mut targets = Vec::new();
        for (upstream, weight) in named(settings) {
            // The changes were compiled, so the name is known.
            let Some(upstream) = upstreams.get(upstream) else { continue };
            let circuit = known.and_then(|known| known.circuit(&upstream.name)).cloned();
            let circuit = circuit.unwrap_or_else(|| {
                let of = metrics.breaker(&name, &upstream.name);
                Arc::new(Circuit::new(Arc::clone(&name), Arc::clone(&upstream.name), of))
            });
            let baseline = upstream.state.gate.route(hash(name.as_bytes()));
            targets.push(Target { upstream: Arc::clone(upstream), circuit, baseline, weight });
        }
        let max_attempts = match settings.retry.mode {
            Mode::Off => 1,
            _ => settings.retry.max_attempts,
        };
        let Changes { request_ops, response_ops, rewrite, keys } = changes;
        let keys = settings.idempotency.as_ref().zip(keys).map(|(settings, names)| {
            let known = known.and_then(|known| known.keys.as_ref());
            Arc::new(Keys::new(settings, names, stores, metrics.keyed(&name), known))
        });
        Self {
            keys,
            fallback: fallback::compile(settings, &targets),
            cache: cache(settings, known, &route_metrics),
            hedging: hedging(settings, known, &route_metrics),
            metrics: route_metrics,
            limiter: limiter(settings, known),
            learning: learning(settings, known, metrics),
            bulkhead: bulkhead(settings, known),
            tier: settings.priority.as_ref().and_then(|name| importance.fixed(name)),
            importance: Arc::clone(importance),
            mirror: settings.mirror.as_ref().and_then(|mirror| {
                Mirror::new(mirror, known.and_then(|known| known.mirror.as_ref()), upstreams)
            }),
            request_ops,
            response_ops,
            rewrite,
            max_attempts,
            total_weight: targets.iter().map(|target| target.weight).sum(),
            name,
            settings: settings.clone(),
            targets,
        }
    }

    /// The path and query to ask the upstream for, as an origin server wants them (RFC 9112,
    /// 3.2.1), rewritten if the route says so. `found` is what the path matched, and `names` are
    /// those of its captures, which a route that does not rewrite needs not.
    ///
    /// # Errors
    /// As [`Rewrite::target`].
    pub fn target(
        &self,
        uri: &Uri,
        found: &Found,
        names: &[Box<str>],
    ) -> Result<PathAndQuery, &'static str> {
        let Some(rewrite) = &self.rewrite else { return Ok(rewrite::origin_form(uri)) };
        let path = uri.path();
        let names = names.iter().enumerate();
        let captures: Vec<(&str, &str)> =
            names.filter_map(|(at, name)| Some((&**name, found.captures.get(at, path)?))).collect();
        let prefix = self.settings.matches.path_prefix.as_ref();
        let prefix = prefix.map_or(path.len(), |p| p.trim_end_matches('/').len());
        rewrite.target(uri, Matched { prefix, captures: &captures })
    }

    /// The circuits with the names of their upstreams.
    pub fn circuits(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Circuit>)> {
        self.targets.iter().map(|target| (&target.upstream.name, &target.circuit))
    }

    /// The circuit to an upstream.
    #[must_use]
    pub fn circuit(&self, upstream: &str) -> Option<&Arc<Circuit>> {
        self.circuits().find(|(name, _)| &***name == upstream).map(|(_, circuit)| circuit)
    }

    /// Whether a failed request may go to another upstream.
    #[must_use]
    pub fn leads_elsewhere(&self) -> bool {
        self.fallback.iter().any(|link| matches!(link.does, Does::Upstream(_)))
    }

    /// The place among the targets of one request's upstream, by weight; `random` is drawn only
    /// when there is a choice.
    #[must_use]
    pub fn choose_target(&self, random: impl FnOnce() -> f64) -> usize {
        if self.targets.len() < 2 {
            return 0;
        }
        let mut left = (random() * f64::from(self.total_weight)) as u32;
        for (place, target) in self.targets.iter().enumerate() {
            if left < target.weight {
                return place;
            }
            left -= target.weight;
        }
        0
    }
}

fn limiter(settings: &Settings, known: Option<&Arc<Route>>) -> Option<Arc<RouteLimiter>> {
    let settings = settings.rate_limit.as_ref().filter(|limit| limit.mode != Mode::Off)?;
    let rate = settings.rate.filter(|_| !settings.learn_from_429)?;
    let running = known.and_then(|known| known.limiter.as_ref());
    Some(match running.filter(|running| running.same_quota(settings)) {
        Some(running) => Arc::clone(running),
        None => Arc::new(RouteLimiter::new(settings, rate, ProcessClock)),
    })
}

/// What was learned stays, whatever else the settings say of it.
fn learning(
    settings: &Settings,
    known: Option<&Arc<Route>>,
    metrics: &Metrics,
) -> Option<Arc<Learning>> {
    let limit = settings.rate_limit.as_ref()?;
    if limit.mode == Mode::Off || !limit.learn_from_429 {
        return None;
    }
    let running = known.and_then(|known| known.learning.clone());
    let new = || Arc::new(Learning::new(metrics.learned(&settings.name), clock::now()));
    Some(running.unwrap_or_else(new))
}

/// What is known of latencies stays, whatever the settings say of them.
fn hedging(
    settings: &Settings,
    known: Option<&Arc<Route>>,
    metrics: &Arc<RouteMetrics>,
) -> Option<Arc<Hedging>> {
    settings.hedge.as_ref().filter(|settings| settings.mode != Mode::Off)?;
    let running = known.and_then(|known| known.hedging.clone());
    let new = || Arc::new(Hedging::new(Arc::clone(metrics), clock::now()));
    Some(running.unwrap_or_else(new))
}

fn bulkhead(settings: &Settings, known: Option<&Arc<Route>>) -> Option<Arc<Gate<Fixed>>> {
    let settings = settings.bulkhead.as_ref().filter(|settings| settings.mode != Mode::Off)?;
    Some(match known.and_then(|known| known.bulkhead.as_ref()) {
        Some(running) => {
            running.configure(settings);
            Arc::clone(running)
        }
        None => Arc::new(Gate::fixed(settings, clock::now())),
    })
}

/// The answers that are kept under the same rules of selection, fitted into the new bound.
fn cache(
    settings: &Settings,
    known: Option<&Arc<Route>>,
    metrics: &Arc<RouteMetrics>,
) -> Option<Arc<RouteCache>> {
    let running = known.and_then(|k| Some((k.cache.as_ref()?, k.settings.cache.as_ref()?)));
    let same =
        running.filter(|(_, old)| settings.cache.as_ref().is_some_and(|c| c.vary == old.vary));
    if running.is_some() && same.is_none() {
        metrics.fallback.cache_bytes.set(0);
        metrics.fallback.cache_answers.set(0);
    }
    let settings = settings.cache.as_ref()?;
    Some(match same {
        Some((running, _)) => {
            running.refit(settings);
            Arc::clone(running)
        }
        None => Arc::new(RouteCache::new(Arc::clone(metrics))),
    })
}

/// The upstreams that the settings name, each once, with their weights.
fn named(settings: &Settings) -> impl Iterator<Item = (&str, u32)> {
    let one = settings.upstream.iter().map(|upstream| (upstream.as_str(), 1));
    let one =
        one.chain(settings.upstreams.iter().map(|target| (target.name.as_str(), target.weight)));
    let led_to = settings.fallback.iter().filter_map(|link| match link {
        LinkSetting::Upstream(name) => Some(name.as_str()),
        LinkSetting::Stale | LinkSetting::Respond(_) => None,
    });
    one.clone().chain(
        led_to
            .filter(move |name| !one.clone().any(|(known, _)| known == *name))
            .map(|name| (name, 0)),
    )
}
