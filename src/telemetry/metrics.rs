//! Every metric, and its exposition in Prometheus' text format.
//!
//! The table of names is in `family`, the numbers in `children`. Numbers are plain atomics rather
//! than the `prometheus` crate's vectors: a child of a vector repeats the description and the label
//! pairs of its metric, most of a kilobyte, and a route has some fifty of them. That crate encodes.
//! Metrics are encoded one after another, so that no more than one is in memory in encoder's form.
//!
//! Label values come from names in the configuration and from closed vocabularies; what a reload
//! removes is forgotten, so the exposition is bounded by the configuration. Where a label has many
//! values of which few occur (reasons, results, policies in observe mode) a sample appears with its
//! first event, and so does a histogram: 10 000 idle routes are then eight lines each. Everything
//! else is there from the start, at zero.

mod calls;
mod cell;
mod children;
mod fallback;
mod family;
mod hedge;
mod latency;
mod learned;
mod listener;
mod places;
mod process;
mod protection;
mod proxy_header;
mod records;
mod samples;
mod tls;
mod tunnels;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::TextEncoder;
use prometheus::proto::MetricType;

pub use calls::{Call, CallMetrics, METHODS_MAX};
pub use cell::{Counter, Elapsed, Level, Measure};
use children::Emit;
pub use children::{
    BreakerMetrics, BreakerState, EndpointMetrics, RouteMetrics, UpstreamMetrics, Would,
};
pub use fallback::{CacheEvent, FallbackLink, FallbackMetrics};
use family::{Family, Scope};
pub use hedge::HedgeMetrics;
pub use latency::{Buckets, Latency, Reading};
pub use learned::LearnedMetrics;
pub use listener::ListenerMetrics;
pub use places::{BulkheadMetrics, LimitMetrics};
use process::Process;
pub use protection::ProtectionMetrics;
pub use proxy_header::{HeaderIn, HeadersIn};
pub use records::{KeyedMetrics, Operation, StoreMetrics, Word};
use samples::Samples;
pub use tls::{Expiry, HandshakeIn, HandshakeOut, HandshakesIn, HandshakesOut, Refused, TlsFiles};
pub use tunnels::{TunnelEnd, TunnelMetrics};
pub use worker::WorkerMetrics;

/// The `Content-Type` of [`Metrics::render`].
pub use prometheus::TEXT_FORMAT as CONTENT_TYPE;

/// What came of reading the configuration again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It is in force.
    Applied,
    /// It has faults; the one before stays in force.
    Rejected,
    /// It is the one in force.
    Unchanged,
}

impl Reload {
    const ALL: [Self; 3] = [Self::Applied, Self::Rejected, Self::Unchanged];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Rejected => "rejected",
            Self::Unchanged => "unchanged",
        }
    }
}

/// What documentation says of one metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, in a sentence.
    pub help: &'static str,
}

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    suppressions: &'static [&'static str],
    routes: Children<String, RouteMetrics>,
    learned: Children<String, LearnedMetrics>,
    keyed: Children<String, KeyedMetrics>,
    stores: Children<String, StoreMetrics>,
    breakers: Children<(String, String), BreakerMetrics>,
    upstreams: Children<String, UpstreamMetrics>,
    endpoints: Children<(String, String), EndpointMetrics>,
    listeners: Children<String, ListenerMetrics>,
    workers: Children<usize, WorkerMetrics>,
    reloads: [Counter; Reload::ALL.len()],
    config: Mutex<ConfigInForce>,
    access_log_dropped: Arc<Counter>,
    protection: ProtectionMetrics,
    tls: TlsFiles,
    kept_bodies: KeptBodies,
}

/// Bytes of request bodies that are kept, and the most that may be.
#[derive(Debug, Default)]
struct KeptBodies {
    bytes: Level,
    most: Level,
}

/// Children by name, in order. Locked at a reload and at a scrape only.
type Children<K, V> = Mutex<BTreeMap<K, Arc<V>>>;

#[derive(Debug, Default)]
struct ConfigInForce {
    hash: String,
    generation: u64,
    /// Unix time, seconds.
    applied: f64,
}

/// Locks a map. A panic of another holder leaves it whole, for each change is one call.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Metrics {
    /// No children yet. The slice names the causes for which a retry may be suppressed; see
    /// [`RouteMetrics::retry_suppressed`].
    #[must_use]
    pub fn new(suppressions: &'static [&'static str]) -> Self {
        Self {
            suppressions,
            routes: Mutex::default(),
            learned: Mutex::default(),
            keyed: Mutex::default(),
            stores: Mutex::default(),
            breakers: Mutex::default(),
            upstreams: Mutex::default(),
            endpoints: Mutex::default(),
            listeners: Mutex::default(),
            workers: Mutex::default(),
            reloads: Default::default(),
            config: Mutex::default(),
            access_log_dropped: Arc::default(),
            protection: ProtectionMetrics::default(),
            tls: TlsFiles::default(),
            kept_bodies: KeptBodies::default(),
        }
    }

    /// The numbers of a route, the same for the same name until it is forgotten.
    pub fn route(&self, name: &str) -> Arc<RouteMetrics> {
        let mut routes = locked(&self.routes);
        let new = || Arc::new(RouteMetrics::new(self.suppressions));
        Arc::clone(routes.entry(name.to_owned()).or_insert_with(new))
    }

    /// The numbers of a route's learned rate.
    pub fn learned(&self, route: &str) -> Arc<LearnedMetrics> {
        Arc::clone(locked(&self.learned).entry(route.to_owned()).or_default())
    }

    /// The numbers of a route's keys.
    pub fn keyed(&self, route: &str) -> Arc<KeyedMetrics> {
        Arc::clone(locked(&self.keyed).entry(route.to_owned()).or_default())
    }

    /// The numbers of a store; the slice names the kinds of its faults.
    pub fn store(&self, name: &str, kinds: &'static [&'static str]) -> Arc<StoreMetrics> {
        let new = || Arc::new(StoreMetrics::new(kinds));
        Arc::clone(locked(&self.stores).entry(name.to_owned()).or_insert_with(new))
    }

    /// The numbers of the circuit between a route and an upstream.
    pub fn breaker(&self, route: &str, upstream: &str) -> Arc<BreakerMetrics> {
        let key = (route.to_owned(), upstream.to_owned());
        Arc::clone(locked(&self.breakers).entry(key).or_default())
    }

    /// The numbers of an upstream.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamMetrics> {
        Arc::clone(locked(&self.upstreams).entry(name.to_owned()).or_default())
    }

    /// The numbers of one address of an upstream.
    pub fn endpoint(&self, upstream: &str, address: &str) -> Arc<EndpointMetrics> {
        let key = (upstream.to_owned(), address.to_owned());
        Arc::clone(locked(&self.endpoints).entry(key).or_default())
    }

    /// The numbers of a listener.
    pub fn listener(&self, name: &str) -> Arc<ListenerMetrics> {
        Arc::clone(locked(&self.listeners).entry(name.to_owned()).or_default())
    }

    /// The numbers of a worker thread, counted from 0.
    pub fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        Arc::clone(locked(&self.workers).entry(index).or_default())
    }

    /// Stops exposing a route and its circuits. Requests still under way count into what they hold.
    pub fn forget_route(&self, name: &str) {
        locked(&self.routes).remove(name);
        self.forget_learned(name);
        self.forget_keyed(name);
        locked(&self.breakers).retain(|(route, _), _| route != name);
    }

    /// Stops exposing the learned rate of a route.
    pub fn forget_learned(&self, route: &str) {
        locked(&self.learned).remove(route);
    }

    /// Stops exposing the keys of a route.
    pub fn forget_keyed(&self, route: &str) {
        locked(&self.keyed).remove(route);
    }

    /// Stops exposing a store.
    pub fn forget_store(&self, name: &str) {
        locked(&self.stores).remove(name);
    }

    /// Stops exposing the circuit between a route and an upstream.
    pub fn forget_breaker(&self, route: &str, upstream: &str) {
        locked(&self.breakers).remove(&(route.to_owned(), upstream.to_owned()));
    }

    /// Stops exposing an upstream, its endpoints and the circuits to it.
    pub fn forget_upstream(&self, name: &str) {
        locked(&self.upstreams).remove(name);
        locked(&self.endpoints).retain(|(upstream, _), _| upstream != name);
        locked(&self.breakers).retain(|(_, upstream), _| upstream != name);
    }

    /// Stops exposing one address of an upstream.
    pub fn forget_endpoint(&self, upstream: &str, address: &str) {
        locked(&self.endpoints).remove(&(upstream.to_owned(), address.to_owned()));
    }

    /// Stops exposing a listener.
    pub fn forget_listener(&self, name: &str) {
        locked(&self.listeners).remove(name);
    }

    /// Counts that the configuration was read again.
    pub fn reload(&self, result: Reload) {
        if let Some(counter) = self.reloads.get(result as usize) {
            counter.inc();
        }
    }

    /// Shows which configuration is in force, the how manyth since the start, and since when.
    pub fn config_in_force(&self, hash: &str, generation: u64, since: SystemTime) {
        let applied = since.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        *locked(&self.config) = ConfigInForce { hash: hash.to_owned(), generation, applied };
    }

    /// The counter of lost lines of the access log.
    #[must_use]
    pub fn access_log_dropped(&self) -> Arc<Counter> {
        Arc::clone(&self.access_log_dropped)
    }

    /// How short the proxy itself is of what it lives on.
    #[must_use]
    pub const fn protection(&self) -> &ProtectionMetrics {
        &self.protection
    }

    /// The files of TLS.
    #[must_use]
    pub const fn tls(&self) -> &TlsFiles {
        &self.tls
    }

    /// Shows how many bytes of request bodies are kept, of how many.
    pub fn kept_bodies(&self, bytes: usize, most: usize) {
        self.kept_bodies.bytes.set(bytes);
        self.kept_bodies.most.set(most);
    }

    /// Requests that have not ended, of all routes.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let all = locked(&self.routes).values().map(|route| route.in_flight.get()).sum::<i64>();
        u64::try_from(all).unwrap_or(0)
    }

    /// How late the timers of the worst worker fire, in seconds, and the pressure of it.
    #[must_use]
    pub fn event_loop(&self) -> (f64, f64) {
        let workers = locked(&self.workers);
        workers.values().fold((0.0, 0.0), |(delay, pressure): (f64, f64), worker| {
            (delay.max(worker.delay.get()), pressure.max(worker.pressure.get()))
        })
    }

    /// Every metric, in the order of exposition.
    #[must_use]
    pub fn table() -> Vec<Row> {
        let kind = |family: Family| match family.kind() {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            _ => "gauge",
        };
        let row = |family: &Family| Row {
            name: family.name(),
            kind: kind(*family),
            labels: family.labels(),
            help: family.help(),
        };
        Family::ALL.iter().map(row).collect()
    }

    /// The exposition in Prometheus' text format 0.0.4. Reads procfs, so it blocks for about a
    /// millisecond, and takes time in proportion to the routes and endpoints: call it where no
    /// request waits for it.
    #[must_use]
    pub fn render(&self) -> String {
        self.render_with(&Process::read())
    }

    fn render_with(&self, process: &Process) -> String {
        let mut text = String::new();
        for family in Family::ALL {
            let mut samples = Samples::new(*family);
            self.collect(&mut samples, process);
            let Some(family) = samples.finish() else { continue };
            // Encoding into memory fails only for a metric without a name or a sample.
            if let Err(error) = TextEncoder::new().encode_utf8(&[family], &mut text) {
                tracing::error!(%error, "a metric could not be encoded and is left out");
            }
        }
        text
    }

    fn collect(&self, samples: &mut Samples, process: &Process) {
        match samples.family().scope() {
            Scope::Route => emit_named(&self.routes, samples),
            Scope::Learned => emit_named(&self.learned, samples),
            Scope::Keyed => emit_named(&self.keyed, samples),
            Scope::Store => emit_named(&self.stores, samples),
            Scope::Breaker => emit_paired(&self.breakers, samples),
            Scope::Upstream => emit_named(&self.upstreams, samples),
            Scope::Endpoint => emit_paired(&self.endpoints, samples),
            Scope::Listener => emit_named(&self.listeners, samples),
            Scope::Worker => {
                for (index, worker) in &*locked(&self.workers) {
                    worker.emit(&[&index.to_string()], samples);
                }
            }
            Scope::Proxy => self.emit_proxy(samples),
            Scope::Process => emit_process(process, samples),
        }
    }

    fn emit_proxy(&self, samples: &mut Samples) {
        let config = locked(&self.config);
        match samples.family() {
            Family::Reloads => {
                for (counter, result) in self.reloads.iter().zip(Reload::ALL) {
                    samples.counter(&[], Some(result.as_str()), counter.get() as f64);
                }
            }
            Family::ConfigGeneration => samples.gauge(&[], None, config.generation as f64),
            Family::ConfigApplied => samples.gauge(&[], None, config.applied),
            Family::ConfigHash => samples.gauge(&[], Some(&config.hash), 1.0),
            Family::AccessLogDropped => {
                samples.counter(&[], None, self.access_log_dropped.get() as f64);
            }
            Family::ProtectionPressure | Family::ProtectionUsage => {
                self.protection.emit(&[], samples);
            }
            Family::TlsSwaps | Family::TlsExpiry | Family::TlsRefused => self.tls.emit(samples),
            Family::KeptBodies => {
                samples.gauge(&[], None, self.kept_bodies.bytes.get() as f64);
            }
            Family::KeptBodiesLimit => {
                samples.gauge(&[], None, self.kept_bodies.most.get() as f64);
            }
            Family::Build => samples.gauge(&[], Some(env!("CARGO_PKG_VERSION")), 1.0),
            _ => {}
        }
    }
}

fn emit_named<V: Emit>(children: &Children<String, V>, samples: &mut Samples) {
    for (name, child) in &*locked(children) {
        child.emit(&[name], samples);
    }
}

fn emit_paired<V: Emit>(children: &Children<(String, String), V>, samples: &mut Samples) {
    for ((first, second), child) in &*locked(children) {
        child.emit(&[first, second], samples);
    }
}

fn emit_process(process: &Process, samples: &mut Samples) {
    match samples.family() {
        Family::ProcessCpu => {
            if let Some(cpu) = process.cpu {
                samples.counter(&[], None, cpu);
            }
        }
        Family::ProcessResident => samples.known(process.resident),
        Family::ProcessVirtual => samples.known(process.virtual_size),
        Family::ProcessFds => samples.known(process.open_fds),
        Family::ProcessMaxFds => samples.known(process.max_fds),
        Family::ProcessThreads => samples.known(process.threads),
        Family::ProcessStart => samples.known(process.start),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
