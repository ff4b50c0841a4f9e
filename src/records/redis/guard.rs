//! The failover guard: when a server may have forgotten what it was told, the claims that are live
//! in this process and the results of the last minute are told again, and for as long as the other
//! proxies may need for the same, no new claim is let in.
//!
//! What stays lost is what was claimed by a process that is gone too.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::link::Link;
use super::script::key_of;
use super::shared::{Shared, count};
use super::slots::slot;
use crate::clock;
use crate::policy::idempotency::machine::{Settle, Settled};
use crate::policy::idempotency::record::{Fence, Nonce, Rid};

/// For how long new claims are refused: twice the longest time between two renewals, in which every
/// proxy meets the server again.
pub(super) const GUARD: Duration = Duration::from_secs(4);
/// How many are told again at a time.
const AT_ONCE: usize = 8;
/// The wait before something is told again that did not arrive.
const WAIT: Duration = Duration::from_millis(50);

/// What is to be told again.
enum Again {
    /// A claim, if it is still live when its turn comes.
    Claim(Rid),
    /// A result.
    Result(Rid, Box<Settle>),
}

impl Shared {
    /// Guards one server's records, or all.
    pub(super) fn guard(self: &Arc<Self>, which: Option<&Link>, why: &str) {
        tracing::warn!(store = %self.common.name, why,
            "the record store may have forgotten; what is known here is told again");
        let until = clock::now() + GUARD;
        let links = self.links();
        let guarded: Vec<_> = links
            .into_iter()
            .filter(|link| which.is_none_or(|which| std::ptr::eq(which, &**link)))
            .collect();
        for link in &guarded {
            link.guard(until);
        }
        self.handle.spawn(Arc::clone(self).tell_again(guarded, until));
    }

    async fn tell_again(self: Arc<Self>, guarded: Vec<Arc<Link>>, until: Instant) {
        let now = clock::now();
        let concerned = |rid: &Rid| {
            let there = self.link_of(slot(&key_of(&self.prefix, rid)));
            there.is_some_and(|there| guarded.iter().any(|link| Arc::ptr_eq(link, &there)))
        };
        // Results first: a claim beside its own result is refused by the record.
        let results = self.live.recent(now).into_iter();
        let mut all: VecDeque<Again> = results
            .filter(|(rid, _)| concerned(rid))
            .map(|(rid, settle)| Again::Result(rid, Box::new(settle)))
            .collect();
        all.extend(self.live.claims(now).into_iter().filter(concerned).map(Again::Claim));
        let total = all.len();
        let all = Arc::new(Mutex::new(all));
        let mut workers = JoinSet::new();
        for _ in 0..AT_ONCE {
            workers.spawn(Arc::clone(&self).tell_some(Arc::clone(&all), until));
        }
        while workers.join_next().await.is_some() {}
        let left = all.lock().unwrap_or_else(PoisonError::into_inner).len();
        tracing::info!(store = %self.common.name, told = total - left, left,
            "the record store was told again");
    }

    async fn tell_some(self: Arc<Self>, all: Arc<Mutex<VecDeque<Again>>>, until: Instant) {
        loop {
            let next = all.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(next) = next else { return };
            while !self.tell(&next).await {
                if clock::now() >= until {
                    all.lock().unwrap_or_else(PoisonError::into_inner).push_back(next);
                    return;
                }
                clock::sleep(WAIT).await;
            }
        }
    }

    /// Whether it arrived, or has become pointless.
    async fn tell(self: &Arc<Self>, again: &Again) -> bool {
        let now = clock::now();
        let (rid, settle) = match again {
            Again::Claim(rid) => match self.live.reassertion(rid, now) {
                Some(settle) => (rid, settle),
                None => return true,
            },
            Again::Result(rid, settle) => (rid, (**settle).clone()),
        };
        let Some((nonce, fence)) = claimant_of(&settle) else { return true };
        match self.send_settle(*rid, &settle, now + self.op_timeout).await {
            Ok(Settled::Fenced { current: Some(newer) }) if newer > fence => {
                count(&self.counts.contested);
                self.live.ended(rid, nonce);
                tracing::error!(store = %self.common.name, record = %rid,
                    "the record store forgot a claim and let another in: both may be executed");
                true
            }
            Ok(_) => true,
            Err(_) => false,
        }
    }
}

/// Who made a change.
pub(super) fn claimant_of(settle: &Settle) -> Option<(Nonce, Fence)> {
    match settle {
        Settle::Renew { by, .. }
        | Settle::Complete { by, .. }
        | Settle::Release { by }
        | Settle::Doubt { by, .. }
        | Settle::Retryable { by, .. }
        | Settle::Reassert { by, .. } => Some((by.nonce, by.fence)),
        Settle::Resolve { .. } | Settle::Purge { .. } => None,
    }
}
