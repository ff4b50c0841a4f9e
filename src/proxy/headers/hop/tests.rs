use proptest::prelude::*;

use super::super::seen::Seen;
use super::super::tests::{any_value, lines, map};
use super::*;

fn strip(headers: &mut HeaderMap) {
    let seen = Seen::of(headers).fields;
    strip_hop_by_hop(headers, seen);
}

fn stripped(input: &[(&str, &str)]) -> HeaderMap {
    let mut headers = map(input);
    strip(&mut headers);
    headers
}

#[test]
fn rfc9110_7_6_1_connection_and_what_it_names_end_here() {
    let headers = stripped(&[
        ("connection", "x-one , X-Two,, close"),
        ("connection", "x-three"),
        ("x-one", "1"),
        ("x-one", "again"),
        ("x-two", "2"),
        ("x-three", "3"),
        ("x-four", "4"),
    ]);
    assert_eq!(lines(&headers), [("x-four", "4")]);
}

#[test]
fn rfc9110_7_6_1_known_hop_by_hop_fields_end_here_unnamed() {
    for name in ALWAYS.map(|(_, name)| name).into_iter().chain(["connection"]) {
        let headers = stripped(&[(name, "x"), ("accept", "*/*")]);
        assert_eq!(lines(&headers), [("accept", "*/*")], "{name}");
    }
}

#[test]
fn a_usual_request_loses_only_its_connection_line() {
    for value in ["keep-alive", "Keep-Alive", "close"] {
        let headers = stripped(&[("connection", value), ("host", "a"), ("user-agent", "u")]);
        assert_eq!(lines(&headers), [("host", "a"), ("user-agent", "u")]);
    }
}

#[test]
fn fields_that_others_decide_by_cannot_be_named_away() {
    let names = [
        "host",
        "content-length",
        "content-type",
        "authorization",
        "cookie",
        "idempotency-key",
        "cache-control",
        "traceparent",
        "x-forwarded-for",
        "x-forwarded-proto",
        "x-real-ip",
        "x-outrigger-shed",
        "x-request-timeout-ms",
        "x-request-id",
        "x-retry-attempt",
        "grpc-timeout",
        "x-envoy-expected-rq-timeout-ms",
    ];
    for name in names {
        let headers = stripped(&[("connection", &name.to_uppercase()), (name, "1")]);
        assert_eq!(lines(&headers), [(name, "1")]);
    }
}

#[test]
fn rfc9110_10_1_4_only_te_trailers_passes() {
    for (value, passes) in [
        ("trailers", true),
        ("Trailers", true),
        ("gzip;q=0.5, trailers", true),
        ("trailers;q=0.1", true),
        ("gzip", false),
        ("trailersx", false),
        ("", false),
    ] {
        let headers = stripped(&[("te", value), ("connection", "TE")]);
        let wanted: &[_] = if passes { &[("te", "trailers")] } else { &[] };
        assert_eq!(lines(&headers), wanted, "{value}");
    }
}

#[test]
fn rfc9112_6_3_a_length_beside_a_coding_goes_even_where_the_coding_is_named_away() {
    for connection in ["keep-alive", "transfer-encoding"] {
        let headers = stripped(&[
            ("connection", connection),
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
        ]);
        assert!(headers.is_empty(), "{connection}");
    }
}

#[test]
fn trailer_passes_because_trailers_do() {
    let headers = stripped(&[("trailer", "grpc-status"), ("connection", "trailer")]);
    assert_eq!(lines(&headers), [("trailer", "grpc-status")]);
}

#[test]
fn names_that_are_no_names_are_passed_over() {
    let headers =
        stripped(&[("connection", "a b, \u{e4}, \"x-one\", , :path, x-two"), ("x-two", "2")]);
    assert!(headers.is_empty());
}

fn any_name() -> impl Strategy<Value = String> {
    let known: Vec<&str> =
        ALWAYS.map(|(_, name)| name).into_iter().chain(["connection", "te", "host"]).collect();
    prop_oneof![proptest::sample::select(known).prop_map(str::to_owned), "x-[a-c]", "[a-z-]{1,9}"]
}

proptest! {
    #[test]
    fn no_hop_by_hop_field_is_ever_left(
        fields in proptest::collection::vec((any_name(), any_value()), 0..20),
        named in proptest::collection::vec("x-[a-c]", 0..4),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, value);
        }
        for name in &named {
            headers.append(CONNECTION, HeaderValue::from_str(name).unwrap());
        }
        let end_to_end: Vec<_> = headers.get_all("host").iter().cloned().collect();
        strip(&mut headers);
        for name in ALWAYS.map(|(_, name)| name).into_iter().chain(["connection"]) {
            prop_assert!(!headers.contains_key(name), "{name}");
        }
        for name in &named {
            prop_assert!(!headers.contains_key(name));
        }
        for te in headers.get_all(TE) {
            prop_assert_eq!(te, "trailers");
        }
        prop_assert!(headers.get_all("host").iter().eq(end_to_end.iter()));
        let once = headers.clone();
        strip(&mut headers);
        prop_assert_eq!(once, headers, "a second pass finds nothing");
    }
}
