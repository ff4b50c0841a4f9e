//! Who is refused first? Levels of importance, and the threshold below which a request is shed.
//!
//! **Levels.** A tier that the configuration names, and within it one of 128 cohorts: of a fixed
//! hash of the caller, so that under overload the same callers are served throughout instead of
//! everyone now and then (DAGOR, Zhou et al., SoCC 2018), or of the caller's [`usage`], so that the
//! heaviest is shed first.
//!
//! **The threshold** is the level of the recent thousand arrivals below which lies the share of
//! them that cannot be served. It is moved by a tick, never between: within one tick whoever is
//! refused by it is below everyone whom it admits. It rises as far as the share says, and falls by
//! at most a twentieth of the levels in a tick, since the queue that is gone is no proof that the
//! load is. The highest level of the recent arrivals is admitted at all times. A threshold is for
//! the time in which a limit is reached; below it there is room for all, and nobody needs to ask.
//! The form is that of failsafe-go's prioritizer and of Uber's Cinnamon.
//!
//! **The share** is the caller's to give: that of the requests which had to be refused lately
//! (`shedding`).
//!
//! Not here: tokens that prove a priority, headers, and the queue that serves by level (`queue`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::usage::{MAX_KEYS, Usage};
use super::load_balancing::HashOn;

mod usage;

/// The tiers, who is in which, and who is shed first within one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "Priorities")]
pub struct Settings {
    /// The tiers, highest first; 1 to 8. The last is shed first.
    pub tiers: Vec<String>,
    /// What says which tier a request is of, unless its route does.
    pub from: Source,
    /// Who is shed first within a tier: the heaviest user; null = a fixed lot.
    pub fairness: Option<Fairness>,
}

/// What says which tier a request is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "PrioritySource")]
pub struct Source {
    /// The header that names the tier; believed from trusted sides alone.
    pub header: String,
    /// The tier without such a header, or with a name that is none.
    pub otherwise: String,
}

/// Fairness among the users of a tier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Fairness")]
pub struct Fairness {
    /// Who is one user.
    pub key: HashOn,
}

impl Default for Settings {
    fn default() -> Self {
        let tiers = ["critical", "default", "degraded", "sheddable"].map(str::to_owned);
        Self { tiers: tiers.into(), from: Source::default(), fairness: None }
    }
}

impl Default for Source {
    fn default() -> Self {
        Self { header: "x-priority".to_owned(), otherwise: "default".to_owned() }
    }
}

impl Settings {
    /// The tier of this name, in any case of letters; 0 is the highest.
    #[must_use]
    pub fn tier(&self, name: &str) -> Option<usize> {
        let found = self.tiers.iter().position(|tier| tier.eq_ignore_ascii_case(name.trim()));
        found.filter(|tier| *tier < MAX_TIERS)
    }

    /// The tier of a request whose header says this.
    #[must_use]
    pub fn tier_of(&self, header: Option<&str>) -> usize {
        let named = header.and_then(|name| self.tier(name));
        // A default that names no tier is an error when the file is read; the lowest is safe.
        let otherwise = || self.tier(&self.from.otherwise);
        named.or_else(otherwise).unwrap_or(self.tiers.len().clamp(1, MAX_TIERS) - 1)
    }
}

/// The most tiers that there can be.
pub const MAX_TIERS: usize = 8;

/// How many cohorts a tier has.
pub const COHORTS: usize = 128;

/// How many levels there are in all.
pub const LEVELS: usize = MAX_TIERS * COHORTS;

/// So many of the latest arrivals say how levels are spread.
const RECENT: usize = 1000;

/// The threshold falls by at most this share of the levels in use, in one tick.
const FALL: f64 = 0.05;

/// The importance of a request: its tier, then its cohort in it. Ordered: more is shed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Level(u16);

impl Level {
    /// The lowest level of all.
    pub const LOWEST: Self = Self(0);

    /// A level of a tier, 0 being the highest of at most [`MAX_TIERS`], and of a cohort in it, the
    /// last being shed last, of [`COHORTS`].
    #[must_use]
    pub const fn new(tier: usize, cohort: usize) -> Self {
        let tier = if tier < MAX_TIERS { tier } else { MAX_TIERS - 1 };
        let cohort = if cohort < COHORTS { cohort } else { COHORTS - 1 };
        Self(((MAX_TIERS - 1 - tier) * COHORTS + cohort) as u16)
    }

    /// A level of a tier for a caller who is known by a hash, or of a random number if it is not.
    #[must_use]
    pub const fn hashed(tier: usize, hash: u64) -> Self {
        // The high bits of a multiplicative hash are its best.
        let spread = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57;
        Self::new(tier, spread as usize)
    }

    /// The tier, 0 being the highest.
    #[must_use]
    pub const fn tier(self) -> usize {
        MAX_TIERS - 1 - self.0 as usize / COHORTS
    }

    /// The cohort in the tier; more is shed later.
    #[must_use]
    pub const fn cohort(self) -> usize {
        self.0 as usize % COHORTS
    }

    /// Its place among the levels of so many tiers, from the bottom: 0 is the first to be shed.
    #[must_use]
    pub const fn height(self, tiers: usize) -> usize {
        tiers.saturating_sub(1).saturating_sub(self.tier()) * COHORTS + self.cohort()
    }
}

/// Which levels are admitted now; about 4 KiB.
#[derive(Clone, Debug)]
pub struct Threshold {
    /// The latest arrivals, a ring, and how many of them had each level.
    recent: Vec<u16>,
    next: usize,
    counts: Vec<u16>,
    threshold: u16,
}

impl Threshold {
    /// One that admits all.
    #[must_use]
    pub fn new() -> Self {
        Self { recent: Vec::with_capacity(RECENT), next: 0, counts: vec![0; LEVELS], threshold: 0 }
    }

    /// Notes an arrival, whether it will be admitted or not.
    pub fn note(&mut self, level: Level) {
        if self.recent.len() < RECENT {
            self.recent.push(level.0);
        } else if let Some(oldest) = self.recent.get_mut(self.next) {
            let gone = std::mem::replace(oldest, level.0);
            self.next = (self.next + 1) % RECENT;
            if let Some(count) = self.counts.get_mut(usize::from(gone)) {
                *count -= 1;
            }
        }
        if let Some(count) = self.counts.get_mut(usize::from(level.0)) {
            *count += 1;
        }
    }

    /// Whether a request of this level is admitted.
    #[must_use]
    pub const fn admits(&self, level: Level) -> bool {
        level.0 >= self.threshold
    }

    /// The lowest level that is admitted.
    #[must_use]
    pub const fn lowest(&self) -> Level {
        Level(self.threshold)
    }

    /// Whether all levels are admitted.
    #[must_use]
    pub const fn admits_all(&self) -> bool {
        self.threshold == 0
    }

    /// Moves the threshold to refuse this share of the arrivals, 0 to 1, and says what the lowest
    /// admitted level is. `tiers` is how many there are. The highest level that arrives is always
    /// admitted: that nobody is would be no order of importance.
    pub fn tick(&mut self, tiers: usize, share: f64) -> Level {
        let tiers = tiers.clamp(1, MAX_TIERS);
        let target = self.quantile(share.clamp(0.0, 1.0));
        // The levels in use are the uppermost ones.
        let unused = ((MAX_TIERS - tiers) * COHORTS) as u16;
        let step = ((tiers * COHORTS) as f64 * FALL) as u16;
        let fallen = self.threshold.saturating_sub(step);
        let fallen = if fallen <= unused { 0 } else { fallen };
        self.threshold = target.max(fallen).min(self.quantile(1.0));
        self.lowest()
    }

    /// The smallest level which, with all below it, has this share of the recent arrivals.
    fn quantile(&self, share: f64) -> u16 {
        let wanted = (self.recent.len() as f64 * share).ceil() as usize;
        if wanted == 0 {
            return 0;
        }
        let mut seen = 0;
        for (level, count) in (0..).zip(&self.counts) {
            seen += usize::from(*count);
            if seen >= wanted {
                return level;
            }
        }
        0
    }
}

impl Default for Threshold {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
