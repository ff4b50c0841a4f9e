use proptest::prelude::*;

use super::super::tests::{any_value, map};
use super::*;

/// 1994-11-06 08:49:37 UTC, the example of RFC 9110, 5.6.7.
const NOW: Duration = Duration::from_secs(784_111_777);

fn hint(lines: &[(&str, &str)]) -> Option<Hint> {
    retry_hint(&map(lines), SystemTime::UNIX_EPOCH + NOW)
}

#[test]
fn rfc9110_10_2_3_retry_after_is_seconds_or_a_date() {
    let wait = |s| Some(Hint::Wait(Duration::from_secs(s)));
    for (text, wanted) in [
        ("0", wait(0)),
        ("120", wait(120)),
        ("Sun, 06 Nov 1994 08:49:47 GMT", wait(10)),
        ("Sunday, 06-Nov-94 08:49:47 GMT", wait(10)),
        ("Sun Nov  6 08:49:47 1994", wait(10)),
        ("Sun, 06 Nov 1994 08:49:30 GMT", wait(0)),
        ("Fri, 31 Dec 9999 23:59:59 GMT", Some(Hint::Wait(WAIT_MAX))),
        ("99999999999999999999999", Some(Hint::Wait(WAIT_MAX))),
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("soon", None),
    ] {
        assert_eq!(hint(&[("retry-after", text)]), wanted, "{text}");
    }
    assert_eq!(hint(&[]), None);
}

#[test]
fn grpc_pushback_goes_first_and_stops_when_negative_or_unreadable() {
    let both = [("retry-after", "9"), ("grpc-retry-pushback-ms", "250")];
    assert_eq!(hint(&both), Some(Hint::Wait(Duration::from_millis(250))));
    assert_eq!(hint(&[("grpc-retry-pushback-ms", "0")]), Some(Hint::Wait(Duration::ZERO)));
    for stop in ["-1", "", "x", "1.5", "2147483648"] {
        assert_eq!(hint(&[("grpc-retry-pushback-ms", stop)]), Some(Hint::Stop), "{stop}");
    }
}

#[test]
fn marks_and_statuses_of_peers() {
    assert!(peer_shed(&map(&[("x-outrigger-shed", "1")])));
    assert!(!peer_shed(&HeaderMap::new()));
    for (text, wanted) in [("0", 0), ("14", 14), ("x", 2), ("", 2), ("-1", 2)] {
        assert_eq!(grpc_status(&map(&[("grpc-status", text)])), Some(wanted), "{text}");
    }
    assert_eq!(grpc_status(&HeaderMap::new()), None);
}

proptest! {
    #[test]
    fn any_bytes_are_read_within_bounds(value in any_value(), text in "[A-Za-z0-9 ,:+-]{0,30}") {
        let now = SystemTime::UNIX_EPOCH + NOW;
        let text = HeaderValue::from_str(&text).unwrap();
        for value in [value, text] {
            for name in [RETRY_AFTER, GRPC_PUSHBACK_MS.clone()] {
                let headers = HeaderMap::from_iter([(name, value.clone())]);
                if let Some(Hint::Wait(wait)) = retry_hint(&headers, now) {
                    prop_assert!(wait <= WAIT_MAX);
                }
            }
        }
    }
}
