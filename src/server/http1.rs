//! The requests of one HTTP/1 connection, one after another, each answered before the next is
//! looked at.
//!
//! One task serves a connection: it reads a head, polls the request's way through the pipeline,
//! writes the answer, and watches over the client meanwhile. Between requests it holds neither a
//! buffer nor anything of a request.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::{Response, response};
use http_body::Body as _;
use tokio::io::AsyncWriteExt as _;

use super::connection::LINGER;
use super::stream::Watched;
use super::tunnel;
use crate::clock;
use crate::config::listener::Limits;
use crate::http1::{
    self, BodyReader, Delimited, Head, HeadLimits, Outgoing, Refused, SharedWire, Stopped, Wire,
    Writer,
};
use crate::proxy::answer::raw;
use crate::proxy::body::Body;
use crate::proxy::peer::{Peer, Verdict};
use crate::proxy::pipeline;
use crate::proxy::tunnel::Tunnel;
use crate::proxy::worker::Worker;
use crate::telemetry::reason::Reason;

/// How a connection ends.
enum End {
    /// Nothing was under way.
    AtRest,
    /// After an answer, while the client may still be sending.
    Answered,
    /// The client has gone, or does not take what we write.
    Gone,
    /// In the middle of an answer that only the end of the connection delimits: it must not look
    /// whole.
    Cut,
    /// On bytes that never became a request.
    Refused(Reason, Option<&'static str>),
    /// It goes on as a tunnel, whose head is written.
    Switched(Box<Tunnel>),
}

/// A connection under service.
struct Service {
    worker: Rc<Worker>,
    peer: Rc<Peer>,
    wire: SharedWire<Watched>,
    limits: HeadLimits,
}

/// Serves a connection until its end.
pub(super) async fn serve(worker: Rc<Worker>, peer: Rc<Peer>, stream: Watched, limits: &Limits) {
    let wire = Wire::shared(stream, Rc::clone(&worker.stock));
    // Weak, since the connection's stream knows the peer.
    let told = Rc::downgrade(&wire);
    peer.tell_by(Box::new(move |status, headers| {
        if let Some(wire) = told.upgrade() {
            wire.borrow_mut().inform(status, headers);
        }
    }));
    let limits = HeadLimits { bytes: limits.header_bytes.as_usize(), fields: limits.headers };
    let service = Service { worker, peer, wire, limits };
    let end = service.requests().await;
    // Taken, so that whoever still holds a body reads no further.
    let taken = service.wire.borrow_mut().take();
    match (taken, end) {
        (Some((stream, early)), End::Switched(tunnel)) => {
            Box::pin(tunnel::join(&service.peer, (stream, early), *tunnel)).await;
        }
        (Some((stream, _)), end) => Box::pin(service.finish(stream, end)).await,
        (None, _) => {}
    }
}

impl Service {
    async fn requests(&self) -> End {
        loop {
            let head = match poll_fn(|cx| self.poll_next(cx)).await {
                Ok(head) => head,
                Err(end) => return end,
            };
            // A connection keeps room for one request, a few KiB: to take it from the heap for each
            // request would cost more than the rest of what is done here.
            if let Some(end) = self.exchange(head).await {
                return end;
            }
        }
    }

    /// Waits for the next request.
    fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Result<Head, End>> {
        let Self { peer, wire, .. } = self;
        let mut wire = wire.borrow_mut();
        loop {
            match wire.next_head(self.limits) {
                Ok(Some(head)) => return Poll::Ready(Ok(head)),
                Ok(None) => {}
                Err(Refused::TooLarge) => {
                    return Poll::Ready(Err(End::Refused(Reason::HeadersTooLarge, None)));
                }
                Err(Refused::Broken(what)) => {
                    return Poll::Ready(Err(End::Refused(Reason::BadRequest, Some(what))));
                }
            }
            if wire.has_bytes() {
                // They may have come while an earlier request was served.
                peer.activity.read(clock::now);
            }
            match peer.verdict(cx) {
                Verdict::Close if wire.has_bytes() => {}
                Verdict::Stay => {}
                Verdict::Close => return Poll::Ready(Err(End::AtRest)),
                Verdict::HeadTimeout => {
                    return Poll::Ready(Err(End::Refused(Reason::RequestTimeout, None)));
                }
                Verdict::Abandon => return Poll::Ready(Err(End::Gone)),
            }
            match ready!(wire.poll_read(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(End::Gone)),
                Ok(_) => {}
            }
        }
    }

    /// Serves one request; `None` when another can follow.
    async fn exchange(&self, head: Head) -> Option<End> {
        let Head { request, asked, .. } = head;
        let request = request.map(|()| BodyReader::of(&self.wire));
        let answered = {
            let mut handling = pin!(pipeline::handle(&self.worker, &self.peer, request));
            poll_fn(|cx| match handling.as_mut().poll(cx) {
                Poll::Ready(Ok(response)) => Poll::Ready(Ok(response)),
                Poll::Pending => self.poll_watch(cx).map(Err),
            })
            .await
        };
        match answered {
            Ok(response) => self.answer(response, asked).await,
            Err(end) => Some(end),
        }
    }

    async fn answer(&self, response: Response<Body>, mut asked: http1::Asked) -> Option<End> {
        let (parts, mut body) = response.into_parts();
        if let Some(tunnel) = body.take_tunnel() {
            return Some(Box::pin(self.switch(&parts, tunnel)).await);
        }
        let stock = &self.worker.stock;
        let mut lead = stock.write_buffer();
        let waits = {
            let mut wire = self.wire.borrow_mut();
            asked.keep_alive &= wire.may_go_on() && !self.peer.closing();
            wire.begin_answer(&mut lead)
        };
        // A client that was told nothing may send its body or not.
        asked.keep_alive &= !waits && !self.peer.last_request();
        let length = body.size_hint().exact();
        let sent = http1::write_head(&mut lead, &parts, asked, length, &stock.date());
        drop(parts);
        let delimited = sent.body.unwrap_or(Delimited::Length(0));
        let body = sent.body.map(|_| body);
        let mut outgoing = Outgoing::new(lead, body, delimited, asked.trailers);
        let written = poll_fn(|cx| match outgoing.poll_write(&mut Writer(&self.wire), cx) {
            Poll::Ready(written) => Poll::Ready(Ok(written)),
            Poll::Pending => self.poll_watch(cx).map(Err),
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(Stopped::Body)) if delimited == Delimited::Close => return Some(End::Cut),
            Ok(Err(Stopped::Io(_) | Stopped::Body)) => return Some(End::Gone),
            Err(_) if delimited == Delimited::Close => return Some(End::Cut),
            Err(end) => return Some(end),
        }
        stock.give_write_buffer(outgoing.into_buffer());
        let goes_on = poll_fn(|cx| Poll::Ready(self.wire.borrow_mut().end_request(cx))).await;
        (!(goes_on && sent.keep_alive)).then_some(End::Answered)
    }

    /// Writes the head of an answer that opens a tunnel. What the client sends behind its request
    /// stays where it is until the tunnel takes it.
    async fn switch(&self, parts: &response::Parts, tunnel: Box<Tunnel>) -> End {
        let mut lead = self.worker.stock.write_buffer();
        self.wire.borrow_mut().begin_answer(&mut lead);
        http1::write_switch(&mut lead, parts);
        let mut outgoing = Outgoing::<Body>::new(lead, None, Delimited::Length(0), false);
        let written = poll_fn(|cx| match outgoing.poll_write(&mut Writer(&self.wire), cx) {
            Poll::Ready(written) => Poll::Ready(written.is_ok()),
            Poll::Pending => self.poll_watch(cx).map(|_| false),
        });
        if !written.await {
            return End::Gone;
        }
        self.worker.stock.give_write_buffer(outgoing.into_buffer());
        End::Switched(tunnel)
    }

    /// Watches over the client while it is served; ready when there is nobody left to serve.
    fn poll_watch(&self, cx: &mut Context<'_>) -> Poll<End> {
        if self.peer.verdict(cx) == Verdict::Abandon {
            return Poll::Ready(End::Gone);
        }
        // Once its answer is whole, and only waits to be written, the writing tells.
        if !self.peer.activity.busy() {
            return Poll::Pending;
        }
        self.wire.borrow_mut().poll_served(cx).map(|()| End::Gone)
    }

    /// Ends the connection so that the client can read what it was told. To close with bytes unread
    /// would reset it, and the reset can overtake or erase the answer (RFC 9112, 9.6).
    async fn finish(&self, mut stream: Watched, end: End) {
        let last_word = match end {
            End::AtRest | End::Gone | End::Switched(_) => return,
            End::Cut => return stream.reset(),
            End::Answered => None,
            End::Refused(reason, detail) => {
                self.peer.metrics.reason(reason);
                tracing::debug!(client = &*self.peer.text, reason = reason.as_str(), detail);
                Some(raw(reason, detail))
            }
        };
        let ending = async {
            if let Some(bytes) = last_word {
                // The client may be gone already; there is nobody else to tell.
                let _ = stream.write_all(&bytes).await;
                let _ = stream.flush().await;
            }
            stream.linger().await;
        };
        // Whether the client has read it and closed by then or not, the connection ends.
        let _ = clock::until(clock::now() + LINGER, ending).await;
    }
}
