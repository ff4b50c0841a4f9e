//! What the operator sees of the state, as JSON. The only types that describe state to the outside;
//! lengths of time are seconds, their names say so.

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::upstream::Protocol;
use crate::explain::{Learned, Limit, learned, limit, settings, standing};
use crate::policy::protection::{Thresholds, refused};
use crate::policy::{Mode, circuit_breaker};
use crate::proxy::{Proxy, Reloaded};
use crate::snapshot::Snapshot;
use crate::snapshot::importance::Importance;
use crate::snapshot::route::{Route, Target};
use crate::snapshot::tls::Standing;
use crate::tls::files::Shown;
use crate::upstream::Upstream;
use crate::upstream::endpoint::Endpoint as Known;

/// A route, and its policies as they are in force.
#[derive(Serialize)]
pub(super) struct RouteView {
    name: String,
    r#match: Value,
    upstreams: Vec<TargetView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    learned_rate: Option<Learned>,
    policies: Map<String, Value>,
}

/// Where a route leads.
#[derive(Serialize)]
struct TargetView {
    name: String,
    weight: u32,
    breaker: &'static str,
}

/// The circuit of a route to an upstream.
#[derive(Serialize)]
pub(super) struct BreakerView {
    route: String,
    upstream: String,
    mode: Mode,
    state: &'static str,
    /// In the window.
    attempts: u32,
    failures: u32,
    slow: u32,
    consecutive_failures: u32,
    opened_in_a_row: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_trial_in_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trials: Option<TrialsView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ramp_share: Option<f64>,
}

/// The trials of a half-open circuit.
#[derive(Serialize)]
struct TrialsView {
    awaited: u32,
    good: u32,
}

/// An upstream.
#[derive(Serialize)]
pub(super) struct UpstreamView {
    name: String,
    protocol: Protocol,
    load_balancing: crate::policy::load_balancing::Policy,
    connections: ConnectionsView,
    in_flight: usize,
    retry_budget: BudgetView,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<Limit>,
    endpoints: Vec<EndpointView>,
}

/// Connections to an upstream, of all workers together.
#[derive(Serialize)]
struct ConnectionsView {
    open: usize,
    limit: usize,
    /// Whether a request waits for one.
    wanted: bool,
}

/// Retries that an upstream's budget would pay for.
#[derive(Serialize)]
struct BudgetView {
    available: f64,
    from_traffic: f64,
    from_traffic_max: f64,
    from_floor: f64,
}

/// An endpoint.
#[derive(Serialize)]
struct EndpointView {
    address: String,
    state: &'static str,
    in_flight: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ewma_seconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ejected_for_seconds: Option<f64>,
    /// The part of its share that it gets while it comes back.
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_start_share: Option<f64>,
    weight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
}

/// Whether requests should be sent here.
#[derive(Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    pub(super) generation: u64,
}

/// What came of a reload.
#[derive(Serialize)]
pub(super) struct ReloadView {
    generation: u64,
    hash: String,
    changed: bool,
    restart_required: Vec<String>,
}

impl From<Reloaded> for ReloadView {
    fn from(reloaded: Reloaded) -> Self {
        let Reloaded { generation, hash, changed, restart_required } = reloaded;
        Self { generation, hash, changed, restart_required }
    }
}

/// Every route, in the order of the file.
///
/// # Errors
/// When the settings cannot be printed.
pub(super) fn routes(snapshot: &Snapshot, now: Instant) -> Result<Vec<RouteView>, String> {
    let printed = settings::Printed::of(snapshot)?;
    let view = |(index, route): (usize, &std::sync::Arc<Route>)| RouteView {
        name: route.name.to_string(),
        r#match: printed.conditions(index),
        upstreams: route.targets.iter().map(|target| target_view(route, target, now)).collect(),
        learned_rate: learned(route, now),
        policies: printed.policies(index),
    };
    Ok(snapshot.routes.iter().enumerate().map(view).collect())
}

fn target_view(route: &Route, target: &Target, now: Instant) -> TargetView {
    let breaker = target.circuit.view(&route.settings.circuit_breaker, now);
    TargetView {
        name: target.upstream.name.to_string(),
        weight: target.weight,
        breaker: breaker.state.as_str(),
    }
}

/// The circuits of a route, all or the one to an upstream.
pub(super) fn breakers<'a>(
    route: &'a Route,
    upstream: Option<&'a str>,
    now: Instant,
) -> impl Iterator<Item = BreakerView> + 'a {
    let wanted = move |name: &str| upstream.is_none_or(|wanted| wanted == name);
    let circuits = route.circuits().filter(move |(name, _)| wanted(name));
    circuits.map(move |(name, circuit)| {
        let settings = &route.settings.circuit_breaker;
        breaker(&route.name, name, settings, circuit.view(settings, now))
    })
}

fn breaker(
    route: &str,
    upstream: &str,
    settings: &circuit_breaker::Settings,
    view: circuit_breaker::View,
) -> BreakerView {
    let half_open = view.state == circuit_breaker::State::HalfOpen;
    BreakerView {
        route: route.to_owned(),
        upstream: upstream.to_owned(),
        mode: settings.mode,
        state: view.state.as_str(),
        attempts: view.totals.total,
        failures: view.totals.failures,
        slow: view.totals.slow,
        consecutive_failures: view.consecutive,
        opened_in_a_row: view.opened,
        next_trial_in_seconds: view.next_trial_in.map(|wait| wait.as_secs_f64()),
        trials: half_open
            .then_some(TrialsView { awaited: view.trials_leased, good: view.trials_good }),
        ramp_share: view.ramp_share,
    }
}

/// How short the proxy itself is of what it lives on, and what it refuses for that.
#[derive(Serialize)]
pub(super) struct ProtectionView {
    resources: Vec<ResourceView>,
    refused_tiers: usize,
    tiers: usize,
}

#[derive(Serialize)]
struct ResourceView {
    resource: &'static str,
    /// 0 none to 1 all refused; of the event loop, the worst worker's.
    pressure: f64,
    /// A share of what there is; of the event loop, seconds that the last timer was late.
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<f64>,
    /// The usage at which pressure begins, and at which it is 1.
    start: f64,
    full: f64,
}

/// The proxy's own protection.
pub(super) fn protection(proxy: &Proxy) -> ProtectionView {
    let mut highest = 0.0_f64;
    let resources = proxy.metrics.protection().read().map(|(resource, pressure, usage)| {
        highest = highest.max(pressure);
        let Thresholds { start, full, .. } = resource.thresholds();
        ResourceView { resource: resource.as_str(), pressure, usage, start, full }
    });
    let resources = resources.collect();
    let tiers = proxy.live().snapshot.importance.tiers();
    ProtectionView { resources, refused_tiers: refused(highest, tiers), tiers }
}

/// TLS of a listener or an upstream.
#[derive(Serialize)]
pub(super) struct TlsView {
    side: &'static str,
    name: String,
    certificates: Vec<CertificateView>,
    /// Why the files that are there now are not in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

/// A certificate in use.
#[derive(Serialize)]
struct CertificateView {
    file: String,
    names: Vec<String>,
    /// Unix time.
    not_after: i64,
    expires_in_seconds: i64,
}

/// TLS, wherever it is spoken.
pub(super) fn tls(snapshot: &Snapshot, now: SystemTime) -> Vec<TlsView> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    let certificate = |Shown { file, names, not_after }: Shown| CertificateView {
        file: file.display().to_string(),
        names,
        not_after,
        expires_in_seconds: not_after.saturating_sub(now),
    };
    let view = |Standing { side, name, certificates, problem }| TlsView {
        side,
        name,
        certificates: certificates.into_iter().map(certificate).collect(),
        refused: problem,
    };
    snapshot.tls().into_iter().map(view).collect()
}

/// Every upstream, by name.
pub(super) fn upstreams(snapshot: &Snapshot, now: Instant) -> Vec<UpstreamView> {
    let view = |upstream| upstream_view(upstream, &snapshot.importance, now);
    snapshot.upstreams.values().map(|upstream| view(upstream)).collect()
}

fn upstream_view(upstream: &Upstream, importance: &Importance, now: Instant) -> UpstreamView {
    let Upstream { name, settings, state, .. } = upstream;
    let balance = upstream.budget(now);
    let retries = |millis: u64| millis as f64 / 1000.0;
    let set = state.endpoints.load();
    let endpoints = set.endpoints.iter().map(|endpoint| endpoint_view(upstream, endpoint, now));
    UpstreamView {
        name: name.to_string(),
        protocol: settings.protocol,
        load_balancing: settings.load_balancing.policy,
        connections: ConnectionsView {
            open: state.connections.open(),
            limit: settings.pool.max_connections,
            wanted: state.connections.wanted(),
        },
        in_flight: set.endpoints.iter().map(|endpoint| endpoint.in_flight()).sum(),
        retry_budget: BudgetView {
            available: retries(balance.ratio_millis + balance.floor_millis),
            from_traffic: retries(balance.ratio_millis),
            from_traffic_max: retries(balance.cap),
            from_floor: retries(balance.floor_millis),
        },
        concurrency: limit(upstream, importance, now),
        endpoints: endpoints.collect(),
    }
}

fn endpoint_view(upstream: &Upstream, endpoint: &Known, now: Instant) -> EndpointView {
    let ejected = endpoint.ejected_until(now);
    let seconds = |nanos: f64| Duration::from_nanos(nanos as u64).as_secs_f64();
    let left = |until: Instant| until.saturating_duration_since(now).as_secs_f64();
    EndpointView {
        address: endpoint.name.to_string(),
        state: standing(endpoint, now),
        in_flight: endpoint.in_flight(),
        latency_ewma_seconds: endpoint.cost(now).map(seconds),
        ejected_for_seconds: ejected.map(left),
        slow_start_share: Some(endpoint.ramp(&upstream.settings, now)).filter(|share| *share < 1.0),
        weight: endpoint.weight,
        zone: endpoint.zone.as_deref().map(str::to_owned),
    }
}
