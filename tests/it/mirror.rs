//! Copies of requests to another upstream: they arrive, and nothing of the request changes by them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use outrigger::app::Start;
use outrigger::clock;
use outrigger::policy::circuit_breaker::State;

use crate::support::caller::with_body;
use crate::support::name_server::NameServer;
use crate::support::service::{Act, Service, status};
use crate::support::sidecar::{HEAD, Sidecar, eventually};
use crate::support::upstream;

/// Route `r` to upstream `u`, and copies to upstream `m`.
fn config(service: &Service, mirror: &str, settings: &str, route: &str) -> String {
    let address = service.address;
    format!(
        "{HEAD}runtime: {{ workers: 1 }}\n\
         upstreams:\n  u: {{ endpoints: [\"{address}\"] }}\n  m: {{ {mirror} }}\n\
         routes: [{{ name: r, upstream: u, mirror: {{ upstream: m, {settings} }}, {route} }}]\n"
    )
}

fn to(service: &Service, mirror: &Service, settings: &str, route: &str) -> String {
    config(service, &format!("endpoints: [\"{}\"]", mirror.address), settings, route)
}

/// How many requests that were drawn came to this.
fn copied(sidecar: &Sidecar, result: &str) -> f64 {
    let sample = format!("outrigger_mirror_requests_total{{route=\"r\",result=\"{result}\"}}");
    sidecar.metric(&sample)
}

async fn comes_to(sidecar: &Sidecar, result: &str, count: f64) {
    let what = format!("{count} × {result}");
    eventually(&what, async || copied(sidecar, result) >= count).await;
    assert_eq!(copied(sidecar, result), count, "{result}");
}

#[tokio::test]
async fn a_copy_is_the_request_with_a_mark() {
    let (service, mirror) = (Service::always(201).await, Service::always(200).await);
    let route = "headers: { request: { set: { x-a: b } } }, match: { path_prefix: /in }, \
                 rewrite: { path_prefix: /out, host: inner.test }";
    let sidecar = Sidecar::start(&to(&service, &mirror, "", route));
    let caller = sidecar.caller();
    assert_eq!(caller.send(with_body("POST", "/in/x", "hello")).await.status, 201);
    comes_to(&sidecar, "ok", 1.0).await;
    assert_eq!(copied(&sidecar, "sent"), 1.0);
    let (sent, copy) = (service.seen().remove(0), mirror.seen().remove(0));
    assert_eq!(copy.method, "POST");
    assert_eq!((copy.path.as_str(), &copy.body[..]), ("/out/x", b"hello".as_slice()));
    assert_eq!((copy.header("host"), copy.header("x-a")), (Some("inner.test"), Some("b")));
    assert_eq!((sent.path, sent.body), (copy.path.clone(), copy.body.clone()));
    assert_eq!(copy.header("x-outrigger-mirror"), Some("1"));
    assert_eq!(sent.headers.get("x-outrigger-mirror"), None);
    let left: u64 = copy.header("x-request-timeout-ms").unwrap().parse().unwrap();
    assert!((14_000..=15_000).contains(&left), "the route's total time: {left}");
    // Its connection is used again.
    caller.send(with_body("POST", "/in/x", "again")).await;
    comes_to(&sidecar, "ok", 2.0).await;
    assert_eq!(mirror.connections(), 1);
    let attempts = "outrigger_upstream_attempts_total{upstream=\"m\",result=\"2xx\"}";
    assert_eq!(sidecar.metric(attempts), 2.0);
}

#[tokio::test]
async fn over_http2_as_well() {
    let (service, mirror) = (Service::always(200).await, upstream().http2().spawn().await);
    let address = mirror.address();
    let http2 = format!("protocol: http2, endpoints: [\"{address}\"]");
    let sidecar = Sidecar::start(&config(&service, &http2, "", ""));
    sidecar.caller().send(with_body("PUT", "/x?y=z", "hello")).await;
    comes_to(&sidecar, "ok", 1.0).await;
    let copy = mirror.request();
    assert_eq!((&copy.body[..], copy.whole), (b"hello".as_slice(), true));
    assert_eq!(copy.header("x-outrigger-mirror"), Some("1"));
    assert_eq!(copy.uri.path_and_query().unwrap().as_str(), "/x?y=z");
    assert_eq!(copy.uri.authority().unwrap().as_str(), "service.test");
}

#[tokio::test]
async fn a_share_of_the_requests_is_copied() {
    let (service, mirror) = (Service::always(200).await, Service::always(200).await);
    let sidecar = Sidecar::start(&to(&service, &mirror, "share: 50%, max_concurrent: 1000", ""));
    let caller = sidecar.caller();
    for _ in 0..400 {
        caller.get().await;
    }
    // Less than one in a hundred million runs is outside of six standard deviations.
    let sent = copied(&sidecar, "sent");
    assert!((140.0..=260.0).contains(&sent), "{sent}");
    comes_to(&sidecar, "ok", sent).await;
}

#[tokio::test]
async fn a_mirror_that_hangs_holds_up_nothing_and_takes_its_places_alone() {
    let (service, mirror) = (Service::always(200).await, Service::start(|_| Act::Hang).await);
    let route = "timeouts: { total: 1s }";
    let sidecar = Sidecar::start(&to(&service, &mirror, "max_concurrent: 2", route));
    let caller = sidecar.caller();
    let start = clock::now();
    for _ in 0..5 {
        assert_eq!(caller.get().await.status, 200);
    }
    assert_eq!((copied(&sidecar, "sent"), copied(&sidecar, "skipped_cap")), (2.0, 3.0));
    assert_eq!(copied(&sidecar, "failed"), 0.0, "five answers before a copy's end");
    comes_to(&sidecar, "failed", 2.0).await;
    assert!(clock::now() - start >= Duration::from_secs(1), "the route's total time");
    // The places are free again.
    caller.get().await;
    assert_eq!(copied(&sidecar, "sent"), 3.0);
    mirror.reached(3).await;
}

#[tokio::test]
async fn a_mirror_that_fails_is_counted_and_nothing_learns_of_it() {
    let service = Service::always(200).await;
    let mirror = Service::start(|seen| if seen.number % 2 == 0 { status(500) } else { Act::Drop });
    let mirror = mirror.await;
    let sidecar = Sidecar::start(&to(&service, &mirror, "max_concurrent: 100", ""));
    let caller = sidecar.caller();
    for sent in 1..=30 {
        assert_eq!(caller.get().await.reason(), None);
        comes_to(&sidecar, "failed", f64::from(sent)).await;
    }
    assert_eq!((service.hits(), mirror.hits()), (30, 30), "neither is asked twice");
    assert_eq!((sidecar.retries(), sidecar.circuit_state()), (0.0, State::Closed));
    for upstream in ["u", "m"] {
        let sample = format!("outrigger_upstream_ejections_total{{upstream=\"{upstream}\"}}");
        assert_eq!(sidecar.metric(&sample), 0.0);
    }
    let reset = "outrigger_upstream_attempts_total{upstream=\"m\",result=\"reset\"}";
    assert_eq!(sidecar.metric(reset), 15.0);
}

#[tokio::test]
async fn bodies_are_copied_up_to_a_size_and_retried_as_without() {
    let service = Service::start(|seen| status(if seen.path == "/no" { 503 } else { 200 })).await;
    let mirror = Service::always(200).await;
    let route = "retry: { buffer: 1KiB, backoff: { base: 1ms, max: 1ms } }";
    let sidecar = Sidecar::start(&to(&service, &mirror, "max_body: 16KiB", route));
    let caller = sidecar.caller();
    let put = |path: &str, bytes: usize| caller.send(with_body("PUT", path, vec![b'x'; bytes]));
    assert_eq!(put("/", 16 * 1024).await.status, 200);
    comes_to(&sidecar, "ok", 1.0).await;
    assert_eq!(mirror.seen()[0].body.len(), 16 * 1024);
    assert_eq!(put("/", 16 * 1024 + 1).await.status, 200);
    assert_eq!(copied(&sidecar, "skipped_body"), 1.0);
    assert_eq!(service.seen()[1].body.len(), 16 * 1024 + 1);
    // What is kept for the copy alone is not kept for another attempt.
    assert_eq!(put("/no", 2048).await.status, 503);
    assert_eq!((service.hits(), sidecar.suppressed("body_too_large")), (3, 1.0));
    // And where it may be tried again, one copy goes out.
    assert_eq!(put("/no", 1024).await.status, 503);
    assert_eq!(service.hits(), 6);
    comes_to(&sidecar, "ok", 3.0).await;
    assert_eq!(mirror.hits(), 3);
}

#[tokio::test]
async fn copies_and_retries_of_callers_are_not_copied() {
    let (service, mirror) = (Service::always(200).await, Service::always(200).await);
    let sidecar = Sidecar::start(&to(&service, &mirror, "", ""));
    let caller = sidecar.caller();
    caller.get_with("x-outrigger-mirror", "1").await;
    caller.get_with("x-retry-attempt", "1").await;
    assert_eq!(copied(&sidecar, "skipped_copy"), 1.0);
    assert_eq!(copied(&sidecar, "skipped_retry"), 1.0);
    assert_eq!((copied(&sidecar, "sent"), mirror.hits(), service.hits()), (0.0, 0, 2));
    // The mark travels on to whom the copy is for.
    assert_eq!(service.seen()[0].header("x-outrigger-mirror"), Some("1"));
}

#[tokio::test]
async fn neither_refused_requests_nor_trials_are_copied() {
    let code = Arc::new(AtomicU16::new(500));
    let now = Arc::clone(&code);
    let service = Service::start(move |_| status(now.load(Ordering::SeqCst))).await;
    let mirror = Service::always(200).await;
    let route = "retry: { mode: off }, circuit_breaker: { failure_ratio: 50%, min_requests: 2, \
                 open: 200ms }";
    let sidecar = Sidecar::start(&to(&service, &mirror, "", route));
    let caller = sidecar.caller();
    caller.get().await;
    caller.get().await;
    comes_to(&sidecar, "ok", 2.0).await;
    assert_eq!(caller.get().await.reason(), Some("circuit_open"));
    assert_eq!((copied(&sidecar, "sent"), copied(&sidecar, "skipped_trial")), (2.0, 0.0));
    code.store(200, Ordering::SeqCst);
    eventually("a trial", async || caller.get().await.status == 200).await;
    assert_eq!((copied(&sidecar, "sent"), copied(&sidecar, "skipped_trial")), (2.0, 1.0));
}

#[tokio::test]
async fn without_an_endpoint_there_is_no_copy() {
    let (service, server) = (Service::always(200).await, NameServer::start().await);
    server.fail("mirror.test");
    let named = "dns: { name: \"mirror.test:80\" }";
    let text = config(&service, named, "", "");
    let resolver = Some(server.resolver());
    let sidecar = Sidecar::with(Start { resolver, ..Start::new(text, None, None) });
    assert_eq!(sidecar.caller().get().await.status, 200);
    assert_eq!(copied(&sidecar, "skipped_unhealthy"), 1.0);
}
