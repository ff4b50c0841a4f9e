//! A claim that its request works under.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{Fault, Ledger, ending};
use crate::clock;
use crate::policy::idempotency::machine::{Settle, Settled};
use crate::policy::idempotency::record::{Claimant, Doubt, Millis, Retention, Rid, Stored};

/// The longest pause between two renewals of a lease.
const RENEW_MAX: Duration = Duration::from_secs(2);

/// What holds for a claim as long as it lasts.
#[derive(Clone, Copy, Debug)]
pub struct WorkTerms {
    /// How long a lease is.
    pub lease: Duration,
    /// How long a change may take until its waiter goes on without it.
    pub commit: Duration,
    /// How long the record is kept.
    pub retention: Retention,
}

/// What the store has said of a claim.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claimed {
    pub(super) rid: Rid,
    pub(super) claimant: Claimant,
    pub(super) attempt: u32,
    pub(super) first_seen: Millis,
}

/// A claim: the right, and the duty, to send a request and to say what became of it. Its lease is
/// renewed while it lives. Dropped without a word it is given back if nothing was sent, and is a
/// doubt otherwise.
pub struct Work {
    ledger: Arc<Ledger>,
    claimed: Claimed,
    terms: WorkTerms,
    renewing: JoinHandle<()>,
    lost: Arc<AtomicBool>,
    sent: bool,
    settled: bool,
}

impl Work {
    pub(super) fn new(ledger: Arc<Ledger>, claimed: Claimed, terms: WorkTerms) -> Self {
        ledger.claims.insert(claimed.rid, Arc::new(Notify::new()));
        let lost = Arc::new(AtomicBool::new(false));
        let renewing = {
            let (ledger, lost) = (Arc::clone(&ledger), Arc::clone(&lost));
            let runtime = ledger.runtime.clone();
            runtime.spawn(async move { renew(&ledger, &claimed, &terms, &lost).await })
        };
        Self { ledger, claimed, terms, renewing, lost, sent: false, settled: false }
    }

    /// The how-manieth claim of the key it is, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.claimed.attempt
    }

    /// When the key was first claimed, by the store's clock.
    #[must_use]
    pub const fn first_seen(&self) -> Millis {
        self.claimed.first_seen
    }

    /// The claim's place in the order of claims.
    #[must_use]
    pub const fn fence(&self) -> u64 {
        self.claimed.claimant.fence.0
    }

    /// Whether its lease has ended while it was at work.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// From here on bytes of the request may reach the upstream.
    pub const fn sending(&mut self) {
        self.sent = true;
    }

    /// The final answer (T3, T10). What could not be committed in time goes on being tried.
    ///
    /// # Errors
    /// Why it was not committed in time.
    pub async fn complete(self, answer: Stored) -> Result<Settled, Fault> {
        let (by, retention) = (self.claimed.claimant, self.terms.retention);
        self.settle(Settle::Complete { by, answer, retention }).await
    }

    /// Nothing was executed (T4).
    pub async fn release(self) {
        let by = self.claimed.claimant;
        // Whoever is told in vain: the record goes on being released, or its lease ends.
        let _ = self.settle(Settle::Release { by }).await;
    }

    /// It may have been executed or not (T5).
    ///
    /// # Errors
    /// Why that was not noted in time.
    pub async fn doubt(self, doubt: Doubt, observed: Option<u16>) -> Result<Settled, Fault> {
        let (by, retention) = (self.claimed.claimant, self.terms.retention);
        self.settle(Settle::Doubt { by, doubt, observed_status: observed, retention }).await
    }

    /// It may be sent again, since the upstream recognises the key (T7).
    ///
    /// # Errors
    /// Why that was not noted in time.
    pub async fn retryable(self) -> Result<Settled, Fault> {
        let (by, retention) = (self.claimed.claimant, self.terms.retention);
        self.settle(Settle::Retryable { by, retention }).await
    }

    async fn settle(mut self, settle: Settle) -> Result<Settled, Fault> {
        self.settled = true;
        // A renewal must not overtake what is settled.
        self.renewing.abort();
        let committed = commit(&self.ledger, &self.claimed, &self.terms, settle);
        committed.await.unwrap_or_else(|_| Err(Fault::Ambiguous(ending())))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        self.renewing.abort();
        let (by, retention) = (self.claimed.claimant, self.terms.retention);
        let settle = if self.sent {
            let doubt = Doubt::Shutdown;
            Settle::Doubt { by, doubt, observed_status: None, retention }
        } else {
            Settle::Release { by }
        };
        // Nobody waits for it.
        drop(commit(&self.ledger, &self.claimed, &self.terms, settle));
    }
}

/// Commits in the background; those who wait for the record hear of it.
fn commit(
    ledger: &Arc<Ledger>,
    claimed: &Claimed,
    terms: &WorkTerms,
    settle: Settle,
) -> tokio::sync::oneshot::Receiver<Result<Settled, Fault>> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let (ledger, rid, now) = (Arc::clone(ledger), claimed.rid, clock::now());
    let until = now + Duration::from_millis(terms.retention.key);
    let committed = ledger.commit(rid, settle, now + terms.commit, until);
    let runtime = ledger.runtime.clone();
    runtime.spawn(async move {
        let settled = committed.await.unwrap_or_else(|_| Err(Fault::Ambiguous(ending())));
        ledger.tell(rid);
        // Whether somebody still waits or not.
        let _ = answer.send(settled);
    });
    answered
}

async fn renew(ledger: &Ledger, claimed: &Claimed, terms: &WorkTerms, lost: &AtomicBool) {
    let pause = (terms.lease / 3).min(RENEW_MAX);
    let lease = u64::try_from(terms.lease.as_millis()).unwrap_or(u64::MAX);
    let mut ends = clock::now() + terms.lease;
    loop {
        clock::sleep(pause).await;
        let began = clock::now();
        let settle = Settle::Renew { by: claimed.claimant, lease };
        let asked = ledger.repeat(claimed.rid, &settle, began + pause, super::AGAIN).await;
        match asked {
            Ok(Settled::Done | Settled::Already | Settled::Reasserted) => {
                ends = began + terms.lease;
                lost.store(false, Ordering::Relaxed);
            }
            // Its record is another's, or gone; only its result can tell now.
            Ok(Settled::Fenced { .. }) => return lose(ledger, lost),
            Err(_) if clock::now() >= ends => return lose(ledger, lost),
            Err(_) => {}
        }
    }
}

fn lose(ledger: &Ledger, lost: &AtomicBool) {
    if !lost.swap(true, Ordering::Relaxed) {
        ledger.metrics.leases_lost.inc();
    }
}
