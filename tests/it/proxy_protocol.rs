//! Who a connection is made for, as a header of the PROXY protocol says: believed on listeners that
//! demand it, written to upstreams that want it.

use std::sync::{Arc, Mutex};

use outrigger::clock;
use outrigger::proxy_protocol::{Ends, Header, Origin, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::{client_at, request};
use crate::support::proxy::{Builder, Proxy, one_route, proxy};
use crate::support::secure::Authority;
use crate::support::service::Service;
use crate::support::upstream::Upstream;
use crate::support::{Wire, client, raw_upstream, upstream, within};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn demanding(upstream: &Upstream, more: &str) -> Builder {
    let settings = "proxy_protocol: true, forwarded: { x_forwarded: append }";
    one_route(upstream, "").listening(&format!("{settings}{more}"))
}

fn header(version: Version, source: &str) -> Vec<u8> {
    let ends =
        |to: &str| Ends { source: source.parse().unwrap(), destination: to.parse().unwrap() };
    let to = if source.starts_with('[') { "[2001:db8::9]:443" } else { "192.0.2.9:443" };
    Header::of(version, Origin::Client(ends(to))).as_bytes().to_vec()
}

fn came(proxy: &Proxy, result: &str) -> f64 {
    let name = "outrigger_listener_proxy_headers_total";
    let name = format!("{name}{{listener=\"in\",result=\"{result}\"}} ");
    // Before the first event there is no sample.
    let value = proxy.metrics().lines().find_map(|line| line.strip_prefix(&name)?.parse().ok());
    value.unwrap_or(0.0)
}

#[tokio::test]
async fn the_client_is_who_the_header_says() {
    let upstream = upstream().spawn().await;
    let proxy = demanding(&upstream, "").spawn().await;
    let own = Some("127.0.0.1");
    let header = header as fn(Version, &str) -> Vec<u8>;
    let sender = |version| Header::of(version, Origin::Sender).as_bytes().to_vec();
    let mut socket = b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8".to_vec();
    socket.extend([b'/'; 216]);
    for (bytes, client) in [
        (header(Version::V1, "192.0.2.1:7"), Some("192.0.2.1")),
        (header(Version::V2, "192.0.2.2:7"), Some("192.0.2.2")),
        (header(Version::V1, "[2001:db8::1]:7"), Some("2001:db8::1")),
        (header(Version::V2, "[2001:db8::2]:7"), Some("2001:db8::2")),
        (sender(Version::V1), own),
        (sender(Version::V2), own),
        (b"PROXY UNKNOWN ffff ffff\r\n".to_vec(), own),
        (socket, None),
    ] {
        let mut wire = Wire::connect(proxy.address()).await;
        wire.send(&bytes).await;
        // Two requests, so that what is known of the connection stays known.
        for _ in 0..2 {
            wire.send(GET).await;
            assert!(wire.message().await.0.starts_with("HTTP/1.1 200"), "{bytes:?}");
            let seen = upstream.requests().pop().expect("a request");
            assert_eq!(seen.header("x-forwarded-for"), client, "{bytes:?}");
        }
    }
    assert_eq!((came(&proxy, "v1"), came(&proxy, "v2")), (4.0, 4.0));
}

#[tokio::test]
async fn a_header_may_come_in_any_pieces() {
    let upstream = upstream().spawn().await;
    let proxy = demanding(&upstream, "").spawn().await;
    for version in [Version::V1, Version::V2] {
        let header = header(version, "192.0.2.1:7");
        for cut in 1..=header.len() {
            let mut wire = Wire::connect(proxy.address()).await;
            wire.send(&header[..cut]).await;
            tokio::task::yield_now().await;
            wire.send([&header[cut..], GET.as_bytes()].concat()).await;
            assert!(wire.message().await.0.starts_with("HTTP/1.1 200"), "{version:?} {cut}");
        }
        let mut wire = Wire::connect(proxy.address()).await;
        for byte in &header {
            wire.send([*byte]).await;
            tokio::task::yield_now().await;
        }
        wire.send(GET).await;
        assert!(wire.message().await.0.starts_with("HTTP/1.1 200"), "{version:?}");
    }
    let all = upstream.requests();
    assert!(all.iter().all(|seen| seen.header("x-forwarded-for") == Some("192.0.2.1")));
}

#[tokio::test]
async fn without_a_header_there_is_no_connection() {
    let upstream = upstream().spawn().await;
    let proxy = demanding(&upstream, "").spawn().await;
    let long = format!("PROXY UNKNOWN {}\r\n{GET}", "x".repeat(107));
    let mut sum = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13".to_vec();
    sum.extend(b"\x01\x01\x01\x01\x02\x02\x02\x02\0\x01\0\x02\x03\0\x04oops");
    for (bytes, result) in [
        (GET.as_bytes(), "absent"),
        (b"\x16\x03\x01\x02\0\x01".as_slice(), "absent"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "absent"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 2001:db8::1 1 2\r\n", "malformed"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x01", "malformed"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c", "unsupported"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\0\xff\xff", "too_long"),
        (long.as_bytes(), "too_long"),
        (&sum, "checksum"),
    ] {
        let before = came(&proxy, result);
        let mut wire = Wire::connect(proxy.address()).await;
        wire.try_send(bytes).await;
        assert_eq!(wire.rest().await, "", "{}", String::from_utf8_lossy(bytes));
        assert_eq!(came(&proxy, result), before + 1.0, "{}", String::from_utf8_lossy(bytes));
    }
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("PROXY TCP4 1").await;
    drop(wire);
    let accepted = || came(&proxy, "closed") == 1.0;
    crate::support::eventually("the close to be counted", accepted).await;
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test]
async fn a_header_is_waited_for_as_long_as_a_head() {
    let upstream = upstream().spawn().await;
    let proxy = demanding(&upstream, ", limits: { header_timeout: 300ms }").spawn().await;
    for start in ["", "PROXY TCP4 192.0.2.1"] {
        let began = clock::now();
        let mut wire = Wire::connect(proxy.address()).await;
        wire.send(start).await;
        wire.closed().await;
        let took = clock::now().saturating_duration_since(began);
        assert!(took >= std::time::Duration::from_millis(300), "{took:?}");
    }
    assert_eq!(came(&proxy, "timeout"), 2.0);
}

#[tokio::test]
async fn the_end_does_not_wait_for_a_header() {
    let upstream = upstream().spawn().await;
    let proxy = demanding(&upstream, ", limits: { header_timeout: 1h, idle_timeout: 1h }");
    let proxy = proxy.spawn().await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("PROXY").await;
    let connections = || proxy.metric("outrigger_listener_connections{listener=\"in\"}") == 1.0;
    crate::support::eventually("it to be accepted", connections).await;
    let metrics = Arc::clone(&proxy.app().proxy.metrics);
    within("the drain", proxy.drain()).await;
    wire.closed().await;
    assert!(metrics.render().contains("result=\"closing\"} 1"));
}

#[tokio::test]
async fn the_header_comes_before_the_handshake() {
    let upstream = upstream().spawn().await;
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("test");
    let files = authority.issue(&["a.test"]).write(folder.path(), "a");
    let proxy = demanding(&upstream, &format!(", tls: {{ {files} }}")).spawn().await;
    for version in [Version::V1, Version::V2] {
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        stream.write_all(&header(version, "192.0.2.1:7")).await.unwrap();
        let client = crate::support::secure::tls_client(proxy.address(), &authority);
        let mut stream = client.connect_over(stream, "a.test").await.unwrap();
        stream.write_all(GET.as_bytes()).await.unwrap();
        let mut start = [0; 12];
        within("an answer", stream.read_exact(&mut start)).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
        let seen = upstream.requests().pop().expect("a request");
        assert_eq!(seen.header("x-forwarded-for"), Some("192.0.2.1"));
    }
}

#[tokio::test]
async fn a_limit_for_each_client_is_for_the_client_that_is_told_of() {
    let upstream = upstream().spawn().await;
    let limit = "rate_limit: { rate: 1/h, burst: 1, key: client_ip }";
    let listening = "proxy_protocol: true";
    let proxy = one_route(&upstream, limit).listening(listening).spawn().await;
    for (client, status) in
        [("192.0.2.1:1", 200), ("192.0.2.1:2", 429), ("192.0.2.2:1", 200), ("192.0.2.2:2", 429)]
    {
        let mut wire = Wire::connect(proxy.address()).await;
        wire.send(header(Version::V2, client)).await;
        wire.send(GET).await;
        let head = wire.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{client}: {head}");
    }
}

/// An endpoint that demands a header of this version and answers each request with the client that
/// the header has named.
async fn telling(
    version: Version,
) -> (crate::support::upstream::RawUpstream, Arc<Mutex<Vec<String>>>) {
    let headers = Arc::<Mutex<Vec<String>>>::default();
    let heard = Arc::clone(&headers);
    let upstream = raw_upstream(move |mut wire| {
        let heard = Arc::clone(&heard);
        async move {
            let header = match version {
                Version::V1 => match wire.try_until("\r\n").await {
                    Some(line) => line.trim_end().to_owned(),
                    None => return,
                },
                Version::V2 => {
                    let Some(start) = wire.try_bytes(16).await else { return };
                    let tail = usize::from(u16::from_be_bytes([start[14], start[15]]));
                    let tail = wire.bytes(tail).await;
                    format!("{:02x?} {tail:?}", &start[12..])
                }
            };
            heard.lock().unwrap().push(header.clone());
            while wire.next_head().await.is_some() {
                let length = header.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                wire.send(answer + &header).await;
            }
        }
    })
    .await;
    (upstream, headers)
}

#[tokio::test]
async fn an_upstream_is_told_of_each_client_on_a_connection_of_its_own() {
    for version in [Version::V1, Version::V2] {
        let (upstream, headers) = telling(version).await;
        let name = if version == Version::V1 { "v1" } else { "v2" };
        let proxy = proxy(&format!(
            "runtime: {{ workers: 1 }}\n\
             upstreams: {{ back: {{ endpoints: [\"{{upstream}}\"], proxy_protocol: {name} }} }}\n\
             routes: [{{ name: r, upstream: back }}]\n"
        ));
        let proxy = proxy.with("upstream", upstream.address()).spawn().await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(TcpStream::connect(proxy.address()).await.unwrap());
        }
        let expected = |stream: &TcpStream| {
            let (from, to) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            match version {
                Version::V1 => {
                    format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}", from.port(), to.port())
                }
                Version::V2 => {
                    let [a, b] = from.port().to_be_bytes();
                    let [c, d] = to.port().to_be_bytes();
                    let tail = [127, 0, 0, 1, 127, 0, 0, 1, a, b, c, d];
                    format!("[21, 11, 00, 0c] {tail:?}")
                }
            }
        };
        let expected: Vec<String> = streams.iter().map(expected).collect();
        let mut wires: Vec<Wire> = streams.into_iter().map(Wire::of).collect();
        // In turns, so that each finds the connections of the others idle.
        for _ in 0..3 {
            for (wire, expected) in wires.iter_mut().zip(&expected) {
                wire.send(GET).await;
                assert_eq!(&wire.message().await.1, expected);
            }
        }
        assert_eq!(*headers.lock().unwrap(), expected, "one connection for each client");
        // A client over HTTP/2 is told of as well.
        let answer = client_at(proxy.address()).http2().send(request("GET", "/")).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(headers.lock().unwrap().len(), 4);
    }
}

#[tokio::test]
async fn what_was_told_is_told_on() {
    let (upstream, headers) = telling(Version::V1).await;
    let proxy = proxy(
        "listeners: [{ name: in, bind: \"127.0.0.1:0\", proxy_protocol: true }]\n\
         upstreams: { back: { endpoints: [\"{upstream}\"], proxy_protocol: v1 } }\n\
         routes: [{ name: r, upstream: back }]\n",
    );
    let proxy = proxy.with("upstream", upstream.address()).spawn().await;
    for (start, told) in [
        (header(Version::V2, "192.0.2.1:7"), "PROXY TCP4 192.0.2.1 192.0.2.9 7 443"),
        (header(Version::V1, "[2001:db8::1]:8"), "PROXY TCP6 2001:db8::1 2001:db8::9 8 443"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8".iter().copied().chain([0; 216]).collect(), {
            "PROXY UNKNOWN"
        }),
    ] {
        let mut wire = Wire::connect(proxy.address()).await;
        wire.send(start).await;
        wire.send(GET).await;
        assert_eq!(wire.message().await.1, told);
    }
    assert_eq!(headers.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn checks_of_health_come_for_the_proxy_itself() {
    let (upstream, headers) = telling(Version::V2).await;
    let proxy = proxy(
        "upstreams:\n  back:\n    endpoints: [\"{upstream}\"]\n    proxy_protocol: v2\n\
         \x20   health_check: { path: /, interval: 20ms, timeout: 20ms, healthy_after: 1 }\n\
         routes: [{ name: r, upstream: back }]\n",
    );
    let _proxy = proxy.with("upstream", upstream.address()).spawn().await;
    crate::support::eventually("a check", || !headers.lock().unwrap().is_empty()).await;
    assert_eq!(headers.lock().unwrap()[0], "[20, 00, 00, 00] []");
}

#[tokio::test]
async fn a_reload_takes_no_connection_over_that_was_told_otherwise() {
    let service = Service::always(200).await;
    let proxy = proxy(
        "runtime: { workers: 1 }\n\
         upstreams: { back: { endpoints: [\"{upstream}\"] } }\n\
         routes: [{ name: r, upstream: back }]\n",
    );
    let proxy = proxy.with("upstream", service.address).spawn().await;
    let mut client = client(&proxy).connect().await;
    assert_eq!(client.send(request("GET", "/")).await.status(), 200);
    // The service does not know the header: were the idle connection used, it would answer 200.
    let changed = proxy.text.replace("] } }", "], proxy_protocol: v1 } }");
    assert!(proxy.app().proxy.reload(&changed).expect("fine").changed);
    assert_ne!(client.send(request("GET", "/")).await.status(), 200);
}
