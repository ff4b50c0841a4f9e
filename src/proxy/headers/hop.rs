//! Removal of the fields that are meant for one connection only (RFC 9110, 7.6.1).

use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue};

use super::seen::Fields;

/// The fields that never pass, whether `Connection` names them or not, but `Connection` and `TE`.
///
/// The `Proxy-*` fields speak to the nearest proxy, which is us: passing credentials on would hand
/// them to an upstream that they were not meant for. `Trailer` passes, because trailers do.
pub(super) const ALWAYS: [(Fields, &str); 8] = [
    (Fields::KEEP_ALIVE, "keep-alive"),
    (Fields::CODING, "transfer-encoding"),
    (Fields::UPGRADE, "upgrade"),
    (Fields::SETTINGS, "http2-settings"),
    (Fields::PROXY_CONNECTION, "proxy-connection"),
    (Fields::PROXY_AUTHENTICATE, "proxy-authenticate"),
    (Fields::PROXY_AUTHORIZATION, "proxy-authorization"),
    (Fields::PROXY_INFO, "proxy-authentication-info"),
];

/// The kinds of these fields together.
const UNNAMED: Fields = {
    let (mut all, mut at) = (ALWAYS[0].0, 1);
    while at < ALWAYS.len() {
        all = all.and(ALWAYS[at].0);
        at += 1;
    }
    all
};

/// The kinds of all fields that are meant for one connection.
pub(super) const ANY: Fields = UNNAMED.and(Fields::CONNECTION).and(Fields::TE);

/// Fields that stay although `Connection` names them.
///
/// A sender must not name a field that is meant for every recipient, so a list that does is wrong
/// or hostile: it is how a client makes a proxy drop the address, the credential, the deadline or
/// the key that the next hop decides by. These fields carry such decisions.
const KEPT: [&str; 27] = [
    "accept",
    "authorization",
    "baggage",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expect",
    "forwarded",
    "host",
    "idempotency-key",
    "if-match",
    "if-none-match",
    "location",
    "origin",
    "range",
    "set-cookie",
    "trailer",
    "traceparent",
    "tracestate",
    "via",
    "x-api-key",
    "x-priority",
    "x-real-ip",
];

/// The beginnings of the names of further fields that stay although `Connection` names them.
const KEPT_PREFIXES: [&str; 6] =
    ["x-outrigger-", "x-forwarded-", "x-envoy-", "x-retry-", "x-request-", "grpc-"];

/// Removes what concerns the connection alone: `Connection` and the fields it names, and those that
/// every proxy removes. Of `TE` only `trailers` stays, since trailers pass through us.
///
/// `seen` is what the message came with: one with none of these fields costs no look-up, and one
/// with `connection: keep-alive` one removal and no allocation.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, seen: Fields) {
    if seen.any(Fields::NAMED) {
        strip_named(headers);
    } else if seen.any(Fields::CONNECTION) {
        headers.remove(CONNECTION);
    }
    // Where both were, the length is not that of the body (RFC 9112, 6.3), and the next recipient
    // would cut the body short or wait for what never comes.
    if seen.any(Fields::CODING) {
        headers.remove(CONTENT_LENGTH);
    }
    if seen.any(UNNAMED) {
        for (_, name) in ALWAYS.iter().filter(|(kind, _)| seen.any(*kind)) {
            headers.remove(*name);
        }
    }
    if seen.any(Fields::TE) {
        reduce_te(headers);
    }
}

/// True for fields that may not cross an HTTP/2 hop at all (RFC 9113, 8.2.2); `TE` is checked by
/// its value elsewhere.
#[must_use]
pub(super) fn connection_specific(name: &str) -> bool {
    name == CONNECTION.as_str()
        || name == TRANSFER_ENCODING.as_str()
        || name == UPGRADE.as_str()
        || matches!(name, "keep-alive" | "proxy-connection")
}

fn strip_named(headers: &mut HeaderMap) {
    // Cloned values share their bytes, and of the usual values none is collected.
    let lists: Vec<HeaderValue> =
        headers.get_all(CONNECTION).iter().filter(|value| !names_nothing(value)).cloned().collect();
    headers.remove(CONNECTION);
    for list in &lists {
        for option in list.as_bytes().split(|b| *b == b',') {
            if let Ok(name) = std::str::from_utf8(option.trim_ascii())
                && !stays(name)
            {
                headers.remove(name);
            }
        }
    }
}

/// True for the usual values of `Connection`, which name no field.
pub(super) fn names_nothing(value: &HeaderValue) -> bool {
    match value.as_bytes() {
        b"keep-alive" | b"close" => true,
        value => value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close"),
    }
}

fn stays(name: &str) -> bool {
    // `te` is reduced on its own, so that `Connection: te` does not take `te: trailers` away.
    name.eq_ignore_ascii_case("te")
        || KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept))
        || KEPT_PREFIXES.iter().any(|prefix| {
            name.as_bytes()
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        })
}

fn reduce_te(headers: &mut HeaderMap) {
    let trailers = headers.get_all(TE).iter().any(|value| {
        value.as_bytes().split(|b| *b == b',').any(|coding| {
            let coding = coding.split(|b| *b == b';').next().unwrap_or_default();
            coding.trim_ascii().eq_ignore_ascii_case(b"trailers")
        })
    });
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(TE);
    }
}

#[cfg(test)]
mod tests;
