//! Requests that two recipients could read differently: each ends in 400 and a closed connection,
//! or reaches the upstream as exactly one request, and none puts a pooled connection out of step.
//!
//! The tables of [`corpus`] are meant to grow: one line a case. A case is the bytes up to and with
//! its own body; behind each of them the test sends a request for `/smuggled`, which must never be
//! served on the strength of bytes that another recipient would take for a body, nor be swallowed
//! by one.

mod corpus;

use std::sync::{Arc, Mutex};

use self::corpus::Fate::{self, Last, One, Refused};
use self::corpus::{POSTS, Post, WHOLE, Whole};

use crate::bodies::before;
use crate::support::upstream::RawUpstream;
use crate::support::wire::{field, fields};
use crate::support::{Wire, raw_upstream, within};

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
    assert!(cases().len() >= 200, "{} cases", cases().len());
    all_meet_their_fate(usize::MAX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_meets_its_fate_in_small_pieces() {
    all_meet_their_fate(7).await;
}
