//! How connections of clients end: told twice, and with nothing lost; or cut, when their clients do
//! not play their part.

use std::time::Duration;

use super::peer::{
    ANY_STREAM, CONTINUATION, DATA, END_HEADERS, GOAWAY, HEADERS, NO_ERROR, PING, Peer, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, fields, frame, get, post, setting,
};
use super::waiting;
use crate::support::proxy::{Proxy, one_route};
use crate::support::reply::Reply;
use crate::support::{eventually, reply, upstream};

const CONNECTIONS: &str = "outrigger_listener_connections{listener=\"in\"}";

fn reason(proxy: &Proxy, reason: &str) -> f64 {
    let name = "outrigger_listener_reasons_total";
    proxy.metric(&format!("{name}{{listener=\"in\",reason=\"{reason}\"}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_tells_twice_and_serves_what_comes_between() {
    let (answers, upstream) = waiting();
    let upstream = upstream.spawn().await;
    let proxy = one_route(&upstream, "").spawn().await;
    let mut peer = Peer::connect(proxy.address()).await;
    peer.mute();
    peer.send(get(1)).await;
    upstream.until("the request", |tally| tally.requests == 1).await;
    let draining = tokio::spawn(proxy.drain());
    let first = peer.goaway().await;
    assert_eq!((first.code(), first.last()), (NO_ERROR, ANY_STREAM));
    let ping = peer.next_of(&[PING]).await;
    // The client has not heard of it yet, and goes on.
    peer.send(get(3)).await;
    upstream.until("the second request", |tally| tally.requests == 2).await;
    peer.send(frame(PING, 1, 0, &ping.payload)).await;
    let second = peer.goaway().await;
    assert_eq!((second.code(), second.last()), (NO_ERROR, 3));
    // Too late: it is above the last stream, and the client knows that nothing was done.
    peer.send(get(5)).await;
    answers.send(true).expect("the upstream waits");
    let mut served = Vec::new();
    while let Some(next) = peer.next().await {
        if next.kind == HEADERS {
            assert_eq!(next.status(), 200);
            served.push(next.stream);
        }
        assert_ne!(next.kind, RST_STREAM, "{next:?}");
    }
    served.sort_unstable();
    assert_eq!(served, [1, 3]);
    assert_eq!(upstream.hits(), 2);
    draining.await.expect("the drain ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_last_request_a_connection_ends() {
    let upstream = upstream().spawn().await;
    let limits = "limits: { max_requests_per_connection: 2 }";
    let proxy = one_route(&upstream, "").listening(limits).spawn().await;
    let mut peer = Peer::connect(proxy.address()).await;
    peer.send(get(1)).await;
    assert_eq!(peer.head_of(1).await.status(), 200);
    peer.send(get(3)).await;
    let (mut statuses, mut goodbyes) = (Vec::new(), Vec::new());
    while let Some(next) = peer.next().await {
        match next.kind {
            HEADERS => statuses.push((next.stream, next.status())),
            GOAWAY => goodbyes.push((next.code(), next.last())),
            _ => {}
        }
    }
    assert_eq!(statuses, [(3, 200)]);
    // When it closes it says once more what it has said.
    goodbyes.dedup();
    assert_eq!(goodbyes, [(NO_ERROR, ANY_STREAM), (NO_ERROR, 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_closed_even_on_a_client_that_says_nothing() {
    let upstream = upstream().spawn().await;
    let limits = "limits: { idle_timeout: 300ms }";
    let proxy = one_route(&upstream, "").listening(limits).spawn().await;
    for mute in [false, true] {
        let mut peer = Peer::connect(proxy.address()).await;
        peer.send(get(1)).await;
        assert_eq!(peer.head_of(1).await.status(), 200);
        if mute {
            peer.mute();
        }
        let goaway = peer.goaway().await;
        assert_eq!(goaway.code(), NO_ERROR);
        peer.closed().await;
        eventually("no connection", || proxy.metric(CONNECTIONS) == 0.0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_for_a_head_does_not_run_between_requests() {
    let upstream = upstream().spawn().await;
    let limits = "limits: { header_timeout: 200ms }";
    let proxy = one_route(&upstream, "").listening(limits).spawn().await;
    let mut peer = Peer::connect(proxy.address()).await;
    peer.send(get(1)).await;
    peer.end_of(1).await.expect("an answer");
    // A client that takes note of an answer, and then rests.
    peer.send(frame(WINDOW_UPDATE, 0, 0, 10_u32.to_be_bytes())).await;
    let goodbye = tokio::time::timeout(Duration::from_millis(800), peer.goaway()).await;
    assert!(goodbye.is_err(), "{goodbye:?}");
    peer.send(get(3)).await;
    assert_eq!(peer.head_of(3).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_end_ends_the_connection() {
    let upstream = upstream().spawn().await;
    let limits = "limits: { header_timeout: 300ms }";
    let proxy = one_route(&upstream, "").listening(limits).spawn().await;
    let head = block(&fields("GET", &[]));
    let table: [(&str, Vec<u8>); 4] = [
        ("no end of the head", frame(HEADERS, 0, 3, &head)),
        ("half a frame", frame(HEADERS, END_HEADERS, 3, &head)[..20].to_vec()),
        ("half a header", frame(HEADERS, END_HEADERS, 3, &head)[..4].to_vec()),
        (
            "no end after a continuation",
            [frame(HEADERS, 0, 3, &head), frame(CONTINUATION, 0, 3, [])].concat(),
        ),
    ];
    for (at, (what, bytes)) in table.into_iter().enumerate() {
        let mut peer = Peer::connect(proxy.address()).await;
        peer.send(get(1)).await;
        peer.end_of(1).await.expect("an answer");
        peer.send(bytes).await;
        let goaway = peer.goaway().await;
        let said = (goaway.code(), goaway.last(), goaway.words());
        assert_eq!(said, (NO_ERROR, 1, "request_timeout".to_owned()), "{what}");
        peer.closed().await;
        assert_eq!(reason(&proxy, "request_timeout"), at as f64 + 1.0);
    }
    assert_eq!(upstream.hits(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_has_vanished_is_missed() {
    let upstream = upstream().always(|| Reply::Hang).spawn().await;
    let limits = "limits: { idle_timeout: 600ms }";
    let proxy = one_route(&upstream, "").listening(limits).spawn().await;
    let mut peer = Peer::connect(proxy.address()).await;
    peer.mute();
    peer.send(get(1)).await;
    // Its request is under way, so nothing else would be said to it.
    peer.next_of(&[PING]).await;
    peer.closed().await;
    upstream.until("the request's end", |tally| tally.abandoned == 1).await;
    eventually("no connection", || proxy.metric(CONNECTIONS) == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_window_stays_shut_is_given_up_alone() {
    let large = vec![b'x'; 1 << 20];
    let upstream = upstream()
        .serve(move |arrival| {
            let large = large.clone();
            async move {
                if arrival.index == 0 {
                    return reply(200).body(large);
                }
                Reply::from(200)
            }
        })
        .spawn()
        .await;
    let limits = "limits: { idle_timeout: 700ms }";
    let proxy = one_route(&upstream, "").listening(limits).spawn().await;
    // No stream has a window unless it is opened.
    let mut peer = Peer::connect_with(proxy.address(), &setting(4, 0)).await;
    peer.send(get(1)).await;
    assert_eq!(peer.head_of(1).await.status(), 200);
    // A few bytes now and then are no progress.
    let mut streams = (3..).step_by(2);
    let reset = loop {
        peer.send(frame(WINDOW_UPDATE, 0, 1, 10_u32.to_be_bytes())).await;
        let stream = streams.next().expect("numbers go on");
        peer.send(get(stream)).await;
        let next = peer.next_of(&[HEADERS, RST_STREAM, GOAWAY]).await;
        match next.kind {
            HEADERS => assert_eq!(next.status(), 200),
            RST_STREAM => break next,
            _ => panic!("the connection ends: {} {}", next.code(), next.words()),
        }
    };
    assert_eq!(reset.stream, 1);
    // The others go on.
    peer.send(frame(SETTINGS, 0, 0, setting(4, 65535))).await;
    let stream = streams.next().expect("numbers go on");
    peer.send(post(stream)).await;
    peer.send(frame(DATA, 1, stream, b"body")).await;
    assert_eq!(peer.head_of(stream).await.status(), 200);
    eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
}
