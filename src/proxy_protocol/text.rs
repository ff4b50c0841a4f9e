//! Version 1: one line of text (section 2.1).

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Ends, Fault, MAX_TEXT, Origin};

/// The first byte of every line.
pub(super) const FIRST: u8 = b'P';
/// What every line begins with.
const START: &[u8] = b"PROXY ";
/// The shortest line, `PROXY UNKNOWN`, with its end.
pub(super) const LEAST: usize = 15;
/// The beginnings of the other lines, and the shortest line with each.
const LEAST_WITH: [(&[u8], usize); 2] = [(b"PROXY TCP4", 32), (b"PROXY TCP6", 22)];

/// A line on its way in.
#[derive(Debug)]
pub(super) struct Line {
    bytes: [u8; MAX_TEXT],
    length: usize,
}

impl Default for Line {
    fn default() -> Self {
        Self { bytes: [0; MAX_TEXT], length: 0 }
    }
}

impl Line {
    fn so_far(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(super) fn wants(&self) -> usize {
        let so_far = self.so_far();
        let least = LEAST_WITH.iter().find(|(start, _)| so_far.starts_with(start));
        let least = least.map_or(LEAST, |(_, least)| *least);
        let end = if so_far.last() == Some(&b'\r') { 1 } else { 2 };
        least.saturating_sub(self.length).max(end)
    }

    pub(super) fn push(&mut self, byte: u8) -> Result<Option<Origin>, Fault> {
        if START.get(self.length).is_some_and(|expected| *expected != byte) {
            return Err(Fault::Absent);
        }
        let after_return = self.so_far().last() == Some(&b'\r');
        let Some(place) = self.bytes.get_mut(self.length) else { return Err(Fault::TooLong) };
        *place = byte;
        self.length += 1;
        match (after_return, byte) {
            (true, b'\n') => self.meaning().map(Some),
            (true, _) | (false, b'\n') => Err(Fault::Malformed),
            (false, _) if self.length == MAX_TEXT => Err(Fault::TooLong),
            (false, _) => Ok(None),
        }
    }

    fn meaning(&self) -> Result<Origin, Fault> {
        let line = self.so_far().strip_suffix(b"\r\n").ok_or(Fault::Malformed)?;
        let line = line.strip_prefix(START).ok_or(Fault::Malformed)?;
        // What follows UNKNOWN is to be ignored, whatever it is.
        if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
            return Ok(Origin::Sender);
        }
        let line = std::str::from_utf8(line).map_err(|_| Fault::Malformed)?;
        let mut words = line.split(' ');
        let mut word = || words.next().ok_or(Fault::Malformed);
        let family = word()?;
        let (source, destination) = (ip(family, word()?)?, ip(family, word()?)?);
        let (from, to) = (port(word()?)?, port(word()?)?);
        if words.next().is_some() {
            return Err(Fault::Malformed);
        }
        let source = SocketAddr::new(source, from);
        let destination = SocketAddr::new(destination, to);
        Ok(Origin::Client(Ends { source, destination }))
    }
}

fn ip(family: &str, text: &str) -> Result<IpAddr, Fault> {
    let ip = match family {
        "TCP4" => text.parse::<Ipv4Addr>().map(IpAddr::V4),
        "TCP6" => text.parse::<Ipv6Addr>().map(IpAddr::V6),
        _ => return Err(Fault::Malformed),
    };
    ip.map_err(|_| Fault::Malformed)
}

/// A port as the protocol wants it: decimal, without a sign or a zero in front.
fn port(text: &str) -> Result<u16, Fault> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    if !plain || (text.len() > 1 && text.starts_with('0')) {
        return Err(Fault::Malformed);
    }
    text.parse().map_err(|_| Fault::Malformed)
}

pub(super) fn write(to: &mut impl Write, origin: Origin) -> std::io::Result<()> {
    let Origin::Client(ends) = origin else { return to.write_all(b"PROXY UNKNOWN\r\n") };
    let Ends { source, destination } = ends.alike();
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, at) = (source.ip(), destination.ip());
    write!(to, "PROXY {family} {from} {at} {} {}\r\n", source.port(), destination.port())
}
