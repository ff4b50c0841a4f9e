//! What tunnels of both kinds are made of in tests, and how much passes through them.

use std::net::SocketAddr;

use ring::digest::{Context, SHA256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::proxy::{Proxy, one_route, proxy};
use crate::support::upstream::RawUpstream;
use crate::support::wire::{Wire, field};
use crate::support::{eventually, raw_upstream, within};

/// A handshake of a WebSocket, as far as the proxy is concerned.
pub(crate) const HANDSHAKE: &str = "GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\n\
     Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
     Sec-WebSocket-Version: 13\r\n\r\n";

/// The answer that accepts it.
pub(crate) const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
     Connection: Upgrade\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A request for a tunnel to this host and port.
pub(crate) fn connect(to: &str) -> String {
    format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n")
}

/// A proxy with a route `r` that allows tunnels to `a.test:443`, whose upstream is `back`.
pub(crate) fn connecting(upstream: SocketAddr, rest: &str) -> crate::support::proxy::Builder {
    let mut yaml = String::from(
        "upstreams: { back: { endpoints: [\"{upstream}\"] } }\nroutes:\n\
         \u{20} - name: r\n    match: { methods: [CONNECT], host: \"a.test:443\" }\n\
         \u{20}   upstream: back\n",
    );
    for line in rest.lines() {
        yaml.push_str(&format!("    {line}\n"));
    }
    proxy(&yaml).with("upstream", upstream)
}

/// A proxy with a route `r` to this server, with this beside its name and upstream.
pub(crate) fn routed(upstream: &RawUpstream, rest: &str) -> crate::support::proxy::Builder {
    let mut yaml = String::from(
        "upstreams: { back: { endpoints: [\"{upstream}\"] } }\nroutes:\n\
         \u{20} - name: r\n    upstream: back\n",
    );
    for line in rest.lines() {
        yaml.push_str(&format!("    {line}\n"));
    }
    proxy(&yaml).with("upstream", upstream.address())
}

/// Opens a tunnel by an upgrade, and gives the head of the answer.
pub(crate) async fn upgraded(proxy: &Proxy) -> (Wire, String) {
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send(HANDSHAKE).await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    (wire, head)
}

/// Opens a tunnel by CONNECT.
pub(crate) async fn connected(proxy: &Proxy) -> Wire {
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send(connect("a.test:443")).await;
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert_eq!((field(&head, "content-length"), field(&head, "transfer-encoding")), (None, None));
    wire
}

/// The value of a metric that is only there once something was counted.
pub(crate) fn counted(proxy: &Proxy, sample: &str) -> f64 {
    let text = proxy.metrics();
    let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().expect("a metric is a number"))
}

/// How many tunnels of the route have ended so.
pub(crate) fn ends(proxy: &Proxy, reason: &str) -> f64 {
    let name = "outrigger_route_tunnel_ends_total";
    counted(proxy, &format!("{name}{{route=\"r\",reason=\"{reason}\"}}"))
}

/// Tunnels that are open.
pub(crate) fn open(proxy: &Proxy) -> f64 {
    counted(proxy, "outrigger_route_tunnels{route=\"r\"}")
}

/// Waits until nothing is held any more: no tunnel, no request, no connection on either side.
pub(crate) async fn all_is_free(proxy: &Proxy) {
    let level = |name: &str| proxy.metric(name);
    eventually("the tunnel to end", || open(proxy) == 0.0).await;
    eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
    let connections = "outrigger_listener_connections{listener=\"in\"}";
    eventually("no client", || level(connections) == 0.0).await;
    let to_upstream = "outrigger_upstream_connections{upstream=\"back\"}";
    eventually("no connection to the upstream", || level(to_upstream) == 0.0).await;
}

/// How much passes in each direction at once.
const MUCH: usize = 100 * 1024 * 1024;

/// Bytes that do not repeat: a counter that is mixed (Vigna's splitmix64).
fn fill(piece: &mut [u8], state: &mut u64) {
    for eight in piece.chunks_mut(8) {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        eight.copy_from_slice(&(mixed ^ (mixed >> 31)).to_le_bytes()[..eight.len()]);
    }
}

/// Writes so many bytes, says that there are no more, and gives their digest.
async fn pour(mut to: impl AsyncWrite + Unpin, mut state: u64) -> Vec<u8> {
    let (mut digest, mut piece) = (Context::new(&SHA256), vec![0; 64 * 1024]);
    for _ in 0..MUCH / piece.len() {
        fill(&mut piece, &mut state);
        digest.update(&piece);
        to.write_all(&piece).await.expect("the other side reads");
    }
    to.shutdown().await.expect("the other side is there");
    digest.finish().as_ref().to_vec()
}

/// Reads to the end, and gives how many bytes there were and their digest.
async fn drink(mut from: impl AsyncRead + Unpin) -> (usize, Vec<u8>) {
    let (mut digest, mut piece) = (Context::new(&SHA256), vec![0; 64 * 1024]);
    let mut count = 0;
    loop {
        let length = from.read(&mut piece).await.expect("an end without a fault");
        if length == 0 {
            return (count, digest.finish().as_ref().to_vec());
        }
        digest.update(&piece[..length]);
        count += length;
    }
}

/// Sends and receives at once; whether what came is for the other side to say.
async fn both(stream: TcpStream, seed: u64) -> (Vec<u8>, (usize, Vec<u8>)) {
    let (reads, writes) = stream.into_split();
    let poured = tokio::spawn(pour(writes, seed));
    let drunk = tokio::spawn(drink(reads));
    (poured.await.expect("no panic"), drunk.await.expect("no panic"))
}

/// Lets much pass both ways at once, behind a request and its answer.
async fn much_passes(request: String, answer: &'static str, opening: &str, upgrade: bool) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let endpoint = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the proxy connects");
        if upgrade {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.expect("a head"));
            }
            stream.write_all(answer.as_bytes()).await.expect("the proxy reads");
        }
        both(stream, 1).await
    });
    let proxy = if upgrade {
        let yaml = "upstreams: { back: { endpoints: [\"{upstream}\"] } }\n\
                    routes: [{ name: r, upstream: back }]\n";
        proxy(yaml).with("upstream", address).spawn().await
    } else {
        connecting(address, "").spawn().await
    };
    let mut stream = TcpStream::connect(proxy.address()).await.expect("the proxy listens");
    stream.write_all(request.as_bytes()).await.expect("the proxy reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    assert!(head.starts_with(opening.as_bytes()), "{}", String::from_utf8_lossy(&head));
    let (sent, (length, came)) = within("much to pass", both(stream, 2)).await;
    let (answered, (asked_length, asked)) = within("the endpoint", endpoint).await.expect("whole");
    assert_eq!((length, asked_length), (MUCH, MUCH));
    assert_eq!(asked, sent, "what the endpoint got is not what the client sent");
    assert_eq!(came, answered, "what the client got is not what the endpoint sent");
    all_is_free(&proxy).await;
    assert_eq!(ends(&proxy, "closed"), 1.0);
    for direction in ["up", "down"] {
        let name = "outrigger_route_tunnel_bytes_total";
        let passed = proxy.metric(&format!("{name}{{route=\"r\",direction=\"{direction}\"}}"));
        assert_eq!(passed, MUCH as f64, "{direction}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_pass_each_way_through_an_upgrade() {
    much_passes(HANDSHAKE.to_owned(), ACCEPTED, "HTTP/1.1 101 ", true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_pass_each_way_through_connect() {
    much_passes(connect("a.test:443"), "", "HTTP/1.1 200 ", false).await;
}

/// A side that does not read stops the other after a bounded number of bytes, and loses none.
#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_does_not_read_stops_the_other() {
    let (say, hear) = tokio::sync::oneshot::channel::<()>();
    let hear = std::sync::Mutex::new(Some(hear));
    let raw = raw_upstream(move |mut wire| {
        let hear = hear.lock().expect("no panic").take();
        async move {
            wire.head().await;
            wire.send(ACCEPTED).await;
            if let Some(hear) = hear {
                hear.await.expect("the test says when");
            }
            let all = wire.rest().await;
            wire.send(format!("{} bytes", all.len())).await;
        }
    })
    .await;
    let proxy = routed(&raw, "").spawn().await;
    let (mut wire, _) = upgraded(&proxy).await;
    let piece = vec![b'x'; 1 << 20];
    let mut sent = 0;
    let pause = std::time::Duration::from_millis(500);
    while sent < 64 << 20 && tokio::time::timeout(pause, wire.send(&piece)).await.is_ok() {
        sent += piece.len();
    }
    // The kernel holds some on both sides; what we hold is little beside.
    assert!(sent < 64 << 20, "{sent} bytes went somewhere");
    say.send(()).expect("the upstream waits");
    drop(wire);
    all_is_free(&proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_route_takes_ordinary_requests_and_upgrades() {
    let upstream = crate::support::upstream().spawn().await;
    let proxy = one_route(&upstream, "").spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    // An answer other than 101 is an ordinary one, and the connection goes on.
    for _ in 0..3 {
        wire.send(HANDSHAKE).await;
        let (head, _) = wire.message().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!((field(&head, "upgrade"), field(&head, "connection")), (None, None));
    }
    wire.send("GET /after HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
    assert!(wire.message().await.0.starts_with("HTTP/1.1 200 "));
    let seen = upstream.requests();
    assert_eq!(seen.len(), 4);
    assert_eq!(seen[0].header("upgrade"), Some("websocket"));
    assert_eq!(seen[0].header("connection"), Some("upgrade"));
    assert_eq!(seen[3].header("upgrade"), None);
    assert_eq!(upstream.tally().accepted, 1, "a connection was given up for nothing");
}

/// Each way in which a tunnel can end, many times over and at once; then every place is free.
#[tokio::test(flavor = "multi_thread")]
async fn tunnels_that_end_in_every_way_leave_nothing_behind() {
    let raw = raw_upstream(|mut wire| async move {
        wire.head().await;
        wire.send(ACCEPTED).await;
        // What it is told in its first byte: to echo, to end, to break off.
        match wire.try_bytes(1).await.as_deref() {
            Some(b"x") => wire.reset(),
            Some(b"e") => {
                wire.end().await;
                wire.rest().await;
            }
            Some(_) => while wire.try_piece().await.is_some() {},
            None => {}
        }
    })
    .await;
    let rest = "bulkhead: { max_concurrent: 40 }\nretry: { max_attempts: 1 }";
    let proxy = routed(&raw, rest).spawn().await;
    for _ in 0..3 {
        let mut all = Vec::new();
        for _ in 0..40 {
            all.push(upgraded(&proxy).await.0);
        }
        assert_eq!((open(&proxy), proxy.in_flight()), (40.0, 80.0));
        for (at, mut wire) in all.into_iter().enumerate() {
            match at % 5 {
                0 => drop(wire),
                1 => wire.reset(),
                2 => {
                    wire.send("x").await;
                    wire.closed().await;
                }
                3 => {
                    wire.send("e").await;
                    wire.closed().await;
                }
                _ => {
                    wire.send("keep").await;
                    wire.end().await;
                    wire.closed().await;
                }
            }
        }
        // With one place lost, the next forty would not find theirs.
        all_is_free(&proxy).await;
    }
    let ended: f64 =
        ["closed", "client_gone", "upstream_cut"].map(|end| ends(&proxy, end)).iter().sum();
    assert_eq!(ended, 120.0);
    assert!(ends(&proxy, "client_gone") >= 24.0 && ends(&proxy, "upstream_cut") >= 1.0);
}
