//! What is executed, and what is answered from the record.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use tokio::task::JoinSet;

use super::{KEYED, SOON, code, counting, keyed, keyed_with, post, said};
use crate::support::caller::{request, with_body};
use crate::support::service::{Act, Service, status};
use crate::support::sidecar::eventually;

#[tokio::test]
async fn r1_what_the_route_does_not_cover_passes_and_says_so() {
    let service = counting().await;
    let sidecar = keyed(&service, KEYED);
    let caller = sidecar.caller();
    let mut get = request("GET", "/charges");
    get.headers_mut().insert("idempotency-key", "k".parse().unwrap());
    let first = caller.send(get.clone()).await;
    assert_eq!((first.status, said(&first)), (201, "bypassed;reason=route"));
    assert_eq!(caller.send(get).await.body, "second");
    let without = caller.send(request("GET", "/charges")).await;
    assert_eq!(said(&without), "nothing");
}

#[tokio::test]
async fn a_request_without_a_key_passes_where_none_is_required() {
    let service = counting().await;
    let sidecar = keyed(&service, KEYED);
    let got = sidecar.caller().send(with_body("POST", "/charges", "x")).await;
    assert_eq!((got.status, said(&got)), (201, "bypassed;reason=no-key"));
}

#[tokio::test]
async fn r6_and_r7_the_first_is_executed_and_the_second_is_its_answer_again() {
    let service = counting().await;
    let sidecar = keyed(&service, KEYED);
    let caller = sidecar.caller();
    let first = caller.send(post("\"k\"", "x")).await;
    assert_eq!((first.status, &*first.body), (201, &b"first"[..]));
    assert_eq!(said(&first), "executed;stored;attempt=1");
    assert_eq!(first.header("set-cookie"), Some("a=b"));
    // Quoted or bare, it is the same key.
    let again = caller.send(post("k", "x")).await;
    assert_eq!((again.status, &*again.body), (201, &b"first"[..]));
    assert!(said(&again).starts_with("replayed;created="), "{}", said(&again));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.header("x-of"), Some("0"));
    assert_eq!(again.header("cache-status"), Some("outrigger;hit;detail=idempotency"));
    assert!(again.header("age").is_some());
    // A cookie that is given again is a session given away.
    assert_eq!(again.header("set-cookie"), None);
    assert_eq!(service.hits(), 1);
    let replayed = "outrigger_idempotency_requests_total{route=\"r\",result=\"replayed\"";
    assert_eq!(sidecar.metric(&format!("{replayed},reason=\"none\"}}")), 1.0);
}

#[tokio::test]
async fn a_replay_works_while_the_upstream_is_gone() {
    let service = counting().await;
    let sidecar = keyed(&service, KEYED);
    let caller = sidecar.caller();
    caller.send(post("k", "x")).await;
    drop(service);
    let again = caller.send(post("k", "x")).await;
    assert_eq!((again.status, &*again.body), (201, &b"first"[..]));
}

#[tokio::test]
async fn r9_a_request_in_progress_is_a_conflict() {
    let service = Service::start(|_| Act::Late(SOON, 200)).await;
    let sidecar = keyed(&service, KEYED);
    let caller = sidecar.caller();
    let first = tokio::spawn({
        let caller = caller.clone();
        async move { caller.send(post("k", "x")).await }
    });
    service.reached(1).await;
    let second = caller.send(post("k", "x")).await;
    assert_eq!((second.status, code(&second).as_str()), (409, "in-progress"));
    assert_eq!(said(&second), "rejected;reason=in-progress");
    assert_eq!(second.reason(), Some("idempotency_in_progress"));
    assert!(second.header("retry-after").is_some());
    assert_eq!(first.await.unwrap().status, 200);
    assert_eq!(service.hits(), 1);
}

#[tokio::test]
async fn r10_a_request_in_progress_is_waited_for() {
    let service = Service::start(|_| Act::Late(SOON, 202)).await;
    let sidecar = keyed(&service, &format!("{KEYED}, on_concurrent: wait"));
    let caller = sidecar.caller();
    let mut all = JoinSet::new();
    for _ in 0..20 {
        let caller = caller.clone();
        all.spawn(async move { caller.send(post("k", "x")).await });
    }
    let got = all.join_all().await;
    assert!(got.iter().all(|got| got.status == 202));
    let executed = got.iter().filter(|got| said(got).starts_with("executed")).count();
    let waited = got.iter().filter(|got| said(got).contains(";waited=")).count();
    assert_eq!((executed, waited, service.hits()), (1, 19, 1));
}

#[tokio::test]
async fn r11_a_caller_whose_time_is_over_finds_the_result_later() {
    let service = Service::start(|_| Act::Late(SOON, 201)).await;
    let route = format!("timeouts: {{ total: 100ms, connect: 50ms }}, {}", super::ALONE);
    let settings = format!("{KEYED}, late_result_window: 10s");
    let sidecar = keyed_with(&service, &settings, &route, "memory: {}");
    let caller = sidecar.caller();
    let first = caller.send(post("k", "x")).await;
    assert_eq!((first.status, code(&first).as_str()), (504, "response-timeout"));
    assert_eq!(said(&first), "executed;stored=?0;reason=pending");
    assert_eq!(first.header("proxy-status"), Some("outrigger;error=http_response_timeout"));
    assert!(first.header("retry-after").is_some());
    eventually("the late result", async || caller.send(post("k", "x")).await.status == 201).await;
    assert_eq!(service.hits(), 1);
    // It is counted when the record is, a moment after it can be seen.
    let late = "outrigger_idempotency_late_results_total{route=\"r\"}";
    eventually("it is counted", async || sidecar.metric(late) == 1.0).await;
}

#[tokio::test]
async fn d19_a_client_that_leaves_finds_its_result() {
    let service = Service::start(|_| Act::Late(SOON, 201)).await;
    let sidecar = keyed(&service, KEYED);
    let caller = sidecar.caller();
    let gone = tokio::spawn({
        let caller = caller.clone();
        async move { caller.send(post("k", "x")).await }
    });
    service.reached(1).await;
    gone.abort();
    eventually("the result", async || caller.send(post("k", "x")).await.status == 201).await;
    assert_eq!(service.hits(), 1);
}

#[tokio::test]
async fn r12_and_r13_a_lost_connection_leaves_the_outcome_unknown() {
    let service = Service::start(|_| Act::Drop).await;
    let sidecar = keyed(&service, KEYED);
    let caller = sidecar.caller();
    let first = caller.send(post("k", "x")).await;
    assert_eq!((first.status, code(&first).as_str()), (502, "outcome-unknown"));
    assert_eq!(said(&first), "executed;stored=?0;reason=outcome-unknown");
    assert_eq!(first.header("proxy-status"), Some("outrigger;error=connection_terminated"));
    let again = caller.send(post("k", "x")).await;
    assert_eq!((again.status, code(&again).as_str()), (409, "outcome-unknown"));
    assert_eq!(said(&again), "rejected;reason=outcome-unknown");
    assert_eq!(again.header("retry-after"), None);
    assert_eq!(service.hits(), 1);
}

#[tokio::test]
async fn r14_an_upstream_that_recognises_keys_is_asked_again() {
    let service =
        Service::start(|seen| if seen.number == 0 { Act::Drop } else { status(201) }).await;
    let sidecar = keyed(&service, &format!("{KEYED}, upstream_idempotent: true"));
    let caller = sidecar.caller();
    assert_eq!(caller.send(post("k", "x")).await.status, 502);
    let again = caller.send(post("k", "x")).await;
    assert_eq!((again.status, said(&again)), (201, "executed;stored;attempt=2"));
    // The key went along, the same both times.
    let seen = service.seen();
    assert_eq!(seen[0].header("idempotency-key"), seen[1].header("idempotency-key"));
}

#[tokio::test]
async fn r15_an_answer_too_large_to_be_kept_is_never_executed_again() {
    let service = counting().await;
    let sidecar = keyed(&service, &format!("{KEYED}, stored_body: 3B"));
    let caller = sidecar.caller();
    let first = caller.send(post("k", "x")).await;
    assert_eq!((first.status, &*first.body), (201, &b"first"[..]));
    assert_eq!(said(&first), "executed;stored=?0;reason=too-large");
    let again = caller.send(post("k", "x")).await;
    assert_eq!((again.status, code(&again).as_str()), (409, "result-unavailable"));
    let document: serde_json::Value = serde_json::from_slice(&again.body).unwrap();
    assert_eq!(document["original_status"], 201);
    assert_eq!(service.hits(), 1);
}

#[tokio::test]
async fn r22_what_was_not_executed_gives_its_key_back() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let text = super::config_with(
        1,
        &format!("endpoints: [\"{address}\"], ejection: {{ mode: off }}"),
        &format!("idempotency: {{ {KEYED} }}, {}", super::ALONE),
    );
    let sidecar = super::Sidecar::start(&format!("{text}stores: {{ s: {{ memory: {{}} }} }}\n"));
    let caller = sidecar.caller();
    let first = caller.send(post("k", "x")).await;
    assert_eq!((first.status, code(&first).as_str()), (502, "not-executed"));
    assert_eq!(said(&first), "rejected;reason=not-executed");
    assert!(first.header("retry-after").is_some());
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let back = Service::on(listener, |_| status(200));
    // The key is free, also for another request.
    let again = caller.send(post("k", "y")).await;
    assert_eq!((again.status, said(&again)), (200, "executed;stored;attempt=1"));
    assert_eq!(back.hits(), 1);
}

#[tokio::test]
async fn r23_an_answer_about_the_attempt_gives_the_key_back() {
    let service = Service::start(|seen| status(if seen.number == 0 { 401 } else { 201 })).await;
    let sidecar = keyed(&service, KEYED);
    let caller = sidecar.caller();
    let first = caller.send(post("k", "x")).await;
    assert_eq!((first.status, said(&first)), (401, "executed;stored=?0;reason=released"));
    assert_eq!(caller.send(post("k", "x")).await.status, 201);
}

#[tokio::test]
async fn r24_a_stream_is_passed_on_and_not_kept() {
    let events = vec![(CONTENT_TYPE.as_str(), "text/event-stream".to_owned())];
    let events = Arc::new(events);
    let service = Service::start(move |_| {
        Act::Answer(200, vec![("content-type", events[0].1.clone())], "data: 1\n\n")
    })
    .await;
    let sidecar = keyed(&service, KEYED);
    let caller = sidecar.caller();
    let first = caller.send(post("k", "x")).await;
    assert_eq!((first.status, &*first.body), (200, &b"data: 1\n\n"[..]));
    assert_eq!(said(&first), "executed;stored=?0;reason=streaming");
    let again = caller.send(post("k", "x")).await;
    assert_eq!((again.status, code(&again).as_str()), (409, "result-unavailable"));
}

#[tokio::test]
async fn a_hundred_at_once_are_one() {
    let service = Service::start(|_| Act::Late(Duration::from_millis(100), 200)).await;
    let sidecar = keyed(&service, KEYED);
    let mut all = JoinSet::new();
    for _ in 0..100 {
        let caller = sidecar.caller();
        all.spawn(async move { caller.send(post("k", "x")).await.status });
    }
    let mut statuses = all.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200);
    assert_eq!(service.hits(), 1);
}
