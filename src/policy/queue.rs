//! Where requests wait for a place: a bounded queue that keeps its waits short.
//!
//! The queue holds tickets; what is woken by one is the caller's. A request that finds no place
//! [enters](WaitQueue::enter), and learns until when it may wait. When a place becomes free the
//! caller [takes](WaitQueue::next) the next ticket. A request that gives up, because its time is
//! over or its client has left, [leaves](WaitQueue::leave). Each costs `O(log n)`, and nothing is
//! allocated once the queue has been as long as it gets.
//!
//! **Order.** `fifo`: the oldest first. `lifo_adaptive`: the oldest first, but the newest while the
//! queue is overloaded, since the old ones will be too late whatever is done. `priority`: the
//! highest tier first, and the oldest first in a tier, unless some of it have to be refused (see
//! below): then the highest level, with a level more for every 10 ms of waiting, up to the top of
//! the tier and never past it. To serve by level those who can all be served would only make the
//! lowest of them wait for the others. A full queue gives way to whoever ranks higher: the last one
//! in it is displaced.
//!
//! **Waits.** A queue that serves all who enter it absorbs a burst, and waiting in it is worth
//! while: up to `max_wait`. In a queue that does not, more arrives than can be done, and its length
//! is only added to every answer. So while most who enter find others of their tier, or above,
//! waiting, once somebody was refused for lack of room or has waited in vain, and until nobody was
//! for 100 ms (or for the time of two answers), whoever is no more important than that one may wait
//! for half of what an answer takes, at least 1 ms. This is controlled delay as Facebook describes
//! it in "Fail at Scale" (ACM Queue 13-8), with constants that follow the upstream's latency; but
//! that the queue has emptied for a moment, which a short one does under any load, does not make
//! the waits long again, and the flood of a low level does not cut the waits of a high one. `fifo`
//! does not cut waits: it is the plain queue.
//!
//! **Deadlines.** A request whose remaining time is less than its answer is expected to take is
//! told so at once, not at its turn.
//!
//! **Those admitted before.** A request that had something to do between its admission and its
//! sending gave its place up for that time, and comes back for one. It waits like the others, but
//! for the length of the queue it neither counts nor is refused: many may come back at once, and
//! what they have done would be in vain.
//!
//! Not here: timers and wakers, the limit in front of which requests wait, and who may enter.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::length::{LEAST, Length};
use self::order::Order;
use super::priority::{COHORTS, Level, MAX_TIERS};
use crate::units::{Factor, Period};

mod length;
mod order;

/// How long a queue may get and how long one may wait in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Queue")]
pub struct Settings {
    /// How many may wait: a number, or a share of the limit such as 200%, which is at
    /// least 32; 0 = nobody waits.
    pub max: Length,
    /// The longest wait.
    pub max_wait: Period,
    /// Who is next.
    pub discipline: Discipline,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max: Length::Share(Factor::percent(200)),
            max_wait: Period::from_millis(100),
            discipline: Discipline::Priority,
        }
    }
}

/// Who is next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discipline {
    /// The oldest, and nobody's wait is cut.
    Fifo,
    /// The oldest; the newest in a queue that does not empty.
    LifoAdaptive,
    /// The highest level.
    #[default]
    Priority,
}

/// The longest queue, whatever the settings and the limit say: a few hundred KiB.
pub const MAX_LENGTH: u32 = 4096;

/// A queue that refused nobody for this time is not overloaded any more, or for so many answers if
/// that is longer.
const CALM: Duration = Duration::from_millis(100);
const CALM_ANSWERS: u32 = 2;

/// Nor is one overloaded that fewer arrivals than this share found others waiting in; and what one
/// arrival weighs in it.
const BEHIND: f64 = 0.7;
const ARRIVAL: f64 = 1.0 / 64.0;

/// Who is above a refused one by no more than so many levels, in the same tier, is next to it: its
/// waits would be long, and in vain as often as not.
const NEAR: usize = 32;

/// The share of an answer's time that one waits in an overloaded queue, and the least wait: timers
/// are no finer.
const SHORT_WAIT: f64 = 0.5;
const SHORT_WAIT_MIN: Duration = Duration::from_millis(1);

/// A request in a queue with `priority` rises by a level in this time.
const AGING_NANOS: i64 = 10_000_000;

/// A place in the queue. Stale tickets are recognised, so giving one back twice does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    index: u32,
    generation: u32,
}

impl Ticket {
    /// Which of the places it is, below [`MAX_LENGTH`]: an index for the caller's wakers.
    #[must_use]
    pub const fn index(self) -> usize {
        self.index as usize
    }
}

/// A request that asks to wait.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Its level; only `priority` looks at it.
    pub level: Level,
    /// When its time is over, if ever.
    pub deadline: Option<Instant>,
    /// How long its answer is expected to take; zero if nobody knows.
    pub expected: Duration,
    /// Whether it was admitted before, and comes back.
    pub admitted: bool,
}

/// What a queue needs to know of what is behind it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How many are served at once: what a relative length relates to.
    pub limit: u32,
    /// How long an answer takes while nothing queues; zero if nobody knows.
    pub latency: Duration,
}

/// Why a request has to stop waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// It has waited as long as one may: 503.
    Waited,
    /// Its deadline cannot be met any more: 504.
    Deadline,
}

/// What became of a request that asked to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// It waits.
    Waiting {
        /// Its place.
        ticket: Ticket,
        /// When it has to leave, if nobody has called it until then.
        until: Instant,
        /// Why it would.
        why: Leave,
        /// Who had to give way; it is out of the queue and has to be told.
        displaced: Option<Ticket>,
    },
    /// The queue is full of requests at least as important.
    Full,
    /// Its deadline cannot be met.
    Hopeless,
}

/// Who is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This one gets the place.
    Serve(Ticket),
    /// This one is out of the queue without one: its deadline cannot be met any more. Ask again.
    Hopeless(Ticket),
}

/// Where a request stands: more is served earlier. In turn: the tier, the level with what aging
/// will add (as a time), the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    tier: Reverse<usize>,
    score: i64,
    earlier: Reverse<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Waiter {
    rank: Rank,
    /// The latest time at which serving it makes sense.
    latest: Option<Instant>,
    level: Level,
    admitted: bool,
    generation: u32,
}

/// The requests that wait in front of one limit.
#[derive(Clone, Debug)]
pub struct WaitQueue {
    waiters: Vec<Waiter>,
    free: Vec<u32>,
    order: Order<Rank>,
    /// How many wait in each tier.
    tiers: [u32; MAX_TIERS],
    /// How many wait that were admitted before.
    admitted: usize,
    refusals: Refusals,
    /// The share of recent arrivals in each tier that found somebody of it, or above, waiting.
    behind: [f64; MAX_TIERS],
    arrivals: u64,
    epoch: Instant,
}

/// Whom the queue could not serve lately.
#[derive(Clone, Copy, Debug)]
struct Refusals {
    since: Instant,
    /// The highest level refused for lack of room, or after waiting in vain: since then, and in the
    /// time as long before it.
    now: Option<Level>,
    before: Option<Level>,
}

impl WaitQueue {
    /// An empty queue.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            waiters: Vec::new(),
            free: Vec::new(),
            order: Order::default(),
            tiers: [0; MAX_TIERS],
            admitted: 0,
            refusals: Refusals { since: now, now: None, before: None },
            behind: [0.0; MAX_TIERS],
            arrivals: 0,
            epoch: now,
        }
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait that were not admitted before.
    #[must_use]
    pub fn newcomers(&self) -> usize {
        self.len().saturating_sub(self.admitted)
    }

    /// How many wait in a tier, 0 being the highest.
    #[must_use]
    pub fn waiting(&self, tier: usize) -> u32 {
        self.tiers.get(tier).copied().unwrap_or(0)
    }

    /// Lets a request wait if there is room and its deadline allows it.
    pub fn enter(
        &mut self,
        settings: &Settings,
        pace: Pace,
        arrival: Arrival,
        now: Instant,
    ) -> Entered {
        let latest = latest(arrival);
        if latest.is_some_and(|latest| latest < now) {
            return Entered::Hopeless;
        }
        let level = match settings.discipline {
            Discipline::Priority => arrival.level,
            _ => Level::LOWEST,
        };
        self.note_arrival(level.tier());
        let overloaded = self.is_overloaded(level, pace, now);
        let rank = self.rank(level, overloaded, now);
        let room = self.newcomers() < settings.max.of(pace.limit);
        let displaced = if room || arrival.admitted {
            None
        } else {
            let Some(ticket) = self.give_way(settings, overloaded, rank, pace, now) else {
                self.note_refused(level, pace, now);
                return Entered::Full;
            };
            Some(ticket)
        };
        let short = overloaded && settings.discipline != Discipline::Fifo;
        let wait = if short { short_wait(settings, pace) } else { settings.max_wait.get() };
        let waited = now.checked_add(wait).unwrap_or(now);
        let (until, why) = match latest {
            Some(latest) if latest < waited => (latest, Leave::Deadline),
            _ => (waited, Leave::Waited),
        };
        let ticket =
            self.insert(Waiter { rank, latest, level, admitted: arrival.admitted, generation: 0 });
        Entered::Waiting { ticket, until, why, displaced }
    }

    /// Takes the next one out, now that a place is free.
    pub fn next(&mut self, settings: &Settings, pace: Pace, now: Instant) -> Option<Next> {
        let newest = settings.discipline == Discipline::LifoAdaptive
            && self.is_overloaded(Level::LOWEST, pace, now);
        let index = if newest { self.order.last() } else { self.order.first() }?;
        let hopeless = self.waiters.get(index as usize)?.latest.is_some_and(|latest| latest < now);
        let ticket = self.remove(index)?;
        Some(if hopeless { Next::Hopeless(ticket) } else { Next::Serve(ticket) })
    }

    /// Takes out a request whose client has left; false if it is out already.
    pub fn leave(&mut self, ticket: Ticket) -> bool {
        self.contains(ticket) && self.remove(ticket.index).is_some()
    }

    /// Takes out a request that was told to leave by now; false if it is out already, served or
    /// displaced.
    pub fn expire(&mut self, ticket: Ticket, why: Leave, pace: Pace, now: Instant) -> bool {
        if !self.contains(ticket) {
            return false;
        }
        let level = self.waiters.get(ticket.index()).map(|waiter| waiter.level);
        if let (Leave::Waited, Some(level)) = (why, level) {
            self.note_refused(level, pace, now);
        }
        self.remove(ticket.index).is_some()
    }

    /// Whether more arrives of this level and of those above it than can be served.
    #[must_use]
    pub fn is_overloaded(&self, level: Level, pace: Pace, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.refusals.since);
        let (calm, refusals) = (calm(pace), &self.refusals);
        let (last, before) = match age {
            age if age <= calm => (refusals.now, refusals.before),
            age if age <= calm * 2 => (None, refusals.now),
            _ => (None, None),
        };
        let near = |refused: Level| {
            level <= refused
                || (level.tier() == refused.tier() && level.cohort() <= refused.cohort() + NEAR)
        };
        let behind = self.behind.get(level.tier()).is_some_and(|behind| *behind >= BEHIND);
        behind && last.max(before).is_some_and(near)
    }

    fn contains(&self, ticket: Ticket) -> bool {
        self.waiters.get(ticket.index()).is_some_and(|waiter| {
            waiter.generation == ticket.generation && self.order.contains(ticket.index)
        })
    }

    fn note_arrival(&mut self, tier: usize) {
        let found = self.tiers.iter().take(tier.saturating_add(1)).any(|waiting| *waiting > 0);
        if let Some(behind) = self.behind.get_mut(tier) {
            *behind += (if found { 1.0 } else { 0.0 } - *behind) * ARRIVAL;
        }
    }

    /// Notes that a request of this level was refused: there is too much of it and of what is
    /// above. To be told by the caller too, of those whom it refuses before they enter.
    pub fn note_refused(&mut self, level: Level, pace: Pace, now: Instant) {
        let (age, calm) = (now.saturating_duration_since(self.refusals.since), calm(pace));
        if age > calm {
            let before = if age <= calm * 2 { self.refusals.now } else { None };
            self.refusals = Refusals { since: now, now: None, before };
        }
        self.refusals.now = self.refusals.now.max(Some(level));
    }

    fn rank(&mut self, level: Level, overloaded: bool, now: Instant) -> Rank {
        let since = now.saturating_duration_since(self.epoch).as_nanos();
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        self.arrivals = self.arrivals.wrapping_add(1);
        let cohort = if overloaded { level.cohort() } else { COHORTS - 1 };
        // All age at one speed, so who is ahead of whom never changes while both rise; and once one
        // has reached the top of the tier it is ahead of whoever has not. Hence the order is fixed
        // when they enter. Where all have one level it is that of arrival.
        Rank {
            tier: Reverse(level.tier()),
            score: (cohort as i64 * AGING_NANOS).saturating_sub(since),
            earlier: Reverse(self.arrivals),
        }
    }

    /// Makes room in a full queue for a request of this rank, if it deserves it.
    fn give_way(
        &mut self,
        settings: &Settings,
        overloaded: bool,
        rank: Rank,
        pace: Pace,
        now: Instant,
    ) -> Option<Ticket> {
        let index = match settings.discipline {
            // The oldest one would be served last, if ever.
            Discipline::LifoAdaptive if overloaded => self.order.first()?,
            Discipline::Fifo | Discipline::LifoAdaptive => return None,
            Discipline::Priority => self.order.last()?,
        };
        let waiter = self.waiters.get(index as usize)?;
        if settings.discipline == Discipline::Priority && waiter.rank > rank {
            return None;
        }
        self.note_refused(waiter.level, pace, now);
        self.remove(index)
    }

    fn insert(&mut self, new: Waiter) -> Ticket {
        let index = self.free.pop().unwrap_or_else(|| {
            let index = u32::try_from(self.waiters.len()).unwrap_or(u32::MAX);
            self.waiters.push(new);
            index
        });
        let mut ticket = Ticket { index, generation: 0 };
        if let Some(waiter) = self.waiters.get_mut(index as usize) {
            *waiter = Waiter { generation: waiter.generation, ..new };
            ticket.generation = waiter.generation;
        }
        self.order.insert(index, new.rank);
        if let Some(waiting) = self.tiers.get_mut(new.level.tier()) {
            *waiting += 1;
        }
        self.admitted += usize::from(new.admitted);
        ticket
    }

    fn remove(&mut self, index: u32) -> Option<Ticket> {
        if !self.order.remove(index) {
            return None;
        }
        let waiter = self.waiters.get_mut(index as usize)?;
        let ticket = Ticket { index, generation: waiter.generation };
        waiter.generation = waiter.generation.wrapping_add(1);
        self.free.push(index);
        if let Some(waiting) = self.tiers.get_mut(waiter.level.tier()) {
            *waiting = waiting.saturating_sub(1);
        }
        self.admitted = self.admitted.saturating_sub(usize::from(waiter.admitted));
        Some(ticket)
    }
}

fn calm(pace: Pace) -> Duration {
    CALM.max(pace.latency.saturating_mul(CALM_ANSWERS))
}

/// The latest time at which serving a request makes sense; nothing if that is at any time.
fn latest(arrival: Arrival) -> Option<Instant> {
    let deadline = arrival.deadline?;
    // Before the beginning of time means that even the first instant is too late.
    Some(deadline.checked_sub(arrival.expected).unwrap_or(deadline))
}

fn short_wait(settings: &Settings, pace: Pace) -> Duration {
    let most = settings.max_wait.get();
    if pace.latency.is_zero() {
        return most;
    }
    pace.latency.mul_f64(SHORT_WAIT).max(SHORT_WAIT_MIN).min(most)
}

#[cfg(test)]
mod tests;
