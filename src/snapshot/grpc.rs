//! What a call of gRPC looks like: the type of its content, and its method.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};

/// How calls of gRPC are put on the wire of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// gRPC itself, with its status in the head or in trailers.
    Own,
    /// gRPC-Web, for clients that cannot read trailers: the status is the last frame of the body.
    Web,
    /// The same with a body in base64.
    WebText,
}

impl Wire {
    /// The wire by the value of `Content-Type`: `application/grpc`, alone or with a message format
    /// (`+proto`) or a parameter; `application/grpc-web` and `application/grpc-web-text` likewise.
    #[must_use]
    pub fn of(content_type: &[u8]) -> Option<Self> {
        const GRPC: &[u8] = b"application/grpc";
        let (start, rest) = content_type.split_at_checked(GRPC.len())?;
        if !start.eq_ignore_ascii_case(GRPC) {
            return None;
        }
        let after = |suffix: &[u8]| {
            let (start, rest) = rest.split_at_checked(suffix.len())?;
            start.eq_ignore_ascii_case(suffix).then_some(rest)
        };
        let (wire, rest) = match (after(b"-web-text"), after(b"-web")) {
            (Some(rest), _) => (Self::WebText, rest),
            (None, Some(rest)) => (Self::Web, rest),
            (None, None) => (Self::Own, rest),
        };
        matches!(rest.first(), None | Some(b'+' | b';' | b' ')).then_some(wire)
    }

    /// The wire of a message by its fields; the first line is the one that is read.
    #[must_use]
    pub fn of_message(headers: &HeaderMap) -> Option<Self> {
        headers.get(CONTENT_TYPE).and_then(|value| Self::of(value.as_bytes()))
    }
}

/// Whether a request is a call, on any of the wires.
#[must_use]
pub fn is_call(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::POST && Wire::of_message(headers).is_some()
}

#[cfg(test)]
mod tests;
