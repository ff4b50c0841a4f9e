//! Frames that cost a client nothing and us work: bounded, and answered with ENHANCE_YOUR_CALM.

use super::peer::{
    CALM, CANCEL, CONTINUATION, DATA, END_STREAM, HEADERS, PING, PRIORITY, Peer, RST_STREAM,
    SETTINGS, WINDOW_UPDATE, block, fields, frame, get, post, setting,
};
use crate::support::proxy::{Proxy, one_route};
use crate::support::reply::Reply;
use crate::support::upstream::Upstream;
use crate::support::{eventually, upstream};

/// Low limits, so that a flood is short.
const LIMITS: &str = "limits: { http2: { resets_per_second: 20, pings_per_second: 10, \
                      settings_per_second: 5 } }";

/// A proxy in front of an upstream that never answers.
async fn scene() -> (Upstream, Proxy) {
    let upstream = upstream().always(|| Reply::Hang).spawn().await;
    let proxy = one_route(&upstream, "").listening(LIMITS).spawn().await;
    (upstream, proxy)
}

const COUNTER: &str = "outrigger_listener_floods_total";

fn counted(proxy: &Proxy, kind: &str) -> f64 {
    if !proxy.metrics().contains(COUNTER) {
        // There was none yet, of whatever kind.
        return 0.0;
    }
    proxy.metric(&format!("{COUNTER}{{listener=\"in\",kind=\"{kind}\"}}"))
}

/// What a flood of one kind is, as bytes of its so manyth frame.
type Drop = fn(u32) -> Vec<u8>;

/// Its kind, what comes before it, its frames, and how many are too many.
type Case = (&'static str, Vec<u8>, Drop, u32);

/// A stream that is opened and given up.
fn rapid_reset(at: u32) -> Vec<u8> {
    let stream = 2 * at + 3;
    [get(stream), frame(RST_STREAM, 0, stream, CANCEL.to_be_bytes())].concat()
}

/// A stream that is opened, and made invalid so that we reset it: its window is opened too far.
fn made_reset(at: u32) -> Vec<u8> {
    let stream = 2 * at + 3;
    [get(stream), frame(WINDOW_UPDATE, 0, stream, 0x7fff_ffff_u32.to_be_bytes())].concat()
}

fn ping(at: u32) -> Vec<u8> {
    frame(PING, 0, 0, u64::from(at).to_be_bytes())
}

/// The answer to a ping that nobody has sent.
fn pong(at: u32) -> Vec<u8> {
    frame(PING, 1, 0, u64::from(at).to_be_bytes())
}

fn settings(at: u32) -> Vec<u8> {
    // The size of the table of fields, which changes.
    frame(SETTINGS, 0, 0, setting(1, 4096 - at % 2))
}

fn continuation(_: u32) -> Vec<u8> {
    frame(CONTINUATION, 0, 1, [])
}

fn empty_data(_: u32) -> Vec<u8> {
    frame(DATA, 0, 1, [])
}

fn padding(_: u32) -> Vec<u8> {
    frame(DATA, 8, 1, [3, 0, 0, 0])
}

fn drip(_: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, 0, 1_u32.to_be_bytes())
}

fn priority(_: u32) -> Vec<u8> {
    frame(PRIORITY, 0, 1, [0, 0, 0, 0, 1])
}

fn unknown(_: u32) -> Vec<u8> {
    frame(0x5a, 0, 0, b"what is that")
}

fn open_head() -> Vec<u8> {
    frame(HEADERS, END_STREAM, 1, block(&fields("GET", &[])))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_ends_its_connection_and_says_why() {
    let table: [Case; 11] = [
        ("resets", get(1), rapid_reset, 21),
        ("resets", get(1), made_reset, 21),
        ("pings", get(1), ping, 11),
        ("pings", get(1), pong, 11),
        ("settings", get(1), settings, 5),
        ("continuations", open_head(), continuation, 6),
        ("empty_data", post(1), empty_data, 101),
        ("empty_data", post(1), padding, 101),
        ("window_updates", get(1), drip, 1001),
        ("idle_frames", get(1), priority, 1001),
        ("idle_frames", get(1), unknown, 1001),
    ];
    for (kind, first, drop, times) in table {
        let (upstream, proxy) = scene().await;
        let mut peer = Peer::connect(proxy.address()).await;
        peer.send(&first).await;
        if kind != "continuations" {
            upstream.until("the request", |tally| tally.requests == 1).await;
        }
        // The last but one is none too many.
        let flood: Vec<u8> = (0..times - 1).flat_map(drop).collect();
        peer.send(&flood).await;
        assert_eq!(counted(&proxy, kind), 0.0, "{kind}");
        // Some more, for the time that has passed has made room.
        let rest: Vec<u8> = (times..times * 4).flat_map(drop).collect();
        peer.try_send(&rest).await;
        let goaway = peer.goaway().await;
        assert_eq!((goaway.code(), goaway.words()), (CALM, kind.to_owned()));
        peer.closed().await;
        assert_eq!(counted(&proxy, kind), 1.0, "{kind}");
        // What was under way is given up, and nobody else is disturbed.
        eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
        if kind != "empty_data" {
            // An upstream that waits for the rest of a body is not told of the end.
            upstream.until("the end of all", |tally| tally.abandoned == tally.requests).await;
        }
        let mut other = Peer::connect(proxy.address()).await;
        other.send(ping(0)).await;
        while other.next_of(&[PING]).await.flags != 1 {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_makes_no_difference_in_which_pieces_the_frames_come() {
    let (_upstream, proxy) = scene().await;
    let mut peer = Peer::connect(proxy.address()).await;
    let flood: Vec<u8> = (0..60).flat_map(ping).collect();
    for piece in flood.chunks(5) {
        peer.try_send(piece).await;
    }
    let goaway = peer.goaway().await;
    assert_eq!((goaway.code(), goaway.words().as_str()), (CALM, "pings"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_goaway_names_the_last_stream_that_may_have_been_served() {
    let (upstream, proxy) = scene().await;
    let mut peer = Peer::connect(proxy.address()).await;
    peer.send(get(7)).await;
    upstream.until("the request", |tally| tally.requests == 1).await;
    let flood: Vec<u8> = (0..60).flat_map(ping).collect();
    peer.try_send(&flood).await;
    assert_eq!(peer.goaway().await.last(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn ordinary_use_is_no_flood() {
    let body = vec![b'x'; 4 << 20];
    let whole = body.clone();
    let upstream = upstream()
        .serve(move |_| {
            let whole = whole.clone();
            async move { crate::support::reply(200).body(whole) }
        })
        .spawn()
        .await;
    let proxy = one_route(&upstream, "").spawn().await;
    // Both windows opened for each piece of data, as some clients do.
    let mut peer = Peer::connect(proxy.address()).await;
    peer.send(get(1)).await;
    let mut read = 0;
    while read < body.len() {
        let data = peer.next_of(&[DATA, super::peer::GOAWAY]).await;
        assert_eq!(data.kind, DATA, "{}", data.words());
        read += data.payload.len();
        if let Ok(length @ 1..) = u32::try_from(data.payload.len()) {
            peer.send(frame(WINDOW_UPDATE, 0, 0, length.to_be_bytes())).await;
            peer.send(frame(WINDOW_UPDATE, 0, 1, length.to_be_bytes())).await;
        }
    }
    // Hundreds of calls that are cancelled, and pings between them.
    for at in 0..200 {
        let stream = 2 * at + 3;
        peer.send(get(stream)).await;
        peer.send(frame(RST_STREAM, 0, stream, CANCEL.to_be_bytes())).await;
    }
    peer.send(ping(0)).await;
    while peer.next_of(&[PING]).await.flags != 1 {}
    assert!(!proxy.metrics().contains(COUNTER));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_makes_us_hold_nothing() {
    // Each ping asks for an answer: once those are not taken, nothing more is read.
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "")
        .listening("limits: { http2: { pings_per_second: 1000000 }, idle_timeout: 500ms }")
        .spawn()
        .await;
    let mut peer = Peer::connect(proxy.address()).await;
    let piece: Vec<u8> = (0..4000).flat_map(ping).collect();
    let pouring = async {
        loop {
            // Ends when the proxy has given the client up.
            if !peer.pour(&piece).await {
                break;
            }
        }
    };
    crate::support::within("the proxy to give the client up", pouring).await;
    eventually("no connection", || {
        proxy.metric("outrigger_listener_connections{listener=\"in\"}") == 0.0
    })
    .await;
}
