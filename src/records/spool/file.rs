//! Results in a file, and the thread that has it.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, StorageError, Table, TableDefinition};

use super::{Ask, Counts, Late, OLDEST_MAX, Oldest, Place, Seal, from_bytes, full, size, to_bytes};
use crate::clock;
use crate::policy::idempotency::record::Millis;
use crate::records::embedded::disk::{Medium, Reserve};
use crate::records::embedded::opened::{cause, database};
use crate::records::embedded::ticket::Ticket;
use crate::records::local::Time;
use crate::records::{Cause, Fault, Kind};
use crate::shared::Shared;

/// Results by place, in the order in which they came.
const LATE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("late");

/// The most changes of one commit.
const BATCH: usize = 256;
/// The most bytes of answers that are given back at once.
const OLDEST_BYTES: u64 = 8 << 20;
/// How often what is over is looked for, and room when the disk was full.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How soon a file that failed, or that another process has, is opened again; doubled up to the
/// longest.
const REOPEN_FIRST: Duration = Duration::from_millis(50);
const REOPEN_LAST: Duration = Duration::from_secs(2);

/// The answer to a change that the file itself did not fail.
type Answer = Result<(), Cause>;

type Rows<'t> = Table<'t, u64, &'static [u8]>;

/// What the thread has.
pub(super) struct Thread {
    pub(super) path: PathBuf,
    pub(super) seal: Seal,
    pub(super) medium: Medium,
    pub(super) reserve: Arc<Reserve>,
    pub(super) counts: Arc<Counts>,
    pub(super) problem: Arc<Shared<Option<Cause>>>,
}

/// The file, open.
struct Opened {
    database: Database,
    time: Time,
    next: u64,
    depth: u64,
    bytes: u64,
}

impl Thread {
    pub(super) fn run(&self, asks: &Receiver<Ask>) {
        let mut wait = REOPEN_FIRST;
        loop {
            let panicked = || Cause::new(Kind::Io, "the spool's file ended in a panic");
            let opened = catch_unwind(AssertUnwindSafe(|| self.open()));
            let opened = opened.unwrap_or_else(|_| Err(panicked()));
            let failed = match opened {
                Ok(mut opened) => {
                    *self.problem.lock() = None;
                    wait = REOPEN_FIRST;
                    let serve = AssertUnwindSafe(|| self.serve(&mut opened, asks));
                    match catch_unwind(serve).unwrap_or_else(|_| Err(panicked())) {
                        Ok(()) => return,
                        Err(cause) => cause,
                    }
                }
                Err(cause) => cause,
            };
            let before = self.problem.lock().replace(failed.clone());
            if before.as_ref() != Some(&failed) {
                tracing::warn!(reason = %failed.detail, "the spool's file is not open");
            }
            if refuse(asks, &failed, wait).is_break() {
                return;
            }
            wait = (wait * 2).min(REOPEN_LAST);
        }
    }

    fn fault(&self, error: &redb::Error) -> Cause {
        cause(&self.path, error)
    }

    fn open(&self) -> Result<Opened, Cause> {
        let database = database(&self.path, &self.medium, &self.reserve)?;
        let read = |database: &Database| -> Result<(u64, u64, u64), redb::Error> {
            // The table is made when there is none.
            let transaction = database.begin_write()?;
            transaction.open_table(LATE)?;
            transaction.commit()?;
            let table = database.begin_read()?.open_table(LATE)?;
            let (mut next, mut depth, mut bytes) = (0, 0, 0_u64);
            for row in table.iter()? {
                let (place, late) = row?;
                next = place.value().saturating_add(1);
                depth += 1;
                // As it is counted when it comes, or nearly, when it cannot be read.
                let more = from_bytes(late.value(), &self.seal).map_or(0, |(late, _)| size(&late));
                bytes = bytes.saturating_add(more);
            }
            Ok((next, depth, bytes))
        };
        let (next, depth, bytes) = read(&database).map_err(|error| self.fault(&error))?;
        let opened = Opened { database, time: Time::not_before(0), next, depth, bytes };
        self.counts.set(depth, bytes);
        Ok(opened)
    }

    /// Serves until nobody can ask any more; an error when the file failed.
    fn serve(&self, opened: &mut Opened, asks: &Receiver<Ask>) -> Result<(), Cause> {
        let mut next_sweep = clock::now();
        loop {
            let wait = next_sweep.saturating_duration_since(clock::now());
            match asks.recv_timeout(wait) {
                Ok(first) => {
                    let batch: Vec<_> =
                        std::iter::once(first).chain(asks.try_iter().take(BATCH - 1)).collect();
                    self.batch(opened, batch)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if clock::now() >= next_sweep {
                self.sweep(opened).map_err(|error| self.fault(&error))?;
                if self.reserve.is_spent() {
                    self.reserve.restore();
                }
                next_sweep = clock::now() + SWEEP_EVERY;
            }
        }
    }

    /// Does all changes in one commit, and then answers what was asked.
    fn batch(&self, opened: &mut Opened, batch: Vec<Ask>) -> Result<(), Cause> {
        let now = clock::now();
        let (mut changes, mut looks) = (Vec::new(), Vec::new());
        for ask in batch {
            match ask {
                Ask::Push(late, ticket) => {
                    changes.extend(ticket.take(now).map(|ticket| (Change::Push(late), ticket)));
                }
                Ask::Remove(places, ticket) => {
                    changes.extend(ticket.take(now).map(|ticket| (Change::Remove(places), ticket)));
                }
                Ask::Oldest(most, ticket) => {
                    looks.extend(ticket.take(now).map(|ticket| (most, ticket)));
                }
            }
        }
        self.change(opened, changes)?;
        for (most, ticket) in looks {
            match self.oldest(opened, most) {
                Ok(oldest) => ticket.answer(Ok(oldest)),
                Err(error) => {
                    let cause = self.fault(&error);
                    ticket.refuse(cause.clone());
                    return Err(cause);
                }
            }
        }
        Ok(())
    }

    fn change(&self, opened: &mut Opened, changes: Vec<(Change, Ticket<()>)>) -> Result<(), Cause> {
        if changes.is_empty() {
            return Ok(());
        }
        match self.commit(opened, &changes) {
            Ok(answers) => {
                self.counts.set(opened.depth, opened.bytes);
                for ((_, ticket), answer) in changes.into_iter().zip(answers) {
                    ticket.answer(answer.map_err(Fault::NotApplied));
                }
                Ok(())
            }
            Err(error) => {
                let cause = self.fault(&error);
                for (_, ticket) in changes {
                    ticket.answer(Err(Fault::Ambiguous(cause.clone())));
                }
                Err(cause)
            }
        }
    }

    fn commit(
        &self,
        opened: &mut Opened,
        changes: &[(Change, Ticket<()>)],
    ) -> Result<Vec<Answer>, redb::Error> {
        let transaction = opened.database.begin_write()?;
        let mut answers = Vec::with_capacity(changes.len());
        let mut tally = Tally { next: opened.next, depth: opened.depth, bytes: opened.bytes };
        let mut rows = transaction.open_table(LATE)?;
        for (change, _) in changes {
            answers.push(match change {
                Change::Push(late) => self.push(&mut rows, &mut tally, late, opened.time.now())?,
                Change::Remove(places) => {
                    for place in places {
                        self.remove(&mut rows, &mut tally, *place)?;
                    }
                    Ok(())
                }
            });
        }
        drop(rows);
        transaction.commit()?;
        Tally { next: opened.next, depth: opened.depth, bytes: opened.bytes } = tally;
        Ok(answers)
    }

    fn push(
        &self,
        rows: &mut Rows<'_>,
        tally: &mut Tally,
        late: &Late,
        now: Millis,
    ) -> Result<Answer, StorageError> {
        let more = size(late);
        if tally.bytes.saturating_add(more) > self.counts.limit {
            return Ok(Err(full()));
        }
        let Ok(bytes) = to_bytes(late, now, &self.seal) else {
            let detail = "the system has no randomness to give";
            return Ok(Err(Cause::new(Kind::Unavailable, detail)));
        };
        rows.insert(tally.next, bytes.as_slice())?;
        tally.next += 1;
        tally.depth += 1;
        tally.bytes = tally.bytes.saturating_add(more);
        Ok(Ok(()))
    }

    fn remove(
        &self,
        rows: &mut Rows<'_>,
        tally: &mut Tally,
        place: Place,
    ) -> Result<(), StorageError> {
        if let Some(row) = rows.remove(place.0)? {
            let less = from_bytes(row.value(), &self.seal).map_or(0, |(late, _)| size(&late));
            tally.depth = tally.depth.saturating_sub(1);
            tally.bytes = tally.bytes.saturating_sub(less);
        }
        Ok(())
    }

    fn oldest(&self, opened: &Opened, most: usize) -> Result<Oldest, redb::Error> {
        let rows = opened.database.begin_read()?.open_table(LATE)?;
        let now = opened.time.now();
        let (mut oldest, mut bytes) = (Vec::new(), 0_u64);
        for row in rows.iter()? {
            if oldest.len() >= most.min(OLDEST_MAX) || bytes > OLDEST_BYTES {
                break;
            }
            let (place, late) = row?;
            // What is over, or cannot be read, is taken away by the next sweep.
            if let Some((late, over)) = from_bytes(late.value(), &self.seal)
                && over > now
            {
                bytes = bytes.saturating_add(size(&late));
                oldest.push((Place(place.value()), late));
            }
        }
        Ok(oldest)
    }

    /// Drops what is over, and what cannot be read and so would never reach its store.
    fn sweep(&self, opened: &mut Opened) -> Result<(), redb::Error> {
        let now = opened.time.now();
        let over: Vec<_> = {
            let rows = opened.database.begin_read()?.open_table(LATE)?;
            let mut over = Vec::new();
            for row in rows.iter()? {
                let (place, late) = row?;
                if from_bytes(late.value(), &self.seal).is_none_or(|(_, over)| over <= now) {
                    over.push(Place(place.value()));
                }
            }
            over
        };
        if over.is_empty() {
            return Ok(());
        }
        let transaction = opened.database.begin_write()?;
        let mut tally = Tally { next: opened.next, depth: opened.depth, bytes: opened.bytes };
        let mut rows = transaction.open_table(LATE)?;
        for place in &over {
            self.remove(&mut rows, &mut tally, *place)?;
        }
        drop(rows);
        transaction.commit()?;
        over.iter().for_each(|_| self.counts.drop_one());
        Tally { next: opened.next, depth: opened.depth, bytes: opened.bytes } = tally;
        self.counts.set(opened.depth, opened.bytes);
        Ok(())
    }
}

/// A change that is to be committed.
enum Change {
    Push(Box<Late>),
    Remove(Vec<Place>),
}

/// What the file will hold once a transaction is committed.
struct Tally {
    next: u64,
    depth: u64,
    bytes: u64,
}

/// Refuses what is asked for so long; breaks when nobody can ask any more.
fn refuse(asks: &Receiver<Ask>, cause: &Cause, pause: Duration) -> ControlFlow<()> {
    let until = clock::now() + pause;
    loop {
        match asks.recv_timeout(until.saturating_duration_since(clock::now())) {
            Ok(Ask::Push(_, ticket) | Ask::Remove(_, ticket)) => ticket.refuse(cause.clone()),
            Ok(Ask::Oldest(_, ticket)) => ticket.refuse(cause.clone()),
            Err(RecvTimeoutError::Timeout) => return ControlFlow::Continue(()),
            Err(RecvTimeoutError::Disconnected) => return ControlFlow::Break(()),
        }
    }
}
