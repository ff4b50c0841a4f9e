//! The tokens, and the line of those who wait for one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::BURST;

/// How many requests of one route may wait at once. Each holds its head, a connection and a timer,
/// some kilobytes together.
pub const MAX_WAITING: usize = 4096;

/// The longest time for which one in the line sleeps: it learns of a new rate then.
const NAP_MAX: Duration = Duration::from_secs(1);

/// The shortest: a timer is not more exact, and what lacks a millionth of a token must not spin.
const NAP_MIN: Duration = Duration::from_millis(1);

/// Up to this length a wait is slept through. A longer one is slept in parts, because a rate that
/// grows meanwhile brings its tokens earlier, and those who overslept would go two at a time.
const NAP_WHOLE: Duration = Duration::from_millis(10);

/// For how long tokens are kept for those who wait. After a longer standstill of the process they
/// would all go at once, which a third party that counts in short times would refuse.
const LATE: Duration = Duration::from_millis(50);

/// What a token may lack by rounding.
const ROUNDING: f64 = 1e-6;

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Tokens, and who waits for them.
#[derive(Clone, Debug)]
pub(super) struct Line {
    /// In order of arrival, and so of number.
    waiting: VecDeque<Ticket>,
    next: u64,
    /// Negative = owed.
    tokens: f64,
    filled: Instant,
}

impl Line {
    pub(super) const fn new(now: Instant) -> Self {
        Self { waiting: VecDeque::new(), next: 0, tokens: 1.0, filled: now }
    }

    /// Keeps this many tokens at most.
    pub(super) const fn keep(&mut self, tokens: f64) {
        self.tokens = self.tokens.min(tokens);
    }

    /// No token comes before this time.
    pub(super) fn stop_until(&mut self, until: Instant) {
        self.filled = self.filled.max(until);
    }

    /// Adds the tokens that have come, requests a second, up to the burst.
    pub(super) fn fill(&mut self, rate: f64, burst: Option<u32>, now: Instant) {
        let fresh = rate * now.saturating_duration_since(self.filled).as_secs_f64();
        let most = if self.waiting.is_empty() {
            burst.map_or(rate * BURST.as_secs_f64(), f64::from).max(1.0)
        } else {
            // Those who wait have a token to come although they wake a little late for it.
            1.0 + rate * LATE.as_secs_f64()
        };
        self.tokens = (self.tokens + fresh).min(most);
        self.filled = self.filled.max(now);
    }

    /// Takes a token if there is one and nobody waits.
    pub(super) fn pass(&mut self) -> bool {
        let goes = self.waiting.is_empty() && self.tokens >= 1.0 - ROUNDING;
        if goes {
            self.tokens -= 1.0;
        }
        goes
    }

    /// Takes a token before the line does, in debt up to a second's worth.
    pub(super) fn borrow(&mut self, rate: f64) -> bool {
        let goes = self.tokens - 1.0 >= -rate.max(1.0);
        if goes {
            self.tokens -= 1.0;
        }
        goes
    }

    /// Stands at the end of the line; `None` when it is full.
    pub(super) fn enter(&mut self) -> Option<Ticket> {
        if self.waiting.len() >= MAX_WAITING {
            return None;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting.push_back(ticket);
        Some(ticket)
    }

    /// Takes a token for one in the line, if there is one for it and for all before it.
    pub(super) fn take(&mut self, ticket: Ticket) -> bool {
        let Ok(before) = self.waiting.binary_search(&ticket) else { return false };
        let goes = self.tokens >= before as f64 + 1.0 - ROUNDING;
        if goes {
            self.tokens -= 1.0;
            self.waiting.remove(before);
        }
        goes
    }

    /// Goes out of the line.
    pub(super) fn leave(&mut self, ticket: Ticket) {
        if let Ok(place) = self.waiting.binary_search(&ticket) {
            self.waiting.remove(place);
        }
    }

    /// How long one that came now would wait.
    pub(super) fn wait_of_next(&self, rate: f64) -> Duration {
        self.wait(self.waiting.len(), rate)
    }

    /// How long one in the line has still to wait.
    pub(super) fn wait_of(&self, ticket: Ticket, rate: f64) -> Duration {
        self.wait(self.waiting.binary_search(&ticket).unwrap_or_else(|place| place), rate)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn wait(&self, before: usize, rate: f64) -> Duration {
        let lacking = (before as f64 + 1.0 - self.tokens).max(0.0);
        Duration::try_from_secs_f64(lacking / rate).unwrap_or(Duration::MAX)
    }
}

/// How long to sleep of a wait before asking again.
pub(super) fn nap(wait: Duration) -> Duration {
    let nap = if wait > NAP_WHOLE { wait / 4 * 3 } else { wait };
    nap.clamp(NAP_MIN, NAP_MAX)
}
