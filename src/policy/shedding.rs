//! Who is refused at once when a limit is reached? The threshold of `priority`, moved by what the
//! queue had to refuse.
//!
//! In each tick of 100 ms the share of all requests that was refused, for want of room, after
//! waiting in vain, or by the threshold itself, is added to a moving average, and the threshold is
//! set to refuse that share, from the lowest level up. It is asked only by requests that found no
//! free place, and so it is right by itself: while it refuses too few the queue refuses the rest,
//! and while it refuses too many there are free places, which are taken without asking. The share
//! that is refused in all is what the upstream cannot do, and nothing else.
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

/// What a tick of 100 ms weighs in the average: half of what is new is known after 3 of them.
const WEIGHT: f64 = 0.2;

/// After so many ticks nothing of the average is left, nor of the threshold.
const TICKS_MOST: f64 = 50.0;

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

/// What stands in front of a limit.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// How many wait.
    pub waiting: usize,
    /// How many are served at once.
    pub limit: u32,
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
    /// once. While fewer than half as many wait as the limit is, the queue does its work, which is
    /// to even out what comes at random, and nobody is whose tier is not refused as a whole.
    #[must_use]
    pub fn admit(&mut self, level: Level, tiers: usize, line: Line, now: Instant) -> bool {
        self.tick(tiers, now);
        self.threshold.note(level);
        self.arrived = self.arrived.saturating_add(1);
        // A lower tier in the line would get places for want of those of this tier that were
        // refused a moment before.
        let in_part = level.tier() <= self.threshold.lowest().tier();
        let short = in_part && line.waiting * 2 < line.limit as usize;
        let admitted = short || self.threshold.admits(level);
        self.refused += u32::from(!admitted);
        admitted
    }

    /// Notes a request that found a free place.
    pub const fn passed(&mut self) {
        self.arrived = self.arrived.saturating_add(1);
    }

    /// Notes that one of the others was refused later on: there was no room, or it waited in vain.
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

    /// Which share of the requests is refused, 0 to 1.
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
        if age < TICK || (self.arrived < TELLING && age < TICK_MOST) {
            return;
        }
        self.ticked = now;
        let share = f64::from(self.refused) / f64::from(self.arrived.max(1));
        (self.arrived, self.refused) = (0, 0);
        let ticks = (age.as_secs_f64() / TICK.as_secs_f64()).min(TICKS_MOST);
        self.share += (share.min(1.0) - self.share) * (1.0 - (1.0 - WEIGHT).powf(ticks));
        if self.share < NOBODY {
            self.share = 0.0;
        }
        for _ in 0..ticks as u32 {
            self.threshold.tick(tiers, self.share);
        }
    }
}

/// A smaller share is nobody.
const NOBODY: f64 = 0.002;

#[cfg(test)]
mod tests;
