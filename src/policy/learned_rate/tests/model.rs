//! A model of a third party and of the sidecars in front of it: requests arrive evenly or at
//! random, answers come after a latency, and time is a number that jumps from event to event.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::super::*;

/// A seeded generator of numbers in `[0, 1)` (xorshift64*).
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn unit(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How the third party counts.
#[derive(Clone, Copy, Debug)]
pub(super) enum Counts {
    /// By a bucket of this many tokens.
    Bucket(f64),
    /// By windows of this many seconds.
    Window(f64),
}

/// What the third party says beside the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Nothing,
    RetryAfter,
    Fields,
}

/// A third party with a limit.
pub(super) struct ThirdParty<'a> {
    pub(super) counts: Counts,
    /// Requests a second at a time.
    pub(super) allows: Box<dyn Fn(f64) -> f64 + 'a>,
    pub(super) says: Says,
    tokens: f64,
    at: f64,
}

impl<'a> ThirdParty<'a> {
    pub(super) fn new(counts: Counts, says: Says, allows: impl Fn(f64) -> f64 + 'a) -> Self {
        let tokens = match counts {
            Counts::Bucket(size) => size,
            Counts::Window(length) => allows(0.0) * length,
        };
        Self { counts, allows: Box::new(allows), says, tokens, at: 0.0 }
    }

    /// Whether it accepts a request, and what it says.
    pub(super) fn asked(&mut self, now: f64) -> (bool, Option<Duration>, Option<Advice>) {
        let allows = (self.allows)(now);
        let (quota, window, reset) = match self.counts {
            Counts::Bucket(size) => {
                self.tokens = (self.tokens + (now - self.at) * allows).min(size);
                (allows, 1.0, (size - self.tokens) / allows)
            }
            Counts::Window(length) => {
                if (now / length).floor() > (self.at / length).floor() {
                    self.tokens = (allows * length).floor();
                }
                (allows * length, length, length - now % length)
            }
        };
        self.at = now;
        let accepted = self.tokens >= 1.0;
        if accepted {
            self.tokens -= 1.0;
        }
        let whole = |seconds: f64| Duration::from_secs(seconds.ceil().max(1.0) as u64);
        let next = match self.counts {
            Counts::Bucket(_) => (1.0 - self.tokens) / allows,
            Counts::Window(_) => reset,
        };
        let retry_after = (self.says == Says::RetryAfter && !accepted).then(|| whole(next));
        let advice = (self.says == Says::Fields).then(|| Advice {
            quota: Some((quota as u64, whole(window))),
            left: Some((self.tokens.max(0.0) as u64, whole(reset))),
        });
        (accepted, retry_after, advice)
    }
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) seed: u64,
    pub(super) sidecars: usize,
    /// Requests a second, of all together.
    pub(super) offered: f64,
    /// Whether they come at random and not evenly.
    pub(super) random: bool,
    /// Seconds, with as much again for jitter.
    pub(super) latency: f64,
    pub(super) patience: f64,
    pub(super) length: f64,
    pub(super) bounds: Bounds,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            seed: 1,
            sidecars: 1,
            offered: 100.0,
            random: false,
            latency: 0.03,
            patience: 0.2,
            length: 300.0,
            bounds: Bounds::default(),
        }
    }
}

/// What happened, by whole seconds.
pub(super) struct Story {
    pub(super) accepted: Vec<u32>,
    pub(super) throttled: Vec<u32>,
}

impl Story {
    /// Accepted requests a second in a span of seconds.
    pub(super) fn passed(&self, from: usize, to: usize) -> f64 {
        f64::from(self.accepted[from..to].iter().sum::<u32>()) / (to - from) as f64
    }

    /// The share of what was sent in a span of seconds that was throttled.
    pub(super) fn throttled_share(&self, from: usize, to: usize) -> f64 {
        let sum = |of: &[u32]| f64::from(of[from..to].iter().sum::<u32>());
        let throttled = sum(&self.throttled);
        throttled / (throttled + sum(&self.accepted)).max(1.0)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Arrive,
    Turn(usize, Ticket, u64),
    Reach(usize, u64),
    Answer(usize, u64, bool, Option<Duration>, Option<u64>),
}

/// When, the how manyth, and what.
type Planned = (u64, u64, Event);

struct World<'a, 'b> {
    load: Load,
    origin: Instant,
    third: &'a mut ThirdParty<'b>,
    sidecars: Vec<LearnedRate>,
    events: BinaryHeap<Reverse<Planned>>,
    number: u64,
    heard: Vec<Option<Advice>>,
    rng: Rng,
    story: Story,
}

/// Plays a load against a third party.
pub(super) fn play(load: Load, third: &mut ThirdParty<'_>) -> Story {
    let origin = origin();
    let seconds = load.length as usize;
    let mut world = World {
        load,
        origin,
        third,
        sidecars: (0..load.sidecars).map(|_| LearnedRate::new(origin)).collect(),
        events: BinaryHeap::new(),
        number: 0,
        heard: Vec::new(),
        rng: Rng::new(load.seed),
        story: Story { accepted: vec![0; seconds], throttled: vec![0; seconds] },
    };
    world.at(0, Event::Arrive);
    let end = nanos(load.length);
    while let Some(Reverse((at, _, event))) = world.events.pop()
        && at < end
    {
        world.happens(at, event);
    }
    world.story
}

#[expect(clippy::disallowed_methods, reason = "an origin for made-up times; nothing is measured")]
pub(super) fn origin() -> Instant {
    Instant::now()
}

fn nanos(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

impl World<'_, '_> {
    fn at(&mut self, nanos: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse((nanos, self.number, event)));
    }

    fn happens(&mut self, at: u64, event: Event) {
        let now = self.origin + Duration::from_nanos(at);
        let second = (at / 1_000_000_000) as usize;
        let bounds = self.load.bounds;
        match event {
            Event::Arrive => {
                let mean = 1.0 / self.load.offered;
                let gap =
                    if self.load.random { -(1.0 - self.rng.unit()).ln() * mean } else { mean };
                self.at(at + nanos(gap), Event::Arrive);
                let who = (self.rng.unit() * self.load.sidecars as f64) as usize;
                let patience = Duration::from_secs_f64(self.load.patience);
                let answer = self.sidecars[who].ask(&bounds, patience, now);
                self.answered(at, who, at, answer);
            }
            Event::Turn(who, ticket, came) => {
                let waited = Duration::from_nanos(at - came);
                let patience = Duration::from_secs_f64(self.load.patience).saturating_sub(waited);
                let answer = self.sidecars[who].turn(&bounds, ticket, patience, now);
                self.answered(at, who, came, answer);
            }
            Event::Reach(who, began) => {
                let (accepted, retry_after, advice) = self.third.asked(at as f64 / 1e9);
                let place = advice.is_some().then_some(self.heard.len() as u64);
                self.heard.extend(advice.map(Some));
                let back = self.latency();
                self.at(at + back, Event::Answer(who, began, !accepted, retry_after, place));
            }
            Event::Answer(who, began, throttled, retry_after, advice) => {
                let counts =
                    if throttled { &mut self.story.throttled } else { &mut self.story.accepted };
                counts[second] += 1;
                let advice = advice.and_then(|place| self.heard[place as usize]);
                let began = self.origin + Duration::from_nanos(began);
                let end = End { began, throttled, retry_after, advice };
                self.sidecars[who].ended(&bounds, &end, now);
            }
        }
    }

    fn answered(&mut self, at: u64, who: usize, came: u64, answer: Answer) {
        match answer {
            Answer::Pass => {
                let there = self.latency();
                self.at(at + there, Event::Reach(who, at));
            }
            Answer::Wait(ticket, wait) => {
                self.at(at + wait.as_nanos() as u64, Event::Turn(who, ticket, came));
            }
            Answer::Refused(_) => {}
        }
    }

    /// One way.
    fn latency(&mut self) -> u64 {
        nanos(self.load.latency / 2.0 * (1.0 + self.rng.unit()))
    }
}
