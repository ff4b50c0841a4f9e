//! Records in Redis or Valkey, shared by many proxies.
//!
//! - [`script`]: what the server runs, one script for each operation.
//! - [`link`] and [`nodes`]: the connections, opened and mended in the background.
//! - [`shared`] and [`ops`]: how one question is asked, and what its answer means.
//! - [`guard`] and [`live`]: what is told again after a failover.
//!
//! What it promises. A claim is one atomic step on the primary. When the server is restarted, what
//! it wrote to disk survives: all with `appendfsync always`, all but the last second with
//! `everysec`. When a replica is promoted, what had not reached it is forgotten; `wait_replicas`
//! makes that rarer and the guard repairs it while the process that claimed is alive, but neither
//! makes it impossible. The smaller side of a partition accepts claims until the server's
//! `min-replicas-to-write` stops it. Where that is not enough, use etcd.
//!
//! Not here: anything that outlives this process. Results that could not be stored are kept by
//! whoever asked for it.

mod address;
mod check;
mod connect;
mod fault;
mod guard;
mod link;
mod list;
mod live;
mod nodes;
mod ops;
mod polls;
mod pool;
mod quota;
mod reply;
mod script;
mod shared;
mod slots;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::runtime::Handle;

use self::link::Task;
use self::polls::Polls;
use self::shared::Shared;
use super::{
    Birth, Cause, Common, Durability, Fault, Guarantee, Health, Kind, Page, Reply, Seen, Store,
    Wanted,
};
use crate::clock;
use crate::config;
use crate::policy::idempotency::machine::{Claim, Claimed, Found, Settle, Settled};
use crate::policy::idempotency::record::{Fingerprint, Rid};

/// A store in Redis or Valkey.
#[derive(Debug)]
pub struct Redis {
    shared: Arc<Shared>,
    polls: Polls,
    _nodes: Task,
}

impl Redis {
    /// Opens the store in the background, on this runtime, for as long as it is there. Never
    /// fails: until the servers answer, and whenever they do not, every question is refused and
    /// [`Store::health`] says why.
    #[must_use]
    pub fn start(config: &config::store::Redis, common: Common, handle: &Handle) -> Arc<Self> {
        let shared = Shared::new(config, common, handle);
        let nodes = handle.spawn(nodes::run(Arc::clone(&shared), config.clone()));
        Arc::new(Self { shared, polls: Polls::default(), _nodes: Task::new(nodes) })
    }

    /// Does it on the store's runtime, where it goes on when nobody waits for it any more: then
    /// what this process knows of its claims stays right.
    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Reply<T> {
        let task = self.shared.handle.spawn(work);
        Box::pin(async move {
            task.await.unwrap_or_else(|_| {
                let what = "the store was closed while it was asked";
                Err(Fault::Ambiguous(Cause::new(Kind::Unreachable, what)))
            })
        })
    }
}

impl Store for Redis {
    fn peek(&self, rid: Rid, fingerprint: Fingerprint, deadline: Instant) -> Reply<Option<Found>> {
        self.spawn(Arc::clone(&self.shared).peek(rid, fingerprint, deadline))
    }

    fn claim(&self, rid: Rid, claim: Claim, deadline: Instant) -> Reply<Claimed> {
        self.spawn(Arc::clone(&self.shared).claim(rid, claim, deadline))
    }

    fn settle(&self, rid: Rid, settle: Settle, deadline: Instant) -> Reply<Settled> {
        self.spawn(Arc::clone(&self.shared).settle(rid, settle, deadline))
    }

    fn read(&self, rid: Rid, deadline: Instant) -> Reply<Seen> {
        let shared = Arc::clone(&self.shared);
        self.spawn(async move { shared.read(rid, deadline).await.map(|(seen, _)| seen) })
    }

    fn list(&self, wanted: Wanted, deadline: Instant) -> Reply<Page> {
        self.spawn(Arc::clone(&self.shared).list(wanted, deadline))
    }

    fn changed(&self, rid: Rid) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let wait = self.polls.next(rid, clock::now());
        Box::pin(clock::sleep(wait))
    }

    fn birth(&self, deadline: Instant) -> Reply<Birth> {
        self.spawn(Arc::clone(&self.shared).ask_birth(deadline))
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee { durability: Durability::Server, shared: true, consistent: false }
    }

    fn health(&self) -> Health {
        let problem = self.shared.problem();
        let counts = &self.shared.counts;
        let open = self.shared.links().into_iter().filter_map(|link| link.open().ok());
        Health {
            ready: problem.is_none(),
            problem: problem.map(|cause| cause.detail),
            bytes: open.map(|open| open.facts.used_memory).sum(),
            weak: counts.weak.load(Ordering::Relaxed),
            contested: counts.contested.load(Ordering::Relaxed),
            ..Health::default()
        }
    }
}
