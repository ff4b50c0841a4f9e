//! Clients that know HTTP: for what a test is not about the bytes of.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::proxy::Proxy;
use super::reply::{Feed, Pieces, pieces};
use super::within;

/// The host that a request names unless it says otherwise.
pub(crate) const HOST: &str = "svc.test";

/// A client of one address; each request has a connection of its own unless it connects first.
#[derive(Clone, Copy)]
pub(crate) struct Client {
    address: SocketAddr,
    http2: bool,
}

/// A client of the proxy's first listener.
pub(crate) fn client(proxy: &Proxy) -> Client {
    client_at(proxy.address())
}

/// A client of this address.
pub(crate) const fn client_at(address: SocketAddr) -> Client {
    Client { address, http2: false }
}

/// A request of this method and target, without fields but `Host`, and without a body.
pub(crate) fn request(method: &str, target: &str) -> Ask {
    let request = Request::builder().method(method).uri(target).body(Pieces::whole(Bytes::new()));
    Ask(request.expect("a request"))
}

/// A request to be sent.
pub(crate) struct Ask(Request<Pieces>);

impl Ask {
    /// Adds a field.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.0.headers_mut().extend(super::reply::fields(&[(name, value)]));
        self
    }

    /// Gives it a body with `Content-Length`.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        *self.0.body_mut() = Pieces::whole(body.into());
        self
    }

    /// Gives it a body that the test sends piece by piece.
    pub(crate) fn streamed(mut self) -> (Self, Feed) {
        let (feed, pieces) = pieces();
        *self.0.body_mut() = pieces;
        (self, feed)
    }
}

impl Client {
    /// Speaks HTTP/2 with prior knowledge.
    pub(crate) const fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// GET.
    pub(crate) async fn get(&self, target: &str) -> Answer {
        self.send(request("GET", target)).await
    }

    /// POST.
    pub(crate) async fn post(&self, target: &str, body: impl Into<Bytes>) -> Answer {
        self.send(request("POST", target).body(body)).await
    }

    /// Sends a request on a new connection and reads its answer to the end.
    pub(crate) async fn send(&self, ask: Ask) -> Answer {
        self.connect().await.send(ask).await
    }

    /// Sends a request whose answer will be cut; whether the client can tell that from a whole one.
    pub(crate) async fn sees_cut(&self, ask: Ask) -> bool {
        match self.connect().await.try_open(ask).await {
            Ok(response) => {
                let answer = Answer::of(response).await;
                answer.broken || answer.status() == StatusCode::BAD_GATEWAY
            }
            // The cut came before the head was sent on.
            Err(_) => true,
        }
    }

    /// Connects.
    pub(crate) async fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).await.expect("the proxy listens");
        stream.set_nodelay(true).expect("TCP has no delay");
        let io = TokioIo::new(stream);
        let (sender, driver) = if self.http2 {
            let (sender, driver) =
                http2::handshake(TokioExecutor::new(), io).await.expect("a connection");
            (Sender::Http2(sender), tokio::spawn(async move { driver.await.is_ok() }))
        } else {
            let (sender, driver) = http1::handshake(io).await.expect("a connection");
            (Sender::Http1(sender), tokio::spawn(async move { driver.await.is_ok() }))
        };
        Connection { sender, driver }
    }
}

enum Sender {
    Http1(http1::SendRequest<Pieces>),
    Http2(http2::SendRequest<Pieces>),
}

/// A connection; closed when this is dropped.
pub(crate) struct Connection {
    sender: Sender,
    driver: JoinHandle<bool>,
}

impl Connection {
    /// Sends a request and reads its answer to the end.
    pub(crate) async fn send(&mut self, ask: Ask) -> Answer {
        Answer::of(self.open(ask).await).await
    }

    /// Sends a request and waits for its answer's head.
    pub(crate) async fn open(&mut self, ask: Ask) -> Response<Incoming> {
        self.try_open(ask).await.expect("an answer comes")
    }

    /// Sends a request and waits for its answer's head, if there is one.
    pub(crate) async fn try_open(&mut self, ask: Ask) -> Result<Response<Incoming>, hyper::Error> {
        let sent = self.start(ask).await;
        within("an answer", sent).await
    }

    /// Begins to send a request; the future that this gives is its answer. Dropped, that cancels.
    pub(crate) async fn start(
        &mut self,
        Ask(mut request): Ask,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>
    {
        match &mut self.sender {
            Sender::Http1(sender) => {
                if !request.headers().contains_key("host") {
                    request.headers_mut().insert("host", HOST.parse().expect("a value"));
                }
                within("the connection to be free", sender.ready()).await.expect("it lives");
                Box::pin(sender.send_request(request))
            }
            Sender::Http2(sender) => {
                let host = request.headers_mut().remove("host");
                let host = host.as_ref().map_or(HOST, |host| host.to_str().expect("text"));
                if request.uri().authority().is_none() {
                    let uri = format!("http://{host}{}", request.uri());
                    *request.uri_mut() = uri.parse().expect("a URI");
                }
                within("the connection to be free", sender.ready()).await.expect("it lives");
                Box::pin(sender.send_request(request))
            }
        }
    }

    /// Waits until the proxy closes the connection.
    pub(crate) async fn closed(mut self) {
        let _ = within("the proxy to close", &mut self.driver).await;
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Its head.
    pub(crate) head: http::response::Parts,
    /// Its body, as far as it came.
    pub(crate) body: Bytes,
    /// Its trailers.
    pub(crate) trailers: Option<HeaderMap>,
    /// Whether it broke off.
    pub(crate) broken: bool,
}

impl Answer {
    /// Reads an answer to its end.
    pub(crate) async fn of(response: Response<Incoming>) -> Self {
        let (head, mut incoming) = response.into_parts();
        let mut answer = Self { head, body: Bytes::new(), trailers: None, broken: false };
        let mut body = Vec::new();
        while let Some(frame) = within("the rest of an answer", incoming.frame()).await {
            match frame.map(hyper::body::Frame::into_data) {
                Ok(Ok(piece)) => body.extend_from_slice(&piece),
                Ok(Err(frame)) => answer.trailers = frame.into_trailers().ok(),
                Err(_) => {
                    answer.broken = true;
                    break;
                }
            }
        }
        answer.body = body.into();
        answer
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.head.status
    }

    /// A field that is there at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.head.headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().expect("text"));
        assert!(values.next().is_none(), "{name} is there more than once: {:?}", self.head.headers);
        value
    }

    /// Why the proxy answered itself, if it did.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.header("x-outrigger-reason")
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is text")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }
}
