use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

const LIMITS: Settings = Settings { resets: 100, pings: 10, settings: 5, continuations: 5 };

#[expect(clippy::disallowed_methods, reason = "any instant will do as the start")]
fn start() -> Instant {
    Instant::now()
}

/// How many of a kind pass at one instant.
fn at_once(frames: &mut Frames, sign: Sign, now: Instant) -> u32 {
    let mut passed = 0;
    while frames.count(&LIMITS, sign, now).is_none() {
        passed += 1;
        assert!(passed < 1_000_000, "{sign:?} is not bounded");
    }
    passed
}

#[test]
fn a_seconds_worth_may_come_at_once_and_no_more() {
    let table = [
        (Sign::Reset, 100, Flood::Resets),
        (Sign::Ping, 10, Flood::Pings),
        (Sign::Settings, 5, Flood::Settings),
        (Sign::EmptyData, EMPTY, Flood::EmptyData),
        (Sign::WindowUpdate, OPENINGS, Flood::WindowUpdates),
        (Sign::Idle, IDLE, Flood::Idle),
    ];
    for (sign, most, flood) in table {
        let (mut frames, now) = (Frames::new(), start());
        assert_eq!(at_once(&mut frames, sign, now), most, "{sign:?}");
        assert_eq!(frames.count(&LIMITS, sign, now), Some(flood));
        // Half a second later there is room for half of it again.
        let later = now + Duration::from_millis(500);
        let again = at_once(&mut frames, sign, later);
        assert!(again.abs_diff(most / 2) <= 1, "{sign:?}: {again} of {most}");
        let much_later = later + Duration::from_secs(3600);
        assert_eq!(at_once(&mut frames, sign, much_later), most, "{sign:?}");
    }
}

#[test]
fn one_kind_does_not_count_against_another() {
    let (mut frames, now) = (Frames::new(), start());
    at_once(&mut frames, Sign::Ping, now);
    assert_eq!(at_once(&mut frames, Sign::Settings, now), 5);
    assert_eq!(at_once(&mut frames, Sign::Reset, now), 100);
}

#[test]
fn a_head_goes_on_for_so_many_frames_and_the_next_as_many_again() {
    let (mut frames, now) = (Frames::new(), start());
    for _ in 0..10 {
        assert_eq!(frames.count(&LIMITS, Sign::Head, now), None);
        for _ in 0..5 {
            assert_eq!(frames.count(&LIMITS, Sign::Continuation, now), None);
        }
    }
    let sixth = frames.count(&LIMITS, Sign::Continuation, now);
    assert_eq!(sixth, Some(Flood::Continuations));
}

#[test]
fn heads_in_many_pieces_are_bounded_together() {
    let (mut frames, now) = (Frames::new(), start());
    let mut pieces = 0;
    loop {
        frames.count(&LIMITS, Sign::Head, now);
        if frames.count(&LIMITS, Sign::Continuation, now).is_some() {
            break;
        }
        pieces += 1;
    }
    assert_eq!(pieces, CONTINUATIONS);
}

#[test]
fn data_of_ours_calls_for_windows_to_be_opened() {
    let (mut frames, now) = (Frames::new(), start());
    // A client that answers each piece with both its windows may do so at any rate.
    for _ in 0..100_000 {
        frames.sent_data();
        assert_eq!(frames.count(&LIMITS, Sign::WindowUpdate, now), None);
        assert_eq!(frames.count(&LIMITS, Sign::WindowUpdate, now), None);
    }
    assert_eq!(at_once(&mut frames, Sign::WindowUpdate, now), OPENINGS);
}

#[test]
fn what_was_called_for_long_ago_is_no_licence_for_a_flood() {
    let (mut frames, now) = (Frames::new(), start());
    for _ in 0..1_000_000 {
        frames.sent_data();
    }
    let passed = at_once(&mut frames, Sign::WindowUpdate, now);
    assert_eq!(passed, CALLED_FOR_MAX + OPENINGS);
}

#[test]
fn a_large_head_may_come_in_more_pieces() {
    for (bytes, pieces) in [(0, 5), (60 * 1024, 5), (128 * 1024, 10), (1024 * 1024, 80)] {
        assert_eq!(continuations(bytes), pieces, "{bytes}");
    }
    assert!(continuations(usize::MAX) >= u32::MAX / 2);
}

#[test]
fn a_rate_of_nothing_is_taken_as_one() {
    let (mut rate, now) = (Rate::default(), start());
    assert!(rate.conforms(0, now));
    assert!(!rate.conforms(0, now));
}

proptest! {
    /// Whoever sends no more than the rate in any second is never taken for a flood.
    #[test]
    fn who_keeps_to_the_rate_is_never_stopped(gaps in prop::collection::vec(0_u64..400, 1..400)) {
        let (mut frames, begin) = (Frames::new(), start());
        let mut sent: Vec<Instant> = Vec::new();
        let mut now = begin;
        for gap in gaps {
            now += Duration::from_millis(gap);
            let second = now.checked_sub(SECOND).filter(|before| *before >= begin);
            let lately = sent.iter().filter(|at| second.is_none_or(|from| **at >= from)).count();
            if lately < 10 {
                prop_assert_eq!(frames.count(&LIMITS, Sign::Ping, now), None);
                sent.push(now);
            }
        }
    }

    /// Over any time no more pass than the rate allows, and a second's worth beyond.
    #[test]
    fn no_more_pass_than_the_rate(gaps in prop::collection::vec(0_u64..60, 1..600)) {
        let (mut frames, begin) = (Frames::new(), start());
        let (mut now, mut passed) = (begin, 0_u32);
        for gap in gaps {
            now += Duration::from_millis(gap);
            passed += u32::from(frames.count(&LIMITS, Sign::Ping, now).is_none());
            let seconds = now.saturating_duration_since(begin).as_secs_f64();
            prop_assert!(f64::from(passed) <= 10.0 * (seconds + 1.0) + 1e-6);
        }
    }
}
