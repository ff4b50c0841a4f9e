//! One connection, and the exchange that it carries.

use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::UPGRADE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf};

use super::head::{self, Framing, Head};
use super::{Fault, Outgoing};
use crate::http1::{Decoder, Step, members};
use crate::proxy_protocol::Origin;
use crate::upstream::connect::Stream;
use crate::upstream::connections::Place;
use crate::upstream::message::Informed;

/// How much is read at once at first: the heads of most answers and many whole ones.
const READ_BYTES: usize = 8 * 1024;
/// How much is read at once of a body that is known to be long, which is also the most that a slow
/// client makes us hold here.
const LONG_READ_BYTES: usize = 128 * 1024;
/// The most interim answers (1xx) before the final one.
const INTERIM_MAX: u8 = 16;

/// A connection to an endpoint.
#[derive(Debug)]
pub struct Connection<B> {
    wire: Wire,
    buffer: BytesMut,
    /// How much the next read asks for: more when the last one got all that it asked for, in this
    /// exchange or the one before.
    read_bytes: usize,
    reading: Reading,
    /// `None` once the request is written, or once it is clear that it never will be.
    outgoing: Option<Outgoing<B>>,
    reusable: bool,
    /// The protocols that the request offers to go on with, if it offers any.
    offered: Option<Box<HeaderValue>>,
    opened: Instant,
    /// Whom the endpoint was told that it is for, where it wants to be told.
    told: Option<Box<Origin>>,
    /// Free again when the socket is closed: the wire is dropped first.
    place: Place,
}

/// A connection that carries another protocol from here on.
#[derive(Debug)]
pub struct Switched {
    /// The stream.
    pub stream: Stream,
    /// What was read of it behind the answer's head.
    pub early: BytesMut,
    /// Its place under the upstream's limit of connections.
    pub place: Place,
}

/// A piece of an answer's body, its trailers, or why there is none.
type Piece = Result<Frame<Bytes>, Fault>;

/// The socket, or the half of it that is left when the rest of the request is written aside.
#[derive(Debug)]
enum Wire {
    Whole(Stream),
    Half { reads: ReadHalf<Stream>, _rest: Aside },
    Closed,
}

/// The task that writes the rest of a request whose answer has begun; ends with the exchange.
#[derive(Debug)]
struct Aside(tokio::task::JoinHandle<()>);

impl Drop for Aside {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is read next.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Head { scanned: usize, interim: u8, to_head: bool },
    Length(u64),
    Chunks(Decoder),
    UntilClose,
    Ended,
}

impl<B> Connection<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    /// A connection over a stream that was just opened.
    pub fn new(stream: Stream, place: Place, now: Instant) -> Self {
        Self {
            wire: Wire::Whole(stream),
            buffer: BytesMut::new(),
            read_bytes: READ_BYTES,
            reading: Reading::Ended,
            outgoing: None,
            reusable: true,
            offered: None,
            opened: now,
            told: None,
            place,
        }
    }

    /// A connection for a tunnel, over which no request is sent.
    pub fn for_tunnel(stream: Stream, place: Place, now: Instant) -> Self {
        Self { reusable: false, ..Self::new(stream, place, now) }
    }

    /// Takes the connection for another protocol, once its exchange is over.
    pub fn switch(self) -> Option<Switched> {
        let Self { wire, buffer, place, .. } = self;
        match wire {
            Wire::Whole(stream) => Some(Switched { stream, early: buffer, place }),
            Wire::Half { .. } | Wire::Closed => None,
        }
    }

    /// A connection of which the endpoint was told whom it is for.
    #[must_use]
    pub fn told(mut self, origin: Option<Origin>) -> Self {
        self.told = origin.map(Box::new);
        self
    }

    /// Whom the endpoint was told that it is for.
    pub fn is_told(&self) -> Option<&Origin> {
        self.told.as_deref()
    }

    /// When it was opened.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Who vouched for the endpoint when it was opened; see [`Stream::opened_by`].
    pub fn opened_by(&self) -> u64 {
        if let Wire::Whole(stream) = &self.wire { stream.opened_by() } else { 0 }
    }

    /// Whether an idle connection can still be used: the endpoint has neither closed it nor sent
    /// anything that nobody asked for. Costs no system call unless the kernel has reported
    /// something.
    pub fn is_silent(&mut self) -> bool {
        self.poll_read(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Gives up the memory that an idle connection has no use for.
    pub fn rest(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.read_bytes = READ_BYTES;
        }
    }

    /// Whether the exchange is over and the connection can carry another.
    pub fn is_reusable(&self) -> bool {
        self.reusable
            && matches!(self.reading, Reading::Ended)
            && self.outgoing.is_none()
            && self.buffer.is_empty()
            && matches!(self.wire, Wire::Whole(_))
    }

    /// Begins an exchange. Nothing is written before [`Self::poll_head`].
    pub fn begin(&mut self, outgoing: Outgoing<B>) {
        let to_head = outgoing.asks_for_head();
        self.reading = Reading::Head { scanned: 0, interim: 0, to_head };
        self.offered = outgoing.offered().cloned().map(Box::new);
        self.outgoing = Some(outgoing);
    }

    /// Takes the request back when not one byte of it has been written.
    pub fn take_unsent(&mut self) -> Option<Outgoing<B>> {
        self.outgoing.take_if(|outgoing| !outgoing.started())
    }

    /// Writes the request and waits for the answer's head. Interim answers (1xx) but 100 (Continue)
    /// are told to whoever wants to hear of them.
    ///
    /// # Errors
    /// When the exchange broke; [`Self::take_unsent`] tells whether before its first byte.
    pub fn poll_head(
        &mut self,
        informed: Option<&dyn Informed>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<()>, Fault>> {
        let refused = self.write(cx)?;
        loop {
            if let Some(head) = self.take_head(informed)? {
                self.write_rest_aside();
                return Poll::Ready(Ok(self.enter_body(head)));
            }
            match ready!(self.poll_read(cx)) {
                Ok(0) => return Poll::Ready(Err(refused.map_or(Fault::Closed, Fault::Io))),
                Ok(_) => {}
                Err(error) => return Poll::Ready(Err(Fault::Io(error))),
            }
        }
    }

    /// Writes on. An endpoint that takes no more may have answered all the same, so the answer is
    /// read before that counts; it is returned for the case that there is none.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<Option<std::io::Error>, Fault> {
        let (Some(outgoing), Wire::Whole(stream)) = (&mut self.outgoing, &mut self.wire) else {
            return Ok(None);
        };
        match outgoing.poll_write(stream, cx) {
            Poll::Pending => Ok(None),
            Poll::Ready(Ok(())) => {
                self.outgoing = None;
                Ok(None)
            }
            Poll::Ready(Err(Fault::Io(error))) => {
                self.reusable = false;
                // Kept while it is whole: another connection may carry it.
                self.outgoing.take_if(|outgoing| outgoing.started());
                Ok(Some(error))
            }
            Poll::Ready(Err(fault)) => Err(fault),
        }
    }

    fn take_head(&mut self, informed: Option<&dyn Informed>) -> Result<Option<Head>, Fault> {
        let Reading::Head { scanned, interim, to_head } = &mut self.reading else {
            return Err(Fault::Closed);
        };
        if self.buffer.is_empty() {
            return Ok(None);
        }
        while let Some(head) = head::take(&mut self.buffer, *scanned, *to_head)? {
            *scanned = 0;
            let status = head.response.status();
            if !status.is_informational() {
                return Ok(Some(head));
            }
            if status == StatusCode::SWITCHING_PROTOCOLS {
                let offered = self.offered.as_deref().filter(|_| self.outgoing.is_none());
                return match offered {
                    Some(offered) if accepts(head.response.headers(), offered) => Ok(Some(head)),
                    _ => Err(Fault::Answer("it switches to a protocol that nobody asked for")),
                };
            }
            *interim += 1;
            if *interim > INTERIM_MAX {
                return Err(Fault::Answer("it has more than 16 interim heads"));
            }
            if let Some(informed) = informed
                && status != StatusCode::CONTINUE
            {
                informed.interim(head.response);
            }
            if self.buffer.is_empty() {
                return Ok(None);
            }
        }
        *scanned = self.buffer.len();
        Ok(None)
    }

    fn enter_body(&mut self, head: Head) -> Response<()> {
        self.reading = match head.framing {
            Framing::Length(0) => Reading::Ended,
            Framing::Length(length) => {
                let rest = usize::try_from(length).unwrap_or(usize::MAX);
                let rest = rest.saturating_sub(self.buffer.len());
                self.read_bytes = self.read_bytes.max(rest.min(LONG_READ_BYTES));
                Reading::Length(length)
            }
            Framing::Chunked => Reading::Chunks(Decoder::default()),
            Framing::Close => Reading::UntilClose,
        };
        self.reusable &= head.keep_alive
            && head.framing != Framing::Close
            && head.response.status() != StatusCode::SWITCHING_PROTOCOLS;
        head.response
    }

    /// An answer that begins before the request is written must not stop the rest of it: whoever
    /// reads the answer may wait for the client, and the client for us.
    fn write_rest_aside(&mut self) {
        let Some(mut outgoing) = self.outgoing.take() else { return };
        self.reusable = false;
        let Wire::Whole(stream) = std::mem::replace(&mut self.wire, Wire::Closed) else { return };
        let (reads, mut writes) = tokio::io::split(stream);
        let task = tokio::task::spawn_local(async move {
            let written = poll_fn(|cx| outgoing.poll_write(&mut writes, cx)).await;
            if written.is_err() {
                // The endpoint sees the end of what it waits for in vain.
                let _ = writes.shutdown().await;
            }
        });
        self.wire = Wire::Half { reads, _rest: Aside(task) };
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let want = self.read_bytes;
        self.buffer.reserve(want);
        let read = match &mut self.wire {
            Wire::Whole(stream) => ready!(pin!(stream.read_buf(&mut self.buffer)).poll(cx)),
            Wire::Half { reads, .. } => ready!(pin!(reads.read_buf(&mut self.buffer)).poll(cx)),
            Wire::Closed => Ok(0),
        };
        let length = *read.as_ref().unwrap_or(&0);
        if length >= want {
            self.read_bytes = (want * 2).min(LONG_READ_BYTES);
        } else if length < want / 2 {
            self.read_bytes = (want / 2).max(READ_BYTES);
        }
        Poll::Ready(read)
    }

    /// The next piece of the answer's body, or its trailers.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        loop {
            match self.take_frame() {
                Ok(Some(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(None) if self.is_ended() => return Poll::Ready(None),
                Ok(None) => {}
                Err(fault) => return self.broken(fault),
            }
            match (ready!(self.poll_read(cx)), self.reading) {
                (Ok(0), Reading::UntilClose) => self.reading = Reading::Ended,
                (Ok(0), _) => return self.broken(Fault::Closed),
                (Ok(_), _) => {}
                (Err(error), _) => return self.broken(Fault::Io(error)),
            }
        }
    }

    fn take_frame(&mut self) -> Result<Option<Frame<Bytes>>, Fault> {
        let buffer = &mut self.buffer;
        match &mut self.reading {
            Reading::Ended => Ok(None),
            Reading::Head { .. } => Err(Fault::Closed),
            Reading::Chunks(decoder) => match decoder.step(buffer)? {
                Step::More => Ok(None),
                Step::Data(piece) => Ok(Some(Frame::data(piece))),
                Step::End(trailers) => {
                    self.reading = Reading::Ended;
                    Ok(trailers.map(Frame::trailers))
                }
            },
            _ if buffer.is_empty() => Ok(None),
            Reading::UntilClose => Ok(Some(Frame::data(buffer.split().freeze()))),
            Reading::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
                *left -= length as u64;
                if *left == 0 {
                    self.reading = Reading::Ended;
                }
                Ok(Some(Frame::data(buffer.split_to(length).freeze())))
            }
        }
    }

    fn broken(&mut self, fault: Fault) -> Poll<Option<Piece>> {
        self.reusable = false;
        self.reading = Reading::Ended;
        Poll::Ready(Some(Err(fault)))
    }

    /// Whether the answer has been read to its end.
    pub fn is_ended(&self) -> bool {
        matches!(self.reading, Reading::Ended)
    }

    /// How much of the answer's body is still to come.
    pub fn size_hint(&self) -> SizeHint {
        match self.reading {
            Reading::Length(left) => SizeHint::with_exact(left),
            Reading::Ended => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}

/// Whether an answer that switches takes one of the offered protocols, and no other (RFC 9110,
/// 7.8).
fn accepts(answer: &HeaderMap, offered: &HeaderValue) -> bool {
    let mut taken = answer.get_all(UPGRADE).iter().flat_map(members).peekable();
    let among = |protocol: &[u8]| members(offered).any(|one| one.eq_ignore_ascii_case(protocol));
    taken.peek().is_some() && taken.all(among)
}
