//! One connection over HTTP/2: the protocol library speaks it, and this bounds what a client can
//! do to us with it, and ends it.
//!
//! A connection that is to end is told so twice (RFC 9113, 6.8): first that no further streams are
//! wanted, and a round trip later which was the last that is served. Streams are served to their
//! end. A flood ends at once, with ENHANCE_YOUR_CALM.

mod frames;
mod line;
mod pace;

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use self::line::{CALM, Held, NO_ERROR};
use self::pace::Streams;
use super::connection::LINGER;
use super::stream::Watched;
use crate::clock::{self, Timer};
use crate::config::listener::Limits;
use crate::policy::flood::{self, Flood};
use crate::proxy::peer::{Peer, Verdict};
use crate::proxy::pipeline;
use crate::proxy::worker::Worker;
use crate::telemetry::reason::Reason;

/// The window that we offer on a stream of HTTP/2; four times this on a connection. Bounds what a
/// slow upstream makes us hold.
const WINDOW: u32 = 256 * 1024;
/// What a field of a head is counted with beyond its bytes (RFC 9113, 6.5.2).
const FIELD_BYTES: usize = 32;
/// How long a connection on which nothing is served any more may take to close, while it makes no
/// progress: long enough for a round trip over any line.
const CLOSING: Duration = Duration::from_secs(10);
/// What counts as progress of a connection that is closing.
const PROGRESS: u64 = 16 * 1024;
/// How long a connection may be silent before its client is asked with a ping whether it is there.
const ASK: Duration = Duration::from_secs(30);
/// Longer than any connection.
const NEVER: Duration = Duration::from_secs(366 * 24 * 3600);
/// The shortest time between two looks at whether a client is there.
const WATCH: Duration = Duration::from_millis(100);
/// How long the frame that we are in the middle of may take, before a flood ends the connection
/// without a word.
const LAST_FRAME: Duration = Duration::from_secs(1);

/// How a connection ends.
enum End {
    /// By the protocol, or for an offence against it.
    Over(hyper::Result<()>),
    /// The client sent too many frames of a kind.
    Flood(Flood),
    /// A frame, or a head in several, did not come to its end in time.
    Slow,
    /// The client does not take what we write, or does not close.
    Gone,
}

/// Serves a connection until its end.
pub(super) async fn serve(worker: Rc<Worker>, peer: Rc<Peer>, stream: Watched, limits: &Limits) {
    let line = Held::new(stream, Rc::clone(&peer), floods(limits));
    let end = converse(worker, &peer, &line, limits).await;
    // Whatever the library still holds cannot reach the client any more.
    let Some(line) = line.take() else { return };
    let ending = async {
        match end {
            End::Over(Ok(())) | End::Gone => {}
            End::Over(Err(error)) => {
                note_broken(&peer, &error);
                line.linger().await;
            }
            End::Flood(flood) => {
                note_flood(&peer, flood);
                line.farewell(CALM, flood.as_str()).await;
            }
            End::Slow => {
                peer.metrics.reason(Reason::RequestTimeout);
                line.farewell(NO_ERROR, Reason::RequestTimeout.as_str()).await;
            }
        }
    };
    // Whether the client has read it and closed by then or not, the connection ends.
    let _ = clock::until(clock::now() + LINGER, ending).await;
}

/// What a client may send.
fn floods(limits: &Limits) -> flood::Settings {
    flood::Settings {
        resets: limits.http2.resets_per_second,
        pings: limits.http2.pings_per_second,
        settings: limits.http2.settings_per_second,
        continuations: flood::continuations(list_bytes(limits)),
    }
}

/// The most that a head can be as HTTP/2 counts it, so that none is refused by it that would pass
/// over HTTP/1. What is above the listener's own limits is refused as over HTTP/1.
fn list_bytes(limits: &Limits) -> usize {
    limits.header_bytes.as_usize() + limits.headers * FIELD_BYTES
}

/// Lets the protocol library speak until one side has had enough.
async fn converse(worker: Rc<Worker>, peer: &Rc<Peer>, line: &Held, limits: &Limits) -> End {
    let idle = *limits.idle_timeout;
    let streams = Streams::new(idle);
    let mut builder = http2::Builder::new(streams.clone());
    let most = limits.http2.max_concurrent_streams;
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(most)
        // As many can be given up at once as there may be; how often is counted by the second.
        .max_pending_accept_reset_streams(most as usize)
        .max_local_error_reset_streams(None)
        .max_header_list_size(u32::try_from(list_bytes(limits)).unwrap_or(u32::MAX))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        // Asked, a client that is there says something. How long it may take to is not for the
        // library to say, which does not see what else comes and goes meanwhile.
        .keep_alive_interval((idle / 2).min(ASK))
        .keep_alive_timeout(NEVER);
    let served = Rc::clone(peer);
    let service = service_fn(move |request: Request<Incoming>| {
        let (handling, streams) = (pipeline::handle(&worker, &served, request), streams.clone());
        async move { handling.await.map(|answer| answer.map(|body| streams.watch(body))) }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(line.clone()), service));
    let mut closing = Closing::default();
    let mut watch = Timer::at(after(idle));
    poll_fn(|cx| {
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            return Poll::Ready(End::Over(result));
        }
        if let Some((flood, unfinished)) = line.flooded() {
            let over = !unfinished || closing.rings(cx, LAST_FRAME, || 0);
            return if over { Poll::Ready(End::Flood(flood)) } else { Poll::Pending };
        }
        if has_vanished(cx, &mut watch, line, idle) && peer.activity.busy() {
            return Poll::Ready(End::Gone);
        }
        match peer.verdict(cx) {
            Verdict::Stay => return Poll::Pending,
            Verdict::HeadTimeout => return Poll::Ready(End::Slow),
            Verdict::Abandon => return Poll::Ready(End::Gone),
            Verdict::Close => {}
        }
        if !std::mem::replace(&mut closing.told, true) {
            connection.as_mut().graceful_shutdown();
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(End::Over(result));
            }
        }
        if peer.activity.busy() {
            closing.timer = None;
            return Poll::Pending;
        }
        let over = closing.rings(cx, CLOSING.min(idle), || line.sent());
        if over { Poll::Ready(End::Gone) } else { Poll::Pending }
    })
    .await
}

/// Whether no byte has gone either way for so long, although the client was asked for one.
fn has_vanished(cx: &mut Context<'_>, watch: &mut Timer, line: &Held, idle: Duration) -> bool {
    while watch.poll(cx).is_ready() {
        let still = clock::now().saturating_duration_since(line.moved());
        watch.set(after(idle.saturating_sub(still).max(WATCH)));
        if still >= idle {
            return true;
        }
    }
    false
}

/// The end of a connection that has been told of it.
#[derive(Default)]
struct Closing {
    told: bool,
    timer: Option<(Timer, u64)>,
}

impl Closing {
    /// Whether this time has passed without progress since it was first asked.
    fn rings(&mut self, cx: &mut Context<'_>, time: Duration, sent: impl Fn() -> u64) -> bool {
        let (timer, before) = self.timer.get_or_insert_with(|| (Timer::at(after(time)), sent()));
        loop {
            if timer.poll(cx).is_pending() {
                return false;
            }
            let sent = sent();
            if sent.wrapping_sub(*before) < PROGRESS {
                return true;
            }
            timer.set(after(time));
            *before = sent;
        }
    }
}

fn after(time: Duration) -> Instant {
    clock::now() + time
}

fn note_flood(peer: &Peer, flood: Flood) {
    peer.metrics.flood(flood);
    let kind = flood.as_str();
    tracing::debug!(client = &*peer.text, listener = &*peer.listener, kind, "flood ended");
}

/// Counts a connection that ended for an offence against the protocol.
fn note_broken(peer: &Peer, error: &hyper::Error) {
    let offence = std::error::Error::source(error).and_then(|source| source.downcast_ref());
    match offence.filter(|error: &&h2::Error| error.is_library()).and_then(h2::Error::reason) {
        Some(h2::Reason::ENHANCE_YOUR_CALM) => note_flood(peer, Flood::Other),
        Some(h2::Reason::NO_ERROR) | None => {}
        Some(_) => peer.metrics.reason(Reason::BadRequest),
    }
    tracing::debug!(client = &*peer.text, %error, "connection ended");
}
