//! What the scripts answer, as the machine's own words.
//!
//! An answer that cannot be understood is nothing here, and the caller takes it for an operation
//! that may have been done. A record that cannot be understood is unreadable, never absent.

use redis::Value;

use super::script::{answer_of, from_hex};
use crate::policy::idempotency::machine::{Claimed, Found, Settled};
use crate::policy::idempotency::record::{
    Claimant, Doubt, Entry, Fence, Fingerprint, Millis, Nonce, Owner, Principal, Record, Rid,
    State, Stored,
};
use crate::records::codec::Seal;
use crate::records::{Birth, Seen};

const UNREADABLE: Found =
    Found::Unknown { doubt: Doubt::Unreadable, observed_status: None, first_seen: 0 };

/// What is needed to read an answer.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) seal: &'a Seal,
    pub(super) rid: &'a Rid,
}

/// A script's answer, word by word.
struct Words<'a>(std::slice::Iter<'a, Value>);

impl<'a> Words<'a> {
    fn of(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(words) => Some(Self(words.iter())),
            _ => None,
        }
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        match self.0.next()? {
            Value::BulkString(bytes) => Some(bytes),
            _ => None,
        }
    }

    fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn number<T: std::str::FromStr>(&mut self) -> Option<T> {
        self.text()?.parse().ok()
    }

    /// A number, or nothing where there is none; nothing at all when it is neither.
    fn optional<T: std::str::FromStr>(&mut self) -> Option<Option<T>> {
        match self.text()? {
            "" => Some(None),
            digits => Some(Some(digits.parse().ok()?)),
        }
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes()?.try_into().ok()
    }

    fn state(&mut self) -> Option<State> {
        Some(match self.text()? {
            "F" => State::InFlight,
            "C" => State::Completed,
            "R" => State::Retryable,
            "U" => State::Unknown,
            "T" => State::Tombstone,
            _ => return None,
        })
    }

    fn doubt(&mut self) -> Option<Option<Doubt>> {
        match self.optional::<usize>()? {
            None => Some(None),
            Some(index) => Some(Some(*Doubt::ALL.get(index)?)),
        }
    }
}

impl Reader<'_> {
    pub(super) fn peeked(self, value: &Value) -> Option<Option<Found>> {
        match self.word(value)? {
            (_, "none", _) => Some(None),
            (now, word, rest) => self.found(now, word, rest).map(Some),
        }
    }

    pub(super) fn claimed(self, value: &Value) -> Option<Claimed> {
        Some(match self.word(value)? {
            (_, "acquired", mut rest) => Claimed::Acquired {
                fence: Fence(rest.number()?),
                attempt: rest.number()?,
                first_seen: rest.number()?,
            },
            (_, "quota", _) => Claimed::Quota,
            (_, "too_old", _) => Claimed::TooOld,
            (now, word, rest) => Claimed::Found(self.found(now, word, rest)?),
        })
    }

    pub(super) fn settled(self, value: &Value) -> Option<Settled> {
        Some(match self.word(value)? {
            (_, "done", _) => Settled::Done,
            (_, "already", _) => Settled::Already,
            (_, "reasserted", _) => Settled::Reasserted,
            (_, "fenced", mut rest) => Settled::Fenced { current: rest.optional()?.map(Fence) },
            _ => return None,
        })
    }

    /// A record, and beside it the fence that the server has for it: one that cannot be read may
    /// still have one.
    pub(super) fn seen(self, value: &Value) -> Option<(Seen, Option<Fence>)> {
        let (now, word, rest) = self.word(value)?;
        let unreadable =
            |fence| (Seen { entry: Entry::Unreadable, state: Some(State::Unknown), now }, fence);
        Some(match word {
            "none" => (Seen { entry: Entry::Absent, state: None, now }, None),
            "unreadable" => unreadable(None),
            "record" => {
                let fence = Self::fence_of(value);
                match self.record(rest) {
                    Some((record, state)) => {
                        let entry = Entry::Record(Box::new(record));
                        (Seen { entry, state: Some(state), now }, fence)
                    }
                    None => unreadable(fence),
                }
            }
            _ => return None,
        })
    }

    fn word<'v>(self, value: &'v Value) -> Option<(Millis, &'v str, Words<'v>)> {
        let mut words = Words::of(value)?;
        let micros: u64 = words.number()?;
        let word = words.text()?;
        Some((micros / 1_000, word, words))
    }

    fn found(self, now: Millis, word: &str, mut rest: Words<'_>) -> Option<Found> {
        Some(match word {
            "unreadable" => UNREADABLE,
            "mismatch" => Found::Mismatch { state: rest.state()?, first_seen: rest.number()? },
            "in_flight" => {
                Found::InFlight { remaining: rest.number()?, first_seen: rest.number()? }
            }
            "gone" => {
                Found::Gone { status: rest.optional()?.unwrap_or(0), first_seen: rest.number()? }
            }
            "unknown" => Found::Unknown {
                doubt: rest.doubt()?.unwrap_or(Doubt::OwnerLost),
                observed_status: rest.optional()?,
                first_seen: rest.number()?,
            },
            "completed" => self.completed(now, rest)?,
            _ => return None,
        })
    }

    fn completed(self, now: Millis, mut rest: Words<'_>) -> Option<Found> {
        let fence = Fence(rest.number()?);
        let completed: Millis = rest.number()?;
        let first_seen = rest.number()?;
        let Some(answer) = answer_of(rest.bytes()?, self.rid, fence, self.seal) else {
            return Some(UNREADABLE);
        };
        Some(if answer.body.is_some() {
            Found::Completed { answer, completed, age: now.saturating_sub(completed) }
        } else {
            Found::Gone { status: answer.status, first_seen }
        })
    }

    fn fence_of(value: &Value) -> Option<Fence> {
        // The stamp, the word, the state, and the fields in their order up to the fence.
        const PLACE: usize = 9;
        let mut words = Words::of(value)?;
        words.0.nth(PLACE - 1)?;
        words.number().map(Fence)
    }

    fn record(self, mut rest: Words<'_>) -> Option<(Record, State)> {
        let (stands, state) = (rest.state()?, rest.state()?);
        let contested = rest.text()? == "1";
        let claimant = claimant(&mut rest)?;
        let mut record = Record {
            state,
            claimant,
            lease_until: rest.number()?,
            first_seen: rest.number()?,
            completed: rest.number()?,
            attempts: rest.number()?,
            observed_status: rest.optional()?,
            doubt: rest.doubt()?,
            body_until: rest.number()?,
            keep_until: rest.number()?,
            contested,
            answer: None,
        };
        let status: Option<u16> = rest.optional()?;
        let bytes = rest.bytes()?;
        record.answer = match bytes {
            [] => status.map(Stored::bare),
            sealed => Some(answer_of(sealed, self.rid, record.claimant.fence, self.seal)?),
        };
        Some((record, stands))
    }
}

fn claimant(rest: &mut Words<'_>) -> Option<Claimant> {
    let (version, digest) = rest.bytes()?.split_first()?;
    let fingerprint = Fingerprint { version: *version, digest: digest.try_into().ok()? };
    let owner: [u8; 24] = rest.array()?;
    let (instance, epoch) = owner.split_first_chunk::<16>()?;
    Some(Claimant {
        fingerprint,
        owner: Owner { instance: *instance, epoch: u64::from_be_bytes(epoch.try_into().ok()?) },
        nonce: Nonce(rest.array()?),
        principal: Principal(rest.array()?),
        fence: Fence(rest.number()?),
    })
}

/// What the store remembers of itself; nothing when that is not to be understood.
pub(super) fn birth(value: &Value) -> Option<Birth> {
    let mut words = Words::of(value)?;
    let now = words.number()?;
    let mut parts = words.text()?.split(' ');
    if parts.next()? != "1" {
        return None;
    }
    Some(Birth {
        at: parts.next()?.parse().ok()?,
        now,
        secret: from_hex(parts.next()?.as_bytes())?,
        config: from_hex(parts.next()?.as_bytes())?,
    })
}
