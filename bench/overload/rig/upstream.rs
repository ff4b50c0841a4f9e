//! The upstream's side: an HTTP/1.1 service before the slots, which can die, hang and come back.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use http::header::RETRY_AFTER;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use outrigger::clock;
use outrigger::shared::Shared;
use outrigger::units::{Period, Rate, Ratio};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::ledger::{Fate, Ledger};
use super::plan::{At, Change};
use super::slots::Slots;
use super::third_party::Bucket;

/// As many connections may wait to be taken, so that a burst of new ones is not a loss of packets.
const BACKLOG: i32 = 4096;
/// How long to wait when a connection could not be taken.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// What tells that the upstream is up, without a slot.
const READY: &str = "/ready";

/// What the upstream is.
#[derive(Args)]
pub(crate) struct Options {
    /// Port on 127.0.0.1.
    #[arg(long)]
    port: u16,
    /// Requests that are served at once.
    #[arg(long, default_value_t = 4)]
    slots: usize,
    /// How long a slot takes for one.
    #[arg(long, default_value = "10ms")]
    service: Period,
    /// The share of requests that take longer.
    #[arg(long, default_value = "0%")]
    slow_share: Ratio,
    /// How many times longer they take.
    #[arg(long, default_value_t = 20)]
    slow_factor: u32,
    /// Takes requests and never answers.
    #[arg(long)]
    hang: bool,
    /// Changes after the first request, as `20s:die,40s:half,60s:full`; also `hang`.
    #[arg(long, value_delimiter = ',')]
    schedule: Vec<At<Change>>,
    /// Answers 429 above this rate.
    #[arg(long)]
    rate: Option<Rate>,
    /// Tells the limit in `RateLimit` fields.
    #[arg(long)]
    rate_fields: bool,
    /// Seed of the draw of slow requests.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What all connections share.
struct Service {
    slots: Arc<Slots>,
    ledger: Arc<Ledger>,
    service: Duration,
    slow: Duration,
    slow_share: f64,
    random: Shared<fastrand::Rng>,
    limit: Option<Shared<Bucket>>,
    rate_fields: bool,
    hangs: watch::Sender<bool>,
    /// When the first request came.
    begun: watch::Sender<Option<Instant>>,
}

/// Serves until SIGTERM, and says what was done.
pub(crate) fn run(options: &Options) -> io::Result<Value> {
    let ledger = Arc::new(Ledger::default());
    let now = clock::now();
    let service = Arc::new(Service {
        slots: Slots::start(options.slots, Arc::clone(&ledger))?,
        ledger: Arc::clone(&ledger),
        service: options.service.get(),
        slow: options.service.get() * options.slow_factor,
        slow_share: options.slow_share.get(),
        random: Shared::new(fastrand::Rng::with_seed(options.seed)),
        limit: options.rate.map(|rate| Shared::new(Bucket::new(rate.per_second(), now))),
        rate_fields: options.rate_fields,
        hangs: watch::Sender::new(options.hang),
        begun: watch::Sender::new(None),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(options, service))?;
    Ok(ledger.report())
}

async fn serve(options: &Options, service: Arc<Service>) -> io::Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], options.port));
    let mut end = signal(SignalKind::terminate())?;
    let mut begun = service.begun.subscribe();
    let (mut listener, mut connections) = (Some(listen(address)?), JoinSet::new());
    let mut changes = options.schedule.iter();
    let mut next = changes.next();
    loop {
        tokio::select! {
            _ = end.recv() => return Ok(()),
            () = due(&mut begun, next) => {
                if let Some(change) = next {
                    apply(change.what, &service);
                    if change.what == Change::Die {
                        listener = None;
                        connections.abort_all();
                    } else if listener.is_none() {
                        listener = Some(listen(address)?);
                    }
                }
                next = changes.next();
            }
            stream = accept(listener.as_ref()) => {
                connections.spawn(connection(stream, Arc::clone(&service)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Ends when the next change is due; never without one, or before the first request.
async fn due(begun: &mut watch::Receiver<Option<Instant>>, next: Option<&At<Change>>) {
    let Some(change) = next else { return std::future::pending().await };
    let first = match begun.wait_for(Option::is_some).await {
        Ok(first) => *first,
        Err(_) => None,
    };
    match first {
        Some(first) => clock::sleep_until(first + change.at).await,
        None => std::future::pending().await,
    }
}

fn apply(change: Change, service: &Service) {
    service.hangs.send_replace(change == Change::Hang);
    match change {
        Change::Die => service.slots.clear(),
        Change::Hang => {}
        Change::Half => service.slots.open(0.5),
        Change::Full => service.slots.open(1.0),
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

async fn accept(listener: Option<&TcpListener>) -> TcpStream {
    let Some(listener) = listener else { return std::future::pending().await };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(_) => clock::sleep(ACCEPT_PAUSE).await,
        }
    }
}

async fn connection(stream: TcpStream, service: Arc<Service>) {
    // Without this an answer would wait for the acknowledgement of the one before; where it cannot
    // be set, the connection has ended already.
    let _ = stream.set_nodelay(true);
    let answer = service_fn(move |request| answer(Arc::clone(&service), request));
    // A client that goes away ends its connection with an error, which is its own business.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

type Answer = Result<Response<Full<Bytes>>, Infallible>;

async fn answer(service: Arc<Service>, request: Request<Incoming>) -> Answer {
    if request.uri().path() == READY {
        return Ok(Response::new(Full::from("ready\n")));
    }
    let now = clock::now();
    if service.ledger.count(Fate::Arrived, now) {
        service.begun.send_replace(Some(now));
    }
    if *service.hangs.borrow() {
        std::future::pending::<()>().await;
    }
    let mut response = match service.passes(now) {
        true => {
            let served = service.slots.enter(service.draw()).await;
            respond(if served.is_ok() { StatusCode::OK } else { StatusCode::BAD_GATEWAY })
        }
        false => respond(StatusCode::TOO_MANY_REQUESTS),
    };
    service.describe_limit(&mut response);
    Ok(response)
}

fn respond(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(if status.is_success() { "done\n" } else { "" }));
    *response.status_mut() = status;
    response
}

impl Service {
    /// Whether the third party's limit lets a request pass.
    fn passes(&self, now: Instant) -> bool {
        let passes = self.limit.as_ref().is_none_or(|limit| limit.lock().take(now));
        if !passes {
            self.ledger.count(Fate::Refused, now);
        }
        passes
    }

    /// How long the next request takes.
    fn draw(&self) -> Duration {
        let slow = self.slow_share > 0.0 && self.random.lock().f64() < self.slow_share;
        if slow { self.slow } else { self.service }
    }

    fn describe_limit(&self, response: &mut Response<Full<Bytes>>) {
        let Some(limit) = &self.limit else { return };
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            response.headers_mut().insert(RETRY_AFTER, 1.into());
        }
        if self.rate_fields {
            for (name, value) in limit.lock().fields() {
                if let Ok(value) = value.parse() {
                    response.headers_mut().insert(name, value);
                }
            }
        }
    }
}
