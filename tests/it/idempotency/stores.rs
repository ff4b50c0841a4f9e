//! Failures of the store, as clients see them: F1 to F12 where they show in an answer. A relay
//! stands between the proxy and a real Redis.

use std::time::Duration;

use outrigger::clock;
use outrigger::policy::idempotency::record::State;
use outrigger::records::Wanted;

use super::{ALONE, SOON, code, counting, keyed_at, keyed_under, post, ready, said};
use crate::records::redis::Server;
use crate::support::caller::Got;
use crate::support::relay::{Relay, Rule};
use crate::support::service::{Act, Service};
use crate::support::sidecar::{Sidecar, eventually};

/// What the first claim of a server consists of, and nothing else.
const CLAIM: &str = "local function acquire()";

/// A Redis, a relay to it, and a proxy that uses it.
struct Scene {
    server: Server,
    relay: Relay,
    service: Service,
    sidecar: Sidecar,
}

async fn scene(service: Service, settings: &str) -> Scene {
    scene_under("{ mode: off }", "100ms", service, settings).await
}

/// The same under a limit of the upstream, with this patience for the store.
async fn scene_under(limit: &str, patience: &str, service: Service, settings: &str) -> Scene {
    let server = Server::durable().await;
    let relay = Relay::to(server.address()).await;
    let store =
        format!("redis: {{ url: \"redis://{}\", op_timeout: {patience} }}", relay.address());
    let settings = format!("store: s, scope: [none], {settings}");
    let sidecar = keyed_under(limit, service.address, &settings, (ALONE, &store));
    let scene = Scene { server, relay, service, sidecar };
    ready(&scene.sidecar).await;
    scene
}

impl Scene {
    async fn post(&self, key: &str) -> Got {
        self.sidecar.caller().send(post(key, "x")).await
    }
}

#[tokio::test]
async fn f1_r17_closed_and_the_store_is_gone_nothing_is_sent() {
    let mut scene = scene(counting().await, "").await;
    assert_eq!(scene.post("before").await.status, 201);
    scene.server.kill();
    let got = scene.post("k").await;
    assert_eq!((got.status, code(&got).as_str()), (503, "store-unavailable"));
    assert_eq!(said(&got), "rejected;reason=store-unavailable");
    assert!(got.header("retry-after").is_some());
    assert_eq!(scene.service.hits(), 1);
    scene.server.start_again().await;
    eventually("healthy again", async || scene.post("k").await.status == 201).await;
    assert_eq!(scene.post("before").await.body, "first");
}

#[tokio::test]
async fn f1_r18_open_and_the_store_is_gone_it_passes_and_says_so() {
    let mut scene = scene(counting().await, "on_store_error: open").await;
    scene.server.kill();
    let got = scene.post("k").await;
    assert_eq!((got.status, said(&got)), (201, "bypassed;reason=store-unavailable"));
    let bypassed = "outrigger_idempotency_requests_total{route=\"r\",result=\"bypassed\"";
    let sample = format!("{bypassed},reason=\"store-unavailable\"}}");
    assert_eq!(scene.sidecar.metric(&sample), 1.0);
}

#[tokio::test]
async fn f2_a_claim_whose_answer_is_lost_sends_nothing_and_is_given_back() {
    let scene = scene(counting().await, "").await;
    scene.relay.rule(Rule::SwallowRepliesTo(CLAIM));
    let got = scene.post("k").await;
    assert_eq!((got.status, code(&got).as_str()), (503, "store-unavailable"));
    assert_eq!(scene.service.hits(), 0);
    scene.relay.rule(Rule::Pass);
    eventually("the claim is given back", async || scene.post("k").await.status == 201).await;
    assert_eq!(scene.service.hits(), 1);
}

#[tokio::test]
async fn f2_open_a_claim_whose_answer_is_lost_passes_and_is_completed_later() {
    let scene = scene(counting().await, "on_store_error: open").await;
    scene.relay.rule(Rule::SwallowRepliesTo(CLAIM));
    let got = scene.post("k").await;
    assert_eq!((got.status, said(&got)), (201, "bypassed;reason=store-unavailable"));
    scene.relay.rule(Rule::Pass);
    let store = scene.sidecar.app().proxy.stores.get("s").unwrap();
    let completed = || Wanted { states: vec![State::Completed], after: None, limit: 1 };
    eventually("its answer is kept", async || {
        let page = store.list(completed(), clock::now() + SOON).await;
        page.is_ok_and(|page| page.records.len() == 1)
    })
    .await;
    let again = scene.post("k").await;
    assert!(said(&again).starts_with("replayed"), "{again:?}");
    assert_eq!(scene.service.hits(), 1);
}

#[tokio::test]
async fn f4_r21_a_result_that_cannot_be_committed_is_delivered_and_committed_later() {
    let service = Service::start(|_| Act::Late(Duration::from_millis(500), 201)).await;
    let scene = scene(service, "commit_deadline: 200ms").await;
    let caller = scene.sidecar.caller();
    let first = tokio::spawn(async move { caller.send(post("k", "x")).await });
    scene.service.reached(1).await;
    scene.relay.rule(Rule::Refuse);
    let first = first.await.unwrap();
    assert_eq!((first.status, said(&first)), (201, "executed;stored=?0;reason=store-unavailable"));
    scene.relay.rule(Rule::Pass);
    eventually("the result is committed", async || {
        let got = scene.post("k").await;
        said(&got).starts_with("replayed")
    })
    .await;
    assert_eq!(scene.service.hits(), 1);
}

#[tokio::test]
async fn f5_r21_a_store_that_forgot_and_has_another_claim_says_so() {
    let service = Service::start(|seen| match seen.number {
        0 => Act::Late(Duration::from_millis(600), 201),
        _ => Act::Late(Duration::from_millis(50), 202),
    })
    .await;
    let scene = scene(service, "").await;
    let caller = scene.sidecar.caller();
    let first = tokio::spawn(async move { caller.send(post("k", "x")).await });
    scene.service.reached(1).await;
    // Only the record is lost, so that nothing tells of it.
    let keys: Vec<String> = scene.server.run("KEYS outrigger:*");
    for key in keys.iter().filter(|key| key.len() > "outrigger:".len() + 40) {
        let _: i64 = scene.server.run(&format!("DEL {key}"));
    }
    let second = scene.post("k").await;
    assert_eq!(second.status, 202);
    let first = first.await.unwrap();
    assert_eq!((first.status, said(&first)), (201, "executed;stored=?0;reason=fenced"));
    let fenced = "outrigger_store_fenced_total{store=\"s\",operation=\"complete\"}";
    assert_eq!(scene.sidecar.metric(fenced), 1.0);
}

#[tokio::test]
async fn f12_proxies_that_make_other_fingerprints_do_not_share_a_store() {
    let scene = scene(counting().await, "").await;
    let url = scene.server.url();
    let key = "fingerprint_key: \"${FINGERPRINT_KEY}\"";
    let store = format!("redis: {{ url: \"{url}\" }}, {key}");
    let upstream = format!("endpoints: [\"{}\"]", scene.service.address);
    let route = format!("idempotency: {{ store: s, scope: [none] }}, {ALONE}");
    let text = super::config_with(1, &upstream, &route);
    let text = format!("{text}stores: {{ s: {{ {store} }} }}\n");
    let mut start = outrigger::app::Start::new(text, None, None);
    start.environment = Box::new(super::OneVariable("FINGERPRINT_KEY"));
    let other = Sidecar::with(start);
    let got = other.caller().send(post("k", "x")).await;
    assert_eq!((got.status, code(&got).as_str()), (503, "store-unavailable"));
    assert_eq!(scene.post("k").await.status, 201);
}

/// Sends a request under each of the keys at once.
async fn all_at_once(scene: &Scene, keys: &[&str]) -> Vec<Got> {
    let send = |key: &&str| {
        let (caller, request) = (scene.sidecar.caller(), post(key, "x"));
        tokio::spawn(async move { caller.send(request).await })
    };
    let mut answers = Vec::new();
    for sent in keys.iter().map(send).collect::<Vec<_>>() {
        answers.push(sent.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn a_slow_store_takes_no_place_of_the_upstream() {
    let service = Service::start(|_| Act::Answer(201, Vec::new(), "done")).await;
    let limit = "{ min: 4, initial: 4, max: 4, queue: { max: 0, max_wait: 5s } }";
    let scene = scene_under(limit, "5s", service, "claim_deadline: 5s").await;
    scene.relay.rule(Rule::Delay(SOON / 3));
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];
    let answers = all_at_once(&scene, &keys).await;
    assert!(answers.iter().all(|got| got.status == 201), "{answers:?}");
}

#[tokio::test]
async fn what_finds_no_place_after_its_claim_leaves_no_record() {
    let service = Service::start(|_| Act::Late(Duration::from_secs(2), 201)).await;
    let limit = "{ min: 1, initial: 1, max: 1, queue: { max: 0, max_wait: 50ms } }";
    let scene = scene_under(limit, "5s", service, "claim_deadline: 5s").await;
    scene.relay.rule(Rule::Delay(SOON / 3));
    let mut answers = all_at_once(&scene, &["a", "b"]).await;
    answers.sort_by_key(|got| got.status);
    assert_eq!(answers[0].status, 201);
    let refused = (answers[1].status, said(&answers[1]));
    assert_eq!(refused, (503, "rejected;reason=not-executed"));
    assert_eq!(scene.service.hits(), 1);
    scene.relay.rule(Rule::Pass);
    let mut said_of = Vec::new();
    for key in ["a", "b"] {
        said_of.push(said(&scene.post(key).await).to_owned());
    }
    said_of.sort();
    assert_eq!(said_of[0], "executed;stored;attempt=1");
    assert!(said_of[1].starts_with("replayed"), "{said_of:?}");
    assert_eq!(scene.service.hits(), 2);
}

#[tokio::test]
async fn f6_a_record_that_cannot_be_read_is_an_unknown_outcome_until_it_is_resolved() {
    let scene = scene(counting().await, "unknown: redispatch, upstream_idempotent: true").await;
    assert_eq!(scene.post("k").await.status, 201);
    let keys: Vec<String> = scene.server.run("KEYS outrigger:r:*");
    let _: () = scene.server.run(&format!("HSET {} r soon", keys[0]));
    let got = scene.post("k").await;
    assert_eq!((got.status, code(&got).as_str()), (409, "outcome-unknown"));
    assert_eq!(scene.service.hits(), 1);
}

#[tokio::test]
async fn f8_without_its_replicas_a_claim_is_not_made() {
    for (settings, status, hits) in [("", 503, 0), ("on_store_error: open", 201, 1)] {
        let (service, server) = (counting().await, Server::durable().await);
        let store =
            format!("redis: {{ url: \"{}\", wait_replicas: 1, op_timeout: 1s }}", server.url());
        let settings = format!("store: s, scope: [none], claim_deadline: 4s, {settings}");
        let sidecar = keyed_at(service.address, &settings, ALONE, &store);
        ready(&sidecar).await;
        let got = sidecar.caller().send(post("k", "x")).await;
        assert_eq!((got.status, service.hits()), (status, hits), "{got:?}");
        assert!(said(&got).ends_with("reason=store-unavailable"), "{got:?}");
        assert_eq!(server.run::<Vec<String>>("KEYS outrigger:r:*").len(), 0);
    }
}
