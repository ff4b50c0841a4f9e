//! The services that the demo breaks: real servers on ports of their own, on a thread of their own.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::schedule::{ENDPOINTS, Schedule, Trouble};
use crate::clock;

/// The header by which the demo's own requests say which way they were sent.
pub const WAY: &str = "x-demo-way";
/// The value of [`WAY`] of what went through the sidecar.
pub const THROUGH: &str = "through";
/// The value of [`WAY`] of what went past it.
pub const PAST: &str = "past";

/// How long a good answer takes, at least and at most.
const WORK: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(4));
/// How long a 503 takes.
const FAIL: Duration = Duration::from_micros(500);
/// Connections of one endpoint; the demo's own traffic needs a few hundred.
const CONNECTIONS: usize = 2048;

/// Requests that reached the service, by the way they came.
#[derive(Debug, Default)]
pub struct Arrivals {
    through: AtomicU64,
    past: AtomicU64,
}

impl Arrivals {
    /// Those that came through the sidecar.
    pub fn through(&self) -> u64 {
        self.through.load(Ordering::Relaxed)
    }

    /// Those that came past it.
    pub fn past(&self) -> u64 {
        self.past.load(Ordering::Relaxed)
    }

    fn count(&self, headers: &HeaderMap) {
        match headers.get(WAY).map(http::HeaderValue::as_bytes) {
            Some(way) if way == THROUGH.as_bytes() => self.through.fetch_add(1, Ordering::Relaxed),
            Some(way) if way == PAST.as_bytes() => self.past.fetch_add(1, Ordering::Relaxed),
            // Somebody who tries the demo out by hand is not part of the comparison.
            _ => 0,
        };
    }
}

/// The servers; they end when this is stopped.
pub struct Services {
    /// The endpoints of the service that is broken.
    pub orders: [SocketAddr; ENDPOINTS],
    /// The service that is well and small.
    pub quotes: SocketAddr,
    /// What reached the endpoints of `orders`.
    pub arrivals: Arc<Arrivals>,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

/// One endpoint: what it does, and what it counts.
#[derive(Clone)]
struct Endpoint {
    name: &'static str,
    /// Its place in the schedule; `None` = it is always well.
    place: Option<usize>,
    schedule: Arc<Schedule>,
    began: Instant,
    arrivals: Arc<Arrivals>,
}

impl Services {
    /// Binds and starts them. The schedule counts from `began`.
    ///
    /// # Errors
    /// What the operating system refused.
    pub fn start(schedule: Arc<Schedule>, began: Instant) -> io::Result<Self> {
        let arrivals = Arc::new(Arrivals::default());
        let endpoint = |name, place| Endpoint {
            name,
            place,
            schedule: Arc::clone(&schedule),
            began,
            arrivals: Arc::clone(&arrivals),
        };
        let (first, second, third, quotes) = (bind()?, bind()?, bind()?, bind()?);
        let orders = [first.local_addr()?, second.local_addr()?, third.local_addr()?];
        let quotes_address = quotes.local_addr()?;
        let sockets = vec![
            (first, endpoint("orders-1", Some(0))),
            (second, endpoint("orders-2", Some(1))),
            (third, endpoint("orders-3", Some(2))),
            (quotes, endpoint("quotes", None)),
        ];
        let (end, ended) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            runtime.block_on(async {
                let mut accepting = JoinSet::new();
                for (socket, endpoint) in sockets {
                    accepting.spawn(accept(socket, endpoint));
                }
                // Either way it is over: the sender is dropped, not used.
                let _ = ended.await;
            });
        };
        let thread = std::thread::Builder::new().name("demo-services".to_owned()).spawn(run)?;
        Ok(Self { orders, quotes: quotes_address, arrivals, end, thread })
    }

    /// Ends them and waits for that.
    pub fn stop(self) {
        drop(self.end);
        // A thread that panicked has said so; there is nobody left to tell.
        let _ = self.thread.join();
    }
}

fn bind() -> io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn accept(socket: TcpListener, endpoint: Endpoint) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(socket)?;
    let mut serving = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        while serving.try_join_next().is_some() {}
        if serving.len() < CONNECTIONS {
            serving.spawn(serve(stream, endpoint.clone()));
        }
    }
}

/// Serves one connection; how it ended is the client's to judge.
async fn serve(stream: tokio::net::TcpStream, endpoint: Endpoint) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = stream.into_std()?;
    // A second handle to the socket, by which it can be made to end with a reset.
    let socket = Arc::new(stream.try_clone()?);
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let service = service_fn(move |request: Request<Incoming>| {
        let (endpoint, socket) = (endpoint.clone(), Arc::clone(&socket));
        async move { endpoint.answer(&request, &socket).await }
    });
    let served = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    served.map_err(io::Error::other)
}

impl Endpoint {
    async fn answer(
        &self,
        request: &Request<Incoming>,
        socket: &TcpStream,
    ) -> io::Result<Response<Full<Bytes>>> {
        let now = clock::now();
        let moment = self.schedule.at(now.saturating_duration_since(self.began));
        if self.place.is_some() {
            self.arrivals.count(request.headers());
        }
        let trouble = self.place.and_then(|place| moment?.phase.troubles.get(place).copied()?);
        match trouble {
            None => clock::sleep(WORK.0 + (WORK.1 - WORK.0).mul_f64(fastrand::f64())).await,
            Some(Trouble::Slow(time)) => clock::sleep(time).await,
            Some(Trouble::Fails) => {
                clock::sleep(FAIL).await;
                return Ok(self.reply(StatusCode::SERVICE_UNAVAILABLE));
            }
            Some(Trouble::Hangs) => {
                let left = moment.map_or(Duration::ZERO, |moment| moment.left);
                clock::sleep_until(now + left).await;
            }
            Some(Trouble::Resets) => {
                // Without time to linger the kernel sends RST instead of FIN (tcp(7), socket(7)).
                socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO))?;
                return Err(io::ErrorKind::ConnectionReset.into());
            }
        }
        Ok(self.reply(StatusCode::OK))
    }

    fn reply(&self, status: StatusCode) -> Response<Full<Bytes>> {
        let text = format!("{{\"from\":\"{}\",\"status\":{}}}\n", self.name, status.as_u16());
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let json = http::HeaderValue::from_static("application/json");
        response.headers_mut().insert(http::header::CONTENT_TYPE, json);
        response
    }
}
