//! Records as bytes, for every engine alike.
//!
//! A record is a version, 16 random bytes (so that nobody can predict what an engine's checksum is
//! taken of), its bookkeeping, its answer, and 8 bytes of a SHA-256 over all of it and its name.
//! The answer, which may hold what a client must not see of another, can be sealed
//! (ChaCha20-Poly1305, RFC 8439) with the record's name and fence as associated data: then it fits
//! no other record. What cannot be decoded is [`Entry::Unreadable`].

use std::sync::Arc;

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::SHA256;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

use crate::policy::idempotency::record::{
    Claimant, Doubt, Entry, Fence, Field, Millis, Record, Rid, State, Stored,
};

/// The present form of a record. Bytes of another one are not guessed at.
const VERSION: u8 = 1;
const SALT_LEN: usize = 16;
const SUM_LEN: usize = 8;
/// The forms of an answer.
const PLAIN: u8 = 0;
const SEALED: u8 = 1;

/// What seals answers at rest.
#[derive(Clone, Debug, Default)]
pub struct Seal(Option<Arc<LessSafeKey>>);

/// Why something could not be encoded: the system has no randomness to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRandomness;

/// What of a record is not its answer.
#[derive(Serialize, Deserialize)]
struct Bookkeeping {
    state: State,
    claimant: Claimant,
    lease_until: Millis,
    first_seen: Millis,
    completed: Millis,
    attempts: u32,
    observed_status: Option<u16>,
    doubt: Option<Doubt>,
    body_until: Millis,
    keep_until: Millis,
    contested: bool,
}

/// What of an answer is not its body.
#[derive(Serialize, Deserialize)]
struct Head {
    status: u16,
    indeterminate: bool,
    headers: Vec<Field>,
    trailers: Vec<Field>,
    has_body: bool,
}

impl Seal {
    /// Seals with this key; without one, answers are stored as they are.
    #[must_use]
    pub fn new(key: Option<&[u8; 32]>) -> Self {
        // The length is right by type, so a key is never lost here.
        Self(key.and_then(|key| {
            let key = UnboundKey::new(&CHACHA20_POLY1305, key).ok()?;
            Some(Arc::new(LessSafeKey::new(key)))
        }))
    }

    /// Whether answers are sealed.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// An answer as bytes.
    ///
    /// # Errors
    /// When there is no randomness for a nonce.
    pub fn encode(
        &self,
        answer: &Stored,
        rid: &Rid,
        fence: Fence,
    ) -> Result<Vec<u8>, NoRandomness> {
        let mut plain = encode_answer(answer);
        let Some(key) = &self.0 else {
            plain.insert(0, PLAIN);
            return Ok(plain);
        };
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| NoRandomness)?;
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            associated(rid, fence),
            &mut plain,
        )
        .map_err(|_| NoRandomness)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plain.len());
        sealed.push(SEALED);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&plain);
        Ok(sealed)
    }

    /// An answer from bytes; nothing when they are damaged, of another record, or sealed with
    /// another key.
    #[must_use]
    pub fn decode(&self, bytes: &[u8], rid: &Rid, fence: Fence) -> Option<Stored> {
        let (form, rest) = bytes.split_first()?;
        match (*form, &self.0) {
            (PLAIN, _) => decode_answer(rest),
            (SEALED, Some(key)) => {
                let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
                let mut sealed = sealed.to_vec();
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let plain = key.open_in_place(nonce, associated(rid, fence), &mut sealed).ok()?;
                decode_answer(plain)
            }
            _ => None,
        }
    }
}

fn associated(rid: &Rid, fence: Fence) -> Aad<[u8; 40]> {
    let mut bytes = [0; 40];
    let (name, number) = bytes.split_at_mut(32);
    name.copy_from_slice(&rid.0);
    number.copy_from_slice(&fence.0.to_be_bytes());
    Aad::from(bytes)
}

/// A record as bytes.
///
/// # Errors
/// When the system has no randomness to give.
pub fn encode(record: &Record, rid: &Rid, seal: &Seal) -> Result<Vec<u8>, NoRandomness> {
    let kept = Bookkeeping {
        state: record.state,
        claimant: record.claimant,
        lease_until: record.lease_until,
        first_seen: record.first_seen,
        completed: record.completed,
        attempts: record.attempts,
        observed_status: record.observed_status,
        doubt: record.doubt,
        body_until: record.body_until,
        keep_until: record.keep_until,
        contested: record.contested,
    };
    let mut salt = [0; SALT_LEN];
    SystemRandom::new().fill(&mut salt).map_err(|_| NoRandomness)?;
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&salt);
    push_sized(&mut bytes, &to_bytes(&kept));
    if let Some(answer) = &record.answer {
        bytes.extend_from_slice(&seal.encode(answer, rid, record.claimant.fence)?);
    }
    let sum = sum(rid, &bytes);
    bytes.extend_from_slice(&sum);
    Ok(bytes)
}

/// A record from bytes.
#[must_use]
pub fn decode(bytes: &[u8], rid: &Rid, seal: &Seal) -> Entry {
    decode_record(bytes, rid, seal)
        .map_or(Entry::Unreadable, |record| Entry::Record(Box::new(record)))
}

fn decode_record(bytes: &[u8], rid: &Rid, seal: &Seal) -> Option<Record> {
    let (bytes, found) = bytes.split_last_chunk::<SUM_LEN>()?;
    if sum(rid, bytes) != *found {
        return None;
    }
    let (version, rest) = bytes.split_first()?;
    if *version != VERSION {
        return None;
    }
    let (_, rest) = rest.split_first_chunk::<SALT_LEN>()?;
    let (kept, answer) = split_sized(rest)?;
    let kept: Bookkeeping = from_bytes(kept)?;
    let answer = match answer {
        [] => None,
        sealed => Some(seal.decode(sealed, rid, kept.claimant.fence)?),
    };
    Some(Record {
        state: kept.state,
        claimant: kept.claimant,
        lease_until: kept.lease_until,
        first_seen: kept.first_seen,
        completed: kept.completed,
        attempts: kept.attempts,
        observed_status: kept.observed_status,
        doubt: kept.doubt,
        body_until: kept.body_until,
        keep_until: kept.keep_until,
        contested: kept.contested,
        answer,
    })
}

fn sum(rid: &Rid, bytes: &[u8]) -> [u8; SUM_LEN] {
    let mut context = ring::digest::Context::new(&SHA256);
    context.update(&rid.0);
    context.update(bytes);
    fixed(context.finish().as_ref())
}

fn encode_answer(answer: &Stored) -> Vec<u8> {
    let head = Head {
        status: answer.status,
        indeterminate: answer.indeterminate,
        headers: answer.headers.clone(),
        trailers: answer.trailers.clone(),
        has_body: answer.body.is_some(),
    };
    let mut bytes = Vec::with_capacity(answer.bytes() + 64);
    push_sized(&mut bytes, &to_bytes(&head));
    bytes.extend_from_slice(answer.body.as_deref().unwrap_or_default());
    bytes
}

fn decode_answer(bytes: &[u8]) -> Option<Stored> {
    let (head, body) = split_sized(bytes)?;
    let head: Head = from_bytes(head)?;
    if !head.has_body && !body.is_empty() {
        return None;
    }
    Some(Stored {
        status: head.status,
        indeterminate: head.indeterminate,
        headers: head.headers,
        body: head.has_body.then(|| body.into()),
        trailers: head.trailers,
    })
}

/// Plain structs of numbers and byte strings always have a form as bytes.
fn to_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).unwrap_or_default()
}

fn from_bytes<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

fn push_sized(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend_from_slice(&length(part));
    bytes.extend_from_slice(part);
}

/// What follows a part.
type Rest<'a> = &'a [u8];

fn split_sized(bytes: &[u8]) -> Option<(&[u8], Rest<'_>)> {
    let (len, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)
}

/// Makes digests of requests: plain SHA-256, or HMAC-SHA-256 (RFC 2104) under a key that all
/// proxies of a store share, so that who reads the store cannot try out what was asked.
#[derive(Clone, Debug, Default)]
pub struct Digests(Option<Arc<ring::hmac::Key>>);

impl Digests {
    /// Digests under a key; plain ones without.
    #[must_use]
    pub fn new(key: Option<&[u8; 32]>) -> Self {
        let key = key.map(|key| Arc::new(ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key)));
        Self(key)
    }

    /// The digest of parts, each with its length before it.
    #[must_use]
    pub fn of(&self, version: u8, parts: &[&[u8]]) -> [u8; 32] {
        let Some(key) = &self.0 else { return digest_of(version, parts) };
        let mut context = ring::hmac::Context::with_key(key);
        context.update(&[version]);
        for part in parts {
            context.update(&length(part));
            context.update(part);
        }
        fixed(context.sign().as_ref())
    }
}

/// A digest of parts, each with its length before it, so that no two lists of parts are alike.
#[must_use]
pub fn digest_of(version: u8, parts: &[&[u8]]) -> [u8; 32] {
    let mut context = ring::digest::Context::new(&SHA256);
    context.update(&[version]);
    for part in parts {
        context.update(&length(part));
        context.update(part);
    }
    fixed(context.finish().as_ref())
}

/// The bytes of a reference that are not its beginning.
const REFERENCE_LEN: usize = 16;

/// What a record is called towards those who may know of it: `op_` and half of an HMAC-SHA-256 of
/// its name under the store's secret, in base64url.
#[must_use]
pub fn reference(secret: &[u8; 32], rid: &Rid) -> String {
    use base64::Engine as _;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let tag: [u8; REFERENCE_LEN] = fixed(ring::hmac::sign(&key, &rid.0).as_ref());
    format!("op_{}", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(tag))
}

/// The length of a part as it stands before it.
fn length(part: &[u8]) -> [u8; 4] {
    // Parts are bounded by the limits on requests, far below 4 GiB.
    u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes()
}

fn fixed<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests;
