//! What must hold of the places of gates, whatever happens. The rules go on from those of
//! [`invariants`](super::invariants):
//!
//! 10. What the proxy refuses itself teaches the limit nothing.
//! 11. Every place is given back once: what a gate counts in flight is what requests hold, and who
//!     waits in it is who was not called; when all is over nothing is left.
//! 12. A request has one place through all of its attempts.
//! 13. No request is refused for want of a place while one of a lower tier gets one, for longer
//!     than a tick.
//! 14. Whoever asks for a place gets none beyond the limit.
//! 15. Nobody is called to a place after its deadline.

use std::time::Duration;

use outrigger::snapshot::Snapshot;

use super::invariants::{Step, check};

/// The time in which a threshold stays as it is.
const TICK: Duration = Duration::from_millis(100);

/// What requests say of a gate.
#[derive(Debug, Default)]
pub(crate) struct Count {
    pub(crate) held: usize,
    waits: usize,
    /// Who waits, was told what has become of it, and has not looked yet.
    told: usize,
}

impl Count {
    pub(crate) fn waits(&mut self, told: bool) {
        *(if told { &mut self.told } else { &mut self.waits }) += 1;
    }

    /// Rule 11. Of those who were told some have a place that is kept for them.
    pub(crate) fn is_counted(&self, of: &str, in_flight: u32, waiting: usize) -> Step {
        let Self { held, waits, told } = self;
        let kept = *held..=held + told;
        check(11, kept.contains(&(in_flight as usize)), || {
            format!("{of} counts {in_flight} in flight, requests have {kept:?} places")
        })?;
        check(11, *waits == waiting, || format!("{waiting} wait for {of}, {waits} think they do"))
    }
}

/// Rule 11, at the end.
pub(crate) fn all_free(snapshot: &Snapshot) -> Step {
    for upstream in snapshot.upstreams.values() {
        Count::default().is_counted(
            "the limit",
            upstream.state.gate.filled().0,
            upstream.state.gate.waiting(),
        )?;
    }
    for bulkhead in snapshot.routes.iter().filter_map(|route| route.bulkhead.as_ref()) {
        Count::default().is_counted("a bulkhead", bulkhead.filled().0, bulkhead.waiting())?;
    }
    Ok(())
}

/// Rule 13: who got a place, and who was refused one, in this tick and in the one before.
#[derive(Debug, Default)]
pub(crate) struct Tiers {
    tick: u128,
    now: Seen,
    before: Seen,
}

/// Sets of tiers, a bit for each.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    admitted: u8,
    refused: u8,
}

impl Tiers {
    pub(crate) fn note(&mut self, now: Duration, tier: usize, admitted: bool) -> Step {
        let tick = now.as_nanos() / TICK.as_nanos();
        if tick != self.tick {
            self.before = if tick == self.tick + 1 { self.now } else { Seen::default() };
            self.now = Seen::default();
            self.tick = tick;
        }
        let of = if admitted { &mut self.now.admitted } else { &mut self.now.refused };
        *of |= 1 << tier;
        let refused = self.before.refused & self.now.refused;
        let admitted = self.before.admitted & self.now.admitted;
        let (highest, lowest) = (refused.trailing_zeros(), admitted.checked_ilog2());
        check(13, highest > 0 || lowest.is_none_or(|lowest| lowest <= highest), || {
            format!("tier {highest} is refused while tier {lowest:?} is admitted")
        })
    }
}
