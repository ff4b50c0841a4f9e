//! A message on its way out: its head, then its body, in as few writes as it takes.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::{HeaderMap, HeaderName};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::forbidden_in_trailers;

/// Pieces up to this size are copied behind what goes before them: one plain write of a few more
/// bytes costs less than a gathering one.
const COPIED_MAX: usize = 4 * 1024;

/// A message on its way out.
#[derive(Debug)]
pub struct Outgoing<B> {
    /// What goes before the piece: the head, or the line with a chunk's size.
    lead: Vec<u8>,
    /// How much of it is written.
    led: usize,
    piece: Bytes,
    /// What goes after the piece.
    tail: &'static [u8],
    /// Whether a part of the body waits to be written, so that no other is asked for.
    loaded: bool,
    /// `None` when all of it has been taken.
    body: Option<B>,
    delimited: Delimited,
    trailers: bool,
    started: bool,
    /// Whether the stream may keep something of it back, as one that encrypts does.
    unflushed: bool,
}

/// How the body is delimited (RFC 9112, 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delimited {
    /// By its length; what is still to come.
    Length(u64),
    /// In chunks.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// Why a message is not whole on the wire.
#[derive(Debug)]
pub enum Stopped {
    /// The connection takes no more.
    Io(std::io::Error),
    /// The body broke off, or is not of the length that was announced.
    Body,
}

impl<B> Outgoing<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// A message with its head written down. `body` is `None` where the head says so, and
    /// `trailers` says whether the recipient gets those of the body.
    pub fn new(head: Vec<u8>, body: Option<B>, delimited: Delimited, trailers: bool) -> Self {
        Self {
            lead: head,
            led: 0,
            piece: Bytes::new(),
            tail: b"",
            loaded: false,
            body,
            delimited,
            trailers,
            started: false,
            unflushed: false,
        }
    }

    /// Whether a byte of it has been written.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Gives its buffer back, for the next message.
    pub fn into_buffer(self) -> Vec<u8> {
        self.lead
    }

    /// Writes on, until all is written.
    ///
    /// # Errors
    /// When the connection takes no more, or the body cannot be read to its end.
    pub fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Stopped>> {
        loop {
            // The first piece goes out with the head, if it is there already.
            let waits = !self.loaded && self.pull(cx)?.is_pending();
            if !self.unwritten() {
                if self.unflushed {
                    ready!(Pin::new(&mut *stream).poll_flush(cx)).map_err(Stopped::Io)?;
                    self.unflushed = false;
                }
                return if waits { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            let written = ready!(self.poll_write_once(stream, cx)).map_err(Stopped::Io)?;
            if written == 0 {
                return Poll::Ready(Err(Stopped::Io(std::io::ErrorKind::WriteZero.into())));
            }
            (self.started, self.unflushed) = (true, true);
            self.advance(written);
        }
    }

    fn unwritten(&self) -> bool {
        self.led < self.lead.len() || !self.piece.is_empty() || !self.tail.is_empty()
    }

    fn poll_write_once<W: AsyncWrite + Unpin>(
        &self,
        stream: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        let lead = self.lead.get(self.led..).unwrap_or_default();
        if self.piece.is_empty() && self.tail.is_empty() {
            return Pin::new(stream).poll_write(cx, lead);
        }
        let slices = [lead, self.piece.as_ref(), self.tail].map(IoSlice::new);
        Pin::new(stream).poll_write_vectored(cx, &slices)
    }

    fn advance(&mut self, written: usize) {
        let of_lead = written.min(self.lead.len() - self.led);
        self.led += of_lead;
        let of_piece = (written - of_lead).min(self.piece.len());
        self.piece.advance(of_piece);
        self.tail = self.tail.get(written - of_lead - of_piece..).unwrap_or_default();
        self.loaded &= self.unwritten();
    }

    /// Takes the next piece of the body; ready when there is one or there is none left.
    fn pull(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Poll::Ready(Err(Stopped::Body)),
            None => return Poll::Ready(self.end(None)),
        };
        let ended = body.is_end_stream();
        Poll::Ready(match frame.into_data() {
            Ok(piece) if piece.is_empty() && !ended => {
                // However many of these come, others have their turn between.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Ok(piece) => self.carry(piece, ended),
            Err(frame) => self.end(frame.trailers_ref()),
        })
    }

    fn carry(&mut self, piece: Bytes, ended: bool) -> Result<(), Stopped> {
        let length = piece.len() as u64;
        self.reclaim();
        match &mut self.delimited {
            Delimited::Close => self.load(piece, b""),
            Delimited::Length(left) => {
                *left = left.checked_sub(length).ok_or(Stopped::Body)?;
                if *left > 0 && ended {
                    return Err(Stopped::Body);
                }
                let whole = *left == 0;
                self.load(piece, b"");
                if whole {
                    self.body = None;
                }
            }
            // A chunk of no bytes would end the body.
            Delimited::Chunked if length == 0 => return self.end(None),
            Delimited::Chunked => {
                put_number(&mut self.lead, length, 16);
                self.lead.extend_from_slice(b"\r\n");
                self.load(piece, if ended { b"\r\n0\r\n\r\n" } else { b"\r\n" });
            }
        }
        if ended {
            self.body = None;
        }
        Ok(())
    }

    fn load(&mut self, piece: Bytes, tail: &'static [u8]) {
        self.loaded = true;
        if piece.len() <= COPIED_MAX {
            self.lead.extend_from_slice(&piece);
            self.lead.extend_from_slice(tail);
        } else {
            self.piece = piece;
            self.tail = tail;
        }
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Stopped> {
        self.body = None;
        match self.delimited {
            Delimited::Length(0) | Delimited::Close => {}
            // The length was promised; only the connection's end can tell that it is not kept.
            Delimited::Length(_) => return Err(Stopped::Body),
            Delimited::Chunked => {
                self.reclaim();
                self.lead.extend_from_slice(b"0\r\n");
                if let Some(trailers) = trailers.filter(|_| self.trailers) {
                    put_trailers(&mut self.lead, trailers);
                }
                self.lead.extend_from_slice(b"\r\n");
            }
        }
        Ok(())
    }

    /// Forgets what of the lead is written already.
    fn reclaim(&mut self) {
        if self.led == self.lead.len() {
            self.lead.clear();
            self.led = 0;
        }
    }
}

/// Writes trailer fields, but for those that a trailer may not carry.
fn put_trailers(lead: &mut Vec<u8>, trailers: &HeaderMap) {
    for (name, value) in trailers {
        if !forbidden_in_trailers(name) {
            put_field(lead, name, value.as_bytes());
        }
    }
}

/// Writes one field with the end of its line.
pub fn put_field(lead: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    let name = name.as_str();
    lead.reserve(name.len() + value.len() + 4);
    lead.extend_from_slice(name.as_bytes());
    lead.extend_from_slice(b": ");
    lead.extend_from_slice(value);
    lead.extend_from_slice(b"\r\n");
}

/// Writes `content-length` with the end of its line.
pub fn put_length(lead: &mut Vec<u8>, length: u64) {
    lead.extend_from_slice(b"content-length: ");
    put_number(lead, length, 10);
    lead.extend_from_slice(b"\r\n");
}

/// Writes a number in a base of up to 16, without the detour of formatting.
fn put_number(lead: &mut Vec<u8>, mut number: u64, base: u64) {
    // Enough for 64 bits in base 8 and above.
    let (mut digits, mut at) = ([0; 22], 22);
    loop {
        at -= 1;
        if let (Some(place), Some(digit)) =
            (digits.get_mut(at), b"0123456789abcdef".get((number % base) as usize))
        {
            *place = *digit;
        }
        number /= base;
        if number == 0 || at == 0 {
            break;
        }
    }
    lead.extend_from_slice(digits.get(at..).unwrap_or_default());
}
