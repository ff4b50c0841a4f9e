//! A client that goes away takes its request with it, at once and to the last count.

use crate::support::client::{Client, request};
use crate::support::proxy::{Proxy, one_route};
use crate::support::reply::Reply;
use crate::support::upstream::Upstream;
use crate::support::{client, eventually, reply, upstream, within};

const GONE: &str = "outrigger_route_reasons_total{route=\"r\",reason=\"client_gone\"}";

fn ways(proxy: &Proxy) -> [Client; 2] {
    [client(proxy), client(proxy).http2()]
}

async fn settled(proxy: &Proxy, upstream: &Upstream, gone: usize) {
    upstream.until("the request to be given up", |tally| tally.abandoned >= gone).await;
    eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
    eventually("the client to be missed", || proxy.metric(GONE) >= gone as f64).await;
    assert_eq!(proxy.metric(GONE), gone as f64);
}

async fn gives_up_an_unanswered_request(upstream: Upstream, protocol: &str) {
    let proxy = one_route(&upstream, "")
        .and(&format!("defaults: {{ upstream: {{ protocol: {protocol} }} }}"))
        .spawn()
        .await;
    for (at, client) in ways(&proxy).into_iter().enumerate() {
        let mut connection = client.connect().await;
        let answer = tokio::spawn(connection.start(request("GET", "/")).await);
        upstream.until("the request", |tally| tally.requests == at + 1).await;
        assert_eq!(proxy.in_flight(), 2.0);
        answer.abort();
        drop(connection);
        settled(&proxy, &upstream, at + 1).await;
    }
    let cancelled = "outrigger_upstream_attempts_total{upstream=\"back\",result=\"cancelled\"}";
    assert_eq!(proxy.metric(cancelled), 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_request_is_given_up_at_an_http1_upstream() {
    let upstream = upstream().always(|| Reply::Hang).spawn().await;
    gives_up_an_unanswered_request(upstream, "http1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unanswered_request_is_given_up_at_an_http2_upstream() {
    let upstream = upstream().always(|| Reply::Hang).http2().spawn().await;
    gives_up_an_unanswered_request(upstream, "http2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_stream_that_is_reset_leaves_the_others_alone() {
    let upstream =
        upstream()
            .serve(|arrival| async move {
                if arrival.target == "/hang" { Reply::Hang } else { 200.into() }
            })
            .http2()
            .spawn()
            .await;
    let proxy =
        one_route(&upstream, "").and("defaults: { upstream: { protocol: http2 } }").spawn().await;
    let mut connection = client(&proxy).http2().connect().await;
    let hanging = tokio::spawn(connection.start(request("GET", "/hang")).await);
    upstream.until("the request", |tally| tally.requests == 1).await;
    // Its future dropped, the client library resets the stream and keeps the connection.
    hanging.abort();
    settled(&proxy, &upstream, 1).await;
    assert_eq!(connection.send(request("GET", "/")).await.status(), 200);
    assert_eq!(upstream.tally().accepted, 1, "the upstream's connection was lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_half_way_is_given_up() {
    let (feeds, mut feed) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream()
        .serve(move |_| {
            let (reply, feed) = reply(200).streamed();
            feeds.send(feed).expect("the test listens");
            async { reply }
        })
        .spawn()
        .await;
    let proxy = one_route(&upstream, "").spawn().await;
    for (at, client) in ways(&proxy).into_iter().enumerate() {
        let mut connection = client.connect().await;
        let answer = connection.open(request("GET", "/")).await;
        let feed = feed.recv().await.expect("the upstream answers");
        feed.now("the beginning");
        drop(answer);
        drop(connection);
        within("the upstream to be told", feed.gone()).await;
        eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
        eventually("the client to be missed", || proxy.metric(GONE) >= (at + 1) as f64).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_half_sent_is_given_up_and_never_looks_whole() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").spawn().await;
    for (at, client) in ways(&proxy).into_iter().enumerate() {
        let (ask, feed) = request("POST", "/").streamed();
        feed.now("the beginning");
        let mut connection = client.connect().await;
        let answer = tokio::spawn(connection.start(ask).await);
        upstream.until("the request", |tally| tally.requests == at + 1).await;
        answer.abort();
        drop(connection);
        upstream.until("the cut", |tally| tally.open == 0).await;
        eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
    }
    assert!(upstream.requests().iter().all(|seen| !seen.whole));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_between_two_attempts_ends_the_retries() {
    let upstream = upstream().then(503).spawn().await;
    let retry = "retry: { backoff: { base: 10s, max: 10s, jitter: equal } }";
    let proxy = one_route(&upstream, retry).spawn().await;
    let mut connection = client(&proxy).connect().await;
    let answer = tokio::spawn(connection.start(request("GET", "/")).await);
    let retries = "outrigger_route_retries_total{route=\"r\"}";
    eventually("the wait for the second attempt", || proxy.metric(retries) == 1.0).await;
    answer.abort();
    drop(connection);
    eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
    assert_eq!(upstream.hits(), 1);
}
