//! Too fast? A limit on the rate of a route, whole or per key.
//!
//! The generic cell rate algorithm (ITU-T I.371), as the `governor` crate computes it: for each key
//! one number, the time at which the next request would be due if all came evenly spaced. A request
//! passes when it is early by no more than the burst allows.
//!
//! With `on_limit: wait` a request above the limit reserves its turn: it moves the due time on like
//! one that passes, and is told how long to wait for its own. Turns go in order of arrival and each
//! waiter wakes once, to go; nobody wakes to ask again and be overtaken. A turn whose request went
//! away meanwhile is given back when no other was reserved after it, and else lost, as it would be
//! had the request passed: handing it on would let the ones behind it go faster than the rate. What
//! can be reserved is bounded by `max_wait`, by what is left of the request's own time, and by
//! [`MAX_WAITING`].
//!
//! Keys are remembered as 64-bit hashes with a random seed of the limiter's own, so that no header
//! value stays in memory and nobody can aim for another's slot. The [`MAX_KEYS`] most recent are
//! kept; a key that was forgotten starts with a full burst. Requests without the key share one
//! slot.
//!
//! This is the one policy that reads a clock and holds a lock by itself, because `governor` does
//! both; the clock is a type parameter, and the lock covers one look-up. `rate`, `burst` and `key`
//! are fixed when the limiter is made ([`Limiter::same_quota`]); `on_limit` and `max_wait` are read
//! at each check, and `mode` is the caller's to act on.

use std::hash::{BuildHasher, RandomState};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed, StateStore};
use governor::{Quota, RateLimiter};
use lru::LruCache;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Mode;
use super::learned_rate::{Bounds, MAX_WAITING};
use super::load_balancing::HashOn;
use crate::units::{Period, Rate};

#[cfg(test)]
mod tests;

/// How many keys of one limiter are remembered: a megabyte at most, and more than the clients that
/// one sidecar serves within the time in which a bucket fills again.
pub const MAX_KEYS: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// The longest time, in nanoseconds, that a burst can take to fill again: 146 years. It keeps the
/// arithmetic of due times within 64 bits; a larger burst cannot be told from it.
const LONGEST_REFILL: u64 = u64::MAX / 4;

/// How many requests may pass in a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RateLimit")]
pub struct Settings {
    /// Whether the policy acts.
    #[serde(default)]
    pub mode: Mode,
    /// The sustained rate. Required, unless it is learned; then it is the most that is sent.
    #[serde(default)]
    pub rate: Option<Rate>,
    /// How many may pass at once after a pause; null = the events of one second of the rate, of a
    /// quarter of one where it is learned; at least 1.
    #[serde(default)]
    pub burst: Option<u32>,
    /// What has a limit of its own: `header:NAME` or `client_ip`; null = the whole route has one.
    #[serde(default)]
    pub key: Option<HashOn>,
    /// What happens to a request above the limit.
    #[serde(default)]
    pub on_limit: OnLimit,
    /// With `wait`: a request that would have to wait longer is refused.
    #[serde(default)]
    pub max_wait: Period,
    /// The rate is learned from the upstream's 429, `Retry-After` and `RateLimit`: for calls to a
    /// third party. It counts every attempt.
    #[serde(default)]
    pub learn_from_429: bool,
}

impl Settings {
    /// What they say of a rate that is learned.
    #[must_use]
    pub fn bounds(&self) -> Bounds {
        Bounds {
            rate: self.rate.map(Rate::per_second),
            burst: self.burst,
            observed: self.mode == Mode::Observe,
        }
    }

    /// How long a request may wait.
    #[must_use]
    pub fn patience(&self) -> Duration {
        match self.on_limit {
            OnLimit::Wait => self.max_wait.get(),
            OnLimit::Reject => Duration::ZERO,
        }
    }
}

/// What happens to a request above the limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLimit {
    /// It is answered 429 at once.
    #[default]
    Reject,
    /// It waits for its turn, at most `max_wait`.
    Wait,
}

/// The limit as the `RateLimit-Policy` header field describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The requests allowed in each window (`q`).
    pub limit: u32,
    /// How many may pass at once after a pause.
    pub burst: u32,
    /// The window (`w`): one second, minute or hour.
    pub window: Duration,
}

/// What is left of the limit, as the `RateLimit` header field describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// How many requests would pass now (`r`).
    pub remaining: u32,
    /// Until the whole burst is there again if nothing comes (`t`).
    pub reset: Duration,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Pass {
        /// How many more would pass at this moment.
        remaining: u32,
    },
    /// It has reserved a turn: it waits this long and then passes without asking again.
    Wait(Duration),
    /// It is refused, and has used nothing of the limit.
    Refused {
        /// The time until the next request could pass.
        retry_after: Duration,
    },
}

/// A turn that was reserved.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    slot: u64,
    /// The due time after it.
    due: Nanos,
}

/// The limit of one route, for all requests or for each key, on a clock of the caller's choice.
pub struct Limiter<C: Clock> {
    made_of: (Rate, Option<u32>, Option<HashOn>),
    policy: Policy,
    /// The time between two requests at the sustained rate, in nanoseconds.
    interval: u64,
    governor: RateLimiter<u64, Arrivals, Elapsed<C>, StateInformationMiddleware>,
    /// The due times that the governor works on: reserving a turn writes to them too.
    arrivals: Arrivals,
    /// How many have reserved a turn that has not come.
    waiting: AtomicUsize,
    seed: RandomState,
}

impl<C: Clock> Limiter<C> {
    /// A limiter of this rate with every burst full.
    #[must_use]
    pub fn new(s: &Settings, rate: Rate, clock: C) -> Self {
        let interval = interval(rate);
        let burst = burst(s.burst, rate, interval);
        let arrivals = Arrivals(Arc::new(match s.key {
            None => Slots::One(InMemoryState::default()),
            Some(_) => Slots::PerKey(Mutex::new(LruCache::sparse(MAX_KEYS))),
        }));
        let quota = Quota::with_period(Duration::from_nanos(interval))
            .unwrap_or(Quota::per_second(NonZeroU32::MIN))
            .allow_burst(burst);
        let clock = Elapsed { clock, start: OnceLock::new() };
        Self {
            made_of: (rate, s.burst, s.key.clone()),
            policy: Policy { limit: rate.events, burst: burst.get(), window: rate.per.duration() },
            interval,
            governor: RateLimiter::new(quota, arrivals.clone(), clock),
            arrivals,
            waiting: AtomicUsize::new(0),
            seed: RandomState::new(),
        }
    }

    /// Whether this limiter is the one that these settings ask for, so that a reload can keep it.
    #[must_use]
    pub fn same_quota(&self, s: &Settings) -> bool {
        let (rate, burst, key) = &self.made_of;
        (Some(*rate), burst, key) == (s.rate, &s.burst, &s.key)
    }

    /// The limit in the terms of the header fields.
    #[must_use]
    pub const fn policy(&self) -> Policy {
        self.policy
    }

    /// How many have reserved a turn that has not come.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Asks for one request. `key` is the value of the part of the request that has a limit of its
    /// own;
    /// `None` = the request lacks it. It does not matter where the whole route has one limit.
    #[must_use]
    pub fn check(&self, s: &Settings, key: Option<&str>) -> Verdict {
        self.ask(s, key, Duration::MAX).0
    }

    /// The same for a request that has only so much time. A turn that was reserved comes with it;
    /// while it is waited for, it belongs between [`Limiter::waits`] and [`Limiter::waited`].
    #[must_use]
    pub fn ask(&self, s: &Settings, key: Option<&str>, time: Duration) -> (Verdict, Option<Turn>) {
        let slot = self.slot(key);
        match self.governor.check_key(&slot) {
            Ok(state) => (Verdict::Pass { remaining: state.remaining_burst_capacity() }, None),
            Err(not_until) => {
                let now = self.governor.clock().now();
                let patience = s.patience().min(time);
                if patience.is_zero() || self.waiting() >= MAX_WAITING {
                    let retry_after = not_until.wait_time_from(now);
                    return (Verdict::Refused { retry_after }, None);
                }
                self.reserve(slot, now.as_u64(), patience)
            }
        }
    }

    /// Counts one more that waits for its turn.
    pub fn waits(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one less. A turn that has not come is given back, if it is the last one reserved.
    pub fn waited(&self, turn: Turn, came: bool) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        if came {
            return;
        }
        let before = Nanos::new(turn.due.as_u64().saturating_sub(self.interval));
        let last =
            |due: Option<Nanos>| if due == Some(turn.due) { Ok(((), before)) } else { Err(()) };
        // Others have reserved behind it otherwise, and keep their turns.
        let _ = self.arrivals.measure_and_replace(&turn.slot, last);
    }

    /// What is left for a key, without using any of it.
    #[must_use]
    pub fn state(&self, key: Option<&str>) -> State {
        let now = self.governor.clock().now().as_u64();
        // A measurement that fails with what it read changes nothing.
        let read = |due: Option<Nanos>| Err::<((), Nanos), _>(due);
        let due = match self.arrivals.measure_and_replace(&self.slot(key), read) {
            Err(Some(due)) => due.as_u64().max(now),
            Ok(()) | Err(None) => now,
        };
        let ahead = due - now;
        let taken = u32::try_from(ahead.div_ceil(self.interval)).unwrap_or(u32::MAX);
        State {
            remaining: self.policy.burst.saturating_sub(taken),
            reset: Duration::from_nanos(ahead),
        }
    }

    /// Moves the due time on by one request if its turn comes within `max_wait`. Judges afresh,
    /// because the turn that the governor saw may be another's by now.
    fn reserve(&self, slot: u64, now: u64, max_wait: Duration) -> (Verdict, Option<Turn>) {
        let early = self.interval * u64::from(self.policy.burst - 1);
        let take = |due: Option<Nanos>| {
            let due = due.map_or(now, Nanos::as_u64).max(now);
            let wait = Duration::from_nanos(due.saturating_sub(early).saturating_sub(now));
            let next = Nanos::new(due + self.interval);
            if wait > max_wait { Err(wait) } else { Ok(((wait, next), next)) }
        };
        match self.arrivals.measure_and_replace(&slot, take) {
            Ok((Duration::ZERO, _)) => (Verdict::Pass { remaining: 0 }, None),
            Ok((wait, due)) => (Verdict::Wait(wait), Some(Turn { slot, due })),
            Err(retry_after) => (Verdict::Refused { retry_after }, None),
        }
    }

    fn slot(&self, key: Option<&str>) -> u64 {
        match *self.arrivals.0 {
            Slots::One(_) => 0,
            Slots::PerKey(_) => self.seed.hash_one(key),
        }
    }
}

/// The time between two requests in nanoseconds, rounded up, so that the rate is never exceeded: it
/// is exact to less than a nanosecond a request for rates by the second, minute and hour alike.
fn interval(rate: Rate) -> u64 {
    let window = u64::try_from(rate.per.duration().as_nanos()).unwrap_or(u64::MAX);
    window.div_ceil(u64::from(rate.events.max(1)))
}

/// The burst as written, else the requests of one second; at least one.
fn burst(burst: Option<u32>, rate: Rate, interval: u64) -> NonZeroU32 {
    let second = u64::from(rate.events) / rate.per.duration().as_secs().max(1);
    let wanted = burst.map_or(second, u64::from).min(LONGEST_REFILL / interval);
    u32::try_from(wanted).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN)
}

/// A clock that counts from its first reading. The governor takes that first reading as its start,
/// so that the due times in [`Arrivals`] are readings of this clock and a reservation can compare
/// them.
struct Elapsed<C: Clock> {
    clock: C,
    start: OnceLock<C::Instant>,
}

impl<C: Clock> Clock for Elapsed<C> {
    type Instant = Nanos;
    fn now(&self) -> Nanos {
        let now = self.clock.now();
        now.duration_since(*self.start.get_or_init(|| now))
    }
}

/// The due times, shared by the governor and the limiter that made it.
#[derive(Clone)]
struct Arrivals(Arc<Slots>);

enum Slots {
    One(InMemoryState),
    PerKey(Mutex<LruCache<u64, Nanos>>),
}

impl StateStore for Arrivals {
    type Key = u64;
    fn measure_and_replace<T, F, E>(&self, key: &u64, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let slots = match &*self.0 {
            Slots::One(state) => return state.measure_and_replace(&NotKeyed::NonKey, measure),
            Slots::PerKey(slots) => slots,
        };
        // Every entry is one number, which a panic elsewhere cannot have left half written.
        let mut slots = slots.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(due) = slots.get_mut(key) {
            let (value, next) = measure(Some(*due))?;
            *due = next;
            return Ok(value);
        }
        let (value, next) = measure(None)?;
        slots.put(*key, next);
        Ok(value)
    }
}
