//! The stores of the configuration, opened once each and kept by name over reloads.
//!
//! Opening never waits and never fails: a store that cannot be reached refuses until it can. All of
//! them share one thread, so that nothing they wait for can delay a request of another kind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use super::codec::{Digests, NoRandomness, Seal, digest_of};
use super::embedded::Embedded;
use super::etcd::Etcd;
use super::ledger::Ledger;
use super::memory::Memory;
use super::redis::Redis;
use super::spool::Spool;
use super::{Common, Kind, Store};
use crate::config::store::Store as Settings;
use crate::shared::Shared;
use crate::telemetry::metrics::Metrics;

/// The most that a spool takes, in memory or on disk: 40 minutes of 100 answers of 256 bytes a
/// second.
const SPOOL_BYTES: u64 = 64 << 20;
/// How often the end looks whether everything is committed.
const LOOK: Duration = Duration::from_millis(10);

/// The stores of the process.
#[derive(Default)]
pub struct Registry(Shared<Inner>);

#[derive(Default)]
struct Inner {
    thread: Option<Thread>,
    stores: BTreeMap<String, Open>,
    instance: Option<[u8; 16]>,
}

/// A store that is open.
struct Open {
    settings: Settings,
    ledger: Arc<Ledger>,
}

/// Where stores do their work.
struct Thread {
    handle: Handle,
    _end: oneshot::Sender<()>,
    _joined: JoinHandle<()>,
}

impl Thread {
    fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        let joined = std::thread::Builder::new().name("records".to_owned()).spawn(move || {
            // Either way it is over: the sender is dropped, not used.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Self { handle, _end: end, _joined: joined })
    }
}

impl Registry {
    /// Opens the stores that are new. One that is open stays as it is: other settings of it take
    /// effect with a restart.
    ///
    /// # Errors
    /// The name of a store and what is wrong with its settings, or with the system.
    pub fn open(
        &self,
        stores: &BTreeMap<String, Settings>,
        metrics: &Metrics,
    ) -> Result<(), (String, String)> {
        let mut inner = self.0.lock();
        for (name, settings) in stores {
            if inner.stores.contains_key(name) {
                continue;
            }
            let fault = |why: String| (name.clone(), why);
            let handle = inner.handle().map_err(|error| fault(error.to_string()))?;
            let instance =
                inner.instance().map_err(|_| fault("no randomness to be had".to_owned()))?;
            let ledger = open(name, settings, &handle, instance, metrics).map_err(fault)?;
            inner.stores.insert(name.clone(), Open { settings: settings.clone(), ledger });
        }
        Ok(())
    }

    /// Lets go of the stores that are not named any more. They end when the last route does that
    /// has them.
    pub fn retain(&self, stores: &BTreeMap<String, Settings>, metrics: &Metrics) {
        self.0.lock().stores.retain(|name, _| {
            let stays = stores.contains_key(name);
            if !stays {
                metrics.forget_store(name);
            }
            stays
        });
    }

    /// A store by its name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<Ledger>> {
        self.0.lock().stores.get(name).map(|open| Arc::clone(&open.ledger))
    }

    /// The stores by name.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Ledger>> {
        self.0.lock().stores.values().map(|open| Arc::clone(&open.ledger)).collect()
    }

    /// What makes fingerprints for a store's routes.
    #[must_use]
    pub fn digests(&self, name: &str) -> Digests {
        let inner = self.0.lock();
        let key = inner.stores.get(name).and_then(|open| open.settings.fingerprint_key.as_deref());
        Digests::new(key.and_then(key_of).as_ref())
    }

    /// Whether a store has not been ready since it was opened.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        self.all().iter().any(|ledger| !ledger.has_been_ready())
    }

    /// Brings the gauges of all stores up to this moment.
    pub fn measure(&self) {
        for ledger in self.all() {
            ledger.measure();
        }
    }

    /// Waits, no longer than until `by`, for what is being committed, and ends.
    pub fn close(&self, by: Instant, now: impl Fn() -> Instant) {
        while self.all().iter().any(|ledger| ledger.at_work() > 0) && now() < by {
            std::thread::park_timeout(LOOK);
        }
        let left: usize = self.all().iter().map(|ledger| ledger.at_work()).sum();
        if left > 0 {
            tracing::warn!(records = left, "ending before their results were committed");
        }
        let mut inner = self.0.lock();
        inner.stores.clear();
        inner.thread = None;
    }
}

impl Inner {
    /// What names this process in records: drawn once.
    fn instance(&mut self) -> Result<[u8; 16], NoRandomness> {
        if let Some(instance) = self.instance {
            return Ok(instance);
        }
        let mut instance = [0; 16];
        SystemRandom::new().fill(&mut instance).map_err(|_| NoRandomness)?;
        self.instance = Some(instance);
        Ok(instance)
    }

    /// The stores' thread, started for the first of them.
    fn handle(&mut self) -> std::io::Result<Handle> {
        if let Some(thread) = &self.thread {
            return Ok(thread.handle.clone());
        }
        let thread = Thread::start()?;
        let handle = thread.handle.clone();
        self.thread = Some(thread);
        Ok(handle)
    }
}

fn open(
    name: &str,
    settings: &Settings,
    handle: &Handle,
    instance: [u8; 16],
    metrics: &Metrics,
) -> Result<Arc<Ledger>, String> {
    let seal = settings.aead_key.as_deref().map(|text| key_of(text).ok_or("aead_key"));
    let seal = seal.transpose().map_err(|key| format!("`{key}` is not 32 bytes in base64"))?;
    let seal = Seal::new(seal.as_ref());
    let spool_seal = seal.clone();
    let common = Common { name: name.into(), seal, config: in_common(settings), instance };
    let store: Arc<dyn Store> = if let Some(memory) = &settings.memory {
        let opened = Memory::open(memory, common.config);
        Arc::new(opened.map_err(|_| "the system has no randomness to give".to_owned())?)
    } else if let Some(embedded) = &settings.embedded {
        let opened = Embedded::open(embedded, common);
        Arc::new(opened.map_err(|error| format!("cannot start its thread: {error}"))?)
    } else if let Some(redis) = &settings.redis {
        Redis::start(redis, common, handle)
    } else if let Some(etcd) = &settings.etcd {
        Etcd::start(etcd, common, handle)
    } else {
        return Err("no kind of store is given".to_owned());
    };
    let metrics = metrics.store(name, &Kind::NAMES);
    let spool = spool(settings, &spool_seal)?;
    Ok(Ledger::new(name, (store, spool), handle.clone(), instance, metrics))
}

/// The spool beside a shared store; a store of one process has none, for it fails with it.
fn spool(settings: &Settings, seal: &Seal) -> Result<Option<Spool>, String> {
    let path = match (&settings.redis, &settings.etcd) {
        (Some(redis), _) => redis.spool.as_deref(),
        (_, Some(etcd)) => etcd.spool.as_deref(),
        (None, None) => return Ok(None),
    };
    let opened = Spool::open(path, seal.clone(), SPOOL_BYTES);
    opened.map(Some).map_err(|error| format!("cannot start its spool's thread: {error}"))
}

/// What proxies that share a store must have in common: how they make fingerprints. A digest, so
/// that it tells nothing of the key.
fn in_common(settings: &Settings) -> [u8; 32] {
    let key = settings.fingerprint_key.as_deref().and_then(key_of);
    let own = Digests::new(key.as_ref()).of(0, &[b"in common"]);
    digest_of(0, &[&own])
}

/// A key of 32 bytes from its base64 form.
fn key_of(text: &str) -> Option<[u8; 32]> {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
    bytes.try_into().ok()
}
