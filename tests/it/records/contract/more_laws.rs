//! Laws 5 to 7, and what operators and waiters see.

use outrigger::policy::idempotency::machine::{LEASE_MAX, Resolution};
use outrigger::policy::idempotency::record::{Entry, State};
use outrigger::records::{Durability, Fault, Wanted};

use super::*;

/// Leases and dates are by the store's clock, which never goes back, whichever handle asks.
pub(crate) async fn l5_time_is_the_stores(fixture: &impl Fixture) {
    let scene = fixture.scene().await;
    let store = &*scene.store;
    let before = time(store).await;
    let by = acquire(store, rid(1), Claim { lease: steps(fixture, 50), ..claim(1) }).await;
    let after = time(&*scene.handle(1)).await;
    let seen = read(store, rid(1)).await;
    let Entry::Record(record) = seen.entry else { panic!("{seen:?}") };
    assert!((before..=after).contains(&record.first_seen), "{before} {record:?} {after}");
    let lease = record.lease_until - record.first_seen;
    assert_eq!(lease, steps(fixture, 50));
    let mut last = seen.now;
    loop {
        let seen = read(&*scene.handle(usize::try_from(last % 2).unwrap()), rid(1)).await;
        assert!(seen.now >= last, "{} after {last}", seen.now);
        last = seen.now;
        let until = record.lease_until;
        match seen.state {
            Some(State::InFlight) => assert!(last < until + slack(fixture), "{last} of {until}"),
            Some(State::Unknown) => assert!(last >= until, "{last} of {until}"),
            other => panic!("{other:?} at {last} of {until}"),
        }
        if seen.state == Some(State::Unknown) {
            break;
        }
        clock::sleep(Duration::from_millis(1)).await;
    }
    let unknown = Found::Unknown {
        doubt: Doubt::OwnerLost,
        observed_status: None,
        first_seen: record.first_seen,
    };
    assert_eq!(try_claim(store, rid(1), claim(2)).await, Claimed::Found(unknown));
    // T10: the result of the late owner is still the result.
    assert_eq!(settle(store, rid(1), complete(by, b"late")).await, Settled::Done);
    let (low, found, high) = (last, peek(store, rid(1)).await, time(store).await);
    let Some(Found::Completed { completed, age, .. }) = found else { panic!("{found:?}") };
    assert!((low..=high).contains(&completed) && completed + age <= high);
    let by = acquire(store, rid(3), Claim { lease: 10 * LEASE_MAX, ..claim(3) }).await;
    let Entry::Record(record) = read(store, rid(3)).await.entry else { panic!("{by:?}") };
    assert_eq!(record.lease_until - record.first_seen, LEASE_MAX);
}

/// A record whose bytes are damaged is unknown: nobody may execute it again.
pub(crate) async fn l6_damage_is_never_absence(fixture: &impl Fixture) {
    let scene = fixture.scene().await;
    let by = acquire(&*scene.store, rid(1), claim(1)).await;
    settle(&*scene.store, rid(1), complete(by, b"was here")).await;
    let Some(scene) = fixture.damaged(scene, rid(1)).await else { return };
    let store = &*scene.store;
    let doubt = Doubt::Unreadable;
    let unknown = Found::Unknown { doubt, observed_status: None, first_seen: 0 };
    assert_eq!(peek(store, rid(1)).await, Some(unknown.clone()));
    let redispatch = Claim { unknowns: Unknowns::Redispatch { grace: 0 }, ..claim(2) };
    for asked in [claim(1), claim(2), redispatch] {
        assert_eq!(try_claim(store, rid(1), asked).await, Claimed::Found(unknown.clone()));
    }
    let fenced = Settled::Fenced { current: None };
    for change in [complete(by, b"again"), Settle::Release { by }] {
        assert_eq!(settle(store, rid(1), change).await, fenced);
    }
    let seen = read(store, rid(1)).await;
    assert_eq!((seen.entry, seen.state), (Entry::Unreadable, Some(State::Unknown)));
    let wanted = Wanted { states: vec![State::Unknown], after: None, limit: 10 };
    let page = store.list(wanted, deadline()).await.unwrap();
    assert_eq!(page.records.iter().map(|(rid, _)| *rid).collect::<Vec<_>>(), [rid(1)]);
    let purge = Settle::Purge { expect: None };
    assert_eq!(settle(store, rid(1), purge).await, Settled::Done);
    // Its fence cannot be read any more, and yet the next one is larger.
    assert!(acquire(store, rid(1), claim(3)).await.fence > by.fence);
}

/// What was answered is there when the store is opened again, as far as it promises that.
pub(crate) async fn l7_done_is_durable(fixture: &impl Fixture) {
    let scene = fixture.scene().await;
    let store = &*scene.store;
    let durable = store.guarantee().durability > Durability::None;
    let birth = store.birth(deadline()).await.unwrap();
    let mut held = Vec::new();
    for n in 0..40 {
        held.push(acquire(store, rid(n), claim(n)).await);
    }
    for (n, by) in (0..20).zip(&held) {
        let body = vec![u8::try_from(n).unwrap(); 1_000];
        assert_eq!(settle(store, rid(n), complete(*by, &body)).await, Settled::Done);
    }
    for (n, by) in (20..30).zip(&held[20..]) {
        assert_eq!(settle(store, rid(n), Settle::Release { by: *by }).await, Settled::Done);
    }
    let Some(scene) = fixture.reopened(scene).await else {
        assert!(!durable, "a store that promises more has to come back");
        return;
    };
    let store = &*scene.store;
    for n in 0..40 {
        let found = peek(store, rid(n)).await;
        match (n, found) {
            (0..20, Some(Found::Completed { answer: found, .. })) => {
                assert_eq!(found, answer(&vec![u8::try_from(n).unwrap(); 1_000]));
            }
            (20..30, None) | (30.., Some(Found::InFlight { .. } | Found::Unknown { .. })) => {}
            (n, found) => panic!("{n}: {found:?}"),
        }
    }
    let again = store.birth(deadline()).await.unwrap();
    assert_eq!((birth.at, birth.secret), (again.at, again.secret));
    assert!(again.now >= birth.now);
    // T10: also a result that comes after the owner's end.
    assert_eq!(settle(store, rid(30), complete(held[30], b"late")).await, Settled::Done);
}

/// T12 to T14: bodies, results and doubts have their times.
pub(crate) async fn what_is_over_is_absent(fixture: &impl Fixture) {
    let scene = fixture.scene().await;
    let store = &*scene.store;
    let (body, key) = (steps(fixture, 20), steps(fixture, 60));
    let retention = Retention { body, key, unknown: body };
    let by = acquire(store, rid(1), claim(1)).await;
    let done = Settle::Complete { by, answer: answer(b"x"), retention };
    assert_eq!(settle(store, rid(1), done).await, Settled::Done);
    let Entry::Record(record) = read(store, rid(1)).await.entry else { panic!("{by:?}") };
    assert_eq!(record.body_until, record.completed + body);
    until(store, record.body_until).await;
    let latest = record.body_until + slack(fixture);
    let seen = loop {
        let seen = read(store, rid(1)).await;
        if seen.state != Some(State::Completed) || seen.now > latest {
            break seen;
        }
    };
    let over = seen.state.is_none() && seen.now >= record.keep_until;
    assert!(seen.state == Some(State::Tombstone) || over, "{seen:?}");
    until(store, record.keep_until).await;
    let latest = record.keep_until + slack(fixture);
    let seen = loop {
        let seen = read(store, rid(1)).await;
        if seen.state.is_none() || seen.now > latest {
            break seen;
        }
    };
    assert_eq!((seen.state, seen.entry), (None, Entry::Absent));
    assert_eq!(
        try_claim(store, rid(1), Claim { too_old: true, ..claim(2) }).await,
        Claimed::TooOld
    );
    acquire(store, rid(1), claim(2)).await;

    let by = acquire(store, rid(2), claim(3)).await;
    let doubt =
        Settle::Doubt { by, doubt: Doubt::AnswerCut, observed_status: Some(200), retention };
    assert_eq!(settle(store, rid(2), doubt).await, Settled::Done);
    until(store, time(store).await + body).await;
    acquire_in_time(fixture, store, rid(2), claim(4)).await;
}

/// Pages are in the order of names, whole, and without what is not wanted.
pub(crate) async fn lists_in_pages(fixture: &impl Fixture) {
    let scene = fixture.scene().await;
    let store = &*scene.store;
    let mut unknown = Vec::new();
    for n in 0..24 {
        let by = acquire(store, rid(n), claim(n)).await;
        if n % 3 == 0 {
            settle(store, rid(n), doubt(by)).await;
            unknown.push(rid(n));
        } else if n % 3 == 1 {
            settle(store, rid(n), complete(by, b"x")).await;
        }
    }
    unknown.sort_unstable();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let wanted = Wanted { states: vec![State::Unknown], after, limit: 3 };
        let page = store.list(wanted, deadline()).await.unwrap();
        assert!(page.records.len() <= 3);
        assert!(page.records.iter().all(|(_, seen)| seen.state == Some(State::Unknown)));
        found.extend(page.records.iter().map(|(rid, _)| *rid));
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    assert_eq!(found, unknown);
    let wanted = Wanted { states: State::ALL.to_vec(), after: None, limit: 1_000 };
    let all = store.list(wanted, deadline()).await.unwrap();
    assert_eq!((all.records.len(), all.next), (24, None));
    let how = Resolution::NotExecuted;
    let Entry::Record(record) = read(store, unknown[0]).await.entry else { panic!("listed") };
    let expect = record.claimant.fence;
    let resolve = Settle::Resolve { expect, how, retention: LONG };
    assert_eq!(settle(store, unknown[0], resolve).await, Settled::Done);
    assert_eq!(peek(store, unknown[0]).await, None);
}

/// Who waits for a record is told, through any handle, when it is completed.
pub(crate) async fn hints_come(fixture: &impl Fixture) {
    let scene = fixture.scene().await;
    let by = acquire(&*scene.store, rid(1), claim(1)).await;
    let waits = (0..8).map(|turn| {
        let store = scene.handle(turn);
        tokio::spawn(async move {
            loop {
                // First the ear, then the look: what changes in between is heard.
                let changed = store.changed(rid(1));
                if let Some(Found::Completed { answer, .. }) = peek(&*store, rid(1)).await {
                    return answer;
                }
                within("a hint", changed).await;
            }
        })
    });
    let waits: Vec<_> = waits.collect();
    tokio::task::yield_now().await;
    settle(&*scene.store, rid(1), complete(by, b"told")).await;
    for wait in waits {
        assert_eq!(within("the answer", wait).await.unwrap(), answer(b"told"));
    }
}

/// What a store says it has not done it has not done, also when there was no time for it.
pub(crate) async fn not_applied_is_true(fixture: &impl Fixture) {
    let scene = fixture.scene().await;
    let store = &*scene.store;
    for n in 0..10 {
        let past = clock::now() - Duration::from_millis(n);
        match store.claim(rid(n), claim(n), past).await {
            Err(Fault::NotApplied(_)) => {
                assert_eq!(peek(store, rid(n)).await, None);
                acquire(store, rid(n), claim(100 + n)).await;
            }
            Ok(Claimed::Acquired { .. }) => {
                assert!(matches!(peek(store, rid(n)).await, Some(Found::InFlight { .. })));
            }
            // It may come yet, and it is the same claim.
            Err(Fault::Ambiguous(_)) => drop(acquire(store, rid(n), claim(n)).await),
            Ok(other) => panic!("{other:?}"),
        }
    }
    // A reply that nobody waits for leaves a store that answers, whatever became of it.
    for n in 100..110 {
        drop(store.claim(rid(n), claim(n), deadline()));
        acquire(store, rid(n), claim(n)).await;
    }
}

/// A fence that a claimant put back, since another life of the store gave it, is not given again
/// when its record is gone. For stores whose clock is this process's alone.
pub(crate) async fn l4_a_fence_that_was_put_back_is_not_given_again(store: &dyn Store) {
    let by = acquire(store, rid(1), claim(1)).await;
    settle(store, rid(1), Settle::Release { by }).await;
    // Ahead of this store's time by an hour.
    let by = Claimant { fence: Fence(by.fence.0 + 3_600_000_000), ..by };
    let back =
        Settle::Reassert { by, lease: LONG_LEASE, first_seen: 5, attempts: 1, retention: LONG };
    assert_eq!(settle(store, rid(1), back).await, Settled::Reasserted);
    assert_eq!(settle(store, rid(1), Settle::Release { by }).await, Settled::Done);
    let next = acquire(store, rid(1), claim(2)).await;
    assert!(next.fence > by.fence, "{:?} after {:?}", next.fence, by.fence);
}
