use super::super::hop::ALWAYS;
use super::super::names;
use super::super::tests::map;
use super::*;

fn fields(lines: &[(&str, &str)]) -> Fields {
    Seen::of(&map(lines)).fields
}

#[test]
fn a_field_is_seen_by_its_name_alone() {
    for (name, kind) in [
        ("te", Fields::TE),
        ("host", Fields::HOST),
        ("expect", Fields::EXPECT),
        ("content-length", Fields::LENGTH),
        ("content-type", Fields::TYPE),
        (names::REQUEST_ID.as_str(), Fields::REQUEST_ID),
        (names::GRPC_TIMEOUT.as_str(), Fields::DEADLINE),
        (names::REQUEST_TIMEOUT_MS.as_str(), Fields::DEADLINE),
        (names::ENVOY_EXPECTED_TIMEOUT_MS.as_str(), Fields::DEADLINE),
        (names::RETRY_ATTEMPT.as_str(), Fields::ATTEMPTS),
        (names::GRPC_PREVIOUS_ATTEMPTS.as_str(), Fields::ATTEMPTS),
    ] {
        assert_eq!(fields(&[("accept", "*/*"), (name, "1")]), kind, "{name}");
        // As long, and another.
        let other = format!("{}~", &name[..name.len() - 1]);
        assert_eq!(fields(&[(&other, "1")]), Fields::default(), "{other}");
    }
}

#[test]
fn every_field_that_ends_here_is_seen() {
    for (kind, name) in ALWAYS {
        assert_eq!(fields(&[(name, "1")]), kind, "{name}");
    }
}

#[test]
fn a_connection_that_names_fields_is_told_from_one_that_does_not() {
    for value in ["keep-alive", "Close"] {
        assert_eq!(fields(&[("connection", value)]), Fields::CONNECTION, "{value}");
    }
    for value in ["x-one", "close, x-one", ""] {
        assert!(fields(&[("connection", value)]).any(Fields::NAMED), "{value}");
    }
    assert!(fields(&[("connection", "close"), ("connection", "x-one")]).any(Fields::NAMED));
}

#[test]
fn a_second_cookie_and_white_space_around_a_value_are_told() {
    assert_eq!(fields(&[("cookie", "a=1")]), Fields::COOKIE);
    assert!(fields(&[("cookie", "a=1"), ("cookie", "b=2")]).any(Fields::COOKIES));
    for (value, padded) in [("", false), ("a b", false), (" a", true), ("a\t", true), (" ", true)] {
        assert_eq!(fields(&[("x-any", value)]).any(Fields::PADDED), padded, "{value:?}");
    }
}

#[test]
fn the_first_content_type_is_the_one_that_is_read() {
    assert!(fields(&[("content-type", "application/grpc+proto")]).any(Fields::GRPC));
    assert!(fields(&[("content-type", "text/event-stream; charset=utf-8")]).any(Fields::EVENTS));
    let two = fields(&[("content-type", "text/plain"), ("content-type", "application/grpc")]);
    assert_eq!(two, Fields::TYPE);
}

#[test]
fn the_first_host_is_kept_and_a_second_one_told() {
    let one = map(&[("host", "a")]);
    assert_eq!(Seen::of(&one).host.unwrap(), "a");
    assert_eq!(Seen::of(&one).fields, Fields::HOST);
    let two = map(&[("host", "a"), ("accept", "*/*"), ("host", "b")]);
    assert_eq!(Seen::of(&two).host.unwrap(), "a");
    assert_eq!(Seen::of(&two).bytes, "host: a\r\naccept: */*\r\nhost: b\r\n".len());
    assert_eq!(Seen::of(&two).fields, Fields::HOST.and(Fields::HOSTS));
    assert!(Seen::of(&HeaderMap::new()).host.is_none());
}
