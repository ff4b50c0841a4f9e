//! Can a store still know a key? How far back its memory goes.
//!
//! A store that was emptied, or is new, finds no record of what was executed before. For a key that
//! tells when it was made, finding nothing proves something only if the key is younger than the
//! store's memory.

use super::age::minted;
use super::record::Millis;
use super::settings::StaleKeys;

/// By how much a client's clock may be ahead of the store's, in milliseconds, without an old key
/// being taken for a new one.
pub const SKEW: u64 = 5_000;

/// The earliest time of a key that the store would know if it had been used.
#[must_use]
pub fn horizon(birth: Millis, now: Millis, key_ttl: u64) -> Millis {
    birth.max(now.saturating_sub(key_ttl)).saturating_add(SKEW)
}

/// What a key's own time says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// If there is no record, it is new: it is young enough, or does not tell and need not.
    Fresh,
    /// If there is no record, that proves nothing ([`super::machine::Claim::too_old`]).
    TooOld,
    /// It does not tell, and has to.
    NotTimeBased,
}

/// Whether the store of this birth and time would know the key if it had been used.
#[must_use]
pub fn standing(
    key: &[u8],
    stale_keys: StaleKeys,
    birth: Millis,
    now: Millis,
    key_ttl: u64,
) -> Standing {
    match (minted(key, now), stale_keys) {
        (Some(time), _) if time < horizon(birth, now, key_ttl) => Standing::TooOld,
        (None, StaleKeys::RequireTimeBased) => Standing::NotTimeBased,
        (Some(_), _) | (None, StaleKeys::TreatAsNew) => Standing::Fresh,
    }
}

#[cfg(test)]
mod tests;
