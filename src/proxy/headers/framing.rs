//! What two recipients could read differently: refused with 400, before routing.
//!
//! Of HTTP/1, [`crate::http1`] has refused all but what concerns hosts already, and of HTTP/2 the
//! protocol library some of it. The checks here do not rely on that: they hold for whatever parser
//! stands in front.

use http::header::HOST;
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Uri, Version, request};

use super::hop::{self, connection_specific};
use super::seen::{Fields, Seen, is_padded};
use crate::snapshot::host::valid_host;

/// Why the request's framing or destination is ambiguous, as a sentence for the problem's detail;
/// `None` when there is one way to read it (RFC 9112, 3.2 and 6; RFC 9113, 8.2.2 and 8.3.1).
/// `seen` is what the request came with.
#[must_use]
pub fn ambiguous_framing(parts: &request::Parts, seen: &Seen) -> Option<&'static str> {
    let framing = if parts.version < Version::HTTP_2 { HTTP1 } else { HTTP2 };
    if seen.fields.any(framing)
        && let Err(problem) = check_fields(&parts.headers, parts.version)
    {
        return Some(problem);
    }
    if !is_path(&parts.method, parts.uri.path()) {
        return Some("The target's path does not begin with a slash");
    }
    ambiguous_host(&parts.uri, parts.version, seen.host.as_ref())
}

/// The fields by which a request can be ambiguous; one without them needs no closer look.
const HTTP1: Fields = Fields::HOSTS.and(Fields::LENGTH).and(Fields::CODING);
/// Those of an HTTP/2 request.
const HTTP2: Fields = HTTP1.and(hop::ANY).and(Fields::PADDED);

/// Whether a path is one, or the asterisk of OPTIONS (RFC 9113, 8.3.1). Written into the head of an
/// HTTP/1 request, anything else could be read as another form of target. A CONNECT has none.
fn is_path(method: &Method, path: &str) -> bool {
    path.starts_with('/')
        || *method == Method::CONNECT
        || (*method == Method::OPTIONS && path == "*")
}

fn check_fields(headers: &HeaderMap, version: Version) -> Result<(), &'static str> {
    let http2 = version >= Version::HTTP_2;
    let (mut host, mut length, mut chunked) = (false, false, false);
    for (name, value) in headers {
        if http2 && is_padded(value) {
            return Err("A field of an HTTP/2 request begins or ends with white space");
        }
        match name.as_str() {
            "host" if host => return Err("More than one Host is present"),
            "host" => host = true,
            "content-length" if length => {
                return Err("More than one Content-Length is present");
            }
            "content-length" => {
                let digits = value.as_bytes();
                if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
                    return Err("Content-Length is not a number");
                }
                length = true;
            }
            "te" if http2 && !value.as_bytes().eq_ignore_ascii_case(b"trailers") => {
                return Err("TE of an HTTP/2 request is not `trailers`");
            }
            name if http2 && connection_specific(name) => {
                return Err("An HTTP/2 request has a connection-specific field");
            }
            "transfer-encoding" if chunked => {
                return Err("More than one Transfer-Encoding is present");
            }
            // Another coding would stay in the body after its name is gone.
            "transfer-encoding" if !value.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                return Err("Transfer-Encoding is not `chunked`");
            }
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    if chunked && length {
        return Err("Both Transfer-Encoding and Content-Length are present");
    }
    if chunked && version < Version::HTTP_11 {
        return Err("Transfer-Encoding is present in an HTTP/1.0 request");
    }
    Ok(())
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

/// The host that a request is for, with its port if it names one: what [`settle_host`] makes of
/// the target and of `Host`. Empty when the request has none.
#[must_use]
pub fn host_of<'a>(uri: &'a Uri, host: Option<&'a HeaderValue>) -> &'a str {
    match uri.authority() {
        Some(authority) => authority.as_str(),
        None => host.and_then(|host| host.to_str().ok()).unwrap_or_default(),
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

#[cfg(test)]
mod tests;
