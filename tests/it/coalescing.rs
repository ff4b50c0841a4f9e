//! Equal GETs in flight share one exchange with the upstream.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::caller::{Caller, Got, request};
use crate::support::proxy::{Proxy, one_route};
use crate::support::reply::Reply;
use crate::support::upstream::Upstream;
use crate::support::{eventually, reply, upstream};

const ROUTE: &str = "retry: { mode: off }\ncircuit_breaker: { mode: off }\n";

/// An upstream that answers as many requests as the gate lets through.
async fn gated(
    make: impl Fn(usize) -> Reply + Send + Sync + 'static,
) -> (Upstream, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let shut = Arc::clone(&gate);
    let make = Arc::new(make);
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let serve = move |_| {
        let (shut, make) = (Arc::clone(&shut), Arc::clone(&make));
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            shut.acquire().await.expect("the gate stands").forget();
            make(number)
        }
    };
    (upstream().serve(serve).spawn().await, gate)
}

async fn shared(upstream: &Upstream, rest: &str) -> Proxy {
    let rest = format!("{ROUTE}cache: {{ coalesce: true }}\n{rest}");
    one_route(upstream, &rest).spawn().await
}

/// Sends so many GETs at once, each on a connection of its own, with these fields.
fn send(proxy: &Proxy, count: usize, field: Option<(&'static str, &str)>) -> JoinSet<Got> {
    let mut all = JoinSet::new();
    for _ in 0..count {
        let mut request = request("GET", "/");
        if let Some((name, value)) = field {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let caller = Caller::new(proxy.address());
        all.spawn(async move { caller.send(request).await });
    }
    all
}

/// How many wait for another's exchange.
fn waiting(proxy: &Proxy) -> usize {
    let live = proxy.app().proxy.live();
    live.snapshot.routes[0].cache.as_ref().expect("it has a cache").flights.waiting()
}

fn requests(upstream: &Upstream) -> usize {
    upstream.tally().requests
}

fn coalesced(proxy: &Proxy) -> f64 {
    let sample = "outrigger_route_cache_events_total{route=\"r\",event=\"coalesced\"}";
    if proxy.metrics().contains(sample) { proxy.metric(sample) } else { 0.0 }
}

#[tokio::test]
async fn one_exchange_answers_all_that_wait_on_all_workers() {
    let (upstream, gate) = gated(|number| reply(200).body(format!("answer {number}"))).await;
    let proxy = shared(&upstream, "").await;
    let all = send(&proxy, 20, None);
    eventually("all but one wait", || waiting(&proxy) == 19).await;
    gate.add_permits(1);
    let mut shared = 0;
    for got in all.join_all().await {
        assert_eq!((got.status, &got.body[..]), (200, &b"answer 0"[..]));
        if let Some(said) = got.header("cache-status") {
            assert_eq!(said, "outrigger; fwd=miss; collapsed");
            assert!(got.header("age").is_some() && got.header("x-outrigger-fallback").is_none());
            shared += 1;
        }
    }
    assert_eq!((requests(&upstream), shared, coalesced(&proxy)), (1, 19, 19.0));
    assert_eq!(waiting(&proxy), 0);
    gate.add_permits(1);
    let later = send(&proxy, 1, None).join_all().await;
    assert_eq!(&later[0].body[..], b"answer 1", "nothing is answered from what is kept");
}

#[tokio::test]
async fn when_the_leader_fails_one_of_the_others_goes_next() {
    let (upstream, gate) = gated(|number| match number {
        0 => reply(503),
        1 => Reply::Close,
        _ => reply(200).body("good"),
    })
    .await;
    let proxy = shared(&upstream, "fallback: [{ respond: { status: 299 } }]").await;
    let all = send(&proxy, 10, None);
    for failures in 0..2 {
        eventually("all but one wait", || {
            waiting(&proxy) == 9 - failures && requests(&upstream) == failures + 1
        })
        .await;
        gate.add_permits(1);
    }
    eventually("all but one wait", || waiting(&proxy) == 7).await;
    gate.add_permits(1);
    let statuses: Vec<u16> = all.join_all().await.iter().map(|got| got.status).collect();
    let count = |status| statuses.iter().filter(|s| **s == status).count();
    assert_eq!((count(299), count(200)), (2, 8), "{statuses:?}");
    assert_eq!((requests(&upstream), coalesced(&proxy)), (3, 7.0));
}

#[tokio::test]
async fn a_leader_whose_client_leaves_hands_over() {
    let (upstream, gate) = gated(|_| reply(200)).await;
    let proxy = shared(&upstream, "").await;
    let mut leader = send(&proxy, 1, None);
    eventually("it is sent", || requests(&upstream) == 1).await;
    let all = send(&proxy, 3, None);
    eventually("the others wait", || waiting(&proxy) == 3).await;
    leader.shutdown().await;
    eventually("one of them goes", || requests(&upstream) == 2 && waiting(&proxy) == 2).await;
    gate.add_permits(2);
    assert!(all.join_all().await.iter().all(|got| got.status == 200));
    assert_eq!((requests(&upstream), coalesced(&proxy)), (2, 2.0));
}

#[tokio::test]
async fn an_answer_for_one_client_lets_the_others_go_at_once() {
    let make = |number| reply(200).header("cache-control", "private").body(format!("{number}"));
    let (upstream, gate) = gated(make).await;
    let proxy = shared(&upstream, "").await;
    let all = send(&proxy, 5, None);
    eventually("all but one wait", || waiting(&proxy) == 4).await;
    gate.add_permits(1);
    eventually("each goes itself", || requests(&upstream) == 5).await;
    gate.add_permits(4);
    let mut bodies: Vec<_> = all.join_all().await.into_iter().map(|got| got.body).collect();
    bodies.sort();
    assert_eq!(bodies, ["0", "1", "2", "3", "4"], "nobody has another's");
    assert_eq!(coalesced(&proxy), 0.0);
}

#[tokio::test]
async fn requests_with_credentials_conditions_or_other_values_do_not_share() {
    let make = |_| reply(200).header("vary", "accept-language");
    let (upstream, gate) = gated(make).await;
    let proxy = shared(&upstream, "").await;
    let mut first = send(&proxy, 1, Some(("accept-language", "de")));
    eventually("it is sent", || requests(&upstream) == 1).await;
    let fields = [
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
        ("range", "bytes=0-1"),
        ("if-none-match", "\"a\""),
        ("cache-control", "no-cache"),
    ];
    let mut own = JoinSet::new();
    for (number, (name, value)) in fields.into_iter().enumerate() {
        let mut one = send(&proxy, 1, Some((name, value)));
        own.spawn(async move { one.join_next().await.unwrap().unwrap().status });
        eventually(name, || requests(&upstream) == number + 2).await;
    }
    let mut other = send(&proxy, 1, Some(("accept-language", "fr")));
    eventually("it waits, for nobody knows of `Vary` yet", || waiting(&proxy) == 1).await;
    gate.add_permits(20);
    assert!(own.join_all().await.iter().all(|status| *status == 200));
    for got in [first.join_next().await, other.join_next().await] {
        assert_eq!(got.unwrap().unwrap().header("cache-status"), None);
    }
    assert_eq!((requests(&upstream), coalesced(&proxy)), (7, 0.0));
}

#[tokio::test]
async fn who_waits_keeps_its_own_deadline_and_its_fallback() {
    let (upstream, gate) = gated(|_| reply(200)).await;
    let proxy = shared(&upstream, "fallback: [stale]").await;
    gate.add_permits(1);
    send(&proxy, 1, None).join_all().await;
    let first = send(&proxy, 1, None);
    eventually("it is sent", || requests(&upstream) == 2).await;
    let short = send(&proxy, 1, Some(("x-request-timeout-ms", "50"))).join_all().await;
    assert_eq!(short[0].header("x-outrigger-fallback"), Some("stale"));
    assert_eq!((short[0].status, short[0].reason()), (200, Some("deadline")));
    assert_eq!(requests(&upstream), 2, "it did not go itself");
    gate.add_permits(1);
    assert_eq!(first.join_all().await[0].status, 200);
}

#[tokio::test]
async fn a_leader_whose_answer_stalls_is_left_behind_by_one() {
    let stalled = Arc::new(std::sync::Mutex::new(None));
    let kept = Arc::clone(&stalled);
    let (upstream, gate) = gated(move |number| {
        if number > 0 {
            return reply(200).body("whole");
        }
        let (reply, feed) = reply(200).streamed();
        *kept.lock().unwrap() = Some(feed);
        reply
    })
    .await;
    let proxy = shared(&upstream, "timeouts: { total: 30s, per_try: 1s }").await;
    gate.add_permits(1);
    let leader = send(&proxy, 1, None);
    eventually("its answer begins", || stalled.lock().unwrap().is_some()).await;
    let all = send(&proxy, 3, None);
    eventually("all wait", || waiting(&proxy) == 3).await;
    eventually("one goes", || requests(&upstream) == 2 && waiting(&proxy) == 2).await;
    gate.add_permits(1);
    assert!(all.join_all().await.iter().all(|got| &got.body[..] == b"whole"));
    assert_eq!((requests(&upstream), coalesced(&proxy)), (2, 2.0));
    drop(stalled.lock().unwrap().take());
    assert_eq!(leader.join_all().await[0].status, 200);
}
