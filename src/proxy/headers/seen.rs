//! Which of the fields that something here acts on a message came with.
//!
//! One pass over its names finds them, so that a field is looked up, read or removed only where it
//! can be there: most messages have few of these, and each look-up hashes a name. What was seen may
//! be gone meanwhile, as when it came from a side that is not believed; what was not seen was never
//! there.

use http::{HeaderMap, HeaderValue};

use super::hop::names_nothing;
use crate::snapshot::grpc::Wire;

/// A set of kinds of fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fields(u32);

impl Fields {
    /// `Host`.
    pub const HOST: Self = Self(1);
    /// More than one line of `Host`.
    pub const HOSTS: Self = Self(1 << 1);
    /// `Content-Length`.
    pub const LENGTH: Self = Self(1 << 2);
    /// `Transfer-Encoding`.
    pub const CODING: Self = Self(1 << 3);
    /// `TE`.
    pub const TE: Self = Self(1 << 4);
    /// `Connection`.
    pub const CONNECTION: Self = Self(1 << 5);
    /// A `Connection` that says more than `keep-alive` or `close`, and so may name fields.
    pub const NAMED: Self = Self(1 << 6);
    /// `Keep-Alive`.
    pub const KEEP_ALIVE: Self = Self(1 << 7);
    /// `Upgrade`.
    pub const UPGRADE: Self = Self(1 << 8);
    /// `HTTP2-Settings`.
    pub const SETTINGS: Self = Self(1 << 9);
    /// `Proxy-Connection`.
    pub const PROXY_CONNECTION: Self = Self(1 << 10);
    /// `Proxy-Authenticate`.
    pub const PROXY_AUTHENTICATE: Self = Self(1 << 11);
    /// `Proxy-Authorization`.
    pub const PROXY_AUTHORIZATION: Self = Self(1 << 12);
    /// `Proxy-Authentication-Info`.
    pub const PROXY_INFO: Self = Self(1 << 13);
    /// `Expect`.
    pub const EXPECT: Self = Self(1 << 14);
    /// `Content-Type`.
    pub const TYPE: Self = Self(1 << 15);
    /// A `Content-Type` that is gRPC.
    pub const GRPC: Self = Self(1 << 16);
    /// A `Content-Type` of server-sent events.
    pub const EVENTS: Self = Self(1 << 17);
    /// Any field that says how much time the caller gives.
    pub const DEADLINE: Self = Self(1 << 18);
    /// Any field that says how often the request was sent before.
    pub const ATTEMPTS: Self = Self(1 << 19);
    /// `x-request-id`.
    pub const REQUEST_ID: Self = Self(1 << 20);
    /// `x-priority`.
    pub const PRIORITY: Self = Self(1 << 21);
    /// A `Content-Type` that is gRPC-Web.
    pub const GRPC_WEB: Self = Self(1 << 22);
    /// `Cookie`.
    pub const COOKIE: Self = Self(1 << 23);
    /// More than one line of `Cookie`.
    pub const COOKIES: Self = Self(1 << 24);
    /// Any field whose value begins or ends with white space.
    pub const PADDED: Self = Self(1 << 25);

    /// Both sets together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any of these is among them.
    #[must_use]
    pub const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    /// The kind of a field by its name, which in a map is in lower case.
    fn named(name: &str) -> Self {
        // Most names differ from all of these in their length.
        match name.len() {
            2 if name == "te" => Self::TE,
            4 if name == "host" => Self::HOST,
            6 if name == "expect" => Self::EXPECT,
            6 if name == "cookie" => Self::COOKIE,
            7 if name == "upgrade" => Self::UPGRADE,
            10 if name == "connection" => Self::CONNECTION,
            10 if name == "keep-alive" => Self::KEEP_ALIVE,
            10 if name == "x-priority" => Self::PRIORITY,
            12 if name == "content-type" => Self::TYPE,
            12 if name == "x-request-id" => Self::REQUEST_ID,
            12 if name == "grpc-timeout" => Self::DEADLINE,
            14 if name == "content-length" => Self::LENGTH,
            14 if name == "http2-settings" => Self::SETTINGS,
            15 if name == "x-retry-attempt" => Self::ATTEMPTS,
            16 if name == "proxy-connection" => Self::PROXY_CONNECTION,
            17 if name == "transfer-encoding" => Self::CODING,
            18 if name == "proxy-authenticate" => Self::PROXY_AUTHENTICATE,
            19 if name == "proxy-authorization" => Self::PROXY_AUTHORIZATION,
            20 if name == "x-request-timeout-ms" => Self::DEADLINE,
            25 if name == "proxy-authentication-info" => Self::PROXY_INFO,
            26 if name == "grpc-previous-rpc-attempts" => Self::ATTEMPTS,
            30 if name == "x-envoy-expected-rq-timeout-ms" => Self::DEADLINE,
            _ => Self::default(),
        }
    }

    /// What the value of a field adds, given what was seen before it.
    fn said(self, kind: Self, value: &HeaderValue) -> Self {
        match kind {
            Self::CONNECTION if !names_nothing(value) => Self::NAMED,
            // The first line is the one that is read.
            Self::TYPE if self.any(Self::TYPE) => Self::default(),
            Self::TYPE if value.as_bytes().starts_with(b"text/event-stream") => Self::EVENTS,
            Self::TYPE => match Wire::of(value.as_bytes()) {
                Some(Wire::Own) => Self::GRPC,
                Some(Wire::Web | Wire::WebText) => Self::GRPC_WEB,
                None => Self::default(),
            },
            Self::HOST if self.any(Self::HOST) => Self::HOSTS,
            Self::COOKIE if self.any(Self::COOKIE) => Self::COOKIES,
            _ => Self::default(),
        }
    }
}

/// What one pass over a message's fields found.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The kinds of fields.
    pub fields: Fields,
    /// The first line of `Host`.
    pub host: Option<HeaderValue>,
    /// The bytes of all fields as they stand on an HTTP/1.1 wire.
    pub bytes: usize,
}

impl Seen {
    /// Looks at every field once.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            let name = name.as_str();
            // The colon, the space and the line's end.
            seen.bytes += name.len() + value.len() + 4;
            if is_padded(value) {
                seen.fields = seen.fields.and(Fields::PADDED);
            }
            let kind = Fields::named(name);
            if kind == Fields::default() {
                continue;
            }
            if kind == Fields::HOST && seen.host.is_none() {
                seen.host = Some(value.clone());
            }
            seen.fields = seen.fields.and(kind).and(seen.fields.said(kind, value));
        }
        seen
    }
}

/// Whether a value begins or ends with white space, which no reader of HTTP/1 leaves on it.
pub(super) fn is_padded(value: &HeaderValue) -> bool {
    let (first, last) = (value.as_bytes().first(), value.as_bytes().last());
    first.is_some_and(u8::is_ascii_whitespace) || last.is_some_and(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests;
