use std::time::Duration;

use super::*;
use crate::clock;
use crate::policy::idempotency::record::{Fence, Fingerprint, NEVER, Nonce, Owner, Principal};

const SEAL_KEY: [u8; 32] = [4; 32];
const LIMIT: u64 = 1 << 20;

fn deadline() -> Instant {
    clock::now() + Duration::from_secs(60)
}

fn late(n: u8, key: u64) -> Late {
    Late {
        rid: Rid([n; 32]),
        by: Claimant {
            fingerprint: Fingerprint { version: 1, digest: [1; 32] },
            owner: Owner { instance: [2; 16], epoch: 0 },
            nonce: Nonce([n; 16]),
            fence: Fence(100 + u64::from(n)),
            principal: Principal([5; 8]),
        },
        answer: Stored { body: Some(vec![n; 1_000].into()), ..Stored::bare(200) },
        retention: Retention { body: 1_000, key, unknown: NEVER },
    }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = deadline();
    while !holds() {
        assert!(clock::now() < until, "waited in vain: {what}");
        clock::sleep(Duration::from_millis(1)).await;
    }
}

async fn opened(path: Option<&Path>, limit: u64) -> Spool {
    let spool = Spool::open(path, Seal::new(Some(&SEAL_KEY)), limit).unwrap();
    eventually("the spool is open", || spool.problem().is_none()).await;
    spool
}

/// Runs the same against both keepers.
async fn of_each_kind(limit: u64, test: impl AsyncFn(&Spool)) {
    let folder = tempfile::tempdir().unwrap();
    test(&opened(None, limit).await).await;
    test(&opened(Some(&folder.path().join("spool.redb")), limit).await).await;
}

#[tokio::test]
async fn the_oldest_come_first_and_stay_until_they_are_removed() {
    of_each_kind(LIMIT, async |spool| {
        for n in 0..5 {
            spool.push(late(n, 60_000), deadline()).await.unwrap();
        }
        assert_eq!(spool.depth(), 5);
        let oldest = spool.oldest(3, deadline()).await.unwrap();
        let expected: Vec<_> = (0..3).map(|n| late(n, 60_000)).collect();
        assert_eq!(oldest.iter().map(|(_, late)| late.clone()).collect::<Vec<_>>(), expected);
        assert_eq!(spool.oldest(3, deadline()).await.unwrap(), oldest);
        let places = oldest.iter().map(|(place, _)| *place).collect();
        spool.remove(places, deadline()).await.unwrap();
        let left = spool.oldest(9, deadline()).await.unwrap();
        assert_eq!(left.iter().map(|(_, late)| late.rid.0[0]).collect::<Vec<_>>(), [3, 4]);
        assert_eq!((spool.depth(), spool.dropped()), (2, 0));
    })
    .await;
}

#[tokio::test]
async fn it_is_bounded_and_what_is_removed_makes_room() {
    of_each_kind(3 * (OVERHEAD + 1_000), async |spool| {
        for n in 0..3 {
            spool.push(late(n, 60_000), deadline()).await.unwrap();
        }
        let fault = spool.push(late(3, 60_000), deadline()).await.unwrap_err();
        assert!(matches!(&fault, Fault::NotApplied(cause) if cause.kind == Kind::Full), "{fault}");
        let oldest = spool.oldest(1, deadline()).await.unwrap();
        spool.remove(vec![oldest[0].0], deadline()).await.unwrap();
        spool.push(late(3, 60_000), deadline()).await.unwrap();
        assert_eq!(spool.depth(), 3);
    })
    .await;
}

#[tokio::test]
async fn what_is_over_is_never_given_back() {
    of_each_kind(LIMIT, async |spool| {
        spool.push(late(1, 0), deadline()).await.unwrap();
        spool.push(late(2, 60_000), deadline()).await.unwrap();
        let oldest = spool.oldest(9, deadline()).await.unwrap();
        assert_eq!(oldest.iter().map(|(_, late)| late.rid.0[0]).collect::<Vec<_>>(), [2]);
    })
    .await;
}

#[tokio::test]
async fn a_file_gives_back_what_it_was_given_to_whom_has_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.redb");
    let spool = opened(Some(&path), LIMIT).await;
    for n in 0..5 {
        spool.push(late(n, 60_000), deadline()).await.unwrap();
    }
    spool.push(late(9, 0), deadline()).await.unwrap();
    drop(spool);
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(100).any(|part| part == [3; 100]), "answers are sealed");
    let spool = opened(Some(&path), LIMIT).await;
    let oldest = spool.oldest(9, deadline()).await.unwrap();
    let expected: Vec<_> = (0..5).map(|n| late(n, 60_000)).collect();
    assert_eq!(oldest.into_iter().map(|(_, late)| late).collect::<Vec<_>>(), expected);
    eventually("what is over is dropped", || (spool.depth(), spool.dropped()) == (5, 1)).await;
    drop(spool);
    let other = Spool::open(Some(&path), Seal::new(Some(&[7; 32])), LIMIT).unwrap();
    eventually("what cannot be read is dropped", || other.dropped() == 5).await;
    assert_eq!(other.depth(), 0);
}

#[tokio::test]
async fn many_at_once_are_all_kept_in_order_of_each_task() {
    let folder = tempfile::tempdir().unwrap();
    let spool = opened(Some(&folder.path().join("spool.redb")), LIMIT).await;
    let replies: Vec<_> = (0..200).map(|n| spool.push(late(n, 60_000), deadline())).collect();
    for reply in replies {
        reply.await.unwrap();
    }
    let oldest = spool.oldest(OLDEST_MAX, deadline()).await.unwrap();
    assert_eq!(
        oldest.iter().map(|(_, late)| late.rid.0[0]).collect::<Vec<_>>(),
        (0..200).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn without_its_folder_it_takes_nothing_and_says_why() {
    let spool =
        Spool::open(Some(Path::new("/nowhere/spool.redb")), Seal::default(), LIMIT).unwrap();
    let why = || spool.problem().is_some_and(|cause| cause.detail.contains("/nowhere"));
    eventually("it says why", why).await;
    assert!(matches!(spool.push(late(1, 9), deadline()).await, Err(Fault::NotApplied(_))));
}
