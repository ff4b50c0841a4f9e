//! How long a connection lives, how many there are, and how many requests one carries.

use std::time::Duration;

use crate::support::client::request;
use crate::support::proxy::one_route;
use crate::support::wire::field;
use crate::support::{Wire, client, eventually, upstream};

const REQUEST: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_without_a_word() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").listening("limits: { idle_timeout: 200ms }").spawn().await;
    let mut silent = Wire::connect(proxy.address()).await;
    silent.closed().await;
    let mut used = Wire::connect(proxy.address()).await;
    used.send(REQUEST).await;
    assert!(used.message().await.0.starts_with("HTTP/1.1 200 "));
    used.closed().await;
    let http2 = client(&proxy).http2().connect().await;
    http2.closed().await;
    let open = "outrigger_listener_connections{listener=\"in\"}";
    eventually("no connection", || proxy.metric(open) == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_upstream_does_not_make_a_connection_idle() {
    let upstream = upstream()
        .serve(|mut arrival| async move {
            arrival.read().await;
            let _ = tokio::time::timeout(Duration::from_millis(600), std::future::pending::<()>())
                .await;
            200.into()
        })
        .spawn()
        .await;
    let limits = "limits: { idle_timeout: 200ms, header_timeout: 200ms, body_timeout: 200ms }";
    let proxy = one_route(&upstream, "").listening(limits).spawn().await;
    assert_eq!(client(&proxy).get("/").await.status(), 200);
    assert_eq!(client(&proxy).http2().post("/", "body").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_connection_limit_a_client_waits_and_is_then_served() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").listening("limits: { max_connections: 1 }").spawn().await;
    let mut first = Wire::connect(proxy.address()).await;
    first.send(REQUEST).await;
    first.message().await;
    let mut second = Wire::connect(proxy.address()).await;
    second.send(REQUEST).await;
    assert!(second.silent(Duration::from_millis(200)).await, "the second was served beside");
    assert_eq!(upstream.hits(), 1);
    drop(first);
    assert!(second.message().await.0.starts_with("HTTP/1.1 200 "));
    assert_eq!(proxy.metric("outrigger_listener_connections_accepted_total{listener=\"in\"}"), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_request_of_a_connection_says_so() {
    let upstream = upstream().spawn().await;
    let limits = "limits: { max_requests_per_connection: 2 }";
    let proxy = one_route(&upstream, "match: { path_prefix: /in }").listening(limits).spawn().await;
    // An answer of the upstream's, and one of our own.
    for path in ["/in", "/nowhere"] {
        let mut wire = Wire::connect(proxy.address()).await;
        let ask = format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n\r\n");
        wire.send(&ask).await;
        assert_eq!(field(&wire.message().await.0, "connection"), None);
        wire.send(&ask).await;
        assert_eq!(field(&wire.message().await.0, "connection"), Some("close"), "{path}");
        wire.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_request_of_an_http2_connection_ends_it() {
    let upstream = upstream().spawn().await;
    let limits = "limits: { max_requests_per_connection: 2 }";
    let proxy = one_route(&upstream, "match: { path_prefix: /in }").listening(limits).spawn().await;
    for path in ["/in", "/nowhere"] {
        let mut connection = client(&proxy).http2().connect().await;
        let first = connection.send(request("GET", path)).await;
        assert_eq!(first.header("connection"), None);
        connection.send(request("GET", path)).await;
        connection.closed().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_their_order() {
    let upstream = upstream()
        .serve(|arrival| async move { crate::support::reply(200).body(arrival.target) })
        .spawn()
        .await;
    let proxy = one_route(&upstream, "").spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    let all: String =
        (0..20).map(|n| format!("GET /{n} HTTP/1.1\r\nHost: a.test\r\n\r\n")).collect();
    wire.send(all).await;
    for n in 0..20 {
        assert_eq!(wire.message().await.1, format!("/{n}"));
    }
}
