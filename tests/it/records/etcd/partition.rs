//! A partition that leaves one proxy with one of three members.

use outrigger::policy::idempotency::machine::{Claimed, Found};
use outrigger::policy::idempotency::record::{Claimant, Entry};
use outrigger::records::Fault;

use super::contract::{acquire, claim, complete, peek, rid, settle};
use super::members::{MEMBERS, free};
use super::relay::Relay;
use super::*;

const OP_TIMEOUT: u64 = 400;

/// The smaller side refuses new keys and reads, the larger one serves; healed, both agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_smaller_side_refuses_and_the_larger_one_serves() {
    let listen: [_; MEMBERS] = free();
    let mut relays = Vec::new();
    for member in listen {
        relays.push(Relay::to(member).await);
    }
    let members = Members::apart(listen, std::array::from_fn(|at| relays[at].address));
    let clients = members.clients();
    let op_timeout = Period::from_millis(OP_TIMEOUT);
    let small = Settings { op_timeout, ..settings(&clients[..1], "split:") };
    let large = settings(&clients[1..], "split:");
    let (small, large) = (open(&small).await, open(&large).await);
    let before = acquire(&*small, rid(1), claim(1)).await;

    let (name, _) = gateway::status(clients[0]).await.unwrap();
    relays[0].cut_all();
    relays[1..].iter().for_each(|relay| relay.cut_off(&name));

    refuses(&small).await;

    // The larger side sees what was done before, and serves what the smaller one refused.
    let found = peek(&*large, rid(1)).await;
    assert!(matches!(found, Some(Found::InFlight { .. })), "{found:?}");
    let mut served = Vec::new();
    for n in 0..5 {
        let by = acquire(&*large, rid(10 + n), claim(50 + n)).await;
        settle(&*large, rid(10 + n), complete(by, b"served")).await;
        served.push(by);
    }

    relays.iter().for_each(Relay::heal);
    ready(&*small).await;
    for (n, by) in (0..5).zip(served) {
        agree(n, by, [&small, &large]).await;
    }
    // What was in flight before the partition is settled by its owner after it.
    let done = large.settle(rid(1), complete(before, b"1"), contract::deadline()).await;
    assert!(done.is_ok(), "{done:?}");
}

/// New keys and reads are refused, and it says that it is not ready.
async fn refuses(small: &Etcd) {
    for n in 0..5 {
        let by = clock::now() + Duration::from_secs(5);
        let answer = small.claim(rid(10 + n), claim(10 + n), by).await;
        assert!(answer.is_err(), "the smaller side granted {answer:?}");
        let read = small.peek(rid(1), claim(1).fingerprint, clock::now() + Duration::from_secs(5));
        assert!(matches!(read.await, Err(Fault::NotApplied(_))), "a read of the smaller side");
    }
    within("word that it is not ready", async {
        while small.health().ready {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let problem = small.health().problem.unwrap_or_default();
    assert!(!problem.is_empty());
}

/// A claim that was refused, sent again to the healed side: it never came to be, and both sides
/// have what the larger one served meanwhile.
async fn agree(n: u64, by: Claimant, [small, large]: [&Etcd; 2]) {
    let answer = within("an answer of the healed side", async {
        loop {
            let deadline = clock::now() + Duration::from_secs(1);
            match small.claim(rid(10 + n), claim(10 + n), deadline).await {
                Ok(answer) => return answer,
                Err(_) => clock::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await;
    assert!(matches!(answer, Claimed::Found(Found::Completed { .. })), "{answer:?}");
    let deadline = contract::deadline();
    let here = within("both sides", async {
        loop {
            if let Ok(seen) = small.read(rid(10 + n), deadline).await {
                return seen.entry;
            }
        }
    })
    .await;
    let there = large.read(rid(10 + n), deadline).await.unwrap().entry;
    assert_eq!(here, there);
    let Entry::Record(record) = here else {
        panic!("nothing there");
    };
    assert_eq!(record.claimant, by);
}
