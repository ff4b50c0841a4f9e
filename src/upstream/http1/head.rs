//! The head of an answer (RFC 9112): its fields, and how its body is delimited.
//!
//! Stricter than the RFC asks where a lenient reading could make two recipients see two different
//! messages: contradicting lengths and codings other than `chunked` break the exchange, and chunks
//! beside a length end the connection.

use std::mem::MaybeUninit;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};

use super::Fault;

/// The largest head of an answer, near the bound on that of a request.
pub(super) const HEAD_BYTES_MAX: usize = 64 * 1024;
/// The most fields of an answer's head, the same as a listener's default for a request.
const FIELDS_MAX: usize = 100;
/// Heads of up to so many fields are read without memory of their own.
const FEW_FIELDS: usize = 24;

/// The head of an answer.
#[derive(Debug)]
pub(super) struct Head {
    /// Its status, version and fields.
    pub(super) response: Response<()>,
    /// What follows it.
    pub(super) framing: Framing,
    /// Whether the endpoint keeps the connection open after it.
    pub(super) keep_alive: bool,
}

/// How the body of an answer is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By its length.
    Length(u64),
    /// In chunks.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// Where a field stands in the buffer.
#[derive(Clone, Copy, Default)]
struct Place {
    name: (u32, u32),
    value: (u32, u32),
}

/// Takes a head out of the buffer; `None` while it is not all there. `scanned` bytes were seen
/// before without finding its end. `to_head` says that the request was a HEAD.
///
/// # Errors
/// When it is not one clear HTTP/1 head, or too large.
pub(super) fn take(
    buffer: &mut BytesMut,
    scanned: usize,
    to_head: bool,
) -> Result<Option<Head>, Fault> {
    // What comes in small pieces is parsed once, not once for each piece.
    if scanned > 0 && !has_end(buffer.get(scanned.saturating_sub(3)..).unwrap_or_default()) {
        return if buffer.len() >= HEAD_BYTES_MAX { Err(TOO_LARGE) } else { Ok(None) };
    }
    let (mut few, mut many) = ([Place::default(); FEW_FIELDS], Vec::new());
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let length = match config.parse_response_with_uninit_headers(&mut parsed, buffer, &mut fields) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_BYTES_MAX => length,
        Ok(httparse::Status::Partial) if buffer.len() < HEAD_BYTES_MAX => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(TOO_LARGE),
        Err(_) => return Err(Fault::Answer("its head is not HTTP/1")),
    };
    let status = parsed.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Fault::Answer("its status is not one of HTTP"))?;
    let version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    let start = buffer.as_ptr() as usize;
    // A head is far smaller than what 32 bits count.
    let within = |text: &[u8]| {
        let from = (text.as_ptr() as usize - start) as u32;
        (from, from + text.len() as u32)
    };
    let count = parsed.headers.len();
    let places = match few.get_mut(..count) {
        Some(few) => few,
        None => {
            many.resize(count, Place::default());
            many.as_mut_slice()
        }
    };
    for (place, field) in places.iter_mut().zip(parsed.headers.iter()) {
        *place = Place { name: within(field.name.as_bytes()), value: within(field.value) };
    }
    let bytes = buffer.split_to(length).freeze();
    read(&bytes, places, status, version, to_head).map(Some)
}

const TOO_LARGE: Fault = Fault::Answer("its head is larger than 64 KiB or 100 fields");

/// Whether the bytes hold an empty line.
fn has_end(bytes: &[u8]) -> bool {
    let mut line_is_empty = false;
    for byte in bytes {
        match byte {
            b'\n' if line_is_empty => return true,
            b'\n' => line_is_empty = true,
            b'\r' => {}
            _ => line_is_empty = false,
        }
    }
    false
}

/// What the fields say of the body and of the connection.
#[derive(Default)]
struct Said {
    length: Option<u64>,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

fn read(
    bytes: &Bytes,
    places: &[Place],
    status: StatusCode,
    version: Version,
    to_head: bool,
) -> Result<Head, Fault> {
    let mut headers = HeaderMap::with_capacity(places.len());
    let mut said = Said::default();
    for place in places {
        let name = bytes.get(place.name.0 as usize..place.name.1 as usize).unwrap_or_default();
        let name = HeaderName::from_bytes(name).map_err(|_| BAD_FIELD)?;
        let value = bytes.slice(place.value.0 as usize..place.value.1 as usize);
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| BAD_FIELD)?;
        if said.note(&name, &value)? {
            headers.append(name, value);
        }
    }
    let framing = said.framing(status, to_head);
    if said.chunked && said.length.is_some() {
        // Chunks win, and where the message ends may be seen differently elsewhere: nothing that
        // follows on this connection is believed (RFC 9112, 6.3).
        headers.remove(CONTENT_LENGTH);
        said.close = true;
    }
    let keep_alive = match version {
        Version::HTTP_10 => said.keep_alive && !said.close,
        _ => !said.close,
    };
    let mut response = Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    *response.headers_mut() = headers;
    Ok(Head { response, framing, keep_alive })
}

const BAD_FIELD: Fault = Fault::Answer("a field of its head is not valid");

impl Said {
    /// Notes what a field says; false when it says again what has been said.
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) -> Result<bool, Fault> {
        if *name == CONTENT_LENGTH {
            let length = digits(value.as_bytes());
            let length = length.ok_or(Fault::Answer("its Content-Length is not a number"))?;
            return match self.length.replace(length) {
                None => Ok(true),
                Some(earlier) if earlier == length => Ok(false),
                Some(_) => Err(Fault::Answer("it has two lengths")),
            };
        }
        if *name == TRANSFER_ENCODING {
            // Another coding would stay in the body after its name is gone.
            if self.chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::Answer("its Transfer-Encoding is not `chunked`"));
            }
            self.chunked = true;
        } else if *name == CONNECTION {
            for option in value.as_bytes().split(|byte| *byte == b',') {
                let option = option.trim_ascii();
                self.close |= option.eq_ignore_ascii_case(b"close");
                self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(true)
    }

    /// How the body is delimited (RFC 9112, 6.3).
    fn framing(&self, status: StatusCode, to_head: bool) -> Framing {
        if to_head
            || status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED
        {
            return Framing::Length(0);
        }
        match self.length {
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        }
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests;
