mod faults;
mod faulty;
mod full_disk;
mod room;

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::policy::idempotency::machine::Unknowns;
use crate::policy::idempotency::record::{
    Claimant, Fence, Nonce, Owner, Principal, Retention, Stored,
};
use crate::records::codec;
use crate::units::ByteSize;

const HOUR: u64 = 3_600_000;
const RETENTION: Retention = Retention { body: HOUR, key: 2 * HOUR, unknown: 3 * HOUR };
const PATIENCE: Duration = Duration::from_secs(60);

fn common() -> Common {
    let (seal, config) = (codec::Seal::new(Some(&[8; 32])), [1; 32]);
    Common { name: "test".into(), seal, config, instance: [2; 16] }
}

fn settings(folder: &Path, kib: u64) -> Settings {
    let path = folder.join("records.redb");
    Settings { path, max_bytes: ByteSize::kib(kib), paranoid: false }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = clock::now() + PATIENCE;
    while !holds() {
        assert!(clock::now() < until, "waited in vain: {what}");
        clock::sleep(Duration::from_millis(1)).await;
    }
}

async fn ready(store: &Embedded) {
    eventually("the file is open", || store.health().ready).await;
}

async fn opened(settings: &Settings) -> Embedded {
    let store = Embedded::open(settings, common()).unwrap();
    ready(&store).await;
    store
}

fn deadline() -> Instant {
    clock::now() + PATIENCE
}

fn rid(n: u64) -> Rid {
    Rid(codec::digest_of(0, &[&n.to_be_bytes()]))
}

fn asked(n: u64) -> Claim {
    Claim {
        fingerprint: Fingerprint { version: 1, digest: [1; 32] },
        owner: Owner { instance: [2; 16], epoch: 0 },
        nonce: Nonce([1; 16]),
        principal: Principal(n.to_be_bytes()),
        lease: 600_000,
        retention: RETENTION,
        unknowns: Unknowns::Hold,
        too_old: false,
    }
}

fn by(n: u64, fence: Fence) -> Claimant {
    let Claim { fingerprint, owner, nonce, principal, .. } = asked(n);
    Claimant { fingerprint, owner, nonce, fence, principal }
}

fn answer(n: u64, bytes: usize) -> Stored {
    let body = n.to_be_bytes().iter().copied().cycle().take(bytes).collect::<Vec<_>>();
    Stored { body: Some(body.into()), ..Stored::bare(200) }
}

async fn claim(store: &Embedded, n: u64) -> Result<Claimed, Fault> {
    store.claim(rid(n), asked(n), deadline()).await
}

async fn acquire(store: &Embedded, n: u64) -> Claimant {
    match claim(store, n).await {
        Ok(Claimed::Acquired { fence, .. }) => by(n, fence),
        other => panic!("{n} is refused: {other:?}"),
    }
}

fn completion(by: Claimant, n: u64, bytes: usize, retention: Retention) -> Settle {
    Settle::Complete { by, answer: answer(n, bytes), retention }
}

async fn settle(store: &Embedded, n: u64, settle: Settle) -> Result<Settled, Fault> {
    store.settle(rid(n), settle, deadline()).await
}

async fn complete(store: &Embedded, n: u64, bytes: usize, retention: Retention) {
    let by = acquire(store, n).await;
    let done = settle(store, n, completion(by, n, bytes, retention)).await;
    assert_eq!(done, Ok(Settled::Done));
}

/// Many at the same time, so that they share commits.
async fn complete_all(store: &Embedded, all: std::ops::Range<u64>, bytes: usize, kept: Retention) {
    let claims: Vec<_> = all.clone().map(|n| store.claim(rid(n), asked(n), deadline())).collect();
    let mut settles = Vec::new();
    for (n, claim) in all.zip(claims) {
        let Ok(Claimed::Acquired { fence, .. }) = claim.await else { panic!("{n} is refused") };
        let settle = completion(by(n, fence), n, bytes, kept);
        settles.push(store.settle(rid(n), settle, deadline()));
    }
    for settle in settles {
        assert_eq!(settle.await, Ok(Settled::Done));
    }
}

async fn peek(store: &Embedded, n: u64) -> Option<Found> {
    store.peek(rid(n), asked(n).fingerprint, deadline()).await.unwrap()
}

fn is_replay(found: Option<&Found>, n: u64, bytes: usize) -> bool {
    matches!(found, Some(Found::Completed { answer: found, .. }) if *found == answer(n, bytes))
}

#[tokio::test]
async fn another_configuration_is_refused_and_leaves_the_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8_192);
    let store = opened(&settings).await;
    assert_eq!(store.epoch(), 1);
    store.close().await;
    let other = Embedded::open(&settings, Common { config: [9; 32], ..common() }).unwrap();
    let refused = || other.health().problem.is_some_and(|why| why.contains("namespace"));
    eventually("it is refused", refused).await;
    let fault = claim(&other, 1).await.unwrap_err();
    assert!(matches!(&fault, Fault::NotApplied(cause) if cause.kind == Kind::Unfit), "{fault}");
    other.close().await;
    assert_eq!(opened(&settings).await.epoch(), 2);
}

#[tokio::test]
async fn a_file_that_is_something_else_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8_192);
    std::fs::write(&settings.path, "a letter to somebody".repeat(1_000)).unwrap();
    let store = Embedded::open(&settings, common()).unwrap();
    let why = || store.health().problem.unwrap_or_default();
    eventually("it is refused", || why().contains("records.redb")).await;
    assert!(matches!(claim(&store, 1).await, Err(Fault::NotApplied(_))));
    store.close().await;
    let left = std::fs::read_to_string(&settings.path).unwrap();
    assert_eq!(left, "a letter to somebody".repeat(1_000));
}

#[tokio::test]
async fn an_opening_by_another_process_ends_what_was_in_flight_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8_192);
    let store = opened(&settings).await;
    let by = acquire(&store, 1).await;
    assert_eq!(store.health().entries, [1, 0, 0, 0, 0]);
    store.close().await;
    let store = opened(&settings).await;
    assert_eq!(store.health().entries, [0, 0, 0, 1, 0]);
    assert!(matches!(peek(&store, 1).await, Some(Found::Unknown { .. })));
    // The lease was long, and yet nobody renews what has no owner.
    let renew = Settle::Renew { by, lease: 600_000 };
    assert_eq!(settle(&store, 1, renew).await, Ok(Settled::Fenced { current: Some(by.fence) }));
    let done = settle(&store, 1, completion(by, 1, 10, RETENTION)).await;
    assert_eq!(done, Ok(Settled::Done));
}

#[tokio::test]
async fn time_never_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8_192);
    opened(&settings).await.close().await;
    // The machine's clock was wrong once, and the file remembers.
    let future = 1_u64 << 45;
    let file = redb::Database::open(&settings.path).unwrap();
    let transaction = file.begin_write().unwrap();
    let mut meta = transaction.open_table(rows::META).unwrap();
    meta.insert("time", future.to_be_bytes().as_slice()).unwrap();
    drop(meta);
    transaction.commit().unwrap();
    drop(file);
    let store = opened(&settings).await;
    assert!(store.birth(deadline()).await.unwrap().now > future);
    assert!(acquire(&store, 1).await.fence.0 > future * 1_000);
}

#[tokio::test]
async fn what_was_asked_before_a_close_is_done() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8_192);
    let store = opened(&settings).await;
    let replies: Vec<_> = (0..500).map(|n| store.claim(rid(n), asked(n), deadline())).collect();
    let closed = store.close();
    drop(store);
    closed.await;
    for reply in replies {
        assert!(matches!(reply.await, Ok(Claimed::Acquired { .. })));
    }
    let store = opened(&settings).await;
    for n in 0..500 {
        assert!(matches!(peek(&store, n).await, Some(Found::Unknown { .. })), "{n}");
    }
}
