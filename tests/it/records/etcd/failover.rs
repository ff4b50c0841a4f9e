//! Members that die, stop and come back, under load.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use outrigger::policy::idempotency::machine::{Claimed, Found, Settle, Settled};
use outrigger::policy::idempotency::record::Fence;
use outrigger::records::Fault;
use tokio::task::JoinSet;

use super::contract::{acquire, claim, claimant, complete, peek, rid};
use super::members::MEMBERS;
use super::*;

/// What an operation of a proxy may take, in milliseconds.
const OP_TIMEOUT: u64 = 400;
/// The rest of the way: two tasks on a busy machine.
const BUSY: Duration = Duration::from_secs(2);

fn hasty(members: &Members, prefix: &str) -> Settings {
    let op_timeout = Period::from_millis(OP_TIMEOUT);
    Settings { op_timeout, ..settings(&members.clients(), prefix) }
}

/// The member that leads, once there is one.
async fn leader(members: &Members) -> usize {
    let clients = members.clients();
    within("a leader", async {
        loop {
            for (at, client) in clients.iter().enumerate() {
                if gateway::status(*client).await.is_some_and(|(own, leads)| own == leads) {
                    return at;
                }
            }
            clock::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// The proxy, and the fence that it got.
type Grant = (u64, Fence);

/// Claims of many keys by several proxies at once, each key wanted by all of them.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    granted: Mutex<HashMap<u64, Vec<Grant>>>,
    faults: AtomicU64,
    done: AtomicU64,
}

impl Load {
    /// One proxy's: it wants one key after the other, and each claim until it knows.
    async fn run(self: Arc<Self>, store: Arc<Etcd>, who: u64) {
        let mut n = 0;
        while !self.over.load(Ordering::SeqCst) {
            n += 1;
            let asked = claim(who << 32 | n);
            let answer = loop {
                match store.claim(rid(n), asked, clock::now() + PATIENCE_OF_OPS).await {
                    Ok(answer) => break answer,
                    Err(_) => self.faults.fetch_add(1, Ordering::SeqCst),
                };
                if self.over.load(Ordering::SeqCst) {
                    return;
                }
                clock::sleep(Duration::from_millis(5)).await;
            };
            if let Claimed::Acquired { fence, .. } = answer {
                self.granted.lock().unwrap().entry(n).or_default().push((who, fence));
                let by = claimant(&*store, &asked, fence);
                let _ = store.settle(rid(n), complete(by, b"done"), clock::now() + BUSY).await;
            }
            self.done.fetch_add(1, Ordering::SeqCst);
        }
    }
}

const PATIENCE_OF_OPS: Duration = Duration::from_secs(1);

/// The leader is killed under load: no key is granted twice, and soon keys are granted again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_leader_killed_under_load_grants_no_key_twice() {
    let members = Members::start();
    let settings = hasty(&members, "fail:");
    let load = Arc::new(Load::default());
    let mut tasks = JoinSet::new();
    for who in 1..=4 {
        let store = open(&settings).await;
        tasks.spawn(Arc::clone(&load).run(store, who));
    }
    let progress = |more: u64| {
        let load = Arc::clone(&load);
        let goal = load.done.load(Ordering::SeqCst) + more;
        async move {
            while load.done.load(Ordering::SeqCst) < goal {
                clock::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    for _ in 0..2 {
        within("progress", progress(200)).await;
        let leads = leader(&members).await;
        members.kill(leads);
        let killed = clock::now();
        within("progress without the old leader", progress(200)).await;
        let took = clock::now() - killed;
        assert!(took < Duration::from_secs(15), "progress again after {took:?}");
        members.run(leads);
        leader(&members).await;
    }
    load.over.store(true, Ordering::SeqCst);
    tasks.join_all().await;
    let granted = load.granted.lock().unwrap();
    assert!(granted.len() > 100, "{}", granted.len());
    for (n, claims) in &*granted {
        assert_eq!(claims.len(), 1, "key {n} was granted to {claims:?}");
    }
    assert!(load.faults.load(Ordering::SeqCst) > 0, "the kills were not noticed");
}

/// Two of three members stopped, by a signal or for good: refused in time, and it says why.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn without_a_majority_it_refuses_in_time_and_says_so() {
    let members = Members::start();
    let settings = hasty(&members, "lone:");
    let store = open(&settings).await;
    let by = acquire(&*store, rid(1), claim(1)).await;
    for how in ["STOP", "KILL"] {
        let leads = leader(&members).await;
        let others: Vec<_> = (0..MEMBERS).filter(|at| *at != leads).collect();
        for at in &others {
            match how {
                "STOP" => members.signal(*at, "STOP"),
                _ => members.kill(*at),
            }
        }
        let mut refused = 0;
        // An operation that began before may have its answer yet.
        for n in 0..6 {
            let asked = clock::now();
            let answer = store.claim(rid(100 + n), claim(100 + n), asked + PATIENCE_OF_OPS).await;
            let took = clock::now() - asked;
            assert!(took < Duration::from_millis(OP_TIMEOUT) + BUSY, "{how}: {took:?}");
            refused += u32::from(answer.is_err());
            let found = store.peek(rid(1), claim(1).fingerprint, asked + PATIENCE_OF_OPS).await;
            assert!(matches!(found, Err(Fault::NotApplied(_))), "{how}: a read is {found:?}");
        }
        assert_eq!(refused, 6, "{how}");
        within("a bill of health", async {
            while store.health().ready {
                clock::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        assert!(store.health().problem.is_some());
        for at in &others {
            match how {
                "STOP" => members.signal(*at, "CONT"),
                _ => members.run(*at),
            }
        }
        ready(&*store).await;
        // What was refused with doubt is settled by the same claim.
        for n in 0..6 {
            loop {
                let deadline = clock::now() + PATIENCE_OF_OPS;
                match store.claim(rid(100 + n), claim(100 + n), deadline).await {
                    Ok(Claimed::Acquired { fence, .. }) => {
                        let by = claimant(&*store, &claim(100 + n), fence);
                        let release = Settle::Release { by };
                        if store.settle(rid(100 + n), release, deadline).await.is_ok() {
                            break;
                        }
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => clock::sleep(Duration::from_millis(10)).await,
                }
            }
        }
    }
    let patient = open(&super::settings(&members.clients(), "lone:")).await;
    let done = patient.settle(rid(1), complete(by, b"late"), contract::deadline()).await;
    assert!(matches!(done, Ok(Settled::Done)), "{done:?}");
    assert!(matches!(peek(&*patient, rid(1)).await, Some(Found::Completed { .. })));
}
