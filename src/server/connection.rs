//! One client connection: which protocol, its requests, and its end.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncWriteExt;

use super::http1;
use super::stream::Watched;
use crate::clock;
use crate::config::listener::{Limits, Protocol};
use crate::proxy::answer::raw;
use crate::proxy::peer::{Peer, Verdict};
use crate::proxy::pipeline;
use crate::proxy::worker::Worker;
use crate::telemetry::reason::Reason;
use crate::upstream::LocalExecutor;
use crate::upstream::connect::Stream;

/// The window that we offer on a stream of HTTP/2; four times this on a connection. Bounds what a
/// slow upstream makes us hold.
const HTTP2_WINDOW: u32 = 256 * 1024;
/// How long we try to tell a client that it was too slow.
const LAST_WORD: Duration = Duration::from_secs(1);
/// How long a client that was answered before it had sent all may go on sending: long enough to
/// read its answer over a slow line, short enough to be no way to hold connections.
pub(super) const LINGER: Duration = Duration::from_secs(2);

/// Serves a connection until its end.
pub async fn serve(
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    stream: Stream,
    protocols: &[Protocol],
    limits: &Limits,
) {
    let mut stream = Watched::new(stream, Rc::clone(&peer));
    let http2 = match protocols {
        [Protocol::Http1] => Some(false),
        [Protocol::Http2] => Some(true),
        _ => match or_verdict(&peer, stream.is_http2()).await {
            Ok(Ok(http2)) => http2,
            Ok(Err(_)) => None,
            Err(verdict) => return Box::pin(last_word(&peer, stream, verdict)).await,
        },
    };
    match http2 {
        // On the heap: a connection over HTTP/1 is not to keep room for it.
        Some(true) => Box::pin(serve_http2(worker, peer, stream, limits)).await,
        Some(false) => http1::serve(worker, peer, stream, limits).await,
        None => {}
    }
}

async fn serve_http2(worker: Rc<Worker>, peer: Rc<Peer>, stream: Watched, limits: &Limits) {
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.http2.max_concurrent_streams)
        .max_header_list_size(u32::try_from(limits.header_bytes.get()).unwrap_or(u32::MAX))
        .initial_stream_window_size(HTTP2_WINDOW)
        .initial_connection_window_size(HTTP2_WINDOW * 4);
    let served = Rc::clone(&peer);
    let service =
        service_fn(move |request: Request<Incoming>| pipeline::handle(&worker, &served, request));
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let mut closing = false;
    let end = poll_fn(|cx| {
        if let Poll::Ready(result) = Pin::new(&mut connection).poll(cx) {
            return Poll::Ready(Some(result));
        }
        match peer.verdict(cx) {
            Verdict::Stay => Poll::Pending,
            Verdict::Close if !closing => {
                closing = true;
                Pin::new(&mut connection).graceful_shutdown();
                Pin::new(&mut connection).poll(cx).map(Some)
            }
            Verdict::Close => Poll::Pending,
            Verdict::HeadTimeout | Verdict::Abandon => Poll::Ready(None),
        }
    });
    if let Some(Err(error)) = end.await {
        note_broken(&peer, &error);
    }
}

/// Runs a future until the watch over the connection has something to say.
async fn or_verdict<F: Future>(peer: &Peer, future: F) -> Result<F::Output, Verdict> {
    let mut future = std::pin::pin!(future);
    poll_fn(|cx| {
        if let Poll::Ready(output) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        match peer.verdict(cx) {
            Verdict::Stay => Poll::Pending,
            verdict => Poll::Ready(Err(verdict)),
        }
    })
    .await
}

/// Tells a client that was too slow with its first bytes why it is closed on.
async fn last_word(peer: &Peer, mut stream: Watched, verdict: Verdict) {
    if verdict != Verdict::HeadTimeout {
        return;
    }
    peer.metrics.reason(Reason::RequestTimeout);
    let saying = async {
        // The client may be gone already; there is nobody else to tell.
        let _ = stream.write_all(&raw(Reason::RequestTimeout, None)).await;
        stream.linger().await;
    };
    // Whether it was heard or not, the connection ends.
    let _ = clock::until(clock::now() + LAST_WORD, saying).await;
}

/// Counts a connection that ended on bytes that are not HTTP/2.
fn note_broken(peer: &Peer, error: &hyper::Error) {
    if error.is_parse_too_large() {
        peer.metrics.reason(Reason::HeadersTooLarge);
    } else if error.is_parse() {
        peer.metrics.reason(Reason::BadRequest);
    }
    tracing::debug!(client = &*peer.text, %error, "connection ended");
}
