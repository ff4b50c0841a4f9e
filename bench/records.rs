//! What a claim and a completion cost in the store in a file: how long each takes at a steady
//! rate, and how many there can be. The folder is that of the first argument, or a temporary one;
//! what is measured above all is its disk. `cargo bench --bench records -- FOLDER`.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark says what it measured, and ends by panicking"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use outrigger::clock;
use outrigger::config::store::Embedded as Settings;
use outrigger::policy::idempotency::machine::{Claim, Claimed, Found, Settle, Settled, Unknowns};
use outrigger::policy::idempotency::record::{
    Claimant, Fingerprint, Nonce, Owner, Principal, Retention, Rid, Stored,
};
use outrigger::records::embedded::Embedded;
use outrigger::records::{Common, Store, codec};
use outrigger::units::ByteSize;
use tokio::task::JoinSet;

const RATE: u32 = 1_000;
const STEADY: Duration = Duration::from_secs(10);
const SATURATED: Duration = Duration::from_secs(5);
const TASKS: usize = 256;
const ANSWER: usize = 700;
const RETENTION: Retention = Retention { body: 3_600_000, key: 7_200_000, unknown: 7_200_000 };

/// How long each part of one keyed request took.
struct Took {
    claim: Duration,
    both: Duration,
    replay: Duration,
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    runtime.expect("a runtime").block_on(async {
        for paranoid in [false, true] {
            let temporary = tempfile::tempdir().expect("a folder");
            let folder = folder.as_ref().map_or(temporary.path().to_owned(), PathBuf::from);
            run(&folder, paranoid).await;
        }
    });
}

async fn run(folder: &Path, paranoid: bool) {
    let path = folder.join(if paranoid { "paranoid.redb" } else { "plain.redb" });
    let settings = Settings { path, max_bytes: ByteSize::kib(8 << 20), paranoid };
    let common = Common {
        name: "bench".into(),
        seal: codec::Seal::new(Some(&[1; 32])),
        config: [0; 32],
        instance: [0; 16],
    };
    let store = Arc::new(Embedded::open(&settings, common).expect("threads"));
    while !store.health().ready {
        clock::sleep(Duration::from_millis(1)).await;
    }
    let next = Arc::new(AtomicU64::new(0));
    println!("paranoid = {paranoid}");
    steady(&store, &next).await;
    saturated(&store, &next).await;
    store.close().await;
}

/// One request each thousandth of a second, whether those before are done or not.
async fn steady(store: &Arc<Embedded>, next: &Arc<AtomicU64>) {
    let mut tasks = JoinSet::new();
    let begin = clock::now();
    for n in 0..RATE * u32::try_from(STEADY.as_secs()).expect("seconds") {
        clock::sleep_until(begin + n * (Duration::from_secs(1) / RATE)).await;
        let (store, n) = (Arc::clone(store), next.fetch_add(1, Ordering::Relaxed));
        tasks.spawn(async move { request(&store, n).await });
    }
    let took = tasks.join_all().await;
    for (what, part) in [
        ("claim", took.iter().map(|took| took.claim).collect::<Vec<_>>()),
        ("claim and complete", took.iter().map(|took| took.both).collect()),
        ("replay", took.iter().map(|took| took.replay).collect()),
    ] {
        let [half, most, all] = percentiles(part);
        println!("  {RATE}/s  {what:<20} p50 {half:>9.1?}  p99 {most:>9.1?}  max {all:>9.1?}");
    }
}

/// As many as go, from so many tasks.
async fn saturated(store: &Arc<Embedded>, next: &Arc<AtomicU64>) {
    let until = clock::now() + SATURATED;
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let (store, next) = (Arc::clone(store), Arc::clone(next));
        tasks.spawn(async move {
            let mut done = 0_u64;
            while clock::now() < until {
                request(&store, next.fetch_add(1, Ordering::Relaxed)).await;
                done += 1;
            }
            done
        });
    }
    let done: u64 = tasks.join_all().await.into_iter().sum();
    println!("  {TASKS} tasks: {} new keyed requests/s", done / SATURATED.as_secs());
}

async fn request(store: &Embedded, n: u64) -> Took {
    let rid = Rid(codec::digest_of(0, &[&n.to_be_bytes()]));
    let deadline = || clock::now() + Duration::from_secs(30);
    let claim = Claim {
        fingerprint: Fingerprint { version: 1, digest: rid.0 },
        owner: Owner { instance: [0; 16], epoch: 0 },
        nonce: Nonce([7; 16]),
        principal: Principal((n % 100).to_be_bytes()),
        lease: 30_000,
        retention: RETENTION,
        unknowns: Unknowns::Hold,
        too_old: false,
    };
    let begin = clock::now();
    let claimed = store.claim(rid, claim, deadline()).await;
    let Ok(Claimed::Acquired { fence, .. }) = claimed else { panic!("{claimed:?}") };
    let held = clock::now();
    let Claim { fingerprint, owner, nonce, principal, .. } = claim;
    let by = Claimant { fingerprint, owner, nonce, fence, principal };
    let answer = Stored { body: Some(vec![1; ANSWER].into()), ..Stored::bare(200) };
    let settle = Settle::Complete { by, answer, retention: RETENTION };
    let settled = store.settle(rid, settle, deadline()).await;
    assert_eq!(settled, Ok(Settled::Done));
    let done = clock::now();
    let found = store.peek(rid, claim.fingerprint, deadline()).await;
    assert!(matches!(found, Ok(Some(Found::Completed { .. }))), "{found:?}");
    Took { claim: held - begin, both: done - begin, replay: clock::now() - done }
}

fn percentiles(mut all: Vec<Duration>) -> [Duration; 3] {
    all.sort_unstable();
    let at = |share: usize| all.get((all.len() * share / 100).min(all.len() - 1)).copied();
    [50, 99, 100].map(|share| at(share).unwrap_or_default())
}
