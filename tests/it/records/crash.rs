//! A process that is killed at any moment has lost nothing that it was told is kept.
//!
//! The process is this binary itself, running the one test that does nothing else: it claims,
//! completes and releases under load, and says on its output what it has been told. After each
//! kill the file is opened and every word of that is checked. `OUTRIGGER_KILLS=1000` makes the
//! crashes that many; the default suits a run of all tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use outrigger::config::store::Embedded as Settings;
use outrigger::policy::idempotency::machine::{Claim, Claimed, Found, Settle, Settled};
use outrigger::policy::idempotency::record::{Fence, Principal};
use outrigger::records::Store;
use outrigger::records::embedded::Embedded;
use outrigger::units::ByteSize;

use super::contract::{LONG, answer, claim, claimant, deadline, fingerprint, nonce, rid};
use super::embedded;
use crate::support::within;

const FOLDER: &str = "OUTRIGGER_CRASH_FOLDER";
const ROUND: &str = "OUTRIGGER_CRASH_ROUND";
const KILLS: &str = "OUTRIGGER_KILLS";
const KILLS_BY_DEFAULT: u64 = 25;
const TASKS: u64 = 8;

fn settings(folder: &Path) -> Settings {
    // Room for all rounds, so that nothing is shed and everything can be checked.
    Settings { max_bytes: ByteSize::kib(8 << 20), ..embedded::settings(folder) }
}

/// The n-th claim of all, by one of many principals.
fn asked(n: u64) -> Claim {
    Claim { nonce: nonce(n), principal: Principal((n % 64).to_be_bytes()), ..claim(n) }
}

fn body(n: u64) -> Vec<u8> {
    let len = usize::try_from(n * 7_919 % 3_000).unwrap();
    n.to_be_bytes().iter().copied().cycle().take(len).collect()
}

/// One line that arrives whole or not at all, whenever this process is killed.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{line}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Nothing unless the test below starts it.
#[test]
fn the_process_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let round: u64 = std::env::var(ROUND).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        say("B 0");
        let store = embedded::opened(&settings(Path::new(&folder))).await;
        say(&format!("E {}", store.epoch()));
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..TASKS {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                for n in 0.. {
                    load(&store, (round << 32) | (n * TASKS + task)).await;
                }
            });
        }
        tasks.join_next().await;
    });
}

async fn load(store: &Embedded, n: u64) {
    let claimed = store.claim(rid(n), asked(n), deadline()).await.unwrap();
    let Claimed::Acquired { fence, .. } = claimed else { panic!("{n}: {claimed:?}") };
    say(&format!("C {n} {}", fence.0));
    let by = claimant(store, &asked(n), fence);
    let (settle, word) = match n % 7 {
        0 => (Settle::Release { by }, "R"),
        // Left in flight.
        1 => return,
        _ => (Settle::Complete { by, answer: answer(&body(n)), retention: LONG }, "D"),
    };
    let settled = store.settle(rid(n), settle, deadline()).await.unwrap();
    assert_eq!(settled, Settled::Done);
    say(&format!("{word} {n} {}", fence.0));
}

/// What the process has said of a record.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Told {
    Claimed(Fence),
    Done(Fence),
    Released(Fence),
}

/// Lets the process say so many lines, kills it, and hears what it has said before.
fn kill_after(lines: u64, folder: &Path, round: u64) -> (Option<u64>, BTreeMap<u64, Told>) {
    let mut child = spawn(folder, round);
    let out = BufReader::new(child.stdout.take().unwrap());
    let (mut epoch, mut told, mut heard) = (None, BTreeMap::new(), 0);
    for line in out.lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split(' ').collect();
        let numbers: Vec<u64> = words.iter().skip(1).map_while(|word| word.parse().ok()).collect();
        match (words[0], numbers.as_slice()) {
            ("E", [number]) => epoch = Some(*number),
            ("B", _) => {}
            ("C", [n, fence]) => drop(told.insert(*n, Told::Claimed(Fence(*fence)))),
            ("D", [n, fence]) => drop(told.insert(*n, Told::Done(Fence(*fence)))),
            ("R", [n, fence]) => drop(told.insert(*n, Told::Released(Fence(*fence)))),
            _ => continue,
        }
        heard += 1;
        if heard == lines {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(heard >= lines, "the process ended by itself after {heard} lines");
    (epoch, told)
}

fn spawn(folder: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "records::crash::the_process_that_is_killed"])
        .arg("--nocapture")
        .env(FOLDER, folder)
        .env(ROUND, round.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn peek(store: &Embedded, n: u64) -> Option<Found> {
    store.peek(rid(n), fingerprint(1), deadline()).await.unwrap()
}

/// Whether what is in the file is what was said.
async fn check(store: &Embedded, n: u64, told: Told) {
    let found = peek(store, n).await;
    let is_done = |found: &Option<Found>| match found {
        Some(Found::Completed { answer: found, .. }) => *found == answer(&body(n)),
        _ => false,
    };
    let is_unknown = matches!(found, Some(Found::Unknown { .. }));
    let fine = match told {
        Told::Done(_) => is_done(&found),
        Told::Released(_) => found.is_none(),
        // What came after the claim may have been written, and nobody been told.
        Told::Claimed(_) if n.is_multiple_of(7) => is_unknown || found.is_none(),
        Told::Claimed(_) if n % 7 == 1 => is_unknown,
        Told::Claimed(_) => is_unknown || is_done(&found),
    };
    assert!(fine, "{n}: told {told:?}, found {found:?}");
}

#[tokio::test]
async fn nothing_that_was_said_to_be_kept_is_lost() {
    let kills = std::env::var(KILLS).map_or(KILLS_BY_DEFAULT, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let mut random = fastrand::Rng::new();
    let (mut all, mut highest, mut epoch) = (BTreeMap::new(), Fence(0), 0);
    for round in 0..kills {
        // Now and then while it opens its file.
        let lines = if random.u8(0..8) == 0 { 1 } else { random.u64(2..300) };
        let (opened, told) = kill_after(lines, folder.path(), round);
        if let Some(opened) = opened {
            assert!(opened > epoch, "opening {opened} after {epoch}");
            epoch = opened;
        }
        let store = embedded::opened(&settings(folder.path())).await;
        assert!(store.epoch() > epoch);
        epoch = store.epoch();
        for (n, told) in &told {
            let (Told::Claimed(fence) | Told::Done(fence) | Told::Released(fence)) = told;
            highest = highest.max(*fence);
            check(&store, *n, *told).await;
        }
        let next = u64::MAX - round;
        let claimed = store.claim(rid(next), asked(next), deadline()).await.unwrap();
        let Claimed::Acquired { fence, .. } = claimed else { panic!("{claimed:?}") };
        assert!(fence > highest, "{fence:?} after {highest:?}");
        highest = fence;
        all.extend(told);
        within("the file is closed", store.close()).await;
    }
    let store = embedded::opened(&settings(folder.path())).await;
    for (n, told) in &all {
        check(&store, *n, *told).await;
    }
    assert!(all.len() as u64 > kills, "the process has worked");
    println!("{kills} kills, {} records, {epoch} openings", all.len());
}
