//! Connections that are lost, replies that do not come, servers that end and come back.

use std::time::Duration;

use outrigger::clock;
use outrigger::policy::idempotency::machine::{Claimed, Found, Settle, Settled};
use outrigger::records::{Fault, Kind, Store};

use super::servers::Server;
use super::{is_ready, opened, ready};
use crate::records::contract::{acquire, claim, complete, deadline, peek, rid, settle, try_claim};
use crate::support::relay::{Relay, Rule};
use crate::support::{eventually, within};

/// What an operator would set for a server nearby.
const QUICK: &str = r#"{ "op_timeout": "300ms" }"#;

fn since(before: std::time::Instant) -> Duration {
    clock::now() - before
}

fn refused(came: Result<Claimed, Fault>) -> Kind {
    match came {
        Err(Fault::NotApplied(cause)) => cause.kind,
        other => panic!("{other:?}"),
    }
}

fn unsure(came: Result<Claimed, Fault>) -> Kind {
    match came {
        Err(Fault::Ambiguous(cause)) => cause.kind,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_server_everything_is_refused_at_once() {
    let mut server = Server::start(&[]).await;
    server.kill();
    let store = opened(&server.url(), QUICK);
    let before = clock::now();
    for n in 0..100 {
        let kind = refused(store.claim(rid(n), claim(n), deadline()).await);
        assert_eq!(kind, Kind::Unreachable);
    }
    assert!(since(before) < Duration::from_secs(5), "refusals wait for nothing");
    assert!(!store.health().ready);
    assert!(store.birth(deadline()).await.is_err());
    server.start_again().await;
    is_ready(&store).await;
    acquire(&*store, rid(1), claim(1)).await;
    assert_eq!(store.health().problem, None);
}

/// Makes the server know the scripts, so that the next reply is that of a question.
async fn warm(store: &dyn Store) {
    let by = acquire(store, rid(9_999), claim(1)).await;
    settle(store, rid(9_999), Settle::Release { by }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f2_a_claim_whose_answer_is_lost_is_the_same_claim_when_it_is_sent_again() {
    let server = Server::start(&[]).await;
    let relay = Relay::to(server.address()).await;
    let store = ready(&format!("redis://{}", relay.address()), "{}").await;
    warm(&*store).await;
    for n in 0..10 {
        relay.rule(Rule::CutAtReply);
        let kind = unsure(store.claim(rid(n), claim(n), deadline()).await);
        assert_eq!(kind, Kind::ConnectionLost);
        assert!(relay.is_used());
        let keys: usize = server.run("DBSIZE");
        assert_eq!(keys as u64, n + 2, "it was done, and there is the birth");
        is_ready(&store).await;
        let again = try_claim(&*store, rid(n), claim(n)).await;
        assert!(matches!(again, Claimed::Acquired { attempt: 1, .. }), "{again:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f1_a_claim_that_did_not_arrive_is_free() {
    let server = Server::start(&[]).await;
    let relay = Relay::to(server.address()).await;
    let store = ready(&format!("redis://{}", relay.address()), "{}").await;
    relay.rule(Rule::CutAtRequest);
    // It was sent, and nobody can know how far it came.
    unsure(store.claim(rid(1), claim(1), deadline()).await);
    is_ready(&store).await;
    assert_eq!(peek(&*store, rid(1)).await, None);
    relay.rule(Rule::Refuse);
    let seen = std::sync::Arc::clone(&store);
    eventually("the loss is noticed", move || !seen.health().ready).await;
    let requests = relay.requests();
    assert_eq!(refused(store.claim(rid(1), claim(1), deadline()).await), Kind::Unreachable);
    assert_eq!(relay.requests(), requests, "nothing was sent");
    relay.rule(Rule::Pass);
    is_ready(&store).await;
    acquire(&*store, rid(1), claim(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f4_a_completion_whose_answer_is_lost_has_been_done() {
    let server = Server::start(&[]).await;
    let relay = Relay::to(server.address()).await;
    let store = ready(&format!("redis://{}", relay.address()), "{}").await;
    warm(&*store).await;
    let by = acquire(&*store, rid(1), claim(1)).await;
    relay.rule(Rule::CutAtReply);
    let lost = store.settle(rid(1), complete(by, b"done"), deadline()).await;
    assert!(matches!(lost, Err(Fault::Ambiguous(_))), "{lost:?}");
    is_ready(&store).await;
    assert_eq!(settle(&*store, rid(1), complete(by, b"done")).await, Settled::Already);
    let by = acquire(&*store, rid(2), claim(2)).await;
    relay.rule(Rule::CutAtReply);
    let lost = store.settle(rid(2), Settle::Release { by }, deadline()).await;
    assert!(matches!(lost, Err(Fault::Ambiguous(_))), "{lost:?}");
    is_ready(&store).await;
    assert_eq!(settle(&*store, rid(2), Settle::Release { by }).await, Settled::Already);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_not_proof() {
    let server = Server::start(&[]).await;
    let relay = Relay::to(server.address()).await;
    let store = ready(&format!("redis://{}", relay.address()), QUICK).await;
    for rule in [Rule::SwallowRequests, Rule::SwallowReplies] {
        relay.rule(rule);
        let before = clock::now();
        let kind = unsure(store.claim(rid(1), claim(1), deadline()).await);
        assert_eq!(kind, Kind::Timeout);
        assert!(since(before) >= Duration::from_millis(300));
        // The deadline of the caller is the nearer one.
        let near = clock::now() + Duration::from_millis(20);
        let came = store.claim(rid(1), claim(1), near).await;
        assert!(came.is_err());
        // A server that says nothing is left after a second.
        let seen = std::sync::Arc::clone(&store);
        eventually("it is given up", move || !seen.health().ready).await;
        relay.rule(Rule::Pass);
        relay.cut();
        is_ready(&store).await;
    }
    acquire(&*store, rid(1), claim(1)).await;
    relay.rule(Rule::Delay(Duration::from_millis(20)));
    acquire(&*store, rid(2), claim(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f11_a_server_that_stands_still_is_left_alone_until_it_answers() {
    let server = Server::start(&[]).await;
    let store = ready(&server.url(), QUICK).await;
    let by = acquire(&*store, rid(1), claim(1)).await;
    server.signal("STOP");
    assert_eq!(unsure(store.claim(rid(2), claim(2), deadline()).await), Kind::Timeout);
    let seen = std::sync::Arc::clone(&store);
    eventually("it is given up", move || !seen.health().ready).await;
    let before = clock::now();
    refused(store.claim(rid(3), claim(3), deadline()).await);
    assert!(since(before) < Duration::from_millis(250), "refused without waiting");
    server.signal("CONT");
    is_ready(&store).await;
    assert_eq!(settle(&*store, rid(1), complete(by, b"late")).await, Settled::Done);
    // The claim that was sent may have been done when the server went on.
    acquire(&*store, rid(2), claim(2)).await;
    acquire(&*store, rid(3), claim(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_the_end_of_a_server_that_writes_at_once() {
    let mut server = Server::durable().await;
    let store = ready(&server.url(), "{}").await;
    let birth = store.birth(deadline()).await.unwrap();
    let mut held = Vec::new();
    for n in 0..50 {
        let by = acquire(&*store, rid(n), claim(n)).await;
        if n % 2 == 0 {
            settle(&*store, rid(n), complete(by, b"kept")).await;
        }
        held.push(by);
    }
    server.kill();
    let seen = std::sync::Arc::clone(&store);
    eventually("the loss is noticed", move || !seen.health().ready).await;
    let before = clock::now();
    server.start_again().await;
    is_ready(&store).await;
    assert!(since(before) < Duration::from_secs(30));
    assert_eq!(store.birth(deadline()).await.unwrap().secret, birth.secret);
    for n in 0..50 {
        match peek(&*store, rid(n)).await {
            Some(Found::Completed { .. }) if n % 2 == 0 => {}
            Some(Found::InFlight { .. }) if n % 2 == 1 => {}
            other => panic!("{n}: {other:?}"),
        }
    }
    assert_eq!(settle(&*store, rid(1), complete(held[1], b"late")).await, Settled::Done);
    assert_eq!(store.health().contested, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_is_used_within_seconds() {
    let mut server = Server::durable().await;
    let store = ready(&server.url(), "{}").await;
    server.kill();
    let seen = std::sync::Arc::clone(&store);
    eventually("the loss is noticed", move || !seen.health().ready).await;
    server.start_again().await;
    let back = clock::now();
    is_ready(&store).await;
    within("a claim", async {
        // New claims wait until what may be lost has been told again.
        while store.claim(rid(1), claim(1), deadline()).await.is_err() {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert!(since(back) < Duration::from_secs(10), "{:?}", since(back));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_the_server_forgot_are_told_again() {
    let server = Server::start(&[]).await;
    let store = ready(&server.url(), "{}").await;
    for n in 0..3 {
        let _: () = server.run("SCRIPT FLUSH");
        let by = acquire(&*store, rid(n), claim(n)).await;
        let _: () = server.run("SCRIPT FLUSH");
        assert_eq!(settle(&*store, rid(n), complete(by, b"x")).await, Settled::Done);
        let _: () = server.run("SCRIPT FLUSH");
        assert!(matches!(peek(&*store, rid(n)).await, Some(Found::Completed { .. })));
    }
}
