//! Bounded numbers of places, given back on drop.

use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use crate::policy::idempotency::record::Rid;

/// One of a bounded number of places, given back on drop.
pub(super) struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    pub(super) fn take(taken: &'a AtomicUsize, most: usize) -> Option<Self> {
        if taken.fetch_add(1, Ordering::Relaxed) >= most {
            taken.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Self(taken))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One that waits for a record; counted until it is dropped.
pub(super) struct Waiter<'a> {
    waiters: &'a DashMap<Rid, u32>,
    rid: Rid,
}

impl<'a> Waiter<'a> {
    pub(super) fn enter(waiters: &'a DashMap<Rid, u32>, rid: Rid, most: u32) -> Option<Self> {
        let mut count = waiters.entry(rid).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(Self { waiters, rid })
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.waiters.remove_if_mut(&self.rid, |_, count| {
            *count -= 1;
            *count == 0
        });
    }
}
