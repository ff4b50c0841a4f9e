//! What a client may send, and in which time: 431, 413 and 408.

use crate::support::proxy::{Proxy, one_route};
use crate::support::wire::{field, fields};
use crate::support::{Wire, client, eventually, upstream};

async fn counted(proxy: &Proxy, reason: &str) {
    let name = format!("outrigger_listener_reasons_total{{listener=\"in\",reason=\"{reason}\"}}");
    eventually("the reason to be counted", || proxy.metric(&name) >= 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_is_too_large_gets_431() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").listening("limits: { header_bytes: 8KiB }").spawn().await;
    let head = |bytes: usize| {
        let filling = "x".repeat(bytes);
        format!("GET / HTTP/1.1\r\nHost: a.test\r\nX-Long: {filling}\r\n\r\n")
    };
    let mut within_limit = Wire::connect(proxy.address()).await;
    within_limit.send(head(7 * 1024)).await;
    assert!(within_limit.head().await.starts_with("HTTP/1.1 200 "));
    let mut beyond = Wire::connect(proxy.address()).await;
    beyond.send(head(9 * 1024)).await;
    let answer = beyond.head().await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(field(&answer, "x-outrigger-reason"), Some("headers_too_large"));
    let mut far_beyond = Wire::connect(proxy.address()).await;
    far_beyond.try_send(head(1024 * 1024)).await;
    assert!(far_beyond.rest().await.starts_with("HTTP/1.1 431 "));
    counted(&proxy, "headers_too_large").await;
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_of_too_many_fields_gets_431() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").listening("limits: { headers: 10 }").spawn().await;
    for (count, status) in [(10, "200"), (11, "431"), (60, "431")] {
        let mut wire = Wire::connect(proxy.address()).await;
        let more: String = (1..count).map(|n| format!("X-{n}: v\r\n")).collect();
        wire.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{more}\r\n")).await;
        let answer = wire.head().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{count}: {answer}");
    }
    counted(&proxy, "headers_too_large").await;
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http2_head_is_bounded_alike() {
    let upstream = upstream().spawn().await;
    let limits = "limits: { header_bytes: 8KiB, headers: 10 }";
    let proxy = one_route(&upstream, "").listening(limits).spawn().await;
    let client = client(&proxy).http2();
    let mut ask = crate::support::client::request("GET", "/");
    for n in 0..12 {
        ask = ask.header(&format!("x-{n}"), "v");
    }
    assert_eq!(client.send(ask).await.status(), 431);
    let long = "x".repeat(12 * 1024);
    let ask = crate::support::client::request("GET", "/").header("x-long", &long);
    assert_eq!(client.send(ask).await.status(), 431);
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_announced_body_that_is_too_large_gets_413_at_once() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").listening("limits: { body_bytes: 1KiB }").spawn().await;
    assert_eq!(client(&proxy).post("/", vec![b'x'; 1024]).await.status(), 200);
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1025\r\n\r\n").await;
    let (answer, _) = wire.message().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(field(&answer, "x-outrigger-reason"), Some("body_too_large"));
    assert_eq!(field(&answer, "connection"), Some("close"));
    wire.closed().await;
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_body_that_grows_too_large_gets_413_and_never_looks_whole() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").listening("limits: { body_bytes: 1KiB }").spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    wire.send(&chunk).await;
    wire.send(&chunk).await;
    wire.send(&chunk).await;
    let (answer, _) = wire.message().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(field(&answer, "x-outrigger-reason"), Some("body_too_large"));
    upstream.until("the cut", |tally| tally.open == 0).await;
    assert!(upstream.requests().iter().all(|seen| !seen.whole));
    // The client is to blame, not the endpoint.
    let failures = proxy.metric("outrigger_endpoint_attempts_total");
    assert_eq!(failures, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_head_gets_408_in_plain_bytes() {
    let upstream = upstream().spawn().await;
    let limits = "limits: { header_timeout: 200ms }";
    let proxy = one_route(&upstream, "").listening(limits).spawn().await;
    for start in ["G", "GET / HTTP/1.1\r\nHost: a"] {
        let mut wire = Wire::connect(proxy.address()).await;
        wire.send(start).await;
        let (answer, body) = wire.message().await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert_eq!(field(&answer, "x-outrigger-reason"), Some("request_timeout"));
        assert_eq!(fields(&answer, "connection"), ["close"]);
        let body: serde_json::Value = serde_json::from_str(&body).expect("a problem");
        assert_eq!(body["status"], 408);
        wire.closed().await;
    }
    counted(&proxy, "request_timeout").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_second_head_gets_408_too() {
    let upstream = upstream().spawn().await;
    let limits = "limits: { header_timeout: 200ms }";
    let proxy = one_route(&upstream, "").listening(limits).spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert!(wire.message().await.0.starts_with("HTTP/1.1 200 "));
    wire.send("GET /again").await;
    assert!(wire.message().await.0.starts_with("HTTP/1.1 408 "));
    wire.closed().await;
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_gets_408_and_never_looks_whole() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").listening("limits: { body_timeout: 200ms }").spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10\r\n\r\nhalf").await;
    let (answer, _) = wire.message().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(field(&answer, "x-outrigger-reason"), Some("request_timeout"));
    wire.closed().await;
    upstream.until("the cut", |tally| tally.requests == 1 && tally.open == 0).await;
    assert!(!upstream.request().whole);
    eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_refused_in_the_middle_of_an_upload_can_read_why() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "match: { path: /in }")
        .listening("limits: { body_bytes: 1KiB }")
        .spawn()
        .await;
    let body = vec![b'x'; 4 * 1024 * 1024];
    for (path, status) in [("/nowhere", 404), ("/in", 413)] {
        // More than once, since it is a race of the answer with a reset.
        for _ in 0..10 {
            let mut wire = Wire::connect(proxy.address()).await;
            let head =
                format!("POST {path} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4194304\r\n\r\n");
            wire.send(head).await;
            assert!(wire.try_send(&body).await, "the upload met a reset");
            let answer = wire.rest().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer:?}");
        }
    }
}
