//! Upstreams that speak HTTP/2: one connection for many, and refusals that prove that nothing ran.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::TcpListener;

use crate::support::client::request;
use crate::support::proxy::{Builder, proxy};
use crate::support::{client, reply, upstream, within};

fn through(address: std::net::SocketAddr, workers: usize) -> Builder {
    let yaml = format!(
        "runtime: {{ workers: {workers}, drain: {{ timeout: 5s, linger: 0s }} }}
upstreams: {{ back: {{ protocol: http2, endpoints: [\"{{upstream}}\"] }} }}
routes: [{{ name: r, upstream: back }}]
"
    );
    proxy(&yaml).with("upstream", address)
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_one_connection() {
    let together = Arc::new(tokio::sync::Barrier::new(10));
    let upstream = upstream()
        .serve(move |mut arrival| {
            let together = Arc::clone(&together);
            async move {
                // None is answered before all are there.
                together.wait().await;
                reply(200).body(arrival.read().await)
            }
        })
        .http2()
        .spawn()
        .await;
    let proxy = through(upstream.address(), 1).spawn().await;
    // The first opens the connection, so that the others find it.
    let mut clients = Vec::new();
    for at in 0..10 {
        let client = if at % 2 == 0 { client(&proxy) } else { client(&proxy).http2() };
        clients.push(tokio::spawn(async move { client.post("/", format!("{at}")).await }));
        upstream.until("the request", |tally| tally.requests > at).await;
    }
    for (at, answer) in clients.into_iter().enumerate() {
        let answer = within("the answer", answer).await.expect("no panic");
        assert_eq!(answer.text(), at.to_string());
    }
    assert_eq!(upstream.tally().accepted, 1);
    let seen = &upstream.requests()[0];
    assert_eq!(seen.uri.authority().expect("an authority"), "svc.test");
    assert!(!seen.headers.contains_key("host"), "Host beside :authority: {:?}", seen.headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_pass_both_ways() {
    let upstream = upstream()
        .serve(|mut arrival| async move {
            arrival.read().await;
            reply(200).trailers("body", &[("x-sum", "4")])
        })
        .http2()
        .spawn()
        .await;
    let proxy = through(upstream.address(), 1).spawn().await;
    let (ask, feed) = request("POST", "/").streamed();
    feed.now("body");
    feed.trailers(&[("x-sent", "4")]).await;
    let answer = client(&proxy).http2().send(ask).await;
    assert_eq!(answer.trailers.expect("trailers came")["x-sum"], "4");
    assert_eq!(upstream.request().trailers.expect("trailers came")["x-sent"], "4");
}

/// What a server of frames does with the first stream of its first connection.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum First {
    Refuse,
    /// And with all that follow.
    RefuseAll,
    GoAway,
    ResetInternally,
}

/// A server that does this with the very first request and answers 200 to all others.
pub(crate) async fn after(first: First) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let hits = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&hits);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    match (counted.fetch_add(1, Ordering::SeqCst), first) {
                        (0, First::Refuse) | (_, First::RefuseAll) => {
                            respond.send_reset(h2::Reason::REFUSED_STREAM);
                        }
                        (0, First::ResetInternally) => {
                            respond.send_reset(h2::Reason::INTERNAL_ERROR);
                        }
                        (0, First::GoAway) => {
                            respond.send_reset(h2::Reason::REFUSED_STREAM);
                            connection.graceful_shutdown();
                        }
                        _ => {
                            let answer = http::Response::new(());
                            respond.send_response(answer, true).expect("the proxy is there");
                        }
                    }
                }
            });
        }
    });
    (address, hits)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stream_is_tried_again_even_for_post() {
    for first in [First::Refuse, First::GoAway] {
        let (address, hits) = after(first).await;
        let proxy = through(address, 1).spawn().await;
        assert_eq!(client(&proxy).post("/", "once").await.status(), 200);
        assert_eq!(hits.load(Ordering::SeqCst), 2);
        let refused = "outrigger_upstream_attempts_total{upstream=\"back\",result=\"refused\"}";
        assert_eq!(proxy.metric(refused), 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_broke_off_is_tried_again_for_get_alone() {
    let (address, hits) = after(First::ResetInternally).await;
    let proxy = through(address, 1).spawn().await;
    let answer = client(&proxy).post("/", "once").await;
    assert_eq!((answer.status().as_u16(), answer.reason()), (502, Some("upstream_reset")));
    assert_eq!(hits.load(Ordering::SeqCst), 1);
    let (address, hits) = after(First::ResetInternally).await;
    let proxy = through(address, 1).spawn().await;
    assert_eq!(client(&proxy).get("/").await.status(), 200);
    assert_eq!(hits.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_says_goodbye_is_replaced_without_an_error() {
    // Says goodbye after every answer.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let answer = http::Response::new(());
                    respond.send_response(answer, true).expect("the proxy is there");
                    connection.graceful_shutdown();
                }
            });
        }
    });
    let proxy = through(address, 1).spawn().await;
    let mut connection = client(&proxy).connect().await;
    for _ in 0..20 {
        let answer = connection.send(request("POST", "/").body("once")).await;
        assert_eq!(answer.status(), 200, "{:?}", answer.reason());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_speaks_http1_alone_is_a_502() {
    let upstream = upstream().spawn().await;
    let proxy = through(upstream.address(), 1).spawn().await;
    let answer = client(&proxy).get("/").await;
    assert_eq!(answer.status(), 502, "{:?}", answer.reason());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_is_never_taken_for_a_whole_one() {
    let upstream = upstream()
        .serve(|_| async move {
            let (reply, feed) = reply(200).streamed();
            tokio::spawn(async move {
                feed.send("the beginning").await;
                feed.cut().await;
            });
            reply
        })
        .http2()
        .spawn()
        .await;
    let proxy = through(upstream.address(), 1).spawn().await;
    for client in [client(&proxy), client(&proxy).http2()] {
        assert!(client.sees_cut(request("GET", "/")).await);
    }
}
