//! Connections of HTTP/2: one for an endpoint and worker, shared by their requests, and another for
//! each [`STREAMS`] that are under way.
//!
//! **Opened once.** Requests that find none wait for the first of them to open it, so that a burst
//! at the start is one connection and not many. **Given up** when it is of age, idle, told to go
//! away, or silent: once an answer has been due for [`SILENT`] and nothing at all has come, and
//! somebody has given up waiting, no further request is sent on it, since a peer that has vanished
//! says nothing else. We do not ask with pings: servers of gRPC end connections on which they come
//! more often than every few minutes.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::turn::Turn;
use super::{Answered, Pools, broken, drive, opened};
use crate::clock;
use crate::proxy_protocol::Origin;
use crate::tls::client::Offer;
use crate::upstream::answer::{self, Hold};
use crate::upstream::connect::Stream;
use crate::upstream::connections::Place;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::error::{Cause, Error};
use crate::upstream::message::Message;
use crate::upstream::{LocalExecutor, Upstream};

/// The largest head of an answer over HTTP/2, the same as over HTTP/1.
const ANSWER_HEAD_BYTES: u32 = 64 * 1024;
/// The window that we offer on a stream of HTTP/2; four times this on a connection. Bounds what a
/// slow client can make us hold.
const WINDOW: u32 = 256 * 1024;
/// How many requests share a connection: what every peer should allow (RFC 9113, 6.5.2). More could
/// have to wait for those before them, however long these take.
const STREAMS: usize = 100;
/// How long nothing may come on a connection while an answer is due: some round trips over any
/// line, of which at least the acknowledgement of something else would have been heard.
const SILENT: Duration = Duration::from_secs(1);

/// A connection that requests share.
pub(super) struct Http2<B> {
    sender: http2::SendRequest<B>,
    opened: Instant,
    /// Who vouched for the endpoint; see [`Stream::opened_by`].
    opened_by: u64,
    /// Held by all that is under way on it.
    hold: Hold,
    /// When it was last found in use.
    used: Cell<Instant>,
    pulse: Pulse,
    /// Whether it is believed to be dead.
    given_up: Cell<bool>,
}

impl<B> Http2<B> {
    /// Whether no request should be sent on it any more.
    fn is_past(&self, upstream: &Upstream, now: impl FnOnce() -> Instant) -> bool {
        let of_age = |max_age: Duration| now().saturating_duration_since(self.opened) >= max_age;
        self.given_up.get()
            || self.opened_by != upstream.opens_by()
            || upstream.settings.pool.max_age.is_some_and(|max_age| of_age(*max_age))
    }

    /// Whether the peer can be expected to serve one more at once.
    fn has_room(&self) -> bool {
        self.hold.others() < STREAMS
    }

    /// Whether nothing is under way on it.
    pub(super) fn is_idle(&self) -> bool {
        self.hold.others() == 0
    }

    /// Whether it has ended, or was idle for so long. To be asked regularly.
    pub(super) fn is_over(&self, now: Instant, idle_timeout: Duration) -> bool
    where
        B: 'static,
    {
        if !self.is_idle() {
            self.used.set(now);
        }
        let idle = now.saturating_duration_since(self.used.get());
        self.sender.is_closed() || idle >= idle_timeout
    }
}

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(super) async fn send_http2(
        self: &Rc<Self>,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        message: Message<'_, B>,
        connect_by: Instant,
    ) -> Result<Answered<B>, Error> {
        let mut request = message.into_http2(upstream.tls.is_some());
        loop {
            let (connection, fresh) = self.choose_http2(upstream, endpoint, connect_by).await?;
            let mut sender = connection.sender.clone();
            let waiting = Waiting::on(&connection);
            let sent = sender.try_send_request(request).await;
            let hold = waiting.over();
            match sent {
                Ok(response) => {
                    let response = response.map(|body| answer::Body::Http2(body, hold));
                    return Ok((response, self.lease(upstream, endpoint)));
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) if !fresh => request = unsent,
                    message => {
                        let cause = Cause::Http(error.into_error());
                        return Err(broken(message.is_some(), cause));
                    }
                },
            }
        }
    }

    /// The first connection that is kept and has room; or, when all are full, the one with the
    /// fewest requests.
    pub(super) fn shared(&self, upstream: &Upstream, endpoint: &Endpoint) -> Option<Rc<Http2<B>>> {
        let mut kept = self.by_endpoint.borrow_mut();
        let shared = &mut kept.get_mut(&endpoint.id)?.shared;
        shared.retain(|connection| {
            !connection.sender.is_closed() && !connection.is_past(upstream, clock::now)
        });
        let roomy = shared.iter().find(|connection| connection.has_room());
        roomy.or_else(|| shared.iter().min_by_key(|connection| connection.hold.others())).cloned()
    }

    /// The connection for a request, and whether it was opened since it came: one that is there,
    /// one that somebody else opens meanwhile, or a new one.
    async fn choose_http2(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        connect_by: Instant,
    ) -> Result<(Rc<Http2<B>>, bool), Error> {
        let mut fresh = false;
        loop {
            let full = match self.shared(upstream, endpoint) {
                Some(connection) if connection.has_room() => return Ok((connection, fresh)),
                full => full,
            };
            let opened = match self.turn(endpoint.id) {
                Some(turn) => {
                    let opening = self.open_http2(upstream, endpoint, full.is_some(), connect_by);
                    turn.over(opening.await).map(|connection| Some((connection, true)))
                }
                None => Turn::wait(self, endpoint.id, connect_by).await.map(|()| None),
            };
            match (opened, full) {
                (Ok(Some(opened)), _) => return Ok(opened),
                (Ok(None), _) => fresh = true,
                // Where no other can be opened, it waits for its stream on one that is full.
                (Err(_), Some(full)) => return Ok((full, fresh)),
                (Err(error), None) => return Err(error),
            }
        }
    }

    /// Opens a connection: one more, for which no place is waited for, or the only one.
    async fn open_http2(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        one_more: bool,
        connect_by: Instant,
    ) -> Result<Rc<Http2<B>>, Error> {
        let by = if one_more { clock::now() } else { connect_by };
        let place = self.place(upstream, by).await?;
        // One connection for all clients: the settings allow no word of one of them on it.
        let offer = (Offer::Http2, Origin::Sender);
        let opening = self.open_at(upstream, endpoint, offer, place, connect_by);
        let (stream, place) = opening.await?;
        self.shake_http2(upstream, endpoint, stream, place, connect_by).await
    }

    /// The beginning of HTTP/2 on a new connection, which is kept for all.
    pub(super) async fn shake_http2(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: &Arc<Endpoint>,
        stream: Stream,
        place: Place,
        connect_by: Instant,
    ) -> Result<Rc<Http2<B>>, Error> {
        let (opened_by, pulse) = (stream.opened_by(), Pulse::default());
        let stream = Felt { stream, pulse: pulse.clone() };
        let opening = async {
            let handshake = http2::Builder::new(LocalExecutor)
                .timer(TokioTimer::new())
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW * 4)
                .max_header_list_size(ANSWER_HEAD_BYTES)
                .handshake(TokioIo::new(stream))
                .await;
            handshake.map_err(Cause::Http)
        };
        let (sender, driver) = opened(clock::until(connect_by, opening).await.ok())?;
        drive(driver, place);
        let now = clock::now();
        let connection = Rc::new(Http2 {
            sender,
            opened: now,
            opened_by,
            hold: Hold::default(),
            used: Cell::new(now),
            pulse,
            given_up: Cell::new(false),
        });
        self.keep(upstream, endpoint, |kept| kept.shared.push(Rc::clone(&connection)));
        Ok(connection)
    }
}

/// Since when answers have been due on a connection and nothing has come.
#[derive(Clone, Debug, Default)]
struct Pulse(Rc<Beat>);

#[derive(Debug, Default)]
struct Beat {
    due: Cell<usize>,
    since: Cell<Option<Instant>>,
}

impl Pulse {
    fn due(&self, now: Instant) {
        self.0.due.set(self.0.due.get() + 1);
        self.0.since.set(self.0.since.get().or(Some(now)));
    }

    fn no_longer_due(&self) {
        self.0.due.set(self.0.due.get().saturating_sub(1));
        if self.0.due.get() == 0 {
            self.0.since.set(None);
        }
    }

    fn felt(&self, now: impl FnOnce() -> Instant) {
        self.0.since.set((self.0.due.get() > 0).then(now));
    }

    fn still(&self, now: Instant) -> bool {
        let since = self.0.since.get();
        since.is_some_and(|since| now.saturating_duration_since(since) >= SILENT)
    }
}

/// A request that waits for the head of its answer.
struct Waiting<'a, B> {
    connection: &'a Http2<B>,
    hold: Hold,
    over: bool,
}

impl<'a, B> Waiting<'a, B> {
    fn on(connection: &'a Http2<B>) -> Self {
        connection.pulse.due(clock::now());
        Self { connection, hold: connection.hold.clone(), over: false }
    }

    /// It waits no longer; the connection stays in use as long as this is held.
    fn over(mut self) -> Hold {
        self.over = true;
        self.hold.clone()
    }
}

impl<B> Drop for Waiting<'_, B> {
    fn drop(&mut self) {
        // Somebody has given up waiting.
        if !self.over && self.connection.pulse.still(clock::now()) {
            self.connection.given_up.set(true);
        }
        self.connection.pulse.no_longer_due();
    }
}

/// A byte stream that tells when anything comes.
struct Felt {
    stream: Stream,
    pulse: Pulse,
}

impl AsyncRead for Felt {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let felt = self.get_mut();
        let read = Pin::new(&mut felt.stream).poll_read(cx, buffer);
        if read.is_ready() {
            felt.pulse.felt(clock::now);
        }
        read
    }
}

impl AsyncWrite for Felt {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Whether the peer proved that it did not process the request: it refused the stream, or went away
/// and named an earlier one as the last that it processed, for whatever reason (RFC 9113, 6.8 and
/// 8.7). The protocol library lets streams feel a GOAWAY only if they are above that one.
pub(super) fn refused_by_peer(error: &hyper::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        if let Some(error) = inner.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (refused || error.is_go_away());
        }
        source = inner.source();
    }
    false
}
