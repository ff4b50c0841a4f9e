//! The PROXY protocol, versions 1 and 2: who a connection is made for, in a header in front of its
//! first byte, as HAProxy's `proxy-protocol.txt` defines it.
//!
//! Reads and writes headers, and nothing else: it neither touches a socket nor decides whom to
//! believe. The reader takes byte after byte, keeps what it needs in itself, and says how many
//! bytes are certainly still to come, so that nothing behind the header is ever taken for it.

mod binary;
mod checksum;
mod text;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::binary::Frame;
use self::text::Line;

/// The longest header of version 1, with the end of its line (section 2.1).
pub const MAX_TEXT: usize = 107;
/// The most bytes behind the fixed part of a header of version 2: the largest address (216 bytes),
/// and room for what cloud balancers and the names of a TLS client add, ten times over.
pub const MAX_TAIL: usize = 4096;

/// The version of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ProxyProtocolVersion")]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// The two ends of the connection that a client has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
}

/// Whom a connection is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// For the sender itself, or the sender does not say: the connection's own addresses stand.
    Sender,
    /// For a client that has no IP address: it came over a unix socket.
    Nameless,
    /// For a client between these addresses, both of one family.
    Client(Ends),
}

/// What a header says, and in which version.
pub type Said = (Version, Origin);

/// Why bytes are not a header that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// They begin like no header.
    Absent,
    /// They begin like one and go on unlike any.
    Malformed,
    /// A header of a version, command or transport that is not for a stream of this protocol.
    Unsupported,
    /// Longer than [`MAX_TEXT`], or than [`MAX_TAIL`].
    TooLong,
    /// Its own checksum does not fit it.
    Checksum,
}

/// Reads one header, byte after byte.
#[derive(Debug)]
pub struct Reader(State);

#[derive(Debug)]
enum State {
    Start,
    Text(Line),
    Binary(Frame),
}

impl Default for Reader {
    fn default() -> Self {
        Self(State::Start)
    }
}

impl Reader {
    /// How many bytes of the header are certainly still to come, 1 or more before its end: so many
    /// can be read without taking a byte that follows it.
    #[must_use]
    pub fn wants(&self) -> usize {
        match &self.0 {
            // The shorter of the least headers of both versions.
            State::Start => text::LEAST,
            State::Text(line) => line.wants(),
            State::Binary(frame) => frame.wants(),
        }
    }

    /// Takes the next byte; gives the header's meaning with its last one.
    ///
    /// # Errors
    /// With the first byte that cannot be one of a header.
    pub fn push(&mut self, byte: u8) -> Result<Option<Said>, Fault> {
        if matches!(self.0, State::Start) {
            self.0 = match byte {
                text::FIRST => State::Text(Line::default()),
                binary::FIRST => State::Binary(Frame::default()),
                _ => return Err(Fault::Absent),
            };
        }
        match &mut self.0 {
            State::Start => Err(Fault::Absent),
            State::Text(line) => Ok(line.push(byte)?.map(|origin| (Version::V1, origin))),
            State::Binary(frame) => Ok(frame.push(byte)?.map(|origin| (Version::V2, origin))),
        }
    }
}

/// A header that is written down.
#[derive(Clone, Copy, Debug)]
pub struct Header {
    bytes: [u8; MAX_TEXT],
    length: usize,
}

impl Header {
    /// The header of a connection that is made for this origin. Version 1 has no word for the
    /// sender itself or a client without address: it says `UNKNOWN` of both.
    #[must_use]
    pub fn of(version: Version, origin: Origin) -> Self {
        let mut bytes = [0; MAX_TEXT];
        let mut rest = bytes.as_mut_slice();
        let room = rest.len();
        // There is room for the longest, so writing into memory cannot fail.
        let _ = match version {
            Version::V1 => text::write(&mut rest, origin),
            Version::V2 => binary::write(&mut rest, origin),
        };
        let length = room - rest.len();
        Self { bytes, length }
    }

    /// What goes over the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Ends {
    /// The same ends with both addresses in one family: IPv4 where both are, or are mapped into
    /// IPv6 (RFC 4291, 2.5.5.2), and IPv6 where one is not.
    #[must_use]
    pub fn alike(self) -> Self {
        let source = canonical(self.source);
        let destination = canonical(self.destination);
        if source.is_ipv4() == destination.is_ipv4() {
            return Self { source, destination };
        }
        Self { source: in_ipv6(source), destination: in_ipv6(destination) }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn in_ipv6(address: SocketAddr) -> SocketAddr {
    let ip: Ipv6Addr = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddr::new(ip.into(), address.port())
}

#[cfg(test)]
mod tests;
