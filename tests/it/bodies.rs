//! Bodies stream through both ways, byte for byte, and one that breaks off is seen to break off.

use bytes::Bytes;

use crate::support::client::{Answer, request};
use crate::support::proxy::{Builder, Proxy, one_route, proxy};
use crate::support::upstream::RawUpstream;
use crate::support::wire::{field, fields};
use crate::support::{Wire, client, eventually, raw_upstream, reply, upstream, within};

/// A proxy in front of a server of raw bytes, without retries, so that each scene plays once.
pub(crate) async fn before(raw: &RawUpstream) -> Proxy {
    in_front_of(raw).spawn().await
}

/// The same, not started yet.
pub(crate) fn in_front_of(raw: &RawUpstream) -> Builder {
    let yaml = "upstreams: { back: { endpoints: [\"{upstream}\"] } }
routes: [{ name: r, upstream: back, retry: { max_attempts: 1 } }]
";
    proxy(yaml).with("upstream", raw.address())
}

fn mebibyte() -> Bytes {
    (0..1024 * 1024_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mebibyte_passes_both_ways_byte_for_byte() {
    let upstream = upstream()
        .serve(|mut arrival| async move { reply(200).body(arrival.read().await) })
        .spawn()
        .await;
    let proxy = one_route(&upstream, "").spawn().await;
    let body = mebibyte();
    for client in [client(&proxy), client(&proxy).http2()] {
        let answer = client.post("/", body.clone()).await;
        assert!(answer.body == body, "{} bytes came back", answer.body.len());
        assert_eq!(answer.header("content-length"), Some("1048576"));
    }
    for seen in upstream.requests() {
        assert_eq!(seen.header("content-length"), Some("1048576"));
        assert_eq!(seen.header("transfer-encoding"), None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_streams_through_before_its_end() {
    let (told, mut pieces) = tokio::sync::mpsc::unbounded_channel();
    let upstream = upstream()
        .serve(move |mut arrival| {
            let told = told.clone();
            async move {
                while let Some(piece) = arrival.piece().await {
                    told.send(piece).expect("the test listens");
                }
                200.into()
            }
        })
        .spawn()
        .await;
    let proxy = one_route(&upstream, "").spawn().await;
    for client in [client(&proxy), client(&proxy).http2()] {
        let (ask, feed) = request("POST", "/").header("trailer", "x-sum").streamed();
        let mut connection = client.connect().await;
        let answer = connection.start(ask).await;
        let answer = tokio::spawn(answer);
        for piece in ["one", "two", "three"] {
            // The next is only sent when this one has come out at the other side.
            feed.send(piece).await;
            let came = within("the piece", pieces.recv()).await;
            assert_eq!(came.as_deref(), Some(piece.as_bytes()));
        }
        feed.trailers(&[("x-sum", "3")]).await;
        let answer = within("the answer", answer).await.expect("no panic").expect("an answer");
        assert_eq!(answer.status(), 200);
        drop(connection);
    }
    let trailers = upstream.requests()[1].trailers.clone();
    assert_eq!(trailers.expect("trailers came")["x-sum"], "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_streams_through_before_its_end() {
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
    for client in [client(&proxy), client(&proxy).http2()] {
        let mut connection = client.connect().await;
        let answer = connection.open(request("GET", "/")).await;
        let feed = feed.recv().await.expect("the upstream answers");
        let (_, mut body) = answer.into_parts();
        for piece in ["one", "two", "three"] {
            feed.now(piece);
            let frame = within("the piece", http_body_util::BodyExt::frame(&mut body)).await;
            let came = frame.expect("not the end").expect("not broken").into_data();
            assert_eq!(came.expect("a piece"), piece);
        }
        drop(feed);
        let end = within("the end", http_body_util::BodyExt::frame(&mut body)).await;
        assert!(
            end.is_none_or(|frame| frame.is_ok_and(|f| f.data_ref().is_some_and(Bytes::is_empty)))
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_an_answer_come_to_those_who_can_read_them() {
    let upstream = upstream()
        .always(|| reply(200).header("trailer", "x-sum").trailers("body", &[("x-sum", "4")]))
        .spawn()
        .await;
    let proxy = one_route(&upstream, "").spawn().await;
    let ask = request("GET", "/").header("te", "trailers");
    let answer = client(&proxy).http2().send(ask).await;
    assert_eq!(answer.trailers.expect("trailers came")["x-sum"], "4");
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send("GET / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\n\r\n").await;
    let head = wire.head().await;
    assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "{head}");
    assert_eq!(wire.until("\r\n\r\n").await, "4\r\nbody\r\n0\r\nx-sum: 4\r\n\r\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn trailers_of_a_request_come_to_an_http1_upstream() {
    let raw = raw_upstream(|mut wire| async move {
        let head = wire.head().await;
        assert_eq!(field(&head, "transfer-encoding"), Some("chunked"), "{head}");
        assert!(fields(&head, "content-length").is_empty(), "{head}");
        assert_eq!(wire.until("\r\n\r\n").await, "4\r\nbody\r\n0\r\nx-sum: 4\r\n\r\n");
        wire.send("HTTP/1.1 204 No Content\r\n\r\n").await;
    })
    .await;
    let proxy = before(&raw).await;
    let mut wire = Wire::connect(proxy.address()).await;
    wire.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         4\r\nbody\r\n0\r\nx-sum: 4\r\n\r\n",
    )
    .await;
    assert!(wire.head().await.starts_with("HTTP/1.1 204 "));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_have_none() {
    let raw = raw_upstream(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            let answer = match head.split(' ').next() {
                Some("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
                Some("PUT") => "HTTP/1.1 204 No Content\r\n\r\n",
                Some("GET") => "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nETag: x\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            };
            wire.send(answer).await;
        }
    })
    .await;
    let proxy = before(&raw).await;
    let mut wire = Wire::connect(proxy.address()).await;
    for (method, status, length) in
        [("HEAD", 200, Some("5")), ("PUT", 204, None), ("GET", 304, None), ("X", 200, Some("0"))]
    {
        let framing = if method == "PUT" { "Content-Length: 0\r\n" } else { "" };
        wire.send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\n{framing}\r\n")).await;
        let head = wire.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(field(&head, "content-length"), length, "{method}");
        assert_eq!(field(&head, "etag"), (method == "GET").then_some("x"));
        assert!(fields(&head, "transfer-encoding").is_empty(), "{head}");
    }
    // Every answer was whole, so one connection carried them all.
    assert_eq!(proxy.metric("outrigger_upstream_connections_opened_total{upstream=\"back\"}"), 1.0);
    let answer = client(&proxy).http2().send(request("HEAD", "/")).await;
    assert_eq!((answer.header("content-length"), answer.body.len()), (Some("5"), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_body_is_sent_without_a_framing() {
    let raw = raw_upstream(|mut wire| async move {
        while let Some(head) = wire.next_head().await {
            assert!(!head.to_lowercase().contains("transfer-encoding"), "{head}");
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        }
    })
    .await;
    let proxy = before(&raw).await;
    for client in [client(&proxy), client(&proxy).http2()] {
        for method in ["GET", "DELETE", "HEAD", "OPTIONS"] {
            assert_eq!(client.send(request(method, "/")).await.status(), 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_cut_is_never_taken_for_a_whole_one() {
    let raw = raw_upstream(|mut wire| async move {
        let head = wire.head().await;
        let start = match head.split(' ').nth(1) {
            Some("/length") => "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
            Some("/chunked") => {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n50\r\nshort",
        };
        wire.send(start).await;
        if head.contains("x-reset") {
            wire.reset();
        }
    })
    .await;
    let proxy = before(&raw).await;
    for path in ["/length", "/chunked", "/chunk"] {
        for client in [client(&proxy), client(&proxy).http2()] {
            for how in ["x-close", "x-reset"] {
                let ask = request("GET", path).header(how, "1");
                assert!(client.sees_cut(ask).await, "{path} {how}");
            }
        }
    }
    let cut = "outrigger_route_reasons_total{route=\"r\",reason=\"upstream_cut\"}";
    eventually("the cuts to be counted", || proxy.metric(cut) >= 6.0).await;
    eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_ends_with_the_connection_is_whole() {
    let raw = raw_upstream(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.0 200 OK\r\n\r\nall of it").await;
    })
    .await;
    let proxy = before(&raw).await;
    for client in [client(&proxy), client(&proxy).http2()] {
        let answer = client.get("/").await;
        assert_eq!((answer.text(), answer.broken), ("all of it", false));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_the_client_while_it_still_sends() {
    let upstream = upstream()
        .serve(|mut arrival| async move {
            arrival.piece().await;
            reply(409).body("stop")
        })
        .spawn()
        .await;
    let proxy = one_route(&upstream, "").spawn().await;
    for client in [client(&proxy), client(&proxy).http2()] {
        let (ask, feed) = request("POST", "/").streamed();
        feed.now("the beginning");
        let mut connection = client.connect().await;
        let answer = Answer::of(connection.open(ask).await).await;
        assert_eq!((answer.status().as_u16(), answer.text()), (409, "stop"));
        drop(feed);
    }
    eventually("nothing in flight", || proxy.in_flight() == 0.0).await;
}
