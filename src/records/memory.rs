//! Records in this process's memory: nothing survives its end, nothing is shared.
//!
//! Records lie in shards, each behind a lock that is held for one step of the machine and never
//! over an await; replies are ready when they are made. Room is counted for all shards together.
//! When there is none, what is over is purged, then the oldest bodies are shed, and then new keys
//! are refused; a record whose time is not over is never dropped.
//!
//! What is over is purged a little at a time by whatever call comes by, and is absent for every
//! question from the instant on at which it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use super::codec::NoRandomness;
use super::local::{Bells, Class, Dropped, Fences, Limits, Share, Time, Usage};
use super::local::{appointment, place, secret, seen};
use super::{Birth, Durability, Guarantee, Health, PAGE_MAX, Page, Reply, Seen, Store, Wanted};
use crate::config::store::Memory as Settings;
use crate::policy::idempotency::machine::{
    self, Around, Change, Claim, Claimed, Found, Room, Settle, Settled, Stands, shed, stands,
};
use crate::policy::idempotency::record::{
    Entry, Fence, Fingerprint, Millis, Record, Rid, State, Stored,
};
use crate::shared::Shared;

/// So many locks that workers seldom meet.
const SHARDS: usize = 16;
/// What a record takes besides its answer: itself, its place in two trees, its principal's count.
const OVERHEAD: u64 = 512;
/// How often what is over is looked for, in milliseconds.
const SWEEP_EVERY: u64 = 100;
/// The most records that one sweep looks at, so that the call that makes it is not held up.
const SWEEP_ROWS: usize = 256;
/// The most records that are looked at for room.
const RELIEF_ROWS: usize = 1_000;
/// More is shed than is needed at the moment, by this share of the whole, so that a full store
/// does not shed for every claim.
const RELIEF_SHARE: u64 = 256;

/// A store in memory.
#[derive(Debug)]
pub struct Memory {
    shards: Box<[Shared<Shard>]>,
    usage: Shared<Usage>,
    limits: Limits,
    bells: Bells,
    fences: Fences,
    time: Time,
    birth: Birth,
    dropped: Dropped,
    /// When the last sweep was.
    swept: AtomicU64,
    /// The shard that the next one looks at.
    turn: AtomicUsize,
}

#[derive(Debug, Default)]
struct Shard {
    /// Records alone: what is absent is not in it, and nothing here is unreadable.
    records: BTreeMap<Rid, Entry>,
    appointments: BTreeSet<(Class, Millis, Rid)>,
}

fn share(record: &Record) -> Share {
    let answer = record.answer.as_ref().map_or(0, Stored::bytes);
    let bytes = OVERHEAD.saturating_add(u64::try_from(answer).unwrap_or(u64::MAX));
    Share { principal: record.claimant.principal, state: record.state, bytes }
}

/// What came of trying a change.
enum Tried<T> {
    Done(T),
    /// There is no room.
    NoRoom(Wants),
}

/// What would make room.
enum Wants {
    /// So many bytes.
    Bytes(u64),
    /// The end of any record.
    Entry,
}

impl Memory {
    /// An empty store. `config` is what its proxies must have in common; see
    /// [`super::Common::config`].
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn open(settings: &Settings, config: [u8; 32]) -> Result<Self, NoRandomness> {
        let limits =
            Limits { entries: settings.max_entries.into(), bytes: settings.max_bytes.get() };
        let time = Time::not_before(0);
        let now = time.now();
        Ok(Self {
            shards: (0..SHARDS).map(|_| Shared::default()).collect(),
            usage: Shared::new(Usage::new(limits)),
            limits,
            bells: Bells::default(),
            fences: Fences::default(),
            time,
            birth: Birth { at: now, now, secret: secret()?, config },
            dropped: Dropped::default(),
            swept: AtomicU64::new(now),
            turn: AtomicUsize::new(0),
        })
    }

    fn around(&self) -> Around {
        let next_fence = Fence(0);
        Around { now: self.time.now(), next_fence, epoch: None, room: Room::Free }
    }

    fn with<T>(&self, rid: &Rid, f: impl FnOnce(&mut Shard) -> T) -> Option<T> {
        self.shards.get(place(rid, self.shards.len())).map(|shard| f(&mut shard.lock()))
    }

    fn claim_now(&self, rid: Rid, claim: &Claim) -> Claimed {
        self.sweep();
        // The first time there may be no room, and then some is made.
        for last in [false, true] {
            let tried = self.with(&rid, |shard| self.try_claim(shard, rid, claim, last));
            match tried {
                Some(Tried::Done(answer)) => {
                    if matches!(answer, Claimed::Acquired { .. }) {
                        self.bells.ring(&rid);
                    }
                    return answer;
                }
                Some(Tried::NoRoom(wants)) => self.relieve(&wants),
                None => break,
            }
        }
        Claimed::Full
    }

    fn try_claim(&self, shard: &mut Shard, rid: Rid, claim: &Claim, last: bool) -> Tried<Claimed> {
        let mut usage = self.usage.lock();
        let around = Around {
            next_fence: self.fences.next(&self.time),
            room: usage.room(claim.principal, OVERHEAD),
            ..self.around()
        };
        match machine::claim(shard.entry(&rid), claim, &around) {
            (_, Claimed::Full) if !last => Tried::NoRoom(Wants::Bytes(OVERHEAD)),
            (_, Claimed::Quota) if !last => Tried::NoRoom(Wants::Entry),
            (Change::Put(record), answer) => {
                shard.put(rid, record, &mut usage);
                Tried::Done(answer)
            }
            (_, answer) => Tried::Done(answer),
        }
    }

    fn settle_now(&self, rid: Rid, settle: &Settle) -> Settled {
        self.sweep();
        for last in [false, true] {
            match self.with(&rid, |shard| self.try_settle(shard, rid, settle, last)) {
                Some(Tried::Done(answer)) => {
                    self.bells.ring(&rid);
                    return answer;
                }
                Some(Tried::NoRoom(wants)) => self.relieve(&wants),
                None => break,
            }
        }
        Settled::Fenced { current: None }
    }

    fn try_settle(
        &self,
        shard: &mut Shard,
        rid: Rid,
        settle: &Settle,
        last: bool,
    ) -> Tried<Settled> {
        let (change, answer) = machine::settle(shard.entry(&rid), settle, &self.around());
        let mut usage = self.usage.lock();
        match change {
            Change::Keep => {}
            Change::Remove => shard.remove(&rid, &mut usage),
            Change::Put(mut record) => {
                let before = shard.record(&rid);
                let held = before.map_or(0, |record| share(record).bytes);
                let more = share(&record).bytes.saturating_sub(held);
                if more > 0 && usage.over(more) > 0 {
                    if !last {
                        return Tried::NoRoom(Wants::Bytes(more));
                    }
                    // That it was executed is kept in any case; how it was answered is not.
                    if let Some(answer) = &mut record.answer {
                        answer.body = None;
                        self.dropped.shed();
                    }
                }
                self.dropped.changed(before, &record);
                self.fences.reach(record.claimant.fence);
                shard.put(rid, record, &mut usage);
            }
        }
        Tried::Done(answer)
    }

    /// Makes room: what is over goes, and then the oldest bodies.
    fn relieve(&self, wants: &Wants) {
        let now = self.time.now();
        let mut left = RELIEF_ROWS;
        for shard in &self.shards {
            left -= self.purge(&mut shard.lock(), now, left);
        }
        let Wants::Bytes(bytes) = wants else { return };
        let wanted = bytes.saturating_add(self.limits.bytes / RELIEF_SHARE);
        let mut left = RELIEF_ROWS;
        while left > 0 && self.usage.lock().over(wanted) > 0 {
            left -= 1;
            let oldest = self.shards.iter().filter_map(|shard| shard.lock().oldest_body()).min();
            let Some((_, rid)) = oldest else { return };
            self.with(&rid, |shard| {
                // Somebody may have changed it in between; then the next round looks again.
                if shard.oldest_body() == oldest
                    && let Some(record) = shard.record(&rid)
                {
                    let record = shed(record.clone());
                    shard.put(rid, Box::new(record), &mut self.usage.lock());
                    self.dropped.shed();
                }
            });
        }
    }

    /// A step of the periodic purge, when it is time for one.
    fn sweep(&self) {
        let now = self.time.now();
        let last = self.swept.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) >= SWEEP_EVERY;
        let order = Ordering::Relaxed;
        if !due || self.swept.compare_exchange(last, now, order, order).is_err() {
            return;
        }
        let mut left = SWEEP_ROWS;
        for _ in 0..self.shards.len() {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % SHARDS;
            if let Some(shard) = self.shards.get(turn) {
                left -= self.purge(&mut shard.lock(), now, left);
            }
            if left == 0 {
                return;
            }
        }
    }

    /// Looks at no more than so many records that time may have changed; how many it were.
    fn purge(&self, shard: &mut Shard, now: Millis, most: usize) -> usize {
        let mut done = 0;
        while done < most {
            let Some(rid) = shard.due(now) else { break };
            done += 1;
            let Some(record) = shard.record(&rid) else { break };
            let mut usage = self.usage.lock();
            match stands(record, now, None) {
                Stands::Over(state) => {
                    self.dropped.over(state);
                    shard.remove(&rid, &mut usage);
                }
                Stands::In(State::Tombstone) => {
                    let record = shed(record.clone());
                    shard.put(rid, Box::new(record), &mut usage);
                }
                // Nothing else has an appointment that is not its end; if it had, its end would
                // still be seen by every question.
                Stands::In(_) => {
                    let (class, at) = appointment(record);
                    shard.appointments.remove(&(class, at, rid));
                }
            }
        }
        done
    }

    fn list_now(&self, wanted: &Wanted) -> Page {
        use std::ops::Bound::{Excluded, Unbounded};
        let now = self.time.now();
        let limit = wanted.limit.min(PAGE_MAX);
        let from = wanted.after.map_or(Unbounded, Excluded);
        let mut records: Vec<_> = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let some = shard.records.range((from, Unbounded)).filter_map(|(rid, entry)| {
                let seen = seen(entry.clone(), now, None);
                seen.state.filter(|state| wanted.states.contains(state)).map(|_| (*rid, seen))
            });
            // One more than the page, to know whether there is a next one.
            records.extend(some.take(limit + 1));
        }
        records.sort_unstable_by_key(|(rid, _)| *rid);
        let more = records.len() > limit;
        records.truncate(limit);
        let next = records.last().filter(|_| more).map(|(rid, _)| *rid);
        Page { records, next }
    }
}

impl Shard {
    fn entry(&self, rid: &Rid) -> &Entry {
        self.records.get(rid).unwrap_or(&Entry::Absent)
    }

    fn record(&self, rid: &Rid) -> Option<&Record> {
        match self.entry(rid) {
            Entry::Record(record) => Some(record),
            Entry::Absent | Entry::Unreadable => None,
        }
    }

    fn put(&mut self, rid: Rid, record: Box<Record>, usage: &mut Usage) {
        self.remove(&rid, usage);
        let (class, at) = appointment(&record);
        self.appointments.insert((class, at, rid));
        usage.replace(None, Some(&share(&record)));
        self.records.insert(rid, Entry::Record(record));
    }

    fn remove(&mut self, rid: &Rid, usage: &mut Usage) {
        if let Some(Entry::Record(before)) = self.records.remove(rid) {
            let (class, at) = appointment(&before);
            self.appointments.remove(&(class, at, *rid));
            usage.replace(Some(&share(&before)), None);
        }
    }

    /// A record of which time has made something else.
    fn due(&self, now: Millis) -> Option<Rid> {
        let body = self.appointments.first();
        let whole = self.appointments.range((Class::Whole, 0, Rid([0; 32]))..).next();
        body.into_iter().chain(whole).find(|(_, at, _)| *at <= now).map(|(_, _, rid)| *rid)
    }

    fn oldest_body(&self) -> Option<(Millis, Rid)> {
        let (class, at, rid) = self.appointments.first()?;
        (*class == Class::Body).then_some((*at, *rid))
    }
}

impl Store for Memory {
    fn peek(&self, rid: Rid, fingerprint: Fingerprint, _: Instant) -> Reply<Option<Found>> {
        let found =
            self.with(&rid, |shard| machine::peek(shard.entry(&rid), &fingerprint, &self.around()));
        Box::pin(ready(Ok(found.flatten())))
    }

    fn claim(&self, rid: Rid, claim: Claim, _: Instant) -> Reply<Claimed> {
        Box::pin(ready(Ok(self.claim_now(rid, &claim))))
    }

    fn settle(&self, rid: Rid, settle: Settle, _: Instant) -> Reply<Settled> {
        Box::pin(ready(Ok(self.settle_now(rid, &settle))))
    }

    fn read(&self, rid: Rid, _: Instant) -> Reply<Seen> {
        let found = self.with(&rid, |shard| seen(shard.entry(&rid).clone(), self.time.now(), None));
        Box::pin(ready(Ok(found.unwrap_or_else(|| seen(Entry::Absent, self.time.now(), None)))))
    }

    fn list(&self, wanted: Wanted, _: Instant) -> Reply<Page> {
        Box::pin(ready(Ok(self.list_now(&wanted))))
    }

    fn changed(&self, rid: Rid) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        self.bells.wait(&rid)
    }

    fn birth(&self, _: Instant) -> Reply<Birth> {
        Box::pin(ready(Ok(Birth { now: self.time.now(), ..self.birth })))
    }

    fn guarantee(&self) -> Guarantee {
        Guarantee { durability: Durability::None, shared: false, consistent: true }
    }

    fn health(&self) -> Health {
        self.sweep();
        let usage = self.usage.lock();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Health {
            ready: true,
            problem: None,
            entries: usage.states(),
            bytes: usage.bytes(),
            bodies_shed: count(&self.dropped.bodies_shed),
            tombstones_purged: count(&self.dropped.tombstones),
            unknown_expired: count(&self.dropped.unknown),
            weak: 0,
            contested: count(&self.dropped.contested),
        }
    }
}

#[cfg(test)]
mod tests;
