//! Tests of the counts.

use std::time::Duration;

use proptest::prelude::*;

use super::{HISTORY, Histogram, Tally, covered};

const MS: fn(u64) -> Duration = Duration::from_millis;

fn of(micros: &[u64]) -> Histogram {
    let mut histogram = Histogram::default();
    micros.iter().for_each(|micros| histogram.record(Duration::from_micros(*micros)));
    histogram
}

#[test]
fn nothing_has_no_quantile() {
    assert_eq!(Histogram::default().quantile(0.5), None);
    assert_eq!(Tally::default().total().success(), None);
}

#[test]
fn a_quantile_is_the_nearest_rank() {
    let hundred: Vec<u64> = (1..=15).collect();
    let quantile = |share| of(&hundred).quantile(share).unwrap().as_micros();
    // Below sixteen microseconds a place is one microsecond, so these are exact.
    assert_eq!((quantile(0.0), quantile(0.5), quantile(0.99), quantile(1.0)), (1, 8, 15, 15));
}

#[test]
fn a_latency_of_hours_is_counted_in_the_last_place() {
    let histogram = of(&[u64::MAX]);
    assert!(histogram.quantile(1.0).unwrap() > Duration::from_secs(120));
}

#[test]
fn the_window_forgets_and_the_total_does_not() {
    let mut tally = Tally::default();
    for second in 0..10 {
        tally.record(Duration::from_secs(second), second >= 5, MS(second + 1));
    }
    let now = MS(9_999);
    let recent = tally.recent(now);
    assert_eq!((recent.requests, recent.good), (5, 5));
    assert!(recent.latency.quantile(0.0).unwrap() > MS(5));
    assert_eq!((tally.total().requests, tally.total().failed()), (10, 5));
    let later = tally.recent(now + Duration::from_secs(5));
    assert_eq!((later.requests, later.success()), (0, None));
}

#[test]
fn the_window_covers_what_has_passed_up_to_five_seconds() {
    let at = |millis| covered(MS(millis)).as_millis();
    assert_eq!((at(0), at(700), at(4_999), at(5_000), at(9_999)), (0, 700, 4_999, 4_750, 4_999));
}

#[test]
fn the_history_is_one_share_for_each_second_that_is_over() {
    let mut tally = Tally::default();
    tally.record(MS(100), true, MS(1));
    tally.record(MS(900), false, MS(1));
    tally.record(MS(2_500), true, MS(1));
    assert_eq!(tally.history(MS(500)), vec![]);
    assert_eq!(tally.history(MS(3_000)), vec![Some(0.5), None, Some(1.0)]);
}

#[test]
fn the_history_holds_the_last_minute_and_a_second_round_replaces_the_first() {
    let mut tally = Tally::default();
    for second in 0..2 * HISTORY as u64 {
        tally.record(Duration::from_secs(second), second >= HISTORY as u64, MS(1));
    }
    let history = tally.history(Duration::from_secs(2 * HISTORY as u64));
    assert_eq!(history, vec![Some(1.0); HISTORY - 1]);
    // Seconds in which nothing ended are gaps, not what was there a round ago.
    assert_eq!(tally.history(Duration::from_secs(1000)), vec![None; HISTORY - 1]);
}

proptest! {
    #[test]
    fn a_quantile_is_off_by_at_most_a_thirty_second(
        mut micros in prop::collection::vec(0_u64..60_000_000, 1..200),
        share in 0.0_f64..1.0,
    ) {
        let measured = of(&micros).quantile(share).unwrap().as_micros() as f64;
        micros.sort_unstable();
        let rank = ((share * micros.len() as f64).ceil() as usize).clamp(1, micros.len());
        let exact = micros[rank - 1] as f64;
        prop_assert!((measured - exact).abs() <= exact / 32.0 + 0.5, "{measured} for {exact}");
    }

    #[test]
    fn nothing_is_lost_between_the_window_and_the_total(
        ends in prop::collection::vec((0_u64..20_000, any::<bool>()), 0..300),
    ) {
        let mut ends = ends;
        ends.sort_unstable();
        let mut tally = Tally::default();
        for (at, good) in &ends {
            tally.record(MS(*at), *good, MS(1));
        }
        let now = MS(ends.last().map_or(0, |(at, _)| *at));
        let recent = tally.recent(now);
        // The window moves on by whole quarters of a second.
        let oldest = (now.as_millis() as u64 / 250 + 1).saturating_sub(20) * 250;
        let expected = ends.iter().filter(|(at, _)| *at >= oldest).count() as u64;
        prop_assert_eq!(recent.requests, expected);
        prop_assert_eq!(tally.total().requests, ends.len() as u64);
    }
}
