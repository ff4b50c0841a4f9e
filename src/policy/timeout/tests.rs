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
fn grpc_timeouts_are_read_by_the_letter() {
    for (text, wanted) in [
        ("1H", Duration::from_secs(3600)),
        ("2M", Duration::from_secs(120)),
        ("3S", Duration::from_secs(3)),
        ("250m", ms(250)),
        ("7u", Duration::from_micros(7)),
        ("0n", Duration::ZERO),
        ("00000009n", Duration::from_nanos(9)),
        ("99999999n", Duration::from_nanos(99_999_999)),
        ("99999999M", Duration::from_secs(99_999_999 * 60)),
        ("99999999H", Duration::from_secs(99_999_999 * 3600)),
    ] {
        assert_eq!(parse_grpc_timeout(text), Some(wanted), "{text}");
    }
    for bad in [
        "",
        "S",
        "1",
        "1s",
        "1h",
        "-1S",
        "+1S",
        " 1S",
        "1S ",
        "1 S",
        "1.5S",
        "123456789n",
        "1SS",
        "1ms",
        "0x1S",
        "\u{0661}S",
        "1\u{00b5}",
    ] {
        assert_eq!(parse_grpc_timeout(bad), None, "{bad:?}");
    }
}

#[test]
fn milliseconds_are_digits_and_nothing_else() {
    assert_eq!(parse_timeout_ms("1500"), Some(ms(1500)));
    assert_eq!(parse_timeout_ms("0"), Some(Duration::ZERO));
    assert_eq!(parse_timeout_ms("999999999999"), Some(ms(999_999_999_999)));
    for bad in ["", "-1", "+1", "1.5", "1 ", " 1", "1ms", "1e3", "1000000000000", "\u{0661}"] {
        assert_eq!(parse_timeout_ms(bad), None, "{bad:?}");
    }
}

#[test]
fn grpc_timeouts_are_written_in_the_finest_unit_that_fits() {
    for (left, wanted) in [
        (Duration::ZERO, "0n"),
        (Duration::from_nanos(99_999_999), "99999999n"),
        (Duration::from_nanos(100_000_999), "100000u"),
        (Duration::from_secs(15), "15000000u"),
        (Duration::from_secs(100), "100000m"),
        (Duration::from_secs(100_000), "100000S"),
        (Duration::from_secs(100_000_059), "1666667M"),
        (Duration::from_secs(6_000_000_000), "1666666H"),
        (Duration::MAX, "99999999H"),
    ] {
        assert_eq!(format_grpc_timeout(left), wanted, "{left:?}");
    }
    assert_eq!(format_timeout_ms(Duration::from_micros(1999)), "1");
    assert_eq!(format_timeout_ms(Duration::from_micros(999)), "0");
    assert_eq!(format_timeout_ms(Duration::MAX), "999999999999");
}

proptest! {
    /// What is written can be read, is never more than what is left, and is less by no more than
    /// one part in a hundred thousand.
    #[test]
    fn a_written_timeout_is_read_back_no_longer(
        seconds in 0_u64..99_999_999 * 3600, nanos in 0_u32..1_000_000_000, shift in 0_u32..38,
    ) {
        let left = Duration::new(seconds >> shift, nanos);
        let text = format_grpc_timeout(left);
        let read = parse_grpc_timeout(&text).unwrap();
        prop_assert!(text.len() <= GRPC_DIGITS + 1);
        prop_assert!(read <= left);
        prop_assert!((left - read).as_nanos() <= left.as_nanos() / 100_000, "{text}");
        let text = format_timeout_ms(left);
        let read = parse_timeout_ms(&text).unwrap();
        prop_assert!(read <= left);
        if left < ms(999_999_999_999) {
            prop_assert!(left - read < ms(1));
        }
    }

    /// No text makes a parser panic, and a value that is read is of the form.
    #[test]
    fn any_text_is_read_or_ignored(text in "\\PC{0,12}", digits in "[0-9]{0,14}[HMSmun]{0,2}") {
        for text in [text, digits] {
            if parse_grpc_timeout(&text).is_some() {
                prop_assert!(text.is_ascii() && (2..=9).contains(&text.len()));
            }
            if parse_timeout_ms(&text).is_some() {
                prop_assert!(text.bytes().all(|b| b.is_ascii_digit()));
            }
        }
    }

    /// No part ends after what it is a part of.
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
