//! The time after a cut that did not prove itself.

use std::time::{Duration, Instant};

use super::beat::Beat;

/// How long the next cut waits: at first, and at most.
const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(32);

/// The first wait in round trips, where these are long.
const LATENCIES: f64 = 4.0;

/// A ratio that rises by so much is something new, and ends the wait.
const WORSE: f64 = 1.5;

/// In this time the baselines may double while the limit is reached.
const DOUBLING: Duration = Duration::from_secs(60);

/// A wait that doubles each time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pause {
    until: Option<Instant>,
    length: Duration,
}

impl Pause {
    /// Begins anew, twice as long as the last one. `latency` is in seconds.
    pub(super) fn begin(&mut self, latency: f64, now: Instant) {
        let first = least(latency);
        self.length = (self.length * 2).max(first).min(MOST.max(first));
        self.until = now.checked_add(self.length);
    }

    /// The same, to the first beat of a period of that length which is not before half of it.
    fn begin_on(&mut self, beat: Beat, latency: f64, now: Instant) {
        self.begin(latency, now);
        self.until = beat.after(now + self.length / 2, Beat::period(self.length));
    }

    pub(super) fn lasts(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// The first wait, as a period of the beat.
fn first(latency: f64) -> Duration {
    Beat::period(least(latency))
}

fn least(latency: f64) -> Duration {
    Duration::try_from_secs_f64(latency * LATENCIES).unwrap_or(MOST).max(FIRST)
}

/// A cut: the ratio before it, and the latency after it in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub(super) ratio: f64,
    pub(super) latency: f64,
}

/// What follows from a cut for latency that did not prove itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Hold {
    pause: Pause,
    /// The ratio that the cut did not change.
    ratio: f64,
    /// Since then, when the baselines last rose.
    risen: Option<Instant>,
    /// When the limit may be raised to see whether that changes the ratio.
    raise: Option<Instant>,
    /// Whether it was, and did not.
    raised: bool,
}

impl Hold {
    /// Begins, for a time that doubles with each cut in a row. `latency` is in seconds.
    /// The limit may be raised meanwhile only after a cut of all proxies (`together`).
    pub(super) fn begin(&mut self, beat: Beat, cut: Cut, together: bool, now: Instant) {
        self.pause.begin_on(beat, cut.latency, now);
        self.ratio = cut.ratio;
        self.risen = self.risen.or(Some(now));
        self.raise = if together { beat.off(now, first(cut.latency)) } else { None };
    }

    /// A cut has proved itself, and perhaps has solved the matter. If it has not, the next one is
    /// on the beat where there was a doubt before, and counts as one more in a row if it does not
    /// prove itself.
    pub(super) fn proved(&mut self, solved: bool, beat: Beat, cut: Cut, now: Instant) {
        if solved || !self.has_begun() {
            *self = Self::default();
            return;
        }
        let until = beat.after(now, first(cut.latency));
        let pause = Pause { until, length: self.pause.length };
        *self = Self { pause, risen: Some(now), ratio: cut.ratio, ..Self::default() };
    }

    pub(super) const fn has_begun(&self) -> bool {
        self.risen.is_some()
    }

    pub(super) fn holds(&self, now: Instant) -> bool {
        self.pause.lasts(now)
    }

    /// Whether a cut at this ratio has to wait for the beat.
    pub(super) fn forbids(&self, ratio: f64) -> bool {
        self.has_begun() && ratio <= self.ratio * WORSE
    }

    /// Whether the time has come to raise the limit.
    pub(super) fn may_raise(&self, now: Instant) -> bool {
        self.holds(now) && self.raise.is_some_and(|at| now >= at)
    }

    /// Whether the time has come for the next cut, after one that did not prove itself.
    pub(super) fn may_cut(&self, now: Instant) -> bool {
        self.pause.until.is_some_and(|until| now >= until)
    }

    /// Raising the limit changed the ratio in proportion, or did not: it is this now, and the
    /// limit may be raised again.
    pub(super) fn raised(&mut self, follows: bool, beat: Beat, after: Cut, now: Instant) {
        self.raised = !follows;
        if follows {
            self.raise = None;
        } else {
            self.ratio = self.ratio.max(after.ratio);
            self.raise = beat.off(now, first(after.latency));
        }
    }

    /// Ends once the upstream is as quick as expected.
    pub(super) fn forgive(&mut self, now: Instant) {
        if !self.holds(now) {
            *self = Self::default();
        }
    }

    /// The factor by which the baselines may rise now; 1 unless a cut has not proved itself.
    pub(super) fn rise(&mut self, now: Instant) -> f64 {
        let Some(risen) = self.risen.filter(|_| self.raised) else { return 1.0 };
        self.risen = Some(now);
        let passed = now.saturating_duration_since(risen).min(MOST);
        (passed.as_secs_f64() / DOUBLING.as_secs_f64()).exp2()
    }
}
