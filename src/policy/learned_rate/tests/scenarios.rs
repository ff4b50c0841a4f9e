//! A third party that allows so many requests a second, and proxies that are asked for more.

use super::model::{Counts, Load, Says, Story, ThirdParty, play};
use super::*;

const SAYS: [Says; 3] = [Says::Nothing, Says::RetryAfter, Says::Fields];

fn fifty(counts: Counts, says: Says, load: Load) -> Story {
    play(load, &mut ThirdParty::new(counts, says, |_| 50.0))
}

/// What is promised: 45 to 50 a second within a minute, and less than 1 % of throttles from then
/// on; 46 where answers come back before a short window is over.
fn fifty_a_second_are_kept(says: Says) {
    let buckets = [5.0, 10.0, 50.0, 200.0].map(Counts::Bucket);
    for counts in buckets.into_iter().chain([Counts::Window(1.0)]) {
        for (seed, latency, offered, random) in [
            (1, 0.03, 100.0, false),
            (2, 0.2, 100.0, true),
            (3, 0.03, 250.0, true),
            (4, 0.1, 75.0, true),
            (5, 0.002, 100.0, true),
        ] {
            let load = Load { seed, latency, offered, random, length: 240.0, ..Load::default() };
            let story = fifty(counts, says, load);
            let what = format!("{counts:?} {says:?} {load:?}");
            let share = story.throttled_share(60, 240);
            assert!(share < 0.005, "{what}: {share} throttled");
            let whole = story.passed(60, 240);
            let least = if latency < 0.2 { 46.0 } else { 44.0 };
            assert!((least..=50.5).contains(&whole), "{what}: {whole} a second");
            for from in (60..240).step_by(30) {
                let part = story.passed(from, from + 30);
                assert!((40.0..=56.0).contains(&part), "{what}: {part} a second from {from}");
            }
        }
    }
}

#[test]
fn fifty_a_second_are_found_and_kept_by_status_alone() {
    fifty_a_second_are_kept(Says::Nothing);
}

#[test]
fn fifty_a_second_are_found_and_kept_by_retry_after() {
    fifty_a_second_are_kept(Says::RetryAfter);
}

#[test]
fn fifty_a_second_are_found_and_kept_by_fields() {
    fifty_a_second_are_kept(Says::Fields);
}

#[test]
fn quotas_by_longer_windows_are_found_too() {
    for (window, says, most) in [
        (10.0, Says::Nothing, 0.01),
        (10.0, Says::RetryAfter, 0.01),
        (10.0, Says::Fields, 0.001),
        (60.0, Says::Nothing, 0.01),
        (60.0, Says::RetryAfter, 0.01),
        (60.0, Says::Fields, 0.001),
    ] {
        let load = Load { length: 420.0, ..Load::default() };
        let story = fifty(Counts::Window(window), says, load);
        let (passed, share) = (story.passed(120, 420), story.throttled_share(120, 420));
        assert!((44.0..=50.5).contains(&passed), "{window} {says:?}: {passed} a second");
        assert!(share < most, "{window} {says:?}: {share} throttled");
    }
}

/// What the limiter is for: without it half is throttled.
#[test]
fn the_scenario_bites() {
    let mut third = ThirdParty::new(Counts::Bucket(50.0), Says::Nothing, |_| 50.0);
    let accepted = (0..30_000).filter(|i| third.asked(f64::from(*i) / 100.0).0).count();
    assert!(accepted < 15_100, "{accepted}");
}

#[test]
fn several_proxies_share_a_limit() {
    for (counts, seed) in [(Counts::Bucket(50.0), 1), (Counts::Window(1.0), 2)] {
        for says in SAYS {
            let load = Load { seed, sidecars: 5, offered: 250.0, random: true, ..Load::default() };
            let story = fifty(counts, says, load);
            let (passed, share) = (story.passed(60, 300), story.throttled_share(60, 300));
            assert!((45.0..=51.0).contains(&passed), "{counts:?} {says:?}: {passed} a second");
            assert!(share < 0.01, "{counts:?} {says:?}: {share} throttled");
        }
    }
}

fn a_limit_that_is_raised_tenfold_is_found(says: Says) {
    for counts in [Counts::Bucket(50.0), Counts::Window(1.0)] {
        for (before, after, offered) in [(50.0, 500.0, 1000.0), (5.0, 50.0, 1000.0)] {
            let allows = |at: f64| if at < 120.0 { before } else { after };
            let mut third = ThirdParty::new(counts, says, allows);
            let load = Load { offered, random: true, length: 480.0, ..Load::default() };
            let story = play(load, &mut third);
            let most = (120..300).map(|s| story.passed(s, s + 1)).fold(0.0, f64::max);
            assert!(most >= 0.8 * after, "{counts:?} {says:?}: {most} of {after} in 3 minutes");
            let later = story.passed(360, 480);
            assert!(later >= 0.75 * after, "{counts:?} {says:?}: {later} of {after}");
        }
    }
}

#[test]
fn a_limit_that_is_raised_tenfold_is_found_by_status_alone() {
    a_limit_that_is_raised_tenfold_is_found(Says::Nothing);
}

#[test]
fn a_limit_that_is_raised_tenfold_is_found_by_retry_after() {
    a_limit_that_is_raised_tenfold_is_found(Says::RetryAfter);
}

#[test]
fn a_limit_that_is_raised_tenfold_is_found_by_fields() {
    a_limit_that_is_raised_tenfold_is_found(Says::Fields);
}

#[test]
fn a_limit_that_collapses_is_found_at_once() {
    for counts in [Counts::Bucket(10.0), Counts::Window(1.0)] {
        for says in SAYS {
            let allows = |at: f64| if at < 120.0 { 500.0 } else { 5.0 };
            let mut third = ThirdParty::new(counts, says, allows);
            let load = Load { offered: 1000.0, random: true, length: 360.0, ..Load::default() };
            let story = play(load, &mut third);
            let sent: u32 = story.throttled[135..150].iter().sum();
            assert!(sent <= 15, "{counts:?} {says:?}: {sent} throttles after 15 seconds");
            let (passed, share) = (story.passed(180, 360), story.throttled_share(180, 360));
            assert!((3.5..=5.1).contains(&passed), "{counts:?} {says:?}: {passed} a second");
            assert!(share < 0.02, "{counts:?} {says:?}: {share} throttled");
        }
    }
}

#[test]
fn an_outage_that_throttles_everything_is_over_when_it_is_over() {
    for says in [Says::Nothing, Says::RetryAfter] {
        let allows = |at: f64| if (60.0..180.0).contains(&at) { 1e-6 } else { 50.0 };
        let mut third = ThirdParty::new(Counts::Bucket(50.0), says, allows);
        let story = play(Load { length: 360.0, ..Load::default() }, &mut third);
        let asked: u32 = story.throttled[70..180].iter().sum();
        assert!(asked <= 70, "{says:?}: {asked} requests to a third party that is closed");
        let again = story.passed(300, 360);
        // A pause of five minutes is what this one asks for.
        let least = if says == Says::RetryAfter { 0.0 } else { 30.0 };
        assert!(again >= least, "{says:?}: {again} a second");
    }
}

#[test]
fn a_bound_of_the_settings_holds_below_the_third_partys() {
    let bounds = Bounds { rate: Some(20.0), burst: Some(1), observed: false };
    let load = Load { bounds, ..Load::default() };
    let story = fifty(Counts::Bucket(50.0), Says::Nothing, load);
    assert_eq!(story.throttled.iter().sum::<u32>(), 0);
    assert!((19.5..=20.1).contains(&story.passed(10, 300)));
}
