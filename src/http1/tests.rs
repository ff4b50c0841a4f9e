//! What a connection brings, beside what hyper's server makes of the same bytes: never another
//! request than it, and where ours is the stricter one, the case is named.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::*;

/// A request as it was read, with its body if that was whole.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    line: String,
    fields: Vec<(String, String)>,
    body: Option<(Vec<u8>, usize)>,
}

async fn seen<B>(request: Request<B>) -> Seen
where
    B: http_body::Body<Data = Bytes>,
{
    let (parts, body) = request.into_parts();
    let mut fields: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), format!("{value:?}")))
        .collect();
    fields.sort();
    let body = body.collect().await.ok().map(|body| {
        let trailers = body.trailers().map_or(0, http::HeaderMap::len);
        (body.to_bytes().to_vec(), trailers)
    });
    Seen { line: format!("{} {} {:?}", parts.method, parts.uri, parts.version), fields, body }
}

/// A client that sends these bytes and closes its side.
async fn sending(text: &str) -> (UnixStream, UnixStream) {
    let (mut client, server) = UnixStream::pair().expect("a pair of sockets");
    client.write_all(text.as_bytes()).await.expect("room for all of it");
    client.shutdown().await.expect("closed");
    (client, server)
}

/// The requests that ours reads.
async fn ours(text: &str) -> Vec<Seen> {
    let (_client, server) = sending(text).await;
    let wire = Wire::shared(server, Rc::new(Stock::default()));
    let limits = HeadLimits { bytes: 16 * 1024, fields: 100 };
    let mut found = Vec::new();
    loop {
        let head = wire.borrow_mut().next_head(limits);
        match head {
            Err(_) => return found,
            Ok(Some(head)) => {
                let request = seen(head.request.map(|()| BodyReader::of(&wire))).await;
                let whole = request.body.is_some();
                found.push(request);
                let next = poll_fn(|cx| Poll::Ready(wire.borrow_mut().end_request(cx))).await;
                if !(whole && next && head.asked.keep_alive) {
                    return found;
                }
            }
            Ok(None) => match poll_fn(|cx| wire.borrow_mut().poll_read(cx)).await {
                Ok(length) if length > 0 => {}
                _ => return found,
            },
        }
    }
}

/// The requests that hyper's server reads.
async fn theirs(text: &str) -> Vec<Seen> {
    let (_client, server) = sending(text).await;
    let found = Rc::new(RefCell::new(Vec::new()));
    let keep = Rc::clone(&found);
    let service = service_fn(move |request: Request<Incoming>| {
        let keep = Rc::clone(&keep);
        async move {
            let request = seen(request).await;
            keep.borrow_mut().push(request);
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true);
    // How it ends is not compared.
    let _ = builder.serve_connection(TokioIo::new(server), service).await;
    let found = found.borrow();
    found.clone()
}

/// Requests that both must read the same way, or both refuse.
const SAME: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b?c HTTP/1.1\r\nHost: b\r\nX: 1\r\nX: 2\r\n\r\n",
    "GET / HTTP/1.0\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /b HTTP/1.0\r\n\r\n",
    "GET / HTTP/1.1\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
    "GET http://b/c HTTP/1.1\r\nHost: a\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhell",
    "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "POST / HTTP/1.1\r\nContent-Length: 5, 6\r\n\r\nhello",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
     GET /b HTTP/1.1\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n00\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\ng\r\nhello\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\nx\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nhello",
    "POST / HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
    "GET / HTTP/1.1\r\nX: a\rb\r\n\r\n",
    "GET  / HTTP/1.1\r\n\r\n",
    "GET / HTTP/1.2\r\n\r\n",
    "GET /\r\n\r\n",
    "\r\nGET / HTTP/1.1\r\n\r\n",
];

#[tokio::test]
async fn requests_are_read_as_another_server_reads_them() {
    for text in SAME {
        assert_eq!(ours(text).await, theirs(text).await, "{text:?}");
    }
}

/// Requests that hyper's server reads and ours refuses: another recipient may read another one.
const STRICTER: &[&str] = &[
    "GET / HTTP/1.1\nHost: a\n\n",
    "GET / HTTP/1.1\r\nX: a\n\r\n",
    "\nGET / HTTP/1.1\r\n\r\n",
    "GET /a#b HTTP/1.1\r\n\r\n",
    "GET a.test HTTP/1.1\r\n\r\n",
    "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
];

#[tokio::test]
async fn what_another_server_lets_pass_is_refused() {
    for text in STRICTER {
        assert_eq!(ours(text).await, [], "{text:?}");
        assert_eq!(theirs(text).await.len(), 1, "{text:?}");
    }
}

/// Pieces of which requests, and what is nearly one, are made.
const PIECES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /b HTTP/1.1\r\n",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Connection: close\r\n",
    "X: y\r\n",
    "X: y\n",
    "X : y\r\n",
    " y\r\n",
    "\r\n",
    "\r\n",
    "\r\n",
    "\n",
    "hello",
    "5\r\nhello\r\n",
    "0\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
    "5;a\r\n",
    "\r",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever comes, each request that ours reads whole is the one that hyper's server reads.
    #[test]
    fn nothing_is_read_that_another_server_reads_otherwise(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 1..12),
    ) {
        let text = pieces.concat();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let both = async { (ours(&text).await, theirs(&text).await) };
        let (ours, theirs) = runtime.expect("a runtime").block_on(both);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            prop_assert!(ours.body.is_none() || ours == theirs, "{:?} {:?}", ours, theirs);
        }
        let whole = ours.iter().filter(|request| request.body.is_some()).count();
        prop_assert!(whole <= theirs.len(), "{:?} {:?}", ours, theirs);
    }
}
