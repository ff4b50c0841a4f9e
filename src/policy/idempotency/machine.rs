//! Every transition of a record.
//!
//! | | from | what happens | to |
//! |---|---|---|---|
//! | T1 | nothing | [`claim`] | in flight, with a new fence |
//! | T2 | in flight | [`Settle::Renew`] | in flight, with a later lease |
//! | T3 | in flight | [`Settle::Complete`] | completed |
//! | T4 | in flight | [`Settle::Release`], with proof that nothing was executed | nothing |
//! | T5 | in flight | [`Settle::Doubt`] | unknown |
//! | T6 | in flight | its lease ends, or its owner's life | unknown |
//! | T7 | in flight | [`Settle::Retryable`] | retryable |
//! | T8 | retryable | [`claim`] of the same request | in flight, with a larger fence |
//! | T9 | unknown | [`claim`] of the same request, where allowed | in flight, larger fence |
//! | T10 | unknown | [`Settle::Complete`] with the fence that it has | completed |
//! | T11 | unknown | [`Settle::Resolve`] | completed, or nothing |
//! | T12 | completed | the answer's time is over, or [`shed`] | tombstone |
//! | T13 | tombstone | its time is over | nothing |
//! | T14 | unknown, retryable | its time is over | nothing |
//!
//! T6 and T12 to T14 are made by time alone: [`stands`] derives them, and nothing needs to be
//! written. Every change can be sent again with the same result, as an answer of the store may be
//! lost.

mod settle;

pub use settle::{Resolution, Settle, Settled, settle};

use super::record::{
    Claimant, Doubt, Entry, Fence, Fingerprint, Millis, NEVER, Nonce, Owner, Principal, Record,
    Retention, State, Stored,
};

/// The longest lease, in milliseconds. A record that has more left was written before the store's
/// clock went back, and its lease is over.
pub const LEASE_MAX: u64 = 600_000;

/// What the machine is told of the store.
#[derive(Clone, Copy, Debug)]
pub struct Around {
    /// The store's time.
    pub now: Millis,
    /// The fence that a claim would get: larger than every one that the record has had.
    pub next_fence: Fence,
    /// The present opening of a store that belongs to one process: what an earlier one had in
    /// flight has lost its owner.
    pub epoch: Option<u64>,
    /// Whether there is room for one more record.
    pub room: Room,
}

/// Whether there is room for one more record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// There is.
    #[default]
    Free,
    /// The store is full.
    Full,
    /// The principal has its whole share.
    Quota,
}

/// Whether an operation of unknown outcome may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknowns {
    /// Never without proof that it was not executed.
    Hold,
    /// Once the last owner's lease has been over for so many milliseconds: the upstream recognises
    /// the key itself.
    Redispatch {
        /// For an owner that is late and not dead.
        grace: u64,
    },
}

/// A request that wants to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// What it asks for.
    pub fingerprint: Fingerprint,
    /// Who asks.
    pub owner: Owner,
    /// This claim.
    pub nonce: Nonce,
    /// Whose request it is.
    pub principal: Principal,
    /// How long its owner is taken to be at work without a renewal, in milliseconds; at most
    /// [`LEASE_MAX`].
    pub lease: u64,
    /// How long the record is kept.
    pub retention: Retention,
    /// What becomes of an operation of unknown outcome.
    pub unknowns: Unknowns,
    /// Whether the key is older than what the store can remember, so that finding nothing proves
    /// nothing.
    pub too_old: bool,
}

/// What there is of a request already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// Somebody is at work on it.
    InFlight {
        /// What is left of the lease, in milliseconds; at least 1.
        remaining: u64,
        /// When it was first claimed.
        first_seen: Millis,
    },
    /// It has been answered.
    Completed {
        /// The answer, with its body.
        answer: Stored,
        /// When.
        completed: Millis,
        /// How old that is by the store's clock, in milliseconds.
        age: u64,
    },
    /// It has been answered, and the answer cannot be given again.
    Gone {
        /// The answer's status.
        status: u16,
        /// When it was first claimed.
        first_seen: Millis,
    },
    /// Nobody knows.
    Unknown {
        /// Why.
        doubt: Doubt,
        /// The status that was seen before.
        observed_status: Option<u16>,
        /// When it was first claimed; 0 for a record that cannot be read.
        first_seen: Millis,
    },
    /// The key belongs to a different request.
    Mismatch {
        /// Where that one stands.
        state: State,
        /// When it was first claimed.
        first_seen: Millis,
    },
}

/// The answer to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// The claimant may send.
    Acquired {
        /// Goes with every change from now on.
        fence: Fence,
        /// The how-manieth claim of this key it is, from 1.
        attempt: u32,
        /// When it was first claimed.
        first_seen: Millis,
    },
    /// There is something already.
    Found(Found),
    /// The store is full.
    Full,
    /// The principal has its whole share of the store.
    Quota,
    /// There is nothing, and the key is older than what the store can remember.
    TooOld,
}

/// What a store has to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// This, in place of what is there.
    Put(Box<Record>),
    /// Remove it.
    Remove,
}

/// What time has made of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stands {
    /// It is over; the state is the one that it ended in.
    Over(State),
    /// It stands so.
    In(State),
}

/// Where a record stands now (T6, T12, T13, T14).
#[must_use]
pub fn stands(record: &Record, now: Millis, epoch: Option<u64>) -> Stands {
    let state = match record.state {
        State::InFlight if is_lost(record, now, epoch) => State::Unknown,
        State::Completed if now >= record.body_until => State::Tombstone,
        state => state,
    };
    match state {
        // A live lease keeps its record whatever the retention says.
        State::InFlight => Stands::In(state),
        _ if now >= record.keep_until && record.keep_until != NEVER => Stands::Over(state),
        _ => Stands::In(state),
    }
}

fn is_lost(record: &Record, now: Millis, epoch: Option<u64>) -> bool {
    now >= record.lease_until
        || record.lease_until - now > LEASE_MAX
        || epoch.is_some_and(|epoch| epoch != record.claimant.owner.epoch)
}

/// When a store has to look at a record again, because time will have changed what it takes.
#[must_use]
pub const fn due(record: &Record) -> Millis {
    match record.state {
        State::Completed if record.body_until < record.keep_until => record.body_until,
        _ => record.keep_until,
    }
}

/// T12: a completed record without its answer's body and fields; any other is left as it is.
#[must_use]
pub fn shed(mut record: Record) -> Record {
    if record.state == State::Completed {
        record.state = State::Tombstone;
        record.answer = record.answer.map(|answer| Stored::bare(answer.status));
    }
    record
}

/// A record, and where it stands now.
type There<'a> = Option<(&'a Record, State)>;

/// The entry as time has left it: what is over is nothing.
fn present<'a>(entry: &'a Entry, around: &Around) -> Result<There<'a>, ()> {
    match entry {
        Entry::Absent => Ok(None),
        Entry::Unreadable => Err(()),
        Entry::Record(record) => Ok(match stands(record, around.now, around.epoch) {
            Stands::In(state) => Some((record, state)),
            Stands::Over(_) => None,
        }),
    }
}

const UNREADABLE: Found =
    Found::Unknown { doubt: Doubt::Unreadable, observed_status: None, first_seen: 0 };

/// What there is of a request; nothing when a claim could succeed.
#[must_use]
pub fn peek(entry: &Entry, fingerprint: &Fingerprint, around: &Around) -> Option<Found> {
    match present(entry, around) {
        Err(()) => Some(UNREADABLE),
        Ok(None) => None,
        Ok(Some((record, state))) => found(record, state, fingerprint, around.now),
    }
}

fn found(record: &Record, state: State, asked: &Fingerprint, now: Millis) -> Option<Found> {
    let first_seen = record.first_seen;
    if record.claimant.fingerprint.version != asked.version {
        // Not comparable, and so neither the same nor another.
        return Some(UNREADABLE);
    }
    if record.claimant.fingerprint != *asked {
        return Some(Found::Mismatch { state, first_seen });
    }
    let gone = || Found::Gone {
        status: record.answer.as_ref().map_or(0, |answer| answer.status),
        first_seen,
    };
    Some(match state {
        State::Retryable => return None,
        State::InFlight => {
            Found::InFlight { remaining: record.lease_until.saturating_sub(now).max(1), first_seen }
        }
        State::Completed => match &record.answer {
            Some(answer) if answer.body.is_some() => Found::Completed {
                answer: answer.clone(),
                completed: record.completed,
                age: now.saturating_sub(record.completed),
            },
            _ => gone(),
        },
        State::Tombstone => gone(),
        State::Unknown => Found::Unknown {
            doubt: record.doubt.unwrap_or(Doubt::OwnerLost),
            observed_status: record.observed_status,
            first_seen,
        },
    })
}

/// A request wants to be sent (T1, T8, T9).
#[must_use]
pub fn claim(entry: &Entry, claim: &Claim, around: &Around) -> (Change, Claimed) {
    let around = &after(entry, around);
    let keep = |answer| (Change::Keep, answer);
    let (record, state) = match present(entry, around) {
        Err(()) => return keep(Claimed::Found(UNREADABLE)),
        Ok(None) if claim.too_old => return keep(Claimed::TooOld),
        Ok(None) => {
            return match around.room {
                Room::Full => keep(Claimed::Full),
                Room::Quota => keep(Claimed::Quota),
                Room::Free => acquire(claim, around, None),
            };
        }
        Ok(Some(there)) => there,
    };
    let found = found(record, state, &claim.fingerprint, around.now);
    match (&found, state) {
        // The same claim, sent again because its answer was lost.
        (Some(Found::InFlight { .. }), _) if record.claimant.nonce == claim.nonce => {
            keep(Claimed::Acquired {
                fence: record.claimant.fence,
                attempt: record.attempts,
                first_seen: record.first_seen,
            })
        }
        (Some(Found::Unknown { .. }), State::Unknown) if may_redispatch(record, claim, around) => {
            acquire(claim, around, Some(record))
        }
        (None, State::Retryable) => acquire(claim, around, Some(record)),
        _ => keep(found.map_or(Claimed::Found(UNREADABLE), Claimed::Found)),
    }
}

/// What is over was there all the same: fences rise over the end of a record too, also when the
/// store's own source of them has gone back.
fn after(entry: &Entry, around: &Around) -> Around {
    let Entry::Record(record) = entry else { return *around };
    let least = Fence(record.claimant.fence.0.saturating_add(1));
    Around { next_fence: around.next_fence.max(least), ..*around }
}

fn may_redispatch(record: &Record, claim: &Claim, around: &Around) -> bool {
    // A lease that lies in a future beyond all leases was written before the clock went back.
    let left = record.lease_until.saturating_sub(around.now);
    match claim.unknowns {
        Unknowns::Hold => false,
        Unknowns::Redispatch { grace } => {
            record.claimant.fingerprint == claim.fingerprint
                && (left > LEASE_MAX || around.now >= record.lease_until.saturating_add(grace))
        }
    }
}

fn acquire(claim: &Claim, around: &Around, before: Option<&Record>) -> (Change, Claimed) {
    let fence = around.next_fence;
    let attempt = before.map_or(1, |record| record.attempts.saturating_add(1));
    let first_seen = before.map_or(around.now, |record| record.first_seen);
    let by = Claimant {
        fingerprint: claim.fingerprint,
        owner: claim.owner,
        nonce: claim.nonce,
        fence,
        principal: claim.principal,
    };
    let mut record = at_work(by, claim.lease, &claim.retention, around.now);
    record.first_seen = first_seen;
    record.attempts = attempt;
    record.contested = before.is_some_and(|record| record.contested);
    (Change::Put(Box::new(record)), Claimed::Acquired { fence, attempt, first_seen })
}

/// A record of a claim that begins now.
fn at_work(by: Claimant, lease: u64, retention: &Retention, now: Millis) -> Record {
    let lease_until = now.saturating_add(lease.min(LEASE_MAX));
    Record {
        state: State::InFlight,
        claimant: by,
        lease_until,
        first_seen: now,
        completed: 0,
        attempts: 1,
        observed_status: None,
        doubt: None,
        body_until: NEVER,
        // When its owner is lost nothing is written, so this is how long the doubt will last.
        keep_until: lease_until.saturating_add(retention.unknown),
        contested: false,
        answer: None,
    }
}

#[cfg(test)]
mod tests;
