//! Connections to upstreams of HTTP/2: one for all, as long as it is good.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::peer::{
    CANCEL, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, Peer, RST_STREAM, WINDOW_UPDATE,
    frame, get, post, setting,
};
use super::waiting;
use crate::support::proxy::{Builder, Proxy, proxy};
use crate::support::secure::{Authority, front};
use crate::support::{client, eventually, raw_upstream, reply, upstream, within};

/// How long nothing moves before we believe that all is held up.
const STILL: Duration = Duration::from_millis(500);

fn through(address: SocketAddr, upstream: &str, route: &str) -> Builder {
    let yaml = format!(
        "runtime: {{ workers: 1, drain: {{ timeout: 5s, linger: 0s }} }}
upstreams: {{ back: {{ {upstream}, concurrency: {{ mode: off }}, endpoints: [\"{{upstream}}\"] }} }}
routes: [{{ name: r, upstream: back, {route} }}]
"
    );
    proxy(&yaml).with("upstream", address)
}

/// A client that asks so many times at once, before the proxy can have any connection.
async fn burst(proxy: &Proxy, count: u32) -> Peer {
    let mut peer = Peer::connect(proxy.address()).await;
    let all: Vec<u8> = (0..count).flat_map(|at| get(2 * at + 1)).collect();
    peer.send(all).await;
    peer
}

/// The statuses of so many answers.
async fn statuses(peer: &mut Peer, count: u32) -> Vec<u16> {
    let mut statuses = Vec::new();
    while statuses.len() < count as usize {
        let next = peer.next_of(&[HEADERS, GOAWAY, RST_STREAM]).await;
        assert_eq!(next.kind, HEADERS, "{next:?}");
        statuses.push(next.status());
    }
    statuses
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_at_the_start_opens_one_connection() {
    let upstream = upstream().http2().spawn().await;
    let proxy = through(upstream.address(), "protocol: http2", "").spawn().await;
    let mut peer = burst(&proxy, 50).await;
    assert_eq!(statuses(&mut peer, 50).await, [200; 50]);
    assert_eq!(upstream.tally().accepted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_requests_share_a_connection_and_no_more() {
    for (most, connections) in [(1024, 3), (2, 2), (1, 1)] {
        let (open, upstream) = waiting();
        let upstream = upstream.http2().spawn().await;
        let settings = format!("protocol: http2, pool: {{ max_connections: {most} }}");
        let proxy = through(upstream.address(), &settings, "").spawn().await;
        let mut peer = burst(&proxy, 250).await;
        // What has no stream yet waits for one, and is not refused.
        let streams = (connections * 200).min(250);
        upstream.until("all that have a stream", |tally| tally.requests == streams).await;
        open.send(true).unwrap();
        assert_eq!(statuses(&mut peer, 250).await, [200; 250]);
        assert_eq!(upstream.tally().accepted, connections);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_under_tls_opens_one_connection_if_http2_is_chosen() {
    let (authority, folder) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let shows = authority.issue(&["127.0.0.1"]);
    for (alpn, http2) in [("h2", true), ("http/1.1", false)] {
        let upstream = if http2 { upstream().http2() } else { upstream() }.spawn().await;
        let front = front(upstream.address(), &shows, &[alpn], None).await;
        let settings = format!("protocol: auto, tls: {{ ca: {} }}", ca.display());
        let proxy = through(front.address, &settings, "").spawn().await;
        let mut peer = burst(&proxy, 30).await;
        assert_eq!(statuses(&mut peer, 30).await, [200; 30]);
        assert_eq!(upstream.tally().accepted == 1, http2, "{:?}", upstream.tally());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_learn_at_once_that_it_came_to_nothing() {
    // A port that nobody listens on.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let route = "retry: { mode: off }, circuit_breaker: { mode: off }";
    let proxy = through(address, "protocol: http2, ejection: { mode: off }", route).spawn().await;
    let mut peer = burst(&proxy, 20).await;
    assert_eq!(statuses(&mut peer, 20).await, [502; 20]);
    let failed = "outrigger_upstream_attempts_total{upstream=\"back\",result=\"connect_failure\"}";
    assert_eq!(proxy.metric(failed), 20.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_who_opens_it_is_given_up_another_does() {
    let (authority, folder) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).unwrap();
    let behind = upstream().http2().spawn().await;
    let front = front(behind.address(), &authority.issue(&["127.0.0.1"]), &["h2"], None).await;
    // The first connection is accepted, and its handshake never answered.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let (count, to) = (Arc::clone(&accepted), front.address);
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                held.push(stream);
                continue;
            }
            tokio::spawn(async move {
                let mut there = TcpStream::connect(to).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut there).await;
            });
        }
    });
    let settings = format!("protocol: http2, tls: {{ ca: {} }}", ca.display());
    let proxy = through(address, &settings, "timeouts: { connect: 10s }").spawn().await;
    let mut peer = Peer::connect(proxy.address()).await;
    peer.send(get(1)).await;
    eventually("a connection", || accepted.load(Ordering::SeqCst) == 1).await;
    peer.send(get(3)).await;
    eventually("both requests", || {
        proxy.metric("outrigger_route_requests_in_flight{route=\"r\"}") == 2.0
    })
    .await;
    peer.send(frame(RST_STREAM, 0, 1, CANCEL.to_be_bytes())).await;
    assert_eq!(peer.head_of(3).await.status(), 200);
    assert_eq!(accepted.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_of_age_serves_what_it_has_and_takes_nothing_new() {
    let (open, gate) = tokio::sync::watch::channel(false);
    let upstream = upstream()
        .serve(move |arrival| {
            let mut gate = gate.clone();
            async move {
                if arrival.index == 0 {
                    let _ = gate.wait_for(|open| *open).await;
                }
                reply(200)
            }
        })
        .http2()
        .spawn()
        .await;
    let settings = "protocol: http2, pool: { max_age: 200ms }";
    let proxy = through(upstream.address(), settings, "").spawn().await;
    let client = client(&proxy);
    let slow = tokio::spawn(async move { client.post("/", "slow").await });
    upstream.until("the slow one", |tally| tally.requests == 1).await;
    within("a second connection", async {
        while upstream.tally().accepted < 2 {
            assert_eq!(client.get("/").await.status(), 200);
        }
    })
    .await;
    assert_eq!(upstream.tally().open, 2);
    open.send(true).unwrap();
    assert_eq!(slow.await.unwrap().status(), 200);
    upstream.until("the first to end", |tally| tally.open <= 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_work_is_closed_in_time() {
    let (open, upstream) = waiting();
    let upstream = upstream.http2().spawn().await;
    let settings = "protocol: http2, pool: { idle_timeout: 100ms }";
    let proxy = through(upstream.address(), settings, "").spawn().await;
    let client = client(&proxy);
    let slow = tokio::spawn(async move { client.get("/").await });
    upstream.until("the request", |tally| tally.requests == 1).await;
    // Work without a byte is not idleness: several sweeps pass.
    outrigger::clock::sleep(Duration::from_millis(2500)).await;
    open.send(true).unwrap();
    assert_eq!(slow.await.unwrap().status(), 200);
    assert_eq!(upstream.tally().accepted, 1);
    upstream.until("the connection to end", |tally| tally.open == 0).await;
    assert_eq!(client.get("/").await.status(), 200);
}

const PATIENT: &str = "retry: { on: [per_try_timeout], max_attempts: 2, backoff: { base: 1ms } }, \
                       timeouts: { per_try: 1200ms }, circuit_breaker: { mode: off }";

/// An upstream of which the first connection never answers; whether it says anything else there.
async fn vanishing(
    alive: bool,
    counted: Arc<AtomicUsize>,
) -> crate::support::upstream::RawUpstream {
    raw_upstream(move |wire| {
        let counted = Arc::clone(&counted);
        async move {
            let Some(mut peer) = Peer::accept(wire).await else { return };
            let first = counted.fetch_add(1, Ordering::SeqCst) == 0;
            let mut requests = 0;
            while let Some(next) = peer.next().await {
                if next.kind != HEADERS {
                    continue;
                }
                requests += 1;
                if !first || requests > 1 {
                    let flags = END_HEADERS | END_STREAM;
                    peer.try_send(frame(HEADERS, flags, next.stream, [0x88])).await;
                } else if alive {
                    outrigger::clock::sleep(Duration::from_millis(600)).await;
                    peer.try_send(frame(PING, 0, 0, [1; 8])).await;
                }
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_has_died_silently_is_not_used_again() {
    let connections = Arc::new(AtomicUsize::new(0));
    let upstream = vanishing(false, Arc::clone(&connections)).await;
    let proxy = through(upstream.address(), "protocol: http2", PATIENT).spawn().await;
    let answer = client(&proxy).get("/").await;
    assert_eq!(answer.status(), 200, "{:?}", answer.reason());
    assert_eq!(connections.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_only_slow_is_used_on() {
    let connections = Arc::new(AtomicUsize::new(0));
    let upstream = vanishing(true, Arc::clone(&connections)).await;
    let proxy = through(upstream.address(), "protocol: http2", PATIENT).spawn().await;
    let answer = client(&proxy).get("/").await;
    assert_eq!(answer.status(), 200, "{:?}", answer.reason());
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_window_is_shut_holds_up_its_upstream() {
    const PIECE: usize = 16 * 1024;
    const WHOLE: usize = 32 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let upstream = upstream()
        .serve(move |_| {
            let counted = Arc::clone(&counted);
            async move {
                let (reply, feed) = reply(200).streamed();
                tokio::spawn(async move {
                    let piece = bytes::Bytes::from(vec![b'x'; PIECE]);
                    while counted.load(Ordering::SeqCst) < WHOLE && feed.send(piece.clone()).await {
                        counted.fetch_add(PIECE, Ordering::SeqCst);
                    }
                });
                reply
            }
        })
        .http2()
        .spawn()
        .await;
    let proxy = through(upstream.address(), "protocol: http2", "").spawn().await;
    let mut peer = Peer::connect_with(proxy.address(), &setting(4, 0)).await;
    peer.send(get(1)).await;
    assert_eq!(peer.head_of(1).await.status(), 200);
    let mut before = usize::MAX;
    let mut look = tokio::time::interval(STILL);
    while before != sent.load(Ordering::SeqCst) {
        before = sent.load(Ordering::SeqCst);
        look.tick().await;
        look.tick().await;
    }
    // Two windows of 256 KiB, what hyper's server holds at the other end, and a few pieces.
    assert!(before < 2 << 20, "{before} bytes are held for a client that takes nothing");
    // Opened, it comes whole.
    let wide = 0x4000_0000_u32.to_be_bytes();
    peer.send([frame(WINDOW_UPDATE, 0, 0, wide), frame(WINDOW_UPDATE, 0, 1, wide)].concat()).await;
    let mut read = 0;
    loop {
        let next = peer.next_of(&[DATA, RST_STREAM, GOAWAY]).await;
        assert_eq!(next.kind, DATA, "{next:?}");
        read += next.payload.len();
        if next.ends() {
            break;
        }
    }
    assert_eq!(read, WHOLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_whose_window_is_shut_holds_up_its_client() {
    // It has the window that everybody begins with, and never opens it.
    let upstream = raw_upstream(|wire| async move {
        let Some(mut peer) = Peer::accept(wire).await else { return };
        peer.closed().await;
    })
    .await;
    let proxy = through(upstream.address(), "protocol: http2", "").spawn().await;
    let mut peer = Peer::connect(proxy.address()).await;
    peer.send(post(1)).await;
    // What the proxy lets us send: its windows are those of its settings, and what it opens.
    let (mut sent, mut stream, mut all) = (0_usize, 65_535_i64, 65_535_i64);
    loop {
        while stream.min(all) > 0 {
            let length = stream.min(all).min(16_384) as usize;
            peer.send(frame(DATA, 0, 1, vec![b'x'; length])).await;
            sent += length;
            stream -= length as i64;
            all -= length as i64;
        }
        let Ok(next) = tokio::time::timeout(STILL * 2, peer.next()).await else { break };
        let next = next.expect("the proxy is there");
        let value =
            |at: usize| i64::from(u32::from_be_bytes(next.payload[at..at + 4].try_into().unwrap()));
        match next.kind {
            WINDOW_UPDATE if next.stream == 0 => all += value(0),
            WINDOW_UPDATE => stream += value(0),
            super::peer::SETTINGS => {
                for at in (0..next.payload.len()).step_by(6) {
                    if next.payload[at..at + 2] == [0, 4] {
                        stream += value(at + 2) - 65_535;
                    }
                }
            }
            _ => panic!("{next:?}"),
        }
        assert!(sent < 8 << 20, "{sent} bytes were taken for an upstream that takes nothing");
    }
    assert!(sent >= 256 * 1024, "the window was not even opened: {sent}");
    assert!(sent < 1 << 20, "{sent} bytes are held for an upstream that takes nothing");
}
