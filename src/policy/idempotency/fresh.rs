//! A key for a request that has none: a UUID of version 7 (RFC 9562, section 5.7).
//!
//! It tells when it was made, so that a peer whose store has lost its past can tell an old key from
//! a new one.

use super::record::Millis;

/// How long the text of a UUID is.
pub const LENGTH: usize = 36;

/// How many random bytes a key takes; 74 of their bits are used.
pub const RANDOM: usize = 10;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A key made at `unix` milliseconds of the time of day from random bytes: 48 bits of time, then
/// version and variant with random bits around them.
#[must_use]
pub fn uuid_v7(unix: Millis, random: [u8; RANDOM]) -> [u8; LENGTH] {
    let [_, _, time @ ..] = unix.to_be_bytes();
    let [a, b, c, rest @ ..] = random;
    let mut bytes = [0; 16];
    let (head, tail) = bytes.split_at_mut(6);
    head.copy_from_slice(&time);
    let (middle, tail) = tail.split_at_mut(3);
    middle.copy_from_slice(&[0x70 | (a & 0x0f), b, 0x80 | (c & 0x3f)]);
    tail.copy_from_slice(&rest);
    let mut text = [b'-'; LENGTH];
    // The digits go where no hyphen is.
    let places = text.iter_mut().enumerate().filter(|(at, _)| !matches!(at, 8 | 13 | 18 | 23));
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0f]);
    for ((_, place), nibble) in places.zip(nibbles) {
        *place = DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    }
    text
}

#[cfg(test)]
mod tests;
