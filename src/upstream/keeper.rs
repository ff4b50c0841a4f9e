//! Keeps the endpoints of one upstream: resolves its names and asks for its endpoints' health.
//!
//! Runs on the control runtime; a request never waits for it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::address::{EndpointAddress, Target};
use super::endpoint::Endpoint;
use super::health::Speak;
use super::resolve::{Resolver, keep_resolved};
use super::set::Spec;
use super::{Upstream, health};
use crate::clock;
use crate::config::upstream::{Dns, Refresh};
use crate::policy::health_check::{self, Health};
use crate::policy::resolution::{Bounds, Resolution};
use crate::shared::Shared;
use crate::telemetry::metrics::Metrics;

/// One line of the configuration that stands for endpoints.
struct Source {
    target: Target,
    weight: u32,
    zone: Option<Arc<str>>,
    /// What a name has last resolved to; `None` before its first answer.
    addresses: Option<Vec<SocketAddr>>,
}

impl Source {
    /// Whether its endpoints are known, even if there are none.
    fn known(&self) -> bool {
        self.addresses.is_some() || !matches!(self.target, Target::Name(..))
    }
}

/// The endpoints that need no name server, for the first publication.
#[must_use]
pub fn fixed(upstream: &Upstream) -> Vec<Spec> {
    sources(upstream).iter().flat_map(specs).collect()
}

/// Whether the upstream has names that must be resolved.
#[must_use]
pub fn has_names(upstream: &Upstream) -> bool {
    sources(upstream).iter().any(|source| matches!(source.target, Target::Name(..)))
}

/// Keeps the upstream's endpoints until it is dropped.
pub async fn keep(upstream: Arc<Upstream>, resolver: Arc<Resolver>, metrics: Arc<Metrics>) {
    let mut tasks = JoinSet::new();
    let all = Arc::new(Shared::new(sources(&upstream)));
    let names = names(&all.lock());
    let bounds = bounds(upstream.settings.dns.as_ref());
    upstream.state.names.lock().retain(|known, _| names.iter().any(|(_, host, _)| host == known));
    for (index, host, port) in names {
        let (all, upstream, metrics) = (Arc::clone(&all), Arc::clone(&upstream), metrics.clone());
        let known = upstream.state.names.lock().get(&host).cloned().unwrap_or_default();
        let name = host.clone();
        let publish = move |addresses: Option<Vec<SocketAddr>>, known: &Resolution| {
            upstream.state.names.lock().insert(name.clone(), known.clone());
            let Some(addresses) = addresses else { return };
            let mut all = all.lock();
            if let Some(source) = all.get_mut(index) {
                source.addresses = Some(addresses);
            }
            // Until the last name is answered, what was known before a reload stays.
            if !all.iter().all(Source::known) {
                return;
            }
            let specs: Vec<Spec> = all.iter().flat_map(specs).collect();
            upstream.publish(&metrics, &specs);
            upstream.state.answered.send_replace(true);
        };
        tasks.spawn(keep_resolved(host, port, bounds, Arc::clone(&resolver), known, publish));
    }
    if let Some(settings) = upstream.settings.health_check.clone() {
        tasks.spawn(check_all(Arc::clone(&upstream), settings));
    } else {
        upstream.state.endpoints.load().endpoints.iter().for_each(|e| e.forget_health());
    }
    while tasks.join_next().await.is_some() {}
    // Nothing to do for fixed endpoints without checks; the owner drops this future in time.
    std::future::pending::<()>().await;
}

fn names(sources: &[Source]) -> Vec<(usize, String, u16)> {
    let named = |(index, source): (usize, &Source)| match &source.target {
        Target::Name(host, port) => Some((index, host.clone(), *port)),
        _ => None,
    };
    sources.iter().enumerate().filter_map(named).collect()
}

fn sources(upstream: &Upstream) -> Vec<Source> {
    let settings = &upstream.settings;
    let listed =
        settings.endpoints.iter().map(|e| (e.address.as_str(), e.weight, e.zone.as_deref()));
    let name = settings.dns.iter().map(|dns| (dns.name.as_str(), 1, None));
    let parsed = |(address, weight, zone): (&str, u32, Option<&str>)| {
        // Addresses were checked when the file was read.
        let target = address.parse().ok()?;
        Some(Source { target, weight, zone: zone.map(Into::into), addresses: None })
    };
    listed.chain(name).filter_map(parsed).collect()
}

fn specs(source: &Source) -> Vec<Spec> {
    let host: Arc<str> = match &source.target {
        Target::Ip(address) => address.ip().to_string().into(),
        Target::Name(host, _) => host.as_str().into(),
        // A unix socket has no name of its own, and needs `server_name` for TLS.
        Target::Unix(_) => "localhost".into(),
    };
    let spec = |address| {
        let (zone, host) = (source.zone.clone(), Arc::clone(&host));
        Spec { address, weight: source.weight, zone, host }
    };
    match &source.target {
        Target::Ip(address) => vec![spec(EndpointAddress::Tcp(*address))],
        Target::Unix(path) => vec![spec(EndpointAddress::Unix(path.clone()))],
        Target::Name(..) => source
            .addresses
            .iter()
            .flatten()
            .map(|address| spec(EndpointAddress::Tcp(*address)))
            .collect(),
    }
}

fn bounds(dns: Option<&Dns>) -> Bounds {
    let refresh = dns.map_or_else(Refresh::default, |dns| dns.refresh.clone());
    let keep_last_good = dns.map_or(crate::config::upstream::KEEP_LAST_GOOD, |d| d.keep_last_good);
    Bounds { min: *refresh.min, max: *refresh.max, keep_last_good: *keep_last_good }
}

/// Asks every endpoint of the set for its health, each on its own jittered time.
async fn check_all(upstream: Arc<Upstream>, settings: health_check::Settings) {
    let mut running: JoinSet<u64> = JoinSet::new();
    let mut checked = std::collections::HashSet::new();
    loop {
        let set = upstream.state.endpoints.load_full();
        for endpoint in &set.endpoints {
            if checked.insert(endpoint.id) {
                running.spawn(check_one(
                    Arc::clone(&upstream),
                    Arc::clone(endpoint),
                    settings.clone(),
                ));
            }
        }
        drop(set);
        let pause = clock::sleep(*settings.interval);
        tokio::select! {
            Some(Ok(ended)) = running.join_next() => { checked.remove(&ended); }
            () = pause => {}
        }
    }
}

/// Checks one endpoint for as long as it is in the set.
async fn check_one(
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
    settings: health_check::Settings,
) -> u64 {
    let host = endpoint.name.to_string();
    // The first checks of many endpoints, and of many sidecars, are spread over one interval.
    clock::sleep(settings.interval.mul_f64(fastrand::f64())).await;
    loop {
        let set = upstream.state.endpoints.load_full();
        if !set.endpoints.iter().any(|known| known.id == endpoint.id) {
            return endpoint.id;
        }
        drop(set);
        let speak = Speak::to(&upstream, &endpoint);
        let result = health::check(&endpoint.address, &settings, &host, speak).await;
        let changed = endpoint.checked(&upstream.settings, result.is_ok(), clock::now());
        match (changed, result) {
            (Some(true), _) => {
                tracing::info!(upstream = %upstream.name, endpoint = %host, "endpoint is healthy");
            }
            (Some(false), Err(cause)) => tracing::warn!(
                upstream = %upstream.name, endpoint = %host, %cause, "endpoint is unhealthy"
            ),
            _ => {}
        }
        clock::sleep(Health::next_wait(&settings, fastrand::f64())).await;
    }
}
