//! A client's byte stream, with what has already been read of it, reporting what moves.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::clock;
use crate::proxy::peer::Peer;
use crate::upstream::connect::Stream;

/// The first bytes of an HTTP/2 connection (RFC 9113, 3.4); no HTTP/1 method begins like this.
const HTTP2_START: [u8; 4] = *b"PRI ";

/// How much is read at once of what nobody wants any more.
const UNWANTED_BYTES: usize = 4096;

/// A client's byte stream.
pub(super) struct Watched {
    stream: Stream,
    peer: Rc<Peer>,
    first: [u8; HTTP2_START.len()],
    first_from: usize,
    first_to: usize,
    /// Whether the client has closed its side, or the connection broke.
    ended: bool,
}

impl Watched {
    pub(super) fn new(stream: Stream, peer: Rc<Peer>) -> Self {
        let first = [0; HTTP2_START.len()];
        Self { stream, peer, first, first_from: 0, first_to: 0, ended: false }
    }

    /// Closes the writing side and reads, for nothing, what the client still sends, until it closes
    /// too. To close with bytes unread would reset the connection, and the reset can overtake or
    /// erase the answer (RFC 9112, 9.6). The caller bounds the time.
    pub(super) async fn linger(&mut self) {
        if self.ended || self.stream.shutdown().await.is_err() {
            return;
        }
        // On the heap, so that every connection's task does not keep room for this rare end.
        let mut unwanted = vec![0; UNWANTED_BYTES];
        while matches!(self.stream.read(&mut unwanted).await, Ok(read) if read > 0) {}
    }

    /// Closes so that the client sees a broken connection, not the end of an answer.
    pub(super) fn reset(self) {
        break_off(&self.stream);
    }

    /// Lets the close that follows break the connection.
    pub(super) fn break_off(&self) {
        break_off(&self.stream);
    }

    /// Reads as much as tells HTTP/2 from HTTP/1; `None` when the client has closed without a byte.
    pub(super) async fn is_http2(&mut self) -> std::io::Result<Option<bool>> {
        while self.first_to < self.first.len() {
            let Some(rest) = self.first.get_mut(self.first_to..) else { break };
            let read = self.stream.read(rest).await?;
            if read == 0 {
                return Ok((self.first_to > 0).then_some(false));
            }
            self.peer.activity.read(clock::now);
            self.first_to += read;
            if !HTTP2_START.starts_with(self.first.get(..self.first_to).unwrap_or_default()) {
                return Ok(Some(false));
            }
        }
        Ok(Some(true))
    }
}

/// Lets the close that follows break the connection, so that the other side does not take it for
/// the end of what is sent. Under TLS the missing `close_notify` says so.
pub(super) fn break_off(stream: &Stream) {
    if let Stream::Tcp(stream) = stream {
        // Where it cannot be set, the connection ends all the same.
        let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let watched = self.get_mut();
        if let Some(first) = watched.first.get(watched.first_from..watched.first_to)
            && !first.is_empty()
        {
            let length = first.len().min(buffer.remaining());
            buffer.put_slice(first.get(..length).unwrap_or_default());
            watched.first_from += length;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let result = Pin::new(&mut watched.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            watched.peer.activity.read(clock::now);
        } else if result.is_ready() && buffer.remaining() > 0 {
            watched.ended = true;
        }
        result
    }
}

impl Watched {
    fn wrote<T>(&self, result: &Poll<std::io::Result<T>>) {
        self.peer.activity.wrote(result.is_ready(), clock::now);
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let watched = self.get_mut();
        let result = Pin::new(&mut watched.stream).poll_write(cx, bytes);
        watched.wrote(&result);
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let watched = self.get_mut();
        let result = Pin::new(&mut watched.stream).poll_write_vectored(cx, slices);
        watched.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
