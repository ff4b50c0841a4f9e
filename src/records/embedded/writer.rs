//! The thread that changes records: whatever has been asked while the last commit was on its way
//! to the disk goes into the next one, and is answered when that has arrived there.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use redb::{ReadableDatabase, WriteTransaction};
use tokio::sync::oneshot;

use super::Inside;
use super::opened::{Opened, cause};
use super::rows::{DUE, KEY_LEN, Key};
use super::tables::Tables;
use super::ticket::Ticket;
use crate::clock;
use crate::policy::idempotency::machine::{Claim, Claimed, Settle, Settled};
use crate::policy::idempotency::record::{Millis, Rid};
use crate::records::local::Class;
use crate::records::{Cause, Fault, Kind};

/// The most changes of one commit: more would only make each of them wait longer.
const BATCH: usize = 256;
/// The most bytes of answers in one commit.
const BATCH_BYTES: usize = 8 << 20;
/// How often what is over is looked for, and the reserve.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// The most records that one sweep looks at, so that the changes behind it do not wait long.
const SWEEP_ROWS: usize = 256;
/// How soon a file that another process has is tried again: a successor waits for it.
const LOCKED_EVERY: Duration = Duration::from_millis(20);
/// How soon a file that failed is opened again; doubled up to the longest.
const REOPEN_FIRST: Duration = Duration::from_millis(50);
const REOPEN_LAST: Duration = Duration::from_secs(2);
/// How often room is looked for on a full disk.
const RESTORE_EVERY: Duration = Duration::from_secs(5);

/// What is asked of the thread.
pub(super) enum Ask {
    Claim(Rid, Claim, Ticket<Claimed>),
    Settle(Rid, Box<Settle>, Ticket<Settled>),
    /// Finish, close the file, and say so.
    Close(oneshot::Sender<()>),
}

impl Ask {
    fn take(self, now: Instant) -> Option<Self> {
        match self {
            Self::Claim(rid, claim, ticket) => {
                ticket.take(now).map(|ticket| Self::Claim(rid, claim, ticket))
            }
            Self::Settle(rid, settle, ticket) => {
                ticket.take(now).map(|ticket| Self::Settle(rid, settle, ticket))
            }
            Self::Close(done) => Some(Self::Close(done)),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Settle(_, settle, _) => match &**settle {
                Settle::Complete { answer, .. } => answer.bytes(),
                _ => 0,
            },
            _ => 0,
        }
    }

    fn fail(self, fault: Fault) {
        match self {
            Self::Claim(_, _, ticket) => ticket.answer(Err(fault)),
            Self::Settle(_, _, ticket) => ticket.answer(Err(fault)),
            Self::Close(_) => {}
        }
    }
}

/// The answer to one of a batch, in its place.
enum Answer {
    Claimed(Claimed),
    Settled(Settled),
    /// That of a question to close, which comes later.
    None,
}

/// How a batch failed.
enum Failed {
    /// Before its commit was begun, so that nothing of it is written.
    Before(redb::Error),
    /// In its commit, which may have been written.
    InCommit(redb::Error),
}

impl Failed {
    fn into_fault(self, path: &Path) -> (Fault, Cause) {
        match self {
            Self::Before(error) => {
                let cause = cause(path, &error);
                (Fault::NotApplied(cause.clone()), cause)
            }
            Self::InCommit(error) => {
                let cause = cause(path, &error);
                (Fault::Ambiguous(cause.clone()), cause)
            }
        }
    }
}

/// Why the thread leaves an open file.
enum End {
    /// It is to be closed; who wants to know.
    Closed(Option<oneshot::Sender<()>>),
    /// It failed, and nothing is known of it until it is opened again.
    Failed(Cause),
}

/// The life of the thread.
pub(super) fn run(inside: &Inside, asks: &Receiver<Ask>) {
    let mut wait = REOPEN_FIRST;
    loop {
        let opened = catch_unwind(AssertUnwindSafe(|| inside.open()))
            .unwrap_or_else(|_| Err(Cause::new(Kind::Io, "opening the file ended in a panic")));
        let end = match opened {
            Ok(()) => {
                wait = REOPEN_FIRST;
                catch_unwind(AssertUnwindSafe(|| serve(inside, asks))).unwrap_or_else(|_| {
                    End::Failed(Cause::new(Kind::Io, "writing the file ended in a panic"))
                })
            }
            Err(cause) => End::Failed(cause),
        };
        let cause = match end {
            End::Closed(done) => {
                inside.refuse(Cause::new(Kind::Unreachable, "the store is closed"));
                inside.shut();
                // Who asked may have gone.
                let _ = done.map(|done| done.send(()));
                return;
            }
            End::Failed(cause) => cause,
        };
        let is_locked = cause.kind == Kind::Unreachable;
        inside.fail(&cause);
        inside.shut();
        let pause = if is_locked { LOCKED_EVERY } else { wait };
        if let Some(done) = refuse(asks, &cause, pause) {
            let _ = done.map(|done| done.send(()));
            return;
        }
        if !is_locked {
            wait = (wait * 2).min(REOPEN_LAST);
        }
    }
}

/// Refuses what is asked for so long; whether the store is to be closed in the meantime, and who
/// wants to know.
fn refuse(
    asks: &Receiver<Ask>,
    cause: &Cause,
    pause: Duration,
) -> Option<Option<oneshot::Sender<()>>> {
    let until = clock::now() + pause;
    loop {
        match asks.recv_timeout(until.saturating_duration_since(clock::now())) {
            Ok(Ask::Close(done)) => return Some(Some(done)),
            Ok(ask) => ask.fail(Fault::NotApplied(cause.clone())),
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => return Some(None),
        }
    }
}

/// Writes until the store is closed or fails.
fn serve(inside: &Inside, asks: &Receiver<Ask>) -> End {
    let mut next_sweep = clock::now();
    let mut next_restore = next_sweep + RESTORE_EVERY;
    loop {
        let wait = next_sweep.saturating_duration_since(clock::now());
        let mut batch = Vec::new();
        match asks.recv_timeout(wait) {
            Ok(first) => gather(first, asks, &mut batch),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return End::Closed(None),
        }
        let close = match batch.pop_if(|ask| matches!(ask, Ask::Close(_))) {
            Some(Ask::Close(done)) => Some(done),
            _ => None,
        };
        if !batch.is_empty()
            && let Err(cause) = write(inside, batch)
        {
            return End::Failed(cause);
        }
        if close.is_some() {
            return End::Closed(close);
        }
        let now = clock::now();
        if now >= next_sweep {
            match inside.with(|opened| sweep(inside, opened)) {
                // There is more to do, after whatever is being asked.
                Some(Ok(SWEEP_ROWS)) => next_sweep = now,
                Some(Ok(_)) => next_sweep = now + SWEEP_EVERY,
                Some(Err(error)) => return End::Failed(cause(inside.path(), &error)),
                None => return End::Closed(None),
            }
        }
        if !inside.reserve.is_spent() {
            next_restore = now + RESTORE_EVERY;
        } else if now >= next_restore {
            inside.reserve.restore();
            next_restore = now + RESTORE_EVERY;
        }
    }
}

/// Takes what is waiting, as much as goes into one commit.
fn gather(first: Ask, asks: &Receiver<Ask>, batch: &mut Vec<Ask>) {
    let now = clock::now();
    let mut bytes = 0;
    let mut next = Some(first);
    while let Some(ask) = next {
        let Some(ask) = ask.take(now) else {
            next = asks.try_recv().ok();
            continue;
        };
        bytes += ask.bytes();
        let is_last = matches!(ask, Ask::Close(_));
        batch.push(ask);
        let has_room = batch.len() < BATCH && bytes < BATCH_BYTES && !is_last;
        next = if has_room { asks.try_recv().ok() } else { None };
    }
}

/// Writes a batch, and answers it.
fn write(inside: &Inside, batch: Vec<Ask>) -> Result<(), Cause> {
    let mut changed = Vec::new();
    let result = inside.with(|opened| commit(inside, opened, &batch, &mut changed));
    let failed = match result {
        Some(Ok(answers)) => {
            for (ask, answer) in batch.into_iter().zip(answers) {
                match (ask, answer) {
                    (Ask::Claim(_, _, ticket), Answer::Claimed(answer)) => {
                        ticket.answer(Ok(answer));
                    }
                    (Ask::Settle(_, _, ticket), Answer::Settled(answer)) => {
                        ticket.answer(Ok(answer));
                    }
                    _ => {}
                }
            }
            changed.iter().for_each(|rid| inside.bells.ring(rid));
            return Ok(());
        }
        Some(Err(failed)) => failed,
        None => return Err(Cause::new(Kind::Io, "the file was closed")),
    };
    let (fault, cause) = failed.into_fault(inside.path());
    // Who hears of it finds the store not ready, and so can wait until it is.
    inside.fail(&cause);
    // Whatever a claim was told to be there may not have been written either.
    batch.into_iter().for_each(|ask| ask.fail(fault.clone()));
    Err(cause)
}

fn begin(inside: &Inside, opened: &Opened) -> Result<WriteTransaction, redb::Error> {
    let mut transaction = opened.database.begin_write()?;
    transaction.set_two_phase_commit(inside.settings.paranoid);
    Ok(transaction)
}

fn finish(opened: &Opened, transaction: WriteTransaction) -> Result<(), Failed> {
    let (now, fence) = (opened.time.now(), opened.fences.last());
    Tables::mark(&transaction, now, fence).map_err(Failed::Before)?;
    transaction.commit().map_err(|error| Failed::InCommit(error.into()))
}

fn commit(
    inside: &Inside,
    opened: &Opened,
    batch: &[Ask],
    changed: &mut Vec<Rid>,
) -> Result<Vec<Answer>, Failed> {
    let before = |error: redb::Error| Failed::Before(error);
    let transaction = begin(inside, opened).map_err(before)?;
    let mut answers = Vec::with_capacity(batch.len());
    let mut tables = Tables::open(&transaction, opened).map_err(before)?;
    for ask in batch {
        let (rid, answer, is_changed) = match ask {
            Ask::Claim(rid, claim, _) => {
                let (answer, changed) =
                    tables.claim(rid, claim).map_err(|error| before(error.into()))?;
                (rid, Answer::Claimed(answer), changed)
            }
            Ask::Settle(rid, settle, _) => {
                let (answer, changed) =
                    tables.settle(rid, settle).map_err(|error| before(error.into()))?;
                (rid, Answer::Settled(answer), changed)
            }
            Ask::Close(_) => {
                answers.push(Answer::None);
                continue;
            }
        };
        answers.push(answer);
        if is_changed {
            changed.push(*rid);
        }
    }
    let is_written = tables.is_touched();
    drop(tables);
    if is_written {
        finish(opened, transaction)?;
    } else {
        transaction.abort().map_err(|error| before(error.into()))?;
    }
    Ok(answers)
}

/// Looks at what time has changed; at how many records.
fn sweep(inside: &Inside, opened: &Opened) -> Result<usize, redb::Error> {
    if !is_due(opened, opened.time.now())? {
        return Ok(0);
    }
    let transaction = begin(inside, opened)?;
    let mut tables = Tables::open(&transaction, opened)?;
    let rows = tables.purge(SWEEP_ROWS)?;
    drop(tables);
    match finish(opened, transaction) {
        Ok(()) => Ok(rows),
        Err(Failed::Before(error) | Failed::InCommit(error)) => Err(error),
    }
}

fn is_due(opened: &Opened, now: Millis) -> Result<bool, redb::Error> {
    let due = opened.database.begin_read()?.open_table(DUE)?;
    for class in [Class::Body, Class::Whole] {
        let (from, to) = (Key::first(class, 0).to_bytes(), Key::first(class, now + 1).to_bytes());
        if due.range::<&[u8; KEY_LEN]>(&from..&to)?.next().is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
