//! Results that could not be given to a shared store in time, kept until they can.
//!
//! A result that is only in memory is lost with the process, and then nobody knows whether its
//! operation was executed. Here it is written to a file of this process's own first (redb, one
//! thread, one fsync for all that came meanwhile) and given to the store later, with its fence: a
//! store that has gone on without it says so. Without a file results are kept in memory alone,
//! within the same bounds.
//!
//! A result is dropped when the record that it belongs to would be: by then the store has forgotten
//! the key as well.
//!
//! Not here: when and how results are given to the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Instant;

use super::codec::{self, Seal};
use super::embedded::disk::{Medium, Reserve, plain};
use super::embedded::ticket::{Ticket, ask, at_once};
use super::{Cause, Fault, Kind, Reply};
use crate::policy::idempotency::machine::Settle;
use crate::policy::idempotency::record::{
    Claimant, Entry, Millis, Record, Retention, Rid, State, Stored,
};
use crate::shared::Shared;

mod file;
mod memory;

/// The most questions that wait for the thread.
const QUEUE: usize = 1_024;
/// The most results that are given back at once.
pub const OLDEST_MAX: usize = 256;
/// What a result takes besides its answer.
const OVERHEAD: u64 = 512;
/// The room that is set aside on the disk beside the file.
const RESERVE: u64 = 1 << 20;

/// A result on its way to its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// Whose it is.
    pub rid: Rid,
    /// Who has it.
    pub by: Claimant,
    /// The answer.
    pub answer: Stored,
    /// How long its record is kept from its completion on.
    pub retention: Retention,
}

impl Late {
    /// What the store is asked.
    #[must_use]
    pub fn into_settle(self) -> Settle {
        Settle::Complete { by: self.by, answer: self.answer, retention: self.retention }
    }
}

/// The place of a result in the spool: smaller is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u64);

/// Results with their places, in the order in which they came.
pub type Oldest = Vec<(Place, Late)>;

/// Keeps results. Dropping it lets its thread finish and close its file.
#[derive(Debug)]
pub struct Spool {
    state: Arc<Counts>,
    keeper: Keeper,
}

#[derive(Debug)]
enum Keeper {
    Memory(Shared<memory::Results>),
    File(SyncSender<Ask>, Arc<Shared<Option<Cause>>>),
}

/// How much there is.
#[derive(Debug, Default)]
struct Counts {
    depth: AtomicU64,
    bytes: AtomicU64,
    dropped: AtomicU64,
    limit: u64,
}

impl Counts {
    fn has_room(&self, bytes: u64) -> bool {
        self.bytes.load(Ordering::Relaxed).saturating_add(bytes) <= self.limit
    }

    fn set(&self, depth: u64, bytes: u64) {
        self.depth.store(depth, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

/// What is asked of the thread.
enum Ask {
    Push(Box<Late>, Ticket<()>),
    Oldest(usize, Ticket<Oldest>),
    Remove(Vec<Place>, Ticket<()>),
}

fn full() -> Cause {
    Cause::new(Kind::Full, "the spool of late results has no more room")
}

/// What a result counts for.
fn size(late: &Late) -> u64 {
    OVERHEAD.saturating_add(u64::try_from(late.answer.bytes()).unwrap_or(u64::MAX))
}

impl Spool {
    /// Results in this file, or without one in memory, of at most so many bytes. The file is opened
    /// in the background; until then, and while it fails, nothing is taken.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn open(path: Option<&Path>, seal: Seal, limit: u64) -> std::io::Result<Self> {
        Self::on(path, seal, limit, plain())
    }

    fn on(path: Option<&Path>, seal: Seal, limit: u64, medium: Medium) -> std::io::Result<Self> {
        let state = Arc::new(Counts { limit, ..Counts::default() });
        let Some(path) = path else {
            return Ok(Self { state, keeper: Keeper::Memory(Shared::default()) });
        };
        let problem = Arc::new(Shared::new(Some(Cause::new(
            Kind::Unreachable,
            "the spool's file is being opened",
        ))));
        let (asks, asked) = sync_channel(QUEUE);
        let thread = file::Thread {
            path: PathBuf::from(path),
            seal,
            medium,
            reserve: Arc::new(Reserve::beside(path, RESERVE)),
            counts: Arc::clone(&state),
            problem: Arc::clone(&problem),
        };
        let name = "records-spool".to_owned();
        std::thread::Builder::new().name(name).spawn(move || thread.run(&asked))?;
        Ok(Self { state, keeper: Keeper::File(asks, problem) })
    }

    /// Keeps a result; when this resolves well it survives the end of the process, if there is a
    /// file.
    pub fn push(&self, late: Late, deadline: Instant) -> Reply<()> {
        if !self.state.has_room(size(&late)) {
            return at_once(Err(Fault::NotApplied(full())));
        }
        match &self.keeper {
            Keeper::Memory(results) => {
                at_once(results.lock().push(late, &self.state).map_err(Fault::NotApplied))
            }
            Keeper::File(..) => {
                self.ask(deadline, true, |ticket| Ask::Push(Box::new(late), ticket))
            }
        }
    }

    /// The oldest results, at most so many and [`OLDEST_MAX`]; they stay until they are removed.
    pub fn oldest(&self, most: usize, deadline: Instant) -> Reply<Oldest> {
        match &self.keeper {
            Keeper::Memory(results) => at_once(Ok(results.lock().oldest(most, &self.state))),
            Keeper::File(..) => self.ask(deadline, false, |ticket| Ask::Oldest(most, ticket)),
        }
    }

    /// Removes results that have reached their store, or have no place there.
    pub fn remove(&self, places: Vec<Place>, deadline: Instant) -> Reply<()> {
        match &self.keeper {
            Keeper::Memory(results) => {
                results.lock().remove(&places, &self.state);
                at_once(Ok(()))
            }
            Keeper::File(..) => self.ask(deadline, true, |ticket| Ask::Remove(places, ticket)),
        }
    }

    /// How many results there are.
    #[must_use]
    pub fn depth(&self) -> u64 {
        self.state.depth.load(Ordering::Relaxed)
    }

    /// How many were dropped since the start because their time was over, or because they could
    /// not be read.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.state.dropped.load(Ordering::Relaxed)
    }

    /// Why nothing can be kept at present; nothing when all is well.
    #[must_use]
    pub fn problem(&self) -> Option<Cause> {
        match &self.keeper {
            Keeper::Memory(_) => None,
            Keeper::File(_, problem) => problem.lock().clone(),
        }
    }

    fn ask<T: Send + 'static>(
        &self,
        deadline: Instant,
        changes: bool,
        question: impl FnOnce(Ticket<T>) -> Ask,
    ) -> Reply<T> {
        match (&self.keeper, self.problem()) {
            (Keeper::File(asks, _), None) => ask(asks, deadline, changes, question),
            (_, Some(cause)) => at_once(Err(Fault::NotApplied(cause))),
            (Keeper::Memory(_), None) => at_once(Err(Fault::NotApplied(full()))),
        }
    }
}

/// A result as a record, whose times are lengths of time, and when it came.
fn to_record(late: &Late, came: Millis) -> Record {
    Record {
        state: State::Completed,
        claimant: late.by,
        lease_until: late.retention.unknown,
        first_seen: came,
        completed: came,
        attempts: 1,
        observed_status: None,
        doubt: None,
        body_until: late.retention.body,
        keep_until: late.retention.key,
        contested: false,
        answer: Some(late.answer.clone()),
    }
}

/// The result of a row: a name, and a record as [`to_record`] makes it; and when it is over.
fn from_bytes(bytes: &[u8], seal: &Seal) -> Option<(Late, Millis)> {
    let (rid, record) = bytes.split_first_chunk()?;
    let rid = Rid(*rid);
    let Entry::Record(record) = codec::decode(record, &rid, seal) else { return None };
    let retention =
        Retention { body: record.body_until, key: record.keep_until, unknown: record.lease_until };
    let over = record.completed.saturating_add(retention.key);
    Some((Late { rid, by: record.claimant, answer: record.answer?, retention }, over))
}

fn to_bytes(late: &Late, came: Millis, seal: &Seal) -> Result<Vec<u8>, codec::NoRandomness> {
    let record = codec::encode(&to_record(late, came), &late.rid, seal)?;
    Ok([late.rid.0.as_slice(), &record].concat())
}

#[cfg(test)]
mod tests;
