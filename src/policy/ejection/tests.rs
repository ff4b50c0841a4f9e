use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn start() -> impl Fn(u64) -> Instant {
    #[expect(clippy::disallowed_methods, reason = "any instant will do as the start")]
    let start = Instant::now();
    move |ms| start + Duration::from_millis(ms)
}

/// Base 5 s, at most 60 s, three in a row or half of ten.
fn settings() -> Settings {
    Settings { consecutive_failures: 3, min_requests: 10, ..Settings::default() }
}

/// In the middle of the spread: waits are exact.
const MIDDLE: f64 = 0.5;

#[test]
fn failures_in_a_row_ask_for_ejection_until_one_is_good() {
    let (at, s) = (start(), settings());
    let mut e = Ejection::new();
    let outcomes = [true, true, false, true, true, true, true, false];
    let asked = outcomes.map(|failure| e.record(&s, failure, at(0)) == Verdict::Eject);
    assert_eq!(asked, [false, false, false, false, false, true, true, false]);
}

#[test]
fn a_ratio_is_judged_on_enough_outcomes_only() {
    let (at, s) = (start(), settings());
    let mut e = Ejection::new();
    for i in 0..9 {
        assert_eq!(e.record(&s, i % 2 == 0, at(i)), Verdict::Keep, "{i}");
    }
    assert_eq!(e.record(&s, true, at(9)), Verdict::Eject);
    let mut e = Ejection::new();
    for i in 0..9 {
        assert_eq!(e.record(&s, i % 2 == 0, at(i)), Verdict::Keep, "{i}");
    }
    assert_eq!(e.record(&s, true, at(10_100)), Verdict::Keep, "the first nine are too old");
}

#[test]
fn an_endpoint_that_never_failed_is_never_asked_out() {
    let at = start();
    let s = Settings { failure_ratio: Ratio::percent(0), min_requests: 0, ..settings() };
    let mut e = Ejection::new();
    for i in 0..100 {
        assert_eq!(e.record(&s, false, at(i)), Verdict::Keep);
    }
}

#[test]
fn each_ejection_is_twice_as_long_up_to_the_longest() {
    let (at, s) = (start(), settings());
    let mut e = Ejection::new();
    let mut now = 0;
    for (step, seconds) in [5, 10, 20, 40, 60, 60, 60].into_iter().enumerate() {
        let until = e.eject(&s, at(now), MIDDLE);
        assert_eq!(until, at(now + seconds * 1000), "step {step}");
        assert_eq!(e.ejected_until(), Some(until));
        assert_eq!(e.ejected_since(), Some(at(now)));
        assert!(e.is_ejected(at(now)) && e.is_ejected(at(now + seconds * 1000 - 1)));
        now += seconds * 1000;
        assert!(!e.is_ejected(at(now)));
        // A very long time proves nothing.
        now += 3_600_000;
    }
}

#[test]
fn the_wait_is_spread_by_a_tenth() {
    let (at, s) = (start(), settings());
    assert_eq!(Ejection::new().eject(&s, at(0), 0.0), at(4500));
    let longest = Ejection::new().eject(&s, at(0), 0.999_999);
    assert!(longest > at(5499) && longest < at(5500));
}

#[test]
fn ejecting_the_ejected_changes_nothing() {
    let (at, s) = (start(), settings());
    let mut e = Ejection::new();
    let until = e.eject(&s, at(0), MIDDLE);
    let before = e.clone();
    assert_eq!(e.eject(&s, at(4999), 0.9), until);
    assert_eq!(e.record(&s, false, at(4999)), Verdict::Keep);
    assert_eq!(e, before);
}

#[test]
fn proof_of_health_takes_steps_off_one_by_one() {
    let (at, s) = (start(), settings());
    let mut e = Ejection::new();
    for now in [0, 100_000, 200_000] {
        e.eject(&s, at(now), MIDDLE);
    }
    assert_eq!(e.steps(), 3);
    for _ in 0..100 {
        e.record(&s, false, at(219_999));
    }
    assert_eq!(e.steps(), 3, "not while it is ejected");
    for _ in 0..PROOF - 1 {
        e.record(&s, false, at(220_000));
    }
    e.record(&s, true, at(220_000));
    for _ in 0..PROOF - 1 {
        e.record(&s, false, at(220_000));
    }
    assert_eq!(e.steps(), 3, "not in a row");
    e.record(&s, false, at(220_000));
    assert_eq!(e.steps(), 2);
    for _ in 0..2 * PROOF {
        e.record(&s, false, at(220_000));
    }
    assert_eq!(e.steps(), 0);
    assert_eq!(e.eject(&s, at(221_000), MIDDLE), at(226_000), "the first length again");
}

#[test]
fn it_comes_back_with_a_clean_window() {
    let at = start();
    let s = Settings { window: Period::from_secs(3600), ..settings() };
    let mut e = Ejection::new();
    for _ in 0..12 {
        e.record(&s, true, at(0));
    }
    e.eject(&s, at(0), MIDDLE);
    for _ in 0..50 {
        e.record(&s, true, at(4000)); // were in flight
    }
    assert_eq!(e.record(&s, true, at(5000)), Verdict::Keep);
    assert_eq!(e.record(&s, true, at(5000)), Verdict::Keep);
    assert_eq!(e.record(&s, true, at(5000)), Verdict::Eject);
}

#[test]
fn attempts_from_before_the_return_do_not_count() {
    let (at, s) = (start(), settings());
    let mut e = Ejection::new();
    assert!(e.counts(at(0)));
    e.eject(&s, at(0), MIDDLE);
    assert!(!e.counts(at(0)) && !e.counts(at(4999)));
    assert!(e.counts(at(5000)));
    e.record(&s, false, at(6000));
    assert!(!e.counts(at(4999)), "still true after it has come back");
}

#[test]
fn release_ends_the_ejection_and_keeps_its_growth() {
    let (at, s) = (start(), settings());
    let mut e = Ejection::new();
    e.release(at(0));
    assert_eq!(e, Ejection::new());
    e.eject(&s, at(0), MIDDLE);
    e.release(at(1000));
    assert!(!e.is_ejected(at(1000)));
    assert_eq!(e.ejected_until(), Some(at(1000)));
    e.release(at(2000));
    assert_eq!(e.ejected_until(), Some(at(1000)), "a second release is not news");
    assert_eq!(e.eject(&s, at(3000), MIDDLE), at(13_000));
}

#[test]
fn the_group_keeps_its_floors() {
    let may = |percent, ejected, total| {
        let s = Settings { max_ejected: Ratio::percent(percent), ..Settings::default() };
        may_eject(&s, ejected, total)
    };
    for (percent, total, most) in [
        (50, 0, 0),
        (50, 1, 0),
        (100, 1, 0),
        (0, 2, 1),
        (10, 2, 1),
        (50, 2, 1),
        (100, 2, 1),
        (10, 3, 1),
        (50, 3, 1),
        (67, 3, 2),
        (50, 5, 2),
        (100, 5, 4),
        (29, 100, 29),
        (7, 100, 7),
        (57, 100, 57),
    ] {
        for ejected in 0..=total {
            let text = format!("{percent}% {ejected}/{total}");
            assert_eq!(may(percent, ejected, total), ejected < most, "{text}");
        }
    }
}

#[test]
fn it_is_small() {
    assert!(size_of::<Ejection>() <= 224, "{}", size_of::<Ejection>());
}

proptest! {
    /// Whatever happens, a group that asks before it ejects keeps one endpoint in, and one that has
    /// two or more and none ejected may lose one.
    #[test]
    fn a_group_never_loses_its_last(percent in 0u32..=100, total in 0usize..50) {
        let s = Settings { max_ejected: Ratio::percent(percent), ..Settings::default() };
        let mut ejected = 0;
        while may_eject(&s, ejected, total) {
            ejected += 1;
        }
        prop_assert!(ejected < total.max(1));
        prop_assert_eq!(ejected >= 1, total >= 2);
        prop_assert!(ejected <= 1 || ejected * 100 <= percent as usize * total);
    }

    /// An ejection's length is within a tenth of a doubling of the base; steps rise only by an
    /// ejection and fall only by `PROOF` good outcomes in a row.
    #[test]
    fn growth_falls_by_proof_alone(
        events in prop::collection::vec((0u64..20_000, 0u8..10, 0.0..1.0f64), 1..300),
    ) {
        let (at, s) = (start(), settings());
        let mut e = Ejection::new();
        let (mut now, mut row) = (0, 0);
        for (step, kind, random) in events {
            now += step;
            let (out, before) = (e.is_ejected(at(now)), e.steps());
            match kind {
                0 => e.release(at(now)),
                1..=3 => {
                    let verdict = e.record(&s, true, at(now));
                    row = 0;
                    prop_assert!(!out || verdict == Verdict::Keep);
                    if verdict == Verdict::Eject {
                        let len = e.eject(&s, at(now), random) - at(now);
                        let plain = (5000u64 << (e.steps() - 1).min(20)).min(60_000) as f64;
                        let ratio = len.as_secs_f64() * 1000.0 / plain;
                        prop_assert!((0.899..=1.1).contains(&ratio), "{ratio}");
                        prop_assert_eq!(e.steps(), before + 1);
                        continue;
                    }
                }
                _ => {
                    e.record(&s, false, at(now));
                    row = if out { 0 } else { row + 1 };
                }
            }
            prop_assert!(e.steps() <= before);
            if e.steps() < before {
                prop_assert!(row >= PROOF && before - e.steps() == 1);
            }
        }
    }
}
