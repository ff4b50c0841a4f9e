//! The connections of one worker, by endpoint.
//!
//! Nothing here is shared between workers, so that a request reaches a pooled connection without a
//! lock. The last connection used is the first one used again: the others grow idle and are closed.

mod chosen;
mod http2;
mod idle;
mod tunnel;
mod turn;

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Response};
use http_body::Body;

use self::http2::{Http2, refused_by_peer};
use self::idle::{Wanted, told};
use self::turn::Opening;
use super::answer;
use super::connect::{self, Stream};
use super::connections::Place;
use super::endpoint::Endpoint;
use super::error::{Cause, Error};
use super::http1::{Connection, Fault, Outgoing};
use super::message::{Informed, Message};
use super::{Upstream, own};
use crate::clock;
use crate::config::upstream::Protocol;
use crate::policy::outcome::{End, Outcome};
use crate::proxy_protocol::Origin;
use crate::tls::client::Offer;

/// The connections of one worker.
pub struct Pools<B> {
    by_endpoint: RefCell<foldhash::HashMap<u64, Kept<B>>>,
    /// Connections that are being opened for all, by endpoint.
    openings: RefCell<foldhash::HashMap<u64, Rc<Opening>>>,
}

/// What is kept to one endpoint.
struct Kept<B> {
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
    idle: Vec<Idle<B>>,
    shared: Vec<Rc<Http2<B>>>,
    /// Whether it chose HTTP/1.1 when it was last asked.
    chose_http1: bool,
}

struct Idle<B> {
    connection: Box<Connection<B>>,
    since: Instant,
}

/// Where an answer comes from. The connection itself is in the answer's body, and is given back
/// with [`Lease::finish`] once that has been read to its end; closed when dropped before.
pub struct Lease<B> {
    pools: Rc<Pools<B>>,
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
}

/// An answer, and where it comes from.
pub type Answered<B> = (Response<answer::Body<B>>, Lease<B>);

impl<B> Default for Pools<B> {
    fn default() -> Self {
        Self { by_endpoint: RefCell::default(), openings: RefCell::default() }
    }
}

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends a request on a pooled connection or a new one, and waits for the answer's head.
    ///
    /// A pooled connection that turns out to be dead before a byte was written is replaced here:
    /// that is not a retry.
    ///
    /// # Errors
    /// With the proof, if there is one, that nothing was sent.
    pub async fn send(
        self: &Rc<Self>,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        message: Message<'_, B>,
        connect_by: Instant,
    ) -> Result<Answered<B>, Error> {
        // The rare ways are boxed, so that the common one stays small.
        match upstream.settings.protocol {
            _ if *message.method == Method::CONNECT => {
                let origin = message.origin;
                return Box::pin(self.connect(upstream, endpoint, origin, connect_by)).await;
            }
            Protocol::Http2 => {
                return Box::pin(self.send_http2(upstream, endpoint, message, connect_by)).await;
            }
            Protocol::Auto if upstream.tls.is_some() && !message.offers_switch() => {
                return Box::pin(self.send_as_chosen(upstream, endpoint, message, connect_by))
                    .await;
            }
            Protocol::Http1 | Protocol::Auto => {}
        }
        self.send_http1(upstream, endpoint, message, connect_by).await
    }

    async fn send_http1(
        self: &Rc<Self>,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        message: Message<'_, B>,
        connect_by: Instant,
    ) -> Result<Answered<B>, Error> {
        let (idle_max, informed) = (message.idle_max, message.informed);
        let mut outgoing = Outgoing::new(message);
        let wanted = Wanted { idle_max, told: told(upstream, outgoing.origin()) };
        while let Some(connection) = self.checkout(upstream, endpoint, &wanted) {
            match exchange(connection, outgoing, informed).await {
                Ok(response) => return Ok((response, self.lease(upstream, endpoint))),
                Err((_, Some(unsent))) => outgoing = unsent,
                Err((fault, None)) => return Err(broken(false, Cause::Exchange(fault))),
            }
        }
        Box::pin(self.send_on_new(upstream, endpoint, outgoing, informed, connect_by)).await
    }

    async fn send_on_new(
        self: &Rc<Self>,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        outgoing: Outgoing<B>,
        informed: Option<&dyn Informed>,
        connect_by: Instant,
    ) -> Result<Answered<B>, Error> {
        let offer = (Offer::Http1, outgoing.origin());
        let (stream, place) = self.open(upstream, endpoint, offer, connect_by).await?;
        self.exchange_on_new(upstream, endpoint, outgoing, informed, (stream, place)).await
    }

    async fn exchange_on_new(
        self: &Rc<Self>,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        outgoing: Outgoing<B>,
        informed: Option<&dyn Informed>,
        (stream, place): (Stream, Place),
    ) -> Result<Answered<B>, Error> {
        let connection = Connection::new(stream, place, clock::now());
        let connection = Box::new(connection.told(told(upstream, outgoing.origin())));
        match exchange(connection, outgoing, informed).await {
            Ok(response) => Ok((response, self.lease(upstream, endpoint))),
            Err((fault, unsent)) => Err(broken(unsent.is_some(), Cause::Exchange(fault))),
        }
    }

    fn lease(self: &Rc<Self>, upstream: &Arc<Upstream>, endpoint: &Arc<Endpoint>) -> Lease<B> {
        Lease {
            pools: Rc::clone(self),
            upstream: Arc::clone(upstream),
            endpoint: Arc::clone(endpoint),
        }
    }

    /// A new connection and its place under the limit.
    async fn open(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        (offer, origin): (Offer, Origin),
        connect_by: Instant,
    ) -> Result<(Stream, Place), Error> {
        let place = self.place(upstream, connect_by).await?;
        self.open_at(upstream, endpoint, (offer, origin), place, connect_by).await
    }

    /// A new connection at a place that is taken already.
    async fn open_at(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        (offer, origin): (Offer, Origin),
        mut place: Place,
        connect_by: Instant,
    ) -> Result<(Stream, Place), Error> {
        let opening = connect::open(upstream, endpoint, offer, origin);
        let stream = opened(clock::until(connect_by, opening).await.ok())?;
        place.keep(own::connected(|| stream.local_address()));
        upstream.state.metrics.connections_opened.inc();
        Ok((stream, place))
    }

    /// A place under the upstream's connection limit. When there is none, an idle connection of
    /// this worker gives up its own.
    async fn place(&self, upstream: &Arc<Upstream>, until: Instant) -> Result<Place, Error> {
        let limit = upstream.settings.pool.max_connections;
        let connections = &upstream.state.connections;
        if let Some(place) = connections.try_take(limit) {
            return Ok(place);
        }
        self.close_one_idle(upstream);
        connections.take(limit, until).await.ok_or(Error {
            end: End::ConnectTimeout,
            unsent: true,
            local_limit: true,
            cause: Cause::Limit,
        })
    }

    fn close_one_idle(&self, upstream: &Upstream) {
        let mut all = self.by_endpoint.borrow_mut();
        let of_upstream = all.values_mut().filter(|kept| kept.upstream.name == upstream.name);
        let oldest = of_upstream
            .filter(|kept| !kept.idle.is_empty())
            .min_by_key(|kept| kept.idle.first().map(|idle| idle.since));
        if let Some(kept) = oldest {
            kept.idle.remove(0);
        }
    }

    fn keep(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        put: impl FnOnce(&mut Kept<B>),
    ) {
        let mut all = self.by_endpoint.borrow_mut();
        let kept = all.entry(endpoint.id).or_insert_with(|| Kept {
            upstream: Arc::clone(upstream),
            endpoint: Arc::clone(endpoint),
            idle: Vec::new(),
            shared: Vec::new(),
            chose_http1: false,
        });
        if !Arc::ptr_eq(&kept.upstream, upstream) {
            kept.upstream = Arc::clone(upstream);
        }
        put(kept);
    }

    fn give_back(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        connection: Box<Connection<B>>,
    ) {
        let settings = &upstream.settings.pool;
        if !connection.is_reusable() || upstream.state.connections.wanted() {
            return;
        }
        self.keep(upstream, endpoint, |kept| {
            if kept.idle.len() >= settings.max_idle_per_endpoint {
                kept.idle.remove(0);
            }
            kept.idle.push(Idle { connection, since: clock::now() });
        });
    }

    /// Closes what has been idle too long, and all that leads to endpoints that are gone.
    /// `patience` is the part of its usual time for which a connection may be idle, 0 to 1.
    pub fn sweep(&self, now: Instant, patience: f64) {
        self.by_endpoint.borrow_mut().retain(|_, kept| {
            let settings = &kept.upstream.settings.pool;
            let idle_timeout = settings.idle_timeout.mul_f64(patience);
            kept.idle.retain_mut(|idle| {
                let stays = now.saturating_duration_since(idle.since) < idle_timeout
                    && idle.connection.is_silent();
                idle.connection.rest();
                stays
            });
            kept.shared.retain(|shared| !shared.is_over(now, idle_timeout));
            // The set of the upstream's state is the newest one, whichever snapshot we came from.
            let current = kept.upstream.state.endpoints.load();
            let known = current.endpoints.iter().any(|known| known.id == kept.endpoint.id);
            known && (!kept.idle.is_empty() || !kept.shared.is_empty() || kept.chose_http1)
        });
    }

    /// Gives up an idle connection to each upstream where somebody waits for a place: another
    /// worker cannot take it from here.
    pub fn give_way(&self) {
        for kept in self.by_endpoint.borrow_mut().values_mut() {
            if !kept.upstream.state.connections.wanted() {
                continue;
            }
            if !kept.idle.is_empty() {
                kept.idle.remove(0);
            } else if let Some(at) = kept.shared.iter().position(|shared| shared.is_idle()) {
                kept.shared.remove(at);
            }
        }
    }

    /// Closes every connection without work, at the end of a drain.
    pub fn clear(&self) {
        self.by_endpoint.borrow_mut().clear();
    }
}

impl<B> Lease<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Gives the connection back: the answer was read to its end.
    pub fn finish(self, body: answer::Body<B>) {
        if let answer::Body::Http1(connection) = body {
            self.pools.give_back(&self.upstream, &self.endpoint, connection);
        }
    }
}

impl<B> Lease<B> {
    /// The answer broke off in its middle: its endpoint is at fault, though its head was good.
    pub fn broke_off(&self, now: Instant) {
        let outcome = Outcome {
            end: End::Reset,
            unsent: false,
            latency: std::time::Duration::ZERO,
            hint: None,
            peer_shed: false,
        };
        self.upstream.learn(&self.endpoint, &outcome, true, now);
    }
}

/// Runs a connection to its end. Its place is free again when its socket is closed, and not before.
fn drive<E>(driver: impl Future<Output = Result<(), E>> + 'static, place: Place) {
    tokio::task::spawn_local(async move {
        // Its errors reach us through the exchange that they break.
        let _ = driver.await;
        drop(place);
    });
}

/// Carries one exchange up to the answer's head. When it fails before its first byte was written,
/// the request comes back with the fault.
async fn exchange<B>(
    mut connection: Box<Connection<B>>,
    outgoing: Outgoing<B>,
    informed: Option<&dyn Informed>,
) -> Result<Response<answer::Body<B>>, (Fault, Option<Outgoing<B>>)>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    connection.begin(outgoing);
    match poll_fn(|cx| connection.poll_head(informed, cx)).await {
        Ok(head) => Ok(head.map(|()| answer::Body::Http1(connection))),
        Err(fault) => Err((fault, connection.take_unsent())),
    }
}

fn opened<T>(result: Option<Result<T, Cause>>) -> Result<T, Error> {
    let (end, cause) = match result {
        Some(Ok(opened)) => return Ok(opened),
        Some(Err(cause)) => (End::ConnectFailure, cause),
        None => (End::ConnectTimeout, Cause::Timeout),
    };
    Err(Error { end, unsent: true, local_limit: false, cause })
}

fn broken(unsent: bool, cause: Cause) -> Error {
    let refused = !unsent && matches!(&cause, Cause::Http(error) if refused_by_peer(error));
    Error {
        end: if refused { End::Refused } else { End::Reset },
        unsent: unsent || refused,
        local_limit: false,
        cause,
    }
}
