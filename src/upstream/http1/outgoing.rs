//! A request on its way out (RFC 9112): its head is written down here, its body follows as
//! [`crate::http1::Outgoing`] sends it.
//!
//! Belongs to no connection until its first byte is written: until then another connection can
//! carry it.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Method};
use http_body::Body;
use tokio::io::AsyncWrite;

use super::Fault;
use crate::http1::{self, Delimited, Stopped, put_field, put_length};
use crate::proxy_protocol::Origin;
use crate::upstream::message::{Message, OwnFields};

/// Room for the head of a usual request, so that its buffer need not grow.
const HEAD_ROOM: usize = 512;

/// A request on its way out.
#[derive(Debug)]
pub struct Outgoing<B> {
    message: http1::Outgoing<B>,
    asks_for_head: bool,
    offered: Option<Box<HeaderValue>>,
    origin: Origin,
}

impl<B> Outgoing<B>
where
    B: Body<Data = Bytes> + Unpin,
{
    /// Writes the head down. The body's framing is ours, whatever the fields say: by length where
    /// it is known, in chunks where it is not.
    pub fn new(message: Message<'_, B>) -> Self {
        let Message { method, uri, headers, own, body, origin, .. } = message;
        let delimited = match body.size_hint().exact() {
            Some(length) => Delimited::Length(length),
            None => Delimited::Chunked,
        };
        let body = (!body.is_end_stream()).then_some(body);
        let mut lead = Vec::with_capacity(HEAD_ROOM);
        lead.extend_from_slice(method.as_str().as_bytes());
        lead.push(b' ');
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        lead.extend_from_slice(path.as_bytes());
        lead.extend_from_slice(b" HTTP/1.1\r\n");
        let Put { announced, offered } = put_fields(&mut lead, headers, own);
        match delimited {
            _ if body.is_none() => {
                // Without it some servers wait for a body, or refuse (RFC 9110, 8.6).
                if announced || takes_body(method) {
                    lead.extend_from_slice(b"content-length: 0\r\n");
                }
            }
            Delimited::Length(length) => put_length(&mut lead, length),
            _ => lead.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        lead.extend_from_slice(b"\r\n");
        let asks_for_head = *method == Method::HEAD;
        Self {
            message: http1::Outgoing::new(lead, body, delimited, true),
            asks_for_head,
            offered,
            origin,
        }
    }

    /// The protocols that it offers to go on with: what of `Upgrade` was let through to here.
    pub fn offered(&self) -> Option<&HeaderValue> {
        self.offered.as_deref()
    }

    /// Whom it is sent for.
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Whether a byte of it has been written.
    pub fn started(&self) -> bool {
        self.message.started()
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
        self.message.poll_write(stream, cx).map_err(|stopped| match stopped {
            Stopped::Io(error) => Fault::Io(error),
            Stopped::Body => Fault::Request,
        })
    }
}

/// What was among the fields.
#[derive(Default)]
struct Put {
    /// Whether one of them delimits the body.
    announced: bool,
    /// The protocols that it offers to go on with.
    offered: Option<Box<HeaderValue>>,
}

/// Writes the fields, but for those that delimit the body.
fn put_fields(lead: &mut Vec<u8>, headers: &HeaderMap, own: &OwnFields) -> Put {
    let mut found = Put::default();
    for (name, value) in headers {
        if *name == CONTENT_LENGTH || *name == TRANSFER_ENCODING {
            found.announced = true;
            continue;
        }
        if *name == UPGRADE {
            found.offered = Some(Box::new(value.clone()));
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
    found
}

/// Methods whose meaning includes a body, so that having none is worth saying.
fn takes_body(method: &Method) -> bool {
    *method == Method::POST || *method == Method::PUT || *method == Method::PATCH
}

#[cfg(test)]
mod tests;
