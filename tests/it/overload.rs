//! What happens when a limit is reached: the upstream's adaptive one with its queue, and a route's
//! bulkhead.

use std::sync::Arc;

use outrigger::gate::View;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::support::client::{Answer, Ask, Client, request};
use crate::support::proxy::{Builder, Proxy, one_route, proxy};
use crate::support::upstream::Upstream;
use crate::support::{client, eventually, reply, upstream, within};

/// An upstream that answers one request for each permit that it is given, in their order.
struct Held {
    upstream: Upstream,
    permits: Arc<Semaphore>,
}

impl Held {
    async fn new() -> Self {
        let permits = Arc::new(Semaphore::new(0));
        let held = Arc::clone(&permits);
        let upstream = upstream().serve(move |arrival| {
            let held = Arc::clone(&held);
            async move {
                held.acquire().await.expect("the semaphore stays open").forget();
                reply(200).body(arrival.target)
            }
        });
        Self { upstream: upstream.spawn().await, permits }
    }

    fn answer(&self, requests: usize) {
        self.permits.add_permits(requests);
    }

    async fn has(&self, requests: usize) {
        self.upstream.until("the requests", move |tally| tally.requests == requests).await;
    }
}

/// One route to a held upstream under these settings of the limit.
fn limited(held: &Held, concurrency: &str, route: &str) -> Builder {
    let upstream = "upstreams: { back: { endpoints: [\"{upstream}\"], concurrency: {limit} } }";
    let route = format!("{upstream}\nroutes: [{{ name: r, upstream: back, {route} }}]\n");
    proxy(&route).to(&held.upstream).with("limit", format!("{{ {concurrency} }}"))
}

/// A fixed limit.
fn fixed(limit: u32, queue: &str) -> String {
    format!("min: {limit}, initial: {limit}, max: {limit}, queue: {{ {queue} }}")
}

fn ask(client: Client, ask: Ask) -> JoinHandle<Answer> {
    tokio::spawn(async move { client.send(ask).await })
}

fn view(proxy: &Proxy) -> View {
    let live = proxy.app().proxy.live();
    live.snapshot.upstreams["back"].state.gate.view(outrigger::clock::now())
}

async fn waiting(proxy: &Proxy, number: usize) {
    eventually("requests in the queue", || view(proxy).waiting == number).await;
}

async fn done(answer: JoinHandle<Answer>) -> Answer {
    within("an answer", answer).await.expect("no panic")
}

fn named(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status().as_u16(), answer.reason())
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_limit_and_without_a_queue_a_request_is_refused_unsent() {
    let held = Held::new().await;
    let proxy = limited(&held, &fixed(2, "max: 0"), "").spawn().await;
    let client = client(&proxy);
    let first = [ask(client, request("GET", "/1")), ask(client, request("GET", "/2"))];
    held.has(2).await;
    let refused = client.get("/3").await;
    assert_eq!(named(&refused), (503, Some("concurrency_limit")));
    assert_eq!(refused.header("x-outrigger-shed"), Some("1"));
    let wait: u64 = refused.header("retry-after").expect("a wait").parse().expect("seconds");
    assert!((1..=2).contains(&wait));
    held.answer(2);
    for answer in first {
        assert_eq!(done(answer).await.status(), 200);
    }
    assert_eq!(held.upstream.hits(), 2, "nothing was retried or sent");
    held.answer(1);
    assert_eq!(client.get("/4").await.status(), 200);
    assert_eq!(view(&proxy).limiter.in_flight, 0);
    let refused = "outrigger_route_reasons_total{route=\"r\",reason=\"concurrency_limit\"}";
    assert_eq!(proxy.metric(refused), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_served_in_turn_over_both_protocols() {
    let held = Held::new().await;
    let proxy = limited(&held, &fixed(1, "max: 8, max_wait: 30s"), "").spawn().await;
    let first = ask(client(&proxy), request("GET", "/first"));
    held.has(1).await;
    let second = ask(client(&proxy).http2(), request("GET", "/second"));
    waiting(&proxy, 1).await;
    let third = ask(client(&proxy), request("GET", "/third"));
    waiting(&proxy, 2).await;
    for (answer, wanted) in [(first, "/first"), (second, "/second"), (third, "/third")] {
        assert_eq!(
            held.upstream.requests().last().map(|seen| seen.uri.path().to_owned()).as_deref(),
            Some(wanted)
        );
        held.answer(1);
        let answer = done(answer).await;
        assert_eq!((answer.status().as_u16(), answer.text()), (200, wanted));
        if wanted != "/third" {
            let requests = if wanted == "/first" { 2 } else { 3 };
            held.has(requests).await;
        }
    }
    assert_eq!((view(&proxy).waiting, view(&proxy).limiter.in_flight), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_longer_than_the_queue_or_the_deadline_allows() {
    let held = Held::new().await;
    let proxy = limited(&held, &fixed(1, "max: 8, max_wait: 150ms"), "").spawn().await;
    let client = client(&proxy);
    let first = ask(client, request("GET", "/1"));
    held.has(1).await;
    assert_eq!(named(&client.get("/2").await), (503, Some("queue_timeout")));
    let soon = request("GET", "/3").header("x-request-timeout-ms", "40");
    assert_eq!(named(&client.send(soon).await), (504, Some("deadline")));
    assert_eq!(view(&proxy).waiting, 0);
    held.answer(1);
    assert_eq!(done(first).await.status(), 200);
    assert_eq!(held.upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_gives_way_to_who_is_more_important() {
    let held = Held::new().await;
    let proxy = limited(&held, &fixed(1, "max: 1, max_wait: 30s"), "").spawn().await;
    let client = client(&proxy);
    let of = |tier: &str| request("GET", "/").header("x-priority", tier);
    let first = ask(client, of("sheddable"));
    held.has(1).await;
    let low = ask(client, of("degraded"));
    waiting(&proxy, 1).await;
    assert_eq!(named(&client.send(of("sheddable")).await), (503, Some("concurrency_limit")));
    let high = ask(client, of("critical"));
    assert_eq!(named(&done(low).await), (503, Some("shed")));
    held.answer(2);
    assert_eq!(done(first).await.status(), 200, "what is under way is not broken off");
    assert_eq!(done(high).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_the_queue_leaves_nothing_behind() {
    let held = Held::new().await;
    let proxy = limited(&held, &fixed(1, "max: 8, max_wait: 30s"), "").spawn().await;
    let first = ask(client(&proxy), request("GET", "/1"));
    held.has(1).await;
    for client in [client(&proxy), client(&proxy).http2()] {
        let mut connection = client.connect().await;
        let answer = tokio::spawn(connection.start(request("GET", "/2")).await);
        waiting(&proxy, 1).await;
        answer.abort();
        drop(connection);
        waiting(&proxy, 0).await;
    }
    held.answer(1);
    assert_eq!(done(first).await.status(), 200);
    eventually("no place taken", || view(&proxy).limiter.in_flight == 0).await;
    assert_eq!(held.upstream.hits(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_streams_holds_no_place() {
    let upstream = upstream()
        .serve(|_| async {
            let (reply, feed) = reply(200).header("content-type", "text/event-stream").streamed();
            tokio::spawn(async move { feed.gone().await });
            reply
        })
        .spawn()
        .await;
    let limit = "defaults: { upstream: { concurrency: { min: 1, initial: 1, max: 1 } } }";
    let proxy = one_route(&upstream, "").and(limit).spawn().await;
    let mut open = Vec::new();
    for _ in 0..5 {
        let mut connection = client(&proxy).connect().await;
        let answer = connection.open(request("GET", "/")).await;
        assert_eq!(answer.status(), 200);
        open.push(answer);
    }
    assert_eq!(view(&proxy).limiter.in_flight, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn observing_refuses_nobody_and_counts() {
    let held = Held::new().await;
    let limit = format!("mode: observe, {}", fixed(1, "max: 0"));
    let bulkhead = "bulkhead: { mode: observe, max_concurrent: 1 }";
    let proxy = limited(&held, &limit, bulkhead).spawn().await;
    held.answer(0);
    let asked: Vec<_> = (0..3).map(|_| ask(client(&proxy), request("GET", "/"))).collect();
    held.has(3).await;
    held.answer(3);
    for answer in asked {
        assert_eq!(done(answer).await.status(), 200);
    }
    for policy in ["concurrency", "bulkhead"] {
        let would = format!("outrigger_route_would_act_total{{route=\"r\",policy=\"{policy}\"}}");
        assert_eq!(proxy.metric(&would), 2.0, "{policy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulkhead_keeps_a_slow_route_to_its_share() {
    let held = Held::new().await;
    let quick = upstream().spawn().await;
    let proxy = proxy(
        "upstreams:\n  back: { endpoints: [\"{upstream}\"] }\n  quick: { endpoints: [\"{quick}\"] }\n\
         routes:\n\
         - { name: r, match: { path_prefix: /slow }, upstream: back,\n\
         \u{20}   bulkhead: { max_concurrent: 2, queue: { max: 1, max_wait: 30s } } }\n\
         - { name: q, upstream: quick }\n",
    );
    let proxy = proxy.to(&held.upstream).with("quick", quick.address()).spawn().await;
    let client = client(&proxy);
    let slow: Vec<_> = (0..2).map(|_| ask(client, request("GET", "/slow"))).collect();
    held.has(2).await;
    let waits = ask(client, request("GET", "/slow/3"));
    let route = || {
        let live = proxy.app().proxy.live();
        live.snapshot.routes[0].bulkhead.clone().expect("a bulkhead")
    };
    eventually("one to wait", || route().waiting() == 1).await;
    assert_eq!(named(&client.get("/slow/4").await), (503, Some("bulkhead_full")));
    assert_eq!(client.get("/quick").await.status(), 200);
    held.answer(3);
    for answer in slow.into_iter().chain([waits]) {
        assert_eq!(done(answer).await.status(), 200);
    }
    eventually("all places back", || route().filled() == (0, 2)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulkhead_holds_its_place_to_the_last_byte() {
    let upstream = upstream()
        .serve(|arrival| async move {
            if arrival.target == "/short" {
                return 200.into();
            }
            let (reply, feed) = reply(200).streamed();
            tokio::spawn(async move { feed.gone().await });
            reply
        })
        .spawn()
        .await;
    let proxy = one_route(&upstream, "bulkhead: { max_concurrent: 1 }").spawn().await;
    let mut connection = client(&proxy).connect().await;
    let open = connection.open(request("GET", "/long")).await;
    assert_eq!(open.status(), 200);
    assert_eq!(named(&client(&proxy).get("/short").await), (503, Some("bulkhead_full")));
    drop((open, connection));
    let freed = || proxy.app().proxy.live().snapshot.routes[0].bulkhead.clone();
    eventually("the place", || freed().expect("a bulkhead").filled() == (0, 1)).await;
    assert_eq!(client(&proxy).get("/short").await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_keeps_who_is_in_and_what_is_known() {
    let held = Held::new().await;
    let builder =
        limited(&held, &fixed(2, "max: 4, max_wait: 30s"), "bulkhead: { max_concurrent: 3 }");
    let proxy = builder.spawn().await;
    let client = client(&proxy);
    let first: Vec<_> = (0..2).map(|_| ask(client, request("GET", "/"))).collect();
    held.has(2).await;
    let waits = ask(client, request("GET", "/"));
    waiting(&proxy, 1).await;
    let text =
        proxy.text.replace("max: 2, queue", "max: 3, queue").replace("initial: 2", "initial: 3");
    let text = text.replace("max_concurrent: 3", "max_concurrent: 4");
    assert!(proxy.app().proxy.reload(&text).expect("it is valid").changed);
    let now = view(&proxy);
    assert_eq!((now.limiter.in_flight, now.waiting), (2, 1));
    held.answer(3);
    for answer in first.into_iter().chain([waits]) {
        assert_eq!(done(answer).await.status(), 200);
    }
    eventually("all places back", || view(&proxy).limiter.in_flight == 0).await;
    assert!(view(&proxy).limiter.baseline.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upstream_is_told_the_tier_and_how_full_it_is() {
    let held = Held::new().await;
    let proxy =
        limited(&held, &fixed(2, "max: 4, max_wait: 30s"), "priority: degraded").spawn().await;
    let client = client(&proxy);
    let told = request("GET", "/1").header("x-priority", "critical");
    let asked = [ask(client, told)];
    held.has(1).await;
    let more = ask(client, request("GET", "/2"));
    held.has(2).await;
    held.answer(2);
    for answer in asked.into_iter().chain([more]) {
        assert_eq!(done(answer).await.status(), 200);
    }
    let seen = held.upstream.requests();
    let said: Vec<_> =
        seen.iter().map(|s| (s.header("x-priority"), s.header("x-brownout"))).collect();
    assert_eq!(said, [(Some("degraded"), None), (Some("degraded"), Some("2"))]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_is_not_trusted_cannot_raise_itself() {
    let held = Held::new().await;
    let priorities = "priorities: { from: { header: x-rank } }";
    let proxy = limited(&held, &fixed(1, "max: 1, max_wait: 30s"), "")
        .and(priorities)
        .listening("trust: none")
        .spawn()
        .await;
    let client = client(&proxy);
    let of = |tier: &str| request("GET", "/").header("x-rank", tier).header("x-brownout", "3");
    let first = ask(client, of("sheddable"));
    held.has(1).await;
    let second = ask(client, of("sheddable"));
    waiting(&proxy, 1).await;
    assert_eq!(named(&client.send(of("critical")).await), (503, Some("concurrency_limit")));
    held.answer(2);
    assert_eq!(done(first).await.status(), 200);
    assert_eq!(done(second).await.status(), 200);
    let seen = held.upstream.requests();
    let first = seen.first().expect("a request");
    assert_eq!((first.header("x-rank"), first.header("x-brownout")), (None, Some("2")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_for_the_next_attempt_takes_no_second_place() {
    let upstream = upstream().fail(2, 503).then(200).spawn().await;
    let settings = "retry: { max_attempts: 3, backoff: { base: 1ms, max: 2ms } }";
    let limit = "defaults: { upstream: { concurrency: { min: 1, initial: 1, max: 1 } } }";
    let proxy = one_route(&upstream, settings).and(limit).spawn().await;
    assert_eq!(client(&proxy).get("/").await.status(), 200);
    assert_eq!(upstream.hits(), 3);
    assert_eq!(view(&proxy).limiter.in_flight, 0);
}
