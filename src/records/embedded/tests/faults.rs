//! What is left of a promise when the disk breaks its own.

use std::sync::atomic::Ordering::SeqCst;

use super::faulty::Faults;
use super::*;

struct Scene {
    store: Embedded,
    faults: Arc<Faults>,
    _folder: tempfile::TempDir,
}

async fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(folder.path(), 65_536);
    let faults = Arc::<Faults>::default();
    let store = Embedded::on(&settings, common(), faults.medium(&settings.path)).unwrap();
    ready(&store).await;
    Scene { store, faults, _folder: folder }
}

async fn reopened(scene: &Scene, before: u32) {
    let openings = &scene.faults.openings;
    eventually("it is opened again", || openings.load(SeqCst) > before).await;
    ready(&scene.store).await;
}

#[tokio::test]
async fn a_failed_sync_is_ambiguous_and_the_file_is_opened_anew() {
    for forgets in [false, true] {
        let scene = scene().await;
        let store = &scene.store;
        complete(store, 1, 100, RETENTION).await;
        let held = acquire(store, 2).await;
        scene.faults.forgets.store(forgets, SeqCst);
        let openings = scene.faults.openings.load(SeqCst);
        scene.faults.syncs.store(1, SeqCst);
        let fault = claim(store, 3).await.unwrap_err();
        assert!(matches!(&fault, Fault::Ambiguous(cause) if cause.kind == Kind::Io), "{fault}");
        reopened(&scene, openings).await;
        assert_eq!(scene.faults.synced_again.load(SeqCst), 0, "synced through a failed handle");
        assert!(is_replay(peek(store, 1).await.as_ref(), 1, 100));
        // The owners live on in this process, so their claims do, too.
        assert_eq!(store.epoch(), 1);
        assert!(matches!(peek(store, 2).await, Some(Found::InFlight { .. })));
        let done = settle(store, 2, completion(held, 2, 9, RETENTION)).await;
        assert_eq!(done, Ok(Settled::Done));
        // The same claim sent again is the same claim, whatever became of the first.
        acquire(store, 3).await;
    }
}

#[tokio::test]
async fn until_it_is_open_again_nothing_is_done_and_that_is_said() {
    let scene = scene().await;
    let store = &scene.store;
    // The first fails the commit, the next ones the opening.
    scene.faults.short_writes.store(1, SeqCst);
    scene.faults.syncs.store(2, SeqCst);
    assert!(claim(store, 1).await.is_err());
    let refused = |fault: &Fault| matches!(fault, Fault::NotApplied(c) if c.kind == Kind::Io);
    let mut was_refused = false;
    let until = deadline();
    while !was_refused || !store.health().ready {
        assert!(clock::now() < until, "it never opens again");
        match claim(store, 2).await {
            Err(fault) => was_refused |= refused(&fault),
            Ok(answer) => assert!(matches!(answer, Claimed::Acquired { .. })),
        }
        tokio::task::yield_now().await;
    }
    acquire(store, 2).await;
}

#[tokio::test]
async fn a_short_write_loses_nothing_that_was_answered() {
    let scene = scene().await;
    let store = &scene.store;
    for n in 0..20 {
        complete(store, n, 3_000, RETENTION).await;
    }
    let openings = scene.faults.openings.load(SeqCst);
    scene.faults.short_writes.store(1, SeqCst);
    assert!(claim(store, 50).await.is_err());
    reopened(&scene, openings).await;
    for n in 0..20 {
        assert!(is_replay(peek(store, n).await.as_ref(), n, 3_000), "{n}");
    }
    acquire(store, 50).await;
}

#[tokio::test]
async fn on_a_full_disk_results_are_written_and_new_keys_refused() {
    let scene = scene().await;
    let store = &scene.store;
    complete(store, 1, 100, RETENTION).await;
    let held = acquire(store, 2).await;
    scene.faults.full.store(true, SeqCst);
    let done = settle(store, 2, completion(held, 2, 5_000, RETENTION)).await;
    assert_eq!(done, Ok(Settled::Done), "the reserve is for this");
    assert_eq!(claim(store, 3).await, Ok(Claimed::Full));
    assert!(is_replay(peek(store, 1).await.as_ref(), 1, 100));
    assert!(is_replay(peek(store, 2).await.as_ref(), 2, 5_000));
    let health = store.health();
    assert!(health.ready && health.problem.is_some_and(|why| why.contains("full")));
    assert_eq!(scene.faults.openings.load(SeqCst), 1, "the engine has not failed");
    // Somebody has made room.
    scene.faults.full.store(false, SeqCst);
    store.inside.reserve.restore();
    acquire(store, 3).await;
    assert_eq!(store.health().problem, None);
}

#[tokio::test]
async fn whatever_fails_nothing_that_was_answered_is_lost() {
    let scene = scene().await;
    let store = &scene.store;
    let mut random = fastrand::Rng::with_seed(7);
    let (mut done, mut last, mut failures) = (Vec::new(), Fence(0), 0);
    for n in 0..80_u64 {
        match random.u8(0..6) {
            0 => scene.faults.syncs.store(random.u32(1..3), SeqCst),
            1 => scene.faults.short_writes.store(1, SeqCst),
            _ => {}
        }
        scene.faults.forgets.store(random.bool(), SeqCst);
        let fence = loop {
            match claim(store, n).await {
                Ok(Claimed::Acquired { fence, .. }) => break fence,
                Ok(other) => panic!("{n}: {other:?}"),
                Err(_) => failures += 1,
            }
            tokio::task::yield_now().await;
        };
        assert!(fence > last, "{fence:?} after {last:?}");
        last = fence;
        if random.bool() {
            let answer = completion(by(n, fence), n, random.usize(0..9_000), RETENTION);
            while let Err(fault) = settle(store, n, answer.clone()).await {
                failures += 1;
                assert!(clock::now() < deadline(), "{fault}");
                tokio::task::yield_now().await;
            }
            done.push((n, answer));
        }
    }
    assert!(failures > 5, "the disk has failed");
    assert_eq!(scene.faults.synced_again.load(SeqCst), 0);
    ready(store).await;
    for (n, settle) in &done {
        let Settle::Complete { answer, .. } = settle else { continue };
        let found = peek(store, *n).await;
        let Some(Found::Completed { answer: found, .. }) = found else { panic!("{n}: {found:?}") };
        assert_eq!(found, *answer);
    }
    let entries = store.health().entries;
    assert_eq!(entries.iter().sum::<u64>(), 80);
}
