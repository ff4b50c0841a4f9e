//! A request on its way out (RFC 9112): its head, then its body, in as few writes as it takes.
//!
//! Belongs to no connection until its first byte is written: until then another connection can
//! carry it.

use std::io::{IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::{CONTENT_LENGTH, TE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, Method};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::Fault;
use super::chunked::FORBIDDEN;
use crate::upstream::message::{Message, OwnFields};

/// Room for the head of a usual request, so that its buffer need not grow.
const HEAD_ROOM: usize = 512;

/// A request on its way out.
#[derive(Debug)]
pub struct Outgoing<B> {
    /// What goes before the piece: the head, or the line with a chunk's size.
    lead: Vec<u8>,
    /// How much of it is written.
    led: usize,
    piece: Bytes,
    /// What goes after the piece.
    tail: &'static [u8],
    /// `None` when all of it has been taken.
    body: Option<B>,
    framing: Framing,
    started: bool,
    asks_for_head: bool,
}

/// How the request's body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// By its length; what is still to come.
    Length(u64),
    Chunked,
}

impl<B> Outgoing<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Writes the head down. The body's framing is ours, whatever the fields say: by length where
    /// it is known, in chunks where it is not.
    pub fn new(message: Message<'_, B>) -> Self {
        let Message { method, uri, headers, own, body, .. } = message;
        let framing = match body.size_hint().exact() {
            Some(length) => Framing::Length(length),
            None => Framing::Chunked,
        };
        let body = (!body.is_end_stream()).then_some(body);
        let mut lead = Vec::with_capacity(HEAD_ROOM);
        lead.extend_from_slice(method.as_str().as_bytes());
        lead.push(b' ');
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        lead.extend_from_slice(path.as_bytes());
        lead.extend_from_slice(b" HTTP/1.1\r\n");
        let announced = put_fields(&mut lead, headers, own);
        match framing {
            _ if body.is_none() => {
                // Without it some servers wait for a body, or refuse (RFC 9110, 8.6).
                if announced || takes_body(method) {
                    lead.extend_from_slice(b"content-length: 0\r\n");
                }
            }
            Framing::Length(length) => put(&mut lead, format_args!("content-length: {length}\r\n")),
            Framing::Chunked => lead.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        lead.extend_from_slice(b"\r\n");
        let asks_for_head = *method == Method::HEAD;
        let (piece, tail) = (Bytes::new(), b"".as_slice());
        Self { lead, led: 0, piece, tail, body, framing, started: false, asks_for_head }
    }

    /// Whether a byte of it has been written.
    pub fn started(&self) -> bool {
        self.started
    }

    /// Whether it is a HEAD, whose answer has no body whatever its fields say.
    pub fn asks_for_head(&self) -> bool {
        self.asks_for_head
    }

    /// Writes on, until all is written.
    ///
    /// # Errors
    /// When the connection takes no more, or the body cannot be read to its end.
    pub fn poll_write<W: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut W,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Fault>> {
        loop {
            // The first piece goes out with the head, if it is there already.
            let waits =
                self.piece.is_empty() && self.tail.is_empty() && self.pull(cx)?.is_pending();
            if !self.unwritten() {
                // Under TLS, what was taken may still have to be sent.
                ready!(Pin::new(&mut *stream).poll_flush(cx)).map_err(Fault::Io)?;
                return if waits { Poll::Pending } else { Poll::Ready(Ok(())) };
            }
            let written = ready!(self.poll_write_once(stream, cx)).map_err(Fault::Io)?;
            if written == 0 {
                return Poll::Ready(Err(Fault::Io(std::io::ErrorKind::WriteZero.into())));
            }
            self.started = true;
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
    }

    /// Takes the next piece of the body; ready when there is one or there is none left.
    fn pull(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(())) };
        let frame = match ready!(Pin::new(&mut *body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Poll::Ready(Err(Fault::Request)),
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

    fn carry(&mut self, piece: Bytes, ended: bool) -> Result<(), Fault> {
        let length = piece.len() as u64;
        self.reclaim();
        self.piece = piece;
        match &mut self.framing {
            Framing::Length(left) => {
                *left = left.checked_sub(length).ok_or(Fault::Request)?;
                if *left == 0 {
                    self.body = None;
                } else if ended {
                    return Err(Fault::Request);
                }
            }
            // A chunk of no bytes would end the body.
            Framing::Chunked if length == 0 => return self.end(None),
            Framing::Chunked => {
                put(&mut self.lead, format_args!("{length:x}\r\n"));
                self.tail = b"\r\n";
                if ended {
                    self.tail = b"\r\n0\r\n\r\n";
                    self.body = None;
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Fault> {
        self.body = None;
        match self.framing {
            Framing::Length(0) => {}
            // The length was promised; only the connection's end can tell that it is not kept.
            Framing::Length(_) => return Err(Fault::Request),
            Framing::Chunked => {
                self.reclaim();
                self.lead.extend_from_slice(b"0\r\n");
                if let Some(trailers) = trailers {
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

/// Writes the fields, but for those that delimit the body; whether one of those was there.
fn put_fields(lead: &mut Vec<u8>, headers: &HeaderMap, own: &OwnFields) -> bool {
    let mut announced = false;
    for (name, value) in headers {
        if *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING {
            announced = true;
            continue;
        }
        if *name == TE {
            // What an HTTP/1 sender must add to it (RFC 9110, 10.1.4).
            lead.extend_from_slice(b"connection: te\r\n");
        }
        if !own.has(name) {
            put_field(lead, name, value.as_bytes());
        }
    }
    for (name, value) in own.iter() {
        put_field(lead, name, value.as_bytes());
    }
    announced
}

/// Writes trailer fields, but for those that a trailer may not carry (RFC 9110, 6.5.1).
fn put_trailers(lead: &mut Vec<u8>, trailers: &HeaderMap) {
    for (name, value) in trailers {
        if !FORBIDDEN.contains(name) {
            put_field(lead, name, value.as_bytes());
        }
    }
}

fn put_field(lead: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    lead.extend_from_slice(name.as_str().as_bytes());
    lead.extend_from_slice(b": ");
    lead.extend_from_slice(value);
    lead.extend_from_slice(b"\r\n");
}

fn put(lead: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = lead.write_fmt(text);
}

/// Methods whose meaning includes a body, so that having none is worth saying.
fn takes_body(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT || *method == Method::PATCH
}

#[cfg(test)]
mod tests;
