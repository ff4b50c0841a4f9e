//! 100 (Continue) and other interim answers: asked for once, given once, never in the way.

use crate::bodies::before;
use crate::support::proxy::one_route;
use crate::support::wire::field;
use crate::support::{Wire, raw_upstream, reply, upstream};

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

#[tokio::test(flavor = "multi_thread")]
async fn interim_answers_of_the_upstream_do_not_stand_for_its_answer() {
    let raw = raw_upstream(|mut wire| async move {
        wire.message().await;
        wire.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").await;
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast").await;
    })
    .await;
    let proxy = before(&raw).await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody").await;
    let (head, body) = wire.message().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!((field(&head, "link"), body.as_str()), (None, "last"));
}
