//! What the tables of the file look like.

use redb::TableDefinition;

use crate::policy::idempotency::record::{Millis, Principal, Rid, State};
use crate::records::local::{Class, Share};

/// Records by name, as [`crate::records::codec`] writes them.
pub(super) const RECORDS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("records");

/// When each record has to be looked at again, and what it counts for. One row a record, so that
/// opening the file reads these and not the answers.
pub(super) const DUE: TableDefinition<'_, &[u8; KEY_LEN], &[u8; ROW_LEN]> =
    TableDefinition::new("due");

/// What the file remembers of itself.
pub(super) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");

/// The form of all tables. A file of another form is not guessed at.
pub(super) const FORM: u64 = 1;

/// A class, a time and a name.
pub(super) const KEY_LEN: usize = 1 + 8 + 32;
/// A principal, a state, an epoch and a size.
pub(super) const ROW_LEN: usize = 8 + 1 + 8 + 4;

/// When a record has to be looked at, and which; in the order of classes and times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) class: Class,
    pub(super) at: Millis,
    pub(super) rid: Rid,
}

impl Key {
    /// The first one of a class at a time.
    pub(super) const fn first(class: Class, at: Millis) -> Self {
        Self { class, at, rid: Rid([0; 32]) }
    }

    pub(super) fn to_bytes(self) -> [u8; KEY_LEN] {
        let mut bytes = [0; KEY_LEN];
        let (class, rest) = bytes.split_at_mut(1);
        let (at, rid) = rest.split_at_mut(8);
        class.fill(self.class as u8);
        at.copy_from_slice(&self.at.to_be_bytes());
        rid.copy_from_slice(&self.rid.0);
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; KEY_LEN]) -> Option<Self> {
        let (class, rest) = bytes.split_first()?;
        let (at, rest) = rest.split_first_chunk()?;
        let (rid, _) = rest.split_first_chunk()?;
        let class = [Class::Body, Class::Whole].into_iter().find(|one| *one as u8 == *class)?;
        Some(Self { class, at: u64::from_be_bytes(*at), rid: Rid(*rid) })
    }
}

/// What a record counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) principal: Principal,
    pub(super) state: State,
    /// The opening of the file in which it was claimed.
    pub(super) epoch: u64,
    /// What it takes of the file.
    pub(super) bytes: u32,
}

impl Row {
    /// How it is counted in an opening of the file: what an earlier one had in flight has lost its
    /// owner.
    pub(super) fn share(&self, epoch: u64) -> Share {
        let lost = self.state == State::InFlight && self.epoch != epoch;
        let state = if lost { State::Unknown } else { self.state };
        Share { principal: self.principal, state, bytes: self.bytes.into() }
    }

    pub(super) fn to_bytes(self) -> [u8; ROW_LEN] {
        let mut bytes = [0; ROW_LEN];
        let (principal, rest) = bytes.split_at_mut(8);
        let (state, rest) = rest.split_at_mut(1);
        let (epoch, size) = rest.split_at_mut(8);
        principal.copy_from_slice(&self.principal.0);
        state.fill(self.state as u8);
        epoch.copy_from_slice(&self.epoch.to_be_bytes());
        size.copy_from_slice(&self.bytes.to_be_bytes());
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8; ROW_LEN]) -> Option<Self> {
        let (principal, rest) = bytes.split_first_chunk()?;
        let (state, rest) = rest.split_first()?;
        let (epoch, rest) = rest.split_first_chunk()?;
        let (size, _) = rest.split_first_chunk()?;
        Some(Self {
            principal: Principal(*principal),
            state: *State::ALL.get(usize::from(*state))?,
            epoch: u64::from_be_bytes(*epoch),
            bytes: u32::from_be_bytes(*size),
        })
    }
}

/// What a record of so many bytes takes of the file, about: its place in two trees, whose pages
/// are two thirds full, or a page of its own, which is a power of two.
pub(super) fn size(encoded: usize) -> u32 {
    const BESIDE: usize = 160;
    const OWN_PAGE: usize = 2_048;
    let bytes = if encoded < OWN_PAGE {
        (encoded + BESIDE) * 3 / 2
    } else {
        (encoded + BESIDE).next_power_of_two()
    };
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
