//! Upgrades over HTTP/1.1: what is offered to the upstream, and the tunnel that follows a 101.

use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::proxy::{Proxy, proxy};
use crate::support::secure::{Authority, front, tls_client};
use crate::support::upstream::RawUpstream;
use crate::support::wire::{Wire, field, fields};
use crate::support::{eventually, raw_upstream, upstream, within};
use crate::tunnels::{ACCEPTED, HANDSHAKE, all_is_free, ends, open, routed, upgraded};

/// A server that accepts every upgrade, and sends back what it gets until it has got all.
async fn echoing() -> RawUpstream {
    raw_upstream(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            if field(&head, "upgrade").is_none() {
                wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
                continue;
            }
            wire.send(ACCEPTED).await;
            while let Some(bytes) = wire.try_piece().await {
                if !wire.try_send(bytes).await {
                    return;
                }
            }
            return;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_pass_both_ways_after_101() {
    let raw = echoing().await;
    let proxy = routed(&raw, "").spawn().await;
    let (mut wire, head) = upgraded(&proxy).await;
    assert_eq!(field(&head, "upgrade"), Some("websocket"));
    assert_eq!(field(&head, "connection"), Some("upgrade"));
    assert_eq!(field(&head, "sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    for gone in ["content-length", "transfer-encoding", "date"] {
        assert_eq!(field(&head, gone), None, "{head}");
    }
    assert_eq!((open(&proxy), proxy.in_flight()), (1.0, 2.0));
    for word in ["hello", "and", "again"] {
        wire.send(word).await;
        assert_eq!(wire.bytes(word.len()).await, word.as_bytes());
    }
    drop(wire);
    all_is_free(&proxy).await;
    assert_eq!(ends(&proxy, "closed"), 1.0);
    for direction in ["up", "down"] {
        let name = "outrigger_route_tunnel_bytes_total";
        let passed = proxy.metric(&format!("{name}{{route=\"r\",direction=\"{direction}\"}}"));
        assert_eq!(passed, 13.0, "{direction}");
    }
    let class = "outrigger_route_requests_total{route=\"r\",class=\"1xx\"}";
    assert_eq!(proxy.metric(class), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_come_early_are_not_lost() {
    let raw = raw_upstream(|mut wire| async move {
        wire.head().await;
        wire.send(format!("{ACCEPTED}early from the upstream")).await;
        let all = wire.rest().await;
        wire.send(format!("; got {all}")).await;
    })
    .await;
    let proxy = routed(&raw, "").spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    // What follows the request may look as it likes: only the answer tells what it is.
    wire.send(format!("{HANDSHAKE}GET /early HTTP/1.1\r\n\r\n")).await;
    assert!(wire.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(wire.bytes(23).await, b"early from the upstream");
    wire.end().await;
    assert_eq!(wire.rest().await, "; got GET /early HTTP/1.1\r\n\r\n");
    all_is_free(&proxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_side_that_has_said_all_still_hears_the_other() {
    // The client ends first, and then the upstream does.
    for upstream_ends_first in [false, true] {
        let raw = raw_upstream(move |mut wire| async move {
            wire.head().await;
            wire.send(ACCEPTED).await;
            if upstream_ends_first {
                wire.send("bye").await;
                wire.end().await;
                assert_eq!(wire.rest().await, "still here");
            } else {
                assert_eq!(wire.rest().await, "bye");
                wire.send("still here").await;
            }
        })
        .await;
        let proxy = routed(&raw, "").spawn().await;
        let (mut wire, _) = upgraded(&proxy).await;
        if upstream_ends_first {
            assert_eq!(wire.rest().await, "bye");
            wire.send("still here").await;
            drop(wire);
        } else {
            wire.send("bye").await;
            wire.end().await;
            assert_eq!(wire.rest().await, "still here");
        }
        all_is_free(&proxy).await;
        assert_eq!(ends(&proxy, "closed"), 1.0, "{upstream_ends_first}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_breaks_off_breaks_the_upstream_off() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let raw = raw_upstream(move |mut wire| {
        let tell = tell.clone();
        async move {
            wire.head().await;
            wire.send(ACCEPTED).await;
            tell.send(wire.try_bytes(1).await.is_none()).expect("the test listens");
        }
    })
    .await;
    let proxy = routed(&raw, "").spawn().await;
    let (wire, _) = upgraded(&proxy).await;
    wire.reset();
    assert_eq!(within("the upstream to know", told.recv()).await, Some(true));
    all_is_free(&proxy).await;
    assert_eq!(ends(&proxy, "client_gone"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_breaks_off_breaks_the_client_off() {
    let raw = raw_upstream(|mut wire| async move {
        wire.head().await;
        wire.send(ACCEPTED).await;
        wire.bytes(1).await;
        wire.reset();
    })
    .await;
    let proxy = routed(&raw, "").spawn().await;
    let (mut wire, _) = upgraded(&proxy).await;
    wire.send("x").await;
    wire.closed().await;
    all_is_free(&proxy).await;
    assert_eq!(ends(&proxy, "upstream_cut"), 1.0);
}

/// What an upstream is offered when a client of this proxy sends these fields.
async fn offered(proxy: &Proxy, upstream: &crate::support::upstream::Upstream, ask: &str) -> bool {
    let before = upstream.hits();
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send(ask).await;
    let (head, _) = wire.message().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{ask}: {head}");
    let seen = upstream.requests().remove(before);
    for gone in ["http2-settings", "proxy-connection", "proxy-authorization", "keep-alive"] {
        assert_eq!(seen.header(gone), None, "{ask}");
    }
    let offer = seen.header("upgrade").is_some();
    assert_eq!(seen.header("connection").is_some(), offer, "{ask}");
    offer
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_the_route_allows_is_offered() {
    let upstream = upstream().spawn().await;
    let start = |rest: &'static str| crate::support::proxy::one_route(&upstream, rest).spawn();
    let (usual, none, own) =
        tokio::join!(start(""), start("upgrades: []"), start("upgrades: [websocket, mine/2]"));
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n");
    let websocket = get("Connection: Upgrade\r\nUpgrade: WebSocket\r\n");
    assert!(offered(&usual, &upstream, &websocket).await);
    assert!(!offered(&none, &upstream, &websocket).await);
    let mine = get("Connection: upgrade, keep-alive\r\nUpgrade: mine/2\r\nKeep-Alive: 1\r\n");
    assert!(!offered(&usual, &upstream, &mine).await);
    assert!(offered(&own, &upstream, &mine).await);
    // As Java's client sends it with every request.
    let java = "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n\
                Upgrade: h2c\r\n";
    for ask in [
        get(java),
        get("Upgrade: websocket\r\n"),
        get("Connection: upgrade\r\n"),
        "GET / HTTP/1.0\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"
            .to_owned(),
        "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Content-Length: 2\r\n\r\nhi"
            .to_owned(),
    ] {
        for proxy in [&usual, &own] {
            assert!(!offered(proxy, &upstream, &ask).await, "{ask}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_of_http2_is_offered_nothing() {
    let upstream = upstream().http2().spawn().await;
    let proxy = crate::support::proxy::one_route(&upstream, "")
        .and("defaults: { upstream: { protocol: http2 } }")
        .spawn()
        .await;
    assert!(!offered(&proxy, &upstream, HANDSHAKE).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_that_nobody_asked_for_is_no_answer() {
    for (ask, answer) in [
        ("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n", ACCEPTED.to_owned()),
        (HANDSHAKE, ACCEPTED.replace("Upgrade: websocket", "Upgrade: other")),
        (HANDSHAKE, ACCEPTED.replace("Upgrade: websocket", "Upgrade: websocket, h2c")),
        (HANDSHAKE, ACCEPTED.replace("Upgrade: websocket\r\n", "")),
    ] {
        let raw = raw_upstream(move |mut wire| {
            let answer = answer.clone();
            async move {
                wire.head().await;
                wire.send(answer).await;
                wire.rest().await;
            }
        })
        .await;
        let proxy = routed(&raw, "retry: { max_attempts: 1 }").spawn().await;
        let mut wire = Wire::connect(proxy.address()).await;
        wire.send(ask).await;
        let (head, _) = wire.message().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
        assert_eq!(field(&head, "x-outrigger-reason"), Some("upstream_reset"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_is_tried_again_and_a_tunnel_is_not() {
    let times = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&times);
    let raw = raw_upstream(move |mut wire| {
        let before = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        async move {
            wire.head().await;
            if before == 0 {
                wire.send("HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .await;
            } else {
                wire.send(ACCEPTED).await;
                wire.reset();
            }
        }
    })
    .await;
    let rest = "retry: { max_attempts: 3, on: [\"503\", reset], \
                backoff: { base: 1ms, max: 1ms } }\nhedge: { after: 1s }";
    let proxy = routed(&raw, rest).spawn().await;
    let (mut wire, _) = upgraded(&proxy).await;
    wire.closed().await;
    all_is_free(&proxy).await;
    assert_eq!(times.load(std::sync::atomic::Ordering::SeqCst), 2);
    assert_eq!(proxy.metric("outrigger_route_retries_total{route=\"r\"}"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_tunnel_ends_by_the_idle_timeout_alone_and_its_life_is_no_latency() {
    let raw = echoing().await;
    let times = "timeouts: { total: 3s, connect: 2s, idle: 4s }";
    let proxy = routed(&raw, times).spawn().await;
    let (mut wire, _) = upgraded(&proxy).await;
    wire.closed().await;
    all_is_free(&proxy).await;
    assert_eq!(ends(&proxy, "tunnel_idle"), 1.0);
    let reason = "outrigger_route_reasons_total{route=\"r\",reason=\"tunnel_idle\"}";
    assert_eq!(proxy.metric(reason), 1.0);
    for took in [
        "outrigger_route_request_duration_seconds_sum{route=\"r\"}",
        "outrigger_upstream_attempt_duration_seconds_sum{upstream=\"back\"}",
    ] {
        // It lived for four seconds at least, and was opened in less than its total time.
        assert!(proxy.metric(took) < 3.5, "{took} {}", proxy.metric(took));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_holds_its_places_to_its_end() {
    for (rest, defaults, reason) in [
        ("bulkhead: { max_concurrent: 1 }", "", "bulkhead_full"),
        (
            "timeouts: { connect: 1s }\nretry: { max_attempts: 1 }",
            "defaults: { upstream: { pool: { max_connections: 1 } } }",
            "connection_limit",
        ),
    ] {
        let raw = echoing().await;
        let proxy = routed(&raw, rest).and(defaults).spawn().await;
        let (wire, _) = upgraded(&proxy).await;
        // The adaptive limit's place was given back with the head.
        let limit = "outrigger_upstream_concurrency_in_flight{upstream=\"back\"}";
        assert_eq!(proxy.metric(limit), 0.0);
        let mut other = Wire::connect(proxy.address()).await;
        other.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let (head, _) = other.message().await;
        assert_eq!(field(&head, "x-outrigger-reason"), Some(reason), "{head}");
        drop((wire, other));
        all_is_free(&proxy).await;
        let mut other = Wire::connect(proxy.address()).await;
        other.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        let (head, _) = other.message().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_a_tunnel_be_until_its_end() {
    let raw = echoing().await;
    let proxy = routed(&raw, "")
        .and("runtime: { workers: 1, drain: { timeout: 3s, linger: 0s } }")
        .spawn()
        .await;
    let metrics = std::sync::Arc::clone(&proxy.app().proxy.metrics);
    let (mut wire, _) = upgraded(&proxy).await;
    let drained = tokio::spawn(proxy.drain());
    wire.send("still served").await;
    assert_eq!(wire.bytes(12).await, b"still served");
    wire.closed().await;
    within("the drain", drained).await.expect("no panic");
    let text = metrics.render();
    for line in [
        "outrigger_route_tunnel_ends_total{route=\"r\",reason=\"tunnel_drained\"} 1",
        "outrigger_route_tunnels{route=\"r\"} 0",
    ] {
        assert!(text.contains(line), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_passes_between_tls_on_both_sides() {
    let (authority, folder) = (Authority::new("one"), tempdir().expect("a folder"));
    let raw = echoing().await;
    let issued = authority.issue(&["svc.test", "127.0.0.1"]);
    // A server that would rather speak HTTP/2 is asked for HTTP/1 where a switch is offered.
    let front = front(raw.address(), &issued, &["h2", "http/1.1"], None).await;
    std::fs::write(folder.path().join("ca.pem"), &authority.pem).expect("written");
    let pair = issued.write(folder.path(), "svc");
    let proxy = proxy(
        "upstreams:
  back:
    endpoints: [\"{upstream}\"]
    protocol: auto
    tls: { ca: \"{ca}\" }
routes: [{ name: r, upstream: back }]
",
    )
    .with("upstream", front.address)
    .with("ca", folder.path().join("ca.pem").display())
    .listening(&format!("tls: {{ {pair} }}"))
    .spawn()
    .await;
    let client = tls_client(proxy.address(), &authority).alpn(&["http/1.1"]);
    let mut stream = client.connect("svc.test").await.expect("a handshake");
    stream.write_all(HANDSHAKE.as_bytes()).await.expect("written");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a head"));
    }
    let head = String::from_utf8(head).expect("text");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    // More than one record, and a last one that must not be kept back.
    let word = vec![b'w'; 100_001];
    let (mut reads, mut writes) = tokio::io::split(stream);
    let sent = word.clone();
    let writing = tokio::spawn(async move {
        writes.write_all(&sent).await.expect("written");
        writes.flush().await.expect("flushed");
        writes
    });
    let mut got = vec![0; word.len()];
    within("the echo", reads.read_exact(&mut got)).await.expect("whole");
    assert!(got == word);
    let mut writes = writing.await.expect("no panic");
    writes.shutdown().await.expect("the end is said");
    within("the end", reads.read(&mut got)).await.expect("a clean end");
    drop((reads, writes));
    all_is_free(&proxy).await;
    assert_eq!(ends(&proxy, "closed"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_take_what_is_sent_is_let_go() {
    let raw = raw_upstream(|mut wire| async move {
        wire.head().await;
        wire.send(ACCEPTED).await;
        while wire.try_send(vec![b'x'; 1 << 16]).await {}
    })
    .await;
    let proxy = routed(&raw, "").listening("limits: { idle_timeout: 2s }").spawn().await;
    let (wire, head) = upgraded(&proxy).await;
    assert_eq!(fields(&head, "upgrade"), ["websocket"]);
    eventually("the tunnel to end", || ends(&proxy, "client_gone") == 1.0).await;
    drop(wire);
    all_is_free(&proxy).await;
}

/// A route whose keys are answered for never lets one slip away into a tunnel.
#[tokio::test(flavor = "multi_thread")]
async fn what_has_to_be_answered_for_by_its_key_is_offered_nothing() {
    let upstream = upstream().spawn().await;
    let rest = "idempotency: { store: s, scope: [none] }";
    let proxy = crate::support::proxy::one_route(&upstream, rest)
        .and("stores: { s: { memory: {} } }")
        .spawn()
        .await;
    let ask = "POST / HTTP/1.1\r\nHost: a.test\r\nIdempotency-Key: \"k\"\r\n\
               Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n";
    assert!(!offered(&proxy, &upstream, ask).await);
}
