//! CONNECT: who may open a tunnel to where, and what becomes of those who may not.

use crate::local_answers::nobody;
use crate::support::client::{client_at, request};
use crate::support::proxy::{Proxy, proxy};
use crate::support::upstream::{RawUpstream, Upstream};
use crate::support::wire::{Wire, field};
use crate::support::{eventually, raw_upstream, upstream, within};
use crate::tunnels::{all_is_free, connect, connected, connecting, counted, ends, open};

/// A server that sends back what it gets.
async fn echoing() -> RawUpstream {
    raw_upstream(|mut wire| async move {
        while let Some(bytes) = wire.try_piece().await {
            if !wire.try_send(bytes).await {
                return;
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_leads_to_the_routes_upstream() {
    let raw = echoing().await;
    let proxy = connecting(raw.address(), "").spawn().await;
    let mut wire = connected(&proxy).await;
    assert_eq!((open(&proxy), proxy.in_flight()), (1.0, 2.0));
    // Nothing of it is read as HTTP.
    let word = "GET / HTTP/1.1\r\n\r\n\0\r\n";
    wire.send(word).await;
    assert_eq!(wire.bytes(word.len()).await, word.as_bytes());
    wire.end().await;
    wire.closed().await;
    drop(wire);
    all_is_free(&proxy).await;
    assert_eq!(ends(&proxy, "closed"), 1.0);
    let class = "outrigger_route_requests_total{route=\"r\",class=\"2xx\"}";
    assert_eq!(proxy.metric(class), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn older_clients_name_no_host_and_send_early() {
    let raw = echoing().await;
    let proxy = connecting(raw.address(), "").spawn().await;
    for head in [
        "CONNECT a.test:443 HTTP/1.0\r\n\r\n",
        "CONNECT A.TEST:443 HTTP/1.1\r\nHost: other.test\r\nProxy-Connection: keep-alive\r\n\
         Proxy-Authorization: Basic eDp5\r\nContent-Length: 0\r\n\r\n",
    ] {
        let mut wire = Wire::connect(proxy.address()).await;
        wire.send(format!("{head}early")).await;
        let answer = wire.head().await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert_eq!(wire.bytes(5).await, b"early");
    }
    all_is_free(&proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_first_is_heard() {
    let raw = raw_upstream(|mut wire| async move {
        wire.send("220 ready\r\n").await;
        wire.end().await;
        assert_eq!(wire.rest().await, "QUIT\r\n");
    })
    .await;
    let proxy = connecting(raw.address(), "").spawn().await;
    let mut wire = connected(&proxy).await;
    assert_eq!(wire.rest().await, "220 ready\r\n");
    wire.send("QUIT\r\n").await;
    drop(wire);
    all_is_free(&proxy).await;
    assert_eq!(ends(&proxy, "closed"), 1.0);
}

/// Asks for a tunnel with a request behind it that must not be served, and gives the answer's head.
async fn refused(proxy: &Proxy, to: &str, upstream: &Upstream) -> String {
    let mut wire = Wire::connect(proxy.address()).await;
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    wire.send(format!("{}{smuggled}", connect(to))).await;
    let (head, body) = wire.message().await;
    assert_eq!(field(&head, "connection"), Some("close"), "{head}");
    assert_eq!(wire.rest().await, "", "what followed was answered");
    assert_eq!(upstream.tally().accepted, 0, "{to}: somebody was connected to");
    format!("{head}{body}")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_allows_a_tunnel_unless_it_names_connect() {
    let upstream = upstream().spawn().await;
    let scene = |matches: &str| {
        proxy(
            "upstreams: { back: { endpoints: [\"{upstream}\"] } }
routes:
  - { name: all, upstream: back }
  - { name: r, match: {match}, upstream: back }
",
        )
        .to(&upstream)
        .replaced("{match}", matches)
    };
    for (matches, to) in [
        ("{ host: a.test }", "a.test:443"),
        ("{ methods: [GET, POST] }", "a.test:443"),
        ("{ methods: [CONNECT], host: a.test }", "b.test:443"),
        ("{ methods: [CONNECT], host: a.test }", "sub.a.test:443"),
        ("{ methods: [CONNECT], host: \"*.a.test\" }", "a.test:443"),
        ("{ methods: [CONNECT], host: \"a.test:443\" }", "a.test:22"),
        ("{ methods: [CONNECT], host: a.test, path_prefix: /x }", "a.test:443"),
        ("{ methods: [CONNECT], host: a.test }", "127.0.0.1:443"),
        ("{ methods: [CONNECT], host: a.test }", "[::1]:443"),
    ] {
        let proxy = scene(matches).spawn().await;
        let answer = refused(&proxy, to, &upstream).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{matches} {to}: {answer}");
        assert!(answer.contains("x-outrigger-reason: tunnel_refused\r\n"), "{answer}");
        assert!(answer.contains("urn:outrigger:reason:tunnel_refused"), "{answer}");
        let reason = "outrigger_listener_reasons_total{listener=\"in\",reason=\"tunnel_refused\"}";
        eventually("the refusal to count", || counted(&proxy, reason) == 1.0).await;
    }
    let off = scene("{ methods: [CONNECT] }").listening("forward_proxy: false").spawn().await;
    let answer = refused(&off, "a.test:443", &upstream).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("forward_proxy"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_for_tunnels_takes_nothing_else() {
    let upstream = upstream().spawn().await;
    let proxy = connecting(upstream.address(), "").spawn().await;
    let answer = client_at(proxy.address()).send(request("GET", "/")).await;
    assert_eq!((answer.status().as_u16(), answer.reason()), (404, Some("no_route")));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_http2_connect_is_not_served() {
    let upstream = upstream().spawn().await;
    let proxy = connecting(upstream.address(), "").spawn().await;
    let stream = tokio::net::TcpStream::connect(proxy.address()).await.expect("it listens");
    let (sender, driver) = h2::client::handshake(stream).await.expect("HTTP/2");
    let driving = tokio::spawn(driver);
    let mut sender = sender.ready().await.expect("ready");
    let ask = http::Request::connect("a.test:443").body(()).expect("a request");
    let (answer, _body) = sender.send_request(ask, false).expect("sent");
    let answer = within("an answer", answer).await.expect("an answer");
    assert_eq!(answer.status(), 501);
    assert_eq!(answer.headers()["x-outrigger-reason"], "not_supported");
    assert_eq!(upstream.tally().accepted, 0);
    driving.abort();
}

const QUICK: &str = "backoff: { base: 1ms, max: 1ms }";

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_fails_is_tried_again_and_counts() {
    let (_held, address) = nobody();
    let proxy = connecting(address, &format!("retry: {{ max_attempts: 3, {QUICK} }}"))
        .and("defaults: { upstream: { ejection: { mode: off } } }")
        .spawn()
        .await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send(connect("a.test:443")).await;
    let (head, _) = wire.message().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    assert_eq!(field(&head, "x-outrigger-reason"), Some("connect_failure"));
    wire.closed().await;
    assert_eq!(proxy.metric("outrigger_route_retries_total{route=\"r\"}"), 2.0);
    let failed = "outrigger_upstream_attempts_total{upstream=\"back\",result=\"connect_failure\"}";
    assert_eq!(proxy.metric(failed), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_endpoint_stands_in_for_one_that_is_gone() {
    let raw = echoing().await;
    let (_held, gone) = nobody();
    let both = format!("{gone}\", \"{}", raw.address());
    let yaml = "upstreams:\n  back: { endpoints: [\"{both}\"], \
                load_balancing: { policy: round_robin } }\n\
                routes:\n  - name: r\n    match: { methods: [CONNECT], host: a.test }\n    \
                upstream: back\n    retry: { backoff: { base: 1ms, max: 1ms } }\n";
    let proxy = proxy(yaml).with("both", both).spawn().await;
    for _ in 0..4 {
        let mut wire = connected(&proxy).await;
        wire.send("x").await;
        assert_eq!(wire.bytes(1).await, b"x");
    }
    assert!(proxy.metric("outrigger_route_retries_total{route=\"r\"}") > 0.0);
    all_is_free(&proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn circuit_and_rate_limit_hold_for_tunnels_too() {
    let circuit = "retry: { max_attempts: 1 }\ncircuit_breaker: { min_requests: 2, window: 1m, \
                   open: 30s }";
    let (_held, gone) = nobody();
    let proxy = connecting(gone, circuit)
        .and("defaults: { upstream: { ejection: { mode: off } } }")
        .spawn()
        .await;
    for expected in ["connect_failure", "connect_failure", "circuit_open"] {
        let mut wire = Wire::connect(proxy.address()).await;
        wire.send(connect("a.test:443")).await;
        let (head, _) = wire.message().await;
        assert_eq!(field(&head, "x-outrigger-reason"), Some(expected), "{head}");
    }
    let raw = echoing().await;
    let limit = "rate_limit: { rate: 1/min, burst: 1 }";
    let proxy = connecting(raw.address(), limit).spawn().await;
    drop(connected(&proxy).await);
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send(connect("a.test:443")).await;
    let (head, _) = wire.message().await;
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
}

/// A fixed answer in place of a tunnel would be taken for the tunnel itself.
#[tokio::test(flavor = "multi_thread")]
async fn no_fallback_answers_for_a_tunnel() {
    let rest = "retry: { max_attempts: 1 }\n\
                fallback: [{ respond: { status: 200, body: \"not a tunnel\" } }]";
    let (_held, gone) = nobody();
    let proxy = connecting(gone, rest).spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send(connect("a.test:443")).await;
    let (head, _) = wire.message().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_before_the_answer_leaves_nothing_behind() {
    // A server whose queue of connections is full, so that connecting takes its time.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let listener = listener.expect("a socket");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    listener.bind(&any.into()).expect("a free port");
    listener.listen(0).expect("it listens");
    let address = listener.local_addr().expect("an address").as_socket().expect("of IP");
    let mut fillers = Vec::new();
    let patience = std::time::Duration::from_millis(200);
    while let Ok(Ok(stream)) =
        tokio::time::timeout(patience, tokio::net::TcpStream::connect(address)).await
    {
        fillers.push(stream);
    }
    let times = "timeouts: { total: 60s, connect: 30s }\nretry: { max_attempts: 1 }";
    let proxy = connecting(address, times).spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send(connect("a.test:443")).await;
    eventually("the attempt", || proxy.in_flight() == 2.0).await;
    drop(wire);
    eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
    let connections = "outrigger_upstream_connections{upstream=\"back\"}";
    eventually("no place", || proxy.metric(connections) == 0.0).await;
}
