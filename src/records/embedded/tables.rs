//! One transaction: records, and what is known of them by time and principal.

use redb::{ReadableTable, StorageError, Table, WriteTransaction};

use super::opened::Opened;
use super::rows::{DUE, KEY_LEN, Key, META, RECORDS, ROW_LEN, Row, size};
use crate::policy::idempotency::machine::{
    self, Around, Change, Claim, Claimed, Room, Settle, Settled, Stands, shed, stands,
};
use crate::policy::idempotency::record::{Entry, Fence, Millis, NEVER, Principal, Record, Rid};
use crate::policy::idempotency::record::{State, Stored};
use crate::records::codec;
use crate::records::local::{Class, appointment};

/// What a claim takes until it is completed, about.
const CLAIM_SIZE: usize = 200;
/// The most records that are looked at for room in one transaction.
const RELIEF_ROWS: usize = 1_000;
/// More is shed than is needed at the moment, by this share of the whole, so that a full store
/// does not shed for every claim.
const RELIEF_SHARE: u64 = 256;

type Records<'t> = Table<'t, &'static [u8; 32], &'static [u8]>;
type Due<'t> = Table<'t, &'static [u8; KEY_LEN], &'static [u8; ROW_LEN]>;

/// The tables of a transaction that is being written.
pub(super) struct Tables<'t> {
    records: Records<'t>,
    due: Due<'t>,
    opened: &'t Opened,
    /// Something has been changed.
    touched: bool,
    /// What is over has been purged in this transaction: once is enough.
    purged: bool,
    /// There is no more room to be made.
    exhausted: bool,
}

impl<'t> Tables<'t> {
    pub(super) fn open(
        transaction: &'t WriteTransaction,
        opened: &'t Opened,
    ) -> Result<Self, redb::Error> {
        let records = transaction.open_table(RECORDS)?;
        let due = transaction.open_table(DUE)?;
        Ok(Self { records, due, opened, touched: false, purged: false, exhausted: false })
    }

    /// Writes down how far time and fences have come.
    pub(super) fn mark(
        transaction: &WriteTransaction,
        now: Millis,
        fence: Fence,
    ) -> Result<(), redb::Error> {
        let mut meta = transaction.open_table(META)?;
        meta.insert("time", now.to_be_bytes().as_slice())?;
        meta.insert("fence", fence.0.to_be_bytes().as_slice())?;
        Ok(())
    }

    /// Whether anything has been changed.
    pub(super) const fn is_touched(&self) -> bool {
        self.touched
    }

    fn entry(&self, rid: &Rid) -> Result<Entry, StorageError> {
        Ok(match self.records.get(&rid.0)? {
            Some(bytes) => codec::decode(bytes.value(), rid, &self.opened.seal),
            None => Entry::Absent,
        })
    }

    fn around(&self, room: Room) -> Around {
        let (now, epoch) = (self.opened.time.now(), Some(self.opened.epoch));
        Around { now, next_fence: Fence(0), epoch, room }
    }

    fn room(&self, principal: Principal) -> Room {
        match self.opened.usage.lock().room(principal, size(CLAIM_SIZE).into()) {
            Room::Quota => Room::Quota,
            Room::Full => Room::Full,
            // The disk is full, whatever the records take.
            Room::Free if self.opened.reserve.is_spent() => Room::Full,
            Room::Free => Room::Free,
        }
    }

    /// A claim; and whether it has changed anything.
    pub(super) fn claim(
        &mut self,
        rid: &Rid,
        claim: &Claim,
    ) -> Result<(Claimed, bool), StorageError> {
        let mut claim = *claim;
        claim.owner.epoch = self.opened.epoch;
        loop {
            let entry = self.entry(rid)?;
            let around = Around {
                next_fence: self.opened.fences.next(&self.opened.time),
                ..self.around(self.room(claim.principal))
            };
            match machine::claim(&entry, &claim, &around) {
                (_, Claimed::Full) if !self.exhausted => {
                    self.relieve(size(CLAIM_SIZE).into())?;
                }
                (_, Claimed::Quota) if !self.purged => self.purge_once()?,
                (Change::Put(record), answer) => {
                    self.put(rid, &entry, &record)?;
                    return Ok((answer, true));
                }
                (_, answer) => return Ok((answer, false)),
            }
        }
    }

    /// A change; and whether it has changed anything.
    pub(super) fn settle(
        &mut self,
        rid: &Rid,
        settle: &Settle,
    ) -> Result<(Settled, bool), StorageError> {
        let mut entry = self.entry(rid)?;
        let (mut change, mut answer) = machine::settle(&entry, settle, &self.around(Room::Free));
        if let Change::Put(record) = &change
            && self.grows_over(record)
            && !self.exhausted
        {
            self.relieve(body_size(record))?;
            entry = self.entry(rid)?;
            (change, answer) = machine::settle(&entry, settle, &self.around(Room::Free));
        }
        match change {
            Change::Keep => return Ok((answer, false)),
            Change::Remove => self.remove(rid, &entry)?,
            Change::Put(mut record) => {
                // That it was executed is kept in any case; how it was answered is not.
                if self.grows_over(&record)
                    && let Some(answer) = &mut record.answer
                {
                    answer.body = None;
                    self.opened.dropped.shed();
                }
                let before = match &entry {
                    Entry::Record(before) => Some(&**before),
                    Entry::Absent | Entry::Unreadable => None,
                };
                self.opened.dropped.changed(before, &record);
                self.opened.fences.reach(record.claimant.fence);
                self.put(rid, &entry, &record)?;
            }
        }
        Ok((answer, true))
    }

    /// Whether the body of an answer is more than there is room for.
    fn grows_over(&self, record: &Record) -> bool {
        let bytes = body_size(record);
        let full = self.opened.usage.lock().over(bytes) > 0;
        bytes > 0 && record.state == State::Completed && full
    }

    fn put(&mut self, rid: &Rid, before: &Entry, record: &Record) -> Result<(), StorageError> {
        let bytes = codec::encode(record, rid, &self.opened.seal).map_err(|_| {
            StorageError::Io(std::io::Error::other("the system has no randomness to give"))
        })?;
        self.touched = true;
        self.leave(rid, before)?;
        self.records.insert(&rid.0, bytes.as_slice())?;
        let (class, at) = appointment(record);
        let row = Row {
            principal: record.claimant.principal,
            state: record.state,
            epoch: record.claimant.owner.epoch,
            bytes: size(bytes.len()),
        };
        self.due.insert(&Key { class, at, rid: *rid }.to_bytes(), &row.to_bytes())?;
        self.count(None, Some(&row));
        Ok(())
    }

    fn remove(&mut self, rid: &Rid, before: &Entry) -> Result<(), StorageError> {
        self.touched = true;
        self.leave(rid, before)?;
        self.records.remove(&rid.0)?;
        Ok(())
    }

    /// Takes the row of what was there away. That of a record which cannot be read is not known;
    /// it is found when its time comes.
    fn leave(&mut self, rid: &Rid, before: &Entry) -> Result<(), StorageError> {
        if let Entry::Record(before) = before {
            let (class, at) = appointment(before);
            self.leave_row(&Key { class, at, rid: *rid })?;
        }
        Ok(())
    }

    fn leave_row(&mut self, key: &Key) -> Result<(), StorageError> {
        self.touched = true;
        let row = self.due.remove(&key.to_bytes())?.and_then(|row| Row::from_bytes(row.value()));
        self.count(row.as_ref(), None);
        Ok(())
    }

    fn count(&self, before: Option<&Row>, after: Option<&Row>) {
        let share = |row: Option<&Row>| row.map(|row| row.share(self.opened.epoch));
        self.opened.usage.lock().replace(share(before).as_ref(), share(after).as_ref());
    }

    /// Makes room: what is over goes, and then the oldest bodies.
    fn relieve(&mut self, bytes: u64) -> Result<(), StorageError> {
        // On a full disk nothing is gained by what the file could hold.
        self.exhausted = self.opened.reserve.is_spent();
        self.purge_once()?;
        let wanted = bytes.saturating_add(self.opened.limits.bytes / RELIEF_SHARE);
        if self.exhausted || self.opened.usage.lock().over(wanted) == 0 {
            return Ok(());
        }
        for key in self.keys(Class::Body, NEVER, RELIEF_ROWS)? {
            if self.opened.usage.lock().over(wanted) == 0 {
                break;
            }
            let entry = self.entry(&key.rid)?;
            if let Entry::Record(record) = &entry
                && appointment(record) == (key.class, key.at)
            {
                self.put(&key.rid, &entry, &shed((**record).clone()))?;
                self.opened.dropped.shed();
            }
        }
        self.exhausted = self.opened.usage.lock().over(wanted) > 0;
        Ok(())
    }

    fn purge_once(&mut self) -> Result<(), StorageError> {
        self.purged = true;
        self.purge(RELIEF_ROWS).map(|_| ())
    }

    /// The first of a class, up to a time.
    fn keys(&self, class: Class, until: Millis, most: usize) -> Result<Vec<Key>, StorageError> {
        let from = Key::first(class, 0).to_bytes();
        let to = Key::first(class, until).to_bytes();
        let mut keys = Vec::new();
        for row in self.due.range::<&[u8; KEY_LEN]>(&from..&to)?.take(most) {
            keys.extend(Key::from_bytes(row?.0.value()));
        }
        Ok(keys)
    }

    /// Looks at no more than so many records that time has changed; how many it were.
    pub(super) fn purge(&mut self, most: usize) -> Result<usize, StorageError> {
        let now = self.opened.time.now();
        // Both classes have their turn, however much there is of the other.
        let mut keys = self.keys(Class::Whole, now.saturating_add(1), most.div_ceil(2))?;
        let left = most.saturating_sub(keys.len());
        keys.extend(self.keys(Class::Body, now.saturating_add(1), left)?);
        for key in &keys {
            self.purge_one(key, now)?;
        }
        Ok(keys.len())
    }

    fn purge_one(&mut self, key: &Key, now: Millis) -> Result<(), StorageError> {
        let entry = self.entry(&key.rid)?;
        match &entry {
            Entry::Record(record) if appointment(record) == (key.class, key.at) => {
                match stands(record, now, Some(self.opened.epoch)) {
                    Stands::Over(state) => {
                        self.opened.dropped.over(state);
                        self.remove(&key.rid, &entry)
                    }
                    Stands::In(State::Tombstone) => {
                        self.put(&key.rid, &entry, &shed((**record).clone()))
                    }
                    // Nothing else has a time that is not its end; were it so, every question
                    // would still see its end.
                    Stands::In(_) => self.leave_row(key),
                }
            }
            // Nobody but an operator removes what cannot be read.
            Entry::Unreadable => self.postpone(key),
            // The row of a record that was unreadable when it was removed.
            _ => self.leave_row(key),
        }
    }

    fn postpone(&mut self, key: &Key) -> Result<(), StorageError> {
        self.touched = true;
        let row = self.due.remove(&key.to_bytes())?.and_then(|row| Row::from_bytes(row.value()));
        if let Some(row) = row {
            let after = Row { state: State::Unknown, ..row };
            let key = Key { class: Class::Whole, at: NEVER, rid: key.rid };
            self.due.insert(&key.to_bytes(), &after.to_bytes())?;
            self.count(Some(&row), Some(&after));
        }
        Ok(())
    }
}

/// What the body of an answer would take.
fn body_size(record: &Record) -> u64 {
    match record.answer.as_ref().map(Stored::bytes) {
        Some(bytes) if bytes > 0 => size(bytes).into(),
        _ => 0,
    }
}
