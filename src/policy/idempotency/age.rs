//! When was a key made? Keys that carry their time: UUIDs of version 7 and ULIDs.

use super::record::Millis;

/// Earlier times, in milliseconds since 1970, are those of no key (2016, when ULIDs were first
/// written down; UUIDs of version 7 are younger): what reads like one was drawn at random.
pub const EARLIEST: Millis = 1_451_606_400_000;

/// How far ahead of the store's clock a key's time may be, in milliseconds: a day, as a client's
/// clock may be set to a wrong time zone. What is further ahead was drawn at random.
pub const AHEAD: u64 = 24 * 3600 * 1000;

/// When a key was made, by its maker's clock; nothing when it does not tell.
#[must_use]
pub fn minted(key: &[u8], now: Millis) -> Option<Millis> {
    let time = uuid_v7(key).or_else(|| ulid(key))?;
    (EARLIEST..=now.saturating_add(AHEAD)).contains(&time).then_some(time)
}

/// RFC 9562, 5.7: 48 bits of milliseconds, then the version and, 16 bits on, the variant.
fn uuid_v7(text: &[u8]) -> Option<Millis> {
    if text.len() != 36 {
        return None;
    }
    let mut number: u128 = 0;
    for (at, byte) in text.iter().enumerate() {
        if matches!(at, 8 | 13 | 18 | 23) {
            if *byte != b'-' {
                return None;
            }
        } else {
            number = (number << 4) | u128::from(char::from(*byte).to_digit(16)?);
        }
    }
    let (version, variant) = ((number >> 76) & 0xf, (number >> 62) & 0b11);
    (version == 7 && variant == 0b10).then(|| u64::try_from(number >> 80).ok()).flatten()
}

/// A ULID: 128 bits in 26 digits of Crockford's base 32, the first 48 bits of them milliseconds.
fn ulid(text: &[u8]) -> Option<Millis> {
    if text.len() != 26 {
        return None;
    }
    let mut time: u64 = 0;
    for (at, byte) in text.iter().enumerate() {
        let digit = crockford(*byte)?;
        // Ten digits are 50 bits, of which the first two are 0.
        if at == 0 && digit > 7 {
            return None;
        }
        if at < 10 {
            time = (time << 5) | u64::from(digit);
        }
    }
    Some(time)
}

/// A digit in either case; I, L, O and U are none.
fn crockford(byte: u8) -> Option<u8> {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let upper = byte.to_ascii_uppercase();
    let at = DIGITS.iter().position(|digit| *digit == upper)?;
    u8::try_from(at).ok()
}

#[cfg(test)]
mod tests;
