//! Leases of etcd, shared.
//!
//! A lease costs the cluster a write, and its end costs one for all keys that hang on it. So
//! records share leases: whoever needs one of at least so many seconds within the same slot of time
//! gets the same, granted for the slot besides. A slot is a thirty-second part of the length, one
//! second at least: each proxy has a few dozen leases for each length in use, however many records,
//! and one more for every thousand keys of a slot, so that no end takes long.
//!
//! Lengths above half a minute are rounded up to a thirty-second part too: what a lease keeps is
//! kept at least as long as asked, and up to six per cent longer. So there are at most 32 lengths
//! for each power of two.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::cluster::{Cluster, Remedy, Trouble};
use super::wire::{LEASE_GRANT, LeaseGrantRequest, LeaseGrantResponse};
use crate::clock;
use crate::records::{Cause, Kind};
use crate::shared::Shared;

/// The most keys on one lease.
const KEYS_MAX: u32 = 1_000;
/// The parts that a length is divided into: for slots, and for rounding.
const PARTS: u64 = 32;
/// The longest lease, in seconds: what etcd grants at most.
const SECONDS_MAX: u64 = 9_000_000_000;
/// A grant may last longer than one operation that waits for it; the next one then has it.
const GRANT_MAX: Duration = Duration::from_secs(2);

/// Leases for keys.
pub(crate) struct Leases {
    cluster: Arc<Cluster>,
    handle: Handle,
    classes: Shared<HashMap<u64, Class>>,
}

/// A lease to hang a key on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Its number in etcd; 0 for none, which never ends.
    pub(crate) id: i64,
    /// It was granted for so many seconds.
    pub(crate) granted: u64,
}

/// No lease: the key stays.
pub(crate) const NO_LEASE: Lease = Lease { id: 0, granted: 0 };

/// How a grant ended, once it has.
type Granted = Option<Result<(), Trouble>>;

/// The leases of one length.
#[derive(Default)]
struct Class {
    open: Option<Slot>,
    granting: Option<watch::Receiver<Granted>>,
}

/// The lease that keys are hung on now.
struct Slot {
    lease: Lease,
    keys: u32,
    /// Taken before the grant was asked for, and so never after the lease began.
    began: Instant,
    /// The same by the wall clock, which goes on while a machine is suspended.
    began_wall: SystemTime,
    /// Until then it has the length that its class promises.
    lasts: Duration,
}

impl Slot {
    /// How much of the slot is over, if it still has the promised length for one more key.
    fn used(&self) -> Option<Duration> {
        let passed = clock::now().saturating_duration_since(self.began);
        let wall = clock::wall_now().duration_since(self.began_wall).ok()?;
        let used = passed.max(wall);
        (used < self.lasts && self.keys < KEYS_MAX).then_some(used)
    }
}

impl Leases {
    /// None yet.
    pub(crate) fn new(cluster: Arc<Cluster>, handle: Handle) -> Arc<Self> {
        Arc::new(Self { cluster, handle, classes: Shared::default() })
    }

    /// A lease that has at least so many milliseconds left.
    pub(crate) async fn of(
        self: &Arc<Self>,
        millis: u64,
        deadline: Instant,
    ) -> Result<Lease, Trouble> {
        let seconds = class_of(millis);
        loop {
            let mut granting = match self.take(seconds) {
                Ok(lease) => return Ok(lease),
                Err(granting) => granting,
            };
            match clock::until(deadline, granting.wait_for(Option::is_some)).await {
                Ok(Ok(outcome)) => {
                    if let Some(Err(trouble)) = &*outcome {
                        return Err(trouble.clone());
                    }
                }
                // The runtime that grants is at its end.
                Ok(Err(_)) => return Err(waited("the store is closing")),
                Err(_) => return Err(waited("no lease was granted in time")),
            }
        }
    }

    /// The lease is not there any more.
    pub(crate) fn forget(&self) {
        for class in self.classes.lock().values_mut() {
            class.open = None;
        }
    }

    fn take(self: &Arc<Self>, seconds: u64) -> Result<Lease, watch::Receiver<Granted>> {
        let mut classes = self.classes.lock();
        let class = classes.entry(seconds).or_default();
        if let Some(slot) = &mut class.open
            && let Some(used) = slot.used()
        {
            slot.keys += 1;
            let lease = slot.lease;
            // The next one is granted before this one is used up, so that nobody waits for it.
            if used > slot.lasts / 2 || slot.keys > KEYS_MAX / 2 {
                self.grant(seconds, class);
            }
            return Ok(lease);
        }
        Err(self.grant(seconds, class))
    }

    fn grant(self: &Arc<Self>, seconds: u64, class: &mut Class) -> watch::Receiver<Granted> {
        if let Some(granting) = &class.granting {
            return granting.clone();
        }
        let (tell, granting) = watch::channel(None);
        class.granting = Some(granting.clone());
        let leases = Arc::clone(self);
        self.handle.spawn(async move {
            let granted = leases.ask(seconds).await;
            let mut classes = leases.classes.lock();
            let class = classes.entry(seconds).or_default();
            class.granting = None;
            let outcome = granted.map(|slot| class.open = Some(slot));
            drop(classes);
            // Those who waited may have gone.
            let _ = tell.send(Some(outcome));
        });
        granting
    }

    async fn ask(&self, seconds: u64) -> Result<Slot, Trouble> {
        let ttl = seconds.saturating_add(slot_of(seconds)).min(SECONDS_MAX);
        let (began, began_wall) = (clock::now(), clock::wall_now());
        let question = LeaseGrantRequest { ttl: i64::try_from(ttl).unwrap_or(i64::MAX) };
        let answer: Result<LeaseGrantResponse, Trouble> =
            self.cluster.ask(LEASE_GRANT, &question, began + GRANT_MAX).await;
        // A lease too many ends by itself and changes no record.
        let answer = answer.map_err(|trouble| Trouble { maybe: false, ..trouble })?;
        let granted = u64::try_from(answer.ttl).unwrap_or(0);
        if answer.id == 0 || granted <= seconds {
            let words = format_args!("a lease of {granted} s was granted where {ttl} s were asked");
            let cause = Cause::new(Kind::Protocol, words);
            return Err(Trouble { maybe: false, cause, remedy: Remedy::None });
        }
        let lasts = Duration::from_secs(granted - seconds);
        let lease = Lease { id: answer.id, granted };
        Ok(Slot { lease, keys: 0, began, began_wall, lasts })
    }
}

fn waited(words: &str) -> Trouble {
    let cause = Cause::new(Kind::Timeout, words);
    Trouble { maybe: false, cause, remedy: Remedy::None }
}

/// A length in whole seconds, rounded up.
fn class_of(millis: u64) -> u64 {
    let seconds = millis.div_ceil(1_000).max(1);
    if seconds <= PARTS {
        return seconds;
    }
    let power = 1_u64 << seconds.ilog2();
    seconds.next_multiple_of(power / PARTS).min(SECONDS_MAX - SECONDS_MAX / PARTS)
}

/// How long keys are hung on the same lease, in seconds.
const fn slot_of(seconds: u64) -> u64 {
    seconds.div_ceil(PARTS)
}

#[cfg(test)]
mod tests;
