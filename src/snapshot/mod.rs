//! The compiled configuration: what a request looks up, and the state that a reload carries over.
//!
//! Compiling is a pure function of the file and the snapshot before it: a route, a circuit, a
//! limiter or an upstream whose name is still there is the same object afterwards, not a copy of
//! it.

pub mod cache;
pub mod circuit;
pub mod fallback;
pub mod flights;
pub mod grpc;
pub mod hedging;
pub mod host;
pub mod importance;
pub mod keys;
pub mod learning;
pub mod limit;
pub mod matcher;
pub mod mirror;
pub mod ops;
pub mod rewrite;
pub mod route;
pub mod tls;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::importance::Importance;
use self::matcher::Matcher;
use self::route::{Around, Changes, Route};
use crate::config::listener::Listener;
use crate::config::problem::Place;
use crate::config::{self, Config, Loaded, Problem, Secrets, Source};
use crate::records::registry::Registry;
use crate::telemetry::metrics::Metrics;
use crate::tls::client::Client;
use crate::tls::server::Server;
use crate::upstream::{State, Upstream, keeper};

/// The compiled configuration.
pub struct Snapshot {
    /// The file as read, with defaults filled in.
    pub config: Config,
    /// The hash of the effective configuration.
    pub hash: String,
    /// How many configurations this process has had, this one included.
    pub generation: u64,
    /// Finds the route of a request.
    pub matcher: Matcher,
    /// The routes, in the order of the file.
    pub routes: Vec<Arc<Route>>,
    /// Whether any route keeps answers.
    pub keeps_answers: bool,
    /// The upstreams by name.
    pub upstreams: BTreeMap<String, Arc<Upstream>>,
    /// TLS of the listeners that have it, by name.
    pub servers: BTreeMap<String, Arc<Server>>,
    /// The tiers of importance.
    pub importance: Arc<Importance>,
    /// What was substituted into the file and must never be printed.
    pub secrets: Secrets,
}

impl Snapshot {
    /// Compiles a configuration; state is taken over by name from the one before. A configuration
    /// that is refused leaves that state, and the metrics, as they were.
    ///
    /// # Errors
    /// What only the compiled form shows: routes that can never match, and changes of requests and
    /// answers that cannot be made.
    pub fn compile(
        loaded: Loaded,
        previous: Option<&Self>,
        metrics: &Metrics,
        stores: &Registry,
    ) -> Result<Self, Vec<Problem>> {
        let Loaded { config, source, hash, secrets } = loaded;
        // All that can fail comes first: from here on the running proxy's state is touched.
        let mut problems = Vec::new();
        let compiled = tls::compile(&config, &source, previous, &mut problems);
        let matcher = kept(matcher(&config, &source), &mut problems);
        let changes = kept(changes(&config, &source), &mut problems);
        let importance = Importance::new(&config.priorities)
            .map_err(|message| vec![problem(&source, "priorities.from.header", message)]);
        let importance = kept(importance, &mut problems);
        let (Some(matcher), Some(changes), Some(importance), true) =
            (matcher, changes, importance, problems.is_empty())
        else {
            return Err(problems);
        };
        let importance = Arc::new(importance);
        let mut upstreams = BTreeMap::new();
        for (name, settings) in &config.upstreams {
            let known = previous.and_then(|previous| previous.upstreams.get(name));
            let tls = compiled.clients.get(name).cloned();
            let upstream = compile_upstream(name, settings, tls, known, metrics);
            upstream.state.gate.configure(&settings.concurrency, importance.tiers());
            upstreams.insert(name.clone(), upstream);
        }
        let known: BTreeMap<&str, &Arc<Route>> = previous
            .iter()
            .flat_map(|previous| &previous.routes)
            .map(|route| (&*route.name, route))
            .collect();
        let route = |(settings, changes): (&config::route::Route, Changes)| {
            let known = known.get(settings.name.as_str()).copied();
            let around = Around { upstreams: &upstreams, importance: &importance, metrics, stores };
            Arc::new(Route::new(settings, changes, known, &around))
        };
        let routes: Vec<_> = config.routes.iter().zip(changes).map(route).collect();
        let keeps_answers = routes.iter().any(|route| route.cache.is_some());
        let hash = format!("{hash:016x}");
        let generation = previous.map_or(1, |previous| previous.generation + 1);
        Ok(Self {
            config,
            hash,
            generation,
            matcher,
            routes,
            keeps_answers,
            upstreams,
            servers: compiled.servers,
            importance,
            secrets,
        })
    }

    /// The place of a listener in the configuration, by which routes know it.
    #[must_use]
    pub fn listener(&self, name: &str) -> Option<(usize, &Listener)> {
        self.config.listeners.iter().enumerate().find(|(_, listener)| listener.name == name)
    }

    /// Takes the metrics of all that is gone out of the exposition.
    pub fn forget_absent(&self, previous: &Self, metrics: &Metrics) {
        for route in &previous.routes {
            let Some(new) = self.routes.iter().find(|new| new.name == route.name) else {
                metrics.forget_route(&route.name);
                continue;
            };
            if new.keys.is_none() {
                metrics.forget_keyed(&route.name);
            }
            if new.learning.is_none() {
                metrics.forget_learned(&route.name);
            }
            for (upstream, _) in route.circuits() {
                if !new.circuits().any(|(name, _)| name == upstream) {
                    metrics.forget_breaker(&route.name, upstream);
                }
            }
        }
        for name in previous.upstreams.keys().filter(|name| !self.upstreams.contains_key(*name)) {
            metrics.forget_upstream(name);
        }
    }

    /// The keys that differ from what runs and take effect only with a restart.
    #[must_use]
    pub fn restart_required(&self, running: &Config) -> Vec<String> {
        let (new, old) = (&self.config, running);
        let mut keys = Vec::new();
        let mut differs = |key: &str, differs: bool| {
            if differs {
                keys.push(key.to_owned());
            }
        };
        differs("admin", new.admin != old.admin);
        differs("runtime.workers", new.runtime.workers != old.runtime.workers);
        differs("telemetry.log.format", new.telemetry.log.format != old.telemetry.log.format);
        // A store that is new is opened at once; one that is open stays as it is.
        let changed =
            |(name, store)| old.stores.get::<String>(name).is_some_and(|old| old != store);
        differs("stores", new.stores.iter().any(changed));
        differs("reload.watch", new.reload.watch != old.reload.watch);
        for listener in &new.listeners {
            match old.listeners.iter().find(|old| old.name == listener.name) {
                None => keys.push(format!("listeners: `{}` is new", listener.name)),
                Some(old) if old.bind != listener.bind || old.protocols != listener.protocols => {
                    keys.push(format!("listeners: bind or protocols of `{}`", listener.name));
                }
                Some(old) if old.socket_mode != listener.socket_mode => {
                    keys.push(format!("listeners: socket_mode of `{}`", listener.name));
                }
                Some(old) if old.limits.max_connections != listener.limits.max_connections => {
                    keys.push(format!("listeners: max_connections of `{}`", listener.name));
                }
                Some(_) => {}
            }
        }
        for old in &old.listeners {
            if !new.listeners.iter().any(|listener| listener.name == old.name) {
                keys.push(format!("listeners: `{}` is gone", old.name));
            }
        }
        keys
    }
}

fn matcher(config: &Config, source: &Source) -> Result<Matcher, Vec<Problem>> {
    let matches: Vec<_> = config.routes.iter().map(|route| &route.matches).collect();
    let listeners: Vec<String> = config.listeners.iter().map(|l| l.name.clone()).collect();
    let matcher = Matcher::compile(&matches, &listeners).map_err(|errors| {
        let at = |(index, key, message): matcher::Problem| {
            problem(source, &format!("routes[{index}].match.{key}"), message)
        };
        errors.into_iter().map(at).collect::<Vec<_>>()
    })?;
    let shadowed = matcher.shadowed();
    if shadowed.is_empty() {
        return Ok(matcher);
    }
    let name = |index: usize| config.routes.get(index).map_or("", |route| route.name.as_str());
    let at = |(index, by): (usize, usize)| {
        let message = format!(
            "route `{}` can never match: `{}` takes every request that it would",
            name(index),
            name(by)
        );
        problem(source, &format!("routes[{index}].match"), message)
    };
    Err(shadowed.into_iter().map(at).collect())
}

/// What each route changes, in the order of the file.
fn changes(config: &Config, source: &Source) -> Result<Vec<Changes>, Vec<Problem>> {
    let mut changes = Vec::with_capacity(config.routes.len());
    let mut problems = Vec::new();
    for (index, settings) in config.routes.iter().enumerate() {
        match Changes::compile(settings, &config.upstreams) {
            Ok(compiled) => changes.push(compiled),
            Err((key, message)) => {
                problems.push(problem(source, &format!("routes[{index}].{key}"), message));
            }
        }
    }
    if problems.is_empty() { Ok(changes) } else { Err(problems) }
}

/// What was made, if it was; its problems go to the others, so that all are seen at once.
fn kept<T>(made: Result<T, Vec<Problem>>, problems: &mut Vec<Problem>) -> Option<T> {
    made.map_err(|more| problems.extend(more)).ok()
}

/// A problem at the place of a setting.
#[must_use]
pub fn problem(source: &Source, path: &str, message: String) -> Problem {
    let (line, column) = source.position(path);
    Problem::new(Place { line, column }, path, message)
}

fn compile_upstream(
    name: &str,
    settings: &config::upstream::Upstream,
    tls: Option<Arc<Client>>,
    known: Option<&Arc<Upstream>>,
    metrics: &Metrics,
) -> Arc<Upstream> {
    if let Some(known) = known.filter(|known| known.settings == *settings) {
        return Arc::clone(known);
    }
    let state = match known {
        Some(known) => Arc::clone(&known.state),
        None => Arc::new(State::new(metrics.upstream(name), &settings.concurrency)),
    };
    state.metrics.connection_limit.set(settings.pool.max_connections);
    let upstream = Upstream { name: name.into(), settings: settings.clone(), tls, state };
    // Names keep what they have resolved to until they are resolved again.
    let same_sources = known.is_some_and(|known| {
        known.settings.endpoints == settings.endpoints
            && known.settings.dns == settings.dns
            && known.settings.original_destination == settings.original_destination
    });
    // Other names too leave the known endpoints in place until they are resolved.
    let resolved_later = known.is_some() && keeper::has_names(&upstream);
    if same_sources || resolved_later {
        upstream.rebuild(metrics);
    } else {
        upstream.publish(metrics, &keeper::fixed(&upstream));
    }
    Arc::new(upstream)
}

#[cfg(test)]
mod tests;
