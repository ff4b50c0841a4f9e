//! When do all proxies of an upstream try something at the same time?
//!
//! One of many proxies learns nothing from a change of its own limit: the queue in the upstream is
//! that of all. If all change theirs at the same time, each sees what follows. So what is tried
//! under a lasting doubt is tried on a beat: at whole multiples of a period on the clock of day,
//! which proxies share to some milliseconds without talking to each other. Limits are cut at the
//! multiples and raised in the middle between them. There are few periods, 1 s, 8 s, 64 s and so
//! on, so that nearly all proxies of an upstream have the same one whatever latency each has seen:
//! with powers of two they cut while others raise, and 50 of them never agree.
//!
//! The clock of day is read once. If it is wrong, or set later on, this proxy tries on its own.

use std::time::{Duration, Instant};

/// What the clock of day showed at some instant.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    at: Instant,
    showed: Duration,
}

impl Beat {
    /// A beat that begins at this instant, when the clock of day shows so much.
    #[must_use]
    pub const fn new(at: Instant, showed: Duration) -> Self {
        Self { at, showed }
    }

    /// The least period that is as long as this.
    pub(super) fn period(least: Duration) -> Duration {
        let mut period = Duration::from_secs(1);
        while period < least && period < PERIOD_MOST {
            period *= 8;
        }
        period
    }

    /// The first multiple of a period that comes after this instant.
    pub(super) fn after(self, now: Instant, period: Duration) -> Option<Instant> {
        let shows = (self.showed + now.saturating_duration_since(self.at)).as_nanos();
        let left = period.as_nanos() - shows % period.as_nanos().max(1);
        now.checked_add(Duration::from_nanos(u64::try_from(left).ok()?))
    }

    /// The first instant after this one that is in the middle between two multiples.
    pub(super) fn off(self, now: Instant, period: Duration) -> Option<Instant> {
        let half = period / 2;
        let next = self.after(now + half, period)?;
        next.checked_sub(half)
    }
}

/// No beat is slower.
const PERIOD_MOST: Duration = Duration::from_secs(1 << 20);
