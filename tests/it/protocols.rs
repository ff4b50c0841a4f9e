//! What is spoken on a listener, and over which sockets.

use crate::support::client::client_at;
use crate::support::proxy::{one_route, proxy, socket_path};
use crate::support::{Wire, client, raw_upstream, upstream};

#[tokio::test(flavor = "multi_thread")]
async fn http1_and_http2_are_told_apart_on_one_port() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").spawn().await;
    assert_eq!(client(&proxy).get("/").await.head.version, http::Version::HTTP_11);
    assert_eq!(client(&proxy).http2().get("/").await.head.version, http::Version::HTTP_2);
    // A method that begins as the preface does, in the smallest pieces.
    let mut wire = Wire::connect(proxy.address()).await;
    for byte in "PRI".bytes() {
        wire.send([byte]).await;
    }
    wire.send("NT / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200 "));
    assert_eq!(upstream.requests()[2].method, "PRINT");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_of_http1_alone_refuses_http2() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").listening("protocols: [http1]").spawn().await;
    assert_eq!(client(&proxy).get("/").await.status(), 200);
    let mut wire = Wire::connect(proxy.address()).await;
    wire.try_send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    let answer = wire.rest().await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_of_http2_alone_refuses_http1() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").listening("protocols: [http2]").spawn().await;
    assert_eq!(client(&proxy).http2().get("/").await.status(), 200);
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert!(!wire.rest().await.contains("200"));
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_http_get_400() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("\u{16}\u{3}\u{1} hello\r\n\r\n").await;
    assert!(wire.rest().await.starts_with("HTTP/1.1 400 "));
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absolute_form_goes_by_its_own_host() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "match: { host: pay.test }").spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("GET http://pay.test/a?b HTTP/1.1\r\nHost: other.test\r\n\r\n").await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200 "));
    let seen = upstream.request();
    assert_eq!(seen.uri, "/a?b");
    assert_eq!(seen.header("host"), Some("pay.test"));
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("OPTIONS http://pay.test HTTP/1.1\r\nHost: pay.test\r\n\r\n").await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_forward_proxy_an_absolute_form_is_refused() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").listening("forward_proxy: false").spawn().await;
    let answer = client(&proxy).get("http://svc.test/").await;
    assert_eq!((answer.status().as_u16(), answer.reason()), (400, Some("bad_request")));
    // HTTP/2 always says scheme and host.
    assert_eq!(client(&proxy).http2().get("/").await.status(), 200);
    assert_eq!(upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn unix_sockets_serve_on_both_sides() {
    let folder = tempfile::tempdir().expect("a folder");
    let (front, back) = (socket_path(&folder, "front.sock"), socket_path(&folder, "back.sock"));
    let listener = tokio::net::UnixListener::bind(&back).expect("a socket");
    let served = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.expect("the proxy connects");
        let mut read = vec![0; 4096];
        let length = stream.read(&mut read).await.expect("a request");
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix";
        stream.write_all(answer.as_bytes()).await.expect("the proxy reads");
        String::from_utf8_lossy(&read[..length]).into_owned()
    });
    let proxy = proxy(
        "listeners: [{ name: in, bind: \"unix:{front}\" }]
upstreams: { back: { endpoints: [\"unix:{back}\"] } }
routes: [{ name: r, upstream: back }]
",
    )
    .with("front", front.display())
    .with("back", back.display())
    .spawn()
    .await;
    let mut wire = Wire::connect_unix(&front).await;
    wire.send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert_eq!(wire.message().await.1, "unix");
    let head = served.await.expect("no panic");
    assert!(head.starts_with("GET /x HTTP/1.1\r\n"), "{head}");
    assert!(!head.contains("x-forwarded-for"), "a unix socket has no address: {head}");
    proxy.drain().await;
    assert!(!front.exists(), "the socket's file is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_1_0_is_served_and_closed() {
    let raw = raw_upstream(|mut wire| async move {
        let head = wire.head().await;
        assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
        wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n")
            .await;
    })
    .await;
    let proxy = proxy(
        "upstreams: { back: { endpoints: [\"{upstream}\"] } }
routes: [{ name: r, upstream: back }]
",
    )
    .with("upstream", raw.address())
    .spawn()
    .await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").await;
    let all = wire.rest().await;
    assert!(all.starts_with("HTTP/1.0 200 ") || all.starts_with("HTTP/1.1 200 "), "{all}");
    assert!(!all.contains("chunked"), "HTTP/1.0 knows no chunks: {all}");
    assert!(all.ends_with("\r\n\r\nbody"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_can_belong_to_one_listener() {
    let upstream = upstream().spawn().await;
    let proxy = proxy(
        "listeners:
  - { name: a, bind: \"127.0.0.1:0\" }
  - { name: b, bind: \"127.0.0.1:0\" }
upstreams: { back: { endpoints: [\"{upstream}\"] } }
routes: [{ name: r, match: { listeners: [b] }, upstream: back }]
",
    )
    .to(&upstream)
    .spawn()
    .await;
    assert_eq!(client_at(proxy.listener("a")).get("/").await.status(), 404);
    assert_eq!(client_at(proxy.listener("b")).get("/").await.status(), 200);
}
