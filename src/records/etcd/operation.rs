//! One operation on one record: look, let the machine decide, and write if nothing has changed
//! since; else look again.
//!
//! Every write says what it was decided on: the revisions of the record and of its lease's key,
//! and of the store's own key, so that it fails in a store that has been emptied or exchanged. A
//! write whose fate is not known is followed by another look, on another member if there is one:
//! the machine recognises its own claimant, and says what had been done.

use std::time::Instant;

use super::cluster::{Remedy, Tries, Trouble};
use super::layout::{Head, Keys, View, encode};
use super::leases::{Lease, NO_LEASE};
use super::wire::{Compare, RangeRequest, Request, RequestOp, TxnRequest};
use super::{Inner, shares, wall};
use crate::policy::idempotency::machine::{Around, Change, Room};
use crate::policy::idempotency::record::{Entry, Fence, Millis, NEVER, Record, Rid, State};
use crate::records::{Cause, Fault, Kind, codec};

/// Everything longer is for ever.
const FOR_EVER: u64 = NEVER / 2;

/// One operation.
pub(crate) struct Operation<'a> {
    inner: &'a Inner,
    rid: Rid,
    keys: Keys,
    deadline: Instant,
    /// The revision of the store's own key.
    store_at: i64,
    /// Why an earlier write of this operation may have been carried out.
    doubt: Option<Cause>,
}

/// What the machine is asked, and how its answer is written.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// Whether the record is claimed, and so gets a new fence.
    pub(crate) claims: bool,
    /// The grace of those who may take it over, in milliseconds; the record's own when not given.
    pub(crate) grace: Option<u64>,
    /// Whether there is room.
    pub(crate) room: Room,
}

/// What was decided.
pub(crate) struct Decided<A> {
    /// The machine's answer.
    pub(crate) answer: A,
    /// The fence of the claim, if one was written.
    pub(crate) fence: Option<Fence>,
    /// What is known of the record now.
    pub(crate) view: View,
}

/// What is to be written.
struct Plan {
    success: Vec<RequestOp>,
    head: Head,
    /// The record; none when it is removed.
    record: Option<Box<Record>>,
    /// The revision of the lease's key afterwards; that of this write when not given.
    lease_at: Option<i64>,
}

/// How a write ended.
enum Written {
    /// In this revision.
    At(i64),
    /// Not: something else was there.
    Conflict(View),
}

impl<'a> Operation<'a> {
    /// On this record, until this instant.
    pub(crate) fn new(inner: &'a Inner, rid: Rid, deadline: Instant) -> Result<Self, Fault> {
        let store_at = inner.identity()?.at;
        let keys = Keys::new(&inner.prefix, &rid);
        Ok(Self { inner, rid, keys, deadline, store_at, doubt: None })
    }

    /// Looks.
    pub(crate) async fn look(&mut self) -> Result<View, Fault> {
        let question = TxnRequest {
            compare: vec![self.same_store()],
            success: self.keys.gets(),
            failure: Vec::new(),
        };
        let answer = self.inner.cluster.read(&question, self.deadline).await;
        let answer = answer.map_err(|trouble| self.fault(trouble))?;
        if !answer.succeeded {
            return Err(self.other_store());
        }
        Ok(View::read(&answer.responses, &self.rid, &self.inner.common.seal, wall()))
    }

    /// Looks, decides and writes, until it is done.
    pub(crate) async fn run<A>(
        &mut self,
        mut view: View,
        manner: Manner,
        mut decide: impl FnMut(&Entry, &Around) -> (Change, A),
    ) -> Result<Decided<A>, Fault> {
        let mut tries = Tries::new(self.deadline);
        let mut less = false;
        loop {
            // What was read holds for the time at which it was read.
            let now = if view.assumed { wall() } else { view.now };
            let entry = if manner.claims { view.for_takeover(now) } else { view.entry.clone() };
            let (change, answer) = decide(&entry, &self.around(now, manner.room));
            if matches!(change, Change::Keep) {
                if !view.assumed {
                    return Ok(Decided { answer, fence: None, view });
                }
                view = self.look().await?;
                continue;
            }
            match self.write(&view, change, manner, (now, less)).await {
                Ok((Written::At(at), plan)) => {
                    let (view, fence) = plan.written(at, manner.claims);
                    return Ok(Decided { answer, fence, view });
                }
                Ok((Written::Conflict(found), _)) => {
                    view = found;
                    // Somebody else was quicker, which may go on for long only if they are many.
                    if !tries.again(usize::MAX).await {
                        let cause = Cause::new(Kind::Busy, "others write the same record");
                        return Err(self.refused(cause));
                    }
                }
                Err(trouble) => {
                    if trouble.remedy == Remedy::Less {
                        // What is still too large without its body never fits.
                        if less {
                            return Err(self.fault(trouble));
                        }
                        less = true;
                        self.inner.count_shed();
                    }
                    view = self.recover(trouble, view, &mut tries).await?;
                }
            }
        }
    }

    const fn around(&self, now: Millis, room: Room) -> Around {
        // etcd gives the fence with the write; the machine only needs one that is no larger.
        Around { now, next_fence: Fence(1), epoch: None, room }
    }

    /// After a failed write: what is there now, if there is a point in going on.
    async fn recover(
        &mut self,
        trouble: Trouble,
        before: View,
        tries: &mut Tries,
    ) -> Result<View, Fault> {
        match trouble.remedy {
            Remedy::None => return Err(self.fault(trouble)),
            Remedy::Less | Remedy::Login | Remedy::Elsewhere => {}
            Remedy::Lease => self.inner.leases.forget(),
            Remedy::Room => {
                // The answer came after the transaction was carried out, or was not; a look tells.
                let now = self.look().await?;
                let same = now.record_at == before.record_at && now.lease_at == before.lease_at;
                if same {
                    return Err(self.refused(trouble.cause));
                }
                if trouble.maybe {
                    self.doubt = Some(trouble.cause);
                }
                return Ok(now);
            }
        }
        if trouble.maybe {
            self.doubt = Some(trouble.cause.clone());
        }
        if !tries.again(self.inner.cluster.len()).await {
            return Err(self.fault(trouble));
        }
        match self.look().await {
            Ok(view) => Ok(view),
            // What the first failure was says more than that there was no time for a second.
            Err(_) => Err(self.fault(trouble)),
        }
    }

    async fn write(
        &self,
        before: &View,
        change: Change,
        manner: Manner,
        (now, less): (Millis, bool),
    ) -> Result<(Written, Plan), Trouble> {
        let mut plan = match change {
            Change::Keep | Change::Remove => self.removal(&before.entry),
            Change::Put(mut record) => {
                if less && let Some(answer) = &mut record.answer {
                    answer.body = None;
                }
                if is_remark(&before.entry, &record) {
                    let head = Head { fresh: false, fence: record.claimant.fence, ..before.head };
                    let success = vec![self.remark(&record, head)?];
                    Plan { success, head, record: Some(record), lease_at: Some(before.lease_at) }
                } else {
                    self.put(record, head_of(before, manner), now).await?
                }
            }
        };
        let success = std::mem::take(&mut plan.success);
        let written = self.commit(before, success).await?;
        Ok((written, plan))
    }

    /// The record's keys in its new state.
    async fn put(&self, record: Box<Record>, mut head: Head, now: Millis) -> Result<Plan, Trouble> {
        let left = |until: Millis| until.saturating_sub(now);
        head.fence = record.claimant.fence;
        head.lease = if record.state == State::InFlight { left(record.lease_until) } else { 0 };
        let waits = matches!(record.state, State::InFlight | State::Unknown) && head.grace > 0;
        let grace = if waits { head.lease.saturating_add(head.grace) } else { 0 };
        let body = if record.state == State::Completed { left(record.body_until) } else { 0 };
        let (lease, grace, body) =
            tokio::try_join!(self.lease(head.lease), self.lease(grace), self.lease(body))?;
        // The record outlives whatever hangs on it.
        let least = [lease, grace, body].into_iter().flatten().map(|lease| lease.granted).max();
        let least = least.map_or(0, |seconds| (seconds + 1).saturating_mul(1_000));
        let kept = match left(record.keep_until) {
            FOR_EVER.. => NO_LEASE,
            time => self.inner.leases.of(time.max(least), self.deadline).await?,
        };
        let seal = &self.inner.common.seal;
        let value = encode(&record, head, &self.rid, seal).map_err(no_randomness)?;
        let whole = match body {
            Some(_) => codec::encode(&record, &self.rid, seal).map_err(no_randomness)?,
            None => Vec::new(),
        };
        let mark = |key: &Vec<u8>, lease: Option<Lease>, value: Vec<u8>| match lease {
            Some(lease) => RequestOp::put(key.clone(), value, lease.id),
            None => RequestOp::delete(key.clone()),
        };
        let keys = &self.keys;
        let success = vec![
            RequestOp::put(keys.record.clone(), value, kept.id),
            mark(&keys.lease, lease, Vec::new()),
            mark(&keys.grace, grace, Vec::new()),
            mark(&keys.body, body, whole),
            RequestOp::put(self.counted(&record), Vec::new(), kept.id),
        ];
        let lease_at = if lease.is_some() { None } else { Some(0) };
        Ok(Plan { success, head, record: Some(record), lease_at })
    }

    /// The key by which the record is counted as its principal's.
    fn counted(&self, record: &Record) -> Vec<u8> {
        shares::key(&self.inner.prefix, record.claimant.principal, &self.rid)
    }

    /// A lease for so many milliseconds; none for none.
    async fn lease(&self, millis: u64) -> Result<Option<Lease>, Trouble> {
        match millis {
            0 => Ok(None),
            FOR_EVER.. => Ok(Some(NO_LEASE)),
            _ => self.inner.leases.of(millis, self.deadline).await.map(Some),
        }
    }

    /// The record alone, for as long as it is kept now.
    fn remark(&self, record: &Record, head: Head) -> Result<RequestOp, Trouble> {
        let value = encode(record, head, &self.rid, &self.inner.common.seal);
        Ok(RequestOp::rewrite(self.keys.record.clone(), value.map_err(no_randomness)?))
    }

    fn removal(&self, before: &Entry) -> Plan {
        let Keys { record, lease, grace, body } = self.keys.clone();
        // Of a record that cannot be read nobody knows whose it is; what counts it ends by itself.
        let counted = match before {
            Entry::Record(record) => Some(self.counted(record)),
            _ => None,
        };
        let keys = [record, lease, grace, body].into_iter().chain(counted);
        let success = keys.map(RequestOp::delete).collect();
        Plan { success, head: Head::NONE, record: None, lease_at: Some(0) }
    }

    /// A grace begins now, for a record whose owner never named one so long: who may take it over
    /// can do so when it is over. Nothing is said of how it went; the next claim sees.
    pub(crate) async fn begin_grace(&self, view: &View, grace: u64) {
        let Entry::Record(record) = &view.entry else { return };
        let head = Head { fresh: false, fence: record.claimant.fence, grace, ..view.head };
        let begun = async {
            let mark = self.inner.leases.of(grace, self.deadline).await?;
            let mark = RequestOp::put(self.keys.grace.clone(), Vec::new(), mark.id);
            self.commit(view, vec![self.remark(record, head)?, mark]).await
        };
        // The next claim sees whether it has begun, and begins it if it has not.
        let _ = begun.await;
    }

    async fn commit(&self, before: &View, success: Vec<RequestOp>) -> Result<Written, Trouble> {
        let mut failure = self.keys.gets();
        let own = RangeRequest { keys_only: true, ..RangeRequest::of(self.inner.own_key()) };
        failure.push(RequestOp { request: Some(Request::Range(own)) });
        let compare = vec![
            self.same_store(),
            Compare::unchanged(self.keys.record.clone(), before.record_at),
            Compare::unchanged(self.keys.lease.clone(), before.lease_at),
        ];
        let question = TxnRequest { compare, success, failure };
        let answer = self.inner.cluster.write(&question, self.deadline).await?;
        if answer.succeeded {
            return Ok(Written::At(answer.header.map_or(0, |header| header.revision)));
        }
        let own = answer.responses.get(4).and_then(|own| own.range.as_ref()?.kvs.first());
        if own.map_or(0, |own| own.mod_revision) != self.store_at {
            let (Fault::NotApplied(cause) | Fault::Ambiguous(cause)) = self.other_store();
            return Err(Trouble { maybe: false, cause, remedy: Remedy::None });
        }
        let seal = &self.inner.common.seal;
        Ok(Written::Conflict(View::read(&answer.responses, &self.rid, seal, wall())))
    }

    fn same_store(&self) -> Compare {
        Compare::unchanged(self.inner.own_key(), self.store_at)
    }

    fn other_store(&self) -> Fault {
        self.inner.lose_identity(self.store_at);
        self.refused(Cause::new(Kind::Unfit, "the store was emptied or exchanged; looking again"))
    }

    fn fault(&self, trouble: Trouble) -> Fault {
        match trouble.maybe {
            true => Fault::Ambiguous(trouble.cause),
            false => self.refused(trouble.cause),
        }
    }

    /// This try changed nothing; an earlier one may have.
    fn refused(&self, cause: Cause) -> Fault {
        match &self.doubt {
            Some(doubt) => Fault::Ambiguous(doubt.clone()),
            None => Fault::NotApplied(cause),
        }
    }
}

impl Plan {
    /// What is there once it has been written in this revision, and the fence if it is a claim.
    fn written(self, at: i64, claims: bool) -> (View, Option<Fence>) {
        let mut view = View::nothing();
        let Some(mut record) = self.record else { return (view, None) };
        let revision = u64::try_from(at).unwrap_or(0);
        let fence = claims.then(|| Fence(revision.max(self.head.fence.0)));
        record.claimant.fence = fence.unwrap_or(record.claimant.fence);
        view.entry = Entry::Record(record);
        view.head = self.head;
        view.record_at = at;
        view.lease_at = self.lease_at.unwrap_or(at);
        (view, fence)
    }
}

fn head_of(before: &View, manner: Manner) -> Head {
    let grace = manner.grace.unwrap_or(before.head.grace);
    Head { fresh: manner.claims, grace, ..Head::NONE }
}

/// Whether nothing but a remark on the record is new, so that its times go on as they are.
fn is_remark(before: &Entry, record: &Record) -> bool {
    let Entry::Record(before) = before else { return false };
    let marked = before.contested != record.contested && before.claimant == record.claimant;
    marked && before.state == record.state
}

fn no_randomness(_: codec::NoRandomness) -> Trouble {
    let cause = Cause::new(Kind::Io, "the system gives no random bytes");
    Trouble { maybe: false, cause, remedy: Remedy::None }
}
