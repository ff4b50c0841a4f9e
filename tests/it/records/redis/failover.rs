//! Servers that forget: a replica that is promoted too early, a store that is emptied, a cluster
//! whose slots move.

use std::sync::Arc;
use std::time::Duration;

use outrigger::clock;
use outrigger::policy::idempotency::machine::{Claim, Claimed, Found, Settle, Settled};
use outrigger::policy::idempotency::record::{Claimant, Entry, State};
use outrigger::records::redis::Redis;
use outrigger::records::{Fault, Kind, Store, Wanted};

use super::servers::{Server, cluster, replica, sentinel};
use super::{is_ready, ready};
use crate::records::contract::{
    acquire, claim, complete, deadline, fingerprint, peek, read, rid, settle, try_claim,
};
use crate::support::{eventually, within};

/// Waits until this record is there again.
async fn is_back(store: &Arc<Redis>, n: u64) -> Found {
    within("the record is told again", async {
        loop {
            if let Ok(Some(found)) = store.peek(rid(n), fingerprint(1), deadline()).await {
                return found;
            }
            clock::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Claims until the guard lets it in.
async fn guarded_claim(store: &Arc<Redis>, n: u64, asked: Claim) -> Claimed {
    within("the guard ends", async {
        loop {
            match store.claim(rid(n), asked, deadline()).await {
                Ok(claimed) => return claimed,
                Err(Fault::NotApplied(cause)) if cause.kind == Kind::Unavailable => {
                    clock::sleep(Duration::from_millis(20)).await;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    })
    .await
}

async fn fence(store: &Arc<Redis>, n: u64) -> Option<Claimant> {
    match read(&**store, rid(n)).await.entry {
        Entry::Record(record) => Some(record.claimant),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_store_is_told_again_and_knows_that_it_is_new() {
    let server = Server::start(&[]).await;
    let store = ready(&server.url(), "{}").await;
    let before = store.birth(deadline()).await.unwrap();
    let live = acquire(&*store, rid(1), claim(1)).await;
    let done = acquire(&*store, rid(2), claim(2)).await;
    settle(&*store, rid(2), complete(done, b"done")).await;
    let gone = acquire(&*store, rid(3), claim(3)).await;
    settle(&*store, rid(3), Settle::Release { by: gone }).await;
    let _: () = server.run("FLUSHALL");
    // A renewal that finds nothing is suspicious enough for a look.
    let renewed = settle(&*store, rid(1), Settle::Renew { by: live, lease: 60_000 }).await;
    assert_eq!(renewed, Settled::Fenced { current: None });
    assert!(matches!(is_back(&store, 1).await, Found::InFlight { .. }));
    assert!(matches!(is_back(&store, 2).await, Found::Completed { .. }));
    assert_eq!(fence(&store, 1).await, Some(live));
    let refused = store.claim(rid(4), claim(4), deadline()).await;
    let Err(Fault::NotApplied(cause)) = refused else { panic!("{refused:?}") };
    assert_eq!(cause.kind, Kind::Unavailable);
    assert!(matches!(guarded_claim(&store, 4, claim(4)).await, Claimed::Acquired { .. }));
    // What was released stays released, and results go on.
    assert_eq!(fence(&store, 3).await, None);
    assert_eq!(settle(&*store, rid(1), complete(live, b"after")).await, Settled::Done);
    let after = store.birth(deadline()).await.unwrap();
    assert!(after.at > before.at && after.secret != before.secret, "the horizon moves");
    assert_eq!(store.health().contested, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_guard_claims_go_on_and_what_is_known_is_told_all_the_same() {
    let server = Server::start(&[]).await;
    let store = ready(&server.url(), r#"{ "failover_guard": false }"#).await;
    let live = acquire(&*store, rid(1), claim(1)).await;
    let _: () = server.run("FLUSHALL");
    settle(&*store, rid(1), Settle::Renew { by: live, lease: 60_000 }).await;
    assert!(matches!(is_back(&store, 1).await, Found::InFlight { .. }));
    acquire(&*store, rid(2), claim(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f5_two_that_were_let_in_by_a_store_that_forgot_are_both_told() {
    let server = Server::start(&[]).await;
    let store = ready(&server.url(), "{}").await;
    let other = ready(&server.url(), r#"{ "failover_guard": false }"#).await;
    let first = acquire(&*store, rid(1), claim(1)).await;
    let _: () = server.run("FLUSHALL");
    let second = acquire(&*other, rid(1), claim(2)).await;
    assert!(second.fence > first.fence);
    let seen = Arc::clone(&store);
    eventually("it is counted", move || seen.health().contested == 1).await;
    let Entry::Record(record) = read(&*store, rid(1)).await.entry else { panic!("a record") };
    assert!(record.contested && record.claimant == second);
    let late = settle(&*store, rid(1), complete(first, b"first")).await;
    assert_eq!(late, Settled::Fenced { current: Some(second.fence) });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_that_a_promoted_replica_never_had_are_put_back() {
    let mut primary = Server::start(&[]).await;
    let replica = replica(&primary).await;
    let sentinel = sentinel(&primary).await;
    eventually("the sentinel knows the replica", || {
        let found = sentinel.try_run::<Vec<Vec<String>>>("SENTINEL REPLICAS main");
        found.is_ok_and(|found| {
            found.iter().any(|one| {
                let flags = one.iter().position(|word| word == "flags");
                flags.is_some_and(|place| one[place + 1] == "slave")
                    && one.windows(2).any(|pair| pair == ["master-link-status", "ok"])
            })
        })
    })
    .await;
    let url = format!("redis://127.0.0.1:1,127.0.0.1:{}", sentinel.port());
    let store = ready(&url, r#"{ "sentinel": "main", "op_timeout": "2s" }"#).await;
    let birth = store.birth(deadline()).await.unwrap();
    eventually("the replica has the birth", || replica.run::<bool>("EXISTS outrigger:birth")).await;
    // The replica hears nothing of what follows.
    replica.signal("STOP");
    let _: () = primary.run("CLIENT KILL TYPE replica");
    let live = acquire(&*store, rid(1), claim(1)).await;
    let done = acquire(&*store, rid(2), claim(2)).await;
    settle(&*store, rid(2), complete(done, b"paid")).await;
    primary.kill();
    replica.signal("CONT");
    assert!(!replica.run::<bool>(&format!("EXISTS outrigger:r:{}", rid(1))), "it is lost there");
    eventually("the replica is promoted", || replica.info("role") == "master").await;
    assert!(matches!(is_back(&store, 1).await, Found::InFlight { .. }));
    assert!(matches!(is_back(&store, 2).await, Found::Completed { .. }));
    assert_eq!(fence(&store, 1).await, Some(live));
    // The history horizon stays: the replica had the birth.
    assert_eq!(store.birth(deadline()).await.unwrap().secret, birth.secret);
    let same = guarded_claim(&store, 1, claim(9)).await;
    assert!(matches!(same, Claimed::Found(Found::InFlight { .. })), "{same:?}");
    assert!(matches!(guarded_claim(&store, 5, claim(5)).await, Claimed::Acquired { .. }));
    assert_eq!(settle(&*store, rid(1), complete(live, b"once")).await, Settled::Done);
    is_ready(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f7_a_primary_that_becomes_a_replica_is_left() {
    let first = Server::start(&[]).await;
    let store = ready(&first.url(), "{}").await;
    let by = acquire(&*store, rid(1), claim(1)).await;
    let other = Server::start(&[]).await;
    let _: () = first.run(&format!("REPLICAOF 127.0.0.1 {}", other.port()));
    let came = store.settle(rid(1), complete(by, b"x"), deadline()).await;
    assert!(came.is_err(), "{came:?}");
    let seen = Arc::clone(&store);
    eventually("it is noticed", move || {
        seen.health().problem.is_some_and(|problem| problem.contains("primary"))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_cluster_divides_the_records_and_they_are_found_when_they_move() {
    let nodes = cluster().await;
    let url = format!("{},127.0.0.1:{}", nodes[0].url(), nodes[1].port());
    let store = ready(&url, "{}").await;
    let mut held = Vec::new();
    for n in 0..60 {
        held.push(acquire(&*store, rid(n), claim(n)).await);
    }
    for node in &nodes {
        assert!(node.run::<usize>("DBSIZE") > 5, "every node has some");
    }
    for n in 0..30 {
        assert_eq!(settle(&*store, rid(n), complete(held[n as usize], b"x")).await, Settled::Done);
    }
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let wanted = Wanted { states: vec![State::Completed], after, limit: 7 };
        let page = store.list(wanted, deadline()).await.unwrap();
        listed.extend(page.records.iter().map(|(rid, _)| *rid));
        let Some(next) = page.next else { break };
        after = Some(next);
    }
    let mut expected: Vec<_> = (0..30).map(rid).collect();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    move_a_slot(&store, &nodes).await;
    // One node ends: its records are refused, those of the others are not.
    let [mut first, second, third] = nodes;
    first.kill();
    let seen = Arc::clone(&store);
    eventually("it is noticed", move || !seen.health().ready).await;
    first.start_again().await;
    is_ready(&store).await;
    drop((second, third));
}

/// A record in a slot that is on its way to another node, and then there.
async fn move_a_slot(store: &Arc<Redis>, nodes: &[Server; 3]) {
    let key = format!("outrigger:r:{}", rid(500));
    let slot: u16 = nodes[0].run(&format!("CLUSTER KEYSLOT {key}"));
    let owner = usize::from(slot / 5461).min(2);
    let (from, to) = (&nodes[owner], &nodes[(owner + 1) % 3]);
    let from_id: String = from.run("CLUSTER MYID");
    let to_id: String = to.run("CLUSTER MYID");
    let _: () = to.run(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
    let _: () = from.run(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
    let by = acquire(&**store, rid(500), claim(500)).await;
    for node in [to, from] {
        let _: () = node.run(&format!("CLUSTER SETSLOT {slot} NODE {to_id}"));
    }
    assert_eq!(settle(&**store, rid(500), complete(by, b"moved")).await, Settled::Done);
    assert!(matches!(peek(&**store, rid(500)).await, Some(Found::Completed { .. })));
    let other = try_claim(&**store, rid(500), claim(501)).await;
    assert!(matches!(other, Claimed::Found(Found::Completed { .. })), "{other:?}");
}
