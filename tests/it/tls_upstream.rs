//! TLS towards upstreams: whom we believe, what we show, and what becomes of a request when not.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::support::client::request;
use crate::support::proxy::{Builder, Proxy, proxy};
use crate::support::secure::{Authority, Front, front};
use crate::support::upstream::Upstream;
use crate::support::{client, eventually, reply, upstream};

/// An authority's certificate in a file, and a proxy of upstreams that it vouches for.
struct Trust {
    authority: Authority,
    folder: TempDir,
}

impl Trust {
    fn new() -> Self {
        let (authority, folder) = (Authority::new("ours"), tempfile::tempdir().unwrap());
        std::fs::write(folder.path().join("ca.pem"), &authority.pem).unwrap();
        Self { authority, folder }
    }

    /// A proxy of one route to this address; `{ca}` is the authority's file.
    fn to(&self, address: SocketAddr, upstream: &str, route: &str) -> Builder {
        let ca = self.folder.path().join("ca.pem");
        let upstream = upstream.replace("{ca}", &ca.display().to_string());
        let yaml = format!(
            "upstreams: {{ back: {{ {upstream}, endpoints: [\"{{upstream}}\"] }} }}\n\
             routes: [{{ name: r, upstream: back, {route} }}]\n"
        );
        proxy(&yaml).with("upstream", address)
    }
}

fn handshakes(proxy: &Proxy, result: &str) -> f64 {
    let labels = format!("{{upstream=\"back\",result=\"{result}\"}}");
    proxy.metric(&format!("outrigger_upstream_tls_handshakes_total{labels}"))
}

async fn echo() -> Upstream {
    let echo = |mut arrival: crate::support::upstream::Arrival| async move {
        let body = arrival.read().await;
        reply(200).body(body)
    };
    upstream().serve(echo).spawn().await
}

async fn plain_front(behind: &Upstream, trust: &Trust, names: &[&str]) -> Front {
    front(behind.address(), &trust.authority.issue(names), &["http/1.1"], None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_any_size_pass_both_ways() {
    let (trust, behind) = (Trust::new(), echo().await);
    let front = plain_front(&behind, &trust, &["127.0.0.1"]).await;
    let proxy = trust.to(front.address, "tls: { ca: {ca} }", "").spawn().await;
    for size in [0, 1, 16 * 1024, 70_000, 3 << 20] {
        let body = "x".repeat(size);
        let answer = client(&proxy).post("/", body.clone()).await;
        assert_eq!((answer.status().as_u16(), answer.body.len()), (200, size));
        assert!(answer.body == body.as_bytes());
    }
    // Without a length, piece by piece, each of which goes out at once.
    let (ask, feed) = request("POST", "/").streamed();
    feed.now("one ");
    feed.now("two");
    drop(feed);
    assert_eq!(client(&proxy).send(ask).await.text(), "one two");
    // One connection each worker, used again and again.
    assert!(handshakes(&proxy, "full") + handshakes(&proxy, "resumed") <= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_believed_is_not_sent_to_and_says_why() {
    let trust = Trust::new();
    let behind = upstream().spawn().await;
    let theirs = Authority::new("theirs");
    for (shows, tls, result) in [
        (trust.authority.issue(&["other.test"]), "ca: {ca}", "wrong_name"),
        (trust.authority.issue(&["127.0.0.1"]), "ca: {ca}, server_name: a.test", "wrong_name"),
        (trust.authority.issue_until(&["127.0.0.1"], 2020), "ca: {ca}", "expired_certificate"),
        (theirs.issue(&["127.0.0.1"]), "ca: {ca}", "unknown_issuer"),
        // The public authorities do not vouch for it either.
        (trust.authority.issue(&["127.0.0.1"]), "", "unknown_issuer"),
    ] {
        let front = front(behind.address(), &shows, &[], None).await;
        let upstream = format!("tls: {{ {tls} }}");
        let proxy = trust.to(front.address, &upstream, "").spawn().await;
        // A method that is not safe to repeat is tried again all the same: nothing was sent.
        let answer = client(&proxy).post("/", "pay").await;
        assert_eq!((answer.status().as_u16(), answer.reason()), (502, Some("tls_failure")));
        assert_eq!(handshakes(&proxy, result), 3.0, "{result}\n{}", proxy.metrics());
    }
    assert_eq!(behind.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_in_the_clear_is_no_endpoint_under_tls() {
    let (trust, behind) = (Trust::new(), upstream().spawn().await);
    let proxy = trust.to(behind.address(), "tls: { ca: {ca} }", "").spawn().await;
    assert_eq!(client(&proxy).get("/").await.reason(), Some("tls_failure"));
    assert_eq!(handshakes(&proxy, "not_tls"), 3.0, "{}", proxy.metrics());
    assert_eq!(behind.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_is_that_of_the_endpoint_or_of_the_settings() {
    let (trust, behind) = (Trust::new(), upstream().spawn().await);
    let named = plain_front(&behind, &trust, &["localhost", "pay.internal"]).await;
    let port = named.address.port();
    let to = |endpoint: &str, tls: &str| {
        let text = trust.to(named.address, &format!("tls: {{ ca: {{ca}}, {tls} }}"), "");
        let address = format!("\"{}\"", named.address);
        text.replaced(&address, &format!("\"{endpoint}:{port}\""))
    };
    let proxy = to("localhost", "").spawn().await;
    assert_eq!(client(&proxy).get("/").await.status(), 200);
    let proxy = to("127.0.0.1", "server_name: pay.internal").spawn().await;
    assert_eq!(client(&proxy).get("/").await.status(), 200);
    let proxy = to("127.0.0.1", "").spawn().await;
    assert_eq!(client(&proxy).get("/").await.reason(), Some("tls_failure"));
}

#[tokio::test(flavor = "multi_thread")]
async fn we_show_our_certificate_where_one_is_wanted() {
    let (trust, behind) = (Trust::new(), upstream().spawn().await);
    let shows = trust.authority.issue(&["127.0.0.1"]);
    let front = front(behind.address(), &shows, &[], Some(&trust.authority)).await;
    let own = trust.authority.issue(&["us.test"]).write(trust.folder.path(), "own");
    let tls = format!("tls: {{ ca: {{ca}}, {own} }}");
    let proxy = trust.to(front.address, &tls, "").spawn().await;
    assert_eq!(client(&proxy).get("/").await.status(), 200);
    // Without it, TLS 1.3 lets us learn that only from the first answer.
    let proxy = trust.to(front.address, "tls: { ca: {ca} }", "").spawn().await;
    assert_eq!(client(&proxy).get("/").await.status(), 502);
    assert_eq!(behind.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_protocol_is_what_both_agree_on() {
    let trust = Trust::new();
    let (one, two) = (upstream().spawn().await, upstream().http2().spawn().await);
    let shows = trust.authority.issue(&["127.0.0.1"]);
    for (protocol, alpn, behind) in [
        ("http1", &["h2", "http/1.1"][..], &one),
        ("http2", &["h2", "http/1.1"], &two),
        ("auto", &["h2", "http/1.1"], &two),
        ("auto", &["http/1.1"], &one),
        ("auto", &[], &one),
    ] {
        let before = behind.hits();
        let front = front(behind.address(), &shows, alpn, None).await;
        let upstream = format!("tls: {{ ca: {{ca}} }}, protocol: {protocol}");
        let upstream = format!(
            "{upstream}, health_check: {{ path: /health, interval: 100ms, timeout: 100ms }}"
        );
        let upstream = upstream.replace("timeout: 100ms", "timeout: 90ms");
        let proxy = trust.to(front.address, &upstream, "").spawn().await;
        for _ in 0..3 {
            let answer = client(&proxy).post("/", "body").await;
            assert_eq!(answer.status(), 200, "{protocol} {alpn:?} {:?}", answer.reason());
        }
        behind.until("a health check", |tally| tally.requests > before + 3).await;
        let seen = &behind.requests()[before..];
        assert!(seen.iter().any(|request| request.uri.path() == "/health"), "{seen:?}");
        if behind.address() == two.address() {
            assert!(seen.iter().all(|request| request.uri.scheme_str() == Some("https")));
        }
        let healthy = "outrigger_upstream_endpoints{upstream=\"back\",state=\"unhealthy\"}";
        assert_eq!(proxy.metric(healthy), 0.0);
    }
    // Who wants HTTP/2 and is not given it sends nothing.
    let front = front(one.address(), &shows, &["http/1.1"], None).await;
    let upstream = "tls: { ca: {ca} }, protocol: http2";
    let proxy = trust.to(front.address, upstream, "").spawn().await;
    assert_eq!(client(&proxy).get("/").await.reason(), Some("tls_failure"));
    assert_eq!(handshakes(&proxy, "incompatible"), 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_resumed() {
    let (trust, behind) = (Trust::new(), upstream().spawn().await);
    let front = plain_front(&behind, &trust, &["127.0.0.1"]).await;
    let upstream = "tls: { ca: {ca} }, pool: { idle_timeout: 50ms }";
    let proxy = trust.to(front.address, upstream, "").spawn().await;
    assert_eq!(client(&proxy).get("/").await.status(), 200);
    // The connection grows idle and is closed, and the next one remembers it.
    behind.until("the connection to end", |tally| tally.open == 0).await;
    assert_eq!(client(&proxy).get("/").await.status(), 200);
    assert_eq!((handshakes(&proxy, "full"), handshakes(&proxy, "resumed")), (1.0, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_other_settings_is_not_used_under_these() {
    let (trust, behind) = (Trust::new(), upstream().spawn().await);
    let proxy = trust.to(behind.address(), "protocol: http1", "").spawn().await;
    assert_eq!(client(&proxy).get("/").await.status(), 200);
    let secure = proxy.text.replace("protocol: http1", "tls: {}");
    proxy.app().proxy.reload(&secure).unwrap();
    // Kept connections in the clear would answer.
    for _ in 0..4 {
        assert_eq!(client(&proxy).get("/").await.reason(), Some("tls_failure"));
    }
    proxy.app().proxy.reload(&proxy.text).unwrap();
    assert_eq!(client(&proxy).get("/").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_takes_no_longer_than_a_connection_may() {
    let trust = Trust::new();
    // It accepts and stays silent.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let route = "timeouts: { connect: 100ms }, retry: { max_attempts: 1 }";
    let proxy = trust.to(address, "tls: { ca: {ca} }", route).spawn().await;
    let answer = client(&proxy).get("/").await;
    assert_eq!((answer.status().as_u16(), answer.reason()), (504, Some("connect_timeout")));
    eventually("the connection to be given up", || {
        proxy.metric("outrigger_upstream_connections{upstream=\"back\"}") == 0.0
    })
    .await;
}
