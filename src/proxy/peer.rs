//! The connection that a request came on.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use http::{HeaderMap, Response, StatusCode};
use tokio::sync::Notify;

use super::headers::forward::Client;
use super::headers::hop;
use super::headers::seen::Seen;
use crate::config::listener::Limits;
use crate::proxy_protocol::{self, Origin};
use crate::telemetry::metrics::ListenerMetrics;
use crate::tls::Identity;
use crate::upstream::message::Informed;

/// Where a connection comes from and where it was going.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ends {
    /// The client, if it has an address.
    pub client: Option<SocketAddr>,
    /// What the client connected to, as far as it is known: before a redirection, or a proxy that
    /// told us of it.
    pub destination: Option<SocketAddr>,
    /// Whether the kernel redirected the connection here, and so the destination is its word.
    pub redirected: bool,
}

impl Ends {
    /// Whom a connection that is made for this client is made for.
    #[must_use]
    pub fn origin(&self) -> Origin {
        match (self.client, self.destination) {
            (Some(source), Some(destination)) => {
                Origin::Client(proxy_protocol::Ends { source, destination })
            }
            _ => Origin::Nameless,
        }
    }
}

/// The other end of a client's connection.
pub struct Peer {
    /// The name of the listener.
    pub listener: Arc<str>,
    /// The listener's metrics.
    pub metrics: Arc<ListenerMetrics>,
    /// The client's address, ready for header fields.
    pub client: Client,
    /// Where the connection comes from and where it was going.
    pub ends: Ends,
    /// The client's address without its port, or `unix`: what is limited and hashed on.
    pub text: Box<str>,
    /// What happens on the connection now.
    pub activity: Activity,
    header_timeout: Duration,
    idle_timeout: Duration,
    max_requests: u64,
    /// There once a TLS handshake is done; on the heap, for most connections have none.
    secure: OnceCell<Box<Option<Identity>>>,
    verdict: Cell<Verdict>,
    waker: RefCell<Option<Waker>>,
    told: RefCell<Option<Box<Tell>>>,
}

/// Writes an interim answer to the client.
pub type Tell = dyn Fn(StatusCode, &HeaderMap);

/// What the watch over a connection wants of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Stay,
    /// End after the request that is being served, or now if there is none.
    Close,
    /// The head of a request did not come in time.
    HeadTimeout,
    /// The client does not take what we write.
    Abandon,
}

impl Peer {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(
        listener: Arc<str>,
        metrics: Arc<ListenerMetrics>,
        ends: Ends,
        limits: &Limits,
        now: Instant,
    ) -> Rc<Self> {
        let address = ends.client;
        Rc::new(Self {
            listener,
            metrics,
            client: Client::new(address.map(|address| address.ip())),
            ends,
            text: address.map_or_else(|| "unix".into(), |a| a.ip().to_string().into()),
            activity: Activity::new(now),
            header_timeout: *limits.header_timeout,
            idle_timeout: *limits.idle_timeout,
            max_requests: limits.max_requests_per_connection.unwrap_or(u64::MAX),
            secure: OnceCell::new(),
            verdict: Cell::new(Verdict::Stay),
            waker: RefCell::new(None),
            told: RefCell::new(None),
        })
    }

    /// A TLS handshake is done, with this client if it has proved who it is. From now on the
    /// connection waits for its first request.
    pub fn secured(&self, identity: Option<Identity>, now: Instant) {
        // There is one handshake to a connection, so this is never set already.
        let _ = self.secure.set(Box::new(identity));
        self.activity.idle_since.set(now);
    }

    /// Whether the connection is under TLS.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure.get().is_some()
    }

    /// Who the client has proved to be by a certificate of its own.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.secure.get()?.as_ref().as_ref()
    }

    /// What the watch wants; the task that asks is woken when that changes.
    pub fn verdict(&self, cx: &mut Context<'_>) -> Verdict {
        let mut waker = self.waker.borrow_mut();
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        match self.verdict.get() {
            Verdict::Stay if self.last_request() => Verdict::Close,
            verdict => verdict,
        }
    }

    /// Whether the connection has had as many requests as it may.
    #[must_use]
    pub fn last_request(&self) -> bool {
        self.activity.served() >= self.max_requests
    }

    /// Whether the connection ends after this request.
    #[must_use]
    pub fn closing(&self) -> bool {
        self.verdict.get() == Verdict::Close
    }

    /// Ends the connection after this request.
    pub fn end_soon(&self) {
        self.want(Verdict::Close);
    }

    /// Says how the client is told of interim answers, on a connection that can carry them.
    pub fn tell_by(&self, tell: Box<Tell>) {
        *self.told.borrow_mut() = Some(tell);
    }

    /// Wants something of the connection.
    fn want(&self, verdict: Verdict) {
        if self.verdict.replace(verdict) != verdict
            && let Some(waker) = &*self.waker.borrow()
        {
            waker.wake_by_ref();
        }
    }

    /// For how long it may be idle.
    fn idle_for(&self, patience: f64) -> Duration {
        let cut = self.idle_timeout.mul_f64(patience.clamp(0.0, 1.0));
        cut.max(IDLE_MIN).min(self.idle_timeout)
    }

    /// Looks at what the connection waits for; `patience` is the part of its usual time for which
    /// it may be idle.
    fn look_over(&self, now: Instant, patience: f64) {
        let passed = |since: Instant, timeout| now.saturating_duration_since(since) >= timeout;
        match self.activity.waits() {
            Waits::Stalled(since) if passed(since, self.idle_timeout) => {
                self.want(Verdict::Abandon);
            }
            Waits::Head(since) if passed(since, self.header_timeout) => {
                self.want(Verdict::HeadTimeout);
            }
            Waits::Request(since) if passed(since, self.idle_for(patience)) => {
                self.want(Verdict::Close);
            }
            _ => {}
        }
    }
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Peer").field("text", &self.text).finish_non_exhaustive()
    }
}

impl Informed for Peer {
    fn interim(&self, answer: Response<()>) {
        if let Some(tell) = &*self.told.borrow() {
            let (parts, ()) = answer.into_parts();
            let mut headers = parts.headers;
            let seen = Seen::of(&headers).fields;
            hop::strip_hop_by_hop(&mut headers, seen);
            tell(parts.status, &headers);
        }
    }
}

/// However short the process is of what a connection costs, one may be idle for so long: a client
/// that has just come is to get its answer, if only that there is none.
const IDLE_MIN: Duration = Duration::from_secs(1);

/// The connections of one worker.
#[derive(Default)]
pub struct Registry {
    peers: RefCell<HashMap<u64, Rc<Peer>>>,
    next: Cell<u64>,
    emptied: Notify,
}

/// A connection's entry; gone when this is dropped.
pub struct Registered {
    registry: Rc<Registry>,
    number: u64,
}

impl Registry {
    /// Enters a connection.
    #[must_use]
    pub fn enter(self: &Rc<Self>, peer: &Rc<Peer>) -> Registered {
        let number = self.next.get();
        self.next.set(number + 1);
        self.peers.borrow_mut().insert(number, Rc::clone(peer));
        Registered { registry: Rc::clone(self), number }
    }

    /// Looks at what each connection waits for; `patience` is the part of its usual time for which
    /// one may be idle, 0 to 1.
    pub fn look_over(&self, now: Instant, patience: f64) {
        self.peers.borrow().values().for_each(|peer| peer.look_over(now, patience));
    }

    /// Ends every connection after the request that it serves.
    pub fn close_all(&self) {
        self.peers.borrow().values().for_each(|peer| peer.want(Verdict::Close));
    }

    /// Waits until there is no connection.
    pub async fn emptied(&self) {
        while !self.peers.borrow().is_empty() {
            self.emptied.notified().await;
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let mut peers = self.registry.peers.borrow_mut();
        peers.remove(&self.number);
        if peers.is_empty() {
            self.registry.emptied.notify_one();
        }
    }
}

/// What happens on a connection, for the watch over its timeouts: no timer is set or cleared while
/// requests come and go, one glance at these cells now and then is enough.
#[derive(Debug)]
pub struct Activity {
    /// Requests that are being served.
    serving: Cell<u32>,
    /// Requests served so far.
    served: Cell<u64>,
    /// The first byte of a request whose head is not whole yet.
    first_byte: Cell<Option<Instant>>,
    /// Since when nothing has been served.
    idle_since: Cell<Instant>,
    /// Since when the client has not taken what we write.
    stalled_since: Cell<Option<Instant>>,
}

impl Activity {
    /// A connection that has just been accepted.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            serving: Cell::new(0),
            served: Cell::new(0),
            first_byte: Cell::new(None),
            idle_since: Cell::new(now),
            stalled_since: Cell::new(None),
        }
    }

    /// Bytes came in; the first of a request starts its time.
    pub fn read(&self, now: impl FnOnce() -> Instant) {
        if self.serving.get() == 0 && self.first_byte.get().is_none() {
            self.first_byte.set(Some(now()));
        }
    }

    /// What has come is whole: no head is waited for.
    pub fn no_head(&self) {
        self.first_byte.set(None);
    }

    /// The client took bytes, or did not.
    pub fn wrote(&self, taken: bool, now: impl FnOnce() -> Instant) {
        if taken {
            self.stalled_since.set(None);
        } else if self.stalled_since.get().is_none() {
            self.stalled_since.set(Some(now()));
        }
    }

    /// A request's head is whole; returns when its first byte came.
    pub fn begin(&self, now: impl FnOnce() -> Instant) -> Instant {
        self.serving.set(self.serving.get() + 1);
        self.served.set(self.served.get() + 1);
        self.first_byte.take().unwrap_or_else(now)
    }

    /// A request's answer is over.
    pub fn end(&self, now: Instant) {
        self.serving.set(self.serving.get().saturating_sub(1));
        self.idle_since.set(now);
    }

    /// Requests served so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.served.get()
    }

    /// Whether a request is being served.
    #[must_use]
    pub fn busy(&self) -> bool {
        self.serving.get() > 0
    }

    /// What the connection waits for, and since when.
    #[must_use]
    pub fn waits(&self) -> Waits {
        if let Some(since) = self.stalled_since.get() {
            return Waits::Stalled(since);
        }
        match self.first_byte.get() {
            _ if self.busy() => Waits::Served,
            Some(since) => Waits::Head(since),
            None => Waits::Request(self.idle_since.get()),
        }
    }
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// The client, to take what we wrote.
    Stalled(Instant),
    /// Us: requests have timeouts of their own.
    Served,
    /// The rest of a request's head.
    Head(Instant),
    /// The next request.
    Request(Instant),
}
