//! Steady traffic: the same requests through the sidecar and past it, at fixed times whatever
//! became of those before, as independent users send them.
//!
//! A client waits a second, tries once and keeps its connections. Past the sidecar it takes the
//! endpoints in turn. Memory is bounded by rate times timeout.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::oneshot;

use super::service::{PAST, THROUGH, WAY};
use super::tally::Tally;
use crate::clock;
use crate::shared::Shared;
use crate::telemetry::reason::Reason;

/// How long a client waits for an answer.
pub const TIMEOUT: Duration = Duration::from_secs(1);
/// One in so many orders is a POST.
const POSTS: u64 = 10;
/// Idle connections that are kept to one address.
const IDLE: usize = 32;
/// Traffic that is later than this is left out rather than sent all at once.
const LATEST: Duration = Duration::from_secs(1);

/// Requests a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// To `orders`, each way.
    pub orders: u32,
    /// To `quotes`, through the sidecar.
    pub quotes: u32,
}

/// A number for each reason.
#[derive(Clone, Copy, Debug)]
struct Counts([u64; Reason::COUNT]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; Reason::COUNT])
    }
}

/// What the clients saw.
#[derive(Debug, Default)]
pub struct Board {
    /// Orders through the sidecar.
    pub through: Shared<Tally>,
    /// Orders past it.
    pub past: Shared<Tally>,
    /// Quotes.
    pub quotes: Shared<Tally>,
    /// Orders that were sent, each way.
    sent: AtomicU64,
    /// Answers of the sidecar's own, by the place of their reason in [`Reason::ALL`].
    reasons: Shared<Counts>,
}

impl Board {
    /// Orders that were sent each way, answered or not.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// The reasons of the sidecar's own answers, and how many there were of each.
    pub fn reasons(&self) -> Vec<(Reason, u64)> {
        let Counts(counts) = *self.reasons.lock();
        let all = Reason::ALL.iter().copied().zip(counts);
        all.filter(|(_, count)| *count > 0).collect()
    }
}

/// The traffic; it ends when this is stopped.
pub struct Traffic {
    /// What the clients saw.
    pub board: Arc<Board>,
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Traffic {
    /// Starts it. Times on the board count from `began`.
    ///
    /// # Errors
    /// What the operating system refused.
    pub fn start(
        sidecar: SocketAddr,
        endpoints: &[SocketAddr],
        rates: Rates,
        began: Instant,
    ) -> io::Result<Self> {
        let board = Arc::new(Board::default());
        let through = Arc::new(Client::new(&[sidecar], THROUGH));
        let past = Arc::new(Client::new(endpoints, PAST));
        let (end, ended) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let shown = Arc::clone(&board);
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = orders(&through, &past, rates.orders, &board, began) => {}
                    () = quotes(&through, rates.quotes, &board, began) => {}
                    // Either way it is over: the sender is dropped, not used.
                    _ = ended => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("demo-traffic".to_owned()).spawn(run)?;
        Ok(Self { board: shown, end, thread })
    }

    /// Ends it and waits for that; what is in flight is given up and not counted.
    pub fn stop(self) {
        drop(self.end);
        // A thread that panicked has said so; there is nobody left to tell.
        let _ = self.thread.join();
    }
}

async fn orders(
    through: &Arc<Client>,
    past: &Arc<Client>,
    rate: u32,
    board: &Arc<Board>,
    began: Instant,
) {
    let mut number = 0_u64;
    steadily(rate, || {
        number += 1;
        board.sent.fetch_add(1, Ordering::Relaxed);
        let order = Order { number, post: number.is_multiple_of(POSTS) };
        tokio::spawn(ask(Arc::clone(through), order, Arc::clone(board), |b| &b.through, began));
        tokio::spawn(ask(Arc::clone(past), order, Arc::clone(board), |b| &b.past, began));
    })
    .await;
}

async fn quotes(through: &Arc<Client>, rate: u32, board: &Arc<Board>, began: Instant) {
    steadily(rate, || {
        let order = Order { number: 0, post: false };
        tokio::spawn(ask(Arc::clone(through), order, Arc::clone(board), |b| &b.quotes, began));
    })
    .await;
}

/// Calls at a rate for as long as it is polled, on time and not after the call before.
async fn steadily(rate: u32, mut call: impl FnMut()) {
    let gap = Duration::from_secs(1) / rate.max(1);
    let mut due = clock::now();
    loop {
        clock::sleep_until(due).await;
        let now = clock::now();
        if now.saturating_duration_since(due) > LATEST {
            due = now;
        }
        while due <= now {
            call();
            due += gap;
        }
    }
}

/// What is asked for: an order, or a quote when the number is 0.
#[derive(Clone, Copy, Debug)]
struct Order {
    number: u64,
    post: bool,
}

impl Order {
    fn request(self, way: &'static str) -> Request<Full<Bytes>> {
        let (path, host) = match self.number {
            0 => ("/quotes/today".to_owned(), "quotes"),
            number if self.post => (format!("/orders?as={number}"), "orders"),
            number => (format!("/orders/{number}"), "orders"),
        };
        let body = if self.post { Bytes::from_static(b"{\"item\":7}") } else { Bytes::new() };
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = if self.post { Method::POST } else { Method::GET };
        // A path of digits and letters is a URI; the default asks for `/` and gets its 404.
        *request.uri_mut() = path.parse().unwrap_or_default();
        let headers = request.headers_mut();
        headers.insert(http::header::HOST, HeaderValue::from_static(host));
        headers.insert(WAY, HeaderValue::from_static(way));
        request
    }
}

async fn ask(
    client: Arc<Client>,
    order: Order,
    board: Arc<Board>,
    tally: fn(&Board) -> &Shared<Tally>,
    began: Instant,
) {
    let sent = clock::now();
    let exchange = client.exchange(order.request(client.way));
    let answer = clock::until(sent + TIMEOUT, exchange).await.ok().and_then(Result::ok);
    let now = clock::now();
    if let Some(reason) = answer.as_ref().and_then(|answer| answer.reason)
        && let Some(count) = board.reasons.lock().0.get_mut(reason.index())
    {
        *count += 1;
    }
    let good = answer.is_some_and(|answer| answer.status.is_success());
    let (since_start, latency) =
        (now.saturating_duration_since(began), now.saturating_duration_since(sent));
    tally(&board).lock().record(since_start, good, latency);
}

/// What a client looks at in an answer.
struct Answer {
    status: StatusCode,
    /// Why the sidecar itself answered, if it did.
    reason: Option<Reason>,
}

/// A client as most are: connections that are kept, and addresses in turn.
struct Client {
    addresses: Vec<Address>,
    way: &'static str,
    turn: AtomicUsize,
}

struct Address {
    socket: SocketAddr,
    idle: Shared<Vec<SendRequest<Full<Bytes>>>>,
}

impl Client {
    fn new(addresses: &[SocketAddr], way: &'static str) -> Self {
        let address = |socket: &SocketAddr| Address { socket: *socket, idle: Shared::default() };
        let addresses = addresses.iter().map(address).collect();
        Self { addresses, way, turn: AtomicUsize::new(0) }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, hyper::Error> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.addresses.len().max(1);
        let Some(address) = self.addresses.get(turn) else { return Ok(Answer::NONE) };
        let mut sender = match address.idle().await {
            Some(sender) => sender,
            None => match connect(address.socket).await? {
                Some(sender) => sender,
                None => return Ok(Answer::NONE),
            },
        };
        let response = sender.send_request(request).await?;
        let answer = Answer::of(&response);
        response.into_body().collect().await?;
        address.keep(sender);
        Ok(answer)
    }
}

impl Address {
    /// An idle connection that is still open, if there is one.
    async fn idle(&self) -> Option<SendRequest<Full<Bytes>>> {
        loop {
            let mut sender = self.idle.lock().pop()?;
            if sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn keep(&self, sender: SendRequest<Full<Bytes>>) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(sender);
        }
    }
}

impl Answer {
    /// Nobody answered.
    const NONE: Self = Self { status: StatusCode::BAD_GATEWAY, reason: None };

    fn of<B>(response: &http::Response<B>) -> Self {
        let reason = response.headers().get("x-outrigger-reason");
        let reason = reason.and_then(|text| {
            Reason::ALL.iter().find(|reason| reason.as_str().as_bytes() == text.as_bytes())
        });
        Self { status: response.status(), reason: reason.copied() }
    }
}

/// A new connection; `None` when none can be made.
async fn connect(to: SocketAddr) -> Result<Option<SendRequest<Full<Bytes>>>, hyper::Error> {
    let Ok(stream) = TcpStream::connect(to).await else { return Ok(None) };
    if stream.set_nodelay(true).is_err() {
        return Ok(None);
    }
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // What went wrong with it is told to whoever waits for an answer on it.
    tokio::spawn(connection);
    Ok(Some(sender))
}
