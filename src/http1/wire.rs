//! A client's connection: the requests that are read from it, one after another.
//!
//! The task of the connection and whoever reads a request's body share it: a body is read from the
//! socket itself, without a task or a channel between, so that nothing is read that nobody has room
//! for. Answers are written by the connection's task alone.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::{Broken, Decoder, Framing, Head, HeadLimits, Refused, Step, Stock};
use super::{put_interim, take_head};

/// How much is read at once at first: the heads of most requests and many whole ones. Also the most
/// that is read ahead of requests that come before their turn.
const READ_BYTES: usize = 8 * 1024;
/// The least room for which a read is worth its call.
const READ_MIN_BYTES: usize = 1024;
/// How much is read at once of a body that is known to be long, which is also the most that a slow
/// upstream makes us hold here.
const LONG_READ_BYTES: usize = 128 * 1024;
/// The most of a body that nobody wants that is read to keep its connection.
const DISCARDED_MAX: usize = 64 * 1024;
/// The most bytes of interim answers that wait for a client that does not read; more are dropped,
/// for they are hints.
const INTERIM_BYTES_MAX: usize = 16 * 1024;

/// A client's connection.
#[derive(Debug)]
pub struct Wire<S> {
    /// `None` once it was taken.
    stream: Option<S>,
    stock: Rc<Stock>,
    /// What has been read and not taken yet. Without memory of its own between requests.
    buffer: BytesMut,
    /// How much the next read of a body asks for.
    read_bytes: usize,
    reading: Reading,
    /// Which request it is, so that what is left of the body of an earlier one reads no further.
    turn: u32,
    /// Whether somebody holds the body of this request.
    held: bool,
    /// Whether the client waits for 100 (Continue).
    expects: bool,
    /// Whether the final answer has begun, after which no interim answer can come.
    answering: bool,
    /// Interim answers that are not written yet.
    interim: Vec<u8>,
    /// The connection's task, while it waits for what others do with the connection.
    task: Option<Waker>,
}

/// A connection as its task and the reader of a body share it.
pub type SharedWire<S> = Rc<RefCell<Wire<S>>>;

/// What is read next.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Head { scanned: usize },
    Length(u64),
    Chunks(Decoder),
    Ended,
    Broken,
}

impl<S> Wire<S> {
    /// A connection at its beginning.
    pub fn shared(stream: S, stock: Rc<Stock>) -> SharedWire<S> {
        Rc::new(RefCell::new(Self {
            stream: Some(stream),
            stock,
            buffer: BytesMut::new(),
            read_bytes: READ_BYTES,
            reading: Reading::Head { scanned: 0 },
            turn: 0,
            held: false,
            expects: false,
            answering: false,
            interim: Vec::new(),
            task: None,
        }))
    }

    /// Takes the stream, and what was read of it and is not used: who goes on with another
    /// protocol, or ends the connection, needs both.
    pub fn take(&mut self) -> Option<(S, BytesMut)> {
        let stream = self.stream.take()?;
        Some((stream, std::mem::take(&mut self.buffer)))
    }

    /// Whether bytes were read that belong to no request yet.
    pub fn has_bytes(&self) -> bool {
        !self.buffer.is_empty()
    }

    fn awaits_head(&self) -> bool {
        matches!(self.reading, Reading::Head { .. })
    }

    /// Whether the request's body has been read to its end.
    pub fn body_ended(&self) -> bool {
        matches!(self.reading, Reading::Ended)
    }

    /// Takes the next request, if its head is all there.
    ///
    /// # Errors
    /// When it is not one clear HTTP/1 head, or too large.
    pub fn next_head(&mut self, limits: HeadLimits) -> Result<Option<Head>, Refused> {
        if self.buffer.is_empty() {
            return Ok(None);
        }
        let Reading::Head { scanned } = &mut self.reading else { return Ok(None) };
        let Some(head) = take_head(&mut self.buffer, scanned, limits)? else { return Ok(None) };
        self.reading = match head.framing {
            Framing::Length(0) => Reading::Ended,
            Framing::Length(length) => {
                let rest = usize::try_from(length).unwrap_or(usize::MAX);
                let rest = rest.saturating_sub(self.buffer.len());
                self.read_bytes = rest.clamp(READ_BYTES, LONG_READ_BYTES);
                Reading::Length(length)
            }
            Framing::Chunked => {
                self.read_bytes = READ_BYTES;
                Reading::Chunks(Decoder::default())
            }
        };
        // Who sends at once does not wait.
        self.expects = head.expects && self.buffer.is_empty();
        Ok(Some(head))
    }

    /// The interim answers that are not written yet, to go before the final one; from here on there
    /// are no more. Also whether the client may still wait for 100 (Continue): then nobody can tell
    /// where its next request begins.
    pub fn begin_answer(&mut self, lead: &mut Vec<u8>) -> bool {
        self.answering = true;
        lead.append(&mut self.interim);
        std::mem::take(&mut self.expects)
    }

    /// Passes an interim answer on, before the final one.
    pub fn inform(&mut self, status: StatusCode, headers: &HeaderMap) {
        if !self.answering && self.interim.len() < INTERIM_BYTES_MAX {
            put_interim(&mut self.interim, status, headers);
            self.wake();
        }
    }

    /// Whether what is left of the body can be passed over, given what is already here. Asked only
    /// when nobody reads it any more.
    fn pass_over_buffered(&mut self) -> bool {
        loop {
            match self.take_piece() {
                Ok(Some(_)) => {}
                Ok(None) => return self.body_ended(),
                Err(_) => return false,
            }
        }
    }

    /// Whether the body is or can be over at once: it was read, or somebody still reads it, or what
    /// nobody wants of it is already here.
    pub fn may_go_on(&mut self) -> bool {
        self.body_ended() || self.held || self.pass_over_buffered()
    }

    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// The next piece of the body, if a whole one is here; nothing at its end, too.
    fn take_piece(&mut self) -> Result<Option<Frame<Bytes>>, Broken> {
        let buffer = &mut self.buffer;
        let frame = match &mut self.reading {
            Reading::Chunks(decoder) => match decoder.step(buffer)? {
                Step::More => None,
                Step::Data(piece) => Some(Frame::data(piece)),
                Step::End(trailers) => {
                    self.reading = Reading::Ended;
                    trailers.map(Frame::trailers)
                }
            },
            Reading::Length(left) if !buffer.is_empty() => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= length as u64;
                if *left == 0 {
                    self.reading = Reading::Ended;
                }
                Some(Frame::data(buffer.split_to(length).freeze()))
            }
            Reading::Length(_) | Reading::Ended => None,
            Reading::Head { .. } | Reading::Broken => return Err(GONE),
        };
        Ok(frame)
    }

    fn size_hint(&self) -> SizeHint {
        match self.reading {
            Reading::Length(left) => SizeHint::with_exact(left),
            Reading::Ended => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}

const GONE: Broken = Broken("the request is over");
const CUT: Broken = Broken("the client closed in the middle of the body");

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Reads more; 0 bytes at the end of the connection. Waiting for the first byte of a request
    /// takes no memory.
    pub fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(stream) = &mut self.stream else { return Poll::Ready(Ok(0)) };
        if self.buffer.capacity() == 0 {
            self.buffer = self.stock.read_buffer();
        }
        let room = self.buffer.capacity() - self.buffer.len();
        let (wanted, enough) = match self.reading {
            Reading::Length(_) | Reading::Chunks(_) => (self.read_bytes, READ_BYTES),
            // Nothing holds on to what was read before, so this only moves back to the front.
            Reading::Head { .. } if self.buffer.is_empty() => (READ_BYTES, READ_BYTES),
            _ => (READ_BYTES, READ_MIN_BYTES),
        };
        if room < enough {
            self.buffer.reserve(wanted);
        }
        let read = pin!(stream.read_buf(&mut self.buffer)).poll(cx);
        match &read {
            Poll::Ready(Ok(length)) if *length >= wanted => {
                self.read_bytes = (wanted * 2).min(LONG_READ_BYTES);
            }
            Poll::Ready(_) => {}
            Poll::Pending if self.buffer.is_empty() && self.awaits_head() => {
                self.stock.give_read_buffer(std::mem::take(&mut self.buffer));
            }
            Poll::Pending => {}
        }
        read
    }

    /// Looks after the connection while its request is being served: writes interim answers, and
    /// finds out whether the client has gone. Ready when it has.
    ///
    /// A client that closes its sending side alone cannot be told from one that closes for good
    /// until something is written to it, so it counts as gone. While a body is being read, its
    /// reader finds out.
    pub fn poll_served(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.interim.is_empty() && self.poll_interim(cx).is_err() {
            return Poll::Ready(());
        }
        if !self.task.as_ref().is_some_and(|task| task.will_wake(cx.waker())) {
            self.task = Some(cx.waker().clone());
        }
        if !self.body_ended() {
            return Poll::Pending;
        }
        // Requests that come before their turn are read ahead up to a bound.
        while self.buffer.len() < READ_BYTES {
            match ready!(self.poll_read(cx)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
        Poll::Pending
    }

    fn poll_interim(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while !self.interim.is_empty() {
            match Pin::new(&mut *stream).poll_write(cx, &self.interim) {
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(length)) => drop(self.interim.drain(..length)),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => return Ok(()),
            }
        }
        self.interim = Vec::new();
        // What a stream keeps back for itself it sends on with the next call.
        match Pin::new(stream).poll_flush(cx) {
            Poll::Ready(Err(error)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Ends a request whose answer is written, and says whether another can follow. What nobody has
    /// read of its body is passed over if it is short and here.
    pub fn end_request(&mut self, cx: &mut Context<'_>) -> bool {
        self.turn = self.turn.wrapping_add(1);
        (self.held, self.expects, self.answering) = (false, false, false);
        let mut discarded = 0;
        while !self.pass_over_buffered() {
            if matches!(self.reading, Reading::Broken) || discarded >= DISCARDED_MAX {
                return false;
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(length)) if length > 0 => discarded += length,
                _ => return false,
            }
        }
        self.task = None;
        self.reading = Reading::Head { scanned: 0 };
        if self.buffer.is_empty() && self.buffer.capacity() > 0 {
            self.stock.give_read_buffer(std::mem::take(&mut self.buffer));
        }
        true
    }

    fn poll_body(&mut self, turn: u32, cx: &mut Context<'_>) -> Poll<Piece> {
        if turn != self.turn {
            return Poll::Ready(Some(Err(GONE)));
        }
        loop {
            match self.take_piece() {
                Ok(frame) if frame.is_some() || self.body_ended() => {
                    if self.body_ended() {
                        self.wake();
                    }
                    return Poll::Ready(frame.map(Ok));
                }
                Ok(_) => {}
                Err(broken) => return self.broken(broken),
            }
            if std::mem::take(&mut self.expects) && self.buffer.is_empty() && !self.answering {
                self.interim.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
                self.wake();
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) | Err(_) => return self.broken(CUT),
                Ok(_) => {}
            }
        }
    }

    fn broken(&mut self, broken: Broken) -> Poll<Piece> {
        self.reading = Reading::Broken;
        self.wake();
        Poll::Ready(Some(Err(broken)))
    }
}

/// A piece of a request's body, its trailers, or why there is none.
type Piece = Option<Result<Frame<Bytes>, Broken>>;

/// The body of a request, read from the connection that it came on.
#[derive(Debug)]
pub struct BodyReader<S> {
    wire: SharedWire<S>,
    turn: u32,
}

impl<S> BodyReader<S> {
    /// The body of the request whose head was just taken.
    pub fn of(wire: &SharedWire<S>) -> Self {
        let turn = {
            let mut wire = wire.borrow_mut();
            wire.held = true;
            wire.turn
        };
        Self { wire: Rc::clone(wire), turn }
    }
}

impl<S> Drop for BodyReader<S> {
    fn drop(&mut self) {
        let mut wire = self.wire.borrow_mut();
        if wire.turn == self.turn {
            wire.held = false;
            // What was not read of it may have kept the task from looking for the client's end.
            wire.wake();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Body for BodyReader<S> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        self.wire.borrow_mut().poll_body(self.turn, cx)
    }

    fn is_end_stream(&self) -> bool {
        let wire = self.wire.borrow();
        wire.turn == self.turn && wire.body_ended()
    }

    fn size_hint(&self) -> SizeHint {
        let wire = self.wire.borrow();
        if wire.turn == self.turn { wire.size_hint() } else { SizeHint::default() }
    }
}

/// Writes answers, borrowing the connection for one write at a time: the body of an answer may come
/// to need the request's.
#[derive(Debug)]
pub struct Writer<'a, S>(pub &'a SharedWire<S>);

impl<S: AsyncWrite + Unpin> Writer<'_, S> {
    fn with<T>(
        &self,
        write: impl FnOnce(Pin<&mut S>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut self.0.borrow_mut().stream {
            Some(stream) => write(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Writer<'_, S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|stream| stream.poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|stream| stream.poll_write_vectored(cx, slices))
    }
}

#[cfg(test)]
mod tests;
