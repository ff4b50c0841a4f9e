//! What a record is in etcd, and how time is read off it.
//!
//! etcd has no clock to ask, but it ends leases. So a record is up to four keys, and each time that
//! matters is a key that is there, or not any more:
//!
//! | key | what it holds | its lease |
//! |---|---|---|
//! | `r/` | the record without its answer | as long as the record is kept |
//! | `l/` | nothing | while its owner is taken to be at work |
//! | `g/` | nothing | that long, and the grace for a late owner |
//! | `b/` | the record with its answer | as long as the answer is kept |
//!
//! Dates in a record are by the clock of the proxy that wrote them. They are for people, and for
//! `Age`; before the machine sees a record, each is put right by its key: a time whose key is there
//! is not over, whatever the dates say, and one whose key is gone is. etcd's leases have whole
//! seconds, end up to a second late, and begin anew when another member becomes the leader: every
//! time lasts as long as asked, or longer.
//!
//! A claim's fence is the revision in which etcd wrote it. Only etcd knows that one, so the record
//! of a fresh claim says that its fence is its key's revision; what is written later names it.

use super::wire::{RangeResponse, RequestOp, ResponseOp};
use crate::policy::idempotency::record::{Entry, Fence, Millis, NEVER, Record, Rid, State, Stored};
use crate::records::codec::{self, Seal};

/// The form of the head before a record.
const VERSION: u8 = 1;
/// Version, whether the fence is the key's revision, the least fence, lease, grace.
const HEAD_LEN: usize = 2 + 3 * 8;
const SUM_LEN: usize = 8;

/// The keys of one record.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) record: Vec<u8>,
    pub(crate) lease: Vec<u8>,
    pub(crate) grace: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Keys {
    /// The keys under a prefix.
    pub(crate) fn new(prefix: &str, rid: &Rid) -> Self {
        let key = |part: &str| format!("{prefix}{part}/{rid}").into_bytes();
        Self { record: key("r"), lease: key("l"), grace: key("g"), body: key("b") }
    }

    /// Reads all of them, in this order.
    pub(crate) fn gets(&self) -> Vec<RequestOp> {
        let keys = [&self.record, &self.lease, &self.grace, &self.body];
        keys.into_iter().map(|key| RequestOp::get(key.clone())).collect()
    }
}

/// What stands before a record's own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Whether the fence is the revision of the key: nobody has written it since it was claimed.
    pub(crate) fresh: bool,
    /// The fence, or the least that it can be when it is the key's revision: a record that came
    /// back after the store had lost it may have a fence from a future.
    pub(crate) fence: Fence,
    /// The length of the lease, in milliseconds.
    pub(crate) lease: u64,
    /// The grace that `g/` adds to it, in milliseconds.
    pub(crate) grace: u64,
}

impl Head {
    /// Of no record.
    pub(crate) const NONE: Self = Self { fresh: false, fence: Fence(0), lease: 0, grace: 0 };

    fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::from(self.fresh)];
        for number in [self.fence.0, self.lease, self.grace] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    fn parse(bytes: &[u8; HEAD_LEN]) -> Option<Self> {
        let (start, numbers) = bytes.split_first_chunk::<2>()?;
        let [VERSION, fresh @ 0..=1] = *start else { return None };
        let mut numbers = numbers.chunks_exact(8).filter_map(|part| Some(*part.first_chunk()?));
        let mut number = || numbers.next().map(u64::from_be_bytes);
        let (fence, lease, grace) = (Fence(number()?), number()?, number()?);
        Some(Self { fresh: fresh == 1, fence, lease, grace })
    }
}

/// What was found under a record's keys.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// The record, as time has left it.
    pub(crate) entry: Entry,
    /// What stood before it.
    pub(crate) head: Head,
    /// The revision of the last write of `r/`; 0 when there is none.
    pub(crate) record_at: i64,
    /// The same of `l/`.
    pub(crate) lease_at: i64,
    /// Whether `g/` is there.
    grace_runs: bool,
    /// When it was read, by our clock.
    pub(crate) now: Millis,
    /// Not read: what we believe without having looked.
    pub(crate) assumed: bool,
}

impl View {
    /// The belief that there is nothing, which most claims find true.
    pub(crate) const fn nothing() -> Self {
        let head = Head::NONE;
        Self {
            entry: Entry::Absent,
            head,
            record_at: 0,
            lease_at: 0,
            grace_runs: false,
            now: 0,
            assumed: true,
        }
    }

    /// What the answers to [`Keys::gets`] say, at this time of ours.
    pub(crate) fn read(answers: &[ResponseOp], rid: &Rid, seal: &Seal, now: Millis) -> Self {
        let mut keys = answers.iter().map(|answer| first(answer.range.as_ref()));
        let mut next = || keys.next().flatten();
        let (record, lease, grace, body) = (next(), next(), next(), next());
        let mut view = Self { assumed: false, now, ..Self::nothing() };
        view.lease_at = lease.map_or(0, |key| key.mod_revision);
        let Some(key) = record else { return view };
        view.record_at = key.mod_revision;
        view.entry = Entry::Unreadable;
        let Some((head, mut record)) = decode(&key.value, rid, seal, key.mod_revision) else {
            return view;
        };
        view.head = head;
        if record.state == State::Completed
            && let Some(body) = body
        {
            match codec::decode(&body.value, rid, seal) {
                Entry::Record(whole) if whole.claimant == record.claimant => {
                    record.answer = whole.answer;
                }
                _ => return view,
            }
        }
        view.grace_runs = grace.is_some();
        let there = There { lease: lease.is_some(), body: body.is_some() };
        put_right(&mut record, &head, there, now);
        view.entry = Entry::Record(Box::new(record));
        view
    }

    /// The entry for a claim that may take over from a late owner: the grace too is what its key
    /// says. While that is there, the lease has ended just now; when it is gone, the lease ended
    /// as long ago as the grace was.
    pub(crate) fn for_takeover(&self, now: Millis) -> Entry {
        let mut entry = self.entry.clone();
        if let Entry::Record(record) = &mut entry
            && matches!(record.state, State::InFlight | State::Unknown)
            && record.lease_until <= now
        {
            let ago = if self.grace_runs { 0 } else { self.head.grace };
            record.lease_until = now.saturating_sub(ago);
        }
        entry
    }
}

/// Which of a record's keys are there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct There {
    pub(crate) lease: bool,
    pub(crate) body: bool,
}

fn first(answer: Option<&RangeResponse>) -> Option<&super::wire::KeyValue> {
    answer.and_then(|range| range.kvs.first())
}

/// A record as it is listed: without its answer's body.
pub(crate) fn listed(
    bytes: &[u8],
    at: i64,
    there: There,
    (rid, seal, now): (&Rid, &Seal, Millis),
) -> Entry {
    let Some((head, mut record)) = decode(bytes, rid, seal, at) else { return Entry::Unreadable };
    put_right(&mut record, &head, there, now);
    Entry::Record(Box::new(record))
}

/// A record's dates by what is there.
fn put_right(record: &mut Record, head: &Head, there: There, now: Millis) {
    let soon = now.saturating_add(1);
    let unknown_for = match record.keep_until {
        NEVER => NEVER,
        until => until.saturating_sub(record.lease_until),
    };
    // It would not be there if its time were over.
    record.keep_until = record.keep_until.max(soon);
    match record.state {
        State::InFlight if there.lease => {
            let latest = now.saturating_add(head.lease).max(soon);
            record.lease_until = record.lease_until.clamp(soon, latest);
            record.keep_until = record.lease_until.saturating_add(unknown_for);
        }
        State::InFlight => record.lease_until = record.lease_until.min(now),
        State::Completed if there.body => record.body_until = record.body_until.max(soon),
        State::Completed => record.body_until = record.body_until.min(now),
        State::Unknown | State::Retryable | State::Tombstone => {}
    }
}

fn decode(bytes: &[u8], rid: &Rid, seal: &Seal, at: i64) -> Option<(Head, Record)> {
    let (bytes, found) = bytes.split_last_chunk::<SUM_LEN>()?;
    let (head, record) = bytes.split_first_chunk::<HEAD_LEN>()?;
    if sum(rid, head) != *found {
        return None;
    }
    let head = Head::parse(head)?;
    let Entry::Record(mut record) = codec::decode(record, rid, seal) else { return None };
    record.claimant.fence = match head.fresh {
        true => Fence(u64::try_from(at).unwrap_or(0).max(head.fence.0)),
        false => head.fence,
    };
    Some((head, *record))
}

/// The head's own checksum; the record has one too.
fn sum(rid: &Rid, head: &[u8]) -> [u8; SUM_LEN] {
    let whole = codec::digest_of(VERSION, &[&rid.0, head]);
    whole.first_chunk().copied().unwrap_or_default()
}

/// The value of `r/`: a completed record goes without its answer but for the status.
///
/// # Errors
/// When the system has no randomness to give.
pub(crate) fn encode(
    record: &Record,
    head: Head,
    rid: &Rid,
    seal: &Seal,
) -> Result<Vec<u8>, codec::NoRandomness> {
    let mut bare = record.clone();
    bare.answer = bare.answer.map(|answer| Stored::bare(answer.status));
    let head = head.bytes();
    let sum = sum(rid, &head);
    let mut bytes = head;
    bytes.extend_from_slice(&codec::encode(&bare, rid, seal)?);
    bytes.extend_from_slice(&sum);
    Ok(bytes)
}

#[cfg(test)]
mod tests;
