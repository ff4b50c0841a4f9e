//! Which addresses does a name stand for, and when to ask again?
//!
//! Name servers answer in part, answer nothing, or fail for a while, and none of that means that
//! the servers behind the name are gone. So an address leaves the set only when successive good
//! answers lack it, and a failure keeps the whole set for a bounded time. Nothing is asked here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// An address is removed when this many good answers in a row lack it. One is too few, because a
/// server that answers with a changing part of a large set would make every address come and go. An
/// address that is really gone stays for one more TTL and is refused or ejected in the meantime.
pub const ABSENT_ANSWERS: u8 = 2;

/// The most addresses of one name. A larger answer is a mistake or an attack, and every address
/// costs state and connections.
pub const MAX_ADDRESSES: usize = 256;

/// The shortest wait between two questions, whatever the settings say, so that no setting makes a
/// busy loop.
pub const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// Up to this share is taken off each wait, so that names and proxies that started together drift
/// apart. Waits are never lengthened: an answer is not used beyond its TTL.
const JITTER: f64 = 0.1;

/// The settings of one name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The shortest wait before the name is resolved again, and the first wait after a failure.
    pub min: Duration,
    /// The longest wait; taken as `min` when it is shorter than that.
    pub max: Duration,
    /// How long the last good set is kept, counted from the first failure after it.
    pub keep_last_good: Duration,
}

/// A good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The addresses, in any order; repeated ones count once.
    pub addresses: Vec<IpAddr>,
    /// For how long the answer holds.
    pub ttl: Duration,
}

/// Why there is no good answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The name does not exist (NXDOMAIN).
    NoSuchName,
    /// The name exists and has no address.
    Empty,
    /// No name server answered in time.
    Timeout,
    /// A name server answered with an error, such as SERVFAIL; its words.
    Rejected(String),
    /// No name server could be asked, or its answer could not be read; why.
    Unreachable(String),
    /// The text is not a name that can be asked for; why.
    BadName(String),
}

/// What an operator wants to hear about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// The first good answer.
    Resolved,
    /// A good answer changed the set.
    Changed,
    /// The first failure after a good answer, or the first answer ever is a failure.
    Failing,
    /// Failures lasted longer than the last good set is kept; the set is empty now.
    Expired,
    /// The first good answer after failures.
    Recovered,
}

/// What follows from an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update {
    /// The whole set in ascending order, IPv4 before IPv6, when it differs from the one before; the
    /// first update always has it, even if it is empty.
    pub addresses: Option<Vec<IpAddr>>,
    /// How long to wait before asking again; between `min` and `max`.
    pub next_in: Duration,
    /// What to tell the operator.
    pub transition: Option<Transition>,
}

/// What is known of one name.
#[derive(Clone, Debug, Default)]
pub struct Resolution {
    /// Each address with the number of successive good answers that lacked it.
    members: BTreeMap<IpAddr, u8>,
    /// Whether a set, be it empty, has been given out.
    published: bool,
    /// Whether there ever was a good answer.
    resolved: bool,
    /// Failures in a row.
    failures: u32,
    /// The time of the first of them.
    failing_since: Option<Instant>,
}

impl Resolution {
    /// Takes an answer, `random` from `[0, 1)`, and says what to do. An answer without an address
    /// is the failure [`Failure::Empty`].
    pub fn on_answer(
        &mut self,
        bounds: &Bounds,
        answer: Result<Answer, Failure>,
        now: Instant,
        random: f64,
    ) -> Update {
        let (changed, wait, transition) = match answer {
            Ok(answer) if !answer.addresses.is_empty() => self.on_good(answer),
            Ok(_) | Err(_) => self.on_failure(bounds, now),
        };
        let first = !std::mem::replace(&mut self.published, true);
        Update {
            addresses: (changed || first).then(|| self.members.keys().copied().collect()),
            next_in: bounds.jittered(wait, random),
            transition,
        }
    }

    /// What is known goes on in another keeping of the name, whose first update has the set.
    pub fn resume(&mut self) {
        self.published = false;
    }

    /// The set as it was last given out, in ascending order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.members.keys().copied()
    }

    fn on_good(&mut self, answer: Answer) -> (bool, Duration, Option<Transition>) {
        let changed = self.merge(answer.addresses);
        let failed = std::mem::take(&mut self.failures) > 0;
        self.failing_since = None;
        let first = !std::mem::replace(&mut self.resolved, true);
        let transition = match (first, failed, changed) {
            (true, ..) => Some(Transition::Resolved),
            (false, true, _) => Some(Transition::Recovered),
            (false, false, true) => Some(Transition::Changed),
            (false, false, false) => None,
        };
        (changed, answer.ttl, transition)
    }

    /// Takes the answer into the set; whether the set changed. When the bound is reached, known
    /// addresses go before new ones and small before large, so that the order of an answer that is
    /// too large decides nothing.
    fn merge(&mut self, addresses: Vec<IpAddr>) -> bool {
        let answer: BTreeSet<IpAddr> = addresses.into_iter().collect();
        let (known, new): (Vec<_>, Vec<_>) =
            answer.iter().copied().partition(|address| self.members.contains_key(address));
        let mut next: BTreeMap<IpAddr, u8> =
            known.into_iter().chain(new).take(MAX_ADDRESSES).map(|address| (address, 0)).collect();
        for (address, absent) in &self.members {
            let absent = absent.saturating_add(1);
            let missed = !answer.contains(address);
            if missed && absent < ABSENT_ANSWERS && next.len() < MAX_ADDRESSES {
                next.insert(*address, absent);
            }
        }
        let changed = !next.keys().eq(self.members.keys());
        self.members = next;
        changed
    }

    fn on_failure(
        &mut self,
        bounds: &Bounds,
        now: Instant,
    ) -> (bool, Duration, Option<Transition>) {
        let since = *self.failing_since.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        let doublings = (self.failures - 1).min(31);
        let backoff = bounds.shortest().saturating_mul(1 << doublings);
        let transition = (self.failures == 1).then_some(Transition::Failing);
        if self.members.is_empty() {
            return (false, backoff, transition);
        }
        let left = bounds.keep_last_good.saturating_sub(now.saturating_duration_since(since));
        if left.is_zero() {
            self.members.clear();
            return (true, backoff, Some(Transition::Expired));
        }
        // Asking once more when the time is up makes the set end then, and not one wait later.
        (false, backoff.min(left), transition)
    }
}

impl Bounds {
    fn shortest(&self) -> Duration {
        self.min.max(SHORTEST_WAIT)
    }

    fn jittered(&self, wait: Duration, random: f64) -> Duration {
        let shortest = self.shortest();
        let wait = wait.clamp(shortest, self.max.max(shortest));
        wait.mul_f64(1.0 - JITTER * random.clamp(0.0, 1.0)).max(shortest)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchName => f.write_str("the name does not exist"),
            Self::Empty => f.write_str("the name has no address"),
            Self::Timeout => f.write_str("no name server answered in time"),
            Self::Rejected(words) => write!(f, "the name server answered with an error: {words}"),
            Self::Unreachable(why) => write!(f, "no name server could be asked: {why}"),
            Self::BadName(why) => write!(f, "this is not a name that can be resolved: {why}"),
        }
    }
}

#[cfg(test)]
mod tests;
