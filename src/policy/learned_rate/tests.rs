mod line;
mod model;
mod random;
mod scenarios;

use super::curve::{BETA, cubic, way};
use super::measured::Measured;
use super::*;
use model::origin;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Sends as the machine allows for a time, evenly and more than enough, and tells it what came of
/// each at once.
fn drive(
    machine: &mut LearnedRate,
    b: &Bounds,
    from: Instant,
    time: Duration,
    mut end: impl FnMut(Instant) -> End,
) -> u32 {
    let mut passed = 0;
    for at in (0..time.as_millis() as u64).map(|at| from + ms(at)) {
        if machine.ask(b, Duration::ZERO, at) == Answer::Pass {
            passed += 1;
            let end = end(at);
            machine.ended(b, &end, at);
        }
    }
    passed
}

fn good(began: Instant) -> End {
    End { began, throttled: false, retry_after: None, advice: None }
}

fn throttle(began: Instant) -> End {
    End { throttled: true, ..good(began) }
}

/// The numbers of the AWS SDKs' adaptive mode for a ceiling of 10 a second.
#[test]
fn the_curve_is_cubic() {
    assert!((way(10.0) - 1.957).abs() < 5e-4);
    for (time, rate) in [(0.0, 7.0), (1.0, 9.649), (1.957, 10.0), (3.0, 10.453), (5.0, 21.266)] {
        let found = cubic(10.0, way(10.0), time);
        assert!((found - rate).abs() < 2e-3, "{time}: {found}");
    }
    assert!((cubic(50.0, way(50.0), 0.0) - 50.0 * BETA).abs() < 1e-9);
}

#[test]
fn rates_are_measured_by_half_seconds() {
    let t0 = origin();
    let mut measured = Measured::new(t0);
    for i in 1..=50 {
        measured.count(t0 + ms(10 * i));
    }
    // The fiftieth ends the first half second; the next ones count into the second.
    assert!((measured.rate(t0 + ms(500)) - 0.8 * 100.0).abs() < 1e-9);
    for i in 1..=50 {
        measured.count(t0 + ms(500 + 10 * i));
    }
    assert!((measured.rate(t0 + ms(1000)) - (0.8 * 100.0 + 0.2 * 80.0)).abs() < 1e-9);
    // One event a second is one a second, though half of the buckets are empty.
    let mut slow = Measured::new(t0);
    for i in 1..=20 {
        slow.count(t0 + ms(1000 * i));
    }
    assert!((slow.rate(t0 + ms(20_000)) - 1.0).abs() < 1e-6);
}

#[test]
fn nothing_is_limited_before_the_first_throttle() {
    let t0 = origin();
    let b = Bounds::default();
    let mut machine = LearnedRate::new(t0);
    assert_eq!(drive(&mut machine, &b, t0, ms(5000), good), 5000);
    assert_eq!(machine.view(&b, t0 + ms(5000)).rate, None);
}

#[test]
fn a_throttle_cuts_to_seven_tenths_of_what_was_sent() {
    let t0 = origin();
    let b = Bounds::default();
    let mut machine = LearnedRate::new(t0);
    drive(&mut machine, &b, t0, ms(5000), good);
    let t1 = t0 + ms(5000);
    machine.ended(&b, &throttle(t1 - ms(1)), t1);
    let view = machine.view(&b, t1);
    assert!((view.ceiling.unwrap() - 1000.0).abs() < 1.0, "{view:?}");
    assert!((view.rate.unwrap() - 700.0).abs() < 1.0, "{view:?}");
    // What was sent before the cut is no news when it comes back later.
    machine.ended(&b, &throttle(t1 - ms(1)), t1 + ms(1500));
    assert!(machine.view(&b, t1 + ms(1500)).rate.unwrap() > 700.0);
}

#[test]
fn a_configured_rate_is_an_upper_bound_from_the_start() {
    let t0 = origin();
    let b = Bounds { rate: Some(20.0), burst: Some(1), observed: false };
    let mut machine = LearnedRate::new(t0);
    let passed = drive(&mut machine, &b, t0, ms(10_000), good);
    assert!((200..=201).contains(&passed), "{passed}");
}

#[test]
fn a_pause_stops_everything_and_is_bounded() {
    let t0 = origin();
    let b = Bounds::default();
    for (asked, paused) in [(2, 2), (86_400, 300)] {
        let mut machine = LearnedRate::new(t0);
        drive(&mut machine, &b, t0, ms(1000), good);
        let t1 = t0 + ms(1000);
        let end = End { retry_after: Some(Duration::from_secs(asked)), ..throttle(t1) };
        machine.ended(&b, &end, t1);
        let paused = Duration::from_secs(paused);
        assert_eq!(machine.view(&b, t1).paused, Some(paused));
        assert_eq!(drive(&mut machine, &b, t1 + ms(1), paused - ms(2), good), 0);
        assert!(!machine.again(&b, t1 + paused - ms(1)), "further attempts stop too");
        assert_eq!(machine.ask(&b, ms(0), t1 + paused + ms(2000)), Answer::Pass);
    }
}

#[test]
fn an_advertised_quota_is_kept_before_anybody_throttles() {
    let t0 = origin();
    let b = Bounds::default();
    let advice = |quota, left| move |at| End { advice: Some(Advice { quota, left }), ..good(at) };
    let second = Some((50, Duration::from_secs(1)));
    for (quota, left, rate) in [
        (second, None, 48.5),
        (second, Some((40, Duration::from_secs(1))), 48.5),
        (Some((3000, Duration::from_secs(60))), Some((600, Duration::from_secs(20))), 30.0),
        (None, Some((600, Duration::from_secs(20))), 30.0),
        (None, Some((0, Duration::from_secs(20))), MIN_RATE),
    ] {
        let mut machine = LearnedRate::new(t0);
        drive(&mut machine, &b, t0, ms(100), advice(quota, left));
        let view = machine.view(&b, t0 + ms(100));
        assert_eq!(view.rate, Some(rate));
        assert_eq!(view.ceiling, None);
        assert_eq!(machine.view(&b, t0 + Duration::from_secs(70)).rate, None, "advice gets old");
    }
    for nothing in [(None, None), (Some((5, Duration::ZERO)), Some((5, Duration::ZERO)))] {
        let mut machine = LearnedRate::new(t0);
        drive(&mut machine, &b, t0, ms(100), advice(nothing.0, nothing.1));
        assert_eq!(machine.view(&b, t0 + ms(100)).rate, None);
    }
}

#[test]
fn a_rate_that_nobody_uses_is_not_learned() {
    let t0 = origin();
    let b = Bounds::default();
    let mut machine = LearnedRate::new(t0);
    drive(&mut machine, &b, t0, ms(5000), good);
    machine.ended(&b, &throttle(t0 + ms(5000)), t0 + ms(5000));
    let ceiling = machine.view(&b, t0 + ms(5000)).ceiling.unwrap();
    // Two requests a second for ten minutes say nothing about more than a thousand.
    for i in 0..1200 {
        let at = t0 + ms(6000 + 500 * i);
        assert_eq!(machine.ask(&b, ms(0), at), Answer::Pass);
        machine.ended(&b, &good(at), at);
    }
    let view = machine.view(&b, t0 + ms(606_000));
    assert!((view.rate.unwrap() - ceiling).abs() < 1e-6, "{view:?}");
}

#[test]
fn observing_shows_what_is_accepted() {
    let t0 = origin();
    let b = Bounds { observed: true, ..Bounds::default() };
    let mut machine = LearnedRate::new(t0);
    // Everything is sent, 100 a second, and half of it is throttled, ten in a row.
    for i in 0..6000 {
        let at = t0 + ms(10 * i);
        if machine.ask(&b, ms(0), at) != Answer::Pass {
            machine.sent_anyway(at);
        }
        let end = if i / 10 % 2 == 0 { good(at) } else { throttle(at) };
        machine.ended(&b, &end, at);
    }
    let view = machine.view(&b, t0 + ms(60_000));
    assert!((38.0..=62.0).contains(&view.ceiling.unwrap()), "{view:?}");
}
