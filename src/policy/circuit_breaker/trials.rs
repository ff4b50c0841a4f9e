//! The trials of a half-open circuit: a few slots, each leased to one attempt at a time.
//!
//! A slot comes free when its attempt is cancelled, and when its lease runs out: an attempt whose
//! end is never told cannot keep the circuit half-open for ever. An outcome that comes late still
//! counts as long as its slot has not been given to another attempt, for it is true news of this
//! trial.

use std::time::{Duration, Instant};

use super::{Settings, Verdict};
use crate::policy::window::share;

/// The most trials, whatever the settings say: each needs a slot in the state, and what a handful
/// of attempts cannot tell is the ramp's to find out.
pub const MAX_TRIALS: u32 = 10;

/// A lease lasts at least this long, or as long as the first open time if that is longer. It is
/// well over the default total timeout of 15 s, so that a slow trial is not taken for a lost one.
pub const LEASE_MIN: Duration = Duration::from_secs(30);

/// The mark of a slot that is not leased; a lease never ends in the second in which trials begin.
const FREE: u32 = 0;

/// The hold of one attempt on a slot.
#[derive(Debug)]
pub(super) struct Lease {
    slot: u8,
    /// With `slot`, what tells this lease from any other one: a slot is leased again only after its
    /// lease was given back or ran out, and the later lease ends later.
    until: u32,
}

/// What all trials together have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// More trials are needed.
    Pending,
    /// All were good.
    Passed,
    /// One failed.
    Failed,
    /// None failed, but too many were slow.
    Slow,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Trials {
    began: Instant,
    /// The end of each lease in whole seconds after `began`, so that ten fit in 40 bytes and none
    /// overflows in a century.
    until: [u32; MAX_TRIALS as usize],
    good: u32,
    slow: u32,
}

impl Trials {
    pub(super) const fn new(now: Instant) -> Self {
        Self { began: now, until: [FREE; MAX_TRIALS as usize], good: 0, slow: 0 }
    }

    /// Leases a slot if one is needed and free.
    pub(super) fn lease(&mut self, settings: &Settings, now: Instant) -> Option<Lease> {
        let elapsed = now.saturating_duration_since(self.began);
        let second = whole_seconds(elapsed);
        if self.good + self.leased_at(second) >= wanted(settings) {
            return None;
        }
        let slot = self.until.iter().position(|until| *until <= second)?;
        let lease_len = settings.open.get().max(LEASE_MIN);
        // Rounded up: a lease lasts its length or up to a second longer, never less.
        let until = whole_seconds(elapsed.saturating_add(lease_len)).saturating_add(1);
        *self.until.get_mut(slot)? = until;
        Some(Lease { slot: u8::try_from(slot).ok()?, until })
    }

    /// Takes the outcome of a trial.
    pub(super) fn record(&mut self, settings: &Settings, lease: &Lease, v: Verdict) -> Finding {
        if !self.free(lease) {
            return Finding::Pending;
        }
        if v.failure {
            return Finding::Failed;
        }
        self.good += 1;
        self.slow += u32::from(v.slow);
        self.finding(settings)
    }

    /// What the good trials so far amount to; asked again when settings may have changed.
    pub(super) fn finding(&self, settings: &Settings) -> Finding {
        if self.good < wanted(settings) {
            Finding::Pending
        } else if self.slow > 0 && share(self.slow, self.good) >= settings.slow.ratio.get() {
            Finding::Slow
        } else {
            Finding::Passed
        }
    }

    /// Gives a slot back; false when it is leased to another by now.
    pub(super) fn free(&mut self, lease: &Lease) -> bool {
        match self.until.get_mut(usize::from(lease.slot)) {
            Some(until) if *until == lease.until => {
                *until = FREE;
                true
            }
            _ => false,
        }
    }

    /// How many leases have not run out.
    pub(super) fn leased(&self, now: Instant) -> u32 {
        self.leased_at(whole_seconds(now.saturating_duration_since(self.began)))
    }

    pub(super) const fn good(&self) -> u32 {
        self.good
    }

    fn leased_at(&self, second: u32) -> u32 {
        self.until.iter().map(|until| u32::from(*until > second)).sum()
    }
}

fn wanted(settings: &Settings) -> u32 {
    settings.trials.clamp(1, MAX_TRIALS)
}

fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX - 1)
}
