//! Which node of a cluster has which records (Redis Cluster Specification, "Key distribution
//! model").

use redis::Value;

use super::address::Address;

/// How many slots there are.
pub(super) const SLOTS: u16 = 16_384;

/// CRC-16/XMODEM: polynomial 0x1021, from 0, no reflection.
fn crc(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte) << 8, |sum, _| {
            if sum & 0x8000 == 0 { sum << 1 } else { sum << 1 ^ 0x1021 }
        })
    })
}

/// The slot of a key: of what is in its first braces, when there is something in them.
pub(super) fn slot(key: &[u8]) -> u16 {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        let rest = key.get(open + 1..)?;
        let len = rest.iter().position(|byte| *byte == b'}')?;
        rest.get(..len).filter(|tag| !tag.is_empty())
    };
    crc(tag().unwrap_or(key)) % SLOTS
}

/// A run of slots, both ends included, and the node that has them.
pub(super) type Run = (u16, u16, Address);

/// What `CLUSTER SLOTS` says. A node that does not know its own address is the one that was asked.
pub(super) fn runs(value: &Value, asked: &Address) -> Option<Vec<Run>> {
    let Value::Array(found) = value else { return None };
    found.iter().map(|run| self::run(run, asked)).collect()
}

fn run(value: &Value, asked: &Address) -> Option<Run> {
    let Value::Array(parts) = value else { return None };
    let [Value::Int(from), Value::Int(to), Value::Array(primary), ..] = parts.as_slice() else {
        return None;
    };
    let [host, Value::Int(port), ..] = primary.as_slice() else { return None };
    let port = u16::try_from(*port).ok()?;
    let host = match (host, asked) {
        (Value::BulkString(host), _) if !host.is_empty() => std::str::from_utf8(host).ok()?,
        (_, Address::Tcp { host, .. }) => host,
        (_, Address::Unix(_)) => return None,
    };
    let address = Address::Tcp { host: host.into(), port };
    Some((u16::try_from(*from).ok()?, u16::try_from(*to).ok()?, address))
}

#[cfg(test)]
mod tests;
