//! What part of the database one principal has, so that none takes all of it: advice, as it is
//! counted now and then, and in the background.
//!
//! Nobody can have more than a tenth of the room while less than a tenth is in use; until then
//! nothing is counted. Beyond it, a principal's part is taken to be the part of all records that
//! are its own: the key `p/`, principal and name, is there as long as the record is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::cluster::{Cluster, Trouble};
use super::wire::{RANGE, RangeRequest, RangeResponse};
use crate::clock;
use crate::policy::idempotency::machine::Room;
use crate::policy::idempotency::record::{Principal, Rid};
use crate::shared::Shared;

/// What etcd lets a database take unless it is told otherwise; servers before 3.6 do not say.
const ROOM_DEFAULT: u64 = 2 << 30;
/// A principal may have one of so many parts of the room.
const PARTS: u64 = 10;
/// How long a count is good for. A principal cannot fill much in that time.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// The longest a count may take; it walks over all names.
const COUNT_MAX: Duration = Duration::from_secs(5);
/// The most principals that are remembered; beyond, all are counted anew.
const REMEMBERED_MAX: usize = 4_096;

/// The parts of the principals that this proxy has met.
pub(crate) struct Shares {
    cluster: Arc<Cluster>,
    handle: Handle,
    prefix: Box<str>,
    in_use: AtomicU64,
    room: AtomicU64,
    /// One count at a time.
    counting: AtomicBool,
    counted: Shared<HashMap<Principal, Count>>,
}

#[derive(Clone, Copy)]
struct Count {
    own: u64,
    all: u64,
    at: Instant,
}

impl Shares {
    /// Nothing is known yet.
    pub(crate) fn new(cluster: Arc<Cluster>, handle: Handle, prefix: &str) -> Arc<Self> {
        Arc::new(Self {
            cluster,
            handle,
            prefix: prefix.into(),
            in_use: AtomicU64::new(0),
            room: AtomicU64::new(ROOM_DEFAULT),
            counting: AtomicBool::new(false),
            counted: Shared::default(),
        })
    }

    /// What the database takes, and may take where that is known.
    pub(crate) fn measured(&self, in_use: i64, room: i64) {
        self.in_use.store(u64::try_from(in_use).unwrap_or(0), Ordering::Relaxed);
        let room = u64::try_from(room).ok().filter(|room| *room > 0);
        self.room.store(room.unwrap_or(ROOM_DEFAULT), Ordering::Relaxed);
    }

    /// What the database takes, in bytes.
    pub(crate) fn in_use(&self) -> u64 {
        self.in_use.load(Ordering::Relaxed)
    }

    /// Whether a principal may have one more record, as far as is known now.
    pub(crate) fn room(self: &Arc<Self>, principal: Principal) -> Room {
        let (in_use, room) = (self.in_use(), self.room.load(Ordering::Relaxed));
        if principal == Principal::ALL || !is_over(1, 1, in_use, room) {
            return Room::Free;
        }
        let count = self.counted.lock().get(&principal).copied();
        let good = |count: &Count| clock::now().saturating_duration_since(count.at) < GOOD_FOR;
        if !count.as_ref().is_some_and(good) && !self.counting.swap(true, Ordering::AcqRel) {
            let shares = Arc::clone(self);
            self.handle.spawn(async move {
                // What cannot be counted now is counted when it is asked for again.
                let _ = shares.count(principal).await;
                shares.counting.store(false, Ordering::Release);
            });
        }
        match count {
            Some(Count { own, all, .. }) if is_over(own, all, in_use, room) => Room::Quota,
            _ => Room::Free,
        }
    }

    async fn count(&self, principal: Principal) -> Result<(), Trouble> {
        let own = self.count_under(&format!("{}p/{principal:?}", self.prefix)).await?;
        let all = self.count_under(&format!("{}r", self.prefix)).await?;
        let mut counted = self.counted.lock();
        if counted.len() >= REMEMBERED_MAX {
            counted.clear();
        }
        counted.insert(principal, Count { own, all, at: clock::now() });
        Ok(())
    }

    /// How many keys there are under a name and its slash.
    async fn count_under(&self, name: &str) -> Result<u64, Trouble> {
        let question = RangeRequest {
            // After "/" comes "0".
            range_end: format!("{name}0").into_bytes(),
            count_only: true,
            ..RangeRequest::of(format!("{name}/").into_bytes())
        };
        let deadline = clock::now() + COUNT_MAX;
        let answer: RangeResponse = self.cluster.ask(RANGE, &question, deadline).await?;
        Ok(u64::try_from(answer.count).unwrap_or(0))
    }
}

/// Whether so many of all records, in a database of which so much is in use, take more than a
/// principal's part of the room.
fn is_over(own: u64, all: u64, in_use: u64, room: u64) -> bool {
    (u128::from(own) * u128::from(in_use)).saturating_mul(u128::from(PARTS))
        > u128::from(room) * u128::from(all.max(1))
}

/// The key by which a principal's record is counted.
pub(crate) fn key(prefix: &str, principal: Principal, rid: &Rid) -> Vec<u8> {
    format!("{prefix}p/{principal:?}/{rid}").into_bytes()
}

#[cfg(test)]
mod tests;
