//! 100 (Continue) and other interim answers: asked for once, given once, never in the way.

use crate::bodies::before;
use crate::support::proxy::one_route;
use crate::support::upstream::RawUpstream;
use crate::support::wire::field;
use crate::support::{Wire, client, raw_upstream, reply, upstream};

const EXPECTING: &str = "POST /in HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\
                         Expect: 100-continue\r\n\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_gets_100_before_it_sends() {
    let upstream = upstream()
        .serve(|mut arrival| async move { reply(200).body(arrival.read().await) })
        .spawn()
        .await;
    let proxy = one_route(&upstream, "").spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send(EXPECTING).await;
    assert_eq!(wire.head().await, "HTTP/1.1 100 Continue\r\n\r\n");
    wire.send("body").await;
    let (head, body) = wire.message().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!(body, "body");
    assert_eq!(upstream.request().header("expect"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_ask_gets_none() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody").await;
    assert!(wire.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_comes_instead_of_100() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "match: { path_prefix: /other }").spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send(EXPECTING).await;
    let (head, _) = wire.message().await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    // The body may come or not: nobody can tell where the next request begins.
    wire.closed().await;
}

/// An upstream that sends 100 and 103 before its answer.
async fn hinting() -> RawUpstream {
    raw_upstream(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            let length = field(&head, "content-length").map_or(0, |n| n.parse().expect("a number"));
            wire.bytes(length).await;
            wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
            wire.send(
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-Mine\r\nX-Mine: 1\r\n\
                 Content-Length: 7\r\n\r\n",
            )
            .await;
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast").await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn early_hints_pass_and_do_not_stand_for_the_answer() {
    let raw = hinting().await;
    let proxy = before(&raw).await;
    let mut wire = Wire::connect(proxy.address()).await;
    for _ in 0..2 {
        wire.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody").await;
        // What speaks of the upstream's connection stays there, and so does its 100.
        assert_eq!(wire.head().await, "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n");
        let (head, body) = wire.message().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!((field(&head, "link"), body.as_str()), (None, "last"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn early_hints_reach_none_who_cannot_take_them() {
    let raw = hinting().await;
    let proxy = before(&raw).await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n").await;
    let answer = wire.rest().await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nlast"), "{answer}");
    assert_eq!(client(&proxy).http2().get("/").await.text(), "last");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_early_hints_come_before_the_answer_all_the_same() {
    let raw = raw_upstream(|mut wire| async move {
        wire.head().await;
        for at in 0..16 {
            wire.send(format!("HTTP/1.1 103 Early Hints\r\nX-At: {at}\r\n\r\n")).await;
        }
        wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    })
    .await;
    let proxy = before(&raw).await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    for at in 0..16 {
        assert_eq!(field(&wire.head().await, "x-at"), Some(at.to_string().as_str()));
    }
    assert!(wire.head().await.starts_with("HTTP/1.1 204 "));
}
