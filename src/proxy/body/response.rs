//! The answer's body: it holds the exchange until its last byte, an error, or the client's going.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context as Task, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Version};
use http_body::{Body as _, Frame, SizeHint};

use super::{AnswerBody, RequestBody, RequestSource};
use crate::clock::{self, Timer};
use crate::gate::{Fixed, Place};
use crate::proxy::answer;
use crate::proxy::cache::Recording;
use crate::proxy::context::Context;
use crate::proxy::grpc::{self, Late};
use crate::proxy::headers::hint;
use crate::proxy::tunnel::Tunnel;
use crate::telemetry::reason::Reason;
use crate::upstream::endpoint::InFlight;
use crate::upstream::pool::Lease;

/// The body of an answer to a client.
pub enum Body {
    /// Made here, in one piece.
    Local(Option<Bytes>, Box<Context>),
    /// All there, in pieces, with the trailers that follow them.
    Whole(Box<Whole>, Box<Context>),
    /// Streamed from the upstream, with what the exchange holds until its end.
    Upstream(AnswerBody, Option<Box<Exchange>>),
    /// None: the connection goes on as a tunnel, once whoever writes the head has taken it.
    Tunnel(Option<Box<Tunnel>>),
}

/// An answer's body that is all there.
pub struct Whole {
    /// What is left of its pieces.
    pub pieces: VecDeque<Bytes>,
    /// The fields that follow it.
    pub trailers: Option<HeaderMap>,
}

impl Whole {
    fn next(&mut self) -> Option<Frame<Bytes>> {
        loop {
            match self.pieces.pop_front() {
                Some(piece) if piece.is_empty() => {}
                Some(piece) => return Some(Frame::data(piece)),
                None => return self.trailers.take().map(Frame::trailers),
            }
        }
    }

    fn is_over(&self) -> bool {
        self.trailers.is_none() && self.pieces.iter().all(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.pieces.iter().map(|piece| piece.len() as u64).sum())
    }
}

/// What an exchange holds until its answer's last byte.
pub struct Exchange {
    /// The beginning of the body, where it was read before the answer was passed on.
    pub before: VecDeque<Bytes>,
    /// The connection that the answer comes on.
    pub lease: Lease<RequestBody>,
    /// The endpoint's count.
    pub in_flight: InFlight,
    /// What is learned when a call's status has come.
    pub late: Option<Box<Late>>,
    /// The place in the route's bulkhead.
    pub bulkhead: Option<Place<Fixed>>,
    /// The request.
    pub ctx: Box<Context>,
    /// The copy of it that is made to be kept.
    pub recording: Option<Box<Recording>>,
    /// What the request's body has read.
    pub source: Option<RequestSource>,
    /// How much of that had been read when the wait that goes on began.
    pub heard: u64,
    /// The end of the request's total time.
    pub deadline: Option<Instant>,
    /// The longest time without a byte.
    pub idle: Duration,
    /// Set only while the upstream lets us wait.
    pub timer: Option<Timer>,
    /// Whether the timer stands for the wait that goes on.
    pub waiting: Option<Reason>,
}

impl Body {
    /// An answer of the upstream.
    pub fn upstream(incoming: AnswerBody, exchange: Box<Exchange>) -> Self {
        let mut body = Self::Upstream(incoming, Some(exchange));
        // An answer without a body is over with its head: its connection can be used at once.
        if body.is_end_stream() {
            body.end(None);
        }
        body
    }

    /// The same body with these pieces before it, which were read already.
    #[must_use]
    pub fn preceded_by(mut self, before: VecDeque<Bytes>) -> Self {
        if let Self::Upstream(_, Some(exchange)) = &mut self {
            exchange.before = before;
        }
        self
    }

    /// Takes the tunnel that the answer opens, if it opens one.
    pub fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        if let Self::Tunnel(tunnel) = self { tunnel.take() } else { None }
    }

    /// Ends an answer that cannot be whole. A call of gRPC over HTTP/2 is told so in its trailers.
    fn cut(&mut self, reason: Reason, reset: Option<u32>) -> Result<Frame<Bytes>, Cut> {
        let code = match self {
            Self::Upstream(_, Some(exchange)) => exchange.tell(reason, reset),
            _ => None,
        };
        self.end(Some(reason));
        match code {
            Some(code) => Ok(Frame::trailers(grpc::cut(code, reason))),
            None => Err(Cut(reason)),
        }
    }

    fn end(&mut self, reason: Option<Reason>) {
        match self {
            Self::Local(_, ctx) | Self::Whole(_, ctx) => ctx.end(None),
            Self::Tunnel(tunnel) => *tunnel = None,
            Self::Upstream(incoming, exchange) => {
                if let Some(exchange) = exchange.take() {
                    exchange.end(reason, std::mem::replace(incoming, AnswerBody::Ended));
                }
            }
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let whole = self.is_end_stream();
        self.end(if whole { None } else { Some(Reason::ClientGone) });
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let body = self.get_mut();
        let (incoming, exchange) = match body {
            Self::Local(bytes, ctx) => {
                let bytes = bytes.take();
                ctx.sent_bytes += bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
                return Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))));
            }
            Self::Whole(whole, ctx) => {
                let frame = whole.next();
                let data = frame.as_ref().and_then(Frame::data_ref);
                ctx.sent_bytes += data.map_or(0, |bytes| bytes.len() as u64);
                return Poll::Ready(frame.map(Ok));
            }
            Self::Upstream(incoming, exchange) => (incoming, exchange),
            Self::Tunnel(_) => return Poll::Ready(None),
        };
        if let Some(exchange) = exchange
            && let Some(piece) = exchange.before.pop_front()
        {
            exchange.ctx.sent_bytes += piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(exchange) = exchange {
                    exchange.waiting = None;
                    let length = frame.data_ref().map_or(0, Bytes::len);
                    exchange.ctx.sent_bytes += length as u64;
                    exchange.record(&frame);
                    if exchange.ctx.grpc {
                        exchange.note(&frame);
                    }
                }
                if incoming.is_end_stream() {
                    body.end(None);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(cause))) => {
                Poll::Ready(Some(body.cut(Reason::UpstreamCut, cause.reset())))
            }
            Poll::Ready(None) => {
                body.end(None);
                Poll::Ready(None)
            }
            Poll::Pending => match exchange.as_mut().map(|exchange| exchange.poll_timeout(cx)) {
                Some(Poll::Ready(reason)) => Poll::Ready(Some(body.cut(reason, None))),
                _ => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Local(bytes, _) => bytes.as_ref().is_none_or(Bytes::is_empty),
            Self::Whole(whole, _) => whole.is_over(),
            Self::Tunnel(_) => true,
            Self::Upstream(incoming, exchange) => {
                incoming.is_end_stream() && exchange.as_ref().is_none_or(|e| e.before.is_empty())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Local(bytes, _) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Self::Whole(whole, _) => whole.size_hint(),
            Self::Tunnel(_) => SizeHint::with_exact(0),
            Self::Upstream(incoming, exchange) => {
                let before: usize =
                    exchange.iter().flat_map(|exchange| &exchange.before).map(Bytes::len).sum();
                longer(&incoming.size_hint(), before as u64)
            }
        }
    }
}

impl Exchange {
    fn end(mut self, reason: Option<Reason>, body: AnswerBody) {
        self.ctx.read_bytes = self.read_bytes();
        self.ctx.end(reason);
        match reason {
            None => {
                if let Some(recording) = self.recording.take() {
                    recording.finish();
                }
                if let Some(late) = self.late.take() {
                    late.end(None);
                }
                self.lease.finish(body);
            }
            Some(Reason::UpstreamCut) => match self.late.take() {
                Some(late) => late.broke_off(self.ctx.grpc_status),
                None => self.lease.broke_off(clock::now()),
            },
            Some(_) => {}
        }
    }

    /// Learns from a part of a call's answer.
    fn note(&mut self, frame: &Frame<Bytes>) {
        if let Some(trailers) = frame.trailers_ref() {
            if let Some(code) = hint::grpc_status(trailers) {
                self.ctx.grpc_status = Some(code);
            }
            if let Some(late) = self.late.take() {
                late.end(Some(trailers));
            }
        } else if let Some(late) = &mut self.late {
            late.message();
        }
    }

    /// The status of a call whose answer is cut off, where its client can be told so in trailers:
    /// those of HTTP/1.1 may be dropped on their way, and then the answer would look whole.
    fn tell(&mut self, reason: Reason, reset: Option<u32>) -> Option<u16> {
        if !self.ctx.grpc || self.ctx.grpc_status.is_some() {
            return None;
        }
        let code = reset.map_or_else(|| answer::grpc_code(reason), grpc::of_reset);
        self.ctx.grpc_status = Some(code);
        (self.ctx.version == Version::HTTP_2).then_some(code)
    }

    /// Copies a part of the answer that is to be kept. Trailers are not: an answer that has them is
    /// not whole without.
    fn record(&mut self, frame: &Frame<Bytes>) {
        let Some(recording) = &mut self.recording else { return };
        if !frame.data_ref().is_some_and(|part| recording.take(part)) {
            self.recording = None;
        }
    }

    /// Waits for the next byte no longer than the idle timeout and the deadline allow. Where the
    /// client was heard meanwhile, the wait begins anew: that is no silence.
    fn poll_timeout(&mut self, cx: &mut Task<'_>) -> Poll<Reason> {
        loop {
            if self.waiting.is_none() {
                self.begin_waiting();
            }
            let (Some(reason), Some(timer)) = (self.waiting, &mut self.timer) else {
                return Poll::Pending;
            };
            if timer.poll(cx).is_pending() {
                return Poll::Pending;
            }
            if reason != Reason::BodyIdle || self.read_bytes() == self.heard {
                return Poll::Ready(reason);
            }
            self.waiting = None;
        }
    }

    fn begin_waiting(&mut self) {
        let idle = clock::now() + self.idle;
        let (at, reason) = match self.deadline {
            Some(deadline) if deadline <= idle => (deadline, Reason::BodyDeadline),
            _ => (idle, Reason::BodyIdle),
        };
        self.waiting = Some(reason);
        self.heard = self.read_bytes();
        match &mut self.timer {
            Some(timer) => timer.set(at),
            None => self.timer = Some(Timer::at(at)),
        }
    }

    fn read_bytes(&self) -> u64 {
        self.source.as_ref().map_or(0, RequestSource::read_bytes)
    }
}

/// The size of a body with so many bytes before it.
fn longer(rest: &SizeHint, before: u64) -> SizeHint {
    let mut hint = *rest;
    hint.set_lower(0);
    if let Some(upper) = rest.upper() {
        hint.set_upper(upper.saturating_add(before));
    }
    hint.set_lower(rest.lower().saturating_add(before));
    hint
}

/// An answer was cut off: the client sees a broken body, never a short one that looks whole.
#[derive(Clone, Copy, Debug)]
pub struct Cut(pub Reason);

impl std::fmt::Display for Cut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0.title())
    }
}

impl std::error::Error for Cut {}
