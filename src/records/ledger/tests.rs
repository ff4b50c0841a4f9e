use std::sync::atomic::AtomicU32;

use super::*;
use crate::policy::idempotency::machine::Unknowns;
use crate::policy::idempotency::record::{Fence, Nonce, Principal, Retention, Stored};
use crate::records::Durability;
use crate::telemetry::metrics::Metrics;

const RID: Rid = Rid([7; 32]);
const RETENTION: Retention = Retention { body: 60_000, key: 600_000, unknown: 600_000 };

/// A store that does as it is told, and counts what it is asked.
#[derive(Default)]
struct Told {
    fails: AtomicBool,
    hangs: AtomicBool,
    refuses_renewals: AtomicBool,
    peeks: AtomicU32,
    completed: AtomicU32,
}

fn fault() -> Fault {
    Fault::NotApplied(Cause::new(Kind::Unreachable, "as told"))
}

fn reply<T: Send + 'static>(answer: Result<T, Fault>) -> Reply<T> {
    Box::pin(std::future::ready(answer))
}

impl Told {
    fn or<T>(&self, answer: T) -> Result<T, Fault> {
        if self.fails.load(Ordering::SeqCst) { Err(fault()) } else { Ok(answer) }
    }
}

impl Store for Told {
    fn peek(&self, _: Rid, _: Fingerprint, _: Instant) -> Reply<Option<Found>> {
        self.peeks.fetch_add(1, Ordering::SeqCst);
        if self.hangs.load(Ordering::SeqCst) {
            return Box::pin(std::future::pending());
        }
        reply(self.or(None))
    }
    fn claim(&self, _: Rid, _: Claim, _: Instant) -> Reply<Claimed> {
        reply(self.or(Claimed::Acquired { fence: Fence(1), attempt: 1, first_seen: 0 }))
    }
    fn settle(&self, _: Rid, settle: Settle, _: Instant) -> Reply<Settled> {
        let renews = matches!(settle, Settle::Renew { .. });
        if renews && self.refuses_renewals.load(Ordering::SeqCst) {
            return reply(Err(fault()));
        }
        let answer = self.or(Settled::Done);
        if answer.is_ok() && matches!(settle, Settle::Complete { .. }) {
            self.completed.fetch_add(1, Ordering::SeqCst);
        }
        reply(answer)
    }
    fn read(&self, _: Rid, _: Instant) -> Reply<Seen> {
        reply(Err(fault()))
    }
    fn list(&self, _: Wanted, _: Instant) -> Reply<Page> {
        reply(Ok(Page::default()))
    }
    fn changed(&self, _: Rid) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(std::future::pending())
    }
    fn birth(&self, _: Instant) -> Reply<Birth> {
        reply(Err(fault()))
    }
    fn guarantee(&self) -> Guarantee {
        Guarantee { durability: Durability::None, shared: false, consistent: false }
    }
    fn health(&self) -> Health {
        Health { ready: !self.fails.load(Ordering::SeqCst), ..Health::default() }
    }
}

/// A ledger of such a store, with a spool in memory.
fn scene() -> (Arc<Told>, Arc<Ledger>) {
    let store = Arc::new(Told::default());
    let spool = Spool::open(None, crate::records::codec::Seal::default(), 1 << 20).unwrap();
    let metrics = Metrics::new(&[]).store("s", &Kind::NAMES);
    let pair = (Arc::clone(&store) as Arc<dyn Store>, Some(spool));
    (store, Ledger::new("s", pair, Handle::current(), [1; 16], metrics))
}

fn fingerprint() -> Fingerprint {
    Fingerprint { version: 1, digest: [2; 32] }
}

async fn claimed(ledger: &Arc<Ledger>) -> Work {
    let claim = Claim {
        fingerprint: fingerprint(),
        owner: ledger.owner(),
        nonce: Nonce([3; 16]),
        principal: Principal::ALL,
        lease: 6_000,
        retention: RETENTION,
        unknowns: Unknowns::Hold,
        too_old: false,
    };
    let terms = WorkTerms {
        lease: Duration::from_secs(6),
        commit: Duration::from_secs(1),
        retention: RETENTION,
    };
    let by = clock::now() + Duration::from_secs(1);
    let Ok(Ok(work)) = ledger.claim(RID, claim, terms, (by, false)).await else {
        panic!("it is granted");
    };
    work
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_while_its_work_goes_on() {
    let (_, ledger) = scene();
    let work = claimed(&ledger).await;
    let lease = work.lease().unwrap();
    clock::sleep(Duration::from_secs(60)).await;
    assert!(lease.holds(clock::now()));
    assert_eq!(ledger.metrics.leases_lost.get(), 0);
    work.release().await;
}

#[tokio::test(start_paused = true)]
async fn f3_a_lease_that_cannot_be_renewed_is_over_and_its_result_is_committed_all_the_same() {
    let (store, ledger) = scene();
    let work = claimed(&ledger).await;
    let lease = work.lease().unwrap();
    store.refuses_renewals.store(true, Ordering::SeqCst);
    clock::sleep(Duration::from_secs(9)).await;
    assert!(!lease.holds(clock::now()), "nothing may be sent under it");
    assert_eq!(ledger.metrics.leases_lost.get(), 1);
    assert_eq!(work.complete(Stored::bare(201)).await, Ok(Settled::Done));
    assert_eq!(store.completed.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn f4_a_result_that_is_not_taken_in_time_is_spooled_and_brought_later() {
    let (store, ledger) = scene();
    let work = claimed(&ledger).await;
    store.fails.store(true, Ordering::SeqCst);
    assert!(work.complete(Stored::bare(201)).await.is_err());
    clock::sleep(Duration::from_secs(5)).await;
    assert_eq!(ledger.spool.as_ref().map(Spool::depth), Some(1));
    store.fails.store(false, Ordering::SeqCst);
    clock::sleep(Duration::from_secs(10)).await;
    assert_eq!(store.completed.load(Ordering::SeqCst), 1);
    assert_eq!(ledger.spool.as_ref().map(Spool::depth), Some(0));
}

#[tokio::test(start_paused = true)]
async fn f11_a_store_that_fails_is_left_alone_and_found_again_within_seconds() {
    let (store, ledger) = scene();
    let ask = async || ledger.peek(RID, fingerprint(), clock::now() + LOOK).await;
    store.fails.store(true, Ordering::SeqCst);
    for _ in 0..20 {
        assert!(ask().await.is_err());
    }
    let asked = store.peeks.load(Ordering::SeqCst);
    assert!(asked < 20, "it was asked each time");
    // However long that lasts, it is not left alone for longer and longer.
    for more in 0..20 {
        store.fails.store(true, Ordering::SeqCst);
        for _ in 0..200 + more {
            assert!(ask().await.is_err());
            clock::sleep(Duration::from_millis(100)).await;
        }
        store.fails.store(false, Ordering::SeqCst);
        clock::sleep(Duration::from_millis(300)).await;
        assert_eq!(ask().await, Ok(None), "after {more}");
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_is_dropped_gives_its_claim_back_or_leaves_a_doubt() {
    let (_, ledger) = scene();
    drop(claimed(&ledger).await);
    let mut sent = claimed(&ledger).await;
    sent.sending();
    assert_eq!(ledger.at_work(), 1);
    drop(sent);
    clock::sleep(Duration::from_secs(1)).await;
    assert_eq!(ledger.at_work(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_asks_and_goes_does_not_keep_the_store_from_being_tried() {
    let (store, ledger) = scene();
    store.fails.store(true, Ordering::SeqCst);
    let peek = |patience: u64| {
        ledger.peek(RID, fingerprint(), clock::now() + Duration::from_millis(patience))
    };
    for _ in 0..20 {
        assert!(peek(100).await.is_err());
    }
    clock::sleep(Duration::from_millis(2_100)).await;
    store.fails.store(false, Ordering::SeqCst);
    store.hangs.store(true, Ordering::SeqCst);
    let asked = store.peeks.load(Ordering::SeqCst);
    let gone = clock::until(clock::now() + Duration::from_millis(1), peek(60_000)).await;
    assert!(gone.is_err(), "its caller went while it was the trial");
    assert_eq!(store.peeks.load(Ordering::SeqCst), asked + 1);
    store.hangs.store(false, Ordering::SeqCst);
    assert_eq!(peek(100).await, Ok(None), "the next one is the trial");
}
