//! Changes of a record that was claimed: T2 to T5, T7, T10, T11.

use super::{Around, Change, LEASE_MAX, There, at_work, present};
use crate::policy::idempotency::record::{
    Claimant, Doubt, Entry, Fence, Millis, Record, Retention, State, Stored,
};

/// A change of a record that was claimed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    /// T2: still at work, for so many milliseconds more.
    Renew {
        /// Who.
        by: Claimant,
        /// Milliseconds, at most [`LEASE_MAX`].
        lease: u64,
    },
    /// T3, T10: the final answer. A store that has lost the record takes it as new.
    Complete {
        /// Who.
        by: Claimant,
        /// The answer.
        answer: Stored,
        /// How long it is kept.
        retention: Retention,
    },
    /// T4: proved not to have been executed.
    Release {
        /// Who.
        by: Claimant,
    },
    /// T5: it may have been executed or not. A store that has lost the record takes it as new.
    Doubt {
        /// Who.
        by: Claimant,
        /// Why.
        doubt: Doubt,
        /// The status that was seen.
        observed_status: Option<u16>,
        /// How long it is kept.
        retention: Retention,
    },
    /// T7: may be sent again, as the upstream recognises the key.
    Retryable {
        /// Who.
        by: Claimant,
        /// How long it is kept.
        retention: Retention,
    },
    /// T11: an operator, or a probe, knows.
    Resolve {
        /// The fence of the record that was looked at.
        expect: Fence,
        /// What is known.
        how: Resolution,
        /// How long it is kept.
        retention: Retention,
    },
    /// An operator removes the record, whatever it says, unless somebody is at work on it.
    Purge {
        /// The fence of the record that was looked at; nothing for one that cannot be read.
        expect: Option<Fence>,
    },
    /// The store may have lost what it had (a failover): a live claim is put back.
    Reassert {
        /// Who.
        by: Claimant,
        /// Milliseconds, at most [`LEASE_MAX`].
        lease: u64,
        /// When it was first claimed.
        first_seen: Millis,
        /// The how-manieth claim it was.
        attempts: u32,
        /// How long the record is kept.
        retention: Retention,
    },
}

/// What became of an operation whose outcome was unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// It was executed, and its status would have been this.
    Executed {
        /// The HTTP status.
        status: u16,
    },
    /// It was not.
    NotExecuted,
}

/// The answer to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Done.
    Done,
    /// It had been done before: the same change, sent again.
    Already,
    /// The store had lost the record; it has it again.
    Reasserted,
    /// Not done: the record has another claimant, or is not in a state for it.
    Fenced {
        /// The record's fence; nothing when there is none.
        current: Option<Fence>,
    },
}

/// A change of a record that was claimed; refused when somebody else has it.
#[must_use]
pub fn settle(entry: &Entry, settle: &Settle, around: &Around) -> (Change, Settled) {
    let there = match present(entry, around) {
        Ok(there) => there,
        Err(()) if matches!(settle, Settle::Purge { expect: None }) => {
            return (Change::Remove, Settled::Done);
        }
        Err(()) => return (Change::Keep, Settled::Fenced { current: None }),
    };
    match settle {
        Settle::Resolve { expect, how, retention } => {
            resolve(there, *expect, *how, retention, around)
        }
        Settle::Purge { expect } => purge(there, *expect),
        Settle::Renew { by, .. }
        | Settle::Complete { by, .. }
        | Settle::Release { by }
        | Settle::Doubt { by, .. }
        | Settle::Retryable { by, .. }
        | Settle::Reassert { by, .. } => match there {
            None => settle_lost(*by, settle, around),
            Some((record, _)) if !is_held_by(record, by) => contest(record, by, settle),
            Some((record, state)) => settle_held(record, state, settle, around),
        },
    }
}

fn is_held_by(record: &Record, by: &Claimant) -> bool {
    let held = &record.claimant;
    held.nonce == by.nonce && held.fence == by.fence && held.fingerprint == by.fingerprint
}

const fn fenced(record: &Record) -> (Change, Settled) {
    (Change::Keep, Settled::Fenced { current: Some(record.claimant.fence) })
}

/// The record is another claimant's. One that asserts its claim again has found that the store
/// forgot it in between: both may have been executed, and the record says so.
fn contest(record: &Record, by: &Claimant, settle: &Settle) -> (Change, Settled) {
    let (_, answer) = fenced(record);
    let newer = record.claimant.fence > by.fence;
    if matches!(settle, Settle::Reassert { .. }) && newer && !record.contested {
        let mut record = record.clone();
        record.contested = true;
        return (Change::Put(Box::new(record)), answer);
    }
    (Change::Keep, answer)
}

/// The store has nothing under the name.
fn settle_lost(by: Claimant, settle: &Settle, around: &Around) -> (Change, Settled) {
    let put = |record| (Change::Put(Box::new(record)), Settled::Reasserted);
    let now = around.now;
    match settle {
        Settle::Release { .. } => (Change::Keep, Settled::Already),
        Settle::Complete { answer, retention, .. } => {
            put(completed(at_work(by, 0, retention, now), answer, retention, now))
        }
        Settle::Doubt { doubt, observed_status, retention, .. } => {
            put(doubted(at_work(by, 0, retention, now), *doubt, *observed_status, retention, now))
        }
        Settle::Reassert { lease, first_seen, attempts, retention, .. } => {
            let mut record = at_work(by, *lease, retention, now);
            record.first_seen = *first_seen;
            record.attempts = *attempts;
            put(record)
        }
        // A stray heartbeat must not bring back what was released; and without its record a retry
        // is a new claim anyhow.
        _ => (Change::Keep, Settled::Fenced { current: None }),
    }
}

fn settle_held(
    record: &Record,
    state: State,
    settle: &Settle,
    around: &Around,
) -> (Change, Settled) {
    let now = around.now;
    let put = |record| (Change::Put(Box::new(record)), Settled::Done);
    let already = (Change::Keep, Settled::Already);
    let working = record.state == State::InFlight;
    match settle {
        Settle::Renew { lease, .. } | Settle::Reassert { lease, .. }
            if state == State::InFlight =>
        {
            let mut record = record.clone();
            let until = now.saturating_add((*lease).min(LEASE_MAX));
            let kept = record.keep_until.saturating_sub(record.lease_until);
            record.lease_until = record.lease_until.max(until);
            record.keep_until = record.lease_until.saturating_add(kept);
            put(record)
        }
        Settle::Complete { answer, retention, .. } => match state {
            State::InFlight | State::Unknown => {
                put(completed(record.clone(), answer, retention, now))
            }
            State::Completed | State::Tombstone => already,
            State::Retryable => fenced(record),
        },
        // Its owner has the proof also when its lease has just run out.
        Settle::Release { .. } if working => (Change::Remove, Settled::Done),
        Settle::Doubt { doubt, observed_status, retention, .. } if working => {
            put(doubted(record.clone(), *doubt, *observed_status, retention, now))
        }
        Settle::Doubt { .. } if record.state == State::Unknown => already,
        Settle::Retryable { retention, .. } if working => {
            let mut record = record.clone();
            record.state = State::Retryable;
            record.lease_until = now;
            record.keep_until = now.saturating_add(retention.unknown);
            put(record)
        }
        Settle::Retryable { .. } if state == State::Retryable => already,
        _ => fenced(record),
    }
}

fn completed(mut record: Record, answer: &Stored, retention: &Retention, now: Millis) -> Record {
    record.state = State::Completed;
    record.completed = now;
    record.lease_until = now;
    record.body_until = now.saturating_add(retention.body);
    record.keep_until = now.saturating_add(retention.key.max(retention.body));
    record.doubt = None;
    record.observed_status = None;
    record.answer = Some(answer.clone());
    record
}

fn doubted(
    mut record: Record,
    doubt: Doubt,
    observed_status: Option<u16>,
    retention: &Retention,
    now: Millis,
) -> Record {
    record.state = State::Unknown;
    record.doubt = Some(doubt);
    record.observed_status = observed_status;
    record.lease_until = record.lease_until.min(now);
    record.keep_until = now.saturating_add(retention.unknown);
    record
}

fn resolve(
    there: There<'_>,
    expect: Fence,
    how: Resolution,
    retention: &Retention,
    around: &Around,
) -> (Change, Settled) {
    match (there, how) {
        (None, Resolution::NotExecuted) => (Change::Keep, Settled::Already),
        (None, Resolution::Executed { .. }) => (Change::Keep, Settled::Fenced { current: None }),
        (Some((record, _)), _) if record.claimant.fence != expect => fenced(record),
        (Some((record, State::Unknown)), Resolution::Executed { status }) => {
            let record = completed(record.clone(), &Stored::bare(status), retention, around.now);
            (Change::Put(Box::new(record)), Settled::Done)
        }
        (Some((_, State::Unknown)), Resolution::NotExecuted) => (Change::Remove, Settled::Done),
        (
            Some((record, state @ (State::Completed | State::Tombstone))),
            Resolution::Executed { status },
        ) => match &record.answer {
            Some(answer) if *answer == Stored::bare(status) => (Change::Keep, Settled::Already),
            // All that counts of an answer that is not kept any more is its status.
            Some(answer) if state == State::Tombstone && answer.status == status => {
                (Change::Keep, Settled::Already)
            }
            _ => fenced(record),
        },
        (Some((record, _)), _) => fenced(record),
    }
}

fn purge(there: There<'_>, expect: Option<Fence>) -> (Change, Settled) {
    match there {
        None => (Change::Keep, Settled::Already),
        Some((record, state)) => {
            if state == State::InFlight || expect != Some(record.claimant.fence) {
                return fenced(record);
            }
            (Change::Remove, Settled::Done)
        }
    }
}
