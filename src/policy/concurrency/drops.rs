//! Which dropped requests are the limit's fault?
//!
//! A drop cuts the limit by a tenth, once per round trip. When a series of cuts has halved it, the
//! series is judged by the share of requests that were answered, in its first part and in its last.
//! Of an upstream that sheds what is too much for it, that share rises as the limit falls, in
//! proportion, until it is all of them. If it was nearer to not rising, then the drops have another
//! reason (a quota, a bug, a deadline that is too short for some), a lower limit would only add
//! refusals of our own to them, and the series is taken back. While most requests are dropped,
//! there is nothing to lose, and no judgement.
//!
//! Not here: what counts as a drop.

use std::time::{Duration, Instant};

use super::hold::Pause;

/// What a drop leaves of the limit.
const DROP: f64 = 0.9;

/// What a series leaves of the limit when it is judged.
const JUDGED: f64 = 0.5;

/// Below this share of the limit at its beginning the last part of a series begins; what the limit
/// is in the first part, as a multiple of what it is in the last.
const LAST_PART: f64 = 0.7;
const BETWEEN: f64 = 1.4;

/// A part of a series says something of its share after so many requests.
const TELLING: u32 = 30;

/// Up to this share of answers, cuts need no proof: little can be lost by them.
const MOSTLY: f64 = 0.5;

/// Without a drop for so long, a series is over and the next one is judged as if it were the first.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// Requests and drops.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    requests: u32,
    drops: u32,
}

impl Part {
    fn add(&mut self, drop: bool) {
        self.requests = self.requests.saturating_add(1);
        self.drops = self.drops.saturating_add(u32::from(drop));
    }

    /// The share that was answered.
    fn answered(self) -> f64 {
        1.0 - f64::from(self.drops) / f64::from(self.requests.max(1))
    }

    /// Whether there is something to lose, and too little is known to risk it.
    fn is_vague(self) -> bool {
        self.requests < TELLING && self.answered() > MOSTLY
    }
}

/// The cuts for drops.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Drops {
    /// The limit at the beginning of the series, if there is one.
    from: Option<f64>,
    first: Part,
    last: Part,
    latest: Option<Instant>,
    pause: Pause,
}

/// What a drop does to the limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// Nothing: drops do not depend on it.
    Ignored,
    /// It is cut to this.
    Cut(f64),
    /// All cuts of the series are taken back, to this.
    Unproved(f64),
}

impl Drops {
    /// Counts what came of an attempt that was started at this limit, whether it cuts or not.
    pub(super) fn count(&mut self, limit: f64, drop: bool) {
        let Some(from) = self.from else { return };
        let part = if limit > from * LAST_PART { &mut self.first } else { &mut self.last };
        part.add(drop);
    }

    /// Decides on a drop that is the first of its round trip. `min` is the least limit, `latency`
    /// is in seconds.
    pub(super) fn judge(&mut self, limit: f64, min: f64, latency: f64, now: Instant) -> Verdict {
        let old = self.latest.is_some_and(|at| now.saturating_duration_since(at) > FORGOTTEN);
        if old {
            *self = Self::default();
        }
        self.latest = Some(now);
        if self.pause.lasts(now) || limit <= min {
            return Verdict::Ignored;
        }
        let from = match self.from {
            Some(from) if limit <= from => from,
            _ => self.begin(limit),
        };
        let cut = (limit * DROP).max(min);
        if cut > from * LAST_PART {
            return Verdict::Cut(cut);
        }
        if self.first.is_vague() {
            return Verdict::Ignored;
        }
        if cut > from * JUDGED {
            return Verdict::Cut(cut);
        }
        if self.last.is_vague() {
            return Verdict::Ignored;
        }
        self.from = None;
        let (first, last) = (self.first.answered(), self.last.answered());
        let proved = last >= f64::midpoint(first, (first * BETWEEN).min(1.0));
        if proved || last <= MOSTLY {
            return Verdict::Cut(cut);
        }
        self.pause.begin(latency, now);
        Verdict::Unproved(from)
    }

    fn begin(&mut self, limit: f64) -> f64 {
        self.from = Some(limit);
        self.first = Part::default();
        self.last = Part::default();
        limit
    }
}
