use super::*;

mod properties;
mod refusals;
mod transitions;

const RETENTION: Retention = Retention { body: 1_000, key: 3_000, unknown: 9_000 };

fn around(now: Millis) -> Around {
    Around { now, next_fence: Fence(now), epoch: None, room: Room::Free }
}

fn asked(digest: u8, nonce: u8) -> Claim {
    Claim {
        fingerprint: Fingerprint { version: 1, digest: [digest; 32] },
        owner: Owner { instance: [1; 16], epoch: 0 },
        nonce: Nonce([nonce; 16]),
        principal: Principal([0; 8]),
        lease: 100,
        retention: RETENTION,
        unknowns: Unknowns::Hold,
        too_old: false,
    }
}

/// Claims, and gives the entry as it is written.
fn claimed(entry: &Entry, asked: &Claim, now: Millis) -> (Entry, Claimed) {
    let (change, answer) = claim(entry, asked, &around(now));
    (applied(entry, change), answer)
}

/// Settles, and gives the entry as it is written.
fn settled(entry: &Entry, asked: &Settle, now: Millis) -> (Entry, Settled) {
    let (change, answer) = settle(entry, asked, &around(now));
    (applied(entry, change), answer)
}

fn applied(entry: &Entry, change: Change) -> Entry {
    match change {
        Change::Keep => entry.clone(),
        Change::Put(record) => Entry::Record(record),
        Change::Remove => Entry::Absent,
    }
}

/// A claim at 50, whose lease ends at 150, and who has it.
fn in_flight() -> (Entry, Claimant) {
    let (entry, answer) = claimed(&Entry::Absent, &asked(1, 1), 50);
    assert!(matches!(answer, Claimed::Acquired { .. }));
    let by = record(&entry).claimant;
    (entry, by)
}

#[track_caller]
fn record(entry: &Entry) -> &Record {
    let Entry::Record(record) = entry else { panic!("a record, not {entry:?}") };
    record
}

/// Where the entry stands; nothing when it is absent or over.
fn state_of(entry: &Entry, now: Millis) -> Option<State> {
    match entry {
        Entry::Absent => None,
        Entry::Unreadable => Some(State::Unknown),
        Entry::Record(record) => match stands(record, now, None) {
            Stands::In(state) => Some(state),
            Stands::Over(_) => None,
        },
    }
}

fn answer(status: u16) -> Stored {
    let name = |name: &str| name.as_bytes().into();
    Stored {
        status,
        indeterminate: false,
        headers: vec![(name("location"), name("/orders/7"))],
        body: Some(b"made".as_slice().into()),
        trailers: Vec::new(),
    }
}

fn complete(by: Claimant) -> Settle {
    Settle::Complete { by, answer: answer(201), retention: RETENTION }
}

fn doubt(by: Claimant) -> Settle {
    let doubt = Doubt::AnswerCut;
    Settle::Doubt { by, doubt, observed_status: Some(200), retention: RETENTION }
}

fn resolve(expect: Fence, how: Resolution) -> Settle {
    Settle::Resolve { expect, how, retention: RETENTION }
}
