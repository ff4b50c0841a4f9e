//! What HTTP/2 can say and HTTP/1 cannot, and the other way round: translated in every field, or
//! refused, so that no two readers see two messages.

use std::sync::{Arc, Mutex};

use super::peer::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PROTOCOL_ERROR, Peer, RST_STREAM,
    block, fields, frame, get,
};
use crate::support::client::request;
use crate::support::proxy::{Proxy, proxy};
use crate::support::upstream::RawUpstream;
use crate::support::wire::{field, fields as lines};
use crate::support::{client, raw_upstream, upstream};

type Kept = Arc<Mutex<Vec<String>>>;

/// An upstream of HTTP/1 that keeps each head, and the body that follows in chunks or by length,
/// and answers so.
async fn keeping(answer: &'static str) -> (RawUpstream, Kept) {
    let kept = Kept::default();
    let keeper = Arc::clone(&kept);
    let upstream = raw_upstream(move |mut wire| {
        let kept = Arc::clone(&keeper);
        async move {
            while let Some(head) = wire.next_head().await {
                let mut whole = head.clone();
                if field(&head, "transfer-encoding").is_some() {
                    let Some(body) = wire.try_until("\r\n\r\n").await else { return };
                    whole += &body;
                } else if let Some(length) = field(&head, "content-length") {
                    let length = length.parse().expect("a number");
                    let Some(body) = wire.try_bytes(length).await else { return };
                    whole += &String::from_utf8_lossy(&body);
                }
                kept.lock().unwrap().push(whole);
                wire.try_send(answer).await;
            }
        }
    })
    .await;
    (upstream, kept)
}

/// What an upstream has kept.
fn all(kept: &Kept) -> Vec<String> {
    kept.lock().unwrap().clone()
}

async fn through(upstream: &RawUpstream, protocol: &str) -> Proxy {
    let yaml = "runtime: { workers: 1, drain: { timeout: 5s, linger: 0s } }
upstreams: { back: { protocol: {protocol}, endpoints: [\"{upstream}\"] } }
routes: [{ name: r, upstream: back, retry: { mode: off } }]
";
    proxy(yaml).with("protocol", protocol).with("upstream", upstream.address()).spawn().await
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A field as it is said, good or bad.
type Field = (&'static [u8], &'static [u8]);

/// A request's fields.
type Said = Vec<Field>;

/// What is wrong with an answer, and its fields.
type Answer = (&'static str, &'static [(&'static str, &'static str)]);

/// These pseudo-fields, and a field after them.
fn said(
    method: &'static [u8],
    authority: &'static [u8],
    path: &'static [u8],
    more: &[Field],
) -> Said {
    let mut said: Said =
        vec![(b":method", method), (b":scheme", b"http"), (b":authority", authority)];
    said.push((b":path", path));
    said.extend(more);
    said
}

/// A plain GET with this field.
fn with(name: &'static [u8], value: &'static [u8]) -> Said {
    said(b"GET", b"svc.test", b"/", &[(name, value)])
}

/// A plain GET without one of its pseudo-fields.
fn without(name: &[u8]) -> Said {
    with(b"x-any", b"1").into_iter().filter(|(n, _)| *n != name).collect()
}

/// Heads that no reader of HTTP/1 may get to see.
fn malformed() -> Vec<(&'static str, Said)> {
    let get = |authority, path| said(b"GET", authority, path, &[]);
    vec![
        ("a name in upper case", with(b"X-Any", b"1")),
        ("a name with a space", with(b"x any", b"1")),
        ("a name with a colon", with(b"x:any", b"1")),
        ("a name with a line's end", with(b"x-any\r\ninjected", b"1")),
        ("no name", with(b"", b"1")),
        ("a value with CR LF", with(b"x-any", b"1\r\ninjected: 1")),
        ("a value with CR", with(b"x-any", b"1\r1")),
        ("a value with LF", with(b"x-any", b"1\n1")),
        ("a value with NUL", with(b"x-any", b"1\x001")),
        ("a value that begins with a space", with(b"x-any", b" 1")),
        ("a value that ends with a tab", with(b"x-any", b"1\t")),
        ("connection", with(b"connection", b"close")),
        ("connection that names a field", with(b"connection", b"x-any")),
        ("keep-alive", with(b"keep-alive", b"timeout=5")),
        ("proxy-connection", with(b"proxy-connection", b"keep-alive")),
        ("transfer-encoding", with(b"transfer-encoding", b"chunked")),
        ("upgrade", with(b"upgrade", b"websocket")),
        ("te other than trailers", with(b"te", b"gzip")),
        ("te of two", with(b"te", b"trailers, gzip")),
        ("two hosts", said(b"GET", b"svc.test", b"/", &[(b"host", b"a"), (b"host", b"b")])),
        ("another host", with(b"host", b"other.test")),
        ("user information", get(b"bank@evil.test", b"/")),
        ("an authority with CR LF", get(b"svc.test\r\nx: 1", b"/")),
        ("an authority with a path", get(b"svc.test/x", b"/")),
        ("an authority with a space", get(b"svc.test x", b"/")),
        ("an empty path", get(b"svc.test", b"")),
        ("a path that is a URL", get(b"svc.test", b"http://evil.test/")),
        ("a path that is a host", get(b"svc.test", b"evil.test:80")),
        ("an asterisk of GET", get(b"svc.test", b"*")),
        ("a path with a space", get(b"svc.test", b"/ HTTP/1.1")),
        ("a path with CR LF", get(b"svc.test", b"/ HTTP/1.1\r\nx: 1")),
        ("a path with NUL", get(b"svc.test", b"/\0")),
        ("a method with a space", said(b"GET /x", b"svc.test", b"/", &[])),
        ("a method with CR LF", said(b"GET / HTTP/1.1\r\nx: 1", b"svc.test", b"/", &[])),
        ("an empty method", said(b"", b"svc.test", b"/", &[])),
        ("no method", without(b":method")),
        ("no scheme", without(b":scheme")),
        ("no path", without(b":path")),
        ("two paths", with(b":path", b"/other")),
        ("two methods", with(b":method", b"POST")),
        ("a pseudo-field nobody knows", with(b":any", b"1")),
        ("the pseudo-field of answers", with(b":status", b"200")),
        ("a protocol that was not offered", with(b":protocol", b"websocket")),
        (
            "a pseudo-field after a field",
            vec![(b":method", b"GET"), (b":scheme", b"http"), (b"x", b"1"), (b":path", b"/")],
        ),
        ("a length that is no number", with(b"content-length", b"+0")),
        ("a length that is a list", with(b"content-length", b"0, 0")),
        (
            "two lengths",
            said(
                b"GET",
                b"svc.test",
                b"/",
                &[(b"content-length", b"0"), (b"content-length", b"1")],
            ),
        ),
        ("a length without a body", with(b"content-length", b"5")),
    ]
}

/// The end of the whole connection for PROTOCOL_ERROR.
const GONE: &str = "goaway 1";

/// What came of a stream that should be refused: its reset, the status, or the end of all.
async fn fate(peer: &mut Peer, stream: u32) -> String {
    loop {
        let Some(next) = peer.next().await else { return "closed".to_owned() };
        match next.kind {
            GOAWAY => return format!("goaway {}", next.code()),
            RST_STREAM if next.stream == stream => return format!("reset {}", next.code()),
            HEADERS if next.stream == stream => return format!("status {}", next.status()),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_reaches_no_upstream() {
    let (upstream, kept) = keeping(OK).await;
    let proxy = through(&upstream, "http1").await;
    for (what, said) in malformed() {
        let mut peer = Peer::connect(proxy.address()).await;
        peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block(&said))).await;
        let fate = fate(&mut peer, 1).await;
        let refused = [format!("reset {PROTOCOL_ERROR}"), "status 400".to_owned(), GONE.to_owned()];
        assert!(refused.contains(&fate), "{what}: {fate}");
        assert_eq!(all(&kept), [""; 0], "{what}");
        if fate == GONE {
            // What cannot even be decoded as fields ends the connection, as it may (5.4.1).
            peer.closed().await;
            continue;
        }
        // Any other fault is that of one stream.
        peer.send(get(3)).await;
        assert_eq!(peer.head_of(3).await.status(), 200, "{what}");
        assert_eq!(kept.lock().unwrap().drain(..).count(), 1);
    }
}

/// Bodies that are not what their heads say.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_length_is_never_whole() {
    let (upstream, kept) = keeping(OK).await;
    let proxy = through(&upstream, "http1").await;
    let head = |length| block(&fields("POST", &[("content-length", length)]));
    let table = [
        ("more", "3", frame(DATA, END_STREAM, 1, b"12345")),
        ("less", "5", frame(DATA, END_STREAM, 1, b"123")),
        ("none", "5", frame(DATA, END_STREAM, 1, b"")),
        ("more, later", "3", [frame(DATA, 0, 1, b"12"), frame(DATA, 1, 1, b"34")].concat()),
        (
            "less, and trailers",
            "5",
            [frame(DATA, 0, 1, b"12"), frame(HEADERS, 5, 1, block(&[("x-sum", "1")]))].concat(),
        ),
    ];
    for (what, length, body) in table {
        let mut peer = Peer::connect(proxy.address()).await;
        peer.send([frame(HEADERS, END_HEADERS, 1, head(length)), body].concat()).await;
        let fate = fate(&mut peer, 1).await;
        assert!(fate.starts_with("reset ") || fate == "status 400", "{what}: {fate}");
        assert_eq!(all(&kept), [""; 0], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_that_are_no_trailers_are_refused() {
    let (upstream, kept) = keeping(OK).await;
    let proxy = through(&upstream, "http1").await;
    let table = [
        ("a field of the connection", END_HEADERS | END_STREAM, &[("connection", "close")]),
        ("framing", END_HEADERS | END_STREAM, &[("transfer-encoding", "chunked")]),
        ("not the end", END_HEADERS, &[("x-sum", "1")]),
    ];
    for (what, flags, trailers) in table {
        let mut peer = Peer::connect(proxy.address()).await;
        peer.send(super::peer::post(1)).await;
        peer.send(frame(DATA, 0, 1, b"body")).await;
        peer.send(frame(HEADERS, flags, 1, block(trailers))).await;
        let fate = fate(&mut peer, 1).await;
        assert!(fate.starts_with("reset ") || fate == "status 400", "{what}: {fate}");
        assert_eq!(all(&kept), [""; 0], "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pseudo_field_among_trailers_goes_no_further() {
    let (upstream, kept) = keeping(OK).await;
    let proxy = through(&upstream, "http1").await;
    let mut peer = Peer::connect(proxy.address()).await;
    peer.send(super::peer::post(1)).await;
    peer.send(frame(DATA, 0, 1, b"body")).await;
    let trailers = block(&[(":path", "/other"), ("x-sum", "4")]);
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, trailers)).await;
    // Ignored or refused, it is never passed on.
    fate(&mut peer, 1).await;
    assert!(all(&kept).iter().all(|seen| !seen.contains("/other")), "{:?}", all(&kept));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_becomes_the_same_request_of_http1() {
    let (upstream, kept) = keeping(OK).await;
    let proxy = through(&upstream, "http1").await;
    let mut peer = Peer::connect(proxy.address()).await;
    let head = block(&fields(
        "POST",
        &[
            ("cookie", "a=1"),
            ("x-two", "1"),
            ("cookie", "b=2"),
            ("te", "trailers"),
            ("x-two", "2"),
            ("cookie", "c=3; d=4"),
            ("host", "SVC.test"),
        ],
    ));
    // In pieces, as heads may come.
    let (first, rest) = head.split_at(30);
    peer.send(frame(HEADERS, 0, 1, first)).await;
    peer.send(frame(CONTINUATION, END_HEADERS, 1, rest)).await;
    peer.send(frame(DATA, 0, 1, b"body")).await;
    let trailers = block(&[("x-sum", "4"), ("content-length", "9"), ("host", "evil.test")]);
    peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, trailers)).await;
    assert_eq!(peer.head_of(1).await.status(), 200);
    let seen = kept.lock().unwrap().remove(0);
    assert!(seen.starts_with("POST / HTTP/1.1\r\n"), "{seen}");
    assert!(!seen.lines().skip(1).any(|line| line.starts_with(':')), "{seen}");
    let (head, body) = seen.split_once("\r\n\r\n").expect("a head");
    assert_eq!(field(head, "cookie"), Some("a=1; b=2; c=3; d=4"));
    assert_eq!(lines(head, "x-two"), ["1", "2"]);
    assert_eq!(field(head, "te"), Some("trailers"));
    assert!(field(head, "host").is_some_and(|host| host.eq_ignore_ascii_case("svc.test")));
    assert_eq!(field(head, "transfer-encoding"), Some("chunked"));
    assert_eq!(field(head, "content-length"), None);
    assert_eq!(body, "4\r\nbody\r\n0\r\nx-sum: 4\r\n\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_right_is_kept_and_host_alone_is_enough() {
    let (upstream, kept) = keeping(OK).await;
    let proxy = through(&upstream, "http1").await;
    let mut peer = Peer::connect(proxy.address()).await;
    let head = [
        (":method", "PUT"),
        (":scheme", "https"),
        (":path", "/a?b=c"),
        ("host", "only.test:81"),
        ("content-length", "4"),
    ];
    peer.send(frame(HEADERS, END_HEADERS, 1, block(&head))).await;
    peer.send(frame(DATA, END_STREAM, 1, b"body")).await;
    assert_eq!(peer.head_of(1).await.status(), 200);
    let seen = kept.lock().unwrap().remove(0);
    assert!(seen.starts_with("PUT /a?b=c HTTP/1.1\r\n"), "{seen}");
    let (head, body) = seen.split_once("\r\n\r\n").expect("a head");
    assert_eq!(
        (field(head, "host"), field(head, "content-length")),
        (Some("only.test:81"), Some("4"))
    );
    assert_eq!((field(head, "transfer-encoding"), body), (None, "body"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_becomes_the_same_answer_of_http2() {
    let answer = "HTTP/1.1 299 Such\r\nConnection: x-gone\r\nX-Gone: 1\r\nKeep-Alive: timeout=5\r\n\
                  Set-Cookie: a\r\nSet-Cookie: b\r\nTransfer-Encoding: chunked\r\n\r\n\
                  4\r\nbody\r\n0\r\nX-Sum: 4\r\nConnection: close\r\n\r\n";
    let (upstream, _) = keeping(answer).await;
    let proxy = through(&upstream, "http1").await;
    let got = client(&proxy).http2().get("/").await;
    assert_eq!((got.status().as_u16(), got.text(), got.broken), (299, "body", false));
    for gone in ["connection", "x-gone", "keep-alive", "transfer-encoding"] {
        assert_eq!(got.header(gone), None, "{gone}");
    }
    assert_eq!(got.head.headers.get_all("set-cookie").iter().count(), 2);
    let trailers = got.trailers.expect("trailers");
    assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &http::HeaderValue::from_static("4")));
}

/// An upstream of HTTP/2 that answers every request with these frames.
async fn framing(answer: impl Fn(u32) -> Vec<u8> + Clone + Send + Sync + 'static) -> RawUpstream {
    raw_upstream(move |wire| {
        let answer = answer.clone();
        async move {
            let Some(mut peer) = Peer::accept(wire).await else { return };
            while let Some(next) = peer.next().await {
                if next.ends() {
                    peer.try_send(answer(next.stream)).await;
                }
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_http2_that_is_malformed_is_an_upstream_error() {
    let table: [Answer; 8] = [
        ("connection", &[(":status", "200"), ("connection", "close")]),
        ("transfer-encoding", &[(":status", "200"), ("transfer-encoding", "chunked")]),
        ("a value with CR LF", &[(":status", "200"), ("x-any", "1\r\ninjected: 1")]),
        ("a name in upper case", &[(":status", "200"), ("X-Any", "1")]),
        ("no status", &[("x-any", "1")]),
        ("two statuses", &[(":status", "200"), (":status", "404")]),
        ("a status of four digits", &[(":status", "2000")]),
        ("a length without a body", &[(":status", "200"), ("content-length", "5")]),
    ];
    for (what, said) in table {
        let head = block(said);
        let upstream =
            framing(move |stream| frame(HEADERS, END_HEADERS | END_STREAM, stream, &head)).await;
        let proxy = through(&upstream, "http2").await;
        for client in [client(&proxy), client(&proxy).http2()] {
            let answer = client.get("/").await;
            let got = (answer.status().as_u16(), answer.reason());
            assert_eq!(got, (502, Some("upstream_reset")), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_protocols_does_not_exist_in_http2() {
    let upstream = framing(|stream| {
        frame(HEADERS, END_HEADERS | END_STREAM, stream, block(&[(":status", "101")]))
    })
    .await;
    let proxy = through(&upstream, "http2").await;
    for client in [client(&proxy), client(&proxy).http2()] {
        assert_eq!(client.get("/").await.status(), 502);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_length_from_upstream_is_cut() {
    for (length, data) in [("3", &b"12345"[..]), ("5", b"123")] {
        let head = block(&[(":status", "200"), ("content-length", length)]);
        let upstream = framing(move |stream| {
            let head = frame(HEADERS, END_HEADERS, stream, &head);
            [head, frame(DATA, END_STREAM, stream, data)].concat()
        })
        .await;
        let proxy = through(&upstream, "http2").await;
        for client in [client(&proxy), client(&proxy).http2()] {
            assert!(client.sees_cut(request("GET", "/")).await, "{length}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_host_becomes_the_authority_and_crumbs_stay_one_cookie() {
    let upstream = upstream().http2().spawn().await;
    let proxy = proxy(
        "upstreams: { back: { protocol: http2, endpoints: [\"{upstream}\"] } }
routes: [{ name: r, upstream: back }]
",
    )
    .to(&upstream)
    .spawn()
    .await;
    for client in [client(&proxy), client(&proxy).http2()] {
        let ask = request("GET", "/").header("host", "shop.test").header("cookie", "a=1");
        assert_eq!(client.send(ask.header("te", "trailers")).await.status(), 200);
    }
    for seen in upstream.requests() {
        assert_eq!(seen.uri.authority().map(http::uri::Authority::as_str), Some("shop.test"));
        assert_eq!(seen.header("host"), None);
        assert_eq!((seen.header("cookie"), seen.header("te")), (Some("a=1"), Some("trailers")));
        assert_eq!(seen.header("connection"), None);
    }
}
