//! What this process has claimed and not settled yet, and what it settled lately: a server that has
//! forgotten it in a failover is told again.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::policy::idempotency::machine::{Claim, Settle};
use crate::policy::idempotency::record::{Claimant, Fence, Millis, Nonce, Retention, Rid};

/// How many live claims are remembered: more than a sidecar has requests under way. Beyond it, a
/// claim is as safe as the server is, and no safer.
const CLAIMS_MAX: usize = 65_536;
/// The least time between two searches of a full table.
const SWEEP: Duration = Duration::from_secs(1);
/// For how long what was settled is remembered: longer than failovers take.
const RECENT_AGE: Duration = Duration::from_secs(60);
/// How much of it, in number and in bytes of answers; the oldest goes first.
const RECENT_MAX: usize = 4_096;
const RECENT_BYTES: usize = 16 << 20;

/// A claim that has not been settled.
#[derive(Clone, Debug)]
struct Held {
    by: Claimant,
    until: Instant,
    first_seen: Millis,
    attempts: u32,
    retention: Retention,
}

#[derive(Debug, Default)]
struct Recent {
    settled: VecDeque<(Instant, Rid, Settle)>,
    bytes: usize,
}

/// The claims, and when those that had ended were last looked for.
#[derive(Debug, Default)]
struct Claims {
    held: HashMap<Rid, Held>,
    swept: Option<Instant>,
}

/// The table of both.
#[derive(Debug, Default)]
pub(super) struct Live {
    claims: Mutex<Claims>,
    recent: Mutex<Recent>,
}

fn bytes(settle: &Settle) -> usize {
    match settle {
        Settle::Complete { answer, .. } => answer.bytes(),
        _ => 0,
    }
}

/// Milliseconds from one instant to a later one.
fn millis(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_millis()).unwrap_or(u64::MAX)
}

impl Live {
    /// A claim succeeded.
    pub(super) fn claimed(
        &self,
        rid: Rid,
        claim: &Claim,
        acquired: (Fence, u32, Millis),
        now: Instant,
    ) {
        let (fence, attempts, first_seen) = acquired;
        let by = Claimant {
            fingerprint: claim.fingerprint,
            owner: claim.owner,
            nonce: claim.nonce,
            fence,
            principal: claim.principal,
        };
        let until = now + Duration::from_millis(claim.lease);
        let held = Held { by, until, first_seen, attempts, retention: claim.retention };
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let swept = claims.swept.is_some_and(|at| now.saturating_duration_since(at) < SWEEP);
        if claims.held.len() >= CLAIMS_MAX && !swept {
            claims.swept = Some(now);
            claims.held.retain(|_, held| held.until > now);
        }
        if claims.held.len() < CLAIMS_MAX {
            claims.held.insert(rid, held);
        }
    }

    /// A change is about to be sent. A claim that is being released is not asserted again from now
    /// on: a release must not be undone by what was meant to help. All others are, until the store
    /// has said that they are settled.
    pub(super) fn settling(&self, rid: &Rid, settle: &Settle, now: Instant) {
        match settle {
            Settle::Renew { by, lease } => {
                let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(held) =
                    claims.held.get_mut(rid).filter(|held| held.by.nonce == by.nonce)
                {
                    held.until = held.until.max(now + Duration::from_millis(*lease));
                }
            }
            Settle::Release { by } => self.ended(rid, by.nonce),
            _ => {}
        }
    }

    /// The store has said how a change of it ended, or the record is another claimant's.
    pub(super) fn ended(&self, rid: &Rid, nonce: Nonce) {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.held.get(rid).is_some_and(|held| held.by.nonce == nonce) {
            claims.held.remove(rid);
        }
    }

    /// A result is in the store.
    pub(super) fn settled(&self, rid: Rid, settle: Settle, now: Instant) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.bytes += bytes(&settle);
        recent.settled.push_back((now, rid, settle));
        let Recent { settled, bytes: held } = &mut *recent;
        while let Some((at, _, first)) = settled.front() {
            let old = now.saturating_duration_since(*at) > RECENT_AGE;
            if !old && settled.len() <= RECENT_MAX && *held <= RECENT_BYTES {
                break;
            }
            *held = held.saturating_sub(bytes(first));
            settled.pop_front();
        }
    }

    /// What was claimed and has not ended.
    pub(super) fn claims(&self, now: Instant) -> Vec<Rid> {
        let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.held.retain(|_, held| held.until > now);
        claims.held.keys().copied().collect()
    }

    /// What puts a claim back; nothing when it is not live any more.
    pub(super) fn reassertion(&self, rid: &Rid, now: Instant) -> Option<Settle> {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let held = claims.held.get(rid)?;
        Some(Settle::Reassert {
            by: held.by,
            lease: millis(now, held.until).max(1),
            first_seen: held.first_seen,
            attempts: held.attempts,
            retention: held.retention,
        })
    }

    /// What was settled lately, the oldest first.
    pub(super) fn recent(&self, now: Instant) -> Vec<(Rid, Settle)> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let young = |at: &Instant| now.saturating_duration_since(*at) <= RECENT_AGE;
        recent
            .settled
            .iter()
            .filter(|(at, _, _)| young(at))
            .map(|(_, rid, settle)| (*rid, settle.clone()))
            .collect()
    }
}

#[cfg(test)]
mod tests;
