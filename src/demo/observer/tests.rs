//! Tests of what is noticed. The circuits are real; what is put in is what their views say.

use std::time::{Duration, Instant};

use super::{EVENTS, Observer, Rate};
use crate::clock;
use crate::policy::circuit_breaker::{Breaker, Settings, Verdict};

const SECOND: Duration = Duration::from_secs(1);

fn fail(breaker: &mut Breaker, settings: &Settings, now: Instant) {
    let permit = breaker.admit(settings, now, 0.0).expect("a closed circuit admits");
    breaker.record(settings, permit, Verdict { failure: true, slow: false }, now, 0.0);
}

fn texts(observer: &Observer) -> Vec<&str> {
    observer.events().map(|event| event.what.as_str()).collect()
}

#[test]
fn a_circuit_is_told_of_when_it_changes_and_each_opening_is_counted() {
    let began = clock::now();
    let settings = Settings { min_requests: 1, ..Settings::default() };
    let mut breaker = Breaker::new();
    let mut observer = Observer::new(began, &[]);
    let mut openings = 0;
    let mut look = |breaker: &Breaker, now| {
        openings += observer.circuit("orders", &breaker.view(&settings, now), now - began);
        openings
    };
    assert_eq!(look(&breaker, began), 0);
    fail(&mut breaker, &settings, began);
    assert_eq!(look(&breaker, began), 1);
    assert_eq!(look(&breaker, began + SECOND), 1);
    // The wait is over; the trial fails and the circuit opens once more.
    let later = began + 6 * SECOND;
    fail(&mut breaker, &settings, later);
    assert_eq!(look(&breaker, later), 2);
    breaker.close();
    assert_eq!(look(&breaker, later), 2);
    breaker.isolate();
    assert_eq!(look(&breaker, later), 2);
    let told = [
        "circuit of orders opened: 100% of the attempts failed",
        "circuit of orders open again: a trial failed",
        "circuit of orders closed",
        "circuit of orders isolated by hand",
    ];
    assert_eq!(texts(&observer), told);
}

#[test]
fn only_the_latest_events_are_kept() {
    let mut observer = Observer::new(clock::now(), &[]);
    for number in 0..EVENTS + 2 {
        observer.note(Duration::ZERO, number.to_string());
    }
    assert_eq!(texts(&observer).len(), EVENTS);
    assert_eq!(texts(&observer).first(), Some(&"2"));
}

#[test]
fn a_rate_is_taken_over_the_last_two_seconds() {
    let mut rate = Rate::default();
    assert!(rate.at(Duration::ZERO, 0).abs() < f64::EPSILON);
    let mut last = 0.0;
    for step in 1..=40_u64 {
        last = rate.at(Duration::from_millis(step * 100), step * 10);
    }
    assert!((last - 100.0).abs() < 1e-6, "{last}");
    for step in 41..=60_u64 {
        last = rate.at(Duration::from_millis(step * 100), 400);
    }
    assert!(last.abs() < 1e-6, "{last}");
    assert!(rate.seen.len() <= 22, "{}", rate.seen.len());
}
