//! An upstream that does as the test says, and remembers what it was asked and when.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use outrigger::clock;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::PATIENCE;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// When its head came.
    pub(crate) at: Instant,
    /// Its place among all requests, from 0.
    pub(crate) number: usize,
    /// The connection that it came on, from 0.
    pub(crate) connection: usize,
    pub(crate) method: http::Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    /// The body, empty where the act did not wait for it.
    pub(crate) body: Bytes,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// What the service does with a request.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// Answers, once the request's body is whole.
    Answer(u16, Vec<(&'static str, String)>, &'static str),
    /// The same, later.
    Late(Duration, u16),
    /// Never answers.
    Hang,
    /// Closes the connection without an answer.
    Drop,
    /// Answers with a body of this type, of which only the first half ever comes.
    Stall(&'static str),
    /// Answers 200 and closes the connection.
    Close,
}

/// A bare answer.
pub(crate) fn status(code: u16) -> Act {
    Act::Answer(code, Vec::new(), "")
}

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    hits: watch::Receiver<usize>,
    connections: Arc<AtomicUsize>,
    open: watch::Receiver<usize>,
    peak: Arc<AtomicUsize>,
    hang_up: watch::Sender<()>,
    task: JoinHandle<()>,
}

/// Says what to do with a request.
type Acting = Box<dyn Fn(&Seen) -> Act + Send + Sync>;

/// What all connections of a service share.
struct Shared {
    act: Acting,
    seen: Arc<Mutex<Vec<Seen>>>,
    hits: watch::Sender<usize>,
    busy: Arc<AtomicUsize>,
    peak: Arc<AtomicUsize>,
}

/// Counts a request for as long as it is served.
struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Counts a connection for as long as it is open.
struct Open(Arc<watch::Sender<usize>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Service {
    /// Starts on a port of the system's choice.
    pub(crate) async fn start(act: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), act)
    }

    /// Starts on a socket that listens already.
    pub(crate) fn on(
        listener: TcpListener,
        act: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let (hits_in, hits) = watch::channel(0);
        let (open_in, open) = watch::channel(0);
        let (open_in, seen) = (Arc::new(open_in), Arc::<Mutex<Vec<Seen>>>::default());
        let connections = Arc::new(AtomicUsize::new(0));
        let peak = Arc::<AtomicUsize>::default();
        let shared = Arc::new(Shared {
            act: Box::new(act),
            seen: Arc::clone(&seen),
            hits: hits_in,
            busy: Arc::default(),
            peak: Arc::clone(&peak),
        });
        let count = Arc::clone(&connections);
        let hang_up = watch::Sender::new(());
        let told = hang_up.subscribe();
        let task = tokio::spawn(async move {
            let mut running = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                open_in.send_modify(|open| *open += 1);
                let open = Open(Arc::clone(&open_in));
                let connection = count.fetch_add(1, Ordering::SeqCst);
                let (shared, mut told) = (Arc::clone(&shared), told.clone());
                told.mark_unchanged();
                running.spawn(async move {
                    let service = service_fn(|request| {
                        let shared = Arc::clone(&shared);
                        async move { serve(&shared, connection, request).await }
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    // Breaking off is what the test asked for.
                    tokio::select! {
                        biased;
                        _ = told.changed() => {}
                        _ = http.serve_connection(TokioIo::new(stream), service) => {}
                    }
                    drop(open);
                });
                while running.try_join_next().is_some() {}
            }
        });
        Self { address, seen, hits, connections, open, peak, hang_up, task }
    }

    /// A service that always answers with this status.
    pub(crate) async fn always(code: u16) -> Self {
        Self::start(move |_| status(code)).await
    }

    pub(crate) fn hits(&self) -> usize {
        *self.hits.borrow()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Connections that were ever made to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// The most requests that were in its hands at once.
    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::SeqCst)
    }

    /// Closes every connection that is open now.
    pub(crate) fn hang_up(&self) {
        self.hang_up.send_replace(());
    }

    /// Waits until it has had this many requests.
    pub(crate) async fn reached(&self, hits: usize) {
        let mut watched = self.hits.clone();
        let wait = watched.wait_for(|now| *now >= hits);
        tokio::time::timeout(PATIENCE, wait).await.expect("requests do not arrive").unwrap();
    }

    /// Waits until this many connections are open.
    pub(crate) async fn open(&self, wanted: usize) {
        let mut watched = self.open.clone();
        let wait = watched.wait_for(|now| *now == wanted);
        tokio::time::timeout(PATIENCE, wait).await.expect("connections stay as they are").unwrap();
    }
}

async fn serve(
    shared: &Shared,
    connection: usize,
    request: hyper::Request<Incoming>,
) -> Result<Response<Pieces>, std::io::Error> {
    let busy = Busy(Arc::clone(&shared.busy));
    shared.peak.fetch_max(1 + busy.0.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
    let (parts, body) = request.into_parts();
    let mut seen = Seen {
        at: clock::now(),
        number: 0,
        connection,
        method: parts.method,
        path: parts.uri.path().to_owned(),
        headers: parts.headers,
        body: Bytes::new(),
    };
    let number = {
        let mut all = shared.seen.lock().unwrap();
        seen.number = all.len();
        all.push(seen.clone());
        all.len() - 1
    };
    let act = (shared.act)(&seen);
    shared.hits.send_modify(|hits| *hits += 1);
    let broken = || std::io::Error::other("as the test says");
    match act {
        Act::Drop => Err(broken()),
        Act::Hang => std::future::pending().await,
        Act::Stall(kind) => {
            let mut answer = Response::new(Pieces(Some(Bytes::from_static(b"half")), true));
            let kind = http::HeaderValue::from_static(kind);
            answer.headers_mut().insert("content-type", kind);
            Ok(answer)
        }
        Act::Late(wait, code) => {
            clock::sleep(wait).await;
            answer(code, &[], "")
        }
        Act::Close => answer(200, &[("connection", "close".to_owned())], ""),
        Act::Answer(code, fields, text) => {
            let body = body.collect().await.map_err(|_| broken())?.to_bytes();
            shared.seen.lock().unwrap()[number].body = body;
            answer(code, &fields, text)
        }
    }
}

fn answer(
    code: u16,
    fields: &[(&'static str, String)],
    text: &'static str,
) -> Result<Response<Pieces>, std::io::Error> {
    let mut answer = Response::builder().status(code);
    for (name, value) in fields {
        answer = answer.header(*name, value);
    }
    let piece = Some(Bytes::from_static(text.as_bytes()));
    Ok(answer.body(Pieces(piece.filter(|p| !p.is_empty()), false)).unwrap())
}

/// A body of at most one piece, with or without an end.
struct Pieces(Option<Bytes>, bool);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.0.take() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            None if self.1 => Poll::Pending,
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none() && !self.1
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match &self.0 {
            _ if self.1 => hyper::body::SizeHint::default(),
            piece => {
                hyper::body::SizeHint::with_exact(piece.as_ref().map_or(0, |p| p.len() as u64))
            }
        }
    }
}
