//! Requests that two recipients could read differently: each ends in 400 and a closed connection,
//! or reaches the upstream as exactly one request, and none puts a pooled connection out of step.
//!
//! The table is meant to grow: one line a case. A case is the bytes up to and with its own body;
//! behind each of them the test sends a request for `/smuggled`, which must never be served on the
//! strength of bytes that another recipient would take for a body, nor be swallowed by one.

use std::sync::{Arc, Mutex};

use crate::bodies::before;
use crate::support::upstream::RawUpstream;
use crate::support::wire::{field, fields};
use crate::support::{Wire, raw_upstream, within};

/// What must become of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// 400, and the connection is closed: what follows is not looked at.
    Refused,
    /// One request with this body reaches the upstream, and what follows it is a request again.
    One(&'static str),
    /// One request with this body, after which the connection is closed.
    Last(&'static str),
}

use Fate::{Last, One, Refused};

/// The names of the families: how such requests are told apart in the literature.
const CL_CL: &str = "two lengths";
const CL: &str = "a length that is no number";
const CL_TE: &str = "both framings";
const TE: &str = "a coding that is not `chunked`";
const TE_TE: &str = "two codings";
const HIDDEN: &str = "a framing field that hides from one recipient";
const LINE: &str = "a line that ends or begins in its own way";
const CHUNK: &str = "chunks that are not quite chunks";
const TARGET: &str = "a target with two meanings";
const HOST: &str = "two hosts";
const OLD: &str = "an older protocol";
const SWITCH: &str = "an offer of another protocol";
const SOUND: &str = "nothing wrong";

/// A case by its family: its head's fields and its body, of a POST.
type Post = (&'static str, &'static str, &'static str, Fate);

/// A case by its family: a whole request.
type Whole = (&'static str, &'static str, Fate);

/// Cases that are POSTs.
const POSTS: &[Post] = &[
    (CL_CL, "Content-Length: 5\r\nContent-Length: 5\r\n", "hello", Refused),
    (CL_CL, "Content-Length: 5\r\nContent-Length: 0\r\n", "hello", Refused),
    (CL_CL, "Content-Length: 0\r\nContent-Length: 5\r\n", "hello", Refused),
    (CL_CL, "Content-Length: 5, 5\r\n", "hello", Refused),
    (CL_CL, "Content-Length: 5\r\nContent-length: 6\r\n", "hello", Refused),
    (CL_CL, "Content-Length: 0, 5\r\n", "hello", Refused),
    (CL, "Content-Length: +5\r\n", "hello", Refused),
    (CL, "Content-Length: -5\r\n", "hello", Refused),
    (CL, "Content-Length: 0x5\r\n", "hello", Refused),
    (CL, "Content-Length: 5.\r\n", "hello", Refused),
    (CL, "Content-Length: 5e0\r\n", "hello", Refused),
    (CL, "Content-Length: 5 0\r\n", "hello", Refused),
    (CL, "Content-Length: \"5\"\r\n", "hello", Refused),
    (CL, "Content-Length: 5;\r\n", "hello", Refused),
    (CL, "Content-Length: _5\r\n", "hello", Refused),
    (CL, "Content-Length: 5_0\r\n", "hello", Refused),
    (CL, "Content-Length: \u{665}\r\n", "hello", Refused),
    (CL, "Content-Length:\r\n", "hello", Refused),
    (CL, "Content-Length: five\r\n", "hello", Refused),
    (CL, "Content-Length: 18446744073709551621\r\n", "hello", Refused),
    (CL_TE, "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", Refused),
    (CL_TE, "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n", Refused),
    (CL_TE, "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", "0\r\n\r\n", Refused),
    (CL_TE, "Transfer-Encoding: identity\r\nContent-Length: 5\r\n", "hello", Refused),
    (CL_TE, "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n", "hello", Refused),
    (TE, "Transfer-Encoding: gzip\r\n", "hello", Refused),
    (TE, "Transfer-Encoding: identity\r\n", "hello", Refused),
    (TE, "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n", Refused),
    (TE, "Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n", Refused),
    (TE, "Transfer-Encoding: chunked, chunked\r\n", "0\r\n\r\n", Refused),
    (TE, "Transfer-Encoding: chunked;q=1\r\n", "0\r\n\r\n", Refused),
    (TE, "Transfer-Encoding: ,chunked\r\n", "0\r\n\r\n", Refused),
    (TE, "Transfer-Encoding: chunked,\r\n", "0\r\n\r\n", Refused),
    (TE, "Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n", Refused),
    (TE, "Transfer-Encoding: 'chunked'\r\n", "0\r\n\r\n", Refused),
    (TE, "Transfer-Encoding: chunk\r\n", "0\r\n\r\n", Refused),
    (TE, "Transfer-Encoding: c\u{4}hunked\r\n", "0\r\n\r\n", Refused),
    (TE, "Transfer-Encoding: \u{a0}chunked\r\n", "0\r\n\r\n", Refused),
    (TE, "Transfer-Encoding:\r\n", "0\r\n\r\n", Refused),
    (TE_TE, "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", Refused),
    (TE_TE, "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", "0\r\n\r\n", Refused),
    (TE_TE, "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", Refused),
    (TE_TE, "Transfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n", "0\r\n\r\n", Refused),
    (HIDDEN, "Transfer-Encoding : chunked\r\n", "0\r\n\r\n", Refused),
    (HIDDEN, "Transfer-Encoding\t: chunked\r\n", "0\r\n\r\n", Refused),
    (HIDDEN, " Transfer-Encoding: chunked\r\n", "0\r\n\r\n", Refused),
    (HIDDEN, "X: y\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n", Refused),
    (HIDDEN, "X: y\r\n\tContent-Length: 5\r\n", "hello", Refused),
    (HIDDEN, "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n", Refused),
    (HIDDEN, "Transfer-Encoding: chunked\r\n \r\n", "0\r\n\r\n", Refused),
    (HIDDEN, "X: y\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n", Refused),
    (HIDDEN, "X: y\rTransfer-Encoding: chunked\r\n", "0\r\n\r\n", Refused),
    (HIDDEN, "X: \u{0}\r\nContent-Length: 5\r\n", "hello", Refused),
    (HIDDEN, "\u{0}Content-Length: 5\r\n", "hello", Refused),
    (HIDDEN, "\"Content-Length\": 5\r\n", "hello", Refused),
    (HIDDEN, "Content Length: 5\r\n", "hello", Refused),
    (HIDDEN, ": y\r\nContent-Length: 5\r\n", "hello", Refused),
    (HIDDEN, "Content-Length\r\n: 5\r\n", "hello", Refused),
    (HIDDEN, "Content-Length 5\r\n", "hello", Refused),
    // Names that others take for another: passed as they are, and framing nothing.
    (HIDDEN, "Content_Length: 5\r\n", "", One("")),
    (HIDDEN, "Transfer_Encoding: chunked\r\n", "", One("")),
    (HIDDEN, "X-Content-Length: 5\r\n", "", One("")),
    (HIDDEN, "Connection: Content-Length\r\nContent-Length: 5\r\n", "hello", One("hello")),
    (
        HIDDEN,
        "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        One("hello"),
    ),
    (LINE, "X: y\n", "", Refused),
    (LINE, "X: y\r\r\n", "", Refused),
    (LINE, "X: y\n\r\n", "", Refused),
    (LINE, "Content-Length: 5\n", "hello", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n0\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "-1\r\nhello\r\n0\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "+5\r\nhello\r\n0\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", " 5\r\nhello\r\n0\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "5\nhello\n0\n\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "5\rhello\r0\r\r", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "5\r\nhelloX\r\n0\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "5\r\nhello0\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "5;a\nb\r\nhello\r\n0\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "5;\rX\r\nhello\r\n0\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "5;a=\u{0}\r\nhello\r\n0\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "10000000000000005\r\nhello\r\n0\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "\r\nhello\r\n0\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", ";a\r\nhello\r\n0\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX: y\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\nX : y\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n X: y\r\n\r\n", Refused),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "5\r\nhello\r\n00\r\n\r\n", One("hello")),
    (CHUNK, "Transfer-Encoding: chunked\r\n", "05;a=b\r\nhello\r\n0;c\r\n\r\n", One("hello")),
    (
        CHUNK,
        "Transfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n0\r\nContent-Length: 9\r\nHost: b\r\n\r\n",
        One("hello"),
    ),
    (HOST, "Host: b.test\r\n", "", Refused),
    (HOST, "Host: a.test\r\n", "", Refused),
    (HOST, "X: y\r\nhost: b.test, a.test\r\n", "", Refused),
    // The offer is not taken up, and what follows is a request all the same.
    (SWITCH, "Connection: upgrade\r\nUpgrade: websocket\r\n", "", One("")),
    (SWITCH, "Upgrade: websocket\r\n", "", One("")),
    (SWITCH, "Connection: upgrade\r\n", "", One("")),
    (
        SWITCH,
        "Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n",
        "hello",
        One("hello"),
    ),
    (
        SWITCH,
        "Connection: upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n",
        "5\r\nhello\r\n0\r\n\r\n",
        One("hello"),
    ),
    (
        SWITCH,
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        "",
        One(""),
    ),
    (SOUND, "", "", One("")),
    (SOUND, "Content-Length: 0\r\n", "", One("")),
    (SOUND, "Content-Length: 005\r\n", "hello", One("hello")),
    (SOUND, "Content-Length: \t5 \t\r\n", "hello", One("hello")),
    (SOUND, "transfer-encoding: CHUNKED\r\n", "5\r\nhello\r\n0\r\n\r\n", One("hello")),
    (SOUND, "Connection: close\r\nContent-Length: 5\r\n", "hello", Last("hello")),
];

/// Cases that are whole requests.
const WHOLE: &[Whole] = &[
    (LINE, "GET / HTTP/1.1\nHost: a.test\n\n", Refused),
    (LINE, "GET / HTTP/1.1\r\nHost: a.test\r\n\n", Refused),
    (LINE, "GET / HTTP/1.1\rHost: a.test\r\r", Refused),
    (LINE, "\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (LINE, " GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (LINE, "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (LINE, "GET /  HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (LINE, "GET /\tHTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (LINE, "GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n", Refused),
    (LINE, "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n", Refused),
    (LINE, "GET /\u{0} HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (LINE, "G\u{0}T / HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (LINE, "\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n", One("")),
    (TARGET, "GET /a HTTP/1.1/b HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (TARGET, "GET /a#b HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (TARGET, "GET a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (TARGET, "GET * HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (TARGET, "GET http://u@a.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (TARGET, "GET http:///x HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (TARGET, "GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n", One("")),
    (TARGET, "CONNECT / HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (TARGET, "CONNECT a.test HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (TARGET, "CONNECT a.test:0 HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (TARGET, "CONNECT u@a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (TARGET, "CONNECT http://a.test:443/ HTTP/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (
        TARGET,
        "CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello",
        Refused,
    ),
    (
        SWITCH,
        "GET /case HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\n\
         Upgrade: websocket\r\n\r\n",
        One(""),
    ),
    (HOST, "GET / HTTP/1.1\r\n\r\n", Refused),
    (HOST, "GET / HTTP/1.1\r\nHost:\r\nHost: a.test\r\n\r\n", Refused),
    (HOST, "GET / HTTP/1.1\r\nHost: a.test b.test\r\n\r\n", Refused),
    (HOST, "GET / HTTP/1.1\r\nHost: a.test/x\r\n\r\n", Refused),
    (HOST, "GET / HTTP/1.1\r\nHost: u@a.test\r\n\r\n", Refused),
    (HOST, "GET / HTTP/1.1\r\nHost : a.test\r\n\r\n", Refused),
    (OLD, "GET /\r\n", Refused),
    (OLD, "GET / HTTP/0.9\r\nHost: a.test\r\n\r\n", Refused),
    (OLD, "GET / HTTP/1.2\r\nHost: a.test\r\n\r\n", Refused),
    (OLD, "GET / HTTP/2.0\r\nHost: a.test\r\n\r\n", Refused),
    (OLD, "GET / HTTP/1.10\r\nHost: a.test\r\n\r\n", Refused),
    (OLD, "GET / http/1.1\r\nHost: a.test\r\n\r\n", Refused),
    (
        OLD,
        "POST / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        Refused,
    ),
    (OLD, "POST / HTTP/1.0\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello", Last("hello")),
    (
        OLD,
        "POST / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\
         Content-Length: 5\r\n\r\nhello",
        One("hello"),
    ),
    // A body where one is seldom meant: framed by its length like any other.
    (SOUND, "GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello", One("hello")),
    (SOUND, "HEAD / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello", One("hello")),
    (SOUND, "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", One("")),
];

/// What follows every case.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";

fn cases() -> Vec<(&'static str, String, Fate)> {
    let of_post = |(family, fields, body, fate): &Post| {
        let bytes = format!("POST /case HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{body}");
        (*family, bytes, *fate)
    };
    let of_whole = |(family, bytes, fate): &Whole| (*family, (*bytes).to_owned(), *fate);
    POSTS.iter().map(of_post).chain(WHOLE.iter().map(of_whole)).collect()
}

/// The requests that an upstream was sent: each one's path and body.
type Kept = Arc<Mutex<Vec<(String, String)>>>;

/// A server that reads requests strictly and keeps them; it fails the test when a connection to it
/// is out of step.
async fn keeping() -> (RawUpstream, Kept) {
    let kept = Kept::default();
    let keep = Arc::clone(&kept);
    let raw = raw_upstream(move |mut wire| {
        let keep = Arc::clone(&keep);
        async move {
            while let Some(head) = wire.next_head().await {
                let line = head.lines().next().unwrap_or_default();
                assert!(line.ends_with(" HTTP/1.1") && line.split(' ').count() == 3, "{head:?}");
                let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
                let chunked = fields(&head, "transfer-encoding") == ["chunked"];
                let length = field(&head, "content-length").map(|n| n.parse().expect("a number"));
                assert!(!(chunked && length.is_some()), "two framings:\n{head}");
                let Some(body) = body(&mut wire, chunked, length.unwrap_or(0)).await else {
                    // The proxy has cut it off, as it must when its client's body is no body.
                    return;
                };
                keep.lock().expect("no panic").push((path, body));
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            }
        }
    })
    .await;
    (raw, kept)
}

/// A request's body; `None` when it is cut off.
async fn body(wire: &mut Wire, chunked: bool, length: usize) -> Option<String> {
    let mut body = String::new();
    if !chunked {
        return wire.try_bytes(length).await.map(|bytes| String::from_utf8(bytes).expect("text"));
    }
    loop {
        let size = wire.try_until("\r\n").await?;
        let size = usize::from_str_radix(size.trim_end(), 16).expect("a size and nothing else");
        if size == 0 {
            while wire.try_until("\r\n").await? != "\r\n" {}
            return Some(body);
        }
        body.push_str(&String::from_utf8(wire.try_bytes(size).await?).expect("text"));
        assert_eq!(wire.try_until("\r\n").await?, "\r\n");
    }
}

/// Sends a case and what follows it, in pieces of so many bytes, and reads to the end.
async fn play(address: std::net::SocketAddr, bytes: &str, at_once: usize) -> String {
    let mut wire = Wire::connect(address).await;
    let all = format!("{bytes}{SMUGGLED}{}", SMUGGLED.replace("/smuggled", "/end"));
    // The last request asks for the end of the connection, so that its end is the answer's end.
    let all =
        all.replacen("GET /end HTTP/1.1\r\n", "GET /end HTTP/1.1\r\nConnection: close\r\n", 1);
    for piece in all.as_bytes().chunks(at_once) {
        if !wire.try_send(piece).await {
            break;
        }
        tokio::task::yield_now().await;
    }
    within("the end of the connection", wire.rest()).await
}

async fn all_meet_their_fate(at_once: usize) {
    let (raw, kept) = keeping().await;
    let proxy = before(&raw).await;
    let mut wrong = Vec::new();
    for (family, bytes, fate) in cases() {
        kept.lock().expect("no panic").clear();
        let answer = play(proxy.address(), &bytes, at_once).await;
        let statuses: Vec<&str> = answer
            .match_indices("HTTP/1.1 ")
            .filter_map(|(at, name)| answer.get(at + name.len()..at + name.len() + 3))
            .filter(|status| status.bytes().all(|byte| byte.is_ascii_digit()))
            .collect();
        let seen = kept.lock().expect("no panic").clone();
        let bodies: Vec<&str> = seen.iter().map(|(_, body)| body.as_str()).collect();
        let paths: Vec<&str> = seen.iter().map(|(path, _)| path.as_str()).skip(1).collect();
        let right = match fate {
            Refused => {
                statuses == ["400"]
                    && seen.is_empty()
                    && field(answer.split("\r\n\r\n").next().unwrap_or_default(), "connection")
                        == Some("close")
                    && answer.contains("x-outrigger-reason: bad_request\r\n")
            }
            Last(body) => statuses == ["200"] && bodies == [body],
            One(body) => {
                statuses == ["200"; 3] && bodies == [body, "", ""] && paths == ["/smuggled", "/end"]
            }
        };
        if !right {
            wrong.push(format!("{family}: {bytes:?} is not {fate:?}: {statuses:?} {seen:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
    // And the connections that stay serve on.
    kept.lock().expect("no panic").clear();
    assert!(play(proxy.address(), SMUGGLED, 4096).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(kept.lock().expect("no panic").len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_meets_its_fate() {
    assert!(cases().len() >= 120, "{} cases", cases().len());
    all_meet_their_fate(usize::MAX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_meets_its_fate_in_small_pieces() {
    all_meet_their_fate(7).await;
}
