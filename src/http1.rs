//! HTTP/1.1 messages (RFC 9112), for both sides of the proxy: what stands on the wire, without the
//! sockets and without any meaning.
//!
//! To an upstream, [`crate::upstream::http1`] writes requests and reads answers; from a client,
//! [`Wire`] reads requests and `crate::server` writes answers. The parser of lines is the
//! `httparse` crate; what the bytes around a body mean is decided here, strictly, so that no two
//! recipients can see two different messages. It knows no route, no policy and no clock.

mod answer;
mod chunked;
mod head;
mod outgoing;
mod stock;
mod wire;

use std::fmt;

pub use self::answer::{Asked, Sent, put_interim, write_head, write_switch};
pub use self::chunked::{Decoder, Step, forbidden_in_trailers};
pub use self::head::{Framing, Head, HeadLimits, Refused, members, take_head};
pub use self::outgoing::{Delimited, Outgoing, Stopped, put_field, put_length};
pub use self::stock::Stock;
pub use self::wire::{BodyReader, SharedWire, Wire, Writer};

/// Bytes that are not what they were announced to be; says what is wrong with them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken(pub &'static str);

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Broken {}

#[cfg(test)]
mod tests;
