//! What is kept of an answer, and what every answer of a covered route says of its key.
//!
//! Kept is what belongs to the operation's result. What belongs to one connection, one hop or one
//! exchange is not, nor what gives access: a cookie that is given again to whoever knows the key is
//! a session given away.

use std::fmt;

use super::problem::Code;
use super::record::Field;
use super::settings::Settings;

/// The field that marks a repeated answer, as clients of widely used payment services know it.
pub const REPLAYED_FIELD: &str = "Idempotent-Replayed";

/// What every field of this module begins with, in lower case; none of them is kept.
const OWN_PREFIX: &[u8] = b"idempotency-";

/// What begins so is said by a proxy to its neighbour.
const HOP_PREFIX: &[u8] = b"x-outrigger-";

/// Fields that are not kept, in lower case and in order: of a connection (RFC 9110, 7.6.1; RFC
/// 9112, 9.6), of a proxy's authentication (RFC 9111, 3.1), of the framing, which is made anew, of
/// one hop or one exchange, and `age`, which a replay has of its own.
const DROPPED: [&str; 19] = [
    "age",
    "alt-svc",
    "connection",
    "content-length",
    "idempotent-replayed",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "server-timing",
    "te",
    "traceparent",
    "transfer-encoding",
    "tracestate",
    "upgrade",
    "via",
    "www-authenticate",
    "x-request-id",
];

/// The fields of an answer that are kept, or those of its trailers: `fields` in their order.
/// `set-cookie` is among them only where the route allows it, which it can only with encryption.
#[must_use]
pub fn stored<'a>(
    s: &Settings,
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone,
) -> Vec<Field> {
    let connection: Vec<&[u8]> = fields
        .clone()
        .filter(|(name, _)| name.eq_ignore_ascii_case(b"connection"))
        .flat_map(|(_, value)| value.split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .collect();
    fields
        .filter(|(name, _)| {
            is_kept(s, name) && !connection.iter().any(|named| named.eq_ignore_ascii_case(name))
        })
        .map(|(name, value)| (name.into(), value.into()))
        .collect()
}

/// Whether a field of this name belongs to the result.
fn is_kept(s: &Settings, name: &[u8]) -> bool {
    let begins = |prefix: &[u8]| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    if is("set-cookie") {
        return s.allow_set_cookie;
    }
    let own = [Some(&s.key_header), Some(&s.status_header), s.fence_header.as_ref()];
    !begins(OWN_PREFIX)
        && !begins(HOP_PREFIX)
        && !own.into_iter().flatten().any(|own| is(own))
        && !DROPPED.iter().any(|dropped| is(dropped))
}

/// What the fields of an answer take, in bytes, as `stored_headers` counts them.
#[must_use]
pub fn size(fields: &[Field]) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// What an answer says of its key: an Item of RFC 9651 with parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It was sent, and its answer is stored.
    Executed {
        /// The how-manieth claim of the key it was, from 1.
        attempt: u32,
    },
    /// It was sent, and its answer is not stored.
    Unstored(Unstored),
    /// It is the stored answer.
    Replayed {
        /// When it was stored, in seconds since 1970.
        created: u64,
        /// How long ago that was, in seconds.
        age: u64,
        /// How long this request waited for it, in milliseconds.
        waited: Option<u64>,
    },
    /// Nothing was sent now.
    Rejected(Code),
    /// It was sent, and is not protected.
    Bypassed(Bypassed),
}

/// Why an answer is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstored {
    /// The caller's time is over, and the upstream is still at work.
    Pending,
    /// Nobody knows what became of it.
    OutcomeUnknown,
    /// The store did not take it.
    StoreUnavailable,
    /// Somebody else has the record.
    Fenced,
    /// The key can be used again.
    Released,
    /// It is larger than what is stored.
    TooLarge,
    /// It has no end that is waited for.
    Streaming,
}

/// Why a request is not protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bypassed {
    /// The route does not cover it.
    Route,
    /// It has no key, and the route asks for none.
    NoKey,
    /// The store cannot be reached, and the route goes on without.
    StoreUnavailable,
    /// The store is full, and the route goes on without.
    StoreFull,
}

impl Unstored {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::OutcomeUnknown,
        Self::StoreUnavailable,
        Self::Fenced,
        Self::Released,
        Self::TooLarge,
        Self::Streaming,
    ];

    /// The token in the field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::OutcomeUnknown => "outcome-unknown",
            Self::StoreUnavailable => "store-unavailable",
            Self::Fenced => "fenced",
            Self::Released => "released",
            Self::TooLarge => "too-large",
            Self::Streaming => "streaming",
        }
    }
}

impl Bypassed {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Route, Self::NoKey, Self::StoreUnavailable, Self::StoreFull];

    /// The token in the field, and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::NoKey => "no-key",
            Self::StoreUnavailable => "store-unavailable",
            Self::StoreFull => "store-full",
        }
    }
}

/// The largest Integer of RFC 9651, section 3.3.1.
const LARGEST: u64 = 999_999_999_999_999;

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Executed { attempt } => write!(f, "executed;stored;attempt={attempt}"),
            Self::Unstored(why) => write!(f, "executed;stored=?0;reason={}", why.as_str()),
            Self::Replayed { created, age, waited } => {
                let (created, age) = (created.min(&LARGEST), age.min(&LARGEST));
                write!(f, "replayed;created={created};age={age}")?;
                match waited {
                    Some(waited) => write!(f, ";waited={}", waited.min(&LARGEST)),
                    None => Ok(()),
                }
            }
            Self::Rejected(code) => write!(f, "rejected;reason={}", code.as_str()),
            Self::Bypassed(why) => write!(f, "bypassed;reason={}", why.as_str()),
        }
    }
}

/// What a peer's status field says, as far as a caller's proxy acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The peer enforces keys, and this is an upstream's answer.
    Answered,
    /// The peer enforces keys, and sent nothing; the reason where it is one that we know.
    Rejected(Option<Code>),
    /// The peer did not protect this request.
    Bypassed,
}

/// Reads a peer's status field. A value that says none of it is nothing: whoever else uses a field
/// of this name does not promise what ours promises.
#[must_use]
pub fn heard(value: &[u8]) -> Option<Heard> {
    let text = std::str::from_utf8(value).ok()?;
    let mut parts = text.split(';').map(str::trim);
    let word = parts.next()?;
    let reason = parts.find_map(|part| part.strip_prefix("reason="));
    match word {
        "executed" | "replayed" => Some(Heard::Answered),
        "rejected" => Some(Heard::Rejected(reason.and_then(Code::from_name))),
        "bypassed" => Some(Heard::Bypassed),
        _ => None,
    }
}

/// The fields that a replay adds to those that were kept, in the order of the result's own, `Age`
/// and `Cache-Status` (RFC 9211; `by` is this proxy's name) among them.
#[must_use]
pub fn replay_fields(s: &Settings, by: &str, status: Status) -> Vec<(String, String)> {
    let mut fields = vec![(s.status_header.clone(), status.to_string())];
    if let Status::Replayed { age, .. } = status {
        fields.push(("Age".to_owned(), age.to_string()));
        fields.push(("Cache-Status".to_owned(), format!("{by};hit;detail=idempotency")));
        fields.push((REPLAYED_FIELD.to_owned(), "true".to_owned()));
    }
    fields
}

#[cfg(test)]
mod tests;
