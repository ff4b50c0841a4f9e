//! What hyper's parser lets through and two recipients could still read differently: refused with
//! 400, before routing.
//!
//! hyper itself refuses obsolete folding, bad names and values, unequal lengths and a
//! `Transfer-Encoding` that does not end in `chunked`, and takes `Content-Length` away where
//! `Transfer-Encoding` overrides it. The checks here do not rely on that: they hold for whatever
//! parser stands in front.

use std::net::Ipv6Addr;

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Uri, Version, request};

use super::hop::connection_specific;

/// Why the request's framing or destination is ambiguous, as a sentence for the problem's detail;
/// `None` when there is one way to read it (RFC 9112, 3.2 and 6; RFC 9113, 8.2.2 and 8.3.1).
#[must_use]
pub fn ambiguous_framing(parts: &request::Parts) -> Option<&'static str> {
    let http2 = parts.version >= Version::HTTP_2;
    let seen = match Seen::collect(&parts.headers, http2) {
        Ok(seen) => seen,
        Err(problem) => return Some(problem),
    };
    if seen.chunked && seen.length {
        return Some("Both Transfer-Encoding and Content-Length are present");
    }
    if seen.chunked && parts.version < Version::HTTP_11 {
        return Some("Transfer-Encoding is present in an HTTP/1.0 request");
    }
    ambiguous_host(&parts.uri, parts.version, seen.host)
}

/// What one pass over the fields found.
#[derive(Default)]
struct Seen<'a> {
    chunked: bool,
    length: bool,
    host: Option<&'a HeaderValue>,
}

impl<'a> Seen<'a> {
    fn collect(headers: &'a HeaderMap, http2: bool) -> Result<Self, &'static str> {
        let mut seen = Self::default();
        for (name, value) in headers {
            match name.as_str() {
                "host" if seen.host.is_some() => return Err("More than one Host is present"),
                "host" => seen.host = Some(value),
                "content-length" if seen.length => {
                    return Err("More than one Content-Length is present");
                }
                "content-length" => {
                    let digits = value.as_bytes();
                    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                        return Err("Content-Length is not a number");
                    }
                    seen.length = true;
                }
                "te" if http2 && !value.as_bytes().eq_ignore_ascii_case(b"trailers") => {
                    return Err("TE of an HTTP/2 request is not `trailers`");
                }
                name if http2 && connection_specific(name) => {
                    return Err("An HTTP/2 request has a connection-specific field");
                }
                "transfer-encoding" if seen.chunked => {
                    return Err("More than one Transfer-Encoding is present");
                }
                // Another coding would stay in the body after its name is gone.
                "transfer-encoding" if !value.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                    return Err("Transfer-Encoding is not `chunked`");
                }
                "transfer-encoding" => seen.chunked = true,
                _ => {}
            }
        }
        Ok(seen)
    }
}

fn ambiguous_host(uri: &Uri, version: Version, host: Option<&HeaderValue>) -> Option<&'static str> {
    if host.is_some_and(|host| !valid_host(host.as_bytes())) {
        return Some("Host is not a host with an optional port");
    }
    if let Some(authority) = uri.authority() {
        // Covers user information too, which is refused because it serves to disguise a host.
        if !valid_host(authority.as_str().as_bytes()) {
            return Some("The target's authority is not a host with an optional port");
        }
    }
    match (version, uri.authority(), host) {
        (Version::HTTP_11, _, None) => Some("An HTTP/1.1 request has no Host"),
        (Version::HTTP_2 | Version::HTTP_3, None, None) => {
            Some("An HTTP/2 request has neither :authority nor Host")
        }
        (Version::HTTP_2 | Version::HTTP_3, Some(authority), Some(host))
            if !same_host(authority, host) =>
        {
            Some("Host differs from :authority")
        }
        _ => None,
    }
}

fn same_host(authority: &Authority, host: &HeaderValue) -> bool {
    authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes())
}

/// Makes `Host` what the request is for: the target's authority, where the target has one, replaces
/// what the client wrote (RFC 9112, 3.2.2; RFC 9113, 8.3.1). After it, routing, forwarding fields
/// and upstream read the same host.
pub fn settle_host(uri: &Uri, headers: &mut HeaderMap) {
    let Some(authority) = uri.authority() else { return };
    if headers.get(HOST).is_some_and(|host| same_host(authority, host)) {
        return;
    }
    if let Ok(value) = HeaderValue::from_str(authority.as_str()) {
        headers.insert(HOST, value);
    }
}

/// True for `host`, `host:port`, an IPv4 address, or an IPv6 address in brackets (RFC 3986, 3.2.2).
///
/// A host may not be empty, and a comma, which the RFC allows in a name, is refused: it is how two
/// `Host` lines look after somebody joined them.
#[must_use]
pub(crate) fn valid_host(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (host_ok, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else { return false };
        (address.parse::<Ipv6Addr>().is_ok(), after)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let (name, after) = text.split_at(end);
        (!name.is_empty() && valid_name(name.as_bytes()), after)
    };
    host_ok && valid_port(port)
}

fn valid_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some((first, tail)) = rest.split_first() {
        rest = match first {
            b'%' => match tail {
                [high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    tail
                }
                _ => return false,
            },
            b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+'
            | b';' | b'=' => tail,
            other if other.is_ascii_alphanumeric() => tail,
            _ => return false,
        };
    }
    true
}

/// `after` is empty or begins with the colon; a colon without digits is allowed by the grammar.
fn valid_port(after: &str) -> bool {
    match after.strip_prefix(':') {
        None => after.is_empty(),
        Some(digits) => {
            digits.is_empty()
                || (digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok())
        }
    }
}

#[cfg(test)]
mod tests;
