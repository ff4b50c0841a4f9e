//! The head of an answer to a client, and how its body is delimited (RFC 9112, 6; RFC 9110, 8.6).

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, response};

use super::{Delimited, put_field, put_length};

/// What a request asks of its answer.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the request")]
pub struct Asked {
    /// It came with HTTP/1.0, which knows no chunks and no interim answers.
    pub http10: bool,
    /// It is a HEAD, so that the answer has no body whatever its fields say.
    pub head: bool,
    /// The client keeps the connection open after it.
    pub keep_alive: bool,
    /// The client takes trailers.
    pub trailers: bool,
}

/// How an answer goes on after its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// How the body is delimited; `None` when there is none.
    pub body: Option<Delimited>,
    /// Whether the connection can carry another request.
    pub keep_alive: bool,
}

/// Writes the head of a final answer. `length` is that of the body, where it is known: the body's
/// framing is ours, whatever the fields say. `date` is written where the answer has none.
pub fn write_head(
    lead: &mut Vec<u8>,
    parts: &response::Parts,
    asked: Asked,
    length: Option<u64>,
    date: &[u8],
) -> Sent {
    put_status(lead, parts.status);
    let without = asked.head || bodiless(parts.status);
    // There a length is that of the body that a GET would get (RFC 9110, 8.6).
    let keeps_length = asked.head && !bodiless(parts.status);
    let fields = put_fields(lead, &parts.headers, keeps_length);
    if !fields.date {
        lead.extend_from_slice(b"date: ");
        lead.extend_from_slice(date);
        lead.extend_from_slice(b"\r\n");
    }
    let body = match length {
        _ if without => None,
        Some(0) => {
            lead.extend_from_slice(b"content-length: 0\r\n");
            None
        }
        Some(length) => {
            put_length(lead, length);
            Some(Delimited::Length(length))
        }
        None if asked.http10 => Some(Delimited::Close),
        None => {
            lead.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Some(Delimited::Chunked)
        }
    };
    let keep_alive = asked.keep_alive && !fields.close && body != Some(Delimited::Close);
    match keep_alive {
        false => lead.extend_from_slice(b"connection: close\r\n"),
        // Where it is not the rule, it is said.
        true if asked.http10 => lead.extend_from_slice(b"connection: keep-alive\r\n"),
        true => {}
    }
    lead.extend_from_slice(b"\r\n");
    Sent { body, keep_alive }
}

/// Answers that have no body whatever their fields say (RFC 9112, 6.3).
fn bodiless(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Writes an interim answer (1xx).
pub fn put_interim(lead: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    put_status(lead, status);
    put_fields(lead, headers, false);
    lead.extend_from_slice(b"\r\n");
}

/// Writes the head of an answer after which the connection is no longer one of HTTP/1: 101
/// (Switching Protocols), or a 2xx to CONNECT, which has neither length nor coding (RFC 9110,
/// 9.3.6).
pub fn write_switch(lead: &mut Vec<u8>, parts: &response::Parts) {
    put_status(lead, parts.status);
    put_fields(lead, &parts.headers, false);
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        lead.extend_from_slice(b"connection: upgrade\r\n");
    }
    lead.extend_from_slice(b"\r\n");
}

fn put_status(lead: &mut Vec<u8>, status: StatusCode) {
    if status == StatusCode::OK {
        lead.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    lead.extend_from_slice(b"HTTP/1.1 ");
    lead.extend_from_slice(status.as_str().as_bytes());
    lead.push(b' ');
    lead.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    lead.extend_from_slice(b"\r\n");
}

/// What was among the fields.
#[derive(Default)]
struct Fields {
    date: bool,
    close: bool,
}

/// Writes the fields, but for those that speak of the connection and of the body's framing.
fn put_fields(lead: &mut Vec<u8>, headers: &HeaderMap, keeps_length: bool) -> Fields {
    let (mut found, mut measured) = (Fields::default(), false);
    for (name, value) in headers {
        if *name == CONTENT_LENGTH {
            if !keeps_length || std::mem::replace(&mut measured, true) {
                continue;
            }
        } else if *name == TRANSFER_ENCODING {
            continue;
        } else if *name == CONNECTION {
            found.close |= value.as_bytes().eq_ignore_ascii_case(b"close");
            continue;
        } else if *name == DATE {
            found.date = true;
        }
        put_field(lead, name, value.as_bytes());
    }
    found
}

#[cfg(test)]
mod tests;
