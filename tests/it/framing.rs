//! One message is read in one way: nothing that two recipients could read differently passes, and
//! what belongs to a connection stays on it.

use std::sync::{Arc, Mutex};

use crate::bodies::{before, in_front_of};
use crate::support::client::request;
use crate::support::proxy::{Proxy, one_route, proxy};
use crate::support::upstream::{RawUpstream, Seen, Upstream};
use crate::support::wire::{field, fields};
use crate::support::{Wire, client, raw_upstream, reply, upstream};

/// A server that answers each request on a connection and keeps the bytes that came, whole.
async fn keeping() -> (RawUpstream, Arc<Mutex<Vec<String>>>) {
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    let raw = raw_upstream(move |mut wire| {
        let keep = Arc::clone(&keep);
        async move {
            while let Some(head) = wire.next_head().await {
                let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
                let length = field(&head, "content-length").map(|n| n.parse().expect("a number"));
                assert!(!(chunked && length.is_some()), "two framings:\n{head}");
                let body = match length {
                    _ if chunked => wire.until("0\r\n\r\n").await,
                    length => {
                        String::from_utf8(wire.bytes(length.unwrap_or(0)).await).expect("text")
                    }
                };
                keep.lock().expect("no panic").push(format!("{head}{body}"));
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    (raw, kept)
}

/// What the proxy answers to these bytes, to the end of the connection.
async fn answer_to(proxy: &Proxy, bytes: &str) -> String {
    let mut wire = Wire::connect(proxy.address()).await;
    wire.try_send(bytes).await;
    wire.rest().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_read_in_two_ways_reaches_no_upstream() {
    let (raw, kept) = keeping().await;
    let proxy = before(&raw).await;
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";
    for fields in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 99999999999999999999999\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: \u{b}chunked\r\n",
        "Transfer-Encoding : chunked\r\n",
        " Transfer-Encoding: chunked\r\n",
        "X: y\r\n Transfer-Encoding: chunked\r\n",
        "Host: other.test\r\n",
        "X\u{0}: y\r\n",
        "X: a\rb\r\n",
    ] {
        let ask = format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{smuggled}");
        let answer = answer_to(&proxy, &ask).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{fields:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{fields:?}: {answer}");
    }
    assert!(kept.lock().expect("no panic").is_empty(), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn both_framings_at_once_never_become_two_requests() {
    let (raw, kept) = keeping().await;
    let proxy = before(&raw).await;
    for (first, second) in [
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
    ] {
        let ask = format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\n{first}\r\n{second}\r\n\r\n\
             0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
        );
        let answer = answer_to(&proxy, &ask).await;
        // RFC 9112, 6.3: either refused, or read as chunked on a connection that closes after it.
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.contains("onnection: close\r\n"), "{answer}");
    }
    let kept = kept.lock().expect("no panic");
    assert!(kept.iter().all(|request| !request.contains("smuggled")), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_sees_exactly_one_framing() {
    let (raw, kept) = keeping().await;
    let proxy = before(&raw).await;
    let start = "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n\r\n3;ext=1\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    for body in ["Content-Length: 5\r\n\r\nabcde", "Content-Length: 0\r\n\r\n", chunked] {
        let answer = answer_to(&proxy, &format!("{start}{body}")).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert_eq!(client(&proxy).http2().post("/", "abcde").await.status(), 200);
    let kept = kept.lock().expect("no panic").clone();
    let framings: Vec<_> = kept
        .iter()
        .map(|request| (field(request, "content-length"), field(request, "transfer-encoding")))
        .collect();
    let five = (Some("5"), None);
    assert_eq!(framings, [five, (Some("0"), None), (None, Some("chunked")), five]);
    assert!(!kept[2].contains("ext=1"), "a chunk's extension passed: {}", kept[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_the_clients_connection_stays_there() {
    let (raw, kept) = keeping().await;
    let proxy = before(&raw).await;
    let ask = "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close, X-Mine, Cookie\r\n\
               Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nX-Mine: 1\r\nCookie: c\r\n\
               Proxy-Authenticate: Basic\r\nUpgrade: websocket\r\nTE: gzip, trailers;q=0.5\r\n\
               X-Other: 2\r\n\r\n";
    assert!(answer_to(&proxy, ask).await.starts_with("HTTP/1.1 200 "));
    let kept = kept.lock().expect("no panic").clone();
    let head = &kept[0];
    for gone in ["keep-alive", "proxy-connection", "x-mine", "upgrade"] {
        assert!(fields(head, gone).is_empty(), "{gone} passed:\n{head}");
    }
    // RFC 9110, 10.1.4: who sends TE names it in Connection, ours with the upstream.
    assert_eq!(field(head, "te"), Some("trailers"));
    assert_eq!(field(head, "connection"), Some("te"));
    assert_eq!(field(head, "x-other"), Some("2"));
}

#[tokio::test(flavor = "multi_thread")]
async fn te_is_named_in_connection_on_http1_alone() {
    for protocol in ["http1", "http2"] {
        let upstream = match protocol {
            "http1" => upstream().spawn().await,
            _ => upstream().http2().spawn().await,
        };
        let yaml = format!(
            "upstreams: {{ back: {{ protocol: {protocol}, endpoints: [\"{{upstream}}\"] }} }}
routes: [{{ name: r, upstream: back }}]
"
        );
        let proxy = proxy(&yaml).to(&upstream).spawn().await;
        for te in [Some("trailers"), None] {
            for client in [client(&proxy), client(&proxy).http2()] {
                let ask = request("GET", "/");
                let ask = te.iter().fold(ask, |ask, te| ask.header("te", te));
                assert_eq!(client.send(ask).await.status(), 200, "{protocol} {te:?}");
            }
        }
        let named = te_and_connection(&upstream);
        let with = match protocol {
            "http1" => (true, Some("te".to_owned())),
            _ => (true, None),
        };
        assert_eq!(named, [with.clone(), with, (false, None), (false, None)], "{protocol}");
    }
}

/// Of each request, whether it asks for trailers, and its `Connection`.
fn te_and_connection(upstream: &Upstream) -> Vec<(bool, Option<String>)> {
    let seen = upstream.requests();
    let of = |seen: &Seen| {
        (seen.header("te") == Some("trailers"), seen.header("connection").map(str::to_owned))
    };
    seen.iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_field_cannot_take_away_what_routes_and_protects() {
    let (raw, kept) = keeping().await;
    let forwarded = "forwarded: { x_forwarded: append, via: me }";
    let proxy = in_front_of(&raw).listening(forwarded).spawn().await;
    let ask = "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\
               Connection: close, Host, Content-Length, X-Forwarded-For, Via\r\n\r\nhi";
    assert!(answer_to(&proxy, ask).await.starts_with("HTTP/1.1 200 "));
    let kept = kept.lock().expect("no panic").clone();
    let head = &kept[0];
    assert_eq!(field(head, "host"), Some("a.test"));
    assert_eq!(field(head, "content-length"), Some("2"));
    assert_eq!(field(head, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(field(head, "via"), Some("1.1 me"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_the_upstreams_connection_stays_there() {
    let raw = raw_upstream(|mut wire| async move {
        while wire.next_head().await.is_some() {
            wire.send(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, X-Mine\r\n\
                 Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nX-Mine: 1\r\nX-Other: 2\r\n\
                 Upgrade: h2c\r\n\r\nhi",
            )
            .await;
        }
    })
    .await;
    let proxy = before(&raw).await;
    for client in [client(&proxy), client(&proxy).http2()] {
        let answer = client.get("/").await;
        for gone in ["connection", "keep-alive", "proxy-connection", "x-mine", "upgrade"] {
            assert_eq!(answer.header(gone), None, "{gone}");
        }
        assert_eq!((answer.header("x-other"), answer.text()), (Some("2"), "hi"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_whose_length_is_no_number_is_an_upstream_error() {
    let raw = raw_upstream(|mut wire| async move {
        let head = wire.head().await;
        let fields = match head.split(' ').nth(1) {
            Some("/lengths") => "Content-Length: 2\r\nContent-Length: 3\r\n",
            _ => "Content-Length: two\r\n",
        };
        wire.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\nhi!")).await;
    })
    .await;
    let proxy = before(&raw).await;
    assert_eq!(client(&proxy).get("/lengths").await.reason(), Some("upstream_reset"));
    assert_eq!(client(&proxy).get("/number").await.reason(), Some("upstream_reset"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_chunks_is_not_cut_to_a_length_beside_them() {
    let raw = raw_upstream(|mut wire| async move {
        let head = wire.head().await;
        let length = head.split(' ').nth(1).and_then(|target| target.strip_prefix('/'));
        wire.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\n\r\n",
            length.expect("a length")
        ))
        .await;
    })
    .await;
    let proxy = before(&raw).await;
    for client in [client(&proxy), client(&proxy).http2()] {
        for target in ["/1", "/3"] {
            let answer = client.get(target).await;
            assert_eq!((answer.text(), answer.broken), ("hi", false), "{target}: {answer:?}");
            assert_eq!(answer.header("content-length"), None);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_http_is_an_upstream_error() {
    let raw = raw_upstream(|mut wire| async move {
        let head = wire.head().await;
        let large = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100 * 1024));
        let answer = match head.split(' ').nth(1) {
            Some("/text") => "hello\r\n\r\n",
            Some("/empty") => "",
            _ => &large,
        };
        wire.try_send(answer).await;
    })
    .await;
    let proxy = before(&raw).await;
    for path in ["/text", "/empty", "/large"] {
        let answer = client(&proxy).get(path).await;
        assert_eq!((answer.status().as_u16(), answer.reason()), (502, Some("upstream_reset")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_forwarding_fields_are_written_as_configured() {
    let upstream = upstream().always(|| reply(200).header("via", "1.0 back")).spawn().await;
    let ask = || {
        request("GET", "/")
            .header("x-forwarded-for", "10.0.0.1")
            .header("x-forwarded-proto", "https")
            .header("forwarded", "for=10.0.0.1")
            .header("via", "1.1 front")
    };
    // Mode, and what the upstream sees of X-Forwarded-For, -Proto and Forwarded.
    let ours = "for=127.0.0.1;host=svc.test;proto=http";
    let both = format!("for=10.0.0.1, {ours}");
    let table = [
        ("pass", Some("10.0.0.1"), Some("https"), Some("for=10.0.0.1")),
        ("append", Some("10.0.0.1, 127.0.0.1"), Some("https"), Some(both.as_str())),
        ("replace", Some("127.0.0.1"), Some("http"), Some(ours)),
        ("remove", None, None, None),
    ];
    for (at, (mode, addresses, scheme, forwarded)) in table.into_iter().enumerate() {
        let listener = format!("forwarded: {{ x_forwarded: {mode}, forwarded: {mode}, via: me }}");
        let proxy = one_route(&upstream, "").listening(&listener).spawn().await;
        let answer = client(&proxy).send(ask()).await;
        let via: Vec<_> = answer.head.headers.get_all("via").iter().collect();
        assert_eq!(via, ["1.0 back", "1.1 me"]);
        let seen = &upstream.requests()[at];
        assert_eq!(seen.header("x-forwarded-for"), addresses, "{mode}");
        assert_eq!(seen.header("x-forwarded-proto"), scheme, "{mode}");
        assert_eq!(seen.header("forwarded"), forwarded, "{mode}");
        let via: Vec<_> = seen.headers.get_all("via").iter().collect();
        assert_eq!(via, ["1.1 front", "1.1 me"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_side_cannot_steer() {
    let upstream = upstream().spawn().await;
    let ask = || {
        request("GET", "/")
            .header("x-outrigger-anything", "1")
            .header("x-retry-attempt", "9")
            .header("x-request-timeout-ms", "1")
            .header("x-forwarded-proto", "https")
    };
    let proxy = one_route(&upstream, "")
        .listening("trust: none, forwarded: { x_forwarded: append }")
        .spawn()
        .await;
    assert_eq!(client(&proxy).send(ask()).await.status(), 200);
    let seen = upstream.request();
    assert_eq!(seen.header("x-outrigger-anything"), None);
    assert_eq!(seen.header("x-retry-attempt"), None);
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    let left: u64 = seen.header("x-request-timeout-ms").expect("ours").parse().expect("a number");
    assert!(left > 1000, "the client's own deadline was believed: {left}");
}
