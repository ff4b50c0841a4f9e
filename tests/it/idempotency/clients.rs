//! Both sides of a call.

use super::{ALONE, KEYED, keyed, keyed_with, said};
use crate::support::caller::with_body;
use crate::support::service::{Act, Service, status};
use crate::support::sidecar::{Sidecar, config_to, eventually};

#[tokio::test]
async fn the_callers_proxy_mints_a_key_and_the_services_one_recognises_it() {
    let service = Service::start(|_| status(201)).await;
    let inner = keyed(&service, KEYED);
    let outer = config_to(
        &[inner.address],
        "ejection: { mode: off }, concurrency: { mode: off }",
        "idempotency: { role: originate, peer: enforcing }",
    );
    let outer = Sidecar::start(&outer);
    // A store that is new cannot know keys that were made before it, or at about its time.
    let sent = async || outer.caller().send(with_body("POST", "/charges", "x")).await;
    eventually("a store old enough", async || sent().await.status == 201).await;
    let got = sent().await;
    assert_eq!((got.status, said(&got)), (201, "executed;stored;attempt=1"));
    let key = service.seen()[0].header("idempotency-key").unwrap().to_owned();
    assert_eq!(key.len(), 38, "{key}");
    assert_ne!(service.seen()[1].header("idempotency-key"), Some(&*key));
}

#[tokio::test]
async fn a_lost_answer_is_fetched_again_with_the_minted_key() {
    let service =
        Service::start(|seen| if seen.number == 0 { Act::Drop } else { status(201) }).await;
    let outer = config_to(
        &[service.address],
        "ejection: { mode: off }, concurrency: { mode: off }",
        "idempotency: { role: originate, peer: enforcing }, retry: { backoff: { base: 1ms } }",
    );
    let outer = Sidecar::start(&outer);
    let got = outer.caller().send(with_body("POST", "/charges", "x")).await;
    assert_eq!(got.status, 201);
    let seen = service.seen();
    assert_eq!(seen[0].header("idempotency-key"), seen[1].header("idempotency-key"));
}

#[tokio::test]
async fn without_a_peer_that_recognises_keys_a_lost_answer_stays_lost() {
    let service = Service::start(|_| Act::Drop).await;
    let outer = config_to(
        &[service.address],
        "ejection: { mode: off }, concurrency: { mode: off }",
        "idempotency: { role: originate }",
    );
    let outer = Sidecar::start(&outer);
    let got = outer.caller().send(with_body("POST", "/charges", "x")).await;
    assert_eq!((got.status, service.hits()), (502, 1));
}

#[tokio::test]
async fn what_is_not_executed_may_be_retried_under_one_claim() {
    let service = Service::start(|seen| status(if seen.number == 0 { 421 } else { 201 })).await;
    let route = "retry: { on: [\"421\"], backoff: { base: 1ms } }, circuit_breaker: { mode: off }";
    let sidecar = keyed_with(&service, KEYED, route, "memory: {}");
    let got = sidecar.caller().send(super::post("k", "x")).await;
    assert_eq!((got.status, said(&got)), (201, "executed;stored;attempt=1"));
    let alone = keyed_with(&service, KEYED, ALONE, "memory: {}");
    assert_eq!(alone.caller().send(super::post("k", "x")).await.status, 201);
}
