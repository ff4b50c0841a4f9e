//! One route, ready to be followed.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Uri;
use http::uri::PathAndQuery;

use super::circuit::Circuit;
use super::limit::{ProcessClock, RouteLimiter};
use super::matcher::Found;
use super::mirror::Mirror;
use super::ops::CompiledOps;
use super::rewrite::{self, Matched, Rewrite};
use crate::config::route::Route as Settings;
use crate::policy::Mode;
use crate::telemetry::metrics::{Metrics, RouteMetrics};
use crate::upstream::Upstream;

/// One route.
pub struct Route {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Its settings.
    pub settings: Settings,
    /// Where its requests go.
    pub targets: Vec<Target>,
    /// Its metrics.
    pub metrics: Arc<RouteMetrics>,
    /// Its rate limiter, if it has one.
    pub limiter: Option<Arc<RouteLimiter>>,
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
    /// Its share relative to the route's other targets.
    pub weight: u32,
}

/// What a route changes of its requests and answers, compiled: all of a route that can be wrong,
/// and nothing that the running proxy knows of.
pub struct Changes {
    request_ops: CompiledOps,
    response_ops: CompiledOps,
    rewrite: Option<Rewrite>,
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
        })
    }
}

impl Route {
    /// A route; its circuits, limiter and metrics are those of the route known by its name.
    pub fn new(
        settings: &Settings,
        changes: Changes,
        known: Option<&Arc<Self>>,
        upstreams: &BTreeMap<String, Arc<Upstream>>,
        metrics: &Metrics,
    ) -> Self {
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
            targets.push(Target { upstream: Arc::clone(upstream), circuit, weight });
        }
        let max_attempts = match settings.retry.mode {
            Mode::Off => 1,
            _ => settings.retry.max_attempts,
        };
        let Changes { request_ops, response_ops, rewrite } = changes;
        Self {
            metrics: route_metrics,
            limiter: limiter(settings, known),
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
    let running = known.and_then(|known| known.limiter.as_ref());
    Some(match running.filter(|running| running.same_quota(settings)) {
        Some(running) => Arc::clone(running),
        None => Arc::new(RouteLimiter::new(settings, ProcessClock)),
    })
}

/// The upstreams that the settings name, with their weights.
fn named(settings: &Settings) -> impl Iterator<Item = (&str, u32)> {
    let one = settings.upstream.iter().map(|upstream| (upstream.as_str(), 1));
    one.chain(settings.upstreams.iter().map(|target| (target.name.as_str(), target.weight)))
}
