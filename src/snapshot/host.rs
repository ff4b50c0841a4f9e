//! What a `Host` may be.

use std::net::Ipv6Addr;

/// True for `host`, `host:port`, an IPv4 address, or an IPv6 address in brackets (RFC 3986, 3.2.2).
///
/// A host may not be empty, and a comma, which the RFC allows in a name, is refused: it is how two
/// `Host` lines look after somebody joined them.
#[must_use]
pub fn valid_host(text: &[u8]) -> bool {
    let mut rest = match text {
        [] | [b':', ..] => return false,
        [b'[', rest @ ..] => return valid_address(rest),
        text => text,
    };
    loop {
        let special = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]);
        rest = match special.and_then(|at| rest.get(at..)) {
            None => return true,
            Some([b'%', high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                tail
            }
            Some(after) => return valid_port(after),
        };
    }
}

/// An IPv6 address, the closing bracket and what follows it.
fn valid_address(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let Some((address, after)) = text.split_once(']') else { return false };
    address.parse::<Ipv6Addr>().is_ok() && valid_port(after.as_bytes())
}

/// The bytes that stand for themselves in a registered name.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < plain.len() {
        plain[byte] = matches!(byte as u8, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9')
            || matches!(byte as u8, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'')
            || matches!(byte as u8, b'(' | b')' | b'*' | b'+' | b';' | b'=');
        byte += 1;
    }
    plain
};

/// `after` is empty or begins with the colon; a colon without digits is allowed by the grammar.
fn valid_port(after: &[u8]) -> bool {
    let digits = match after {
        [] => return true,
        [b':', digits @ ..] => digits,
        _ => return false,
    };
    let mut port = 0_u32;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return false;
        }
        port = port * 10 + u32::from(digit - b'0');
        if port > u32::from(u16::MAX) {
            return false;
        }
    }
    true
}
