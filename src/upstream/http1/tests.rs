//! Whole answers over real sockets: what is read, and that hyper's client reads the same.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::*;
use crate::clock;
use crate::upstream::answer::Body;
use crate::upstream::connect::Stream;
use crate::upstream::connections::Connections;
use crate::upstream::message::{Message, OwnFields};

/// What a client makes of an answer; `None` when it breaks.
type Read = Option<(u16, Vec<(String, String)>, Vec<u8>, Option<HeaderMap>)>;

/// An endpoint that reads a request and answers with these bytes, then closes.
fn answering(text: &str) -> UnixStream {
    let (client, mut server) = UnixStream::pair().expect("a pair of sockets");
    let text = text.to_owned();
    tokio::task::spawn_local(async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(server.read_u8().await.expect("a request"));
        }
        server.write_all(text.as_bytes()).await.expect("answered");
    });
    client
}

async fn finish<B>(response: http::Response<B>) -> Read
where
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let (parts, body) = response.into_parts();
    let body = body.collect().await.ok()?;
    let trailers = body.trailers().cloned();
    let mut fields: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into()))
        .collect();
    fields.sort();
    Some((parts.status.as_u16(), fields, body.to_bytes().to_vec(), trailers))
}

async fn ours(text: &str, method: &Method) -> Read {
    let place = Arc::new(Connections::default()).try_take(1).expect("a place");
    let stream = Stream::Unix(answering(text));
    let mut connection = Box::new(Connection::new(stream, place, clock::now()));
    let (uri, headers, own) = (Uri::from_static("/"), HeaderMap::new(), OwnFields::default());
    let body = Empty::<Bytes>::new();
    connection.begin(Outgoing::new(Message {
        method,
        uri: &uri,
        headers: &headers,
        own: &own,
        body,
        idle_max: None,
        informed: None,
        origin: crate::proxy_protocol::Origin::Sender,
    }));
    let head = std::future::poll_fn(|cx| connection.poll_head(None, cx)).await.ok()?;
    finish(head.map(|()| Body::Http1(connection))).await
}

async fn theirs(text: &str, method: &Method) -> Read {
    let io = TokioIo::new(answering(text));
    let (mut sender, driver) = hyper::client::conn::http1::handshake(io).await.expect("made");
    tokio::task::spawn_local(driver);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method.clone();
    finish(sender.send_request(request).await.ok()?).await
}

/// Answers that hyper's client and ours must read the same way, or both refuse.
const SAME: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX-Empty:\r\nX-Wide:  a  b \t\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nX: \u{fc}\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\n\r\nuntil the end",
    "HTTP/1.0 200 OK\r\n\r\nuntil the end",
    "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0A\r\n0123456789\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\nz\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
    "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
    "HTTP/1.1 204 None\r\n\r\n",
    "HTTP/1.1 304 Same\r\nETag: \"x\"\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 103 Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
    "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    "HTTP/1.1 2x0 OK\r\n\r\n",
    "HTTP/3.0 200 OK\r\n\r\n",
    "not http\r\n\r\n",
    "HTTP/1.1 200 OK\r\nA: b",
    "",
];

/// Answers that hyper's client takes and ours refuses.
const STRICTER: &[&str] = &[
    // The coding would stay in the body after its name is gone.
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhi",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
];

async fn local<F: Future>(future: F) -> F::Output {
    tokio::task::LocalSet::new().run_until(future).await
}

#[tokio::test]
async fn answers_are_read_as_another_client_reads_them() {
    local(async {
        let mut accepted = 0;
        for text in SAME {
            let read = ours(text, &Method::GET).await;
            assert_eq!(read, theirs(text, &Method::GET).await, "{text:?}");
            if read.is_some() {
                accepted += 1;
                let read = ours(text, &Method::HEAD).await;
                assert_eq!(read, theirs(text, &Method::HEAD).await, "HEAD {text:?}");
            }
        }
        assert!(accepted > SAME.len() / 2, "the corpus holds answers of both kinds");
    })
    .await;
}

#[tokio::test]
async fn what_would_change_its_meaning_on_the_way_is_refused() {
    local(async {
        for text in STRICTER {
            assert_eq!(ours(text, &Method::GET).await, None, "{text:?}");
            assert_ne!(theirs(text, &Method::GET).await, None, "{text:?}");
        }
    })
    .await;
}
