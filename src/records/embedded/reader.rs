//! The thread that answers questions that change nothing. What it sees is what has been committed,
//! and nobody has been told of anything else; so a replay never waits for a commit.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;

use redb::ReadableDatabase;

use super::Inside;
use super::opened::{Opened, cause};
use super::rows::RECORDS;
use super::ticket::Ticket;
use crate::clock;
use crate::policy::idempotency::machine::{self, Around, Found, Room};
use crate::policy::idempotency::record::{Entry, Fence, Fingerprint, Rid};
use crate::records::local::seen;
use crate::records::{Cause, Fault, Kind, PAGE_MAX, Page, Seen, Wanted, codec};

/// The most records that are read for one page: when what is wanted is rare, a page is short and
/// the next one goes on.
const SCAN_MAX: usize = 10_000;

/// What is asked of the thread.
pub(super) enum Look {
    Peek(Rid, Fingerprint, Ticket<Option<Found>>),
    Read(Rid, Ticket<Seen>),
    List(Wanted, Ticket<Page>),
}

/// The life of the thread: it ends when nobody can ask any more.
pub(super) fn run(inside: &Inside, looks: &Receiver<Look>) {
    while let Ok(look) = looks.recv() {
        // The ticket is lost with a panic, and who asked is told so.
        let _ = catch_unwind(AssertUnwindSafe(|| answer(inside, look)));
    }
}

fn answer(inside: &Inside, look: Look) {
    let now = clock::now();
    match look {
        Look::Peek(rid, fingerprint, ticket) => {
            if let Some(ticket) = ticket.take(now) {
                ticket.answer(ask(inside, |opened| peek(opened, &rid, &fingerprint)));
            }
        }
        Look::Read(rid, ticket) => {
            if let Some(ticket) = ticket.take(now) {
                ticket.answer(ask(inside, |opened| read(opened, &rid)));
            }
        }
        Look::List(wanted, ticket) => {
            if let Some(ticket) = ticket.take(now) {
                ticket.answer(ask(inside, |opened| list(opened, &wanted)));
            }
        }
    }
}

fn ask<T>(
    inside: &Inside,
    question: impl FnOnce(&Opened) -> Result<T, redb::Error>,
) -> Result<T, Fault> {
    let answer = match inside.with(question) {
        Some(answer) => answer.map_err(|error| cause(inside.path(), &error)),
        None => Err(Cause::new(Kind::Unreachable, "the store is being opened")),
    };
    answer.map_err(Fault::NotApplied)
}

fn entry(opened: &Opened, rid: &Rid) -> Result<Entry, redb::Error> {
    let transaction = opened.database.begin_read()?;
    let records = transaction.open_table(RECORDS)?;
    Ok(match records.get(&rid.0)? {
        Some(bytes) => codec::decode(bytes.value(), rid, &opened.seal),
        None => Entry::Absent,
    })
}

fn peek(
    opened: &Opened,
    rid: &Rid,
    fingerprint: &Fingerprint,
) -> Result<Option<Found>, redb::Error> {
    let entry = entry(opened, rid)?;
    // The clock after the record, so that no record is younger than now.
    let (now, epoch) = (opened.time.now(), Some(opened.epoch));
    let around = Around { now, next_fence: Fence(0), epoch, room: Room::Free };
    Ok(machine::peek(&entry, fingerprint, &around))
}

fn read(opened: &Opened, rid: &Rid) -> Result<Seen, redb::Error> {
    let entry = entry(opened, rid)?;
    Ok(seen(entry, opened.time.now(), Some(opened.epoch)))
}

fn list(opened: &Opened, wanted: &Wanted) -> Result<Page, redb::Error> {
    use std::ops::Bound::{Excluded, Unbounded};
    let transaction = opened.database.begin_read()?;
    let records = transaction.open_table(RECORDS)?;
    let now = opened.time.now();
    let limit = wanted.limit.min(PAGE_MAX);
    let from = wanted.after.as_ref().map_or(Unbounded, |rid| Excluded(&rid.0));
    let mut page = Page::default();
    let mut last = None;
    let rows = records.range::<&[u8; 32]>((from, Unbounded))?;
    for (n, row) in rows.enumerate() {
        if page.records.len() == limit || n == SCAN_MAX {
            page.next = last;
            break;
        }
        let (rid, bytes) = row?;
        let rid = Rid(*rid.value());
        last = Some(rid);
        let seen = seen(codec::decode(bytes.value(), &rid, &opened.seal), now, Some(opened.epoch));
        if seen.state.is_some_and(|state| wanted.states.contains(&state)) {
            page.records.push((rid, seen));
        }
    }
    Ok(page)
}
