//! A client that reads slowly holds up its own upstream and nobody else, and costs little memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::support::client::{Client, request};
use crate::support::proxy::one_route;
use crate::support::reply::Reply;
use crate::support::{client, eventually, reply, upstream};

const PIECE: usize = 64 * 1024;
/// What the proxy, the kernel and both libraries may hold for a client that does not read; the
/// loopback's socket buffers alone come to several MiB.
const HELD: usize = 24 * 1024 * 1024;
/// What the upstream would send if nobody held it up.
const WHOLE: usize = 64 * 1024 * 1024;
/// How long nothing more is taken from the upstream before we believe that it is held up.
const STILL: Duration = Duration::from_millis(500);

async fn is_held_up(client: fn(&crate::support::proxy::Proxy) -> Client) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let upstream = upstream()
        .serve(move |arrival| {
            let counted = Arc::clone(&counted);
            async move {
                if arrival.target != "/large" {
                    return Reply::from(200);
                }
                let (reply, feed) = reply(200).streamed();
                tokio::spawn(async move {
                    let piece = Bytes::from(vec![b'x'; PIECE]);
                    while counted.load(Ordering::SeqCst) < WHOLE && feed.send(piece.clone()).await {
                        counted.fetch_add(PIECE, Ordering::SeqCst);
                    }
                });
                reply
            }
        })
        .spawn()
        .await;
    let proxy = one_route(&upstream, "")
        .and("runtime: { workers: 1, drain: { timeout: 5s, linger: 0s } }")
        .spawn()
        .await;
    let mut connection = client(&proxy).connect().await;
    let answer = connection.open(request("GET", "/large")).await;
    // Nothing is read of it. The upstream is held up once the count stands still.
    let mut before = usize::MAX;
    let mut look = tokio::time::interval(STILL);
    while before != sent.load(Ordering::SeqCst) {
        before = sent.load(Ordering::SeqCst);
        look.tick().await;
        look.tick().await;
    }
    assert!(before < HELD, "{before} bytes are held for a client that does not read");
    // The same thread serves others meanwhile.
    let other = crate::support::client(&proxy);
    for _ in 0..20 {
        assert_eq!(other.get("/").await.status(), 200);
    }
    // Read on, it comes whole.
    let answer = crate::support::client::Answer::of(answer).await;
    assert!(!answer.broken);
    assert_eq!(answer.body.len(), WHOLE);
    eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_http1_holds_up_its_upstream_and_nobody_else() {
    is_held_up(client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_http2_holds_up_its_upstream_and_nobody_else() {
    is_held_up(|proxy| client(proxy).http2()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_at_all_is_given_up_after_the_idle_timeout() {
    let (feeds, mut feed) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream()
        .serve(move |_| {
            let (reply, feed) = reply(200).streamed();
            feeds.send(feed).expect("the test listens");
            async { reply }
        })
        .spawn()
        .await;
    let proxy = one_route(&upstream, "").listening("limits: { idle_timeout: 300ms }").spawn().await;
    let mut connection = client(&proxy).connect().await;
    let _answer = connection.open(request("GET", "/")).await;
    let feed = feed.recv().await.expect("the upstream answers");
    let piece = Bytes::from(vec![b'x'; PIECE]);
    let pouring = async { while feed.send(piece.clone()).await {} };
    crate::support::within("the proxy to give the client up", pouring).await;
    eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
}
