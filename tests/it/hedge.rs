//! A second copy of a request that is slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::client::request;
use crate::support::proxy::{Proxy, proxy};
use crate::support::reply::Reply;
use crate::support::upstream::Upstream;
use crate::support::{client, eventually, reply, upstream};

/// Two endpoints that leave every request without an answer until a second copy of it has come.
async fn two() -> [Upstream; 2] {
    let seen = Arc::new(AtomicUsize::new(0));
    let start = || {
        let seen = Arc::clone(&seen);
        upstream().serve(move |_| {
            let seen = seen.fetch_add(1, Ordering::SeqCst);
            async move { if seen.is_multiple_of(2) { Reply::Hang } else { reply(200).body("copy") } }
        })
    };
    [start().spawn().await, start().spawn().await]
}

async fn hedged(endpoints: &[Upstream], hedge: &str, more: &str) -> Proxy {
    let list: Vec<String> = endpoints.iter().map(|e| format!("\"{}\"", e.address())).collect();
    let text = format!(
        "upstreams: {{ back: {{ endpoints: [{}] }} }}\n\
         routes: [{{ name: r, upstream: back, hedge: {{ {hedge} }}, {more} }}]\n",
        list.join(",")
    );
    proxy(&text).spawn().await
}

fn hits(endpoints: &[Upstream]) -> usize {
    endpoints.iter().map(Upstream::hits).sum()
}

fn hedges(proxy: &Proxy, result: &str) -> f64 {
    proxy.metric(&format!("outrigger_route_hedges_total{{route=\"r\",result=\"{result}\"}}"))
}

fn suppressed(proxy: &Proxy, reason: &str) -> f64 {
    let name = "outrigger_route_hedges_suppressed_total";
    proxy.metric(&format!("{name}{{route=\"r\",reason=\"{reason}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_goes_to_another_endpoint_and_its_answer_is_taken() {
    let endpoints = two().await;
    let proxy = hedged(&endpoints, "after: 30ms, max_extra: 100%", "").await;
    for client in [client(&proxy), client(&proxy).http2()] {
        let answer = client.get("/").await;
        assert_eq!((answer.status().as_u16(), answer.text()), (200, "copy"));
    }
    let seen: Vec<_> = endpoints.iter().flat_map(Upstream::requests).collect();
    assert_eq!(endpoints.each_ref().map(Upstream::hits), [2, 2], "each copy to the other endpoint");
    let copies = seen.iter().filter(|s| s.header("x-retry-attempt") == Some("1")).count();
    assert_eq!(copies, 2);
    assert_eq!((hedges(&proxy, "won"), hedges(&proxy, "lost")), (2.0, 0.0));
    let abandoned = || endpoints.iter().map(|e| e.tally().abandoned).sum::<usize>();
    eventually("the first ones to be cancelled", || abandoned() == 2).await;
    eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
    let live = proxy.app().proxy.live();
    let view = live.snapshot.upstreams["back"].state.gate.view(outrigger::clock::now());
    assert_eq!(view.limiter.in_flight, 0);
    assert!(!proxy.metrics().contains("outrigger_breaker_transitions_total"), "it stays closed");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_sent_twice_is_not() {
    let endpoints = [upstream().spawn().await, upstream().spawn().await];
    let proxy = hedged(&endpoints, "after: 1ms, max_extra: 100%", "").await;
    for _ in 0..20 {
        assert_eq!(client(&proxy).post("/", "body").await.status(), 200);
    }
    let put = request("PUT", "/").body("a body that only one attempt can read");
    assert_eq!(client(&proxy).send(put).await.status(), 200);
    assert_eq!(hits(&endpoints), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_are_few() {
    let endpoints = two().await;
    let timeouts = "timeouts: { total: 300ms, connect: 100ms }, retry: { mode: off }, circuit_breaker: { mode: off }";
    let proxy = hedged(&endpoints, "after: 10ms, max_extra: 5%", timeouts).await;
    assert_eq!(client(&proxy).get("/").await.status(), 504);
    assert_eq!((hits(&endpoints), suppressed(&proxy, "budget")), (1, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_sends_no_copy() {
    let endpoints = two().await;
    let timeouts = "timeouts: { total: 300ms, connect: 100ms }, retry: { mode: off }";
    let proxy = hedged(&endpoints, "mode: observe, after: 10ms, max_extra: 100%", timeouts).await;
    assert_eq!(client(&proxy).get("/").await.status(), 504);
    assert_eq!(hits(&endpoints), 1);
    let would = "outrigger_route_would_act_total{route=\"r\",policy=\"hedge\"}";
    assert_eq!(proxy.metric(would), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fails_does_not_end_the_first() {
    let (feed, first) = tokio::sync::watch::channel(false);
    let seen = Arc::new(AtomicUsize::new(0));
    let start = || {
        let (seen, first) = (Arc::clone(&seen), first.clone());
        upstream().serve(move |_| {
            let (number, mut first) = (seen.fetch_add(1, Ordering::SeqCst), first.clone());
            async move {
                if number > 0 {
                    return 500.into();
                }
                first.wait_for(|go| *go).await.expect("the test goes on");
                reply(200).body("first")
            }
        })
    };
    let endpoints = [start().spawn().await, start().spawn().await];
    let proxy = hedged(&endpoints, "after: 10ms, max_extra: 100%", "").await;
    let client = client(&proxy);
    let answer = tokio::spawn(async move { client.get("/").await });
    eventually("the copy", || hits(&endpoints) == 2).await;
    feed.send(true).expect("the upstream listens");
    let answer = answer.await.expect("no panic");
    assert_eq!((answer.status().as_u16(), answer.text()), (200, "first"));
    assert_eq!(hedges(&proxy, "lost"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_endpoint_gets_no_copy() {
    let endpoints = [upstream().always(|| Reply::Hang).spawn().await];
    let timeouts = "timeouts: { total: 200ms, connect: 100ms }, retry: { mode: off }";
    let proxy = hedged(&endpoints, "after: 10ms, max_extra: 100%", timeouts).await;
    assert_eq!(client(&proxy).get("/").await.status(), 504);
    assert_eq!(hits(&endpoints), 1);
}
