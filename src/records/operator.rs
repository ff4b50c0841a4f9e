//! What operators do with records: look at some, find one by its reference, settle or remove it.
//!
//! References are made from names under the store's secret and cannot be turned back, so a record
//! is found by going through all of them: the price of never showing a name, which is a digest of a
//! client's key. Where a list goes on is told in a sealed form of the name for the same reason.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use super::codec::{digest_of, reference};
use super::ledger::Ledger;
use super::{Fault, PAGE_MAX, Seen, Wanted};
use crate::clock;
use crate::policy::idempotency::machine::{Resolution, Settle, Settled};
use crate::policy::idempotency::record::{Entry, Fence, Millis, Retention, Rid, State};

/// How long a change of which it is not known whether it was made rests before it is repeated.
const AGAIN: Duration = Duration::from_millis(100);
/// What keys of cursors are digests of, besides the secret.
const CURSOR: &[u8] = b"cursor";

/// A record with what it is called.
#[derive(Clone, Debug)]
pub struct Named {
    /// Its name; not to be shown.
    pub rid: Rid,
    /// What it is called instead.
    pub reference: String,
    /// What is there.
    pub seen: Seen,
}

/// Some records.
#[derive(Clone, Debug)]
pub struct Listing {
    /// The records.
    pub records: Vec<Named>,
    /// What to ask with for those that come after; nothing at the end.
    pub next: Option<String>,
}

/// What an operator, or a probe, says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// What became of the operation.
    Resolved(Resolution),
    /// The record is to go, whatever it says.
    Purge,
}

/// At most `limit` records of these states after a cursor; nothing when the cursor is none of this
/// store.
///
/// # Errors
/// Why the store did not say.
pub async fn list(
    ledger: &Ledger,
    states: Vec<State>,
    after: Option<&str>,
    limit: usize,
    by: Instant,
) -> Result<Option<Listing>, Fault> {
    let secret = ledger.birth(by).await?.secret;
    let after = match after.map(|cursor| opened(&secret, cursor)) {
        Some(None) => return Ok(None),
        Some(after) => after,
        None => None,
    };
    let page = ledger.list(Wanted { states, after, limit: limit.min(PAGE_MAX) }, by).await?;
    let named = |(rid, seen)| Named { rid, reference: reference(&secret, &rid), seen };
    let records = page.records.into_iter().map(named).collect();
    Ok(Some(Listing { records, next: page.next.and_then(|rid| sealed(&secret, &rid)) }))
}

/// The record that is called so; nothing when there is none.
///
/// # Errors
/// Why the store did not say.
pub async fn find(ledger: &Ledger, called: &str, by: Instant) -> Result<Option<Named>, Fault> {
    let secret = ledger.birth(by).await?.secret;
    let mut after = None;
    loop {
        let wanted = Wanted { states: State::ALL.to_vec(), after, limit: PAGE_MAX };
        let page = ledger.list(wanted, by).await?;
        let mut records = page.records.into_iter();
        if let Some((rid, seen)) = records.find(|(rid, _)| reference(&secret, rid) == called) {
            return Ok(Some(Named { rid, reference: called.to_owned(), seen }));
        }
        match page.next {
            // A store that does not get on would never come to its end.
            Some(next) if after.is_none_or(|after| after < next) => after = Some(next),
            _ => return Ok(None),
        }
    }
}

/// Does what an operator says of a record that was looked at; whoever has changed it since then
/// prevails. Repeats itself until it is known whether it was done.
///
/// # Errors
/// Why it was not done, or that it is not known whether it was.
pub async fn settle(
    ledger: &Ledger,
    record: &Named,
    word: Word,
    retention: Retention,
    by: Instant,
) -> Result<Settled, Fault> {
    let expect = fence(&record.seen);
    let settle = match (word, expect) {
        (Word::Purge, expect) => Settle::Purge { expect },
        (Word::Resolved(how), Some(expect)) => Settle::Resolve { expect, how, retention },
        // What cannot be read can be removed only.
        (Word::Resolved(_), None) => return Ok(Settled::Fenced { current: None }),
    };
    loop {
        match ledger.settle(record.rid, settle.clone(), by).await {
            Err(Fault::Ambiguous(_)) if clock::now() + AGAIN < by => clock::sleep(AGAIN).await,
            answer => return answer,
        }
    }
}

/// How long an operation of unknown outcome cannot yet be taken not to have been executed, if its
/// upstream may be at work on it for `settle_delay` after its owner's last word: what was read late
/// is executed late. Nothing when it can be at once.
#[must_use]
pub fn settles_in(seen: &Seen, settle_delay: Duration) -> Option<Duration> {
    let Entry::Record(record) = &seen.entry else { return None };
    if seen.state != Some(State::Unknown) {
        return None;
    }
    let delay = Millis::try_from(settle_delay.as_millis()).unwrap_or(Millis::MAX);
    let left = record.lease_until.saturating_add(delay).saturating_sub(seen.now);
    (left > 0).then(|| Duration::from_millis(left))
}

const fn fence(seen: &Seen) -> Option<Fence> {
    match &seen.entry {
        Entry::Record(record) => Some(record.claimant.fence),
        Entry::Absent | Entry::Unreadable => None,
    }
}

fn cursor_key(secret: &[u8; 32]) -> Option<LessSafeKey> {
    let key = digest_of(0, &[CURSOR, secret]);
    UnboundKey::new(&CHACHA20_POLY1305, &key).ok().map(LessSafeKey::new)
}

fn sealed(secret: &[u8; 32], rid: &Rid) -> Option<String> {
    let mut nonce = [0; NONCE_LEN];
    SystemRandom::new().fill(&mut nonce).ok()?;
    let mut name = rid.0.to_vec();
    let unique = Nonce::assume_unique_for_key(nonce);
    cursor_key(secret)?.seal_in_place_append_tag(unique, Aad::empty(), &mut name).ok()?;
    Some(URL_SAFE_NO_PAD.encode([&nonce[..], &name].concat()))
}

fn opened(secret: &[u8; 32], cursor: &str) -> Option<Rid> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (nonce, name) = bytes.split_first_chunk::<NONCE_LEN>()?;
    let mut name = name.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    let name = cursor_key(secret)?.open_in_place(nonce, Aad::empty(), &mut name).ok()?;
    Some(Rid((&*name).try_into().ok()?))
}

#[cfg(test)]
mod tests;
