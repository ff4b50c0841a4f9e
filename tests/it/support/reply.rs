//! What an upstream answers.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// What an upstream does with a request.
pub(crate) enum Reply {
    /// Answers.
    Answer(Response<Pieces>),
    /// Never answers.
    Hang,
    /// Resets the connection.
    Reset,
    /// Closes the connection.
    Close,
}

/// An answer with this status and an empty body.
pub(crate) fn reply(status: u16) -> Reply {
    let mut response = Response::new(Pieces::whole(Bytes::new()));
    *response.status_mut() = http::StatusCode::from_u16(status).expect("a status");
    Reply::Answer(response)
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        reply(status)
    }
}

impl Reply {
    fn answer(&mut self) -> &mut Response<Pieces> {
        match self {
            Self::Answer(response) => response,
            _ => panic!("this reply has no head"),
        }
    }

    /// Adds a header field.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        self.answer().headers_mut().append(name, HeaderValue::from_str(value).expect("a value"));
        self
    }

    /// Gives it a body, with `Content-Length`.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        *self.answer().body_mut() = Pieces::whole(body.into());
        self
    }

    /// Gives it a body that the test sends piece by piece, without `Content-Length`.
    pub(crate) fn streamed(mut self) -> (Self, Feed) {
        let (feed, pieces) = pieces();
        *self.answer().body_mut() = pieces;
        (self, feed)
    }

    /// Gives it a body of one chunk, and trailers.
    pub(crate) fn trailers(mut self, body: &'static str, trailers: &[(&str, &str)]) -> Self {
        let (feed, pieces) = pieces();
        if !body.is_empty() {
            feed.now(body);
        }
        feed.frames.try_send(Ok(Frame::trailers(fields(trailers)))).expect("there is room");
        *self.answer().body_mut() = pieces;
        self
    }
}

/// Header fields of these pairs.
pub(crate) fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
    let pairs = pairs.iter().map(|(name, value)| {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a name");
        (name, HeaderValue::from_str(value).expect("a value"))
    });
    pairs.collect()
}

/// A body that was broken off on purpose.
#[derive(Debug)]
pub(crate) struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off on purpose")
    }
}

impl std::error::Error for Broken {}

/// A body in pieces, of a request or of an answer.
pub(crate) struct Pieces {
    frames: mpsc::Receiver<Result<Frame<Bytes>, Broken>>,
    length: Option<u64>,
}

/// Where the pieces come from. Dropped, the body is whole.
pub(crate) struct Feed {
    frames: mpsc::Sender<Result<Frame<Bytes>, Broken>>,
}

/// Pieces that are taken but not yet written, per body: few, so that back-pressure shows.
const ROOM: usize = 4;

/// A body and its feed.
pub(crate) fn pieces() -> (Feed, Pieces) {
    let (sender, frames) = mpsc::channel(ROOM);
    (Feed { frames: sender }, Pieces { frames, length: None })
}

impl Feed {
    /// Sends a piece, and waits for room; `false` when nobody reads any more.
    pub(crate) async fn send(&self, piece: impl Into<Bytes>) -> bool {
        self.frames.send(Ok(Frame::data(piece.into()))).await.is_ok()
    }

    /// Sends a piece for which there is room.
    pub(crate) fn now(&self, piece: impl Into<Bytes>) {
        let sent = self.frames.try_send(Ok(Frame::data(piece.into())));
        assert!(sent.is_ok(), "no room for the piece");
    }

    /// Sends trailers and ends the body.
    pub(crate) async fn trailers(self, trailers: &[(&str, &str)]) {
        let _ = self.frames.send(Ok(Frame::trailers(fields(trailers)))).await;
    }

    /// Breaks the body off.
    pub(crate) async fn cut(self) {
        let _ = self.frames.send(Err(Broken)).await;
    }

    /// Waits until nobody reads the body any more.
    pub(crate) async fn gone(&self) {
        self.frames.closed().await;
    }
}

impl Pieces {
    /// A body in one piece.
    pub(crate) fn whole(bytes: Bytes) -> Self {
        let (feed, mut pieces) = pieces();
        pieces.length = Some(bytes.len() as u64);
        if !bytes.is_empty() {
            feed.now(bytes);
        }
        pieces
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = self.frames.poll_recv(cx);
        if let (Poll::Ready(Some(Ok(frame))), Some(left)) = (&polled, &mut self.length) {
            *left -= frame.data_ref().map_or(0, |piece| piece.len() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
