//! The body of an endpoint's answer, whatever protocol it comes by.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;

use super::error::Cause;
use super::http1::Connection;

/// The body of an answer.
#[derive(Debug)]
pub enum Body<B> {
    /// Read from the connection that it owns.
    Http1(Box<Connection<B>>),
    /// A stream of a connection that it shares.
    Http2(Incoming, Hold),
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
        match self.get_mut() {
            Self::Http1(connection) => connection.poll_frame(cx).map_err(Cause::Exchange),
            Self::Http2(incoming, _) => Pin::new(incoming).poll_frame(cx).map_err(Cause::Http),
            Self::Ended => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_ended(),
            Self::Http2(incoming, _) => incoming.is_end_stream(),
            Self::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(connection) => connection.size_hint(),
            Self::Http2(incoming, _) => incoming.size_hint(),
            Self::Ended => SizeHint::with_exact(0),
        }
    }
}
