//! Results in memory, when there is no file for them.

use std::collections::BTreeMap;

use super::{Counts, Late, OLDEST_MAX, Oldest, Place, full, size};
use crate::policy::idempotency::record::Millis;
use crate::records::Cause;
use crate::records::local::Time;

/// Results, and when each is over.
#[derive(Debug)]
pub(super) struct Results {
    time: Time,
    next: u64,
    bytes: u64,
    all: BTreeMap<Place, (Late, Millis)>,
}

impl Default for Results {
    fn default() -> Self {
        Self { time: Time::not_before(0), next: 0, bytes: 0, all: BTreeMap::new() }
    }
}

impl Results {
    pub(super) fn push(&mut self, late: Late, counts: &Counts) -> Result<(), Cause> {
        self.purge(counts);
        let more = size(&late);
        if !counts.has_room(more) {
            return Err(full());
        }
        let over = self.time.now().saturating_add(late.retention.key);
        self.bytes = self.bytes.saturating_add(more);
        self.all.insert(Place(self.next), (late, over));
        self.next += 1;
        self.count(counts);
        Ok(())
    }

    pub(super) fn oldest(&mut self, most: usize, counts: &Counts) -> Oldest {
        self.purge(counts);
        let oldest = self.all.iter().take(most.min(OLDEST_MAX));
        oldest.map(|(place, (late, _))| (*place, late.clone())).collect()
    }

    pub(super) fn remove(&mut self, places: &[Place], counts: &Counts) {
        for place in places {
            if let Some((late, _)) = self.all.remove(place) {
                self.bytes = self.bytes.saturating_sub(size(&late));
            }
        }
        self.count(counts);
    }

    /// Drops what is over. All of it is looked at: there is seldom any, and never much.
    fn purge(&mut self, counts: &Counts) {
        let now = self.time.now();
        let over: Vec<_> = self
            .all
            .iter()
            .filter(|(_, (_, over))| *over <= now)
            .map(|(place, _)| *place)
            .collect();
        over.iter().for_each(|_| counts.drop_one());
        self.remove(&over, counts);
    }

    fn count(&self, counts: &Counts) {
        counts.set(u64::try_from(self.all.len()).unwrap_or(u64::MAX), self.bytes);
    }
}
