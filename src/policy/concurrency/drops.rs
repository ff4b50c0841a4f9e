//! Which dropped requests are the limit's fault?
//!
//! A drop cuts the limit by a tenth, once per round trip. When a series of cuts has halved it, the
//! series is judged by the share of requests that were dropped, in its first part and in its last.
//! An upstream that sheds what is too much for it sheds less by then. If the share has not halved as
//! well, and most requests are still answered, then the drops have another reason (a quota, a bug,
//! a deadline that is too short for some), a lower limit would only add refusals of our own to them,
//! and the series is taken back.
//!
//! Not here: what counts as a drop.

use std::time::{Duration, Instant};

use super::hold::Pause;

/// What a drop leaves of the limit.
const DROP: f64 = 0.9;

/// What a series leaves of the limit when it is judged.
const JUDGED: f64 = 0.5;

/// Below this share of the limit at its beginning the last part of a series begins.
const LAST_PART: f64 = 0.7;

/// From this share of drops on, cuts need no proof: little can be lost by them.
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

    fn share(self) -> f64 {
        f64::from(self.drops) / f64::from(self.requests.max(1))
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
        if cut > from * JUDGED {
            return Verdict::Cut(cut);
        }
        self.from = None;
        let share = self.last.share();
        if self.last.requests > 0 && share < MOSTLY && share * 2.0 >= self.first.share() {
            self.pause.begin(latency, now);
            return Verdict::Unproved(from);
        }
        Verdict::Cut(cut)
    }

    fn begin(&mut self, limit: f64) -> f64 {
        self.from = Some(limit);
        self.first = Part { requests: 1, drops: 1 };
        self.last = Part::default();
        limit
    }
}
