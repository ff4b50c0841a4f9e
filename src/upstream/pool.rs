//! The connections of one worker, by endpoint.
//!
//! Nothing here is shared between workers, so that a request reaches a pooled connection without a
//! lock. The last connection used is the first one used again: the others grow idle and are closed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::connect::connect;
use super::connections::Place;
use super::endpoint::Endpoint;
use super::error::{Cause, Error};
use super::{LocalExecutor, Upstream};
use crate::clock;
use crate::config::upstream::{Pool as Settings, Protocol};
use crate::policy::outcome::{End, Outcome};

/// The largest head of an answer, near the bound on that of a request. The number of its fields has
/// hyper's own bound, 100, for which it needs no allocation.
const ANSWER_HEAD_BYTES: usize = 64 * 1024;
/// The window that we offer on a stream and on a connection of HTTP/2, which bounds what a slow
/// client can make us hold.
const HTTP2_WINDOW: u32 = 256 * 1024;

/// The connections of one worker.
pub struct Pools<B> {
    by_endpoint: RefCell<HashMap<u64, Kept<B>>>,
}

/// What is kept to one endpoint.
struct Kept<B> {
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
    idle: Vec<Idle<B>>,
    shared: Option<Rc<Http2<B>>>,
}

struct Idle<B> {
    connection: Http1<B>,
    since: Instant,
}

struct Http1<B> {
    sender: http1::SendRequest<B>,
    opened: Instant,
}

struct Http2<B> {
    sender: http2::SendRequest<B>,
    opened: Instant,
}

/// A connection that carries one exchange. Given back with [`Lease::finish`] once the answer has
/// been read to its end; closed when dropped before.
pub struct Lease<B> {
    pools: Rc<Pools<B>>,
    upstream: Arc<Upstream>,
    endpoint: Arc<Endpoint>,
    connection: Carrier<B>,
}

enum Carrier<B> {
    Http1(Http1<B>),
    /// Other streams go on; the stream itself is reset by the drop of its body.
    Http2,
}

/// An answer's head, and the connection that its body comes on.
pub type Answered<B> = (Response<Incoming>, Lease<B>);

impl<B> Default for Pools<B> {
    fn default() -> Self {
        Self { by_endpoint: RefCell::new(HashMap::new()) }
    }
}

impl<B> Pools<B>
where
    B: Body + Unpin + 'static,
    B::Data: Send,
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
        request: Request<B>,
        connect_by: Instant,
    ) -> Result<Answered<B>, Error<B>> {
        // The rare ways are boxed, so that the common one stays small.
        if upstream.settings.protocol == Protocol::Http2 {
            return Box::pin(self.send_http2(upstream, endpoint, request, connect_by)).await;
        }
        let mut request = request;
        while let Some(mut connection) = self.checkout(&upstream.settings.pool, endpoint) {
            let answering = connection.sender.try_send_request(request);
            match answering.await {
                Ok(response) => {
                    let connection = Carrier::Http1(connection);
                    return Ok((response, self.lease(upstream, endpoint, connection)));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(broken(None, error.into_error())),
                },
            }
        }
        Box::pin(self.send_on_new(upstream, endpoint, request, connect_by)).await
    }

    async fn send_on_new(
        self: &Rc<Self>,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        request: Request<B>,
        connect_by: Instant,
    ) -> Result<Answered<B>, Error<B>> {
        let mut connection = match self.open_http1(upstream, endpoint, connect_by).await {
            Ok(connection) => connection,
            Err(error) => return Err(Error { request: Some(Box::new(request)), ..error }),
        };
        match connection.sender.try_send_request(request).await {
            Ok(response) => {
                let connection = Carrier::Http1(connection);
                Ok((response, self.lease(upstream, endpoint, connection)))
            }
            Err(mut error) => Err(broken(error.take_message(), error.into_error())),
        }
    }

    fn lease(
        self: &Rc<Self>,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        connection: Carrier<B>,
    ) -> Lease<B> {
        Lease {
            pools: Rc::clone(self),
            upstream: Arc::clone(upstream),
            endpoint: Arc::clone(endpoint),
            connection,
        }
    }

    /// The last connection given back that still lives; older ones stay for the sweep.
    fn checkout(&self, settings: &Settings, endpoint: &Endpoint) -> Option<Http1<B>> {
        let mut kept = self.by_endpoint.borrow_mut();
        let idle = &mut kept.get_mut(&endpoint.id)?.idle;
        while let Some(Idle { connection, .. }) = idle.pop() {
            let aged = settings.max_age.is_some_and(|max_age| {
                clock::now().saturating_duration_since(connection.opened) >= *max_age
            });
            if connection.sender.is_ready() && !aged {
                return Some(connection);
            }
        }
        None
    }

    async fn open_http1(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        connect_by: Instant,
    ) -> Result<Http1<B>, Error<B>> {
        let place = self.place(upstream, connect_by).await?;
        let opening = async {
            let stream = connect(&endpoint.address).await.map_err(Cause::Io)?;
            let handshake = http1::Builder::new()
                .max_header_size(ANSWER_HEAD_BYTES)
                .handshake(TokioIo::new(stream))
                .await;
            handshake.map_err(Cause::Http)
        };
        let (sender, driver) = opened(clock::until(connect_by, opening).await.ok())?;
        upstream.state.metrics.connections_opened.inc();
        drive(driver, place);
        Ok(Http1 { sender, opened: clock::now() })
    }

    async fn send_http2(
        self: &Rc<Self>,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        mut request: Request<B>,
        connect_by: Instant,
    ) -> Result<Answered<B>, Error<B>> {
        *request.version_mut() = http::Version::HTTP_2;
        let mut fresh = false;
        loop {
            let connection = match self.shared(&upstream.settings.pool, endpoint) {
                Some(connection) => connection,
                None => match self.open_http2(upstream, endpoint, connect_by).await {
                    Ok(connection) => {
                        fresh = true;
                        connection
                    }
                    Err(error) => {
                        return Err(Error { request: Some(Box::new(request)), ..error });
                    }
                },
            };
            let mut sender = connection.sender.clone();
            match sender.try_send_request(request).await {
                Ok(response) => {
                    return Ok((response, self.lease(upstream, endpoint, Carrier::Http2)));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    message => return Err(broken(message, error.into_error())),
                },
            }
        }
    }

    fn shared(&self, settings: &Settings, endpoint: &Endpoint) -> Option<Rc<Http2<B>>> {
        let mut kept = self.by_endpoint.borrow_mut();
        let shared = &mut kept.get_mut(&endpoint.id)?.shared;
        let usable = shared.as_ref().is_some_and(|connection| {
            let aged = settings.max_age.is_some_and(|max_age| {
                clock::now().saturating_duration_since(connection.opened) >= *max_age
            });
            !connection.sender.is_closed() && !aged
        });
        if !usable {
            *shared = None;
        }
        shared.clone()
    }

    async fn open_http2(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        connect_by: Instant,
    ) -> Result<Rc<Http2<B>>, Error<B>> {
        let place = self.place(upstream, connect_by).await?;
        let opening = async {
            let stream = connect(&endpoint.address).await.map_err(Cause::Io)?;
            let handshake = http2::Builder::new(LocalExecutor)
                .timer(TokioTimer::new())
                .initial_stream_window_size(HTTP2_WINDOW)
                .initial_connection_window_size(HTTP2_WINDOW * 4)
                .max_header_list_size(ANSWER_HEAD_BYTES as u32)
                .handshake(TokioIo::new(stream))
                .await;
            handshake.map_err(Cause::Http)
        };
        let (sender, driver) = opened(clock::until(connect_by, opening).await.ok())?;
        upstream.state.metrics.connections_opened.inc();
        drive(driver, place);
        let connection = Rc::new(Http2 { sender, opened: clock::now() });
        // Two requests may have opened one each; the later stays, the earlier ends with its
        // streams.
        self.keep(upstream, endpoint, |kept| kept.shared = Some(Rc::clone(&connection)));
        Ok(connection)
    }

    /// A place under the upstream's connection limit. When there is none, an idle connection of
    /// this worker gives up its own.
    async fn place(&self, upstream: &Arc<Upstream>, until: Instant) -> Result<Place, Error<B>> {
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
            request: None,
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
            shared: None,
        });
        if !Arc::ptr_eq(&kept.upstream, upstream) {
            kept.upstream = Arc::clone(upstream);
        }
        put(kept);
    }

    fn give_back(&self, lease_of: (&Arc<Upstream>, &Arc<Endpoint>), connection: Http1<B>) {
        let (upstream, endpoint) = lease_of;
        let settings = &upstream.settings.pool;
        if connection.sender.is_closed() || upstream.state.connections.wanted() {
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
    pub fn sweep(&self, now: Instant) {
        self.by_endpoint.borrow_mut().retain(|_, kept| {
            let settings = &kept.upstream.settings.pool;
            let idle_timeout = *settings.idle_timeout;
            kept.idle.retain(|idle| {
                now.saturating_duration_since(idle.since) < idle_timeout
                    && !idle.connection.sender.is_closed()
            });
            if kept.shared.as_ref().is_some_and(|shared| shared.sender.is_closed()) {
                kept.shared = None;
            }
            // The set of the upstream's state is the newest one, whichever snapshot we came from.
            let current = kept.upstream.state.endpoints.load();
            let known = current.endpoints.iter().any(|known| known.id == kept.endpoint.id);
            known && (!kept.idle.is_empty() || kept.shared.is_some())
        });
    }

    /// Gives up an idle connection to each upstream where somebody waits for a place: another
    /// worker cannot take it from here.
    pub fn give_way(&self) {
        for kept in self.by_endpoint.borrow_mut().values_mut() {
            if !kept.idle.is_empty() && kept.upstream.state.connections.wanted() {
                kept.idle.remove(0);
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
    B: Body + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Gives the connection back: the answer was read to its end.
    pub fn finish(self) {
        if let Carrier::Http1(connection) = self.connection {
            self.pools.give_back((&self.upstream, &self.endpoint), connection);
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

fn opened<T, B>(result: Option<Result<T, Cause>>) -> Result<T, Error<B>> {
    let (end, cause) = match result {
        Some(Ok(opened)) => return Ok(opened),
        Some(Err(cause)) => (End::ConnectFailure, cause),
        None => (End::ConnectTimeout, Cause::Timeout),
    };
    Err(Error { end, unsent: true, local_limit: false, request: None, cause })
}

fn broken<B>(message: Option<Request<B>>, error: hyper::Error) -> Error<B> {
    let refused = message.is_none() && refused_by_peer(&error);
    Error {
        end: if refused { End::Refused } else { End::Reset },
        unsent: message.is_some() || refused,
        local_limit: false,
        request: message.map(Box::new),
        cause: Cause::Http(error),
    }
}

/// Whether the peer proved that it did not process the stream: REFUSED_STREAM, or a GOAWAY with
/// NO_ERROR (RFC 9113, 8.7), which the protocol library reports only for streams above the last one
/// processed.
fn refused_by_peer(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<h2::Error>() {
            return error.reason() == Some(h2::Reason::REFUSED_STREAM)
                || (error.is_go_away()
                    && error.is_remote()
                    && error.reason() == Some(h2::Reason::NO_ERROR));
        }
        source = inner.source();
    }
    false
}
