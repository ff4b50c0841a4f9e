//! Can we afford it? The budget of all retries to one upstream.
//!
//! Two token buckets, each filled by what it is meant to follow:
//!
//! - the **share**: every first attempt adds `ratio` tokens, up to a cap of `ratio * rate * burst`,
//!   where `rate` is the recent rate of first attempts, and at least `1 + ratio`. It keeps retries
//!   proportional to traffic.
//! - the **floor**: `min_per_second` tokens a second, up to one second's worth. It lets a quiet
//!   service retry at all.
//!
//! A retry is paid from the floor, else from the share, else it is not sent. There is no sum over a
//! sliding window: where withdrawals leave a window together with the deposits that paid for them
//! (Finagle's `RetryBudget` and its descendants), a lasting outage lets a burst of retries through
//! once in every window. Here an outage costs what was saved up, once, and then exactly
//! `ratio * rate + min_per_second` retries a second. For every window of `w` >= 1 s:
//!
//! `cost of retries <= ratio * first attempts + cap + min_per_second * (w + 1)`
//!
//! **The rate** is the number of first attempts in the last whole second where that is more than
//! before, and otherwise falls towards it by an eighth each second (time constant 7.5 s, so a lull
//! of 3 s costs a third). It rises at once because the tokens it lets in were paid for by real
//! traffic; a slow rise would throw them away after a cold start or a surge. The second that is
//! under way counts as soon as it is the busier one, so that a cold start saves from its first
//! request on.
//!
//! A setting that changes acts on the next call: what is saved above a new cap is given up. Amounts
//! are whole nano-tokens, and the ratio is taken to a millionth, so nothing is lost to rounding: a
//! ratio of 0.3 is three retries in ten requests, not one in three.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Factor, Period};

#[cfg(test)]
mod tests;

/// One token, the price of a retry, in the unit of the buckets.
const TOKEN: u64 = 1_000_000_000;

/// The unit of the buckets in a thousandth of a token.
const MILLI: u64 = TOKEN / 1000;

/// How many units a millionth of a token has.
const MICRO: u64 = TOKEN / 1_000_000;

/// The part of the difference by which the rate falls in a second.
const RATE_FALL: f64 = 1.0 / 8.0;

/// After this many seconds without a request the rate counts as nothing, so that a long pause is
/// not a long loop: of a million a second, `(7/8)^128` leaves less than one in twenty.
const RATE_FORGOTTEN: u64 = 128;

/// How many retries an upstream can be sent, beside the first attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "RetryBudget")]
pub struct Settings {
    /// Retries as a share of first attempts.
    pub ratio: Factor,
    /// Retries that are always allowed in a second, so that a quiet service can retry at all.
    pub min_per_second: u32,
    /// How many seconds' worth of the share can be saved up.
    pub burst: Period,
}

impl Default for Settings {
    fn default() -> Self {
        Self { ratio: Factor::percent(20), min_per_second: 3, burst: Period::from_secs(2) }
    }
}

/// What an attempt beyond the first costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// One token: the attempt before it reached the upstream.
    Whole,
    /// Half a token: the upstream executed nothing of the attempt before it.
    Half,
}

/// What the two buckets hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance {
    /// The share saved up, in thousandths of a retry.
    pub ratio_millis: u64,
    /// What the floor holds, in thousandths of a retry.
    pub floor_millis: u64,
    /// The most that the share can hold at the present rate, in thousandths of a retry.
    pub cap: u64,
}

/// The budget's state: two buckets and the rate of first attempts.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Nano-tokens saved from first attempts.
    share: u64,
    /// Nano-tokens of the floor, as of `filled`.
    floor: u64,
    /// When the floor was last filled; `None` = never, so it is full.
    filled: Option<Instant>,
    /// First attempts a second, without the second that is under way.
    rate: f64,
    /// First attempts in the second that is under way.
    count: u32,
    /// The start of the second that is under way.
    second: Instant,
}

impl Budget {
    /// A budget with a full floor and an empty share.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self { share: 0, floor: 0, filled: None, rate: 0.0, count: 0, second: now }
    }

    /// Counts a first attempt and saves its share.
    pub fn deposit(&mut self, s: &Settings, now: Instant) {
        self.roll(now);
        self.count = self.count.saturating_add(1);
        self.share = self.share.saturating_add(per_request(s)).min(self.cap(s));
    }

    /// Pays for one retry; `false` = it cannot be afforded, and nothing is taken.
    #[must_use]
    pub fn withdraw(&mut self, s: &Settings, now: Instant, cost: Cost) -> bool {
        self.bring_up_to(s, now);
        let price = match cost {
            Cost::Whole => TOKEN,
            Cost::Half => TOKEN / 2,
        };
        for bucket in [&mut self.floor, &mut self.share] {
            if let Some(rest) = bucket.checked_sub(price) {
                *bucket = rest;
                return true;
            }
        }
        false
    }

    /// What the buckets hold at this time.
    #[must_use]
    pub fn balance(&self, s: &Settings, now: Instant) -> Balance {
        let mut present = self.clone();
        present.bring_up_to(s, now);
        Balance {
            ratio_millis: present.share / MILLI,
            floor_millis: present.floor / MILLI,
            cap: present.cap(s) / MILLI,
        }
    }

    /// Fills the floor, rolls the rate and gives up what is above the caps.
    fn bring_up_to(&mut self, s: &Settings, now: Instant) {
        self.roll(now);
        self.share = self.share.min(self.cap(s));
        let full = u64::from(s.min_per_second) * TOKEN;
        // A token is as many units as a second has nanoseconds, so this product is exact and needs
        // no remainder carried over.
        let fresh = match self.filled {
            None => full,
            Some(then) => nanos(now.saturating_duration_since(then))
                .saturating_mul(u64::from(s.min_per_second)),
        };
        self.floor = self.floor.saturating_add(fresh).min(full);
        // Callers on several threads may bring their times out of order; going back would fill
        // twice.
        self.filled = Some(self.filled.map_or(now, |then| then.max(now)));
    }

    /// Moves on to the second in which `now` lies.
    fn roll(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.second).as_secs();
        if seconds == 0 {
            return;
        }
        self.second += Duration::from_secs(seconds);
        let count = f64::from(std::mem::take(&mut self.count));
        self.rate = count.max(self.rate + (count - self.rate) * RATE_FALL);
        if seconds > RATE_FORGOTTEN {
            self.rate = 0.0;
        }
        for _ in 1..seconds.min(RATE_FORGOTTEN) {
            self.rate -= self.rate * RATE_FALL;
        }
    }

    /// The most that the share can hold. A float is exact enough for a cap, saturates where it is
    /// cast, and costs a nanosecond on the path of every request. It is never less than a token and
    /// what one request saves: a slow service could otherwise never save up a retry, or lose the
    /// odd fraction.
    fn cap(&self, s: &Settings) -> u64 {
        let each = per_request(s);
        if each == 0 {
            return 0;
        }
        let rate = self.rate.max(f64::from(self.count));
        let saved = (s.ratio.get() * rate * s.burst.as_secs_f64() * TOKEN as f64) as u64;
        saved.max(TOKEN + each)
    }
}

/// What one first attempt saves, in nano-tokens: the ratio to a millionth of a token.
fn per_request(s: &Settings) -> u64 {
    (s.ratio.get() * 1e6 + 0.5) as u64 * MICRO
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
