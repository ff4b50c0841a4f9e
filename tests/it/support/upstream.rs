//! Servers behind the proxy: they answer as a test says and remember what they were asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::reply::{Pieces, Reply};
use super::wire::Wire;
use super::within;

type Replying = Pin<Box<dyn Future<Output = Reply> + Send>>;
type Handler = Box<dyn Fn(Arrival) -> Replying + Send + Sync>;
type Make = Box<dyn Fn() -> Reply + Send + Sync>;

/// An upstream that is not started yet.
pub(crate) struct Builder {
    steps: Vec<(usize, Make)>,
    handler: Option<Handler>,
    http2: bool,
}

/// An upstream that answers 200 unless it is told otherwise.
pub(crate) fn upstream() -> Builder {
    Builder { steps: Vec::new(), handler: None, http2: false }
}

impl Builder {
    /// Answers the next so many requests with this status.
    pub(crate) fn fail(self, times: usize, status: u16) -> Self {
        self.times(times, move || Reply::from(status))
    }

    /// Answers the next so many requests so.
    pub(crate) fn times(
        mut self,
        times: usize,
        make: impl Fn() -> Reply + Send + Sync + 'static,
    ) -> Self {
        self.steps.push((times, Box::new(make)));
        self
    }

    /// Answers all that follow with this status.
    pub(crate) fn then(self, status: u16) -> Self {
        self.always(move || Reply::from(status))
    }

    /// Answers all that follow so.
    pub(crate) fn always(self, make: impl Fn() -> Reply + Send + Sync + 'static) -> Self {
        self.times(usize::MAX, make)
    }

    /// Lets a closure answer, which reads the body itself if it wants it.
    pub(crate) fn serve<F, R>(mut self, handler: F) -> Self
    where
        F: Fn(Arrival) -> R + Send + Sync + 'static,
        R: Future<Output = Reply> + Send + 'static,
    {
        self.handler = Some(Box::new(move |arrival| Box::pin(handler(arrival))));
        self
    }

    /// Speaks HTTP/2 with prior knowledge.
    pub(crate) fn http2(mut self) -> Self {
        self.http2 = true;
        self
    }

    /// Starts it on a port that is free.
    pub(crate) async fn spawn(self) -> Upstream {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            steps: self.steps,
            handler: self.handler,
            seen: Mutex::default(),
            tally: watch::Sender::default(),
        });
        let task = tokio::spawn(accept(listener, Arc::clone(&shared), self.http2));
        Upstream { address, shared, task }
    }
}

/// What has happened at an upstream so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// Requests whose head was read.
    pub(crate) requests: usize,
    /// Requests that were given up by the proxy before they were answered.
    pub(crate) abandoned: usize,
    /// Connections accepted.
    pub(crate) accepted: usize,
    /// Connections that are open.
    pub(crate) open: usize,
    /// Whether a closure of the test's panicked.
    panicked: bool,
}

/// A request as it was seen.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    /// The body, as far as it was read.
    pub(crate) body: Bytes,
    pub(crate) trailers: Option<HeaderMap>,
    /// Whether the body was read to its end.
    pub(crate) whole: bool,
}

impl Seen {
    /// A field that is there at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next().map(|value| value.to_str().expect("text"));
        assert!(values.next().is_none(), "{name} is there more than once: {:?}", self.headers);
        value
    }
}

struct Shared {
    steps: Vec<(usize, Make)>,
    handler: Option<Handler>,
    seen: Mutex<Vec<Seen>>,
    tally: watch::Sender<Tally>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, change: impl FnOnce(&mut Tally)) {
        self.tally.send_modify(change);
    }

    /// The reply of the step that a request falls into.
    fn step(&self, index: usize) -> Reply {
        let mut left = index;
        for (times, make) in &self.steps {
            if left < *times {
                return make();
            }
            left -= times;
        }
        Reply::from(200)
    }
}

/// A request that an upstream has before it.
pub(crate) struct Arrival {
    /// How many came before it.
    pub(crate) index: usize,
    /// Its path and query.
    pub(crate) target: String,
    body: Incoming,
    shared: Arc<Shared>,
}

impl Arrival {
    /// Reads the body to its end, or as far as it comes.
    pub(crate) async fn read(&mut self) -> Bytes {
        while self.piece().await.is_some() {}
        self.shared.seen()[self.index].body.clone()
    }

    /// Reads the next piece of the body; `None` at its end, whole or not.
    pub(crate) async fn piece(&mut self) -> Option<Bytes> {
        let frame = self.body.frame().await;
        let mut seen = self.shared.seen();
        let seen = &mut seen[self.index];
        match frame {
            None => seen.whole = true,
            Some(Err(_)) => {}
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => {
                    seen.body = [&seen.body[..], &piece[..]].concat().into();
                    return Some(piece);
                }
                Err(frame) => {
                    seen.trailers = frame.into_trailers().ok();
                    seen.whole = true;
                }
            },
        }
        None
    }
}

/// An upstream that runs until this is dropped.
pub(crate) struct Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests it has seen.
    pub(crate) fn hits(&self) -> usize {
        self.tally().requests
    }

    /// What has happened so far.
    pub(crate) fn tally(&self) -> Tally {
        *self.shared.tally.borrow()
    }

    /// Every request so far.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.shared.seen().clone()
    }

    /// The only request so far.
    pub(crate) fn request(&self) -> Seen {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "one request is expected: {requests:?}");
        requests.remove(0)
    }

    /// Waits until what has happened is so.
    pub(crate) async fn until(&self, what: &str, holds: impl FnMut(&Tally) -> bool) {
        let mut tally = self.shared.tally.subscribe();
        let _ = within(what, tally.wait_for(holds)).await;
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
        let panicked = self.tally().panicked;
        assert!(!panicked || std::thread::panicking(), "an upstream's closure panicked");
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, http2: bool) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.expect("an upstream can accept");
        shared.count(|tally| tally.accepted += 1);
        connections.spawn(converse(stream, Arc::clone(&shared), http2));
        while connections.try_join_next().is_some() {}
    }
}

/// How a connection ends by the upstream's will.
enum Ending {
    Close,
    Reset,
}

async fn converse(stream: TcpStream, shared: Arc<Shared>, http2: bool) {
    shared.count(|tally| tally.open += 1);
    let _open = OnDrop(Arc::clone(&shared), |tally| tally.open -= 1);
    stream.set_nodelay(true).expect("TCP has no delay");
    let stream = stream.into_std().expect("a socket");
    // A second hold on the socket, to say of its close that it is a reset.
    let hold = stream.try_clone().expect("a socket");
    let stream = TokioIo::new(TcpStream::from_std(stream).expect("a socket"));
    let (end, mut ended) = mpsc::unbounded_channel();
    let service = service_fn(move |request| answer(Arc::clone(&shared), end.clone(), request));
    let serving = async {
        if http2 {
            // The proxy may leave in any way.
            let _ =
                http2::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await;
        } else {
            let _ = http1::Builder::new().serve_connection(stream, service).await;
        }
    };
    tokio::select! {
        () = serving => {}
        Some(ending) = ended.recv() => if matches!(ending, Ending::Reset) {
            let socket = socket2::SockRef::from(&hold);
            socket.set_linger(Some(Duration::ZERO)).expect("a socket can linger");
        },
    }
}

/// Counts something when it is dropped.
struct OnDrop(Arc<Shared>, fn(&mut Tally));

const GIVEN_UP: fn(&mut Tally) = |tally| tally.abandoned += 1;
const NOTHING: fn(&mut Tally) = |_| {};

impl Drop for OnDrop {
    fn drop(&mut self) {
        let Self(shared, change) = self;
        shared.count(|tally| {
            change(tally);
            tally.panicked |= std::thread::panicking();
        });
    }
}

async fn answer(
    shared: Arc<Shared>,
    end: mpsc::UnboundedSender<Ending>,
    request: Request<Incoming>,
) -> Result<Response<Pieces>, Infallible> {
    let (head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("", |target| target.as_str()).to_owned();
    let index = {
        let mut seen = shared.seen();
        seen.push(Seen {
            method: head.method,
            uri: head.uri,
            version: head.version,
            headers: head.headers,
            body: Bytes::new(),
            trailers: None,
            whole: false,
        });
        seen.len() - 1
    };
    shared.count(|tally| tally.requests += 1);
    let mut unanswered = OnDrop(Arc::clone(&shared), GIVEN_UP);
    let mut arrival = Arrival { index, target, body, shared: Arc::clone(&shared) };
    let reply = match &shared.handler {
        Some(handler) => handler(arrival).await,
        None => {
            arrival.read().await;
            shared.step(index)
        }
    };
    let ending = match reply {
        Reply::Answer(response) => {
            unanswered.1 = NOTHING;
            return Ok(response);
        }
        Reply::Hang => None,
        Reply::Close => Some(Ending::Close),
        Reply::Reset => Some(Ending::Reset),
    };
    if let Some(ending) = ending {
        let _ = end.send(ending);
    }
    std::future::pending().await
}

/// A server that is a script of bytes: each connection is given to it in turn.
pub(crate) struct RawUpstream {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Starts a server whose every connection is played by this script. A script that panics fails the
/// test when the server is dropped.
pub(crate) async fn raw_upstream<F, R>(script: F) -> RawUpstream
where
    F: Fn(Wire) -> R + Send + Sync + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let task = tokio::spawn(async move {
        let mut scripts = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let (stream, _) = accepted.expect("an upstream can accept");
                    scripts.spawn(script(Wire::of(stream)));
                }
                Some(ended) = scripts.join_next() => {
                    if let Err(error) = ended {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
            }
        }
    });
    RawUpstream { address, task }
}

impl RawUpstream {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for RawUpstream {
    fn drop(&mut self) {
        let panicked = self.task.is_finished();
        self.task.abort();
        assert!(!panicked || std::thread::panicking(), "an upstream's script panicked");
    }
}
