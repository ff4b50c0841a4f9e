//! A full database, answers that are too large, and a store that is not the one it was.

use outrigger::policy::idempotency::machine::{Claim, Claimed, Found, Settle, Settled, Unknowns};
use outrigger::policy::idempotency::record::{Retention, Stored};
use outrigger::records::{Fault, Kind};

use super::contract::{
    LONG, acquire, answer, claim, claimant, complete, deadline, doubt, peek, rid, settle, try_claim,
};
use super::*;

/// A full database: new keys are refused as such, what is known is told, and claims can still be
/// released.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f10_a_full_database_refuses_new_keys_and_replays_old_ones() {
    let members = Members::options(&["--quota-backend-bytes=4000000"]);
    let store = open(&settings(&members.clients(), "full:")).await;
    let by = acquire(&*store, rid(1), claim(1)).await;
    settle(&*store, rid(1), complete(by, b"kept")).await;
    let held = acquire(&*store, rid(2), claim(2)).await;
    let mut room = 3;
    let refused = loop {
        let by = match try_claim(&*store, rid(room), claim(room)).await {
            Claimed::Acquired { fence, .. } => claimant(&*store, &claim(room), fence),
            other => break other,
        };
        let body = vec![7; 400 << 10];
        match store.settle(rid(room), complete(by, &body), deadline()).await {
            Ok(Settled::Done) => {}
            Err(Fault::NotApplied(cause)) => assert_eq!(cause.kind, Kind::Full),
            other => panic!("{other:?}"),
        }
        room += 1;
        assert!(room < 40, "4 MB are never full");
    };
    assert_eq!(refused, Claimed::Full);
    assert_eq!(try_claim(&*store, rid(1_000), claim(9)).await, Claimed::Full);
    assert!(matches!(peek(&*store, rid(1)).await, Some(Found::Completed { .. })));
    // The same by a claim, as who repeats a request makes it.
    let again = try_claim(&*store, rid(1), claim(77)).await;
    assert!(matches!(again, Claimed::Found(Found::Completed { .. })), "{again:?}");
    let release = Settle::Release { by: held };
    assert_eq!(settle(&*store, rid(2), release).await, Settled::Done);
    assert_eq!(peek(&*store, rid(2)).await, None);
}

/// An answer that the members do not take is stored without its body: told as gone, never sent
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn d18_an_answer_that_is_too_large_loses_its_body() {
    let store = open(&settings(&SHARED.clients(), &prefix())).await;
    for (n, size) in [(1, 3 << 20), (2, 1 << 20)] {
        let by = acquire(&*store, rid(n), claim(n)).await;
        assert_eq!(settle(&*store, rid(n), complete(by, &vec![1; size])).await, Settled::Done);
    }
    assert!(matches!(peek(&*store, rid(1)).await, Some(Found::Gone { status: 201, .. })));
    let Some(Found::Completed { answer: Stored { body: Some(body), .. }, .. }) =
        peek(&*store, rid(2)).await
    else {
        panic!("what fits is kept");
    };
    assert_eq!(body.len(), 1 << 20);
    assert_eq!(store.health().bodies_shed, 1);
}

/// A store that is emptied under its proxies is a new one: nothing is concluded from what it has
/// not, until they know that it begins now.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_emptied_store_is_noticed_before_anything_is_claimed() {
    let settings = settings(&SHARED.clients(), &prefix());
    let store = open(&settings).await;
    let before = store.birth(deadline()).await.unwrap();
    let by = acquire(&*store, rid(1), claim(1)).await;
    gateway::clear(SHARED.clients()[0], &settings.prefix).await;
    let refused = store.claim(rid(2), claim(2), deadline()).await;
    let Err(Fault::NotApplied(cause)) = refused else { panic!("{refused:?}") };
    assert_eq!(cause.kind, Kind::Unfit);
    ready(&*store).await;
    let after = store.birth(deadline()).await.unwrap();
    assert!(after.at >= before.at && after.secret != before.secret);
    // Its owner still has the result, and the new store takes it.
    assert_eq!(settle(&*store, rid(1), complete(by, b"1")).await, Settled::Reasserted);
    let Some(Found::Completed { answer: found, .. }) = peek(&*store, rid(1)).await else {
        panic!("it was put back");
    };
    assert_eq!(found, answer(b"1"));
}

/// Proxies with other settings get no answer, but the reason.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f12_proxies_that_differ_are_refused() {
    let settings = settings(&SHARED.clients(), &prefix());
    let _first = open(&settings).await;
    let other = Common { config: [2; 32], ..common() };
    let store = Etcd::start(&settings, other, &tokio::runtime::Handle::current());
    within("the reason", async {
        loop {
            match store.claim(rid(1), claim(1), deadline()).await {
                Err(Fault::NotApplied(cause)) if cause.kind == Kind::Unfit => return,
                Err(Fault::NotApplied(_)) => clock::sleep(Duration::from_millis(5)).await,
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert!(!store.health().ready);
}

/// Nobody there: refused at once, and proved.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f1_nobody_there_is_refused_at_once() {
    let nobody = members::free::<1>();
    let store =
        Etcd::start(&settings(&nobody, "none:"), common(), &tokio::runtime::Handle::current());
    let asked = clock::now();
    let refused = store.claim(rid(1), claim(1), deadline()).await;
    let Err(Fault::NotApplied(cause)) = refused else { panic!("{refused:?}") };
    assert_eq!(cause.kind, Kind::Unreachable);
    assert!(clock::now() - asked < Duration::from_secs(5));
    let wrong = Settings { endpoints: vec!["etcd:2379".into()], ..settings(&nobody, "none:") };
    let store = Etcd::start(&wrong, common(), &tokio::runtime::Handle::current());
    let refused = store.claim(rid(1), claim(1), deadline()).await;
    let Err(Fault::NotApplied(cause)) = refused else { panic!("{refused:?}") };
    assert_eq!(cause.kind, Kind::Unfit);
}

/// T9: who may send again does so once the grace is over, and not before, also when the first
/// owner's route named none.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn t9_a_late_owner_has_its_grace() {
    let store = open(&settings(&SHARED.clients(), &prefix())).await;
    let redispatch = |n, grace| {
        let unknowns = Unknowns::Redispatch { grace };
        Claim { unknowns, ..claim(n) }
    };
    for (n, first) in [(1, claim(1)), (2, redispatch(2, 1_000)), (3, redispatch(3, 10))] {
        let by = acquire(&*store, rid(n), first).await;
        assert_eq!(settle(&*store, rid(n), doubt(by)).await, Settled::Done);
        let lost = clock::now();
        let again = within("the end of the grace", async {
            loop {
                match try_claim(&*store, rid(n), redispatch(10 + n, 1_000)).await {
                    Claimed::Acquired { fence, attempt, .. } => return (fence, attempt),
                    Claimed::Found(Found::Unknown { .. }) => {}
                    other => panic!("{other:?}"),
                }
                clock::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        assert!(clock::now() - lost >= Duration::from_secs(1), "{n}: too early");
        assert_eq!(again.1, 2);
        assert!(again.0 > by.fence);
        // The late owner's result is refused.
        let late = settle(&*store, rid(n), complete(by, b"late")).await;
        assert_eq!(late, Settled::Fenced { current: Some(again.0) });
    }
}

/// A renewed lease lasts, and the record of a renewed claim outlives its own retention.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn t2_renewals_keep_a_claim_and_its_record() {
    let store = open(&settings(&SHARED.clients(), &prefix())).await;
    let retention = Retention { unknown: 1_000, ..LONG };
    let asked = Claim { lease: 2_000, retention, ..claim(1) };
    let by = acquire(&*store, rid(1), asked).await;
    let end = clock::now() + Duration::from_secs(9);
    while clock::now() < end {
        let renew = Settle::Renew { by, lease: 2_000 };
        assert_eq!(settle(&*store, rid(1), renew).await, Settled::Done);
        assert!(matches!(peek(&*store, rid(1)).await, Some(Found::InFlight { .. })));
        clock::sleep(Duration::from_millis(300)).await;
    }
    assert_eq!(settle(&*store, rid(1), complete(by, b"x")).await, Settled::Done);
    let renew = Settle::Renew { by, lease: 2_000 };
    assert_eq!(settle(&*store, rid(1), renew).await, Settled::Fenced { current: Some(by.fence) });
}
