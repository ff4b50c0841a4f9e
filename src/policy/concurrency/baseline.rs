//! How long does a request take when nothing queues? A baseline per route.
//!
//! **The height** of the baselines is learned from answers to requests that were *alone*: sent when
//! the limit was not reached, and at most half as many as usual were in flight, or no more than the
//! limiter's minimum. An upstream that is busy all day long, without ever reaching the limit, would
//! otherwise teach its queue.
//!
//! **A route that is new** while others are under load has no such answers. Its first ones are
//! divided by the recent ratio of all routes together, so that the queue, which all share, is not
//! taken for its own; the first lone answer takes their place.
//!
//! All baselines share a scale. It falls when answers under load are quicker than the baselines
//! say, and rises only as the limiter allows.
//!
//! Not here: when they may rise.

/// How many routes of an upstream have a baseline of their own; further ones share the last place.
pub const MAX_ROUTES: usize = 1024;

/// What one lone answer weighs once the first ones are in: the mean of exponential latencies is
/// then right within 6 %.
const LONE: f64 = 1.0 / 128.0;

/// How many answers under load make the first guess of a route's baseline.
const GUESS: u32 = 32;

/// What an answer weighs in the recent ratio of all routes.
const RECENT: f64 = 1.0 / 64.0;

/// And in that of the latest few.
const LAST: f64 = 1.0 / 8.0;

/// The factor by which a handful of first answers may have been too quick.
pub(super) const FOUND_MOST: f64 = 2.0;

/// So many answers say something of how quick they are.
const FIRST: u32 = 8;

/// What an attempt weighs in how many are usually in flight.
const USUAL: f64 = 1.0 / 256.0;

/// So many lone answers make baselines that are trusted.
const FOUNDED: u32 = 64;

/// What a round weighs in the ratio that the scale follows downwards.
const ROUND: f64 = 1.0 / 8.0;

/// Below this ratio the scale falls. A ratio that is smoothed stays above it by chance.
const FALL_BELOW: f64 = 0.9;

/// The place of a route's baseline in its limiter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteSlot(u16);

/// The baseline of one route; without a lone or any answer it is nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Baseline {
    key: u64,
    /// Seconds, before the scale.
    mean: f64,
    answers: u32,
    /// Whether a lone answer is in it.
    alone: bool,
}

/// The baselines of an upstream's routes.
#[derive(Clone, Debug)]
pub(super) struct Baselines {
    routes: Vec<Baseline>,
    scale: f64,
    lone: u32,
    /// How many are usually in flight when an attempt starts.
    usual: f64,
    attempts: u32,
    answers: u32,
    /// Of recent answers, in seconds: the latency, and what the baselines expected.
    took: f64,
    expected: f64,
    /// The same of the latest few.
    took_last: f64,
    expected_last: f64,
    /// Of recent answers the product of both: long work counts by its length.
    both: f64,
    /// The ratio of recent rounds.
    round: f64,
}

impl Default for Baselines {
    fn default() -> Self {
        Self {
            routes: Vec::new(),
            scale: 1.0,
            lone: 0,
            usual: 0.0,
            attempts: 0,
            answers: 0,
            took: 0.0,
            expected: 0.0,
            took_last: 0.0,
            expected_last: 0.0,
            both: 0.0,
            round: 1.0,
        }
    }
}

impl Baselines {
    pub(super) fn slot(&mut self, key: u64) -> RouteSlot {
        let found = self.routes.iter().position(|route| route.key == key);
        let slot = found.unwrap_or_else(|| {
            if self.routes.len() < MAX_ROUTES {
                self.routes.push(Baseline { key, ..Baseline::default() });
            }
            self.routes.len() - 1
        });
        RouteSlot(u16::try_from(slot).unwrap_or(u16::MAX))
    }

    /// Counts an attempt that starts with so many in flight, itself included.
    pub(super) fn crowd(&mut self, in_flight: u32) {
        self.attempts = self.attempts.saturating_add(1);
        let weight = (1.0 / f64::from(self.attempts)).max(USUAL);
        self.usual += (f64::from(in_flight) - self.usual) * weight;
    }

    /// Whether an attempt that started with so many in flight had no queue before it. `min` in
    /// flight count as none, as the limiter would not go below.
    pub(super) fn is_alone(&self, in_flight: u32, min: u32) -> bool {
        f64::from(in_flight) <= (self.usual / 2.0).max(f64::from(min))
    }

    /// Learns a latency, in seconds, and says what was expected before it.
    pub(super) fn learn(&mut self, route: RouteSlot, latency: f64, alone: bool) -> f64 {
        let ratio = self.recent_ratio().unwrap_or(1.0);
        let Some(baseline) = self.routes.get_mut(usize::from(route.0)) else { return latency };
        if alone && !baseline.alone {
            baseline.alone = true;
            baseline.answers = 0;
        }
        // What a queue adds is taken off.
        let own = latency / self.scale / if alone { 1.0 } else { ratio };
        let known = baseline.answers > 0;
        let expected = if known { baseline.mean } else { own } * self.scale;
        let counts = alone || (!baseline.alone && baseline.answers < GUESS);
        if counts {
            baseline.answers = baseline.answers.saturating_add(1);
            let weight = (1.0 / f64::from(baseline.answers)).max(LONE);
            baseline.mean += (own - baseline.mean) * weight;
        }
        self.lone = self.lone.saturating_add(u32::from(alone));
        self.answers = self.answers.saturating_add(1);
        let weight = (1.0 / f64::from(self.answers)).max(RECENT);
        self.took += (latency - self.took) * weight;
        self.expected += (expected - self.expected) * weight;
        self.both += (latency * expected - self.both) * weight;
        let weight = weight.max(LAST);
        self.took_last += (latency - self.took_last) * weight;
        self.expected_last += (expected - self.expected_last) * weight;
        expected
    }

    /// What recent answers took, as a multiple of what was expected; nothing before the first ones.
    pub(super) fn recent_ratio(&self) -> Option<f64> {
        (self.answers >= FIRST && self.expected > 0.0).then(|| self.took / self.expected)
    }

    /// Whether answers are as quick as expected: the recent ones within `recent`, and the latest
    /// few within `last`, as multiples of what was expected.
    pub(super) fn are_met(&self, recent: f64, last: f64) -> bool {
        self.recent_ratio().is_some_and(|ratio| ratio <= recent)
            && self.took_last <= self.expected_last * last
    }

    /// How long recent answers took, in seconds.
    pub(super) const fn recent(&self) -> f64 {
        self.took
    }

    /// How long a piece of recent work took, in seconds: of quick and slow answers that of the slow
    /// ones, if most of the work is theirs.
    pub(super) fn work(&self) -> f64 {
        if self.expected > 0.0 { self.both / self.expected } else { 0.0 }
    }

    pub(super) fn get(&self, route: RouteSlot) -> Option<f64> {
        let baseline = self.routes.get(usize::from(route.0))?;
        (baseline.answers > 0).then_some(baseline.mean * self.scale)
    }

    pub(super) fn expected(&self, route: RouteSlot) -> Option<f64> {
        Some(self.get(route)? * self.recent_ratio().unwrap_or(1.0).max(1.0))
    }

    /// The baseline of the recent mix of routes, each answer counting once.
    pub(super) fn typical(&self) -> Option<f64> {
        (self.expected > 0.0).then_some(self.expected)
    }

    /// Rises to what is measured, if a handful of first answers is all that the baselines rest on;
    /// once.
    pub(super) fn found(&mut self, ratio: f64) {
        if self.lone < FOUNDED {
            self.lone = FOUNDED;
            self.scale_by(ratio.clamp(1.0, FOUND_MOST));
        }
    }

    /// Follows answers under load that are quicker than expected, given the ratio of each round.
    pub(super) fn follow(&mut self, ratio: f64) {
        self.round += (ratio - self.round) * ROUND;
        if self.round < FALL_BELOW {
            self.scale_by(self.round);
            self.round = 1.0;
        }
    }

    pub(super) fn scale_by(&mut self, factor: f64) {
        self.scale = (self.scale * factor).clamp(SCALE_LEAST, 1.0 / SCALE_LEAST);
    }
}

/// The scale stays a number that can be divided by, whatever happens.
const SCALE_LEAST: f64 = 1e-9;
