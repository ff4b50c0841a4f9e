//! What a `Host` may be.

use std::net::Ipv6Addr;

/// True for `host`, `host:port`, an IPv4 address, or an IPv6 address in brackets (RFC 3986, 3.2.2).
///
/// A host may not be empty, and a comma, which the RFC allows in a name, is refused: it is how two
/// `Host` lines look after somebody joined them.
#[must_use]
pub fn valid_host(text: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let (host_ok, port) = if let Some(rest) = text.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else { return false };
        (address.parse::<Ipv6Addr>().is_ok(), after)
    } else {
        let end = text.find(':').unwrap_or(text.len());
        let (name, after) = text.split_at(end);
        (!name.is_empty() && valid_name(name.as_bytes()), after)
    };
    host_ok && valid_port(port)
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

fn valid_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some(at) = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]) {
        rest = match rest.get(at..) {
            Some([b'%', high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                tail
            }
            _ => return false,
        };
    }
    true
}

/// `after` is empty or begins with the colon; a colon without digits is allowed by the grammar.
fn valid_port(after: &str) -> bool {
    match after.strip_prefix(':') {
        None => after.is_empty(),
        Some(digits) => {
            digits.is_empty()
                || (digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok())
        }
    }
}
