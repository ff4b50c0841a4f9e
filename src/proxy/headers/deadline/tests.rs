use proptest::prelude::*;

use super::super::tests::{any_value, lines, map};
use super::*;

/// The fields as the next hop reads them.
fn write(headers: &mut HeaderMap, remaining: Duration, is_grpc: bool) {
    let mut own = OwnFields::default();
    write_deadline(&mut own, headers, remaining, is_grpc);
    own.apply(headers);
}

#[test]
fn milliseconds() {
    let ms = Duration::from_millis;
    for (text, wanted) in [
        ("1", Some(ms(1))),
        (" 250 ", Some(ms(250))),
        ("0", None),
        ("", None),
        ("-1", None),
        ("+1", None),
        ("1.5", None),
        ("1s", None),
        ("99999999999999999999999999", Some(DEADLINE_MAX)),
        ("18446744073709551615", Some(DEADLINE_MAX)),
    ] {
        assert_eq!(parse_timeout_ms(text), wanted, "{text}");
    }
}

#[test]
fn numbers_are_written_whole() {
    for number in [0, 1, 9, 10, 99, 100, 14_999, 1_000_000, u64::MAX] {
        assert_eq!(decimal(number).to_str().unwrap(), number.to_string());
    }
}

#[test]
fn grpc_timeouts_have_one_to_eight_digits_and_a_unit() {
    for (text, wanted) in [
        ("1H", Some(Duration::from_secs(3600))),
        ("2M", Some(Duration::from_secs(120))),
        ("3S", Some(Duration::from_secs(3))),
        ("250m", Some(Duration::from_millis(250))),
        ("10u", Some(Duration::from_micros(10))),
        ("99999999n", Some(Duration::from_nanos(99_999_999))),
        ("0m", Some(Duration::ZERO)),
        ("99999999H", Some(DEADLINE_MAX)),
        ("100000000n", None),
        ("S", None),
        ("", None),
        ("1", None),
        ("1s", None),
        ("1 S", None),
        ("-1S", None),
        ("+1S", None),
        ("1\u{b5}", None),
    ] {
        assert_eq!(parse_grpc_timeout(text), wanted, "{text}");
    }
}

#[test]
fn grpc_timeouts_are_written_in_the_finest_unit_that_holds_them() {
    for (timeout, wanted) in [
        (Duration::ZERO, "1n"),
        (Duration::from_nanos(99_999_999), "99999999n"),
        (Duration::from_millis(250), "250000u"),
        (Duration::from_secs(15), "15000000u"),
        (Duration::from_secs(100), "100000m"),
        (Duration::from_secs(100_000), "100000S"),
        (Duration::from_secs(100_000_000), "1666666M"),
        (Duration::MAX, "99999999H"),
    ] {
        assert_eq!(format_grpc_timeout(timeout), wanted);
    }
}

#[test]
fn the_least_of_all_fields_is_the_deadline() {
    assert_eq!(read_deadline(&HeaderMap::new()), None);
    let headers = map(&[
        ("x-request-timeout-ms", "300"),
        ("x-envoy-expected-rq-timeout-ms", "200"),
        ("x-envoy-expected-rq-timeout-ms", "150"),
        ("grpc-timeout", "1S"),
    ]);
    assert_eq!(read_deadline(&headers), Some(Duration::from_millis(150)));
    let partly = map(&[("x-request-timeout-ms", "soon"), ("grpc-timeout", "2S")]);
    assert_eq!(read_deadline(&partly), Some(Duration::from_secs(2)));
}

#[test]
fn what_is_left_is_written_rounded_down_and_never_nothing() {
    let mut headers = HeaderMap::new();
    write(&mut headers, Duration::from_micros(1999), false);
    assert_eq!(lines(&headers), [("x-request-timeout-ms", "1")]);
    write(&mut headers, Duration::ZERO, false);
    assert_eq!(lines(&headers), [("x-request-timeout-ms", "1")]);
}

#[test]
fn every_attempt_replaces_what_the_one_before_said() {
    let mut headers = map(&[
        ("x-envoy-expected-rq-timeout-ms", "9000"),
        ("grpc-timeout", "9S"),
        ("x-request-timeout-ms", "9000"),
    ]);
    write(&mut headers, Duration::from_millis(700), true);
    let wanted = [
        ("grpc-timeout", "700000u"),
        ("x-envoy-expected-rq-timeout-ms", "700"),
        ("x-request-timeout-ms", "700"),
    ];
    assert_eq!(lines(&headers), wanted);
}

proptest! {
    #[test]
    fn a_written_grpc_timeout_is_read_as_no_more_and_nearly_the_same(nanos in 1..u64::MAX / 2) {
        let timeout = Duration::from_nanos(nanos);
        let text = format_grpc_timeout(timeout);
        let read = parse_grpc_timeout(&text).unwrap();
        prop_assert!(read <= timeout);
        // A unit is left when eight digits cannot hold it, and the next is at most 1000 times as
        // large, so at least five digits of it are written.
        if timeout <= DEADLINE_MAX {
            prop_assert!(timeout - read <= timeout / 100_000 + Duration::from_nanos(1));
        }
    }

    #[test]
    fn a_hop_never_lengthens_a_deadline(ms in 1..100_000_000_u64, grpc in any::<bool>()) {
        let mut headers = HeaderMap::new();
        write(&mut headers, Duration::from_millis(ms), grpc);
        prop_assert!(read_deadline(&headers).unwrap() <= Duration::from_millis(ms));
    }

    #[test]
    fn any_bytes_are_read_within_bounds(value in any_value(), text in "\\PC{0,12}") {
        for name in [&REQUEST_TIMEOUT_MS, &GRPC_TIMEOUT] {
            let headers = HeaderMap::from_iter([(name.clone(), value.clone())]);
            prop_assert!(read_deadline(&headers).is_none_or(|d| d <= DEADLINE_MAX));
        }
        prop_assert!(parse_grpc_timeout(&text).is_none_or(|d| d <= DEADLINE_MAX));
    }
}
