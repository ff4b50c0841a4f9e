//! Tests of the schedule.

use std::time::Duration;

use proptest::prelude::*;

use super::{ENDPOINTS, Phase, Schedule, Trouble};

fn phase(millis: u64, what: &'static str) -> Phase {
    let troubles = [Some(Trouble::Fails), None, None];
    Phase { lasts: Duration::from_millis(millis), what, troubles }
}

#[test]
fn phases_follow_each_other_and_begin_again() {
    let schedule = Schedule::new(vec![phase(1000, "a"), phase(500, "b")]).unwrap();
    let at = |millis| {
        let moment = schedule.at(Duration::from_millis(millis)).unwrap();
        (moment.phase.what, moment.left.as_millis(), moment.next.what)
    };
    assert_eq!(at(0), ("a", 1000, "b"));
    assert_eq!(at(999), ("a", 1, "b"));
    assert_eq!(at(1000), ("b", 500, "a"));
    assert_eq!(at(1499), ("b", 1, "a"));
    assert_eq!(at(1500), ("a", 1000, "b"));
    assert_eq!(at(151_000), ("b", 500, "a"));
}

#[test]
fn a_phase_of_no_time_is_never_reached() {
    let schedule = Schedule::new(vec![phase(0, "never"), phase(5, "always")]).unwrap();
    let moment = schedule.at(Duration::ZERO).unwrap();
    assert_eq!((moment.phase.what, moment.next.what), ("always", "always"));
    assert_eq!(Schedule::new(vec![phase(0, "never")]), None);
    assert_eq!(Schedule::new(Vec::new()), None);
}

#[test]
fn the_standard_schedule_breaks_each_endpoint_in_some_way_and_heals_it() {
    let schedule = Schedule::standard();
    for endpoint in 0..ENDPOINTS {
        let troubled = |phase: &Phase| phase.troubles[endpoint].is_some();
        assert!(schedule.phases.iter().any(troubled), "orders-{}", endpoint + 1);
    }
    let well = |phase: &Phase| phase.troubles == [None; ENDPOINTS];
    assert!(schedule.phases.first().is_some_and(well) && schedule.phases.last().is_some_and(well));
}

proptest! {
    #[test]
    fn what_is_left_of_a_phase_is_always_some_and_never_more_than_the_phase(
        lengths in prop::collection::vec(1_u64..10_000, 1..8),
        at in 0_u64..10_000_000,
    ) {
        let phases = lengths.iter().map(|millis| phase(*millis, "x")).collect();
        let schedule = Schedule::new(phases).unwrap();
        let moment = schedule.at(Duration::from_micros(at)).unwrap();
        prop_assert!(!moment.left.is_zero() && moment.left <= moment.phase.lasts);
        let after = schedule.at(Duration::from_micros(at) + moment.left).unwrap();
        prop_assert_eq!(after.left, after.phase.lasts);
        prop_assert_eq!(after.phase, moment.next);
    }
}
