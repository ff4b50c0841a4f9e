//! Cookies in crumbs (RFC 9113, 8.2.3).
//!
//! Over HTTP/2 a client may send each cookie in a field of its own, so that they compress well. For
//! everybody else `Cookie` is one field, and a second one is ignored or refused.

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// Joins all fields of `Cookie` to one, in their order. To be asked where there is more than one.
pub fn join(headers: &mut HeaderMap) {
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Of valid values, joined by valid bytes, it is valid.
    if let Ok(mut whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        whole.set_sensitive(true);
        headers.insert(COOKIE, whole);
    }
}

#[cfg(test)]
mod tests;
