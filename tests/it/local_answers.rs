//! Every answer that the proxy makes itself says why, in the language of the request.

use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use crate::support::client::{Answer, request};
use crate::support::proxy::{Builder, Proxy, one_route, proxy};
use crate::support::reply::{Feed, Reply};
use crate::support::upstream::Upstream;
use crate::support::wire::field;
use crate::support::{Wire, client, eventually, upstream};
use crate::upstream_http2::{First, after};

const YAML: &str = "upstreams: { back: { endpoints: [\"{upstream}\"] } }
routes:
  - name: r
    upstream: back
";

fn route(address: impl std::fmt::Display, rest: &str) -> Builder {
    proxy(&format!("{YAML}    {rest}\n")).with("upstream", address)
}

/// A port on which nobody listens, nor can: it is held without being listened on.
pub(crate) fn nobody() -> (socket2::Socket, std::net::SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().expect("an address");
    socket.bind(&any.into()).expect("a free port");
    let address = socket.local_addr().expect("an address").as_socket().expect("IP");
    (socket, address)
}

/// Checks an answer of HTTP and one of gRPC: `code` is gRPC's for the reason.
async fn says(proxy: &Proxy, reason: &str, status: u16, code: &str) {
    let answer = client(proxy).get("/").await;
    is_problem(&answer, reason, status);
    let ask = request("POST", "/pay.Payments/Charge")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let answer = client(proxy).http2().send(ask).await;
    assert_eq!((answer.status().as_u16(), answer.reason()), (200, Some(reason)), "{answer:?}");
    assert_eq!(answer.header("grpc-status"), Some(code), "{reason}");
    assert_eq!(answer.header("content-type"), Some("application/grpc"));
    assert!(answer.header("grpc-message").is_some_and(|message| !message.is_empty()));
    assert_eq!((answer.body.len(), answer.trailers), (0, None));
}

fn is_problem(answer: &Answer, reason: &str, status: u16) {
    assert_eq!((answer.status().as_u16(), answer.reason()), (status, Some(reason)), "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let problem = answer.json();
    assert_eq!(problem["type"], format!("urn:outrigger:reason:{reason}"));
    assert_eq!(problem["status"], status);
    assert_eq!(problem["route"], "r");
    let refused = ["rate_limited", "circuit_open", "no_endpoint", "connection_limit"];
    assert_eq!(answer.header("retry-after").is_some(), refused.contains(&reason), "{answer:?}");
    assert_eq!(answer.header("x-outrigger-shed").is_some(), refused.contains(&reason));
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_failure() {
    let (_held, address) = nobody();
    let proxy = route(address, "retry: { max_attempts: 1 }").spawn().await;
    says(&proxy, "connect_failure", 502, "14").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_timeout() {
    // It listens and never accepts: once its queue is full, nobody is answered any more.
    let (held, address) = nobody();
    held.listen(0).expect("a socket can listen");
    let mut queued = Vec::new();
    let patience = std::time::Duration::from_millis(200);
    let connect = || tokio::net::TcpStream::connect(address);
    while let Ok(connected) = tokio::time::timeout(patience, connect()).await {
        queued.push(connected.expect("it listens"));
    }
    let rest = "timeouts: { connect: 50ms }\n    retry: { max_attempts: 1 }";
    let proxy = route(address, rest).spawn().await;
    says(&proxy, "connect_timeout", 504, "14").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_reset() {
    let upstream = upstream().always(|| Reply::Reset).spawn().await;
    let proxy = route(upstream.address(), "retry: { max_attempts: 1 }").spawn().await;
    says(&proxy, "upstream_reset", 502, "14").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_closes_without_a_word() {
    let upstream = upstream().always(|| Reply::Close).spawn().await;
    let proxy = route(upstream.address(), "retry: { max_attempts: 1 }").spawn().await;
    says(&proxy, "upstream_reset", 502, "14").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn per_try_timeout() {
    let upstream = upstream().always(|| Reply::Hang).spawn().await;
    let rest = "timeouts: { per_try: 50ms }\n    retry: { max_attempts: 1 }";
    let proxy = route(upstream.address(), rest).spawn().await;
    says(&proxy, "per_try_timeout", 504, "4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deadline() {
    let upstream = upstream().always(|| Reply::Hang).spawn().await;
    let rest = "timeouts: { total: 100ms, connect: 50ms }\n    retry: { max_attempts: 1 }";
    let proxy = route(upstream.address(), rest).spawn().await;
    says(&proxy, "deadline", 504, "4").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn circuit_open() {
    let upstream = upstream().then(500).spawn().await;
    let rest = "circuit_breaker: { min_requests: 2, open: 30s }\n    retry: { max_attempts: 1 }";
    let proxy = route(upstream.address(), rest).spawn().await;
    for _ in 0..2 {
        assert_eq!(client(&proxy).get("/").await.status(), 500);
    }
    says(&proxy, "circuit_open", 503, "14").await;
    assert_eq!(upstream.hits(), 2);
    let wait = client(&proxy).get("/").await;
    let wait: u64 = wait.header("retry-after").expect("a wait").parse().expect("seconds");
    // 30 s, spread by the circuit and once more by the answer.
    assert!((20..=45).contains(&wait), "{wait}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_endpoint() {
    let upstream = upstream().then(503).spawn().await;
    let checked = "health_check: { path: /health, interval: 100ms, timeout: 100ms, \
                   unhealthy_after: 1 }, ejection: { when_all_ejected: fail_fast }";
    let proxy = route(upstream.address(), "retry: { max_attempts: 1 }")
        .and(&format!("defaults: {{ upstream: {{ {checked} }} }}"))
        .spawn()
        .await;
    let healthy = format!(
        "outrigger_endpoint_healthy{{upstream=\"back\",endpoint=\"{}\"}}",
        upstream.address()
    );
    eventually("the check to fail", || proxy.metric(&healthy) == 0.0).await;
    says(&proxy, "no_endpoint", 503, "14").await;
    let seen = upstream.requests();
    assert!(seen.iter().all(|seen| seen.uri.path() == "/health"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn upstream_refused() {
    let (address, hits) = after(First::RefuseAll).await;
    let proxy = route(address, "retry: { max_attempts: 2, backoff: { base: 1ms, max: 1ms } }")
        .and("defaults: { upstream: { protocol: http2 } }")
        .spawn()
        .await;
    says(&proxy, "upstream_refused", 502, "14").await;
    // Nothing was executed, so the POST of gRPC too was tried again.
    assert_eq!(hits.load(Ordering::SeqCst), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnel_refused() {
    let upstream = upstream().spawn().await;
    let proxy = route(upstream.address(), "").spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n").await;
    let (head, _) = wire.message().await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert_eq!(field(&head, "x-outrigger-reason"), Some("tunnel_refused"));
    assert_eq!(upstream.tally().accepted, 0);
}

/// Waits until answers of the route were cut off for this reason, and for no other.
async fn cut_off(proxy: &Proxy, reason: &str) {
    let counted = |reason: &str| {
        let name = "outrigger_route_reasons_total";
        proxy.metric(&format!("{name}{{route=\"r\",reason=\"{reason}\"}}"))
    };
    eventually(reason, || counted(reason) == 1.0).await;
    for other in ["upstream_cut", "body_deadline", "body_idle", "client_gone"] {
        assert_eq!(counted(other), f64::from(u8::from(other == reason)), "{other}");
    }
}

/// An upstream that begins an answer and leaves the rest to the test.
async fn beginning() -> (Upstream, mpsc::UnboundedReceiver<Feed>) {
    let (give, feeds) = mpsc::unbounded_channel();
    let upstream = upstream()
        .serve(move |_| {
            let (reply, feed) = crate::support::reply(200).streamed();
            feed.now("the beginning");
            give.send(feed).expect("the test takes it");
            async move { reply }
        })
        .spawn()
        .await;
    (upstream, feeds)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_was_begun_says_in_the_metrics_why_it_was_cut_off() {
    for reason in ["upstream_cut", "body_deadline", "body_idle", "client_gone"] {
        let rest = match reason {
            "body_deadline" => "timeouts: { total: 200ms, connect: 50ms }",
            "body_idle" => "timeouts: { idle: 50ms }",
            _ => "",
        };
        let (upstream, mut feeds) = beginning().await;
        let proxy = route(upstream.address(), rest).spawn().await;
        let mut wire = Wire::connect(proxy.address()).await;
        wire.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let start = wire.until("the beginning").await;
        assert!(start.starts_with("HTTP/1.1 200 "), "{reason}: {start}");
        let feed = feeds.recv().await.expect("the upstream was asked");
        match reason {
            "upstream_cut" => feed.cut().await,
            "client_gone" => {
                drop(wire);
                feed.gone().await;
                cut_off(&proxy, reason).await;
                continue;
            }
            // Held, so that it is neither cut nor whole.
            _ => feed.gone().await,
        }
        let rest = wire.rest().await;
        assert!(!rest.contains("0\r\n\r\n"), "{reason}: it looks whole: {rest:?}");
        cut_off(&proxy, reason).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rate_limited() {
    let upstream = upstream().spawn().await;
    let proxy = route(upstream.address(), "rate_limit: { rate: 1/min, burst: 1 }").spawn().await;
    assert_eq!(client(&proxy).get("/").await.status(), 200);
    says(&proxy, "rate_limited", 429, "8").await;
    let answer = client(&proxy).get("/").await;
    assert!(answer.header("ratelimit").is_some_and(|limit| limit.contains("r=0")));
    assert!(answer.header("ratelimit-policy").is_some());
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_limit() {
    let upstream = upstream().always(|| Reply::Hang).spawn().await;
    let proxy = route(upstream.address(), "timeouts: { connect: 50ms }")
        .and("defaults: { upstream: { pool: { max_connections: 1 } } }")
        .spawn()
        .await;
    let mut first = client(&proxy).connect().await;
    let hanging = tokio::spawn(first.start(request("GET", "/")).await);
    upstream.until("the first", |tally| tally.requests == 1).await;
    says(&proxy, "connection_limit", 503, "14").await;
    hanging.abort();
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_answer_of_the_upstream_goes_before_our_own() {
    let upstream = upstream()
        .always(|| crate::support::reply(503).header("x-mine", "1").body("not now"))
        .spawn()
        .await;
    let proxy = one_route(&upstream, "retry: { backoff: { base: 1ms, max: 1ms } }").spawn().await;
    let answer = client(&proxy).get("/").await;
    assert_eq!((answer.status().as_u16(), answer.text()), (503, "not now"));
    assert_eq!((answer.header("x-mine"), answer.reason()), (Some("1"), None));
    assert_eq!(upstream.hits(), 3);
}
