//! What stores that belong to one process have in common: their time, fences, hints, and how room
//! is shared between principals.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Notify;

use super::Seen;
use super::codec::NoRandomness;
use crate::clock;
use crate::policy::idempotency::machine::{Room, Stands, due, stands};
use crate::policy::idempotency::record::{Entry, Fence, Millis, Principal, Record, Rid, State};

/// What one principal may take of a store: a tenth, of records and of bytes.
const SHARE: u64 = 10;
/// Waiters for records of different names share this many bells: few hints are false, and their
/// memory does not grow with the records.
const BELLS: usize = 64;

/// The time of day when the store was opened, and from then on as long as has really passed: a
/// clock that is set back or forth while it is open moves nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Time {
    opened: Millis,
    since: Instant,
}

impl Time {
    /// Time that goes on from now, and never starts before this.
    pub(super) fn not_before(least: Millis) -> Self {
        let day = clock::wall_now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let day = u64::try_from(day.as_millis()).unwrap_or(0);
        Self { opened: day.max(least), since: clock::now() }
    }

    pub(super) fn now(&self) -> Millis {
        let passed = clock::now().saturating_duration_since(self.since).as_millis();
        self.opened.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX))
    }

    /// The least fence of this instant: microseconds, so that fences go on rising also when
    /// everything was lost.
    pub(super) fn fence(&self) -> u64 {
        let passed = clock::now().saturating_duration_since(self.since).as_micros();
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        self.opened.saturating_mul(1_000).saturating_add(passed)
    }
}

/// Gives fences, each larger than all before.
#[derive(Debug, Default)]
pub(super) struct Fences(AtomicU64);

impl Fences {
    /// Goes on after this one.
    pub(super) const fn after(last: Fence) -> Self {
        Self(AtomicU64::new(last.0))
    }

    /// The last one that was given.
    pub(super) fn last(&self) -> Fence {
        Fence(self.0.load(Ordering::Relaxed))
    }

    /// Goes on after one that a record has: what another life of the store gave, and a claimant put
    /// back, is not given again when that record is gone.
    pub(super) fn reach(&self, fence: Fence) {
        self.0.fetch_max(fence.0, Ordering::Relaxed);
    }

    /// The next one; one more than the last, or the time when that is more.
    pub(super) fn next(&self, time: &Time) -> Fence {
        let least = time.fence();
        let next = |last: u64| last.saturating_add(1).max(least);
        let last =
            self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        Fence(next(last.unwrap_or_else(|last| last)))
    }
}

/// 32 bytes of chance.
pub(super) fn secret() -> Result<[u8; 32], NoRandomness> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// Hints that a record has changed.
#[derive(Debug)]
pub(super) struct Bells(Box<[Arc<Notify>]>);

impl Default for Bells {
    fn default() -> Self {
        Self((0..BELLS).map(|_| Arc::default()).collect())
    }
}

impl Bells {
    fn of(&self, rid: &Rid) -> Option<&Arc<Notify>> {
        self.0.get(place(rid, self.0.len()))
    }

    /// Wakes who waits for the record.
    pub(super) fn ring(&self, rid: &Rid) {
        if let Some(bell) = self.of(rid) {
            bell.notify_waiters();
        }
    }

    /// Resolves when the bell has rung since this call, not since it was first polled.
    pub(super) fn wait(&self, rid: &Rid) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        match self.of(rid) {
            Some(bell) => Box::pin(Arc::clone(bell).notified_owned()),
            None => Box::pin(std::future::ready(())),
        }
    }
}

/// Which of so many places is the record's. Names are digests, so any of their bytes spreads them.
pub(super) fn place(rid: &Rid, places: usize) -> usize {
    let [.., high, low] = rid.0;
    usize::from(u16::from_be_bytes([high, low])) % places.max(1)
}

/// What there is to do with a record when its time has come, in the order of what is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Class {
    /// Its answer has a body to be dropped.
    Body,
    /// It is to be removed.
    Whole,
}

/// When a store has to look at a record again, and what for.
pub(super) fn appointment(record: &Record) -> (Class, Millis) {
    let has_body = record.answer.as_ref().is_some_and(|answer| answer.body.is_some());
    match record.state {
        State::Completed if has_body && record.body_until < record.keep_until => {
            (Class::Body, due(record))
        }
        // Without a body there is nothing to drop before the record itself.
        State::Completed => (Class::Whole, record.keep_until),
        _ => (Class::Whole, due(record)),
    }
}

/// An entry as an operator sees it: what is over is absent.
pub(super) fn seen(entry: Entry, now: Millis, epoch: Option<u64>) -> Seen {
    let state = match &entry {
        Entry::Absent => None,
        Entry::Unreadable => Some(State::Unknown),
        Entry::Record(record) => match stands(record, now, epoch) {
            Stands::In(state) => Some(state),
            Stands::Over(_) => None,
        },
    };
    Seen { entry: if state.is_none() { Entry::Absent } else { entry }, state, now }
}

/// A record as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) principal: Principal,
    pub(super) state: State,
    pub(super) bytes: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Taken {
    entries: u64,
    bytes: u64,
}

/// What a store may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// What the records take, together and for each principal.
#[derive(Debug)]
pub(super) struct Usage {
    limits: Limits,
    taken: Taken,
    /// Bounded by the entries: who has none is not in it.
    principals: HashMap<Principal, Taken>,
    states: [u64; State::ALL.len()],
}

impl Usage {
    pub(super) fn new(limits: Limits) -> Self {
        let (taken, principals, states) = Default::default();
        Self { limits, taken, principals, states }
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.taken.bytes
    }

    pub(super) const fn states(&self) -> [u64; State::ALL.len()] {
        self.states
    }

    /// Whether there is room for one more record of so many bytes.
    pub(super) fn room(&self, principal: Principal, bytes: u64) -> Room {
        let held = self.principals.get(&principal).copied().unwrap_or_default();
        let alone = principal == Principal::ALL;
        let quota = held.entries >= (self.limits.entries / SHARE).max(1)
            || held.bytes.saturating_add(bytes) > self.limits.bytes / SHARE;
        if quota && !alone {
            Room::Quota
        } else if self.taken.entries >= self.limits.entries || self.over(bytes) > 0 {
            Room::Full
        } else {
            Room::Free
        }
    }

    /// By how much the store would be too full with so many more bytes.
    pub(super) const fn over(&self, more: u64) -> u64 {
        self.taken.bytes.saturating_add(more).saturating_sub(self.limits.bytes)
    }

    /// A record takes the place of another, comes or goes.
    pub(super) fn replace(&mut self, before: Option<&Share>, after: Option<&Share>) {
        if let Some(share) = before {
            self.leave(share);
        }
        if let Some(share) = after {
            self.taken.entries += 1;
            self.taken.bytes = self.taken.bytes.saturating_add(share.bytes);
            let held = self.principals.entry(share.principal).or_default();
            held.entries += 1;
            held.bytes = held.bytes.saturating_add(share.bytes);
            if let Some(count) = self.states.get_mut(share.state.index()) {
                *count += 1;
            }
        }
    }

    fn leave(&mut self, share: &Share) {
        self.taken.entries = self.taken.entries.saturating_sub(1);
        self.taken.bytes = self.taken.bytes.saturating_sub(share.bytes);
        if let Some(held) = self.principals.get_mut(&share.principal) {
            held.entries = held.entries.saturating_sub(1);
            held.bytes = held.bytes.saturating_sub(share.bytes);
            if held.entries == 0 {
                self.principals.remove(&share.principal);
            }
        }
        if let Some(count) = self.states.get_mut(share.state.index()) {
            *count = count.saturating_sub(1);
        }
    }
}

/// What has been dropped since the start.
#[derive(Debug, Default)]
pub(super) struct Dropped {
    pub(super) bodies_shed: AtomicU64,
    pub(super) tombstones: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) contested: AtomicU64,
}

impl Dropped {
    pub(super) fn shed(&self) {
        self.bodies_shed.fetch_add(1, Ordering::Relaxed);
    }

    /// A record is over; it ended in this state.
    pub(super) fn over(&self, state: State) {
        let count = match state {
            State::Tombstone | State::Completed => &self.tombstones,
            State::Unknown => &self.unknown,
            // Sent again or not, its upstream recognises it.
            State::Retryable | State::InFlight => return,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a change has made a record contested.
    pub(super) fn changed(&self, before: Option<&Record>, after: &Record) {
        if after.contested && before.is_none_or(|before| !before.contested) {
            self.contested.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
