//! Records in a file of this process's own, which survive its crash and that of its machine.
//!
//! The engine is redb: a copy-on-write B+tree in one file, whose commit is one write of its header
//! and one fsync. One thread makes all changes ([`writer`]): it puts what was asked while the
//! last commit was being written into the next one, at most 256 changes, commits, and then answers
//! all of them. Another thread reads ([`reader`]). Nobody else touches the disk, so no request ever
//! waits for it on a worker.
//!
//! - **Whose it is.** The file is locked while it is open; a second process waits in the background
//!   until it gets it, and is not ready until then.
//! - **Time** is that of the machine when the file was opened, at least what the file has seen, and
//!   goes on by the monotonic clock; so it never goes back.
//! - **An end without a close** leaves what was in flight without an owner: each opening by another
//!   process has a larger number, and claims of smaller ones are of unknown outcome at once.
//! - **Room.** When the records take as much as they may, what is over is purged, then the oldest
//!   bodies are shed, and then new keys are refused. When the disk is full ([`disk`]), new keys are
//!   refused, results are still written, and reading goes on.
//! - **A failure** of the file, above all of its fsync, ends its use: it is closed, nothing is
//!   written through the same handle again, and it is opened anew until that works. What was being
//!   committed is ambiguous, and whatever is asked until then was not done.
//!
//! Not here: what a record may become, which is the machine's to say.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::local::{Bells, Dropped, Time, Usage};
use super::{
    Birth, Cause, Common, Durability, Fault, Guarantee, Health, Kind, Page, Reply, Seen, Store,
    Wanted,
};
use crate::clock;
use crate::config::store::Embedded as Settings;
use crate::policy::idempotency::machine::{Claim, Claimed, Found, Settle, Settled};
use crate::policy::idempotency::record::{Fingerprint, Rid};
use crate::shared::Shared;

pub(super) mod disk;
pub(super) mod opened;
mod reader;
mod rows;
mod tables;
pub(super) mod ticket;
mod writer;

use disk::{Medium, Reserve};
use opened::Opened;
use reader::Look;
use ticket::{ask, at_once};
use writer::Ask;

/// The most questions that wait for each thread. At the least rate that a disk commits they are
/// some seconds' worth, which is longer than anybody waits.
const QUEUE: usize = 4_096;
/// The room that is set aside on the disk, as a share of the file's limit and at most.
const RESERVE_SHARE: u64 = 64;
const RESERVE_MAX: u64 = 16 << 20;

/// A store in a file. Dropping it lets its threads finish and close the file in their own time;
/// [`Embedded::close`] waits for that.
#[derive(Debug)]
pub struct Embedded {
    inside: Arc<Inside>,
    asks: SyncSender<Ask>,
    looks: SyncSender<Look>,
}

/// What the threads and the handle share.
struct Inside {
    common: Common,
    settings: Settings,
    medium: Medium,
    phase: Shared<Phase>,
    opened: RwLock<Option<Opened>>,
    /// The number of this process's last opening.
    epoch: AtomicU64,
    /// How far the time of earlier openings has come.
    past: AtomicU64,
    usage: Arc<Shared<Usage>>,
    dropped: Arc<Dropped>,
    reserve: Arc<Reserve>,
    bells: Bells,
}

/// Whether the file is open.
enum Phase {
    No(Cause),
    Yes(Birth, Time),
}

impl std::fmt::Debug for Inside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inside").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the file in the background, and makes it when there is none; [`Store::health`] says
    /// when it is open, or why not.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn open(settings: &Settings, common: Common) -> std::io::Result<Self> {
        Self::on(settings, common, disk::plain())
    }

    fn on(settings: &Settings, common: Common, medium: Medium) -> std::io::Result<Self> {
        let reserve = (settings.max_bytes.get() / RESERVE_SHARE).min(RESERVE_MAX);
        let inside = Arc::new(Inside {
            common,
            medium,
            phase: Shared::new(Phase::No(Cause::new(
                Kind::Unreachable,
                "the file is being opened",
            ))),
            opened: RwLock::new(None),
            epoch: AtomicU64::new(0),
            past: AtomicU64::new(0),
            usage: Arc::new(Shared::new(Usage::new(opened::limits(settings)))),
            dropped: Arc::default(),
            reserve: Arc::new(Reserve::beside(&settings.path, reserve)),
            bells: Bells::default(),
            settings: settings.clone(),
        });
        let (asks, asked) = sync_channel(QUEUE);
        let (looks, looked) = sync_channel(QUEUE);
        let (writer, reader) = (Arc::clone(&inside), Arc::clone(&inside));
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        thread("records-write").spawn(move || writer::run(&writer, &asked))?;
        thread("records-read").spawn(move || reader::run(&reader, &looked))?;
        Ok(Self { inside, asks, looks })
    }

    /// Finishes what has been asked and closes the file, so that the next process gets it at once;
    /// from then on nothing is done. Resolves when it is closed.
    pub fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (done, closed) = oneshot::channel();
        let asks = self.asks.clone();
        Box::pin(async move {
            let mut close = Ask::Close(done);
            // A queue that is full empties at the pace of the disk.
            while let Err(std::sync::mpsc::TrySendError::Full(again)) = asks.try_send(close) {
                close = again;
                clock::sleep(Duration::from_millis(1)).await;
            }
            drop(asks);
            // An error says that the thread has ended, and the file is closed.
            let _ = closed.await;
        })
    }

    /// Why nothing can be done at present.
    fn refusal(&self) -> Option<Cause> {
        match &*self.inside.phase.lock() {
            Phase::No(cause) => Some(cause.clone()),
            Phase::Yes(..) => None,
        }
    }

    fn change<T: Send + 'static>(
        &self,
        deadline: Instant,
        question: impl FnOnce(ticket::Ticket<T>) -> Ask,
    ) -> Reply<T> {
        match self.refusal() {
            Some(cause) => at_once(Err(Fault::NotApplied(cause))),
            None => ask(&self.asks, deadline, true, question),
        }
    }

    fn look<T: Send + 'static>(
        &self,
        deadline: Instant,
        question: impl FnOnce(ticket::Ticket<T>) -> Look,
    ) -> Reply<T> {
        match self.refusal() {
            Some(cause) => at_once(Err(Fault::NotApplied(cause))),
            None => ask(&self.looks, deadline, false, question),
        }
    }
}

impl Inside {
    fn path(&self) -> &Path {
        &self.settings.path
    }

    /// Does something with the file, if it is open.
    fn with<T>(&self, f: impl FnOnce(&Opened) -> T) -> Option<T> {
        // A panic in the engine leaves a file that is closed and opened anew.
        let opened = self.opened.read().unwrap_or_else(PoisonError::into_inner);
        opened.as_ref().map(f)
    }

    fn set(&self, opened: Option<Opened>) -> Option<Opened> {
        let mut place = self.opened.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *place, opened)
    }

    fn open(&self) -> Result<(), Cause> {
        let around = opened::Around {
            common: &self.common,
            medium: &self.medium,
            usage: &self.usage,
            dropped: &self.dropped,
            reserve: &self.reserve,
            before: self.epoch.load(Ordering::Relaxed),
            past: self.past.load(Ordering::Relaxed),
        };
        let opened = opened::open(&self.settings, &around)?;
        let (epoch, phase) = (opened.epoch, Phase::Yes(opened.birth, opened.time));
        self.epoch.store(epoch, Ordering::Relaxed);
        self.set(Some(opened));
        *self.phase.lock() = phase;
        let (store, path) = (&self.common.name, self.path().display());
        tracing::info!(%store, %path, epoch, "the store's file is open");
        Ok(())
    }

    /// From now on nothing is done, for this cause; whether it is another one than before.
    fn refuse(&self, cause: Cause) -> bool {
        let mut phase = self.phase.lock();
        let is_new = match &*phase {
            Phase::No(before) => *before != cause,
            Phase::Yes(_, time) => {
                self.past.fetch_max(time.now(), Ordering::Relaxed);
                true
            }
        };
        *phase = Phase::No(cause);
        is_new
    }

    /// From now on nothing is done, as the file has failed.
    fn fail(&self, cause: &Cause) {
        if self.refuse(cause.clone()) {
            let store = &self.common.name;
            tracing::warn!(%store, reason = %cause.detail, "the store's file is not open");
        }
    }

    /// Closes the file, if it is open.
    fn shut(&self) {
        drop(self.set(None));
    }
}

impl Store for Embedded {
    fn peek(&self, rid: Rid, fingerprint: Fingerprint, deadline: Instant) -> Reply<Option<Found>> {
        self.look(deadline, |ticket| Look::Peek(rid, fingerprint, ticket))
    }

    fn claim(&self, rid: Rid, claim: Claim, deadline: Instant) -> Reply<Claimed> {
        let claimed = self.change(deadline, |ticket| Ask::Claim(rid, claim, ticket));
        Box::pin(async move {
            match claimed.await {
                // The disk is full, and so full that the file had to be closed for it.
                Err(Fault::NotApplied(cause)) if cause.kind == Kind::Full => Ok(Claimed::Full),
                answer => answer,
            }
        })
    }

    fn settle(&self, rid: Rid, settle: Settle, deadline: Instant) -> Reply<Settled> {
        self.change(deadline, |ticket| Ask::Settle(rid, Box::new(settle), ticket))
    }

    fn read(&self, rid: Rid, deadline: Instant) -> Reply<Seen> {
        self.look(deadline, |ticket| Look::Read(rid, ticket))
    }

    fn list(&self, wanted: Wanted, deadline: Instant) -> Reply<Page> {
        self.look(deadline, |ticket| Look::List(wanted, ticket))
    }

    fn changed(&self, rid: Rid) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.inside.bells.wait(&rid)
    }

    fn birth(&self, _: Instant) -> Reply<Birth> {
        at_once(match &*self.inside.phase.lock() {
            Phase::No(cause) => Err(Fault::NotApplied(cause.clone())),
            Phase::Yes(birth, time) => Ok(Birth { now: time.now(), ..*birth }),
        })
    }

    fn epoch(&self) -> u64 {
        self.inside.epoch.load(Ordering::Relaxed)
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee { durability: Durability::Disk, shared: false, consistent: true }
    }

    fn health(&self) -> Health {
        let problem = match &*self.inside.phase.lock() {
            Phase::No(cause) => Some(cause.detail.clone()),
            Phase::Yes(..) if self.inside.reserve.is_spent() => {
                Some("the disk is full; new keys are refused".into())
            }
            Phase::Yes(..) => None,
        };
        let ready = self.refusal().is_none();
        let usage = self.inside.usage.lock();
        let dropped = &self.inside.dropped;
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Health {
            ready,
            problem,
            entries: usage.states(),
            bytes: usage.bytes(),
            bodies_shed: count(&dropped.bodies_shed),
            tombstones_purged: count(&dropped.tombstones),
            unknown_expired: count(&dropped.unknown),
            weak: 0,
            contested: count(&dropped.contested),
        }
    }
}

#[cfg(test)]
mod tests;
