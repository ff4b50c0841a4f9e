//! Who is refused at once when a limit is reached? The threshold of `priority`, moved by what the
//! queue had to refuse.
//!
//! Every request that finds no free place is told here. In each tick of 100 ms the share of them
//! that was refused, for want of room, after waiting in vain, or by the threshold itself, is added
//! to a moving average, and the threshold is set to refuse that share, from the lowest level up. It
//! is right by itself: while it refuses too few the queue refuses the rest, and while it refuses
//! too many the queue is empty, so that requests find free places and do not ask.
//!
//! Where callers are told apart (`fairness`), the level within a tier follows from how much each
//! has kept the upstream busy; the heaviest is refused first.
//!
//! Not here: the queue, and the limit in front of which it stands.

use std::time::{Duration, Instant};

use super::priority::{Level, Threshold, Usage};

/// The threshold moves once in this time.
const TICK: Duration = Duration::from_millis(100);

/// A tick with fewer requests says little, and goes on until it has had so many, or for
/// [`TICK_MOST`].
const TELLING: u32 = 20;
const TICK_MOST: Duration = Duration::from_secs(1);

/// What a tick weighs in the average: half of what is new is known after 3 ticks.
const WEIGHT: f64 = 0.2;

/// After so many ticks without a request nothing of the average is left.
const FORGOTTEN: u32 = 50;

/// Use fades and is compared once in this time.
const USAGE_TICK: Duration = Duration::from_secs(1);

/// Which of its tier a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lot {
    /// A caller's, by the hash of its key: its use of the upstream decides.
    Caller(u64),
    /// Nobody's: a number at random, or one that stays with a request on its way through several
    /// proxies.
    Drawn(u64),
}

/// What a request is worth: its tier, 0 being the highest, and its lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The tier.
    pub tier: usize,
    /// The lot.
    pub lot: Lot,
}

/// The shedding of one limit; about 4 KiB, and 32 bytes for each caller that is followed.
#[derive(Clone, Debug)]
pub struct Shedding {
    threshold: Threshold,
    usage: Usage,
    arrived: u32,
    refused: u32,
    share: f64,
    ticked: Instant,
    compared: Instant,
}

impl Shedding {
    /// Refuses nobody.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            threshold: Threshold::new(),
            usage: Usage::new(now),
            arrived: 0,
            refused: 0,
            share: 0.0,
            ticked: now,
            compared: now,
        }
    }

    /// The level of a request.
    #[must_use]
    pub fn level(&self, standing: Standing) -> Level {
        match standing.lot {
            Lot::Caller(key) => Level::new(standing.tier, self.usage.cohort(key)),
            Lot::Drawn(number) => Level::hashed(standing.tier, number),
        }
    }

    /// Notes a request that found no free place, of `tiers` tiers in all; false if it is refused at
    /// once.
    #[must_use]
    pub fn admit(&mut self, level: Level, tiers: usize, now: Instant) -> bool {
        self.tick(tiers, now);
        self.threshold.note(level);
        self.arrived = self.arrived.saturating_add(1);
        let admitted = self.threshold.admits(level);
        self.refused += u32::from(!admitted);
        admitted
    }

    /// Notes that one of them was refused later on: there was no room, or it waited in vain.
    pub const fn refused(&mut self) {
        self.refused = self.refused.saturating_add(1);
    }

    /// Adds what a request kept the upstream busy to its caller's account.
    pub fn used(&mut self, standing: Standing, busy: Duration, now: Instant) {
        let Lot::Caller(key) = standing.lot else { return };
        self.usage.add(key, busy);
        if now.saturating_duration_since(self.compared) >= USAGE_TICK {
            self.compared = now;
            self.usage.tick(now);
        }
    }

    /// Which share of the requests that find no free place is refused, 0 to 1.
    #[must_use]
    pub const fn share(&self) -> f64 {
        self.share
    }

    /// The lowest level that is admitted; nothing while all are.
    #[must_use]
    pub fn lowest(&self) -> Option<Level> {
        (!self.threshold.admits_all()).then(|| self.threshold.lowest())
    }

    /// Lets the time pass in which no request has come.
    pub fn rest(&mut self, tiers: usize, now: Instant) {
        if now.saturating_duration_since(self.ticked) >= TICK_MOST {
            self.tick(tiers, now);
        }
    }

    fn tick(&mut self, tiers: usize, now: Instant) {
        let age = now.saturating_duration_since(self.ticked);
        let told = self.arrived >= TELLING || age >= TICK_MOST;
        if age < TICK || !told {
            return;
        }
        self.ticked = now;
        if self.arrived > 0 {
            let share = (f64::from(self.refused) / f64::from(self.arrived)).min(1.0);
            self.share += (share - self.share) * WEIGHT;
        }
        (self.arrived, self.refused) = (0, 0);
        // A time in which nobody asked is one in which nobody was refused.
        let idle = (age.as_secs_f64() / TICK.as_secs_f64()) as u32;
        let idle = idle.saturating_sub((TICK_MOST.as_millis() / TICK.as_millis()) as u32);
        for _ in 0..idle.min(FORGOTTEN) {
            self.share *= 1.0 - WEIGHT;
            self.threshold.tick(tiers, self.share);
        }
        if self.share < NOBODY {
            self.share = 0.0;
        }
        self.threshold.tick(tiers, self.share);
    }
}

/// A smaller share is nobody.
const NOBODY: f64 = 0.002;

#[cfg(test)]
mod tests;
