//! How much work can the upstream do at once? A limit of concurrency that finds itself.
//!
//! **The sign of overload** is that requests take longer than they do on their own. Each route has
//! a baseline, the mean latency of its requests while nothing queues ([`baseline`]). Of the
//! requests that were sent while the limit was reached, the limiter adds up how long they took and
//! how long their baselines say that they should have taken. The quotient is the *ratio*, and by
//! Little's law `limit / ratio` is the number of requests that the upstream is really working on,
//! whatever the mix of quick and slow routes. The gradient is that of Envoy and of Netflix's
//! Gradient2.
//!
//! **A round** is what is learned between two decisions: requests that were started after the last
//! change of the limit, and while the limit was reached. It lasts a round trip at least (of a mix
//! of routes, the round trip of most of the work), so it scales with the upstream by itself, and as
//! long as the ratio is not known to 8 %, within bounds. Time in which the limit held nobody back
//! is in no round, so it neither raises nor lowers the limit; and neither is what this proxy
//! refused.
//!
//! | ratio of a round | what follows |
//! |---|---|
//! | up to 1.15 | the limit grows by 9 % to 25 %; it doubles until its first sign of a queue |
//! | up to 1.4 | nothing: some queue in the upstream keeps its workers busy |
//! | above | the limit is cut to where the ratio should be 1.25, by a fifth to a half |
//!
//! Where a refusal is at hand while recent answers are as quick as their baselines, the limit grows
//! at once, without a round: nobody is refused for want of measurement.
//!
//! **Every cut for latency has to prove itself.** If requests queue behind each other, fewer of
//! them are quicker, in proportion. If the upstream has become slower by itself, they are not, and
//! a lower limit would only throw away capacity, ever more of it as the ratio stays up. So when the
//! ratio is nearer to where it was than to that proportion, the cut is taken back and the matter is
//! in doubt. Under overload cuts do prove themselves, so overload cannot creep into the baselines.
//!
//! **In doubt it tries on the beat.** Where many proxies share an upstream, the cut of one changes
//! little, whatever the reason for the queue. So whatever is tried in doubt is tried by all of them
//! at the same time ([`beat`]): first a cut; then, after it failed, further ones with twice the
//! wait each time, from 1 s (or four round trips) up to 32 s, and a rise in between. A rise is kept
//! if it makes nothing slower, and only then may the baselines rise although the limit is reached,
//! at most twofold in a minute. Without the beat, each of 50 proxies would find that neither its
//! cuts nor its rises make any difference, and the sum of what they allow would have no end.
//!
//! This proof takes the place of failsafe-go's windows of correlation between concurrency, latency
//! and throughput. These wait for the limit to vary by itself, over 50 windows of a second; a cut
//! is the one variation that is needed, and is there when it is needed.
//!
//! **A dropped request** (it timed out, or the upstream itself answered 503 or 429) cuts the limit
//! by a tenth at once, though at most once per round trip, and a series of such cuts is judged
//! likewise ([`drops`]).
//!
//! Not here: who waits when the limit is reached (`queue`) and who is refused first (`priority`).

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::baseline::Baselines;
pub use self::baseline::{MAX_ROUTES, RouteSlot};
pub use self::beat::Beat;
use self::drops::{Drops, Verdict};
use self::hold::Hold;
use self::round::{Round, Trial};
pub use self::state::{Cause, Change, View};
use super::{Mode, queue};

mod baseline;
mod beat;
mod decision;
mod drops;
mod hold;
mod round;
mod state;

/// The adaptive limit of an upstream and the queue in front of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Concurrency")]
pub struct Settings {
    /// Whether the policy acts.
    pub mode: Mode,
    /// The limit never falls below this; at least 1.
    pub min: u32,
    /// The limit never rises above this.
    pub max: u32,
    /// The limit before anything was measured.
    pub initial: u32,
    /// Where requests wait when the limit is reached.
    pub queue: queue::Settings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Enforce,
            min: 4,
            max: 1000,
            initial: 20,
            queue: queue::Settings::default(),
        }
    }
}

/// Up to this ratio the limit grows.
const GROW_BELOW: f64 = 1.15;

/// Where the ratio should be under load: a quarter more in the upstream than it is working on, so
/// that a worker which becomes free finds its next request there.
const TARGET: f64 = 1.25;

/// Above this ratio the limit is cut.
const CUT_ABOVE: f64 = 1.4;

/// The deepest cut for latency in one round.
const CUT_MOST: f64 = 0.5;

/// The shallowest cut for latency: less would prove nothing against the noise of a round.
const CUT_LEAST: f64 = 0.8;

/// The most that the limit grows in a round once it has met a queue.
const GROWTH: f64 = 1.25;

/// While cuts do not prove themselves, the limit is raised by this factor to see whether that does.
const RAISE: f64 = 1.5;

/// Up to this ratio of recent answers, and of the latest few, the limit grows rather than refuse.
const ROOM: f64 = 1.05;
const ROOM_LAST: f64 = 1.2;

/// A limit that was enough for so many round trips is found.
const GUESS_TRIPS: f64 = 10.0;

/// Once the limit was not reached for so long, a doubt of what its cuts do is over.
const DOUBT: Duration = Duration::from_secs(10);

/// An operator's limit is capped here, so that a queue relative to it stays bounded as well.
const LIMIT_MOST: u32 = 1_000_000;

/// The adaptive limit of one upstream; about 400 bytes, and 48 per route.
#[derive(Clone, Debug)]
pub struct Limiter {
    limit: f64,
    in_flight: u32,
    /// How many attempts were started.
    started: u64,
    /// The first attempt of the round: what started before is of another limit.
    round_from: u64,
    /// True in the first round after a change of the limit.
    round_fresh: bool,
    /// The first attempt after the last drop: of what started before, no drop counts.
    drop_from: u64,
    drops: Drops,
    /// True until the limit has met its first sign of a queue.
    searching: bool,
    round: Round,
    /// When the limit last changed.
    changed: Instant,
    trial: Option<Trial>,
    hold: Hold,
    beat: Beat,
    ratio: f64,
    /// How many answers came since the limit last changed.
    fresh: u32,
    /// When an answer to an attempt under the reached limit last came.
    bound: Option<Instant>,
    baselines: Baselines,
}

/// An attempt that is under way, as the limiter knows it; to be handed back with what came of it,
/// or let go if nothing was learned from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    number: u64,
    /// How many were in flight when it started, itself included.
    in_flight: u32,
    /// The limit was reached.
    bound: bool,
}

/// What came of an attempt. An attempt that ended in a way which says nothing of the upstream's
/// load is not recorded: cancelled by the client, not connected, or answered by a peer proxy's own
/// protection in the name of another upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sample {
    /// The head of an answer came after this time.
    Answered(Duration),
    /// It timed out, or the upstream answered that it has too much to do (503, 429).
    Dropped,
}

impl Limiter {
    /// A limiter that has seen nothing.
    #[must_use]
    pub fn new(settings: &Settings, now: Instant) -> Self {
        let mut limiter = Self {
            limit: 0.0,
            in_flight: 0,
            started: 0,
            round_from: 0,
            round_fresh: true,
            drop_from: 0,
            drops: Drops::default(),
            searching: true,
            round: Round::new(now),
            changed: now,
            trial: None,
            hold: Hold::default(),
            beat: Beat::new(now, Duration::ZERO),
            ratio: 1.0,
            fresh: 0,
            bound: None,
            baselines: Baselines::default(),
        };
        limiter.set(settings, f64::from(settings.initial));
        limiter
    }

    /// Sets the beat on which it tries what it shares with other proxies; until then it has one of
    /// its own.
    pub const fn set_beat(&mut self, beat: Beat) {
        self.beat = beat;
    }

    /// The place of a route's baseline, to be asked for when a configuration is compiled: the same
    /// key (a hash of the route's name) has the same place ever after, across reloads too.
    pub fn route(&mut self, key: u64) -> RouteSlot {
        self.baselines.slot(key)
    }

    /// How many requests may be in flight.
    #[must_use]
    pub fn limit(&self, settings: &Settings) -> u32 {
        let (min, max) = bounds(settings);
        // A setting that was reloaded acts at once.
        (self.limit as u32).clamp(min, max)
    }

    /// How many requests are in flight.
    #[must_use]
    pub const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Takes a place, to be given back with [`Limiter::release`]; false if there is none. If
    /// answers are as quick as ever the limit grows rather than refuse, once in a round trip.
    #[must_use]
    pub fn try_acquire(&mut self, settings: &Settings, now: Instant) -> bool {
        if self.in_flight >= self.limit(settings) && self.has_room(now) {
            // A limit that was enough for some time is no first guess any more.
            let since = now.saturating_duration_since(self.changed).as_secs_f64();
            self.searching &= since < self.baselines.recent() * GUESS_TRIPS;
            self.grow(settings, 1.0, now);
        }
        let free = self.in_flight < self.limit(settings);
        self.in_flight += u32::from(free);
        free
    }

    /// Takes a place whether there is one or not, to be given back like any other: for `observe`,
    /// and for what must never be refused.
    pub const fn acquire(&mut self) {
        self.in_flight = self.in_flight.saturating_add(1);
    }

    /// Gives a place back.
    pub const fn release(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Starts an attempt of a request that holds a place. One place may see several attempts.
    pub fn start(&mut self, settings: &Settings) -> Attempt {
        self.baselines.crowd(self.in_flight);
        let bound = self.in_flight >= self.limit(settings);
        let number = self.started;
        self.started += 1;
        Attempt { number, in_flight: self.in_flight, bound }
    }

    /// Learns what came of an attempt, and says whether that changed the limit.
    pub fn record(
        &mut self,
        settings: &Settings,
        attempt: Attempt,
        route: RouteSlot,
        sample: Sample,
        now: Instant,
    ) -> Option<Change> {
        self.drops.count(self.limit, sample == Sample::Dropped);
        let Sample::Answered(latency) = sample else {
            return self.drop_one(settings, attempt, now);
        };
        self.fresh = self.fresh.saturating_add(1);
        let (min, _) = bounds(settings);
        let latency = latency.as_secs_f64().max(LATENCY_LEAST);
        self.bound = if attempt.bound { Some(now) } else { self.bound };
        let alone = !attempt.bound
            && self.baselines.is_alone(attempt.in_flight, min)
            && !self.is_in_doubt(now);
        let expected = self.baselines.learn(route, latency, alone);
        if self.round.is_stale(self.baselines.recent(), now) {
            let back = self.trial.take().map(|trial| (trial.limit, Cause::Unproved));
            self.round = Round::new(now);
            if let Some((limit, cause)) = back {
                return self.change(settings, limit, cause, now);
            }
        }
        if let Some(change) = self.try_on_beat(settings, now) {
            return Some(change);
        }
        // At first only quick requests of the round are back; they would speak for all.
        let early = self.round_fresh && self.round.age(now) < self.baselines.work();
        if !attempt.bound || attempt.number < self.round_from || early {
            return None;
        }
        self.round.add(latency, expected, self.ratio);
        let trip = self.baselines.work() * if self.round_fresh { 2.0 } else { 1.0 };
        let full = self.round.is_over(self.limit(settings), CUT_ABOVE, now);
        if !full || self.round.age(now) < trip {
            return None;
        }
        self.conclude(settings, now)
    }

    /// How long an answer of this route is likely to take now; nothing if nobody knows.
    #[must_use]
    pub fn expected(&self, route: RouteSlot) -> Option<Duration> {
        self.baselines.expected(route).and_then(seconds)
    }

    /// The time that a request of the recent mix takes while nothing queues; nothing before the
    /// first answer. The queue's constants scale with it.
    #[must_use]
    pub fn baseline(&self) -> Option<Duration> {
        self.baselines.typical().and_then(seconds)
    }

    /// The time that requests of this route take while nothing queues.
    #[must_use]
    pub fn baseline_of(&self, route: RouteSlot) -> Option<Duration> {
        self.baselines.get(route).and_then(seconds)
    }

    /// What an operator sees.
    #[must_use]
    pub fn view(&self, settings: &Settings, now: Instant) -> View {
        View {
            limit: self.limit(settings),
            in_flight: self.in_flight,
            ratio: self.ratio,
            baseline: self.baseline(),
            holding: self.hold.holds(now),
        }
    }

    /// Whether a refusal would be for want of measurement alone.
    fn has_room(&self, now: Instant) -> bool {
        self.trial.is_none()
            && !self.hold.has_begun()
            && self.baselines.are_met(ROOM, ROOM_LAST)
            // Nothing is known of the limit before it has seen a round trip's worth of answers; an
            // upstream that hangs gives none.
            && self.fresh >= self.limit as u32 / 2
            && self.round.age(now) >= self.baselines.recent()
    }

    /// Whether the queue in the upstream may be that of others: then nobody is alone.
    fn is_in_doubt(&self, now: Instant) -> bool {
        let lately = |at| now.saturating_duration_since(at) < DOUBT;
        self.hold.has_begun() && self.bound.is_some_and(lately)
    }

    fn drop_one(&mut self, settings: &Settings, attempt: Attempt, now: Instant) -> Option<Change> {
        // A cut that is being tried is more than a drop asks for.
        if attempt.number < self.drop_from || self.trial.is_some() {
            return None;
        }
        let (min, _) = bounds(settings);
        let (limit, recent) = (self.limit, self.baselines.recent());
        let (limit, cause) = match self.drops.judge(limit, f64::from(min), recent, now) {
            Verdict::Ignored => return None,
            Verdict::Cut(limit) => (limit, Cause::Drop),
            Verdict::Unproved(limit) => (limit, Cause::Unproved),
        };
        self.searching = false;
        self.drop_from = self.started;
        self.change(settings, limit, cause, now)
    }
}

/// A latency of nothing would make a ratio of anything; no upstream answers in less.
const LATENCY_LEAST: f64 = 1e-6;

fn bounds(settings: &Settings) -> (u32, u32) {
    let min = settings.min.clamp(1, LIMIT_MOST);
    (min, settings.max.clamp(min, LIMIT_MOST))
}

fn seconds(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests;
