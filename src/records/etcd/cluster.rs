//! The members together: which one is asked, and what a failure proves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prost::Message;

use super::grpc::{Channel, Failure};
use super::member::Member;
use super::wire::{TXN, TxnRequest, TxnResponse};
use crate::clock;
use crate::records::{Cause, Kind};

/// How often one question is asked, of all members together: enough for one leader to follow
/// another, and bounded for a cluster that refuses at once.
const TRIES: u32 = 12;
/// The wait after every member has failed once; an election takes longer, and deadlines are short.
const ROUND_WAIT: Duration = Duration::from_millis(20);
/// A member that is silent gets this part of the time that is left when there is another one.
const SHARE: u32 = 2;

/// The members.
pub(crate) struct Cluster {
    members: Box<[Arc<Member>]>,
    preferred: AtomicUsize,
    /// The newest revision of the store that any answer had.
    revision: AtomicI64,
}

/// Why a question has no answer.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    /// Whether it may have been carried out all the same.
    pub(crate) maybe: bool,
    /// What happened.
    pub(crate) cause: Cause,
    /// What the store can do about it.
    pub(crate) remedy: Remedy,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Nothing.
    None,
    /// Another member may be able to.
    Elsewhere,
    /// The member must be told again who we are.
    Login,
    /// The lease is gone; take another one.
    Lease,
    /// Store less.
    Less,
    /// The database is full. Written it may be all the same: the limit is looked at before, and
    /// told after.
    Room,
}

impl Cluster {
    /// These members.
    pub(crate) fn new(members: Vec<Arc<Member>>) -> Self {
        Self {
            members: members.into_boxed_slice(),
            preferred: AtomicUsize::new(0),
            revision: AtomicI64::new(0),
        }
    }

    /// The newest revision of the store that any answer had.
    pub(crate) fn revision(&self) -> i64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// The connection to ask on: the preferred member's, or the next one's that has any.
    pub(crate) fn channel(&self) -> Option<Channel> {
        self.connected().next().map(|(_, channel)| channel)
    }

    fn connected(&self) -> impl Iterator<Item = (usize, Channel)> {
        let first = self.preferred.load(Ordering::Relaxed);
        let order = (0..self.members.len()).map(move |step| (first + step) % self.members.len());
        order.filter_map(|at| Some((at, self.members.get(at)?.channel()?)))
    }

    /// Asks once.
    pub(crate) async fn once<Q: Message, A: Message + Default>(
        &self,
        path: &'static str,
        question: &Q,
        deadline: Instant,
    ) -> Result<A, Trouble> {
        let mut connected = self.connected();
        let Some((at, mut channel)) = connected.next() else {
            return Err(self.unreachable());
        };
        let left = deadline.saturating_duration_since(clock::now());
        let until = match connected.next() {
            Some(_) => deadline.checked_sub(left / SHARE).unwrap_or(deadline),
            None => deadline,
        };
        match channel.ask(path, question, until).await {
            Ok(answer) => Ok(answer),
            Err(failure) => Err(self.learn(at, failure)),
        }
    }

    /// Asks until there is an answer: for what may be carried out several times.
    pub(crate) async fn ask<Q: Message, A: Message + Default>(
        &self,
        path: &'static str,
        question: &Q,
        deadline: Instant,
    ) -> Result<A, Trouble> {
        let mut tries = Tries::new(deadline);
        loop {
            let trouble = match self.once(path, question, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            if !matches!(trouble.remedy, Remedy::Elsewhere | Remedy::Login) {
                return Err(trouble);
            }
            if !tries.again(self.members.len()).await {
                return Err(trouble);
            }
        }
    }

    /// Reads, by a transaction that writes nothing; not from a member that is behind.
    pub(crate) async fn read(
        &self,
        question: &TxnRequest,
        deadline: Instant,
    ) -> Result<TxnResponse, Trouble> {
        let answer = self.ask(TXN, question, deadline).await;
        // A read changes nothing, whatever became of it.
        answer
            .map(|answer| self.noted(answer))
            .map_err(|trouble| Trouble { maybe: false, ..trouble })
    }

    /// Carries a transaction out, once.
    pub(crate) async fn write(
        &self,
        question: &TxnRequest,
        deadline: Instant,
    ) -> Result<TxnResponse, Trouble> {
        self.once(TXN, question, deadline).await.map(|answer| self.noted(answer))
    }

    fn noted(&self, answer: TxnResponse) -> TxnResponse {
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        self.revision.fetch_max(revision, Ordering::Relaxed);
        answer
    }

    /// How many members there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    fn unreachable(&self) -> Trouble {
        let mut words = String::from("no member is connected");
        for member in &self.members {
            let problem = member.problem().unwrap_or_default();
            words = format!("{words}; {}: {problem}", member.name());
        }
        let cause = Cause::new(Kind::Unreachable, words);
        Trouble { maybe: false, cause, remedy: Remedy::Elsewhere }
    }

    /// What a failure proves, and who is asked next.
    fn learn(&self, at: usize, failure: Failure) -> Trouble {
        let mut trouble = verdict(failure);
        let Some(member) = self.members.get(at) else { return trouble };
        let cause = &mut trouble.cause;
        cause.detail = format!("{}: {}", member.name(), cause.detail).into_boxed_str();
        match trouble.remedy {
            Remedy::Elsewhere => {
                let next = (at + 1) % self.members.len();
                // Whoever failed at the same time has moved on already.
                let _ =
                    self.preferred.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
            }
            Remedy::Login => member.renew(),
            _ => {}
        }
        trouble
    }
}

/// How often something was tried, and whether it may be again.
pub(crate) struct Tries {
    deadline: Instant,
    count: u32,
}

impl Tries {
    /// From now on, until this instant.
    pub(crate) const fn new(deadline: Instant) -> Self {
        Self { deadline, count: 0 }
    }

    /// Waits a little after each round of so many members; false when it is time to give up.
    pub(crate) async fn again(&mut self, round: usize) -> bool {
        self.count += 1;
        if self.count >= TRIES {
            return false;
        }
        let rounds = usize::try_from(self.count).unwrap_or(usize::MAX);
        if rounds.is_multiple_of(round.max(1)) {
            let at = clock::now() + ROUND_WAIT * self.count;
            clock::sleep_until(at.min(self.deadline)).await;
        }
        clock::now() < self.deadline
    }
}

/// What etcd's answer proves. Its own names of errors are in its words only; the codes are shared
/// by errors before and after a proposal.
fn verdict(failure: Failure) -> Trouble {
    let (code, words) = match failure {
        Failure::Unsent(cause) => {
            let remedy = Remedy::Elsewhere;
            return Trouble { maybe: false, cause, remedy };
        }
        Failure::Silent(cause) => {
            return Trouble { maybe: true, cause, remedy: Remedy::Elsewhere };
        }
        Failure::Status { code, words } => (code, words),
    };
    let has = |part: &str| words.contains(part);
    let (maybe, kind, remedy) = match code {
        // Refused before it was proposed, as we ask for that.
        14 if has("no leader") => (false, Kind::Unavailable, Remedy::Elsewhere),
        14 => (true, Kind::Unavailable, Remedy::Elsewhere),
        8 if has("space exceeded") => (true, Kind::Full, Remedy::Room),
        8 if has("too many requests") => (false, Kind::Busy, Remedy::Elsewhere),
        8 | 3 | 11 if has("too large") || has("larger than max") => {
            (false, Kind::Unfit, Remedy::Less)
        }
        5 if has("lease") => (false, Kind::Unavailable, Remedy::Lease),
        16 => (false, Kind::Unavailable, Remedy::Login),
        3 if has("auth store is old") => (false, Kind::Unavailable, Remedy::Login),
        3 | 7 | 9 | 12 => (false, Kind::Unfit, Remedy::None),
        1 | 4 => (true, Kind::Timeout, Remedy::Elsewhere),
        _ => (true, Kind::Protocol, Remedy::Elsewhere),
    };
    Trouble { maybe, cause: Cause::new(kind, words), remedy }
}

#[cfg(test)]
mod tests;
