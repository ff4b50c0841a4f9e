//! The TLS handshake of a new connection, on the worker that will serve it: bounded in number and
//! in time.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::sync::Notify;

use crate::clock;
use crate::config::listener::Protocol;
use crate::proxy::peer::{Peer, Verdict};
use crate::telemetry::metrics::HandshakeIn;
use crate::tls::server::{Accepted, Server};
use crate::upstream::connect::Stream;

/// The most handshakes that one worker has under way, some tens of kilobytes each. A newer one then
/// ends the oldest: whoever is slow on purpose makes way for whoever is not, and a client that
/// finishes within its round trips is hardly ever the oldest.
pub const MAX_PER_WORKER: usize = 512;

/// The handshakes of one worker.
#[derive(Default)]
pub(super) struct Handshakes {
    under_way: RefCell<BTreeMap<u64, Rc<Notify>>>,
    next: Cell<u64>,
}

/// One handshake; out of the count when this is dropped.
struct Entry<'a> {
    handshakes: &'a Handshakes,
    number: u64,
    crowded_out: Rc<Notify>,
}

impl Handshakes {
    fn enter(&self) -> Entry<'_> {
        let number = self.next.get();
        self.next.set(number + 1);
        let crowded_out = Rc::new(Notify::new());
        let mut under_way = self.under_way.borrow_mut();
        if under_way.len() >= MAX_PER_WORKER
            && let Some((_, oldest)) = under_way.pop_first()
        {
            oldest.notify_one();
        }
        under_way.insert(number, Rc::clone(&crowded_out));
        Entry { handshakes: self, number, crowded_out }
    }

    /// Shakes hands, lets the peer know with whom, and returns the stream under TLS with the one
    /// protocol that will be spoken on it; nothing when it has come to nothing, which is counted.
    pub(super) async fn shake(
        &self,
        tls: &Server,
        peer: &Peer,
        stream: Stream,
        protocols: &[Protocol],
    ) -> Option<(Stream, Protocol)> {
        let entry = self.enter();
        let shaking = clock::until(clock::now() + tls.timeout(), tls.accept(stream));
        let shaken = tokio::select! {
            biased;
            shaken = shaking => shaken.unwrap_or(Err(HandshakeIn::Timeout)),
            () = entry.crowded_out.notified() => Err(HandshakeIn::Crowded),
            () = told_to_end(peer) => Err(HandshakeIn::Closing),
        };
        let handshakes = &peer.metrics.handshakes;
        match shaken {
            Ok(Accepted { stream, identity, protocol, resumed }) => {
                handshakes.count(if resumed { HandshakeIn::Resumed } else { HandshakeIn::Full });
                peer.secured(identity, clock::now());
                // Who asks for no protocol speaks HTTP/1.1, unless there is only the other.
                let only_http2 = !protocols.contains(&Protocol::Http1);
                let silent = if only_http2 { Protocol::Http2 } else { Protocol::Http1 };
                Some((Stream::accepted(stream), protocol.unwrap_or(silent)))
            }
            Err(end) => {
                handshakes.count(end);
                None
            }
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.handshakes.under_way.borrow_mut().remove(&self.number);
    }
}

/// Waits until the watch over the connection wants its end.
pub(super) async fn told_to_end(peer: &Peer) {
    let mut ended = pin!(poll_fn(|cx| match peer.verdict(cx) {
        Verdict::Stay => Poll::Pending,
        _ => Poll::Ready(()),
    }));
    ended.as_mut().await;
}

#[cfg(test)]
mod tests;
