//! A client of the proxy, and steady load: requests at fixed times, however slow the answers are.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use outrigger::clock;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::PATIENCE;

/// A connection to send on.
type Sender = SendRequest<Full<Bytes>>;
/// When a request was sent, and what came of it.
type End = (Instant, Result<Got, String>);

/// A client that keeps its connections.
#[derive(Clone)]
pub(crate) struct Caller {
    to: SocketAddr,
    idle: Arc<Mutex<Vec<Sender>>>,
}

/// An answer, whole.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Got {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Why the proxy answered itself; nothing when the upstream answered.
    pub(crate) fn reason(&self) -> Option<&str> {
        self.header("x-outrigger-reason")
    }
}

/// A request without a body.
pub(crate) fn request(method: &str, path: &str) -> Request<Full<Bytes>> {
    with_body(method, path, Bytes::new())
}

/// A request with a body.
pub(crate) fn with_body(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let builder = Request::builder().method(method).uri(path).header("host", "service.test");
    builder.body(Full::new(body.into())).unwrap()
}

impl Caller {
    pub(crate) fn new(to: SocketAddr) -> Self {
        Self { to, idle: Arc::default() }
    }

    /// A GET of `/`.
    pub(crate) async fn get(&self) -> Got {
        self.send(request("GET", "/")).await
    }

    /// A GET of `/` with one header field.
    pub(crate) async fn get_with(&self, name: &'static str, value: &str) -> Got {
        let mut request = request("GET", "/");
        request.headers_mut().insert(name, value.parse().unwrap());
        self.send(request).await
    }

    /// Sends a request and takes the whole answer.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Got {
        self.try_send(request).await.expect("the proxy answers")
    }

    /// The same, where the answer may break off.
    pub(crate) async fn try_send(&self, request: Request<Full<Bytes>>) -> Result<Got, String> {
        let exchange = self.exchange(request);
        tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| "no answer".to_owned())?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Got, String> {
        let (sender, response) = self.head(request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        self.idle.lock().unwrap().push(sender);
        Ok(Got { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// Sends a request and takes the head of the answer.
    pub(crate) async fn head(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(Sender, Response<hyper::body::Incoming>), String> {
        let said = |error: &dyn std::fmt::Display| error.to_string();
        let kept = || self.idle.lock().unwrap().pop();
        let mut request = request;
        while let Some(mut sender) = kept() {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((sender, response)),
                Err(mut error) => match error.take_message() {
                    // The proxy had closed it before: any client tries another.
                    Some(unsent) => request = unsent,
                    None => return Err(said(error.error())),
                },
            }
        }
        let stream = TcpStream::connect(self.to).await.map_err(|error| said(&error))?;
        stream.set_nodelay(true).map_err(|error| said(&error))?;
        let (mut sender, connection) =
            handshake(TokioIo::new(stream)).await.map_err(|error| said(&error))?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| said(&error))?;
        Ok((sender, response))
    }

    /// Sends `rate` GETs a second for this long, each at its time, and waits for their ends.
    pub(crate) async fn load(&self, rate: u32, length: Duration) -> Load {
        let start = clock::now();
        let mut running = JoinSet::new();
        for number in 0..(f64::from(rate) * length.as_secs_f64()) as u32 {
            clock::sleep_until(start + Duration::from_secs(1) * number / rate).await;
            let (caller, at) = (self.clone(), clock::now());
            running.spawn(async move { (at, caller.try_send(request("GET", "/")).await) });
        }
        let mut ends = running.join_all().await;
        ends.sort_by_key(|(at, _)| *at);
        Load { start, ends }
    }
}

/// What became of the requests of a load, in the order in which they were sent.
pub(crate) struct Load {
    pub(crate) start: Instant,
    pub(crate) ends: Vec<End>,
}

impl Load {
    /// The requests that were sent this long after the start or later, and how many of them were
    /// answered 200.
    pub(crate) fn after(&self, offset: Duration) -> (usize, usize) {
        let later = self.ends.iter().filter(|(at, _)| *at >= self.start + offset);
        let good = |got: &Result<Got, String>| got.as_ref().is_ok_and(|got| got.status == 200);
        later.fold((0, 0), |(all, fine), (_, end)| (all + 1, fine + usize::from(good(end))))
    }

    /// What did not go well, in words.
    pub(crate) fn failures(&self) -> Vec<String> {
        let ends = self.ends.iter();
        let told = |end: &Result<Got, String>| match end {
            Ok(got) if got.status == 200 => None,
            Ok(got) => Some(format!("{} {:?}", got.status, got.reason())),
            Err(error) => Some(error.clone()),
        };
        ends.filter_map(|(at, end)| Some((*at - self.start, told(end)?)))
            .map(|(at, told)| format!("{at:?}: {told}"))
            .collect()
    }
}
