//! Which rate is allowed? The ceiling, and what throttles say about it.
//!
//! A throttle of what was sent before the last cut is its cause, not news; and there is one cut in
//! a second at most, because a third party that counts by windows says the same thing until its
//! window ends.

use std::time::{Duration, Instant};

use super::curve::{BETA, Curve};
use super::cycle::{Cycle, LENGTH_MAX};
use super::measured::Measured;
use super::{Bounds, LONG};

/// The share of answers that may be throttles for the sake of probing: half of what is promised.
const PROBE_SHARE: f64 = 0.005;

/// The share of requests that may be given up in the pauses that failed probes lead to.
const PAUSE_SHARE: f64 = 0.02;

/// How many throttles can be owed to the share while a ceiling is sought. More would keep a rate
/// down that has collapsed long ago.
const SEARCH_DEBT: f64 = 3.0;

/// How many can be owed when the ceiling is known well: a long window that is used up refuses all
/// that is under way.
const SETTLED_DEBT: f64 = 24.0;

/// How long probing waits to be paid for at most, so that slow rates find out too.
const HOLD_MAX: Duration = Duration::from_secs(120);

/// The least time between two cuts.
const CUT_EVERY: Duration = Duration::from_secs(1);

/// What is used of a measured limit: keeping exactly to it breaks it with the first jitter.
pub(super) const MARGIN: f64 = 0.97;

/// The part of the way from the ceiling to a failed probe's rate by which the ceiling moves. What
/// was climbed slowly has been accepted for seconds.
const PROBE_GAIN: f64 = 0.75;

/// The same beyond [`PROBE_NEAR`]: what was climbed fast may have been the rest of a bucket.
const PROBE_FAR_GAIN: f64 = 0.25;

/// The part of the ceiling above it that is climbed slowly.
const PROBE_NEAR: f64 = 0.1;

/// The part of a failed probe's rate that is under the limit: it had gone on for as long as the
/// smallest bucket lasts and an answer takes.
const PROBE_MARGIN: f64 = 0.955;

/// By how much a failed probe may have been above the new ceiling to have shown all there is. The
/// farther it was, the sooner another one is worth its pause.
const PROBE_LEFT: f64 = 0.05;

/// While a ceiling is sought, the part of a failed probe's rate that must have been allowed.
const PROBE_PROVED: f64 = 0.8;

/// A probe that fails below this multiple of the ceiling has shown that it is one.
const NEAR: f64 = 2.0;

/// So much of a second's worth is hardly anything.
const AGAIN: f64 = 0.2;

/// After so many throttles of what was sent since a cut, and nothing accepted, the third party is
/// closed: no rate is low enough until its window ends.
const CLOSED_AFTER: u32 = 3;

/// How often a closed third party is asked at first, times a second; each refusal halves it.
const KNOCKS: f64 = 4.0;

/// From this part of the allowed rate on a sender counts as held back by it. What is not sent
/// cannot be refused, and proves nothing.
const DEMAND: f64 = 0.8;

/// The present, as far as the rate depends on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// What the third party advertises, requests a second.
    pub(super) advertised: Option<f64>,
    /// Whether a request was held back lately.
    pub(super) held_back: bool,
    /// Whether nothing is sent.
    pub(super) paused: bool,
    pub(super) now: Instant,
}

/// The allowed rate, learned.
#[derive(Clone, Debug)]
pub(super) struct Control {
    /// There is none until the first throttle.
    curve: Option<Curve>,
    sent: Measured,
    accepted: Measured,
    cycle: Cycle,
    /// Accepted since the last cut.
    accepted_since_cut: u64,
    /// Throttles of what was sent since the last cut, with nothing accepted between.
    refused_in_a_row: u32,
    /// When the last of them came back.
    refused: Instant,
    /// Whether something has shown that the ceiling is one; else it is sought without care.
    settled: bool,
    /// Whether the last cut was at the opening of a third party that had been closed.
    reopened: bool,
    /// Whether it has been seen to open, so that a cycle begins with that.
    opened: bool,
    /// Throttles that may still be provoked; negative = too many were.
    credit: f64,
    /// When the rate was last looked at.
    at: Instant,
}

impl Control {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            curve: None,
            sent: Measured::new(now),
            accepted: Measured::new(now),
            cycle: Cycle::new(now),
            accepted_since_cut: 0,
            refused_in_a_row: 0,
            refused: now,
            settled: false,
            reopened: false,
            opened: false,
            credit: 0.0,
            at: now,
        }
    }

    /// The rate that is thought to be allowed.
    pub(super) fn ceiling(&self) -> Option<f64> {
        self.curve.as_ref().map(Curve::ceiling)
    }

    /// Counts a request that is sent.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent.count(now);
    }

    /// Learns that a request was accepted.
    pub(super) fn accepted(&mut self, b: &Bounds, began: Instant, now: Instant) {
        self.accepted.count(now);
        self.accepted_since_cut = self.accepted_since_cut.saturating_add(1);
        self.credit = (self.credit + PROBE_SHARE).min(1.0);
        if self.since_cut(began) {
            if self.closed() {
                self.open(b, now);
            }
            self.refused_in_a_row = 0;
        }
        self.cycle.count(now);
    }

    /// Learns that a request was throttled, and that a pause follows. Returns how many tokens may
    /// be kept at most, if fewer than there may be.
    pub(super) fn throttled(
        &mut self,
        b: &Bounds,
        began: Instant,
        pause: Duration,
        now: Instant,
    ) -> Option<f64> {
        let news = self.since_cut(began);
        let due = self.cut_is_old(CUT_EVERY, now);
        let (known, was_closed) = (self.curve.is_some(), self.closed());
        let mut price = 1.0;
        if news && pause >= LONG {
            // What a whole cycle let through is what there is, be it a bucket or a window.
            let ceiling = self.cycle.rate(now + pause) * MARGIN;
            self.cycle.restart(now + pause);
            self.cut(Curve::new(ceiling.max(b.least()), now));
            self.settled = true;
        } else if news && due && !was_closed {
            price += self.lower(b, pause, now);
        } else if news && !b.observed {
            self.refused_in_a_row = self.refused_in_a_row.saturating_add(1);
            self.refused = now;
        }
        let debt = if self.settled { SETTLED_DEBT } else { SEARCH_DEBT };
        self.credit = (self.credit - price).max(-debt);
        self.sent.skip(now, now + pause);
        match known {
            // What was saved up under no limit is worth nothing now.
            false => Some(1.0),
            true if self.closed() && !was_closed => {
                // Closed again at once: it was the ceiling that is too high.
                self.settled &= !self.reopened;
                Some(0.0)
            }
            true => None,
        }
    }

    /// The learned rate at this time; `None` = nothing is limited.
    pub(super) fn rate(&mut self, n: Now) -> Option<f64> {
        let since = n.now.saturating_duration_since(self.at);
        self.at = self.at.max(n.now);
        let (sent, closed) = (self.sent.rate(n.now), self.closed());
        let refused = self.refused_in_a_row;
        let curve = self.curve.as_mut()?;
        let held = n.now.saturating_duration_since(curve.cut()) >= HOLD_MAX;
        let may = !self.settled || curve.climbs() || held || self.credit >= 1.0;
        let demand = n.held_back || sent >= DEMAND * curve.rate();
        if may && demand && !n.paused {
            let told = n.advertised.is_some_and(|pace| pace > curve.rate());
            curve.climb(since, told || !self.settled, n.now);
        }
        // A rate that nobody uses is not learned.
        let used = curve.ceiling().max(2.0 * sent);
        let rate = curve.rate_at(n.now).min(used);
        if !closed {
            return Some(rate);
        }
        let knocks = KNOCKS * 0.5_f64.powf(f64::from(refused) - f64::from(CLOSED_AFTER));
        Some(rate.min(knocks))
    }

    /// Cuts for a throttle; the price of the pause that follows, in throttles.
    fn lower(&mut self, b: &Bounds, pause: Duration, now: Instant) -> f64 {
        let again = !pause.is_zero() && self.is_repeated();
        let ceiling = self.lowered(b, again, now).max(b.least());
        let Some(curve) = &self.curve else {
            self.cut(Curve::new(ceiling, now));
            return 0.0;
        };
        let near = curve.climbs() && curve.rate() <= curve.ceiling() * NEAR;
        let gap = (curve.rate() / ceiling - 1.0).max(0.0);
        self.settled = near || self.settled && !again;
        self.cut(Curve::new(ceiling, now));
        // One that got far is not the last: there is more to be had than was thought.
        if !near {
            return 0.0;
        }
        let share = PAUSE_SHARE + (gap - PROBE_LEFT).max(0.0);
        ceiling * pause.as_secs_f64() * PROBE_SHARE / share
    }

    /// Whether hardly anything has been accepted since the last cut. If a pause has followed that
    /// one, buckets were full again, and the ceiling is not known any more.
    fn is_repeated(&self) -> bool {
        (self.accepted_since_cut as f64) < self.ceiling().unwrap_or_default() * AGAIN
    }

    /// The ceiling after a throttle.
    fn lowered(&self, b: &Bounds, again: bool, now: Instant) -> f64 {
        let (sent, accepted) = (self.sent.rate(now), self.accepted.rate(now));
        if b.observed {
            // More is sent than is allowed, so a throttle says nothing about the rate.
            return accepted;
        }
        let Some(curve) = &self.curve else { return sent };
        let (rate, ceiling) = (sent.min(curve.rate()), curve.ceiling());
        if rate <= ceiling {
            return rate * if again { BETA } else { MARGIN };
        }
        let near = (rate - ceiling).min(ceiling * PROBE_NEAR);
        let far = rate - ceiling - near;
        let moved = ceiling + near * PROBE_GAIN + far * PROBE_FAR_GAIN;
        // Far from what was known it is found as at first: seven tenths were allowed.
        let moved = if far > 0.0 {
            moved.max(rate * BETA)
        } else {
            moved.min(rate * PROBE_MARGIN).max(ceiling)
        };
        let proved = if self.settled {
            let length = now.saturating_duration_since(curve.cut()).max(CUT_EVERY);
            self.accepted_since_cut as f64 / length.as_secs_f64() * MARGIN
        } else {
            accepted * PROBE_PROVED
        };
        moved.max(proved.min(rate))
    }

    /// A third party that was closed has accepted a request.
    fn open(&mut self, b: &Bounds, now: Instant) {
        let quiet = self.cycle.quiet(now);
        // From an opening to the next one, with a rest that is long enough to be measured.
        let measured = self.opened && quiet >= CUT_EVERY && self.cycle.length(now) >= LONG;
        // It opened at some time between two knocks.
        let opened = now - now.saturating_duration_since(self.refused) / 2;
        let whole = self.cycle.rate(opened);
        let ceiling = match &self.curve {
            // It was the rest of a short window, which says nothing about the rate.
            Some(curve) if self.settled && quiet < CUT_EVERY => curve.ceiling(),
            Some(curve) if self.settled && quiet < LONG => curve.ceiling().min(whole),
            _ => whole * MARGIN,
        };
        self.cycle.restart(now);
        self.cut(Curve::new(ceiling.max(b.least()), now));
        // No window is as long as an outage, of which nothing follows.
        self.settled = (self.settled || measured || quiet >= LONG) && quiet < LENGTH_MAX;
        if !self.settled {
            self.credit = self.credit.max(-SEARCH_DEBT);
        }
        self.reopened = true;
        self.opened = true;
    }

    fn cut(&mut self, curve: Curve) {
        self.curve = Some(curve);
        self.accepted_since_cut = 0;
        self.refused_in_a_row = 0;
        self.reopened = false;
    }

    /// Whether what began at this time was sent at the rate since the last cut.
    fn since_cut(&self, began: Instant) -> bool {
        self.curve.as_ref().is_none_or(|curve| began >= curve.cut())
    }

    /// Whether there has been no cut for this time.
    fn cut_is_old(&self, time: Duration, now: Instant) -> bool {
        let old = |curve: &Curve| now.saturating_duration_since(curve.cut()) >= time;
        self.curve.as_ref().is_none_or(old)
    }

    const fn closed(&self) -> bool {
        self.refused_in_a_row >= CLOSED_AFTER
    }
}
