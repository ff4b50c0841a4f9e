//! The consistent store: records in etcd, API version 3.
//!
//! Every read is linearizable and every write a transaction on what was read, so that a claim that
//! was granted is known to a majority of the members before it is answered, and a proxy that
//! reaches no majority is refused instead of served from what its member remembers.
//!
//! | | what it promises |
//! |---|---|
//! | crash of a proxy | at most one sending; its records become unknown when their leases end |
//! | crash of members | nothing is lost while a majority keeps its disks; refuses without one |
//! | a new leader | nothing is lost; refuses until it is elected; leases begin anew |
//! | partition | the side with the majority serves; the other refuses within `op_timeout` |
//! | database full | replays are served, new keys are refused |
//! | restored from a copy | forgets what came after the copy; no store can know |
//!
//! - [`layout`]: what a record is in etcd, how time is read off leases, whence fences come.
//! - [`operation`]: look, decide, write.
//! - [`leases`], [`watches`], [`shares`]: leases shared, hints, the part of each principal.
//! - [`identity`]: the store's own key.
//! - [`cluster`], [`member`], [`grpc`], [`wire`]: the way there.
//!
//! Dates are by the clocks of the proxies and decide nothing here; see [`layout`].

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;

use self::cluster::Cluster;
use self::identity::Identity;
use self::layout::{Keys, View};
use self::leases::Leases;
use self::member::Member;
use self::operation::{Manner, Operation};
use self::shares::Shares;
use self::watches::Watches;
use super::{
    Birth, Cause, Common, Durability, Fault, Guarantee, Health, Kind, PAGE_MAX, Page, Reply, Seen,
    Store, Wanted,
};
use crate::clock;
use crate::config::store::Etcd as Settings;
use crate::policy::idempotency::machine::{
    self, Around, Claim, Claimed, Found, Room, Settle, Settled, Stands, Unknowns,
};
use crate::policy::idempotency::record::{Entry, Fence, Fingerprint, Millis, Rid, State};
use crate::shared::Shared;

mod cluster;
mod grpc;
mod identity;
mod layout;
mod leases;
mod list;
mod member;
mod operation;
mod shares;
mod watches;
mod wire;

/// The most operations at a time; more are refused unsent, as the cluster is behind anyway.
const OPERATIONS_MAX: usize = 4_096;
/// The most claims of this proxy that are remembered to spare a look when they are settled.
const HELD_MAX: usize = 8_192;

/// Records in etcd.
pub struct Etcd {
    inner: Arc<Inner>,
    watches: Watches,
    tasks: Vec<AbortHandle>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What operations and tasks share.
struct Inner {
    common: Common,
    prefix: Box<str>,
    op_timeout: Duration,
    cluster: Arc<Cluster>,
    leases: Arc<Leases>,
    known: Shared<Known>,
    look_again: Notify,
    /// What this proxy's own claims look like, as it wrote them: mostly nobody writes them in
    /// between, and a transaction says if somebody did.
    held: Shared<HashMap<Rid, View>>,
    asking: Arc<Semaphore>,
    bodies_shed: AtomicU64,
    shares: Arc<Shares>,
}

/// What is known of the store.
struct Known {
    identity: Option<Identity>,
    problem: Option<Cause>,
}

/// Milliseconds since 1970 by this proxy's clock.
fn wall() -> Millis {
    let since = clock::wall_now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Etcd {
    /// Opens the store in the background, on this runtime, and for as long as it lives: until it
    /// is connected, and whenever it is not, operations are refused.
    #[must_use]
    pub fn start(settings: &Settings, common: Common, handle: &Handle) -> Arc<Self> {
        let members: Result<Vec<_>, _> = settings
            .endpoints
            .iter()
            .map(|endpoint| Member::new(endpoint, settings.ca.clone()).map(Arc::new))
            .collect();
        let mut known = Known {
            identity: None,
            problem: Some(Cause::new(Kind::Unreachable, "not connected yet")),
        };
        let members = members.unwrap_or_else(|problem| {
            known.problem = Some(Cause::new(Kind::Unfit, problem));
            Vec::new()
        });
        let unfit = members.is_empty();
        let cluster = Arc::new(Cluster::new(members.clone()));
        let inner = Arc::new(Inner {
            leases: Leases::new(Arc::clone(&cluster), handle.clone()),
            prefix: settings.prefix.as_str().into(),
            op_timeout: settings.op_timeout.get(),
            known: Shared::new(known),
            look_again: Notify::new(),
            held: Shared::default(),
            asking: Arc::new(Semaphore::new(OPERATIONS_MAX)),
            bodies_shed: AtomicU64::new(0),
            shares: Shares::new(Arc::clone(&cluster), handle.clone(), &settings.prefix),
            cluster,
            common,
        });
        let (watches, watcher) = Watches::new(Arc::clone(&inner.cluster));
        let mut tasks = vec![handle.spawn(watcher).abort_handle()];
        for member in members {
            let task = member.run(inner.common.name.clone(), handle.clone());
            tasks.push(handle.spawn(task).abort_handle());
        }
        if !unfit {
            let keeper = Arc::clone(&inner);
            let task = handle.spawn(async move { identity::keep(&keeper).await });
            tasks.push(task.abort_handle());
        }
        Arc::new(Self { inner, watches, tasks })
    }

    /// An operation with its bounds: how many there are, and how long it takes.
    fn bounded<T, F, O>(&self, deadline: Instant, run: F) -> Reply<T>
    where
        T: 'static,
        F: FnOnce(Arc<Inner>, Instant) -> O + Send + 'static,
        O: Future<Output = Result<T, Fault>> + Send,
    {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let Ok(_permit) = Arc::clone(&inner.asking).try_acquire_owned() else {
                let words = format_args!("{OPERATIONS_MAX} operations are under way");
                return Err(Fault::NotApplied(Cause::new(Kind::Busy, words)));
            };
            let deadline = deadline.min(clock::now() + inner.op_timeout);
            run(inner, deadline).await
        })
    }
}

impl Store for Etcd {
    fn peek(&self, rid: Rid, fingerprint: Fingerprint, deadline: Instant) -> Reply<Option<Found>> {
        self.bounded(deadline, move |inner, deadline| async move {
            let view = Operation::new(&inner, rid, deadline)?.look().await?;
            let around =
                Around { now: view.now, next_fence: Fence(1), epoch: None, room: Room::Free };
            Ok(machine::peek(&view.entry, &fingerprint, &around))
        })
    }

    fn claim(&self, rid: Rid, claim: Claim, deadline: Instant) -> Reply<Claimed> {
        self.bounded(deadline, move |inner, deadline| async move {
            inner.claim(rid, &claim, deadline).await
        })
    }

    fn settle(&self, rid: Rid, settle: Settle, deadline: Instant) -> Reply<Settled> {
        self.bounded(deadline, move |inner, deadline| async move {
            inner.settle(rid, &settle, deadline).await
        })
    }

    fn read(&self, rid: Rid, deadline: Instant) -> Reply<Seen> {
        self.bounded(deadline, move |inner, deadline| async move {
            let view = Operation::new(&inner, rid, deadline)?.look().await?;
            Ok(seen(view.entry, view.now))
        })
    }

    fn list(&self, wanted: Wanted, deadline: Instant) -> Reply<Page> {
        self.bounded(deadline, move |inner, deadline| async move {
            list::page(&inner, &wanted, deadline).await
        })
    }

    fn changed(&self, rid: Rid) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let keys = Keys::new(&self.inner.prefix, &rid);
        self.watches.changed(&rid, keys.record, self.inner.cluster.revision())
    }

    fn birth(&self, _deadline: Instant) -> Reply<Birth> {
        let known = self.inner.identity();
        let config = self.inner.common.config;
        Box::pin(async move {
            let Identity { born, secret, .. } = known?;
            Ok(Birth { at: born, now: wall(), secret, config })
        })
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee { durability: Durability::Quorum, shared: true, consistent: true }
    }

    fn health(&self) -> Health {
        let known = self.inner.known.lock();
        let problem = known.problem.as_ref();
        Health {
            ready: problem.is_none(),
            problem: problem.map(|cause| Fault::NotApplied(cause.clone()).to_string().into()),
            bytes: self.inner.shares.in_use(),
            bodies_shed: self.inner.bodies_shed.load(Ordering::Relaxed),
            ..Health::default()
        }
    }
}

impl Inner {
    async fn claim(&self, rid: Rid, claim: &Claim, deadline: Instant) -> Result<Claimed, Fault> {
        let mut operation = Operation::new(self, rid, deadline)?;
        let grace = match claim.unknowns {
            Unknowns::Hold => 0,
            Unknowns::Redispatch { grace } => grace,
        };
        let manner =
            Manner { claims: true, grace: Some(grace), room: self.shares.room(claim.principal) };
        let decided = operation
            .run(View::nothing(), manner, |entry, around| machine::claim(entry, claim, around))
            .await;
        let decided = match decided {
            Ok(decided) => decided,
            // The database has no room for one more record.
            Err(Fault::NotApplied(cause)) if cause.kind == Kind::Full => return Ok(Claimed::Full),
            Err(fault) => return Err(fault),
        };
        let mut answer = decided.answer;
        if let (Claimed::Acquired { fence, .. }, Some(given)) = (&mut answer, decided.fence) {
            *fence = given;
            let mut held = self.held.lock();
            if held.len() >= HELD_MAX {
                held.clear();
            }
            held.insert(rid, decided.view);
        } else if matches!(answer, Claimed::Found(Found::Unknown { .. }))
            && grace > decided.view.head.grace
        {
            operation.begin_grace(&decided.view, grace).await;
        }
        Ok(answer)
    }

    async fn settle(&self, rid: Rid, settle: &Settle, deadline: Instant) -> Result<Settled, Fault> {
        let mut operation = Operation::new(self, rid, deadline)?;
        let held = self.held.lock().remove(&rid);
        let start = match held {
            Some(view) => view,
            None => operation.look().await?,
        };
        let manner = Manner { claims: false, grace: None, room: Room::Free };
        let decided = operation
            .run(start, manner, |entry, around| machine::settle(entry, settle, around))
            .await?;
        // Only what was written is as good as a claim of ours.
        if matches!(settle, Settle::Renew { .. }) && decided.view.assumed {
            self.held.lock().insert(rid, decided.view);
        }
        Ok(decided.answer)
    }

    /// The store, if it is known.
    fn identity(&self) -> Result<Identity, Fault> {
        let known = self.known.lock();
        known.identity.ok_or_else(|| {
            let cause = known.problem.clone();
            let cause = cause.unwrap_or_else(|| Cause::new(Kind::Unreachable, "not looked at yet"));
            // Nothing has been asked for yet, whatever the reason is.
            Fault::NotApplied(cause)
        })
    }

    fn known_identity(&self) -> Option<Identity> {
        self.known.lock().identity
    }

    fn found(&self, identity: Identity) {
        let mut known = self.known.lock();
        known.identity = Some(identity);
        known.problem = None;
    }

    /// The store cannot be looked at. What it is stays known, unless it is not for us.
    fn not_found(&self, cause: Cause) {
        let mut known = self.known.lock();
        if cause.kind == Kind::Unfit {
            known.identity = None;
        }
        if known.problem.as_ref() != Some(&cause) {
            tracing::warn!(store = %self.common.name, problem = %cause.detail, "etcd: not ready");
        }
        known.problem = Some(cause);
    }

    /// The store is not the one whose key was written in this revision.
    fn lose_identity(&self, at: i64) {
        let mut known = self.known.lock();
        if known.identity.is_some_and(|identity| identity.at == at) {
            known.identity = None;
            known.problem = Some(Cause::new(Kind::Unfit, "the store was emptied or exchanged"));
            self.held.lock().clear();
            self.look_again.notify_one();
        }
    }

    /// The key of the store itself.
    fn own_key(&self) -> Vec<u8> {
        format!("{}store", self.prefix).into_bytes()
    }

    fn count_shed(&self) {
        self.bodies_shed.fetch_add(1, Ordering::Relaxed);
    }
}

/// An entry for operators.
fn seen(entry: Entry, now: Millis) -> Seen {
    let state = match &entry {
        Entry::Absent => None,
        Entry::Unreadable => Some(State::Unknown),
        Entry::Record(record) => match machine::stands(record, now, None) {
            Stands::In(state) => Some(state),
            Stands::Over(_) => None,
        },
    };
    Seen { entry, state, now }
}
