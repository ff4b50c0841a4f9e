//! A disk that is really full: a small file system in memory, which a process of its own mounts
//! where nobody else sees it.

use std::process::Command;

use super::*;

const FOLDER: &str = "OUTRIGGER_SMALL_DISK";
/// The disk, and what of it something else takes at first.
const DISK: &str = "size=24m";
const FILLER: usize = 6 << 20;
const ANSWER: usize = 40_000;

#[test]
fn a_disk_that_is_really_full_costs_new_keys_and_nothing_else() {
    let alone = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "sh", "-c", script, "sh"]);
        command
    };
    let folder = tempfile::tempdir().unwrap();
    let mount = format!("mount -t tmpfs -o {DISK} none \"$1\"");
    if !alone(&mount).arg(folder.path()).status().is_ok_and(|status| status.success()) {
        println!("this system lets nobody mount a file system of their own: not tested");
        return;
    }
    let mut inner = alone(&format!("{mount} && exec \"$2\" --exact \"$3\" --nocapture"));
    let status = inner
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .arg("records::embedded::tests::full_disk::the_process_on_the_small_disk")
        .env(FOLDER, folder.path())
        .status()
        .unwrap();
    assert!(status.success());
}

/// Nothing unless the test above starts it.
#[tokio::test]
async fn the_process_on_the_small_disk() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    std::fs::write(folder.join("filler"), vec![0; FILLER]).unwrap();
    let store = opened(&settings(folder, 128 << 10)).await;
    let mut held = Vec::new();
    let claims: Vec<_> =
        (10_000..10_600).map(|n| (n, store.claim(rid(n), asked(n), deadline()))).collect();
    for (n, claim) in claims {
        let Ok(Claimed::Acquired { fence, .. }) = claim.await else { panic!("{n} is refused") };
        held.push((n, by(n, fence)));
    }
    let (mut done, mut n) = (Vec::new(), 0);
    loop {
        match claim(&store, n).await {
            Ok(Claimed::Acquired { fence, .. }) => {
                let settle_it = completion(by(n, fence), n, ANSWER, RETENTION);
                assert_eq!(settle(&store, n, settle_it).await, Ok(Settled::Done), "{n}");
                done.push(n);
            }
            Ok(Claimed::Full) => break,
            other => panic!("{n}: {other:?}"),
        }
        n += 1;
    }
    assert!(done.len() > 50, "{}", done.len());
    let why = store.health().problem.unwrap_or_default();
    assert!(why.contains("full"), "{why}");
    // The reserve is for what was in flight; it, too, has an end.
    let mut refused = 0;
    for (n, by) in held {
        match settle(&store, n, completion(by, n, ANSWER, RETENTION)).await {
            Ok(answer) => {
                assert_eq!(answer, Settled::Done);
                done.push(n);
            }
            Err(_) => {
                refused += 1;
                ready(&store).await;
            }
        }
        if refused == 3 {
            break;
        }
    }
    assert_eq!(refused, 3, "the disk is larger than it should be");
    ready(&store).await;
    assert_eq!(claim(&store, 20_000).await, Ok(Claimed::Full));
    for n in done {
        let found = peek(&store, n).await;
        assert!(is_replay(found.as_ref(), n, ANSWER), "{n}: {found:?}");
    }
    std::fs::remove_file(folder.join("filler")).unwrap();
    let until = deadline();
    while !matches!(claim(&store, 20_000).await, Ok(Claimed::Acquired { .. })) {
        assert!(clock::now() < until, "room does not help: {:?}", store.health().problem);
        clock::sleep(Duration::from_millis(10)).await;
    }
}
