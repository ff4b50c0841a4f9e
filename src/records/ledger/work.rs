//! A claim that its request works under.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::{Cause, Fault, Kind, Ledger, ending};
use crate::clock;
use crate::policy::idempotency::machine::{Settle, Settled};
use crate::policy::idempotency::record::{Claimant, Doubt, Retention, Rid, Stored};
use crate::shared::Shared;

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
    /// When the store was first asked for it: its lease began no earlier.
    pub(super) asked: Instant,
}

/// A claim: the right, and the duty, to send a request and to say what became of it. Its lease is
/// renewed while it lives. Dropped without a word it is given back if nothing was sent, and is a
/// doubt otherwise.
pub struct Work {
    ledger: Arc<Ledger>,
    terms: WorkTerms,
    /// Taken when it is settled.
    claim: Option<Held>,
    sent: bool,
}

/// What those hear who wait for a claim of this process.
type Bell = Arc<Notify>;

/// What is known of a claim.
enum Held {
    /// It is made.
    Made(Claimed, Renewing, Bell),
    /// It may have been made, and is being found out about.
    Sought(oneshot::Receiver<Option<Claimed>>),
}

/// The task that renews a lease; ends with its holder.
struct Renewing {
    task: JoinHandle<()>,
    lease: Arc<Lease>,
}

/// The lease of a claim, by this process's clock.
///
/// A process that was paused must not send under a lease that ended meanwhile: the store may have
/// told somebody since that nobody is at work. So it is asked right before each sending.
#[derive(Debug)]
pub struct Lease {
    ends: Shared<Instant>,
    lost: AtomicBool,
}

impl Lease {
    fn until(ends: Instant) -> Self {
        Self { ends: Shared::new(ends), lost: AtomicBool::new(false) }
    }

    /// Whether bytes may be sent under it now.
    #[must_use]
    pub fn holds(&self, now: Instant) -> bool {
        now < *self.ends.lock() && !self.lost.load(Ordering::Relaxed)
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is said of a claim, once it is known which one it is.
type Say = Box<dyn FnOnce(Claimant) -> Settle + Send>;

impl Work {
    pub(super) fn new(ledger: Arc<Ledger>, claimed: Claimed, terms: WorkTerms) -> Self {
        let bell = Arc::new(Notify::new());
        ledger.claims.insert(claimed.rid, Arc::clone(&bell));
        let lease = Arc::new(Lease::until(claimed.asked + terms.lease));
        let task = {
            let (ledger, lease) = (Arc::clone(&ledger), Arc::clone(&lease));
            let runtime = ledger.runtime.clone();
            runtime.spawn(async move { renew(&ledger, &claimed, &terms, &lease).await })
        };
        let claim = Some(Held::Made(claimed, Renewing { task, lease }, bell));
        Self { ledger, terms, claim, sent: false }
    }

    /// Work under a claim of which it is not known whether it was made.
    pub(super) const fn sought(
        ledger: Arc<Ledger>,
        found: oneshot::Receiver<Option<Claimed>>,
        terms: WorkTerms,
    ) -> Self {
        Self { ledger, terms, claim: Some(Held::Sought(found)), sent: false }
    }

    const fn made(&self) -> Option<&Claimed> {
        match &self.claim {
            Some(Held::Made(claimed, ..)) => Some(claimed),
            _ => None,
        }
    }

    /// Whether it is known that the claim was made: otherwise the request is sent without
    /// protection, and what can be is made good afterwards.
    #[must_use]
    pub const fn is_sure(&self) -> bool {
        self.made().is_some()
    }

    /// The how-manieth claim of the key it is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.made().map_or(1, |claimed| claimed.attempt)
    }

    /// The claim's place in the order of claims, where that is known.
    #[must_use]
    pub fn fence(&self) -> Option<u64> {
        self.made().map(|claimed| claimed.claimant.fence.0)
    }

    /// Its lease, where it is known that there is one.
    #[must_use]
    pub fn lease(&self) -> Option<Arc<Lease>> {
        match &self.claim {
            Some(Held::Made(_, renewing, _)) => Some(Arc::clone(&renewing.lease)),
            _ => None,
        }
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
        let retention = self.terms.retention;
        self.settle(Box::new(move |by| Settle::Complete { by, answer, retention })).await
    }

    /// Nothing was executed (T4).
    pub async fn release(self) {
        // Whoever is told in vain: the record goes on being released, or its lease ends.
        let _ = self.settle(Box::new(|by| Settle::Release { by })).await;
    }

    /// It may have been executed or not (T5).
    ///
    /// # Errors
    /// Why that was not noted in time.
    pub async fn doubt(self, doubt: Doubt, observed: Option<u16>) -> Result<Settled, Fault> {
        let retention = self.terms.retention;
        self.settle(Box::new(move |by| doubted(by, doubt, observed, retention))).await
    }

    /// It may be sent again, since the upstream recognises the key (T7).
    ///
    /// # Errors
    /// Why that was not noted in time.
    pub async fn retryable(self) -> Result<Settled, Fault> {
        let retention = self.terms.retention;
        self.settle(Box::new(move |by| Settle::Retryable { by, retention })).await
    }

    async fn settle(mut self, say: Say) -> Result<Settled, Fault> {
        match self.commit(say) {
            Some(committed) => committed.await.unwrap_or_else(|_| Err(Fault::Ambiguous(ending()))),
            // Nobody waits for what is still being found out.
            None => Err(Fault::Ambiguous(Cause::new(Kind::Timeout, "the claim is not known yet"))),
        }
    }

    /// Commits in the background; those who wait for the record hear of it. Nothing when it is not
    /// yet known which claim it is.
    fn commit(&mut self, say: Say) -> Option<oneshot::Receiver<Result<Settled, Fault>>> {
        let (ledger, terms) = (Arc::clone(&self.ledger), self.terms);
        let runtime = ledger.runtime.clone();
        match self.claim.take()? {
            Held::Made(claimed, renewing, bell) => {
                // A renewal must not overtake what is settled.
                drop(renewing);
                let (answer, answered) = oneshot::channel();
                runtime.spawn(async move {
                    let settled = commit(&ledger, &claimed, &terms, say(claimed.claimant)).await;
                    ledger.tell(&claimed.rid, &bell);
                    // Whether somebody still waits or not.
                    let _ = answer.send(settled);
                });
                Some(answered)
            }
            Held::Sought(found) => {
                runtime.spawn(async move {
                    if let Ok(Some(claimed)) = found.await {
                        let settle = say(claimed.claimant);
                        // It goes on being tried, and there is nobody to tell.
                        let _ = commit(&ledger, &claimed, &terms, settle).await;
                    }
                });
                None
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.claim.is_none() {
            return;
        }
        let (sent, retention) = (self.sent, self.terms.retention);
        // Nobody waits for it.
        drop(self.commit(Box::new(move |by| {
            if sent {
                doubted(by, Doubt::Shutdown, None, retention)
            } else {
                Settle::Release { by }
            }
        })));
    }
}

const fn doubted(
    by: Claimant,
    doubt: Doubt,
    observed_status: Option<u16>,
    retention: Retention,
) -> Settle {
    Settle::Doubt { by, doubt, observed_status, retention }
}

async fn commit(
    ledger: &Arc<Ledger>,
    claimed: &Claimed,
    terms: &WorkTerms,
    settle: Settle,
) -> Result<Settled, Fault> {
    let now = clock::now();
    let until = now + Duration::from_millis(terms.retention.key);
    let committed = ledger.commit(claimed.rid, settle, now + terms.commit, until);
    committed.await.unwrap_or_else(|_| Err(Fault::Ambiguous(ending())))
}

async fn renew(ledger: &Ledger, claimed: &Claimed, terms: &WorkTerms, lease: &Lease) {
    let pause = (terms.lease / 3).min(RENEW_MAX);
    let length = u64::try_from(terms.lease.as_millis()).unwrap_or(u64::MAX);
    loop {
        clock::sleep(pause).await;
        let began = clock::now();
        let settle = Settle::Renew { by: claimed.claimant, lease: length };
        let asked = ledger.repeat(claimed.rid, &settle, began + pause, super::AGAIN).await;
        match asked {
            Ok(Settled::Done | Settled::Already | Settled::Reasserted) => {
                *lease.ends.lock() = began + terms.lease;
                lease.lost.store(false, Ordering::Relaxed);
            }
            // Its record is another's, or gone; only its result can tell now.
            Ok(Settled::Fenced { .. }) => return lose(ledger, lease),
            Err(_) if clock::now() >= *lease.ends.lock() => return lose(ledger, lease),
            Err(_) => {}
        }
    }
}

fn lose(ledger: &Ledger, lease: &Lease) {
    if !lease.lost.swap(true, Ordering::Relaxed) {
        ledger.metrics.leases_lost.inc();
    }
}
