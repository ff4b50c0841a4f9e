//! The data path: one request, straight down, and the configuration that it runs under.
//!
//! [`pipeline`] is the file to read first. Policies are asked there and nowhere else.

pub mod admission;
pub mod answer;
pub mod attempt;
pub mod body;
pub mod cache;
pub mod coalesce;
pub mod context;
pub mod egress;
pub mod error;
pub mod fallback;
pub mod grpc;
pub mod headers;
pub mod hedge;
pub mod idempotency;
pub mod mirror;
pub mod original;
pub mod outbound;
pub mod peer;
pub mod pipeline;
pub mod protection;
pub mod site;
pub mod tunnel;
pub mod worker;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::{ArcSwap, Guard};
use tokio::sync::watch;

use self::body::KeptBytes;
use self::idempotency::probe::Probes;
use self::protection::Protection;
use self::site::Site;
use crate::clock;
use crate::config::problem::Place;
use crate::config::{self, Config, Environment, Problem};
use crate::records::registry::Registry;
use crate::shared::Shared;
use crate::snapshot::{Snapshot, problem};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::log::LogControl;
use crate::telemetry::metrics::{Metrics, Reload};

/// What all workers share.
pub struct Proxy {
    live: ArcSwap<Live>,
    /// The configuration that the process was started with, for what only a restart can change.
    started_with: Config,
    /// Every metric.
    pub metrics: Arc<Metrics>,
    /// The access log.
    pub access_log: AccessLog,
    /// The stores of records.
    pub stores: Registry,
    /// The operations of unknown outcome that the upstream is being asked about.
    pub probes: Probes,
    /// What is kept of request bodies.
    pub kept: Arc<KeptBytes>,
    /// How short the process is of memory, descriptors and the like.
    pub protection: Protection,
    /// The file that the configuration comes from, if it comes from one.
    pub file: Option<PathBuf>,
    environment: Box<dyn Environment + Send + Sync>,
    log: Option<LogControl>,
    draining: AtomicBool,
    /// Told of every new configuration.
    changed: watch::Sender<Arc<Live>>,
    last_problems: Shared<Vec<Problem>>,
    reloading: Shared<()>,
}

/// The configuration in force.
pub struct Live {
    /// Its compiled form.
    pub snapshot: Snapshot,
    sites: Vec<Arc<Site>>,
}

/// What came of a reload that was not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reloaded {
    /// The number of the configuration in force.
    pub generation: u64,
    /// Its hash.
    pub hash: String,
    /// Whether anything changed.
    pub changed: bool,
    /// The keys that take effect only with a restart.
    pub restart_required: Vec<String>,
}

impl Live {
    /// A listener's settings, and its place in the configuration, by which routes know it.
    pub(crate) fn site(&self, listener: &str) -> Option<(usize, &Arc<Site>)> {
        let (index, _) = self.snapshot.listener(listener)?;
        Some((index, self.sites.get(index)?))
    }

    fn compile(
        text: &str,
        environment: &dyn Environment,
        previous: Option<&Self>,
        (metrics, stores): (&Metrics, &Registry),
    ) -> Result<Self, Vec<Problem>> {
        let loaded = config::read(text, environment)?;
        let mut sites = Vec::new();
        let mut problems = Vec::new();
        for (index, listener) in loaded.config.listeners.iter().enumerate() {
            match Site::compile(listener) {
                Ok(site) => sites.push(Arc::new(site)),
                Err(message) => problems.push(problem(
                    &loaded.source,
                    &format!("listeners[{index}].forwarded"),
                    message,
                )),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let previous = previous.map(|previous| &previous.snapshot);
        stores.open(&loaded.config.stores, metrics).map_err(|(name, message)| {
            vec![problem(&loaded.source, &format!("stores.{name}"), message)]
        })?;
        Ok(Self { snapshot: Snapshot::compile(loaded, previous, metrics, stores)?, sites })
    }
}

impl Proxy {
    /// A proxy under its first configuration.
    ///
    /// # Errors
    /// All that is wrong with the file.
    pub fn start(
        text: &str,
        file: Option<PathBuf>,
        environment: Box<dyn Environment + Send + Sync>,
        metrics: Arc<Metrics>,
        log: Option<LogControl>,
    ) -> Result<Self, Vec<Problem>> {
        let stores = Registry::default();
        let live = Arc::new(Live::compile(text, &*environment, None, (&metrics, &stores))?);
        let config = live.snapshot.config.clone();
        let dropped = metrics.access_log_dropped();
        let access_log = AccessLog::start(config.telemetry.access_log.to, dropped);
        let access_log = access_log.map_err(|error| {
            vec![Problem::new(
                Place { line: 1, column: 1 },
                "telemetry.access_log",
                error.to_string(),
            )]
        })?;
        let proxy = Self {
            changed: watch::Sender::new(Arc::clone(&live)),
            live: ArcSwap::new(live),
            started_with: config,
            access_log,
            stores,
            probes: Probes::default(),
            kept: Arc::default(),
            protection: Protection::default(),
            file,
            environment,
            log,
            metrics,
            draining: AtomicBool::new(false),
            last_problems: Shared::default(),
            reloading: Shared::default(),
        };
        proxy.in_force();
        Ok(proxy)
    }

    /// Puts a new configuration in force, whole, or changes nothing.
    ///
    /// # Errors
    /// All that is wrong with the file.
    pub fn reload(&self, text: &str) -> Result<Reloaded, Vec<Problem>> {
        let _one_at_a_time = self.reloading.lock();
        let previous = self.live.load_full();
        let with = (&*self.metrics, &self.stores);
        let live = match Live::compile(text, &*self.environment, Some(&previous), with) {
            Ok(live) => live,
            Err(problems) => return Err(self.refuse(problems)),
        };
        self.last_problems.lock().clear();
        let (new, old) = (&live.snapshot, &previous.snapshot);
        let mut reloaded = Reloaded {
            generation: new.generation,
            hash: new.hash.clone(),
            changed: new.hash != old.hash,
            restart_required: new.restart_required(&self.started_with),
        };
        if !reloaded.changed {
            reloaded.generation = old.generation;
            self.metrics.reload(Reload::Unchanged);
            return Ok(reloaded);
        }
        new.forget_absent(old, &self.metrics);
        self.stores.retain(&new.config.stores, &self.metrics);
        if let Some(log) = &self.log {
            log.set_level(new.config.telemetry.log.level);
        }
        self.access_log.set_destination(new.config.telemetry.access_log.to);
        let live = Arc::new(live);
        self.live.store(Arc::clone(&live));
        self.changed.send_replace(live);
        self.metrics.reload(Reload::Applied);
        self.in_force();
        tracing::info!(
            generation = reloaded.generation,
            hash = %reloaded.hash,
            restart_required = ?reloaded.restart_required,
            "configuration applied"
        );
        Ok(reloaded)
    }

    /// Reads the file again, and those of TLS, and puts them in force.
    ///
    /// # Errors
    /// As [`Proxy::reload`], and when there is no file or it cannot be read.
    pub fn reload_from_file(&self) -> Result<Reloaded, Vec<Problem>> {
        let unreadable = |message: String| {
            self.refuse(vec![Problem::new(Place { line: 1, column: 1 }, "", message)])
        };
        let Some(file) = &self.file else {
            return Err(unreadable("the configuration does not come from a file".to_owned()));
        };
        let text = std::fs::read_to_string(file);
        let text =
            text.map_err(|error| unreadable(format!("cannot read {}: {error}", file.display())))?;
        let reloaded = self.reload(&text)?;
        // Where nothing is watched, this is how changed certificates come into use as well.
        self.live().snapshot.refresh_tls(&self.metrics);
        Ok(reloaded)
    }

    fn refuse(&self, problems: Vec<Problem>) -> Vec<Problem> {
        self.metrics.reload(Reload::Rejected);
        for problem in &problems {
            tracing::error!(
                line = problem.line,
                column = problem.column,
                path = %problem.path,
                "configuration refused, the running one stays: {}",
                problem.message
            );
        }
        self.last_problems.lock().clone_from(&problems);
        problems
    }

    fn in_force(&self) {
        let live = self.live.load();
        let snapshot = &live.snapshot;
        for caution in config::cautions(&snapshot.config) {
            tracing::warn!("{caution}");
        }
        self.metrics.config_in_force(&snapshot.hash, snapshot.generation, clock::wall_now());
    }

    /// The configuration in force, for as long as a request needs it.
    #[must_use]
    pub fn live(&self) -> Guard<Arc<Live>> {
        self.live.load()
    }

    /// What was wrong with the last file, if it was refused.
    #[must_use]
    pub fn last_problems(&self) -> Vec<Problem> {
        self.last_problems.lock().clone()
    }

    /// Follows the configurations, from the one in force.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Arc<Live>> {
        self.changed.subscribe()
    }

    /// Makes readiness fail: the process will end.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the process will end.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}
