//! A store as the data path uses it.
//!
//! What a claim needs after its request may have left is done here, on the runtime of the stores
//! and not on a worker: the lease is renewed, a result is committed although nobody waits for it,
//! and a claim of which it is not known whether it was made is found out about and given back. A
//! store that fails again and again is not asked for a while, so that its requests are refused at
//! once and not after their patience.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};

use super::spool::Spool;
use super::{Birth, Cause, Fault, Guarantee, Health, Kind, Page, Reply, Seen, Store, Wanted};
use crate::clock;
use crate::policy::circuit_breaker::{Breaker, Settings as BreakerSettings};
use crate::policy::idempotency::machine::{Claim, Claimed, Found, Resolution, Settle, Settled};
use crate::policy::idempotency::record::{Claimant, Fingerprint, Owner, Rid};
use crate::policy::idempotency::settings::WAITERS_IN_ALL;
use crate::shared::Shared;
use crate::telemetry::metrics::{Operation, StoreMetrics, Word};
use crate::telemetry::seldom::Seldom;
use crate::units::{Period, Ratio};

mod late;
mod places;
mod question;
mod work;

pub use work::{Lease, Work, WorkTerms};

use places::{Place, Waiter};
use question::Question;

/// How long what the store remembers of itself is taken as known. It changes when the store has
/// lost everything.
const BIRTH_KEPT: Duration = Duration::from_secs(5);
/// How long a waiter sleeps at most before it asks again.
const LOOK: Duration = Duration::from_millis(500);
/// The most changes that are being repeated because the store did not take them.
const LATE_MAX: usize = 10_000;
/// The first and the longest wait before a change is repeated.
const AGAIN: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));
/// The same when nobody waits for it any more.
const AGAIN_LATE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));

/// A store with all that a request needs of it.
pub struct Ledger {
    /// Its name in the configuration.
    pub name: Arc<str>,
    store: Arc<dyn Store>,
    /// Where results wait that the store did not take in time; only beside a shared store.
    spool: Option<Spool>,
    runtime: Handle,
    instance: [u8; 16],
    metrics: Arc<StoreMetrics>,
    breaker: Shared<Breaker>,
    breaker_settings: BreakerSettings,
    birth: Shared<Option<(Birth, Instant)>>,
    /// Whether the store has been ready.
    opened: AtomicBool,
    /// What this process has claimed, so that those who wait for it hear at once.
    claims: DashMap<Rid, Arc<Notify>>,
    waiting: AtomicUsize,
    /// How many wait for each record.
    waiters: DashMap<Rid, u32>,
    late: AtomicUsize,
    /// The lines of the log on what the store did not do.
    failures: Shared<Seldom>,
}

impl Ledger {
    /// The ledger of a store; what outlives a request runs on `runtime`.
    pub fn new(
        name: &str,
        (store, spool): (Arc<dyn Store>, Option<Spool>),
        runtime: Handle,
        instance: [u8; 16],
        metrics: Arc<StoreMetrics>,
    ) -> Arc<Self> {
        let ledger = Arc::new(Self {
            name: name.into(),
            store,
            spool,
            runtime,
            instance,
            metrics,
            breaker: Shared::new(Breaker::new()),
            breaker_settings: breaker_settings(),
            birth: Shared::default(),
            opened: AtomicBool::new(false),
            claims: DashMap::new(),
            waiting: AtomicUsize::new(0),
            waiters: DashMap::new(),
            late: AtomicUsize::new(0),
            failures: Shared::default(),
        });
        if ledger.spool.is_some() {
            ledger.runtime.spawn(Self::deliver(Arc::downgrade(&ledger)));
        }
        ledger
    }

    /// This process, as claims name it.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner { instance: self.instance, epoch: self.store.epoch() }
    }

    /// What there is of a request; nothing when a claim could succeed.
    ///
    /// # Errors
    /// Why the store did not say.
    pub async fn peek(
        &self,
        rid: Rid,
        fingerprint: Fingerprint,
        by: Instant,
    ) -> Result<Option<Found>, Fault> {
        self.ask(Operation::Peek, by, || self.store.peek(rid, fingerprint, by)).await
    }

    /// Claims a request. The claim is made, or given back, also when the caller goes. Where it is
    /// not known whether it was made, and `unsure` allows it, there is work all the same: it ends
    /// the claim when that is found.
    ///
    /// # Errors
    /// Why it was not made, or that it is not known whether it was: then it is found out about, and
    /// given back.
    pub async fn claim(
        self: &Arc<Self>,
        rid: Rid,
        claim: Claim,
        terms: WorkTerms,
        (by, unsure): (Instant, bool),
    ) -> Result<Result<Work, Claimed>, Fault> {
        let (answer, answered) = oneshot::channel();
        let ledger = Arc::clone(self);
        self.runtime.spawn(async move {
            let made = ledger.claim_now(rid, &claim, by).await;
            let ambiguous = matches!(made, Err(Fault::Ambiguous(_)));
            let work = |claimed| Work::new(Arc::clone(&ledger), claimed, terms);
            if !ambiguous {
                // Work that is dropped unused gives its claim back.
                drop(answer.send(made.map(|made| made.map(work))));
                return;
            }
            let (tell, told) = oneshot::channel();
            // Dropped unused, it gives the claim back once that is found.
            let sought = Work::sought(Arc::clone(&ledger), told, terms);
            drop(answer.send(match made {
                Err(fault) if !unsure => Err(fault),
                _ => Ok(Ok(sought)),
            }));
            // Whoever is to end it has gone when the process ends.
            let _ = tell.send(ledger.find_claim(rid, &claim).await);
        });
        answered.await.unwrap_or_else(|_| Err(Fault::Ambiguous(ending())))
    }

    async fn claim_now(
        &self,
        rid: Rid,
        claim: &Claim,
        by: Instant,
    ) -> Result<Result<work::Claimed, Claimed>, Fault> {
        let (mut pause, first_asked) = (AGAIN.0, clock::now());
        loop {
            let asked = self.ask(Operation::Claim, by, || self.store.claim(rid, *claim, by)).await;
            match asked {
                Ok(Claimed::Acquired { fence, attempt, .. }) => {
                    let claimant = Claimant {
                        fingerprint: claim.fingerprint,
                        owner: claim.owner,
                        nonce: claim.nonce,
                        fence,
                        principal: claim.principal,
                    };
                    let asked = first_asked;
                    return Ok(Ok(work::Claimed { rid, claimant, attempt, asked }));
                }
                Ok(other) => return Ok(Err(other)),
                Err(Fault::Ambiguous(_)) if clock::now() + pause < by => {
                    clock::sleep(pause).await;
                    pause = (pause * 2).min(AGAIN.1);
                }
                Err(fault) => return Err(fault),
            }
        }
    }

    /// Finds out about a claim of which it is not known whether it was made: the same claim, sent
    /// again, is the same claim. When its lease is over it is nobody's any more.
    async fn find_claim(&self, rid: Rid, claim: &Claim) -> Option<work::Claimed> {
        let _place = self.late_place()?;
        let end = clock::now() + Duration::from_millis(claim.lease);
        let mut pause = AGAIN_LATE.0;
        while clock::now() < end {
            clock::sleep(pause).await;
            pause = (pause * 2).min(AGAIN_LATE.1);
            let by = clock::now() + AGAIN_LATE.1;
            match self.claim_now(rid, claim, by).await {
                Ok(made) => return made.ok(),
                Err(_) => continue,
            }
        }
        None
    }

    fn late_place(&self) -> Option<Place<'_>> {
        Place::take(&self.late, LATE_MAX)
    }

    /// Asks the store, unless it has failed so often that it is left alone.
    async fn ask<T>(
        &self,
        operation: Operation,
        by: Instant,
        question: impl FnOnce() -> Reply<T>,
    ) -> Result<T, Fault> {
        let began = clock::now();
        let Some(asked) = Question::ask(&self.breaker, &self.breaker_settings, began) else {
            let cause = Cause::new(Kind::Unavailable, "the store fails, and is left alone a while");
            self.metrics.asked(operation, Duration::ZERO, Some(cause.kind.index()));
            return Err(Fault::NotApplied(cause));
        };
        let answer = clock::until(by, question()).await.unwrap_or_else(|_| {
            Err(Fault::Ambiguous(Cause::new(Kind::Timeout, "no answer in time")))
        });
        let now = clock::now();
        let fault = answer.as_ref().err().map(|fault| fault.cause().kind);
        let took = now.saturating_duration_since(began);
        self.metrics.asked(operation, took, fault.map(Kind::index));
        // A store that is full works.
        asked.answered(fault.is_some_and(|kind| kind != Kind::Full), now);
        answer
    }

    /// Waits until the record may have changed, but not beyond `until`. Nothing when as many wait
    /// for it already as may, or too many for any.
    pub async fn wait(&self, rid: Rid, until: Instant, waiters_max: u32) -> Option<()> {
        let _place = Place::take(&self.waiting, WAITERS_IN_ALL as usize)?;
        let _of_record = Waiter::enter(&self.waiters, rid, waiters_max)?;
        let here = self.claims.get(&rid).map(|claim| Arc::clone(&claim));
        let settled = async {
            match &here {
                Some(here) => here.notified().await,
                None => std::future::pending().await,
            }
        };
        let until = until.min(clock::now() + LOOK);
        let _ = clock::until(until, async {
            tokio::select! {
                () = settled => {}
                () = self.store.changed(rid) => {}
            }
        })
        .await;
        Some(())
    }

    /// What the store remembers of itself, as of some seconds ago at most.
    ///
    /// # Errors
    /// Why the store did not say.
    pub async fn birth(&self, by: Instant) -> Result<Birth, Fault> {
        let known = *self.birth.lock();
        let now = clock::now();
        if let Some((mut birth, at)) = known
            && now.saturating_duration_since(at) < BIRTH_KEPT
        {
            let since = now.saturating_duration_since(at).as_millis();
            birth.now = birth.now.saturating_add(u64::try_from(since).unwrap_or(u64::MAX));
            return Ok(birth);
        }
        let birth = self.ask(Operation::Peek, by, || self.store.birth(by)).await?;
        *self.birth.lock() = Some((birth, clock::now()));
        Ok(birth)
    }

    /// What a record is called towards those who may know of it: stable, and of no use for guessing
    /// keys.
    ///
    /// # Errors
    /// Why the store did not say what it takes for it.
    pub async fn reference(&self, rid: &Rid, by: Instant) -> Result<String, Fault> {
        Ok(super::codec::reference(&self.birth(by).await?.secret, rid))
    }

    /// The record itself, for operators.
    ///
    /// # Errors
    /// Why the store did not say.
    pub async fn read(&self, rid: Rid, by: Instant) -> Result<Seen, Fault> {
        self.store.read(rid, by).await
    }

    /// Some records, for operators.
    ///
    /// # Errors
    /// Why the store did not say.
    pub async fn list(&self, wanted: Wanted, by: Instant) -> Result<Page, Fault> {
        self.store.list(wanted, by).await
    }

    /// A change by an operator.
    ///
    /// # Errors
    /// Why it was not made, or that it is not known whether it was.
    pub async fn settle(&self, rid: Rid, settle: Settle, by: Instant) -> Result<Settled, Fault> {
        let word = match settle {
            Settle::Resolve { how: Resolution::Executed { .. }, .. } => Some(Word::Executed),
            Settle::Resolve { how: Resolution::NotExecuted, .. } => Some(Word::NotExecuted),
            Settle::Purge { .. } => Some(Word::Purged),
            _ => None,
        };
        let settled = self.store.settle(rid, settle, by).await;
        if let (Some(word), Ok(Settled::Done)) = (word, &settled) {
            self.metrics.said(word);
        }
        if let Some((_, bell)) = self.claims.remove(&rid) {
            bell.notify_waiters();
        }
        settled
    }

    /// What the store promises.
    #[must_use]
    pub fn guarantee(&self) -> Guarantee {
        self.store.guarantee()
    }

    /// Whether the store has been ready at any time until now.
    #[must_use]
    pub fn has_been_ready(&self) -> bool {
        let known = self.opened.load(Ordering::Relaxed);
        if !known && self.store.health().ready {
            self.opened.store(true, Ordering::Relaxed);
            return true;
        }
        known
    }

    /// How the store is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        self.store.health()
    }

    /// Brings the store's gauges up to this moment.
    pub fn measure(&self) {
        let health = self.store.health();
        let metrics = &self.metrics;
        let level = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        metrics.ready.set(usize::from(health.ready));
        metrics.bytes.set(level(health.bytes));
        let spooled = self.spool.as_ref().map_or(0, Spool::depth);
        metrics.spooled.set(level(spooled) + self.late.load(Ordering::Relaxed));
        for (to, from) in metrics.entries.iter().zip(health.entries) {
            to.set(level(from));
        }
        let own = [
            health.bodies_shed,
            health.tombstones_purged,
            health.unknown_expired,
            health.weak,
            health.contested,
        ];
        for (to, from) in metrics.own.iter().zip(own) {
            to.set(level(from));
        }
    }

    /// Lets the log say what the store did not do, seldom however often that is.
    pub fn report(&self, what: &'static str, fault: &Fault) {
        if let Some(unsaid) = self.failures.lock().say(clock::now()) {
            tracing::warn!(store = %self.name, %fault, unsaid, "{what}");
        }
    }

    /// How many claims of this process are not settled.
    #[must_use]
    pub fn at_work(&self) -> usize {
        self.claims.len() + self.late.load(Ordering::Relaxed)
    }

    /// Wakes those that wait for a claim that has ended. A later one of the same record stays.
    fn tell(&self, rid: &Rid, bell: &Arc<Notify>) {
        self.claims.remove_if(rid, |_, known| Arc::ptr_eq(known, bell));
        bell.notify_waiters();
    }
}

fn ending() -> Cause {
    Cause::new(Kind::Unavailable, "the process is ending")
}

const fn operation(settle: &Settle) -> Operation {
    match settle {
        Settle::Renew { .. } | Settle::Reassert { .. } => Operation::Renew,
        Settle::Complete { .. } => Operation::Complete,
        Settle::Release { .. } => Operation::Release,
        Settle::Doubt { .. }
        | Settle::Retryable { .. }
        | Settle::Resolve { .. }
        | Settle::Purge { .. } => Operation::Doubt,
    }
}

/// When a store is left alone: half of at least ten questions in ten seconds failed. It is tried
/// again soon, and however long it has failed: one that comes back may have its own time to wait,
/// and all of it together is to be seconds.
fn breaker_settings() -> BreakerSettings {
    BreakerSettings {
        failure_ratio: Ratio::percent(50),
        window: Period::from_secs(10),
        min_requests: 10,
        open: Period::from_millis(250),
        open_max: Period::from_millis(250),
        trials: 1,
        ramp: Period::from_millis(0),
        ..BreakerSettings::default()
    }
}

#[cfg(test)]
mod tests;
