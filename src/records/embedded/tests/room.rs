//! Room, and what makes it.

use std::os::unix::fs::MetadataExt as _;

use super::*;
use crate::policy::idempotency::record::{Entry, NEVER, State};

/// What a file takes of its disk, and the reserve beside it.
fn on_disk(settings: &Settings) -> u64 {
    std::fs::metadata(&settings.path).unwrap().blocks() * 512
}

#[tokio::test]
async fn bodies_are_shed_then_new_keys_refused_and_the_file_keeps_to_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8_192);
    let store = opened(&settings).await;
    for n in (0..200).step_by(20) {
        complete_all(&store, n..n + 20, 60_000, RETENTION).await;
    }
    let mut n = 200;
    let health = store.health();
    assert!(health.bodies_shed > 50, "{health:?}");
    assert_eq!(health.entries.iter().sum::<u64>(), 200);
    assert!(matches!(peek(&store, 0).await, Some(Found::Gone { status: 200, .. })));
    assert!(is_replay(peek(&store, 199).await.as_ref(), 199, 60_000));
    // Now with claims alone, of which nothing can be shed.
    let mut refused = 0;
    while refused == 0 {
        assert!(n < 100_000, "it is never full");
        let claims: Vec<_> =
            (n..n + 500).map(|n| store.claim(rid(n), asked(n), deadline())).collect();
        n += 500;
        for claim in claims {
            match claim.await.unwrap() {
                Claimed::Acquired { .. } => {}
                Claimed::Full => refused += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    let (taken, limit) = (on_disk(&settings), settings.max_bytes.get());
    assert!(taken <= limit + limit / 8, "{taken} of {limit}");
    // What is there goes on.
    let by = acquire(&store, 201).await;
    let done = settle(&store, 201, completion(by, 201, 60_000, RETENTION)).await;
    assert_eq!(done, Ok(Settled::Done));
    assert!(matches!(peek(&store, 201).await, Some(Found::Gone { status: 200, .. })));
    let entries = store.health().entries;
    store.close().await;
    let again = opened(&settings).await.health().entries;
    assert_eq!(again.iter().sum::<u64>(), entries.iter().sum::<u64>());
    assert_eq!(again[State::InFlight.index()], 0);
}

#[tokio::test]
async fn one_principal_cannot_fill_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(&settings(folder.path(), 1_024)).await;
    let one = Claim { principal: Principal([9; 8]), ..asked(0) };
    let claims: Vec<_> = (0..500).map(|n| store.claim(rid(n), one, deadline())).collect();
    let mut granted = 0;
    for claim in claims {
        match claim.await.unwrap() {
            Claimed::Acquired { .. } => granted += 1,
            other => assert_eq!(other, Claimed::Quota),
        }
    }
    assert!((50..400).contains(&granted), "{granted}");
    acquire(&store, 9_999).await;
}

#[tokio::test]
async fn what_is_over_goes_by_itself_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 65_536);
    let store = opened(&settings).await;
    let over = Retention { body: 20, key: 40, unknown: 40 };
    complete_all(&store, 0..700, 50, over).await;
    for n in 700..710 {
        let claim = Claim { lease: 1, retention: over, ..asked(n) };
        assert!(store.claim(rid(n), claim, deadline()).await.is_ok());
    }
    eventually("all are gone", || store.health().entries == [0; 5]).await;
    let health = store.health();
    assert_eq!((health.bytes, health.tombstones_purged, health.unknown_expired), (0, 700, 10));
    assert_eq!(health.bodies_shed, 0);
    store.close().await;
    let file = redb::Database::open(&settings.path).unwrap();
    let transaction = redb::ReadableDatabase::begin_read(&file).unwrap();
    let records = transaction.open_table(rows::RECORDS).unwrap();
    let due = transaction.open_table(rows::DUE).unwrap();
    let len = |len: Result<u64, redb::StorageError>| len.unwrap();
    use redb::ReadableTableMetadata as _;
    assert_eq!((len(records.len()), len(due.len())), (0, 0));
}

#[tokio::test]
async fn what_cannot_be_read_stays_when_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 8_192);
    let store = opened(&settings).await;
    complete(&store, 1, 50, Retention { body: 30_000, key: 60_000, unknown: 60_000 }).await;
    store.close().await;
    {
        let file = redb::Database::open(&settings.path).unwrap();
        let transaction = file.begin_write().unwrap();
        transaction
            .open_table(rows::RECORDS)
            .unwrap()
            .insert(&rid(1).0, b"damaged".as_slice())
            .unwrap();
        // All of its time is over when the file is opened again.
        let far = 1_u64 << 45;
        let mut meta = transaction.open_table(rows::META).unwrap();
        meta.insert("time", far.to_be_bytes().as_slice()).unwrap();
        drop(meta);
        transaction.commit().unwrap();
    }
    let store = opened(&settings).await;
    eventually("it was looked at", || store.health().entries == [0, 0, 0, 1, 0]).await;
    let seen = store.read(rid(1), deadline()).await.unwrap();
    assert_eq!(seen.entry, Entry::Unreadable);
    assert!(seen.now < NEVER);
    // An operator removes it, and its row goes with the next look at it.
    let purge = Settle::Purge { expect: None };
    assert_eq!(settle(&store, 1, purge).await, Ok(Settled::Done));
    acquire(&store, 1).await;
}
