//! Who uses how much? Busy seconds of each key, and the cohort that follows from them.
//!
//! Busy seconds, not requests: one caller's few slow requests cost as much as another's many quick
//! ones. They fade by half in ten seconds. At each tick the keys are put in order of use, and the
//! cohort of a key says which share of the keys uses more than it does: 127 for the lightest (and
//! for those who were not seen before), 0 for the heaviest. Keys that use about the same have the
//! same cohort.
//!
//! Not here: what a key is.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::COHORTS;

/// How many keys are followed. Beyond it the lightest half is forgotten, which costs them nothing:
/// they come back as light as they were.
pub const MAX_KEYS: usize = 4096;

/// In this time a use counts half.
const HALF_LIFE: Duration = Duration::from_secs(10);

/// Below this many busy seconds a key is forgotten.
const FORGOTTEN: f64 = 1e-6;

/// Keys within this factor of each other's use count as using the same.
const SAME: f64 = 1.25;

#[derive(Clone, Copy, Debug)]
struct User {
    /// As of the last tick, what came later included.
    busy: f64,
    cohort: u8,
}

/// The recent use of each key.
#[derive(Clone, Debug)]
pub struct Usage {
    users: HashMap<u64, User>,
    ticked: Instant,
    /// Kept between ticks, so that sorting allocates nothing.
    order: Vec<(u64, f64)>,
}

impl Usage {
    /// Nobody has used anything.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { users: HashMap::new(), ticked: now, order: Vec::new() }
    }

    /// Adds what a request of this key, by its hash, kept busy.
    pub fn add(&mut self, key: u64, busy: Duration) {
        if self.users.len() >= MAX_KEYS && !self.users.contains_key(&key) {
            self.forget_light();
        }
        let user = self.users.entry(key).or_insert(User { busy: 0.0, cohort: TOP });
        user.busy += busy.as_secs_f64();
    }

    /// The cohort of a key: [`COHORTS`]` - 1` for the lightest and for the unknown.
    #[must_use]
    pub fn cohort(&self, key: u64) -> usize {
        usize::from(self.users.get(&key).map_or(TOP, |user| user.cohort))
    }

    /// How many keys are followed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether no key is followed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// Lets use fade and puts the keys in order; about once a second.
    pub fn tick(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.ticked);
        self.ticked = self.ticked.max(now);
        let fade = (-passed.as_secs_f64() / HALF_LIFE.as_secs_f64()).exp2();
        self.users.retain(|_, user| {
            user.busy *= fade;
            user.busy > FORGOTTEN
        });
        self.sort();
        // How many use clearly more, of all but the key itself.
        let others = self.order.len().saturating_sub(1).max(1);
        let (mut heavier, mut group) = (0, f64::INFINITY);
        for (rank, (key, busy)) in self.order.iter().enumerate() {
            if *busy * SAME < group {
                (heavier, group) = (rank, *busy);
            }
            let cohort = heavier * (COHORTS - 1) / others;
            if let Some(user) = self.users.get_mut(key) {
                user.cohort = u8::try_from(cohort).unwrap_or(TOP);
            }
        }
        // A single user, or all alike, are nobody's burden.
        if heavier == 0 {
            self.users.values_mut().for_each(|user| user.cohort = TOP);
        }
    }

    /// Puts the keys in order, the heaviest first.
    fn sort(&mut self) {
        self.order.clear();
        self.order.extend(self.users.iter().map(|(key, user)| (*key, user.busy)));
        self.order.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    }

    fn forget_light(&mut self) {
        self.sort();
        for (key, _) in self.order.drain(MAX_KEYS / 2..) {
            self.users.remove(&key);
        }
    }
}

/// The cohort that is shed last.
const TOP: u8 = (COHORTS - 1) as u8;
