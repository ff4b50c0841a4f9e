use proptest::prelude::*;

use super::*;

#[test]
fn it_follows_envoys_line() {
    let minute = Duration::from_secs(60);
    for (t, expected) in [(0, 0.1), (3, 0.1), (6, 0.1), (30, 0.5), (45, 0.75), (60, 1.0)] {
        assert_eq!(factor(minute, Duration::from_secs(t)), expected, "{t}");
    }
    assert_eq!(factor(minute, Duration::MAX), 1.0);
}

#[test]
fn without_a_window_there_is_no_slow_start() {
    assert_eq!(factor(Duration::ZERO, Duration::ZERO), 1.0);
    assert_eq!(factor(Duration::ZERO, Duration::from_secs(1)), 1.0);
}

proptest! {
    #[test]
    fn it_only_grows_and_stays_in_range(
        window in 0u64..100_000, a in 0u64..200_000, b in 0u64..200_000,
    ) {
        let of = |ms| factor(Duration::from_millis(window), Duration::from_millis(ms));
        prop_assert!((LEAST..=1.0).contains(&of(a)));
        prop_assert!(of(a.min(b)) <= of(a.max(b)));
    }
}
