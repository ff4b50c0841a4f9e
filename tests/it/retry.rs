//! What is tried again, and what is not: conditions, methods, bodies, endpoints, and the wire.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::PATIENCE;
use crate::support::caller::{request, with_body};
use crate::support::reply::Reply;
use crate::support::service::{Act, Seen, Service, status};
use crate::support::sidecar::{Sidecar, config, config_to, eventually};
use crate::support::upstream;

/// Retries without waits worth naming, and nothing else that could interfere.
const QUICK: &str = "circuit_breaker: { mode: off }, \
    retry: { backoff: { base: 1ms, max: 1ms }";

/// A first attempt that ends so, and a second that is good; returns what came of it.
async fn second_is_good(on: &str, rest: &str, first: Act) -> (u16, usize, f64) {
    let act = move |seen: &Seen| if seen.number == 0 { first.clone() } else { status(200) };
    let service = Service::start(act).await;
    let route = format!("{QUICK}, {on} }}, {rest}");
    let sidecar = Sidecar::start(&config(&[&service], "", &route));
    let got = sidecar.caller().get().await;
    (got.status, service.hits(), sidecar.retries())
}

#[tokio::test]
async fn each_condition_is_worth_another_attempt() {
    let header = vec![("x-again", "1".to_owned())];
    let late = "timeouts: { per_try: 50ms }";
    let cases = [
        ("on: [reset]", "", Act::Drop),
        ("on: [\"502\"]", "", status(502)),
        ("on: [\"503\"]", "", status(503)),
        ("on: [\"504\"]", "", status(504)),
        ("on: [5xx]", "", status(599)),
        ("on: [\"418\"]", "", status(418)),
        ("on: [per_try_timeout]", late, Act::Hang),
        ("on: [timeout]", late, Act::Hang),
        ("on: [\"header:X-Again\"]", "", Act::Answer(200, header, "")),
    ];
    for (on, rest, first) in cases {
        let outcome = second_is_good(on, rest, first.clone()).await;
        assert_eq!(outcome, (200, 2, 1.0), "{on} {first:?}");
    }
}

#[tokio::test]
async fn what_is_not_named_is_not_tried_again() {
    let late = "timeouts: { per_try: 50ms }";
    let cases = [
        ("on: [\"503\"]", "", status(500), 500),
        ("on: [\"503\"]", "", Act::Drop, 502),
        ("on: [5xx, reset]", late, Act::Hang, 504),
        ("mode: off", "", status(503), 503),
        ("max_attempts: 1", "", status(503), 503),
    ];
    for (on, rest, first, expected) in cases {
        let outcome = second_is_good(on, rest, first.clone()).await;
        assert_eq!(outcome, (expected, 1, 0.0), "{on} {first:?}");
    }
}

#[tokio::test]
async fn a_call_that_grpc_reports_unavailable_in_its_head_is_tried_again() {
    let service = Service::start(|seen| {
        let code = if seen.number == 0 { "14" } else { "0" };
        let fields =
            vec![("content-type", "application/grpc".to_owned()), ("grpc-status", code.to_owned())];
        Act::Answer(200, fields, "")
    })
    .await;
    let route = format!("{QUICK}, unsafe_methods: always }}");
    let sidecar = Sidecar::start(&config(&[&service], "", &route));
    let mut call = request("POST", "/pay.Payments/Charge");
    call.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let got = sidecar.caller().send(call).await;
    assert_eq!((got.status, got.header("grpc-status")), (200, Some("0")));
    assert_eq!(service.hits(), 2);
    let second = &service.seen()[1];
    assert_eq!(second.header("grpc-previous-rpc-attempts"), Some("1"));
}

#[tokio::test]
async fn a_stream_that_the_peer_refused_is_tried_again_whatever_its_method() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let peer = tokio::spawn(async move {
        let mut streams = 0;
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                streams += 1;
                if streams == 1 {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    respond.send_response(http::Response::new(()), true).unwrap();
                }
            }
        }
    });
    let route = format!("{QUICK} }}");
    let sidecar = Sidecar::start(&config_to(&[address], "protocol: http2", &route));
    let got = sidecar.caller().send(with_body("POST", "/", "charge me")).await;
    assert_eq!((got.status, sidecar.retries()), (200, 1.0));
    peer.abort();
}

/// An address of loopback where nobody listens: its port was just given back.
pub(crate) async fn nobody() -> SocketAddr {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_post_is_tried_again_when_no_connection_was_made() {
    let (service, nobody) = (Service::always(200).await, nobody().await);
    let upstream = "load_balancing: { policy: round_robin }, ejection: { mode: off }";
    let route = format!("{QUICK} }}");
    let to = config_to(&[nobody, service.address], upstream, &route);
    let sidecar = Sidecar::start(&to);
    let caller = sidecar.caller();
    for _ in 0..4 {
        let got = caller.send(with_body("POST", "/", "charge me")).await;
        assert_eq!(got.status, 200);
    }
    assert!(sidecar.retries() >= 2.0, "every other first attempt went nowhere");
    assert!(service.seen().iter().all(|seen| seen.body == "charge me"));
    assert_eq!(service.hits(), 4);
}

#[tokio::test]
async fn a_post_that_was_sent_is_not_tried_again() {
    for (first, expected) in [(status(503), 503), (Act::Drop, 502)] {
        let service = Service::start(move |_| first.clone()).await;
        let sidecar = Sidecar::start(&config(&[&service], "", &format!("{QUICK} }}")));
        let got = sidecar.caller().send(with_body("POST", "/", "charge me")).await;
        assert_eq!((got.status, service.hits()), (expected, 1));
        assert_eq!(sidecar.suppressed("method_unsafe"), 1.0);
    }
}

#[tokio::test]
async fn the_settings_decide_over_unsafe_methods() {
    let always = Service::start(|s| status(if s.number == 0 { 503 } else { 200 })).await;
    let route = format!("{QUICK}, unsafe_methods: always }}");
    let sidecar = Sidecar::start(&config(&[&always], "", &route));
    assert_eq!(sidecar.caller().send(with_body("PATCH", "/", "x")).await.status, 200);
    let route = format!("{QUICK}, unsafe_methods: never }}");
    let sidecar = Sidecar::start(&config_to(&[nobody().await], "", &route));
    assert_eq!(sidecar.caller().send(with_body("PATCH", "/", "x")).await.status, 502);
    assert_eq!(sidecar.suppressed("method_unsafe"), 1.0);
}

#[tokio::test]
async fn the_methods_that_are_repeatable_are_repeated() {
    for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"] {
        let service = Service::start(|s| status(if s.number == 0 { 503 } else { 200 })).await;
        let sidecar = Sidecar::start(&config(&[&service], "", &format!("{QUICK} }}")));
        let got = sidecar.caller().send(request(method, "/")).await;
        assert_eq!((got.status, service.hits()), (200, 2), "{method}");
        assert!(service.seen().iter().all(|seen| seen.method == method));
    }
}

#[tokio::test]
async fn a_pooled_connection_that_died_is_replaced_inside_the_attempt() {
    let service = Service::start(|_| status(200)).await;
    let route = format!("{QUICK}, max_attempts: 1 }}");
    let sidecar = Sidecar::start(&config(&[&service], "", &route));
    let caller = sidecar.caller();
    assert_eq!(caller.get().await.status, 200);
    for round in 1..20 {
        // Closed at their end; the proxy learns of it together with the request, or before.
        service.hang_up();
        service.open(0).await;
        let got = caller.send(with_body("PUT", "/", "again")).await;
        assert_eq!((got.status, service.hits()), (200, 1 + round));
        assert_eq!(service.connections(), 1 + round);
    }
    assert_eq!(sidecar.retries(), 0.0);
}

#[tokio::test]
async fn a_body_is_sent_again_whole() {
    let service = Service::start(|s| status(if s.number < 2 { 503 } else { 200 })).await;
    let route = format!("{QUICK}, buffer: 16KiB }}");
    let sidecar = Sidecar::start(&config(&[&service], "", &route));
    let body: Vec<u8> = (0..16 * 1024).map(|at| (at % 251) as u8).collect();
    let got = sidecar.caller().send(with_body("PUT", "/", body.clone())).await;
    assert_eq!((got.status, service.hits()), (200, 3));
    assert!(service.seen().iter().all(|seen| seen.body == body));
}

#[tokio::test]
async fn a_body_above_the_buffer_is_sent_once() {
    let service = Service::always(503).await;
    let route = format!("{QUICK}, buffer: 16KiB }}");
    let sidecar = Sidecar::start(&config(&[&service], "", &route));
    let got = sidecar.caller().send(with_body("PUT", "/", vec![b'x'; 16 * 1024 + 1])).await;
    assert_eq!((got.status, service.hits()), (503, 1));
    assert_eq!(service.seen()[0].body.len(), 16 * 1024 + 1);
    assert_eq!(sidecar.suppressed("body_too_large"), 1.0);
}

#[tokio::test]
async fn another_endpoint_is_chosen() {
    let bad = Service::always(503).await;
    let good = Service::always(200).await;
    let upstream = "load_balancing: { policy: round_robin }, ejection: { mode: off }, \
                    retry_budget: { min_per_second: 100 }";
    let sidecar = Sidecar::start(&config(&[&bad, &good], upstream, &format!("{QUICK} }}")));
    let caller = sidecar.caller();
    for _ in 0..20 {
        assert_eq!(caller.get().await.status, 200);
    }
    // Each request tries the bad one at most once.
    assert!((1..=20).contains(&bad.hits()), "{}", bad.hits());
    assert_eq!(good.hits(), 20);
    assert_eq!(sidecar.retries(), bad.hits() as f64);
}

#[tokio::test]
async fn each_attempt_says_how_often_the_request_was_sent_before() {
    let service = Service::always(503).await;
    let sidecar = Sidecar::start(&config(&[&service], "", &format!("{QUICK} }}")));
    assert_eq!(sidecar.caller().get().await.status, 503);
    let said: Vec<_> = service.seen();
    let said: Vec<_> = said.iter().map(|seen| seen.header("x-retry-attempt")).collect();
    assert_eq!(said, [None, Some("1"), Some("2")]);
    assert_eq!(sidecar.suppressed("attempts"), 1.0);
}

#[tokio::test]
async fn a_retry_of_the_callers_gets_half_of_ours_and_a_second_none() {
    for (inbound, attempts, last) in [("0", 5, "4"), ("1", 3, "3"), ("2", 1, "2")] {
        let service = Service::always(503).await;
        let route = format!("{QUICK}, max_attempts: 5 }}");
        let upstream = "retry_budget: { min_per_second: 100 }";
        let sidecar = Sidecar::start(&config(&[&service], upstream, &route));
        let got = sidecar.caller().get_with("x-retry-attempt", inbound).await;
        assert_eq!((got.status, service.hits()), (503, attempts), "{inbound}");
        assert_eq!(service.seen()[attempts - 1].header("x-retry-attempt"), Some(last));
        let why = if inbound == "0" { "attempts" } else { "amplification" };
        assert_eq!(sidecar.suppressed(why), 1.0, "{inbound}");
    }
}

#[tokio::test]
async fn the_last_real_answer_is_given_when_the_last_attempt_brought_none() {
    let service = Service::start(|seen| match seen.number {
        0 => Act::Answer(503, vec![("x-real", "yes".to_owned())], "busy, says the upstream"),
        _ => Act::Drop,
    })
    .await;
    let sidecar = Sidecar::start(&config(&[&service], "", &format!("{QUICK} }}")));
    let got = sidecar.caller().get().await;
    assert_eq!((got.status, got.header("x-real"), got.reason()), (503, Some("yes"), None));
    assert_eq!(got.body, "busy, says the upstream");
    assert_eq!(service.hits(), 3);
}

#[tokio::test]
async fn attempts_are_not_made_for_a_client_that_left() {
    static ATTEMPTS: AtomicUsize = AtomicUsize::new(0);
    static GONE: AtomicBool = AtomicBool::new(false);
    let service = Service::start(|seen| {
        if seen.path == "/" {
            assert!(!GONE.load(Ordering::SeqCst), "an attempt for nobody");
            ATTEMPTS.fetch_add(1, Ordering::SeqCst);
            return status(503);
        }
        status(200)
    })
    .await;
    // The wait before the retry is the peer's, and long.
    let route = "retry: { backoff: { base: 60s, max: 60s, jitter: equal } }, \
                 timeouts: { total: 10m }";
    let sidecar = Sidecar::start(&config(&[&service], "", route));
    let left = {
        let caller = sidecar.caller();
        tokio::spawn(async move { caller.get().await })
    };
    service.reached(1).await;
    left.abort();
    GONE.store(true, Ordering::SeqCst);
    let gone = "outrigger_route_reasons_total{route=\"r\",reason=\"client_gone\"}";
    tokio::time::timeout(PATIENCE, async {
        while sidecar.metric(gone) < 1.0 {
            assert_eq!(sidecar.caller().send(request("GET", "/other")).await.status, 200);
        }
    })
    .await
    .expect("the request ends with its client");
    assert_eq!(ATTEMPTS.load(Ordering::SeqCst), 1);
    let in_flight = "outrigger_route_requests_in_flight{route=\"r\"}";
    assert_eq!(sidecar.metric(in_flight), 0.0);
}

#[tokio::test]
async fn observing_sends_once_and_counts() {
    let service = Service::always(503).await;
    let sidecar = Sidecar::start(&config(&[&service], "", "retry: { mode: observe }"));
    assert_eq!(sidecar.caller().get().await.status, 503);
    assert_eq!((service.hits(), sidecar.would("retry"), sidecar.retries()), (1, 1.0, 0.0));
}

#[tokio::test]
async fn waits_lie_between_attempts() {
    let service = Service::always(503).await;
    let route = "retry: { backoff: { base: 40ms, max: 80ms, jitter: equal } }";
    let sidecar = Sidecar::start(&config(&[&service], "", route));
    sidecar.caller().get().await;
    let times: Vec<_> = service.seen().iter().map(|seen| seen.at).collect();
    // With this jitter half of each wait is certain; the second is twice the first.
    assert!(times[1] - times[0] >= Duration::from_millis(20));
    assert!(times[2] - times[1] >= Duration::from_millis(40));
}

#[tokio::test]
async fn an_answer_that_is_tried_again_gives_its_connection_back() {
    let act = |seen: &Seen| match seen.number % 2 {
        0 => Act::Answer(503, Vec::new(), "not now"),
        _ => status(200),
    };
    let service = Service::start(act).await;
    let budget = "retry_budget: { min_per_second: 100 }";
    let sidecar = Sidecar::start(&config(&[&service], budget, &format!("{QUICK} }}")));
    let caller = sidecar.caller();
    for _ in 0..10 {
        assert_eq!(caller.get().await.status, 200);
    }
    assert_eq!(service.hits(), 20);
    // One holds the answer that may yet be wanted while the other carries the next attempt.
    let opened = sidecar.metric("outrigger_upstream_connections_opened_total{upstream=\"u\"}");
    assert!((1.0..=3.0).contains(&opened), "{opened} connections for 20 attempts");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_bodies_that_are_kept_have_one_bound() {
    // The first request to each path fails.
    let paths = Arc::new(Mutex::new(HashSet::new()));
    let service = upstream().serve(move |mut arrival| {
        let first = paths.lock().unwrap().insert(arrival.target.clone());
        async move {
            arrival.read().await;
            match arrival.target.as_str() {
                "/held" => Reply::Hang,
                _ if first => 503.into(),
                _ => 200.into(),
            }
        }
    });
    let service = service.spawn().await;
    let route = format!("{QUICK}, buffer: 16MiB }}");
    let sidecar = Sidecar::start(&config_to(&[service.address()], "", &route));
    let caller = sidecar.caller();
    let send = |path, mib: usize| caller.send(with_body("PUT", path, vec![0; mib << 20]));
    assert_eq!(send("/a", 12).await.status, 200, "alone it is sent again");
    let other = sidecar.caller();
    let held = with_body("PUT", "/held", vec![0; 12 << 20]);
    let held = tokio::spawn(async move { other.try_send(held).await });
    let kept = || sidecar.app().proxy.kept.get();
    eventually("it is kept", async || kept() == 12 << 20).await;
    assert_eq!(send("/b", 6).await.status, 503, "there is no room to keep it");
    assert_eq!(sidecar.suppressed("body_too_large"), 1.0);
    assert_eq!(send("/c", 3).await.status, 200, "and for this there is");
    held.abort();
    eventually("what was kept is free", async || kept() == 0).await;
    assert_eq!(send("/d", 6).await.status, 200);
}
