use proptest::prelude::*;

use super::*;

#[expect(clippy::disallowed_methods, reason = "an origin for made-up times; nothing is measured")]
fn origin() -> Instant {
    Instant::now()
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn settings(total: Option<u64>, per_try: Option<u64>) -> Settings {
    Settings {
        total: total.map(Period::from_millis),
        per_try: per_try.map(Period::from_millis),
        ..Settings::default()
    }
}

#[test]
fn the_deadline_is_the_earlier_of_total_and_caller_less_the_offset() {
    let t0 = origin();
    for (total, caller, wanted) in [
        (Some(1000), None, Some(1000)),
        (Some(1000), Some(ms(500)), Some(495)),
        (Some(1000), Some(ms(1005)), Some(1000)),
        (Some(1000), Some(ms(1004)), Some(999)),
        (Some(1000), Some(ms(3)), Some(0)),
        (Some(1000), Some(Duration::MAX), Some(1000)),
        (None, Some(ms(500)), Some(495)),
        (None, Some(Duration::MAX), None),
        (None, None, None),
    ] {
        let end = deadline(&settings(total, None), t0, caller);
        assert_eq!(end, wanted.map(|end| t0 + ms(end)), "{total:?} {caller:?}");
    }
}

#[test]
fn an_attempt_gets_its_own_time_or_an_equal_part_of_the_total() {
    assert_eq!(per_try(&settings(Some(15_000), None), 3), Some(ms(5000)));
    assert_eq!(per_try(&settings(Some(15_000), Some(700)), 3), Some(ms(700)));
    assert_eq!(per_try(&settings(None, Some(700)), 3), Some(ms(700)));
    assert_eq!(per_try(&settings(None, None), 3), None);
    assert_eq!(per_try(&settings(Some(900), None), 0), Some(ms(900)));
}

#[test]
fn no_part_outlasts_the_whole() {
    let t0 = origin();
    let s = settings(Some(3000), None);
    let end = Some(t0 + ms(3000));
    assert_eq!(try_deadline(&s, 3, t0, end), Some(t0 + ms(1000)));
    assert_eq!(try_deadline(&s, 3, t0 + ms(2500), end), end);
    assert_eq!(try_deadline(&settings(None, None), 3, t0, None), None);
    assert_eq!(try_deadline(&settings(None, None), 3, t0, end), end);
    assert_eq!(connect_deadline(&s, t0, None), t0 + ms(1000));
    assert_eq!(connect_deadline(&s, t0, Some(t0 + ms(200))), t0 + ms(200));
    assert_eq!(connect_deadline(&s, t0, end), t0 + ms(1000));
}

#[test]
fn the_upstream_is_told_what_is_left_and_nothing_when_it_is_over() {
    let t0 = origin();
    let (short, long) = (Some(t0 + ms(100)), Some(t0 + ms(900)));
    assert_eq!(remaining(t0, short, long), Some(ms(100)));
    assert_eq!(remaining(t0, long, short), Some(ms(100)));
    assert_eq!(remaining(t0, None, long), Some(ms(900)));
    assert_eq!(remaining(t0 + ms(30), short, None), Some(ms(70)));
    assert_eq!(remaining(t0 + ms(100), short, long), Some(Duration::ZERO));
    assert_eq!(remaining(t0 + ms(999), short, long), Some(Duration::ZERO));
    assert_eq!(remaining(t0, None, None), None);
}

#[test]
fn the_caller_s_own_time_is_told_apart_from_the_total() {
    let (t0, s) = (origin(), settings(Some(100), None));
    assert_eq!(inherited(&s, t0, None), None);
    assert_eq!(inherited(&s, t0, Some(ms(900))), Some(t0 + ms(900) - *s.deadline_offset));
    assert_eq!(inherited(&s, t0, Some(Duration::ZERO)), Some(t0));
    assert_eq!(inherited(&s, t0, Some(Duration::MAX)), None);
}

proptest! {
    #[test]
    fn ends_are_nested(
        total in prop::option::of(0_u64..100_000), own in prop::option::of(0_u64..100_000),
        caller in prop::option::of(0_u64..100_000), attempts in 0_u32..12, late in 0_u64..200_000,
    ) {
        let (t0, s) = (origin(), settings(total, own));
        let now = t0 + ms(late);
        let whole = deadline(&s, t0, caller.map(ms));
        let attempt = try_deadline(&s, attempts, now, whole);
        let connect = connect_deadline(&s, now, attempt);
        prop_assert!(whole.is_none_or(|whole| attempt.unwrap() <= whole));
        prop_assert!(attempt.is_none_or(|attempt| connect <= attempt));
        let left = remaining(now, attempt, whole);
        let within = |left| whole.is_none_or(|whole| now + left <= whole.max(now));
        prop_assert!(left.is_none_or(within));
        prop_assert_eq!(left.is_none(), whole.is_none() && attempt.is_none());
    }
}
