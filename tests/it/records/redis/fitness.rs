//! Which servers are fit to keep records, how one logs in, and what a full one takes.

use std::process::Command;
use std::sync::Arc;

use outrigger::policy::idempotency::machine::{Claim, Claimed, Settle, Settled};
use outrigger::policy::idempotency::record::Principal;
use outrigger::records::redis::Redis;
use outrigger::records::{Common, Fault, Kind, Store};
use tokio::runtime::Handle;

use super::servers::{Server, replica};
use super::{common, is_ready, opened, ready, settings};
use crate::records::contract::{acquire, claim, complete, deadline, peek, rid, settle, try_claim};
use crate::support::{eventually, within};

/// Waits until the store says that it has this problem, and that every question is refused for it.
async fn is_unfit(store: &Arc<Redis>, words: &str) {
    let seen = Arc::clone(store);
    eventually(words, move || seen.health().problem.is_some_and(|problem| problem.contains(words)))
        .await;
    assert!(!store.health().ready);
    let came = store.claim(rid(1), claim(1), deadline()).await;
    let Err(Fault::NotApplied(cause)) = came else { panic!("{came:?}") };
    assert_eq!(cause.kind, Kind::Unfit, "{}", cause.detail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_evicts_is_refused_until_it_does_not() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]).await;
    let store = opened(&server.url(), "{}");
    is_unfit(&store, "set it to noeviction").await;
    let _: () = server.run("CONFIG SET maxmemory-policy noeviction");
    is_ready(&store).await;
    acquire(&*store, rid(1), claim(1)).await;
    // Somebody changes it while it is in use.
    let _: () = server.run("CONFIG SET maxmemory-policy volatile-ttl");
    is_unfit(&store, "volatile-ttl").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f12_proxies_that_are_set_up_differently_do_not_share_a_store() {
    let server = Server::start(&[]).await;
    let first = ready(&server.url(), "{}").await;
    let other = Common { config: [9; 32], ..common() };
    let second = Redis::start(&settings(&server.url(), "{}"), other.clone(), &Handle::current());
    is_unfit(&second, "another `prefix`").await;
    let apart = settings(&server.url(), r#"{ "prefix": "apart:" }"#);
    let third = Redis::start(&apart, other, &Handle::current());
    is_ready(&third).await;
    acquire(&*first, rid(1), claim(1)).await;
    acquire(&*third, rid(1), claim(1)).await;
    let births = [first.birth(deadline()).await.unwrap(), third.birth(deadline()).await.unwrap()];
    assert_ne!(births[0].secret, births[1].secret);
    let again = ready(&server.url(), "{}").await;
    assert_eq!(again.birth(deadline()).await.unwrap().secret, births[0].secret);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn passwords_are_used_and_never_shown() {
    let server = Server::start(&["--requirepass", "s3cret"]).await;
    let port = server.port();
    for url in [format!("redis://127.0.0.1:{port}"), format!("redis://:wrong@127.0.0.1:{port}")] {
        let store = opened(&url, "{}");
        is_unfit(&store, "`url`").await;
        let problem = store.health().problem.unwrap();
        assert!(!problem.contains("wrong"), "{problem}");
        assert!(!format!("{store:?}").contains("wrong"));
    }
    let store = ready(&format!("redis://:s3cret@127.0.0.1:{port}"), "{}").await;
    acquire(&*store, rid(1), claim(1)).await;
    assert!(!format!("{store:?}").contains("s3cret"));
    let _: () = server.run("ACL SETUSER records on >w0rd ~outrigger:* +@all");
    let store = ready(&format!("redis://records:w0rd@127.0.0.1:{port}"), "{}").await;
    acquire(&*store, rid(2), claim(1)).await;
    let _: () = server.run("ACL SETUSER records -evalsha");
    let came = store.claim(rid(3), claim(1), deadline()).await;
    let Err(Fault::NotApplied(cause)) = came else { panic!("{came:?}") };
    assert_eq!(cause.kind, Kind::Unfit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_is_an_address() {
    let server = Server::start(&["--unixsocket", "socket"]).await;
    let socket = server.folder().join("socket");
    let store = ready(&format!("unix:{}", socket.display()), "{}").await;
    acquire(&*store, rid(1), claim(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_checked_against_the_authority_that_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-keyout", "key.pem", "-out", "ca.pem", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .current_dir(folder.path())
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let path = |name: &str| folder.path().join(name).display().to_string();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = Server::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &path("ca.pem"),
        "--tls-key-file",
        &path("key.pem"),
        "--tls-auth-clients",
        "no",
    ])
    .await;
    let url = format!("rediss://localhost:{port}");
    let ca = serde_json::json!({ "ca": path("ca.pem") }).to_string();
    let store = ready(&url, &ca).await;
    acquire(&*store, rid(1), claim(1)).await;
    // The public authorities do not know it.
    let stranger = opened(&url, "{}");
    let seen = Arc::clone(&stranger);
    eventually("it is refused", move || {
        seen.health().problem.is_some_and(|problem| problem.contains("certificate"))
    })
    .await;
    let missing = opened(&url, r#"{ "ca": "/nowhere.pem" }"#);
    is_unfit(&missing, "/nowhere.pem").await;
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses_new_claims_and_keeps_results() {
    let server = Server::start(&[]).await;
    let store = ready(&server.url(), "{}").await;
    let by = acquire(&*store, rid(1), claim(1)).await;
    let _: () = server.run("CONFIG SET maxmemory 1");
    assert_eq!(try_claim(&*store, rid(2), claim(2)).await, Claimed::Full);
    assert_eq!(settle(&*store, rid(1), complete(by, b"kept")).await, Settled::Done);
    assert!(peek(&*store, rid(1)).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_principal_gets_a_tenth_of_a_bounded_server() {
    let server = Server::start(&["--maxmemory", "40mb"]).await;
    let store = ready(&server.url(), "{}").await;
    let body = vec![7; 512 * 1024];
    let greedy = |n| Claim { principal: Principal([1; 8]), ..claim(n) };
    for n in 0..9 {
        let by = acquire(&*store, rid(n), greedy(n)).await;
        settle(&*store, rid(n), complete(by, &body)).await;
    }
    within("it is refused", async {
        // The counts are advisory, and come a little later.
        for n in 100.. {
            if try_claim(&*store, rid(n), greedy(n)).await == Claimed::Quota {
                break;
            }
            store.changed(rid(1)).await;
        }
    })
    .await;
    assert!(server.run::<Vec<String>>("KEYS outrigger:q:*").len() == 1);
    // Others are not refused, and what is known is given.
    acquire(&*store, rid(1_000), Claim { principal: Principal([2; 8]), ..claim(1_000) }).await;
    assert!(peek(&*store, rid(0)).await.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f8_a_claim_without_its_replicas_is_taken_back() {
    let server = Server::start(&[]).await;
    let wanting = r#"{ "wait_replicas": 1, "op_timeout": "3s" }"#;
    let store = ready(&server.url(), wanting).await;
    let came = store.claim(rid(1), claim(1), deadline()).await;
    let Err(Fault::NotApplied(cause)) = came else { panic!("{came:?}") };
    assert_eq!(cause.kind, Kind::Replicas);
    assert_eq!(peek(&*store, rid(1)).await, None);
    assert_eq!(store.health().weak, 1);
    let replica = replica(&server).await;
    let store = ready(&server.url(), r#"{ "wait_replicas": 1 }"#).await;
    let by = acquire(&*store, rid(1), claim(1)).await;
    // Sent again, it waits again, and not for nothing.
    assert_eq!(acquire(&*store, rid(1), claim(1)).await, by);
    assert_eq!(settle(&*store, rid(1), complete(by, b"copied")).await, Settled::Done);
    assert!(replica.run::<bool>(&format!("HEXISTS outrigger:r:{} an", rid(1))));
    replica.signal("STOP");
    let store = ready(&server.url(), wanting).await;
    let again = store.settle(rid(1), complete(by, b"copied"), deadline()).await;
    let Err(Fault::Ambiguous(cause)) = again else { panic!("{again:?}") };
    assert_eq!((cause.kind, store.health().weak), (Kind::Replicas, 1));
    // What may be lost needs no replica.
    let other = ready(&server.url(), "{}").await;
    let by = acquire(&*other, rid(2), claim(2)).await;
    assert_eq!(settle(&*store, rid(2), Settle::Release { by }).await, Settled::Done);
    replica.signal("CONT");
}
