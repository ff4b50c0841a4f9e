//! The operations on one record, from the machine's words to the server's and back.

use std::sync::Arc;
use std::time::Instant;

use super::guard::claimant_of;
use super::reply::Reader;
use super::script::{self, CLAIM, PEEK, READ, SETTLE, Script};
use super::shared::{Came, Failed, Question, Shared, count};
use crate::clock;
use crate::policy::idempotency::machine::{Claim, Claimed, Found, Settle, Settled};
use crate::policy::idempotency::record::{
    Claimant, Entry, Fence, Fingerprint, Millis, Retention, Rid,
};
use crate::records::{Cause, Fault, Kind, Seen};

/// An answer that makes no sense: something was done.
fn senseless() -> Fault {
    Fault::Ambiguous(Cause::new(Kind::Protocol, "the server's answer makes no sense"))
}

fn replicas() -> Cause {
    Cause::new(Kind::Replicas, "fewer replicas than `wait_replicas` have it")
}

impl Shared {
    const fn reader<'a>(&'a self, rid: &'a Rid) -> Reader<'a> {
        Reader { seal: &self.common.seal, rid }
    }

    fn question<'a>(
        rid: &'a Rid,
        script: &'static Script,
        args: &'a script::Args,
        deadline: Instant,
    ) -> Question<'a> {
        Question { rid, script, args, claims: false, copied: false, deadline }
    }

    pub(super) async fn peek(
        self: Arc<Self>,
        rid: Rid,
        fingerprint: Fingerprint,
        deadline: Instant,
    ) -> Result<Option<Found>, Fault> {
        let args = script::peek_args(&fingerprint);
        let came = self.ask(Self::question(&rid, &PEEK, &args, deadline)).await?;
        self.reader(&rid).peeked(&came.value).ok_or_else(senseless)
    }

    pub(super) async fn read(
        self: &Arc<Self>,
        rid: Rid,
        deadline: Instant,
    ) -> Result<(Seen, Option<Fence>), Fault> {
        let args = Vec::new();
        let came = self.ask(Self::question(&rid, &READ, &args, deadline)).await?;
        self.reader(&rid).seen(&came.value).ok_or_else(senseless)
    }

    pub(super) async fn claim(
        self: Arc<Self>,
        rid: Rid,
        claim: Claim,
        deadline: Instant,
    ) -> Result<Claimed, Fault> {
        let now = clock::now();
        let args = script::claim_args(&claim, self.quotas.is_over(&claim.principal, now));
        let plain = Self::question(&rid, &CLAIM, &args, deadline);
        let question = Question { claims: true, copied: true, ..plain };
        let came = match self.ask(question).await {
            Ok(came) => came,
            Err(Failed::Full(_)) => return Ok(Claimed::Full),
            Err(Failed::Fault(fault)) => return Err(fault),
        };
        let claimed = self.reader(&rid).claimed(&came.value).ok_or_else(senseless)?;
        let Claimed::Acquired { fence, attempt, first_seen } = claimed else {
            return Ok(claimed);
        };
        if self.is_weak(&came) {
            count(&self.counts.weak);
            return Err(self.take_back(rid, &claim, fence, deadline).await);
        }
        self.live.claimed(rid, &claim, (fence, attempt, first_seen), now);
        self.quotas.claimed(claim.principal, claim.lease, claim.retention.unknown, now);
        Ok(claimed)
    }

    fn is_weak(&self, came: &Came) -> bool {
        came.copies.is_some_and(|copies| copies < self.copies)
    }

    /// F8: a claim that too few replicas have is released, so that it is proved not to be there.
    async fn take_back(
        self: &Arc<Self>,
        rid: Rid,
        claim: &Claim,
        fence: Fence,
        deadline: Instant,
    ) -> Fault {
        let by = Claimant {
            fingerprint: claim.fingerprint,
            owner: claim.owner,
            nonce: claim.nonce,
            fence,
            principal: claim.principal,
        };
        let shared = Arc::clone(self);
        // It goes on in the background when its time is over for the claimant.
        let release = self.handle.spawn(async move {
            let until = clock::now() + shared.op_timeout;
            shared.send_settle(rid, &Settle::Release { by }, until).await
        });
        match clock::until(deadline, release).await {
            Ok(Ok(Ok(Settled::Done | Settled::Already))) => Fault::NotApplied(replicas()),
            _ => Fault::Ambiguous(replicas()),
        }
    }

    pub(super) async fn settle(
        self: Arc<Self>,
        rid: Rid,
        settle: Settle,
        deadline: Instant,
    ) -> Result<Settled, Fault> {
        self.live.settling(&rid, &settle, clock::now());
        let mut answer = self.send_settle(rid, &settle, deadline).await?;
        if let (Settle::Purge { expect: None }, Settled::Fenced { current: Some(_) }) =
            (&settle, answer)
        {
            answer = self.purge_unreadable(rid, answer, deadline).await?;
        }
        self.note(rid, settle, answer);
        Ok(answer)
    }

    /// One change, as it is: sent, and its answer read.
    pub(super) async fn send_settle(
        self: &Arc<Self>,
        rid: Rid,
        settle: &Settle,
        deadline: Instant,
    ) -> Result<Settled, Fault> {
        let args = script::settle_args(settle, &rid, &self.common.seal).map_err(|_| {
            Fault::NotApplied(Cause::new(Kind::Io, "the system has no randomness to give"))
        })?;
        // All others may be lost: what they leave behind is a record, and its outcome unknown.
        let copied = matches!(settle, Settle::Complete { .. } | Settle::Reassert { .. });
        let plain = Self::question(&rid, &SETTLE, &args, deadline);
        let came = self.ask(Question { copied, ..plain }).await?;
        let settled = self.reader(&rid).settled(&came.value).ok_or_else(senseless)?;
        let fenced = matches!(settled, Settled::Fenced { .. });
        if !fenced && self.is_weak(&came) {
            count(&self.counts.weak);
            return Err(Fault::Ambiguous(replicas()));
        }
        Ok(settled)
    }

    /// The server can read a record whose answer we cannot: it is sealed with another key, or
    /// damaged. It goes by the fence that it has.
    async fn purge_unreadable(
        self: &Arc<Self>,
        rid: Rid,
        refused: Settled,
        deadline: Instant,
    ) -> Result<Settled, Fault> {
        match self.read(rid, deadline).await? {
            (Seen { entry: Entry::Unreadable, .. }, Some(fence)) => {
                self.send_settle(rid, &Settle::Purge { expect: Some(fence) }, deadline).await
            }
            _ => Ok(refused),
        }
    }

    /// Remembers what a change has made of a claim.
    fn note(self: &Arc<Self>, rid: Rid, settle: Settle, answer: Settled) {
        let now = clock::now();
        let Some((nonce, _)) = claimant_of(&settle) else { return };
        match (&settle, answer) {
            // Nothing but a loss makes a live record disappear under its owner.
            (Settle::Renew { .. }, Settled::Fenced { current: None }) => {
                self.suspect(&rid);
                return;
            }
            (Settle::Renew { .. } | Settle::Reassert { .. }, Settled::Fenced { .. }) => {}
            (Settle::Renew { .. } | Settle::Reassert { .. }, _) => return,
            (_, Settled::Reasserted) => self.suspect(&rid),
            _ => {}
        }
        self.live.ended(&rid, nonce);
        if answer == Settled::Done {
            self.account(&settle, now);
        }
        let keeps = matches!(settle, Settle::Complete { .. } | Settle::Doubt { .. });
        if keeps && !matches!(answer, Settled::Fenced { .. }) {
            self.live.settled(rid, settle, now);
        }
    }

    fn account(&self, settle: &Settle, now: Instant) {
        match settle {
            Settle::Complete { by, answer, retention } => {
                self.quotas.completed(by.principal, answer.bytes(), retention, now);
            }
            Settle::Release { by } => self.quotas.released(by.principal, now),
            _ => {}
        }
    }
}

/// When a claim and what it may become are gone.
pub(super) const fn gone_after(lease: u64, unknown: Millis) -> Millis {
    lease.saturating_add(unknown)
}

/// When a result is gone.
pub(super) fn kept_for(retention: &Retention) -> Millis {
    retention.key.max(retention.body)
}
