//! The body of an endpoint's answer, whatever protocol it comes by.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::error::Cause;
use super::http1::{Connection, Switched};

/// The body of an answer.
#[derive(Debug)]
pub enum Body<B> {
    /// Read from the connection that it owns.
    Http1(Box<Connection<B>>),
    /// A stream of a connection that it shares.
    Http2(Incoming, Hold),
    /// One of these, of which the next frame was read already.
    Peeked(Box<Peeked<B>>),
    /// Over, and the connection is given back.
    Ended,
}

/// Counts as a use of a shared connection for as long as it lives.
#[derive(Clone, Debug, Default)]
pub struct Hold(Rc<()>);

impl Hold {
    /// How many others there are beside this one.
    #[must_use]
    pub fn others(&self) -> usize {
        Rc::strong_count(&self.0).saturating_sub(1)
    }
}

/// A body of which one frame was read ahead.
#[derive(Debug)]
pub struct Peeked<B> {
    next: Option<Result<Frame<Bytes>, Cause>>,
    rest: Body<B>,
}

impl<B> Body<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    /// Takes the connection for another protocol; only of an answer that agreed to it.
    pub fn switch(self) -> Option<Switched> {
        match self {
            Self::Http1(connection) => connection.switch(),
            Self::Http2(..) | Self::Peeked(_) | Self::Ended => None,
        }
    }

    /// Reads the next frame ahead, which stays the next one that is read. Nothing more is read
    /// ahead of a body that has been looked into.
    pub fn poll_peek(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self, Self::Peeked(_)) {
            return Poll::Ready(());
        }
        match http_body::Body::poll_frame(Pin::new(&mut *self), cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(None) => Poll::Ready(()),
            Poll::Ready(next) => {
                let rest = std::mem::replace(self, Self::Ended);
                *self = Self::Peeked(Box::new(Peeked { next, rest }));
                Poll::Ready(())
            }
        }
    }

    /// Takes what broke it, if that is what was found instead of its next frame.
    pub fn take_broken(&mut self, of: impl FnOnce(&Cause) -> bool) -> Option<Cause> {
        let Self::Peeked(peeked) = self else { return None };
        match peeked.next.take() {
            Some(Err(cause)) if of(&cause) => Some(cause),
            next => {
                peeked.next = next;
                None
            }
        }
    }

    /// The trailers, if the frame that was read ahead is they.
    #[must_use]
    pub fn peeked_trailers(&self) -> Option<&HeaderMap> {
        match self {
            Self::Peeked(peeked) => peeked.next.as_ref()?.as_ref().ok()?.trailers_ref(),
            Self::Http1(_) | Self::Http2(..) | Self::Ended => None,
        }
    }
}

impl<B> http_body::Body for Body<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    type Data = Bytes;
    type Error = Cause;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cause>>> {
        let body = self.get_mut();
        match body {
            Self::Peeked(peeked) => {
                let next = peeked.next.take();
                let rest = std::mem::replace(&mut peeked.rest, Self::Ended);
                *body = rest;
                Poll::Ready(next)
            }
            Self::Http1(connection) => connection.poll_frame(cx).map_err(Cause::Exchange),
            Self::Http2(incoming, _) => Pin::new(incoming).poll_frame(cx).map_err(Cause::Http),
            Self::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_ended(),
            Self::Http2(incoming, _) => incoming.is_end_stream(),
            Self::Peeked(_) => false,
            Self::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(connection) => connection.size_hint(),
            Self::Http2(incoming, _) => incoming.size_hint(),
            Self::Peeked(peeked) => {
                let next = peeked.next.as_ref().and_then(|next| next.as_ref().ok());
                let length = next.and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
                let rest = peeked.rest.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(rest.lower().saturating_add(length));
                if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(length)) {
                    hint.set_upper(upper);
                }
                hint
            }
            Self::Ended => SizeHint::with_exact(0),
        }
    }
}
