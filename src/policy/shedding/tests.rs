use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::policy::priority::COHORTS;

const TIERS: usize = 4;

/// A queue that is long.
const LONG: Line = Line { waiting: 10, limit: 5 };

/// A shedder with a clock that is moved by hand, in front of something that serves a part of what
/// comes, the most important first.
struct Bench {
    shedding: Shedding,
    now: Instant,
    drawn: u64,
}

impl Bench {
    #[expect(clippy::disallowed_methods, reason = "the fixed point that time is counted from")]
    fn new() -> Self {
        let now = Instant::now();
        Self { shedding: Shedding::new(now), now, drawn: 0 }
    }

    fn ask(&mut self, tier: usize) -> bool {
        self.drawn += 1;
        let level = self.shedding.level(Standing { tier, lot: Lot::Drawn(self.drawn) });
        self.shedding.admit(level, TIERS, LONG, self.now)
    }

    /// A second in which `rate` requests come, each tier as often, and `served` find room. Returns
    /// how many of each tier were admitted, and the lowest thresholds of each tick.
    fn second(&mut self, rate: u32, served: u32) -> ([u32; TIERS], Vec<usize>) {
        let (mut admitted, mut heights) = ([0; TIERS], Vec::new());
        let mut room = 0.0;
        for n in 0..rate {
            self.now += Duration::from_secs(1) / rate;
            room = f64::min(room + f64::from(served) / f64::from(rate), 8.0);
            let tier = n as usize % TIERS;
            // Half of the room is free places, and the other half is the queue.
            if room >= 4.0 {
                self.shedding.passed();
                (room, admitted[tier]) = (room - 1.0, admitted[tier] + 1);
            } else if self.ask(tier) {
                if room >= 1.0 {
                    (room, admitted[tier]) = (room - 1.0, admitted[tier] + 1);
                } else {
                    self.shedding.refused();
                }
            }
            heights.push(self.shedding.lowest().map_or(0, |level| level.height(TIERS)));
        }
        (admitted, heights)
    }
}

#[test]
fn nobody_is_refused_while_all_find_room() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        assert_eq!(bench.second(1000, 1000).0, [250; TIERS]);
    }
    assert_eq!((bench.shedding.lowest(), bench.shedding.share()), (None, 0.0));
}

#[test]
fn what_cannot_be_served_is_cut_from_the_bottom() {
    let mut bench = Bench::new();
    bench.second(1200, 400);
    let (admitted, heights) = bench.second(1200, 400);
    let [critical, default, degraded, sheddable] = admitted;
    assert!(critical >= 299, "{admitted:?}");
    assert!((60..=140).contains(&default), "{admitted:?}");
    assert_eq!((degraded, sheddable), (0, 0), "{admitted:?}");
    // Two thirds of 512 levels.
    assert!(heights.iter().all(|height| (256..=410).contains(height)), "{heights:?}");
}

#[test]
fn under_constant_overload_the_threshold_is_steady() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.second(1200, 400);
    }
    let heights: Vec<usize> = (0..10).flat_map(|_| bench.second(1200, 400).1).collect();
    let (low, high) = (heights.iter().min().copied(), heights.iter().max().copied());
    let swing = high.unwrap_or(0) - low.unwrap_or(0);
    assert!(swing * 10 < TIERS * COHORTS, "from {low:?} to {high:?}");
}

#[test]
fn once_all_find_room_again_all_are_admitted_again() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.second(1200, 400);
    }
    assert!(bench.shedding.lowest().is_some());
    for _ in 0..6 {
        bench.second(400, 400);
    }
    assert_eq!(bench.shedding.lowest(), None);
}

#[test]
fn a_silence_is_forgiven() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.second(1200, 100);
    }
    bench.shedding.rest(TIERS, bench.now + Duration::from_secs(1));
    bench.shedding.rest(TIERS, bench.now + Duration::from_secs(60));
    assert_eq!((bench.shedding.lowest(), bench.shedding.share()), (None, 0.0));
}

#[test]
fn the_heaviest_caller_is_the_lowest_of_its_tier() {
    let mut bench = Bench::new();
    let of = |key| Standing { tier: 1, lot: Lot::Caller(key) };
    for second in 0..3 {
        for _ in 0..100 {
            bench.shedding.used(of(1), Duration::from_millis(20), bench.now);
            bench.shedding.used(of(2), Duration::from_millis(1), bench.now);
        }
        bench.now += Duration::from_secs(1);
        bench.shedding.used(of(2), Duration::ZERO, bench.now);
        assert!(second == 0 || bench.shedding.level(of(1)) < bench.shedding.level(of(2)));
    }
    assert_eq!(bench.shedding.level(of(1)).tier(), 1);
    let unknown = bench.shedding.level(of(3));
    assert_eq!(unknown, bench.shedding.level(of(2)), "who was not seen before is light");
}

/// A threshold, and whom it admitted and refused.
type Tick = (Option<Level>, Vec<Level>, Vec<Level>);

proptest! {
    /// Whoever is refused by the threshold is below everyone whom it admits in the same tick.
    #[test]
    fn nobody_is_refused_while_a_lower_one_is_admitted(
        arrivals in prop::collection::vec(
            (0usize..TIERS, any::<u64>(), 0u64..5, any::<bool>()), 400,
        ),
    ) {
        let mut bench = Bench::new();
        let mut ticks: Vec<Tick> = Vec::new();
        for (tier, lot, wait, refuse) in arrivals {
            bench.now += Duration::from_millis(wait);
            let level = bench.shedding.level(Standing { tier, lot: Lot::Drawn(lot) });
            let admitted = bench.shedding.admit(level, TIERS, LONG, bench.now);
            if admitted && refuse {
                bench.shedding.refused();
            }
            let lowest = bench.shedding.lowest();
            if ticks.last().is_none_or(|(threshold, ..)| *threshold != lowest) {
                ticks.push((lowest, Vec::new(), Vec::new()));
            }
            if let Some((_, passed, shed)) = ticks.last_mut() {
                if admitted { passed.push(level) } else { shed.push(level) }
            }
            prop_assert!((0.0..=1.0).contains(&bench.shedding.share()));
        }
        for (_, passed, shed) in ticks {
            let (lowest, highest) = (passed.iter().min(), shed.iter().max());
            if let (Some(lowest), Some(highest)) = (lowest, highest) {
                prop_assert!(lowest > highest);
            }
        }
    }
}
