//! The offer to go on with another protocol (RFC 9110, 7.8), and what of it may pass.

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue};

use super::seen::Fields;
use crate::http1::members;

/// The protocols that a request offers to go on with and that may pass, as a field's value;
/// `allowed` are their names. An `Upgrade` that `Connection` does not name is no offer: it was not
/// meant for us.
///
/// `seen` is what the request came with, so that one without an offer costs no look-up.
#[must_use]
pub fn offer(headers: &HeaderMap, seen: Fields, allowed: &[String]) -> Option<HeaderValue> {
    if !(seen.any(Fields::UPGRADE) && seen.any(Fields::NAMED)) || allowed.is_empty() {
        return None;
    }
    let mut options = headers.get_all(CONNECTION).iter().flat_map(members);
    if !options.any(|option| option.eq_ignore_ascii_case(b"upgrade")) {
        return None;
    }
    let may_pass = |protocol: &&[u8]| {
        allowed.iter().any(|name| name.as_bytes().eq_ignore_ascii_case(protocol))
    };
    let protocols = headers.get_all(UPGRADE).iter().flat_map(members).filter(may_pass);
    let protocols = protocols.collect::<Vec<_>>().join(&b", "[..]);
    if protocols.is_empty() {
        return None;
    }
    HeaderValue::from_bytes(&protocols).ok()
}

/// Writes the offer for the next hop.
pub fn write_offer(headers: &mut HeaderMap, offer: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, offer);
}

#[cfg(test)]
mod tests;
