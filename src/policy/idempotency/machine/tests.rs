use super::*;

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

fn applied(entry: &Entry, change: Change) -> Entry {
    match change {
        Change::Keep => entry.clone(),
        Change::Put(record) => Entry::Record(record),
        Change::Remove => Entry::Absent,
    }
}

#[test]
fn t1_claims_what_is_absent() {
    let (entry, answer) = claimed(&Entry::Absent, &asked(1, 1), 50);
    assert_eq!(answer, Claimed::Acquired { fence: Fence(50), attempt: 1, first_seen: 50 });
    let Entry::Record(record) = entry else { panic!("written") };
    assert_eq!((record.state, record.lease_until), (State::InFlight, 150));
}

#[test]
fn the_same_claim_sent_again_is_the_same_claim() {
    let (entry, first) = claimed(&Entry::Absent, &asked(1, 1), 50);
    let (again, second) = claimed(&entry, &asked(1, 1), 60);
    assert_eq!((&entry, first), (&again, second));
    let (_, other) = claimed(&entry, &asked(1, 2), 60);
    assert_eq!(other, Claimed::Found(Found::InFlight { remaining: 90, first_seen: 50 }));
}

#[test]
fn another_request_is_never_told_that_it_is_in_progress() {
    let (entry, _) = claimed(&Entry::Absent, &asked(1, 1), 50);
    let (_, other) = claimed(&entry, &asked(2, 2), 60);
    let mismatch = Found::Mismatch { state: State::InFlight, first_seen: 50 };
    assert_eq!(other, Claimed::Found(mismatch));
}

#[test]
fn t6_a_lease_that_ends_leaves_a_doubt_and_nobody_takes_it() {
    let (entry, _) = claimed(&Entry::Absent, &asked(1, 1), 50);
    let (same, answer) = claimed(&entry, &asked(1, 2), 150);
    assert_eq!(same, entry);
    assert!(matches!(
        answer,
        Claimed::Found(Found::Unknown { doubt: Doubt::OwnerLost, first_seen: 50, .. })
    ));
}

#[test]
fn t9_takes_over_only_after_the_grace() {
    let unknowns = Unknowns::Redispatch { grace: 20 };
    let (entry, _) = claimed(&Entry::Absent, &asked(1, 1), 50);
    let next = Claim { unknowns, ..asked(1, 2) };
    assert!(matches!(claimed(&entry, &next, 169).1, Claimed::Found(Found::Unknown { .. })));
    let (_, answer) = claimed(&entry, &next, 170);
    assert_eq!(answer, Claimed::Acquired { fence: Fence(170), attempt: 2, first_seen: 50 });
}
