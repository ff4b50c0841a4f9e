//! Laws 1 to 4: who may hold a record.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use outrigger::policy::idempotency::machine::Resolution;
use tokio::task::JoinSet;

use super::*;

const CLAIMANTS: u64 = 16;

/// Makes a change of a claimant's.
type Making = fn(Claimant, Retention) -> Settle;

/// Of many claims at the same time exactly one is granted, and the others learn of it.
pub(crate) async fn l1_one_of_many_claims_wins(fixture: &impl Fixture) {
    let scene = fixture.scene().await;
    for round in 0..24 {
        let mut tasks = JoinSet::new();
        for turn in 0..CLAIMANTS {
            let store = scene.handle(usize::try_from(turn).unwrap());
            let asked = claim(round * CLAIMANTS + turn);
            tasks.spawn(async move { try_claim(&*store, rid(round), asked).await });
        }
        let (mut won, mut told) = (0, 0);
        while let Some(answer) = tasks.join_next().await {
            match answer.unwrap() {
                Claimed::Acquired { attempt: 1, .. } => won += 1,
                Claimed::Found(Found::InFlight { remaining, .. }) => {
                    assert!((1..=LONG_LEASE).contains(&remaining));
                    told += 1;
                }
                other => panic!("one of many claims: {other:?}"),
            }
        }
        assert_eq!((won, told), (1, CLAIMANTS - 1), "round {round}");
    }
}

/// Many claim, hold and release the same record again and again: there is never more than one
/// holder, and their fences rise in the order in which they hold it.
pub(crate) async fn l1_holders_never_overlap(fixture: &impl Fixture) {
    let scene = fixture.scene().await;
    let held: Arc<[AtomicBool; 2]> = Arc::default();
    let last: Arc<[AtomicU64; 2]> = Arc::default();
    let mut tasks = JoinSet::new();
    for turn in 0..8_u64 {
        let store = scene.handle(usize::try_from(turn).unwrap());
        let (held, last) = (Arc::clone(&held), Arc::clone(&last));
        tasks.spawn(async move {
            let mut granted = 0;
            for round in 0..40 {
                let which = usize::try_from((turn + round) % 2).unwrap();
                let name = rid(1_000 + (turn + round) % 2);
                let asked = claim(turn * 1_000 + round);
                let Claimed::Acquired { fence, .. } = try_claim(&*store, name, asked).await else {
                    continue;
                };
                assert!(!held[which].swap(true, Ordering::SeqCst), "two holders");
                let before = last[which].swap(fence.0, Ordering::SeqCst);
                assert!(before < fence.0, "fence {} after {before}", fence.0);
                tokio::task::yield_now().await;
                held[which].store(false, Ordering::SeqCst);
                let by = claimant(&*store, &asked, fence);
                assert_eq!(settle(&*store, name, Settle::Release { by }).await, Settled::Done);
                granted += 1;
            }
            granted
        });
    }
    let granted: u64 = tasks.join_all().await.into_iter().sum();
    assert!(granted > 1, "holders took turns");
}

/// The same claim sent several times, also at the same time, is one claim.
pub(crate) async fn l2_a_claim_can_be_sent_again(fixture: &impl Fixture) {
    let scene = fixture.scene().await;
    let mut tasks = JoinSet::new();
    for turn in 0..CLAIMANTS {
        let store = scene.handle(usize::try_from(turn).unwrap());
        tasks.spawn(async move { try_claim(&*store, rid(1), claim(9)).await });
    }
    let mut fences = BTreeMap::new();
    while let Some(answer) = tasks.join_next().await {
        let Claimed::Acquired { fence, attempt: 1, first_seen } = answer.unwrap() else {
            panic!("the same claim was refused");
        };
        *fences.entry((fence, first_seen)).or_insert(0) += 1;
    }
    assert_eq!(fences.into_values().collect::<Vec<_>>(), [CLAIMANTS]);
}

/// Every change sent again changes nothing more, and says that it is done.
pub(crate) async fn l2_a_change_can_be_sent_again(fixture: &impl Fixture) {
    let scene = fixture.scene().await;
    let store = &*scene.store;
    let retention = LONG;
    let changes: [Making; 4] = [
        |by, _| complete(by, b"once"),
        |by, _| doubt(by),
        |by, _| Settle::Release { by },
        |by, retention| Settle::Retryable { by, retention },
    ];
    for (n, change) in (10..).zip(changes) {
        let by = acquire(store, rid(n), claim(n)).await;
        assert_eq!(settle(store, rid(n), change(by, retention)).await, Settled::Done);
        let after = read(store, rid(n)).await.entry;
        let second = scene.handle(1);
        let again = settle(&*second, rid(n), change(by, retention)).await;
        assert_eq!(again, Settled::Already, "{:?}", change(by, retention));
        assert_eq!(read(store, rid(n)).await.entry, after);
    }
    let by = acquire(store, rid(20), claim(20)).await;
    for _ in 0..2 {
        let renew = Settle::Renew { by, lease: LONG_LEASE };
        assert_eq!(settle(store, rid(20), renew).await, Settled::Done);
    }
    settle(store, rid(20), doubt(by)).await;
    let how = Resolution::Executed { status: 200 };
    let resolve = Settle::Resolve { expect: by.fence, how, retention };
    assert_eq!(settle(store, rid(20), resolve.clone()).await, Settled::Done);
    assert_eq!(settle(store, rid(20), resolve).await, Settled::Already);
    let purge = Settle::Purge { expect: Some(by.fence) };
    assert_eq!(settle(store, rid(20), purge.clone()).await, Settled::Done);
    assert_eq!(settle(store, rid(20), purge).await, Settled::Already);
}

/// Every change by a claimant of whom anything is wrong is refused, and changes nothing.
pub(crate) async fn l3_a_wrong_claimant_changes_nothing(fixture: &impl Fixture) {
    let scene = fixture.scene().await;
    let store = &*scene.store;
    let by = acquire(store, rid(1), claim(1)).await;
    let before = read(store, rid(1)).await.entry;
    let wrong = [
        Claimant { fence: Fence(by.fence.0 - 1), ..by },
        Claimant { fence: Fence(by.fence.0 + 1), ..by },
        Claimant { nonce: nonce(2), ..by },
        Claimant { fingerprint: fingerprint(2), ..by },
    ];
    let fenced = Settled::Fenced { current: Some(by.fence) };
    for by in wrong {
        for change in [
            Settle::Renew { by, lease: LONG_LEASE },
            complete(by, b"of another"),
            Settle::Release { by },
            doubt(by),
            Settle::Retryable { by, retention: LONG },
        ] {
            assert_eq!(settle(store, rid(1), change.clone()).await, fenced, "{change:?}");
            assert_eq!(read(store, rid(1)).await.entry, before, "{change:?}");
        }
    }
    let expect = Fence(by.fence.0 + 1);
    for how in [Resolution::Executed { status: 200 }, Resolution::NotExecuted] {
        let resolve = Settle::Resolve { expect, how, retention: LONG };
        assert_eq!(settle(store, rid(1), resolve).await, fenced);
    }
    for expect in [None, Some(expect), Some(by.fence)] {
        assert_eq!(settle(store, rid(1), Settle::Purge { expect }).await, fenced);
    }
    assert_eq!(read(store, rid(1)).await.entry, before);
    assert_eq!(settle(store, rid(1), complete(by, b"right")).await, Settled::Done);
}

/// Fences rise over every way in which a record can end, and over the end of the store's user.
pub(crate) async fn l4_fences_rise_for_ever(fixture: &impl Fixture) {
    let mut scene = fixture.scene().await;
    let mut last = Fence(0);
    for round in 0..8_u64 {
        let store = &*scene.handle(usize::try_from(round).unwrap());
        let short = steps(fixture, 2);
        let over = Retention { body: short, key: short, unknown: short };
        let asked = Claim { retention: over, lease: steps(fixture, 20), ..claim(round) };
        let by = acquire_in_time(fixture, store, rid(1), asked).await;
        assert!(by.fence > last, "{:?} after {last:?}", by.fence);
        last = by.fence;
        match round % 4 {
            0 => drop(settle(store, rid(1), Settle::Release { by }).await),
            1 => {
                settle(store, rid(1), doubt(by)).await;
                let purge = Settle::Purge { expect: Some(by.fence) };
                assert_eq!(settle(store, rid(1), purge).await, Settled::Done);
            }
            2 => {
                let complete = Settle::Complete { by, answer: answer(b"1"), retention: over };
                settle(store, rid(1), complete).await;
                until(store, time(store).await + 2 * short).await;
            }
            // Its owner is lost, and then the doubt is over.
            _ => until(store, time(store).await + steps(fixture, 20) + 2 * short).await,
        }
    }
    let by = acquire(&*scene.store, rid(2), claim(100)).await;
    settle(&*scene.store, rid(2), Settle::Release { by }).await;
    let last = last.max(by.fence);
    let Some(reopened) = fixture.reopened(scene).await else { return };
    scene = reopened;
    for n in [1, 2] {
        let by = acquire_in_time(fixture, &*scene.store, rid(n), claim(200 + n)).await;
        assert!(by.fence > last);
    }
}
