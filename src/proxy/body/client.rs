//! The body that a client sends, whatever protocol it comes by.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::Failure;

/// The body that a client sends. Most requests have none, and cost nothing here.
pub struct ClientBody(Option<Box<dyn Body<Data = Bytes, Error = Failure> + Unpin>>);

impl ClientBody {
    /// The body of a request. Why it breaks off makes no difference: the client has gone, or its
    /// bytes are not valid.
    pub fn of<B>(body: B) -> Self
    where
        B: Body<Data = Bytes> + Unpin + 'static,
    {
        if body.is_end_stream() {
            return Self(None);
        }
        Self(Some(Box::new(body.map_err(|_| Failure::ClientGone))))
    }

    /// Its length, where the client has told it.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.size_hint().exact()
    }
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        match &mut self.get_mut().0 {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Some(body) => body.size_hint(),
            None => SizeHint::with_exact(0),
        }
    }
}
