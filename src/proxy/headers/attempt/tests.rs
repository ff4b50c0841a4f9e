use proptest::prelude::*;

use super::super::tests::{any_value, lines, map};
use super::*;

/// The fields as the next hop reads them.
fn write(headers: &mut HeaderMap, attempts: u32, grpc: bool) {
    let mut own = OwnFields::default();
    write_attempts(&mut own, attempts, grpc);
    own.apply(headers);
}

#[test]
fn the_larger_of_both_fields_counts_and_nonsense_is_none() {
    for (own, grpc, wanted) in [
        (None, None, 0),
        (Some("1"), None, 1),
        (None, Some("2"), 2),
        (Some("1"), Some("3"), 3),
        (Some("4"), Some("x"), 4),
        (Some("-1"), None, 0),
        (Some("+1"), None, 0),
        (Some(""), None, 0),
        (Some("1.0"), None, 0),
        (Some("99999999999999999999999"), None, ATTEMPTS_MAX),
    ] {
        let mut headers = HeaderMap::new();
        for (name, value) in [(&RETRY_ATTEMPT, own), (&GRPC_PREVIOUS_ATTEMPTS, grpc)] {
            if let Some(value) = value {
                headers.insert(name.clone(), value.parse().unwrap());
            }
        }
        assert_eq!(read_attempts(&headers), wanted, "{own:?} {grpc:?}");
    }
}

#[test]
fn an_attempt_says_the_sum_of_those_before() {
    let mut headers = map(&[("x-retry-attempt", "nonsense")]);
    write(&mut headers, 2, false);
    assert_eq!(lines(&headers), [("x-retry-attempt", "2")]);
    write(&mut headers, 3, true);
    assert_eq!(lines(&headers), [("grpc-previous-rpc-attempts", "3"), ("x-retry-attempt", "3")]);
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(attempts in 1..=ATTEMPTS_MAX, grpc in any::<bool>()) {
        let mut headers = HeaderMap::new();
        write(&mut headers, attempts, grpc);
        prop_assert_eq!(read_attempts(&headers), attempts);
    }

    #[test]
    fn any_bytes_are_read_within_bounds(value in any_value()) {
        let headers = HeaderMap::from_iter([(RETRY_ATTEMPT.clone(), value)]);
        prop_assert!(read_attempts(&headers) <= ATTEMPTS_MAX);
    }
}
