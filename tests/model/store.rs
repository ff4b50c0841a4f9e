//! One record under the machine, small enough to be a part of a state.

use outrigger::policy::idempotency::machine::{
    Around, Change, Claim, Claimed, Room, Settle, Settled, Stands, claim, settle, stands,
};
use outrigger::policy::idempotency::record::{
    Claimant, Entry, Fence, Fingerprint, Millis, NEVER, Nonce, Owner, Principal, Record, State,
    Stored,
};

use crate::world::NOW;

/// What becomes of a record by a question, and the answer to it.
pub(crate) type Rule<Asked, Answer> = fn(&Entry, &Asked, &Around) -> (Change, Answer);

/// The rules under which a store changes its record; those of the project, or broken ones.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) claim: Rule<Claim, Claimed>,
    pub(crate) settle: Rule<Settle, Settled>,
}

/// The rules as the proxy has them.
pub(crate) const RULES: Rules = Rules { claim, settle };

/// A time of the model.
pub(crate) type Tick = u8;
/// A tick that never comes.
pub(crate) const NO_TICK: Tick = Tick::MAX;

/// What of a record can differ in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kept {
    pub(crate) state: State,
    pub(crate) nonce: u8,
    pub(crate) fence: u8,
    pub(crate) lease_until: Tick,
    pub(crate) body_until: Tick,
    pub(crate) keep_until: Tick,
    /// The status of the answer; 0 for none.
    pub(crate) status: u16,
    pub(crate) contested: bool,
}

const fn millis(tick: Tick) -> Millis {
    if tick == NO_TICK { NEVER } else { tick as Millis }
}

fn tick(millis: Millis) -> Tick {
    Tick::try_from(millis).unwrap_or(NO_TICK)
}

/// A claimant; everyone asks for the same.
pub(crate) const fn claimant(nonce: u8, fence: u8) -> Claimant {
    Claimant {
        fingerprint: Fingerprint { version: 1, digest: [1; 32] },
        owner: Owner { instance: [0; 16], epoch: 0 },
        nonce: Nonce([nonce; 16]),
        fence: Fence(fence as u64),
        principal: Principal([0; 8]),
    }
}

pub(crate) fn entry(kept: Option<Kept>) -> Entry {
    let Some(kept) = kept else { return Entry::Absent };
    Entry::Record(Box::new(Record {
        state: kept.state,
        claimant: claimant(kept.nonce, kept.fence),
        lease_until: millis(kept.lease_until),
        first_seen: 0,
        completed: 0,
        attempts: 1,
        observed_status: None,
        doubt: None,
        body_until: millis(kept.body_until),
        keep_until: millis(kept.keep_until),
        contested: kept.contested,
        answer: (kept.status != 0).then(|| Stored::bare(kept.status)),
    }))
}

fn kept(record: &Record) -> Kept {
    let [nonce, ..] = record.claimant.nonce.0;
    Kept {
        state: record.state,
        nonce,
        fence: u8::try_from(record.claimant.fence.0).expect("few claims"),
        lease_until: tick(record.lease_until),
        body_until: tick(record.body_until),
        keep_until: tick(record.keep_until),
        status: record.answer.as_ref().map_or(0, |answer| answer.status),
        contested: record.contested,
    }
}

pub(crate) fn applied(before: Option<Kept>, change: &Change) -> Option<Kept> {
    match change {
        Change::Keep => before,
        Change::Put(record) => Some(kept(record)),
        Change::Remove => None,
    }
}

pub(crate) const fn around(fences: u8) -> Around {
    Around { now: millis(NOW), next_fence: Fence(fences as u64 + 1), epoch: None, room: Room::Free }
}

/// Where the record stands; nothing when there is none, or it is over.
pub(crate) fn standing(of: Option<Kept>) -> Option<State> {
    let Entry::Record(record) = entry(of) else { return None };
    match stands(&record, millis(NOW), None) {
        Stands::In(state) => Some(state),
        Stands::Over(_) => None,
    }
}

/// Whether there is a record and its time is over.
pub(crate) fn is_over(of: Option<Kept>) -> bool {
    of.is_some() && standing(of).is_none()
}
