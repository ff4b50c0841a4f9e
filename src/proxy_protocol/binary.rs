//! Version 2: a fixed part of 16 bytes, an address, and extensions (section 2.2).

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::checksum::Checksum;
use super::{Ends, Fault, MAX_TAIL, Origin};

/// The first byte of every header.
pub(super) const FIRST: u8 = b'\r';
/// What every header begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The fixed part: signature, version and command, family and transport, length of the rest.
const FIXED: usize = 16;
const VERSION: u8 = 0x20;
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const UNSPECIFIED: u8 = 0x00;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
const UNIX_STREAM: u8 = 0x31;
/// The type of the extension that carries a checksum of the header (section 2.2.3).
const CRC32C: u8 = 0x03;
/// The length of that checksum.
const CRC32C_BYTES: usize = 4;
/// The address of IPv6, the longest that is kept: two addresses and two ports.
const KEPT: usize = 36;

/// A header on its way in.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// Bytes so far.
    at: usize,
    command: u8,
    family: u8,
    /// Bytes behind the fixed part.
    tail: usize,
    /// Bytes of the address at the start of the tail.
    address: usize,
    kept: Kept,
    /// Over the whole header, with the checksum in it taken as zero.
    sum: Checksum,
    told: Option<u32>,
    extension: Extension,
}

#[derive(Debug)]
struct Kept([u8; KEPT]);

impl Default for Kept {
    fn default() -> Self {
        Self([0; KEPT])
    }
}

/// Where in the list of extensions the next byte is.
#[derive(Clone, Copy, Debug, Default)]
enum Extension {
    #[default]
    Type,
    LengthHigh {
        of: u8,
    },
    LengthLow {
        of: u8,
        high: u8,
    },
    Value {
        of: u8,
        left: usize,
    },
}

impl Frame {
    pub(super) fn wants(&self) -> usize {
        let whole = if self.at < FIXED { FIXED } else { FIXED + self.tail };
        whole.saturating_sub(self.at).max(1)
    }

    pub(super) fn push(&mut self, byte: u8) -> Result<Option<Origin>, Fault> {
        let at = self.at;
        self.at += 1;
        match at {
            0..12 if SIGNATURE.get(at) != Some(&byte) => return Err(Fault::Absent),
            0..12 => {}
            12 => self.command = command(byte)?,
            13 => self.family = byte,
            14 => self.tail = usize::from(byte) << 8,
            15 => {
                self.tail |= usize::from(byte);
                self.bound()?;
            }
            _ => return self.push_tail(at - FIXED, byte),
        }
        self.sum.push(byte);
        self.end()
    }

    /// Looks whether what was announced can be.
    fn bound(&mut self) -> Result<(), Fault> {
        if self.tail > MAX_TAIL {
            return Err(Fault::TooLong);
        }
        // Whatever is behind these two is to be skipped.
        if self.command == LOCAL || self.family == UNSPECIFIED {
            self.address = self.tail;
            return Ok(());
        }
        self.address = match self.family {
            TCP_OVER_IPV4 => 12,
            TCP_OVER_IPV6 => KEPT,
            UNIX_STREAM => 216,
            _ => return Err(Fault::Unsupported),
        };
        if self.address > self.tail { Err(Fault::Malformed) } else { Ok(()) }
    }

    fn push_tail(&mut self, at: usize, byte: u8) -> Result<Option<Origin>, Fault> {
        let mut summed = byte;
        if at < self.address {
            if let Some(place) = self.kept.0.get_mut(at) {
                *place = byte;
            }
        } else if self.extend(byte)? {
            summed = 0;
        }
        self.sum.push(summed);
        self.end()
    }

    /// Takes a byte of the extensions; true when it is one of the checksum.
    fn extend(&mut self, byte: u8) -> Result<bool, Fault> {
        let mut is_sum = false;
        self.extension = match self.extension {
            Extension::Type => Extension::LengthHigh { of: byte },
            Extension::LengthHigh { of } => Extension::LengthLow { of, high: byte },
            Extension::LengthLow { of, high } => {
                let left = usize::from(u16::from_be_bytes([high, byte]));
                let again = self.told.is_some();
                if of == CRC32C && (left != CRC32C_BYTES || again) {
                    return Err(Fault::Malformed);
                }
                if left == 0 { Extension::Type } else { Extension::Value { of, left } }
            }
            Extension::Value { of, left } => {
                is_sum = of == CRC32C;
                if is_sum {
                    self.told = Some(self.told.unwrap_or(0) << 8 | u32::from(byte));
                }
                if left == 1 { Extension::Type } else { Extension::Value { of, left: left - 1 } }
            }
        };
        Ok(is_sum)
    }

    fn end(&self) -> Result<Option<Origin>, Fault> {
        if self.at < FIXED || self.at < FIXED + self.tail {
            return Ok(None);
        }
        if !matches!(self.extension, Extension::Type) {
            return Err(Fault::Malformed);
        }
        if self.told.is_some_and(|told| told != self.sum.value()) {
            return Err(Fault::Checksum);
        }
        Ok(Some(self.meaning()))
    }

    fn meaning(&self) -> Origin {
        if self.command == LOCAL {
            return Origin::Sender;
        }
        let port = |at| u16::from_be_bytes(self.part(at));
        let ends = |source: IpAddr, destination: IpAddr, ports| Ends {
            source: SocketAddr::new(source, port(ports)),
            destination: SocketAddr::new(destination, port(ports + 2)),
        };
        match self.family {
            TCP_OVER_IPV4 => {
                let ip = |at| Ipv4Addr::from(self.part::<4>(at)).into();
                Origin::Client(ends(ip(0), ip(4), 8))
            }
            TCP_OVER_IPV6 => {
                let ip = |at| Ipv6Addr::from(self.part::<16>(at)).into();
                Origin::Client(ends(ip(0), ip(16), 32))
            }
            UNIX_STREAM => Origin::Nameless,
            _ => Origin::Sender,
        }
    }

    /// Bytes of the address; all of them were there when it is asked.
    fn part<const N: usize>(&self, at: usize) -> [u8; N] {
        self.kept.0.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
    }
}

fn command(byte: u8) -> Result<u8, Fault> {
    match byte {
        LOCAL | PROXY => Ok(byte),
        _ if byte & 0xf0 == VERSION => Err(Fault::Unsupported),
        _ => Err(Fault::Malformed),
    }
}

pub(super) fn write(to: &mut impl Write, origin: Origin) -> std::io::Result<()> {
    to.write_all(&SIGNATURE)?;
    let ends = match origin {
        Origin::Sender => return to.write_all(&[LOCAL, UNSPECIFIED, 0, 0]),
        Origin::Nameless => return to.write_all(&[PROXY, UNSPECIFIED, 0, 0]),
        Origin::Client(ends) => ends.alike(),
    };
    let Ends { source, destination } = ends;
    let (family, length) = if source.is_ipv4() { (TCP_OVER_IPV4, 12) } else { (TCP_OVER_IPV6, 36) };
    to.write_all(&[PROXY, family, 0, length])?;
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => to.write_all(&ip.octets())?,
            IpAddr::V6(ip) => to.write_all(&ip.octets())?,
        }
    }
    to.write_all(&source.port().to_be_bytes())?;
    to.write_all(&destination.port().to_be_bytes())
}
