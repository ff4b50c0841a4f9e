//! The way to the members: answers that are lost, leases that are gone, TLS and logins.

use std::collections::BTreeSet;

use outrigger::policy::idempotency::machine::{Claimed, Found, Settled};
use outrigger::records::Fault;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::contract::{LONG_LEASE, acquire, claim, complete, deadline, peek, rid, settle};
use super::relay::Relay;
use super::*;

/// An answer that is lost leaves doubt, and the same question sent again gets the truth.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn f2_a_lost_answer_is_doubt_and_the_same_claim_again_is_the_truth() {
    let relay = Relay::to(SHARED.clients()[0]).await;
    let prefix = prefix();
    let hasty =
        Settings { op_timeout: Period::from_millis(600), ..settings(&[relay.address], &prefix) };
    let store = open(&hasty).await;
    let direct = open(&settings(&SHARED.clients(), &prefix)).await;
    // The leases that the claim hangs on are there already: nothing but it is in question.
    let _ = acquire(&*direct, rid(7), claim(7)).await;
    let by = within("a claim before", async {
        loop {
            match store.claim(rid(1), claim(1), deadline()).await {
                Ok(Claimed::Acquired { fence, .. }) => {
                    return contract::claimant(&*store, &claim(1), fence);
                }
                Ok(other) => panic!("{other:?}"),
                Err(_) => {}
            }
        }
    })
    .await;

    relay.lose_answers();
    let lost = store.claim(rid(2), claim(2), deadline()).await;
    assert!(matches!(lost, Err(Fault::Ambiguous(_))), "{lost:?}");
    let done = store.settle(rid(1), complete(by, b"once"), deadline()).await;
    assert!(done.is_err(), "{done:?}");
    // It was carried out all the same, as another proxy sees.
    let found = within("the claim whose answer was lost", async {
        loop {
            if let Some(found) = peek(&*direct, rid(2)).await {
                return found;
            }
        }
    })
    .await;
    assert!(matches!(found, Found::InFlight { remaining: 1..=LONG_LEASE, .. }), "{found:?}");

    relay.heal();
    let fences: BTreeSet<_> = within("the same claim again", async {
        let mut fences = BTreeSet::new();
        for _ in 0..3 {
            loop {
                match store.claim(rid(2), claim(2), deadline()).await {
                    Ok(Claimed::Acquired { fence, attempt: 1, .. }) => {
                        fences.insert(fence);
                        break;
                    }
                    Ok(other) => panic!("{other:?}"),
                    Err(_) => clock::sleep(Duration::from_millis(10)).await,
                };
            }
        }
        fences
    })
    .await;
    assert_eq!(fences.len(), 1);
    let again = settle(&*direct, rid(1), complete(by, b"once")).await;
    assert!(matches!(again, Settled::Already | Settled::Done), "{again:?}");
}

/// Leases that somebody has taken away are replaced by others; no claim is lost by it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn leases_that_are_gone_are_replaced() {
    let members = Members::start();
    let store = open(&settings(&members.clients(), "gone:")).await;
    let _ = acquire(&*store, rid(1), claim(1)).await;
    let member = members.clients()[0];
    let leases = gateway::ask(member, "/v3/lease/leases", "{}").await;
    let leases = leases["leases"].as_array().unwrap().clone();
    assert!(!leases.is_empty());
    for lease in leases {
        let question = format!("{{\"ID\":{}}}", lease["ID"]);
        gateway::ask(member, "/v3/lease/revoke", &question).await;
    }
    let by = acquire(&*store, rid(2), claim(2)).await;
    assert_eq!(settle(&*store, rid(2), complete(by, b"x")).await, Settled::Done);
    assert!(matches!(peek(&*store, rid(2)).await, Some(Found::Completed { .. })));
}

/// Members behind TLS, by certificates that are checked.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_behind_tls_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let [ca, certificate, key] = ["ca", "cert", "key"].map(|name| folder.path().join(name));
    let ca_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new([]).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(&ca, authority.self_signed(&ca_key).unwrap().pem()).unwrap();
    let own_key = KeyPair::generate().unwrap();
    let issuer = Issuer::from_params(&authority, &ca_key);
    let own = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&certificate, own.signed_by(&own_key, &issuer).unwrap().pem()).unwrap();
    std::fs::write(&key, own_key.serialize_pem()).unwrap();
    let members = Members::behind_tls(&certificate, &key);
    let plain = settings(&members.clients(), "tls:");
    let endpoints = plain.endpoints.iter().map(|url| url.replace("http:", "https:")).collect();
    let secure = Settings { endpoints, ca: Some(ca), ..plain };
    let store = open(&secure).await;
    let by = acquire(&*store, rid(1), claim(1)).await;
    assert_eq!(settle(&*store, rid(1), complete(by, b"x")).await, Settled::Done);
    // Nobody else vouches for them.
    let public = Settings { ca: None, ..secure };
    let store = Etcd::start(&public, common(), &tokio::runtime::Handle::current());
    within("the reason", async {
        loop {
            match store.claim(rid(2), claim(2), deadline()).await {
                Err(Fault::NotApplied(cause)) if cause.detail.contains("TLS") => return,
                Err(Fault::NotApplied(_)) => clock::sleep(Duration::from_millis(5)).await,
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
}

/// Name and password in the endpoint; without them, or with wrong ones, nothing is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_that_ask_for_a_login_get_it() {
    let members = Members::start();
    let clients = members.clients();
    ready(&*open(&settings(&clients, "x:")).await).await;
    for (path, question) in [
        ("user/add", r#"{"name":"root","password":"p@ss"}"#),
        ("role/add", r#"{"name":"root"}"#),
        ("user/grant", r#"{"user":"root","role":"root"}"#),
        ("enable", "{}"),
    ] {
        gateway::ask(clients[0], &format!("/v3/auth/{path}"), question).await;
    }
    let with = |login: &str| {
        let plain = settings(&clients, "login:");
        let endpoints = plain.endpoints.iter();
        let endpoints = endpoints.map(|url| url.replace("//", &format!("//{login}"))).collect();
        Settings { endpoints, ..plain }
    };
    let store = open(&with("root:p%40ss@")).await;
    let by = acquire(&*store, rid(1), claim(1)).await;
    assert_eq!(settle(&*store, rid(1), complete(by, b"x")).await, Settled::Done);
    for login in ["", "root:guess@"] {
        let store = Etcd::start(&with(login), common(), &tokio::runtime::Handle::current());
        let words = within("the reason", async {
            loop {
                match store.claim(rid(1), claim(1), deadline()).await {
                    Err(Fault::NotApplied(cause)) if cause.detail.contains("etcdserver") => {
                        return cause.detail;
                    }
                    Err(Fault::NotApplied(_)) => clock::sleep(Duration::from_millis(5)).await,
                    other => panic!("{other:?}"),
                }
            }
        })
        .await;
        assert!(!words.contains("guess"), "{words}");
    }
}
