//! The gate of an upstream: its adaptive limit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Gate, Limit};
use crate::policy::concurrency::{
    Attempt, Beat, Cause, Change, Limiter, RouteSlot, Sample, Settings,
};
use crate::policy::queue::{self, Pace};
use crate::policy::shedding::{Shedding, Standing};

/// How many of the limit's last changes an operator can see.
const CHANGES: usize = 16;

/// From this share of its limit on an upstream is told that it is near it.
const NEAR: f64 = 0.8;

/// The adaptive limit of an upstream, with the settings that it is under.
pub struct Adaptive {
    limiter: Limiter,
    settings: Settings,
    tiers: usize,
    changes: VecDeque<(Instant, Change)>,
}

/// An attempt that is under way under the limit.
#[derive(Clone, Copy, Debug)]
pub struct Started {
    attempt: Attempt,
    /// How near the upstream is to its limit: 0 far, 1 at four fifths of it, 2 at it, 3 beyond it,
    /// so that requests are refused.
    pub fullness: u8,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Lesson {
    /// The route that it was for.
    pub route: RouteSlot,
    /// What came of it.
    pub sample: Sample,
    /// When.
    pub at: Instant,
}

/// What an operator sees of an upstream's gate.
#[derive(Clone, Debug)]
pub struct View {
    /// The limiter.
    pub limiter: crate::policy::concurrency::View,
    /// How many wait.
    pub waiting: usize,
    /// How many may wait.
    pub queue_max: usize,
    /// The share of the requests which find no free place that is refused.
    pub refused_share: f64,
    /// The lowest level that is admitted: its tier and its cohort; nothing while all are.
    pub threshold: Option<(usize, usize)>,
    /// The lowest level that is admitted, counted from the bottom of those in use.
    pub threshold_height: usize,
    /// The last changes of the limit, the oldest first.
    pub changes: Vec<(Instant, Change)>,
}

impl Limit for Adaptive {
    type Start = Started;
    type Lesson = Lesson;

    fn try_acquire(&mut self, now: Instant) -> bool {
        let before = self.limiter.limit(&self.settings);
        let free = self.limiter.try_acquire(&self.settings, now);
        let to = self.limiter.limit(&self.settings);
        if to != before {
            self.note(Change { from: before, to, cause: Cause::Room }, now);
        }
        free
    }

    fn acquire(&mut self) {
        self.limiter.acquire();
    }

    fn release(&mut self) {
        self.limiter.release();
    }

    fn start(&mut self, refusing: bool) -> Started {
        let (in_flight, limit) = (self.limiter.in_flight(), self.limiter.limit(&self.settings));
        let fullness = match f64::from(in_flight) / f64::from(limit.max(1)) {
            share if share < NEAR => 0,
            share if share < 1.0 => 1,
            _ if refusing => 3,
            _ => 2,
        };
        Started { attempt: self.limiter.start(&self.settings), fullness }
    }

    fn learn(&mut self, start: Started, lesson: Lesson) {
        let Lesson { route, sample, at } = lesson;
        let change = self.limiter.record(&self.settings, start.attempt, route, sample, at);
        if let Some(change) = change {
            self.note(change, at);
        }
    }

    fn pace(&self) -> Pace {
        Pace {
            limit: self.limiter.limit(&self.settings),
            latency: self.limiter.baseline().unwrap_or_default(),
        }
    }

    fn queue(&self) -> &queue::Settings {
        &self.settings.queue
    }

    fn tiers(&self) -> Option<usize> {
        (self.settings.queue.discipline == queue::Discipline::Priority).then_some(self.tiers)
    }
}

impl Adaptive {
    fn note(&mut self, change: Change, at: Instant) {
        if self.changes.len() == CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back((at, change));
    }
}

impl Gate<Adaptive> {
    /// The gate of an upstream of which nothing is known.
    #[must_use]
    pub fn adaptive(settings: &Settings, tiers: usize, now: Instant) -> Self {
        let limiter = Limiter::new(settings, now);
        let changes = VecDeque::new();
        Self::new(Adaptive { limiter, settings: settings.clone(), tiers, changes }, now)
    }

    /// Changes the settings, and keeps what is known.
    pub fn configure(&self, settings: &Settings, tiers: usize) {
        self.with(|adaptive| {
            adaptive.settings.clone_from(settings);
            adaptive.tiers = tiers;
        });
    }

    /// Sets the beat that its limit shares with those of other proxies.
    pub fn set_beat(&self, beat: Beat) {
        self.with(|adaptive| adaptive.limiter.set_beat(beat));
    }

    /// The place of a route's baseline.
    #[must_use]
    pub fn route(&self, key: u64) -> RouteSlot {
        self.with(|adaptive| adaptive.limiter.route(key))
    }

    /// How long an answer of a route is likely to take; zero if nobody knows.
    #[must_use]
    pub fn expected(&self, route: RouteSlot) -> Duration {
        self.with(|adaptive| adaptive.limiter.expected(route)).unwrap_or_default()
    }

    /// The share of the limit that is taken; more than 1 while it is exceeded.
    #[must_use]
    pub fn taken(&self) -> f64 {
        let (in_flight, limit) = self.filled();
        f64::from(in_flight) / f64::from(limit.max(1))
    }

    /// How many are in flight, and how many may be.
    #[must_use]
    pub fn filled(&self) -> (u32, u32) {
        self.with(|adaptive| {
            (adaptive.limiter.in_flight(), adaptive.limiter.limit(&adaptive.settings))
        })
    }

    /// Adds the time for which a request kept the upstream busy to its caller's account.
    pub fn used(self: &Arc<Self>, standing: Standing, busy: Duration, now: Instant) {
        let mut machine = self.0.lock();
        let shedding = machine.shedding.get_or_insert_with(|| Box::new(Shedding::new(now)));
        shedding.used(standing, busy, now);
    }

    /// What an operator sees.
    #[must_use]
    pub fn view(&self, now: Instant) -> View {
        let mut machine = self.0.lock();
        let tiers = machine.limit.tiers;
        if let Some(shedding) = &mut machine.shedding {
            shedding.rest(tiers, now);
        }
        let (adaptive, shedding) = (&machine.limit, machine.shedding.as_ref());
        let settings = &adaptive.settings;
        let lowest = shedding.and_then(|shedding| shedding.lowest());
        View {
            limiter: adaptive.limiter.view(settings, now),
            waiting: machine.queue.len(),
            queue_max: settings.queue.max.of(adaptive.limiter.limit(settings)),
            refused_share: shedding.map_or(0.0, |shedding| shedding.share()),
            threshold: lowest.map(|level| (level.tier(), level.cohort())),
            threshold_height: lowest.map_or(0, |level| level.height(tiers)),
            changes: adaptive.changes.iter().copied().collect(),
        }
    }
}
