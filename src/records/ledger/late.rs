//! Changes that are committed although nobody waits for them any more, and results that reach their
//! store late.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::{AGAIN, AGAIN_LATE, Fault, Ledger, operation};
use crate::clock;
use crate::policy::idempotency::machine::{Settle, Settled};
use crate::policy::idempotency::record::Rid;
use crate::records::spool::Late;

/// How long the spool may take.
const SPOOL_TIME: Duration = Duration::from_secs(2);
/// How often it is looked whether the store takes spooled results.
const DELIVER_EVERY: Duration = Duration::from_secs(1);
/// How many of them are read at once.
const DELIVERED_AT_ONCE: usize = 64;

impl Ledger {
    /// Commits a change, and goes on trying when nobody waits any more, until `until`.
    pub(super) fn commit(
        self: &Arc<Self>,
        rid: Rid,
        settle: Settle,
        by: Instant,
        until: Instant,
    ) -> oneshot::Receiver<Result<Settled, Fault>> {
        let (answer, answered) = oneshot::channel();
        let ledger = Arc::clone(self);
        self.runtime.spawn(async move {
            let settled = ledger.repeat(rid, &settle, by, AGAIN).await;
            let failed = settled.is_err();
            // Whether somebody still waits or not.
            let _ = answer.send(settled);
            if failed {
                ledger.commit_late(rid, settle, until).await;
            }
        });
        answered
    }

    /// Asks for a change until it is answered, or the time is over.
    pub(super) async fn repeat(
        &self,
        rid: Rid,
        settle: &Settle,
        by: Instant,
        pauses: (Duration, Duration),
    ) -> Result<Settled, Fault> {
        let operation = operation(settle);
        let mut pause = pauses.0;
        loop {
            let asked = || self.store.settle(rid, settle.clone(), by);
            match self.ask(operation, by, asked).await {
                Ok(settled) => {
                    if matches!(settled, Settled::Fenced { .. }) {
                        self.metrics.fenced(operation);
                    }
                    return Ok(settled);
                }
                Err(fault) if clock::now() + pause >= by => return Err(fault),
                Err(_) => clock::sleep(pause).await,
            }
            pause = (pause * 2).min(pauses.1);
        }
    }

    /// Goes on with a change that nobody waits for any more. A result goes to the spool, where it
    /// outlives this process; whatever else it is, or when there is no room, is repeated from here.
    async fn commit_late(&self, rid: Rid, settle: Settle, until: Instant) {
        let Some(settle) = self.spool_late(rid, settle).await else { return };
        let Some(_place) = self.late_place() else { return };
        // When it fails to the end, the lease's end says what there is to say: nobody knows.
        let _ = self.repeat(rid, &settle, until, AGAIN_LATE).await;
    }

    /// Gives a result to the spool; gives back what it does not take.
    async fn spool_late(&self, rid: Rid, settle: Settle) -> Option<Settle> {
        let (Some(spool), Settle::Complete { by, answer, retention }) = (&self.spool, &settle)
        else {
            return Some(settle);
        };
        let late = Late { rid, by: *by, answer: answer.clone(), retention: *retention };
        match spool.push(late, clock::now() + SPOOL_TIME).await {
            Ok(()) => None,
            Err(fault) => {
                self.report("a result could not be spooled", &fault);
                Some(settle)
            }
        }
    }

    /// Brings spooled results to the store, as long as the ledger is in use.
    pub(super) async fn deliver(ledger: Weak<Self>) {
        loop {
            clock::sleep(DELIVER_EVERY).await;
            let Some(ledger) = ledger.upgrade() else { return };
            while ledger.deliver_some().await {}
        }
    }

    /// Brings the oldest results to the store; whether there may be more that it takes.
    async fn deliver_some(&self) -> bool {
        let Some(spool) = self.spool.as_ref().filter(|spool| spool.depth() > 0) else {
            return false;
        };
        if !self.store.health().ready {
            return false;
        }
        let by = clock::now() + SPOOL_TIME;
        let Ok(oldest) = spool.oldest(DELIVERED_AT_ONCE, by).await else { return false };
        let mut arrived = Vec::new();
        for (place, late) in oldest {
            let (rid, settle) = (late.rid, late.into_settle());
            let by = clock::now() + AGAIN_LATE.1;
            // One that is refused has another claimant by now, and has no place there.
            if self.repeat(rid, &settle, by, AGAIN_LATE).await.is_err() {
                break;
            }
            arrived.push(place);
        }
        let some = !arrived.is_empty();
        some && spool.remove(arrived, clock::now() + SPOOL_TIME).await.is_ok()
    }
}
