//! One client connection: which protocol, its requests, and its end.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::stream::Watched;
use super::{http1, http2};
use crate::clock;
use crate::config::listener::{Limits, Protocol};
use crate::proxy::answer::raw;
use crate::proxy::peer::{Peer, Verdict};
use crate::proxy::worker::Worker;
use crate::telemetry::reason::Reason;
use crate::upstream::connect::Stream;

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
        Some(true) => Box::pin(http2::serve(worker, peer, stream, limits)).await,
        Some(false) => http1::serve(worker, peer, stream, limits).await,
        None => {}
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
