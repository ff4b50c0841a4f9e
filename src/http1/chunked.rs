//! The chunked coding of a body (RFC 9112, 7.1), taken apart as its bytes come.
//!
//! Strict: lines end in CRLF, sizes are hexadecimal digits and nothing else. Extensions are passed
//! over and bounded, and so is the trailer section, from which fields that a trailer may not carry
//! are dropped.

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, COOKIE, EXPECT, HOST, MAX_FORWARDS, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION,
    RANGE, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Broken;

/// The most bytes of extensions in one body, which carry nothing that anybody reads.
const EXTENSION_BYTES_MAX: usize = 16 * 1024;
/// The largest trailer section.
const TRAILER_BYTES_MAX: usize = 16 * 1024;
/// The most fields of a trailer section.
const TRAILERS_MAX: usize = 64;
/// The most digits of a size: it fits 64 bits.
const DIGITS_MAX: u8 = 16;

/// Where in the coding we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size { value: u64, digits: u8 },
    Extension { value: u64 },
    SizeEnd { value: u64 },
    Data { left: u64 },
    DataEnd { cr: bool },
    Trailers,
}

/// Takes chunks apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoder {
    at: At,
    extension_bytes: usize,
}

/// What the bytes so far bring.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Nothing yet.
    More,
    /// A piece of the body.
    Data(Bytes),
    /// The end of the body, with its trailers.
    End(Option<HeaderMap>),
}

impl Default for Decoder {
    fn default() -> Self {
        Self { at: At::Size { value: 0, digits: 0 }, extension_bytes: 0 }
    }
}

impl Decoder {
    /// Takes what it can from the front of the buffer.
    ///
    /// # Errors
    /// When the bytes are not of this coding, or go over a limit.
    pub fn step(&mut self, buffer: &mut BytesMut) -> Result<Step, Broken> {
        loop {
            match self.at {
                At::Data { left: 0 } => self.at = At::DataEnd { cr: false },
                At::Data { left } => {
                    if buffer.is_empty() {
                        return Ok(Step::More);
                    }
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                    self.at = At::Data { left: left - length as u64 };
                    return Ok(Step::Data(buffer.split_to(length).freeze()));
                }
                At::Trailers => return take_trailers(buffer),
                _ => {
                    let Some(byte) = buffer.first().copied() else { return Ok(Step::More) };
                    buffer.advance(1);
                    self.at = self.after(byte)?;
                }
            }
        }
    }

    /// Where one byte of the lines around the data leads.
    fn after(&mut self, byte: u8) -> Result<At, Broken> {
        match (self.at, byte) {
            (At::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == DIGITS_MAX {
                    return Err(Broken("a chunk's size does not fit 64 bits"));
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                Ok(At::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
            }
            (At::Size { value, digits: 1.. } | At::Extension { value }, b'\r') => {
                Ok(At::SizeEnd { value })
            }
            (At::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => Ok(At::Extension { value }),
            (At::Extension { value }, _) if byte == b'\t' || !byte.is_ascii_control() => {
                self.extension_bytes += 1;
                if self.extension_bytes > EXTENSION_BYTES_MAX {
                    return Err(Broken("its chunks have more than 16 KiB of extensions"));
                }
                Ok(At::Extension { value })
            }
            (At::SizeEnd { value: 0 }, b'\n') => Ok(At::Trailers),
            (At::SizeEnd { value }, b'\n') => Ok(At::Data { left: value }),
            (At::DataEnd { cr: false }, b'\r') => Ok(At::DataEnd { cr: true }),
            (At::DataEnd { cr: true }, b'\n') => Ok(At::Size { value: 0, digits: 0 }),
            _ => Err(Broken("its chunks are broken")),
        }
    }
}

/// Takes the trailer section, once all of it is there.
fn take_trailers(buffer: &mut BytesMut) -> Result<Step, Broken> {
    if buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        return Ok(Step::End(None));
    }
    let mut fields = [httparse::EMPTY_HEADER; TRAILERS_MAX];
    let (length, fields) = match httparse::parse_headers(buffer, &mut fields) {
        Ok(httparse::Status::Complete(found)) => found,
        Ok(httparse::Status::Partial) if buffer.len() < TRAILER_BYTES_MAX => {
            return Ok(Step::More);
        }
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Broken("its trailers are larger than 16 KiB or 64 fields"));
        }
        Err(_) => return Err(BAD_TRAILERS),
    };
    let section = buffer.get(..length).unwrap_or_default();
    if section.iter().zip(section.iter().skip(1)).any(|(a, b)| *b == b'\n' && *a != b'\r') {
        return Err(BAD_TRAILERS);
    }
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| BAD_TRAILERS)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| BAD_TRAILERS)?;
        if !forbidden_in_trailers(&name) {
            trailers.append(name, value);
        }
    }
    buffer.advance(length);
    Ok(Step::End((!trailers.is_empty()).then_some(trailers)))
}

const BAD_TRAILERS: Broken = Broken("its trailers are not valid");

/// Whether a trailer may not carry a field, since it frames or routes the message, speaks of the
/// connection, authenticates, or says how to read the content (RFC 9110, 6.5.1): whoever merged it
/// into the head would read another message than whoever did not.
#[must_use]
pub fn forbidden_in_trailers(name: &HeaderName) -> bool {
    const FORBIDDEN: [HeaderName; 19] = [
        AUTHORIZATION,
        CACHE_CONTROL,
        CONNECTION,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        COOKIE,
        EXPECT,
        HOST,
        MAX_FORWARDS,
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        RANGE,
        SET_COOKIE,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    FORBIDDEN.contains(name) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

#[cfg(test)]
mod tests;
