use super::*;
use crate::policy::idempotency::machine::Unknowns;
use crate::policy::idempotency::record::{Claimant, Doubt, Nonce, Owner, Principal, Retention};
use crate::units::ByteSize;

const HOUR: u64 = 3_600_000;
const RETENTION: Retention = Retention { body: HOUR, key: 2 * HOUR, unknown: 3 * HOUR };

fn store(max_entries: u32, max_bytes: u64) -> Memory {
    let settings = Settings { max_entries, max_bytes: ByteSize::bytes(max_bytes) };
    Memory::open(&settings, [0; 32]).unwrap()
}

fn rid(n: u64) -> Rid {
    Rid(crate::records::codec::digest_of(0, &[&n.to_be_bytes()]))
}

/// A claim by a principal of its own, unless another is given.
fn asked(n: u64) -> Claim {
    Claim {
        fingerprint: Fingerprint { version: 1, digest: [1; 32] },
        owner: Owner { instance: [1; 16], epoch: 0 },
        nonce: Nonce([1; 16]),
        principal: Principal(n.to_be_bytes()),
        lease: 60_000,
        retention: RETENTION,
        unknowns: Unknowns::Hold,
        too_old: false,
    }
}

fn claimed(store: &Memory, n: u64, claim: &Claim) -> Claimant {
    let Claimed::Acquired { fence, .. } = store.claim_now(rid(n), claim) else {
        panic!("{n} is refused")
    };
    let Claim { fingerprint, owner, nonce, principal, .. } = *claim;
    Claimant { fingerprint, owner, nonce, fence, principal }
}

fn complete(store: &Memory, n: u64, retention: Retention) {
    let by = claimed(store, n, &asked(n));
    let answer = Stored { body: Some(vec![0; 1_000].into()), ..Stored::bare(200) };
    let done = store.settle_now(rid(n), &Settle::Complete { by, answer, retention });
    assert_eq!(done, Settled::Done);
}

fn peek(store: &Memory, n: u64) -> Option<Found> {
    store
        .with(&rid(n), |shard| {
            machine::peek(shard.entry(&rid(n)), &asked(n).fingerprint, &store.around())
        })
        .flatten()
}

#[test]
fn one_principal_cannot_fill_it() {
    let store = store(100, 1 << 20);
    let one = Claim { principal: Principal([9; 8]), ..asked(0) };
    for n in 0..10 {
        claimed(&store, n, &one);
    }
    assert_eq!(store.claim_now(rid(10), &one), Claimed::Quota);
    claimed(&store, 11, &asked(11));
    // Its own records are found as ever.
    assert!(matches!(store.claim_now(rid(3), &one), Claimed::Acquired { .. }));
    let other = Claim { nonce: Nonce([2; 16]), ..one };
    assert!(matches!(store.claim_now(rid(3), &other), Claimed::Found(Found::InFlight { .. })));
}

#[tokio::test(start_paused = true)]
async fn bodies_are_shed_before_anybody_is_refused() {
    // Room for 40 answers of 1,000 bytes, or for about 120 records without.
    let store = store(1_000, 40 * (OVERHEAD + 1_000));
    for n in 0..60 {
        complete(&store, n, RETENTION);
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
    }
    let health = store.health();
    assert!(health.bodies_shed >= 20, "{health:?}");
    assert!(health.bytes <= 40 * (OVERHEAD + 1_000));
    assert!(matches!(peek(&store, 0), Some(Found::Gone { status: 200, .. })));
    assert!(matches!(peek(&store, 59), Some(Found::Completed { .. })));
    let gone = (0..60).filter(|n| matches!(peek(&store, *n), Some(Found::Gone { .. }))).count();
    assert_eq!(u64::try_from(gone).unwrap(), health.bodies_shed);
    assert_eq!(health.entries.iter().sum::<u64>(), 60);
}

#[test]
fn nothing_that_counts_is_dropped_for_room() {
    let store = store(40, 1 << 20);
    for n in 0..40 {
        let by = claimed(&store, n, &asked(n));
        let (retention, observed_status) = (RETENTION, None);
        match n % 4 {
            0 => {}
            1 => {
                let answer = Stored::bare(200);
                store.settle_now(rid(n), &Settle::Complete { by, answer, retention });
            }
            2 => {
                let doubt = Doubt::Timeout;
                store.settle_now(rid(n), &Settle::Doubt { by, doubt, observed_status, retention });
            }
            _ => drop(store.settle_now(rid(n), &Settle::Retryable { by, retention })),
        }
    }
    assert_eq!(store.claim_now(rid(99), &asked(99)), Claimed::Full);
    assert_eq!(store.health().entries, [10, 10, 10, 10, 0]);
    // What is there can still be claimed again, completed and released.
    claimed(&store, 3, &asked(3));
    let by = claimed(&store, 0, &asked(0));
    assert_eq!(store.settle_now(rid(0), &Settle::Release { by }), Settled::Done);
    claimed(&store, 99, &asked(99));
}

#[test]
fn a_result_is_kept_when_there_is_no_room_for_its_body() {
    let store = store(1_000, 10 * OVERHEAD);
    let mut held = Vec::new();
    for n in 0..10 {
        held.push(claimed(&store, n, &asked(n)));
    }
    let answer = Stored { body: Some(vec![0; 1_000].into()), ..Stored::bare(201) };
    let (by, retention) = (held[4], RETENTION);
    let done = store.settle_now(rid(4), &Settle::Complete { by, answer, retention });
    assert_eq!(done, Settled::Done);
    assert!(matches!(peek(&store, 4), Some(Found::Gone { status: 201, .. })));
    assert_eq!(store.health().bodies_shed, 1);
}

#[test]
fn what_is_over_makes_room_at_once() {
    let store = store(1_000, 1 << 20);
    let over = Retention { body: 0, key: 0, unknown: 0 };
    for n in 0..500 {
        complete(&store, n, over);
    }
    let health = store.health();
    let kept = health.entries.iter().sum::<u64>();
    assert_eq!(kept + health.tombstones_purged, 500);
    assert_eq!(peek(&store, 7), None);
    for _ in 0..3 {
        store.relieve(&Wants::Entry);
    }
    let health = store.health();
    assert_eq!((health.entries, health.bytes, health.tombstones_purged), ([0; 5], 0, 500));
    assert!(store.shards.iter().all(|shard| shard.lock().appointments.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn a_body_is_dropped_before_its_record_and_both_are_counted() {
    let store = store(1_000, 1 << 20);
    complete(&store, 1, Retention { body: 1_000, key: 5_000, unknown: 9_000 });
    let by = claimed(&store, 2, &asked(2));
    let retention = Retention { unknown: 2_000, ..RETENTION };
    let doubt = Settle::Doubt { by, doubt: Doubt::Timeout, observed_status: None, retention };
    store.settle_now(rid(2), &doubt);
    let full = store.health().bytes;
    tokio::time::advance(std::time::Duration::from_millis(1_000)).await;
    let health = store.health();
    assert_eq!((health.bytes, health.entries), (full - 1_000, [0, 0, 0, 1, 1]));
    tokio::time::advance(std::time::Duration::from_millis(1_000)).await;
    assert_eq!(store.health().unknown_expired, 1);
    tokio::time::advance(std::time::Duration::from_millis(3_000)).await;
    let health = store.health();
    assert_eq!((health.bytes, health.tombstones_purged), (0, 1));
    assert_eq!(health.bodies_shed, 0, "its time was over");
}
