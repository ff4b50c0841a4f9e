use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::clock;

const MIB: u64 = 1 << 20;

/// A sampler's period.
const EVERY: Duration = Duration::from_millis(200);

fn close(left: f64, right: f64) -> bool {
    (left - right).abs() < 1e-9
}

/// Feeds one load again and again for a time; the pressure at its end, and the end.
fn hold(pressure: &mut Pressure, load: f64, from: Instant, time: Duration) -> (f64, Instant) {
    let thresholds = Resource::Memory.thresholds();
    let mut now = from;
    while now < from + time {
        now += EVERY;
        pressure.observe(&thresholds, load, now);
    }
    (pressure.value(), now)
}

#[test]
fn loads_and_pressures() {
    let vectors = [
        (Resource::Memory, [(0.0, 0.0), (0.85, 0.0), (0.925, 0.5), (1.0, 1.0), (7.0, 1.0)]),
        (Resource::Descriptors, [(0.0, 0.0), (0.85, 0.0), (0.9, 0.5), (0.95, 1.0), (1.0, 1.0)]),
        (Resource::AcceptQueue, [(0.0, 0.0), (0.5, 0.0), (0.75, 0.5), (1.0, 1.0), (2.0, 1.0)]),
        (Resource::EventLoop, [(0.0, 0.0), (0.15, 0.0), (0.575, 0.5), (1.0, 1.0), (9.0, 1.0)]),
    ];
    for (resource, pairs) in vectors {
        for (load, expected) in pairs {
            let (mut pressure, now) = (Pressure::new(), clock::now());
            for _ in 0..SUSTAINED_MAX {
                pressure.observe(&resource.thresholds(), load, now);
            }
            assert!(close(pressure.value(), expected), "{resource:?} at {load}: {pressure:?}");
        }
    }
}

#[test]
fn tiers_are_refused_from_the_lowest_up_and_the_highest_at_full_alone() {
    let vectors = [
        (4, [(0.0, 0), (0.24, 0), (0.25, 1), (0.5, 2), (0.75, 3), (0.99, 3), (1.0, 4)]),
        (1, [(0.0, 0), (0.24, 0), (0.25, 0), (0.5, 0), (0.75, 0), (0.99, 0), (1.0, 1)]),
        (2, [(0.0, 0), (0.24, 0), (0.25, 0), (0.5, 1), (0.75, 1), (0.99, 1), (1.0, 2)]),
    ];
    for (tiers, pairs) in vectors {
        for (pressure, expected) in pairs {
            assert_eq!(refused(pressure, tiers), expected, "{tiers} tiers at {pressure}");
        }
    }
    assert!(refuses(0.25, 3, 4) && !refuses(0.25, 2, 4));
    assert!(refuses(1.0, 0, 4) && !refuses(0.99, 0, 4));
    assert!(!refuses(0.0, 9, 4), "without pressure nobody is refused, whatever his tier");
}

#[test]
fn one_late_timer_is_no_pressure_and_three_in_a_row_are() {
    let (mut pressure, now) = (Pressure::new(), clock::now());
    let thresholds = Resource::EventLoop.thresholds();
    let mut seen = Vec::new();
    for load in [5.0, 0.0, 5.0, 5.0, 5.0] {
        seen.push(pressure.observe(&thresholds, load, now));
    }
    assert_eq!(seen, [0.0, 0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn it_rises_at_once_stays_and_falls_slowly() {
    let (mut pressure, start) = (Pressure::new(), clock::now());
    assert!(close(pressure.observe(&Resource::Memory.thresholds(), 1.0, start), 1.0));
    let (held, now) = hold(&mut pressure, 0.5, start, HOLD);
    assert!(close(held, 1.0), "{held}");
    let (falling, now) = hold(&mut pressure, 0.5, now, Duration::from_secs(1));
    assert!(close(falling, 0.8), "{falling}");
    let (fallen, _) = hold(&mut pressure, 0.5, now, Duration::from_secs(4));
    assert!(close(fallen, 0.0), "{fallen}");
}

#[test]
fn a_load_that_hovers_at_a_tier_s_edge_does_not_flap() {
    let mut pressure = Pressure::new();
    let (mut now, thresholds) = (clock::now(), Resource::Memory.thresholds());
    let mut changes = 0;
    let mut before = None;
    for step in 0..600 {
        // Pressures of 0.70 and 0.76 in turn, around the edge at 0.75.
        let load = if step % 20 < 10 { 0.955 } else { 0.964 };
        now += EVERY;
        let refused = refused(pressure.observe(&thresholds, load, now), 4);
        changes += usize::from(before.is_some_and(|before| before != refused));
        before = Some(refused);
    }
    assert!(changes <= 1, "{changes} changes in two minutes");
}

#[test]
fn the_room_is_what_others_leave() {
    let level = |used, limit| Level { used: used * MIB, limit: limit * MIB };
    let vectors = [
        // Alone in a container of 100 MiB, 80 of which may be used.
        (40, level(40, 100), 0.5),
        (80, level(80, 100), 1.0),
        // The kernel's buffers for our sockets are ours as well, and leave less room.
        (60, level(80, 100), 1.0),
        // Beside a service that fills what may be used: a tenth of that is ours at any time.
        (10, level(910, 1000), 0.125),
        (80, level(980, 1000), 1.0),
        // Counted at different moments, the whole may be less than its part.
        (40, level(30, 100), 0.5),
    ];
    for (own, level, expected) in vectors {
        let share = share(own * MIB, level);
        assert!(close(share, expected), "{own} of {level:?}: {share}");
    }
    assert!(close(share(1, Level { used: 1, limit: 0 }), 1.0));
}

/// Observes one share of memory and so many requests for a time; the pressures on the way.
fn keep(memory: &mut Memory, seen: (f64, u64), now: &mut Instant, seconds: u64) -> Vec<f64> {
    let end = *now + Duration::from_secs(seconds);
    let mut pressures = Vec::new();
    while *now < end {
        *now += EVERY;
        pressures.push(memory.observe(seen.0, seen.1, *now));
    }
    pressures
}

#[test]
fn memory_that_stays_when_the_requests_are_gone_is_written_off() {
    for (share, off) in [(1.01, 0.16), (1.5, 0.65)] {
        let (mut memory, mut now) = (Memory::new(), clock::now());
        keep(&mut memory, (share, 100), &mut now, 1);
        let seen = keep(&mut memory, (share, 50), &mut now, 8);
        assert!(seen.iter().all(|value| close(*value, 1.0)), "{seen:?}");
        keep(&mut memory, (share, 50), &mut now, 10);
        assert!(close(memory.written_off(), off), "{memory:?}");
        let seen = keep(&mut memory, (share, 50), &mut now, 2);
        assert!(close(seen[seen.len() - 1], 0.0), "{seen:?}");
        // What comes on top counts, and sooner than ever.
        assert!(close(memory.observe(share + 0.05, 50, now), 1.0), "{memory:?}");
        // What is given back after all is no longer written off.
        keep(&mut memory, (0.5, 50), &mut now, 20);
        assert!(close(memory.written_off(), 0.0) && close(memory.observe(1.0, 50, now), 1.0));
    }
}

#[test]
fn memory_that_requests_may_hold_is_not_written_off() {
    let (mut memory, mut now) = (Memory::new(), clock::now());
    keep(&mut memory, (0.9, 40), &mut now, 5);
    keep(&mut memory, (1.01, 100), &mut now, 5);
    let seen = keep(&mut memory, (1.01, 51), &mut now, 3600);
    assert!(seen.iter().all(|value| close(*value, 1.0)));
    assert!(close(memory.written_off(), 0.0));
    // They end, and the memory stays.
    let seen = keep(&mut memory, (1.01, 0), &mut now, 18);
    assert!(close(seen[seen.len() - 1], 0.0), "{memory:?}");
}

#[test]
fn memory_that_does_not_move_refuses_no_low_tier_for_ever() {
    let (mut memory, mut now) = (Memory::new(), clock::now());
    keep(&mut memory, (0.95, 10), &mut now, 1);
    keep(&mut memory, (0.95, 2), &mut now, PROOF.as_secs() - 1);
    assert!(close(memory.observe(0.95, 2, now), 2.0 / 3.0));
    keep(&mut memory, (0.95, 2), &mut now, 9);
    assert!(close(memory.observe(0.95, 2, now), 0.0), "{memory:?}");
    // One that moves is in use, and so is one among as many requests as ever.
    for shares in [[(0.95, 2), (0.92, 2)], [(0.95, 10), (0.95, 2)]] {
        let (mut memory, mut now) = (Memory::new(), clock::now());
        keep(&mut memory, (0.95, 10), &mut now, 1);
        for share in shares.into_iter().cycle().take(120) {
            keep(&mut memory, share, &mut now, 2);
        }
        assert!(close(memory.written_off(), 0.0), "{memory:?}");
    }
}

#[test]
fn a_sample_that_is_missing_changes_nothing() {
    let (mut pressure, now) = (Pressure::new(), clock::now());
    pressure.observe(&Resource::Memory.thresholds(), 0.95, now);
    let before = pressure.value();
    let later = now + Duration::from_secs(60);
    assert!(close(pressure.observe(&Resource::Memory.thresholds(), f64::NAN, later), before));
    let mut memory = Memory::new();
    assert!(close(memory.observe(f64::NAN, 0, now), 0.0));
}

fn resource() -> impl Strategy<Value = Resource> {
    prop::sample::select(Resource::ALL.to_vec())
}

proptest! {
    #[test]
    fn pressure_is_between_none_and_all_and_falls_no_faster_than_it_may(
        resource in resource(),
        steps in prop::collection::vec((0.0..3.0_f64, 0_u64..3000), 1..200),
    ) {
        let (mut pressure, mut now) = (Pressure::new(), clock::now());
        for (load, millis) in steps {
            now += Duration::from_millis(millis);
            let before = pressure.value();
            let value = pressure.observe(&resource.thresholds(), load, now);
            prop_assert!((0.0..=1.0).contains(&value));
            let fallen = FALL * Duration::from_millis(millis).as_secs_f64();
            prop_assert!(value >= before - fallen - 1e-9, "{before} to {value} in {millis} ms");
        }
    }

    #[test]
    fn a_load_that_stays_is_never_taken_for_less(
        resource in resource(),
        history in prop::collection::vec(0.0..2.0_f64, 0..50),
        load in 0.0..2.0_f64,
    ) {
        let thresholds = resource.thresholds();
        let (mut pressure, mut now) = (Pressure::new(), clock::now());
        for load in history.into_iter().chain([load; SUSTAINED_MAX]) {
            now += EVERY;
            pressure.observe(&thresholds, load, now);
        }
        let raw = (load - thresholds.start) / (thresholds.full - thresholds.start);
        prop_assert!(pressure.value() >= raw.clamp(0.0, 1.0) - 1e-9);
    }

    #[test]
    fn without_load_all_pressure_is_gone_after_hold_and_fall(
        resource in resource(),
        history in prop::collection::vec(0.0..2.0_f64, 0..50),
    ) {
        let (mut pressure, mut now) = (Pressure::new(), clock::now());
        for load in history {
            now += EVERY;
            pressure.observe(&resource.thresholds(), load, now);
        }
        let end = now + HOLD + Duration::from_secs_f64(1.0 / FALL) + EVERY * 4;
        while now < end {
            now += EVERY;
            pressure.observe(&resource.thresholds(), 0.0, now);
        }
        prop_assert!(close(pressure.value(), 0.0), "{pressure:?}");
    }

    #[test]
    fn a_tier_is_refused_only_with_all_below_it(pressure in 0.0..=1.0_f64, tiers in 1_usize..=8) {
        for tier in 1..tiers {
            prop_assert!(!refuses(pressure, tier - 1, tiers) || refuses(pressure, tier, tiers));
        }
        prop_assert_eq!(refuses(pressure, 0, tiers), pressure >= 1.0);
    }

    #[test]
    fn more_pressure_refuses_no_fewer(
        low in 0.0..=1.0_f64,
        more in 0.0..=1.0_f64,
        n in 1_usize..9,
    ) {
        prop_assert!(refused(low, n) <= refused((low + more).min(1.0), n));
        prop_assert!(patience((low + more).min(1.0)) <= patience(low));
    }

    #[test]
    fn no_more_is_written_off_than_is_there_and_nothing_while_requests_stay(
        shares in prop::collection::vec((0.0..2.0_f64, 1_u64..120, 0_u64..100), 1..100),
        stay in any::<bool>(),
    ) {
        let (mut memory, mut now) = (Memory::new(), clock::now());
        for (share, times, in_flight) in shares {
            let in_flight = if stay { 50 + in_flight % 40 } else { in_flight };
            for _ in 0..times {
                now += EVERY;
                let value = memory.observe(share, in_flight, now);
                prop_assert!((0.0..=1.0).contains(&value));
                let above = (share - Resource::Memory.thresholds().start).max(0.0);
                prop_assert!(memory.written_off() <= above + 1e-9);
                prop_assert!(!stay || memory.written_off() == 0.0);
            }
        }
    }

    #[test]
    fn more_memory_is_no_smaller_share(
        own in 0_u64..1 << 40, more in 0_u64..1 << 40, others in 0_u64..1 << 40,
        limit in 1_u64..1 << 40,
    ) {
        let at = |own: u64| share(own, Level { used: own + others, limit });
        prop_assert!(at(own) <= at(own + more) + 1e-9);
        prop_assert!(at(own).is_finite());
    }
}
