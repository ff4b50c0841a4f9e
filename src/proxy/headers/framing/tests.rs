use http::Request;
use proptest::prelude::*;

use super::super::tests::any_value;
use super::*;

fn parts(version: Version, uri: &str, lines: &[(&str, &str)]) -> request::Parts {
    let mut request = Request::builder().version(version).uri(uri).body(()).unwrap();
    *request.headers_mut() = super::super::tests::map(lines);
    request.into_parts().0
}

fn ambiguous(parts: &request::Parts) -> Option<&'static str> {
    ambiguous_framing(parts, &Seen::of(&parts.headers))
}

fn http1(lines: &[(&str, &str)]) -> Option<&'static str> {
    let mut all = vec![("host", "a")];
    all.extend_from_slice(lines);
    ambiguous(&parts(Version::HTTP_11, "/", &all))
}

#[test]
fn plain_requests_have_one_reading() {
    assert_eq!(http1(&[]), None);
    assert_eq!(http1(&[("content-length", "12")]), None);
    assert_eq!(http1(&[("transfer-encoding", "Chunked")]), None);
    assert_eq!(http1(&[("te", "gzip"), ("connection", "te")]), None);
    assert_eq!(ambiguous(&parts(Version::HTTP_10, "/", &[])), None);
    assert_eq!(ambiguous(&parts(Version::HTTP_2, "http://a/", &[])), None);
    assert_eq!(ambiguous(&parts(Version::HTTP_2, "/", &[("host", "a")])), None);
}

#[test]
fn rfc9112_6_3_two_framings_are_refused() {
    let both = http1(&[("content-length", "5"), ("transfer-encoding", "chunked")]);
    assert!(both.unwrap().contains("Both"));
    let turned = http1(&[("transfer-encoding", "chunked"), ("content-length", "5")]);
    assert!(turned.unwrap().contains("Both"));
}

#[test]
fn rfc9112_6_3_lengths_that_differ_or_are_no_numbers_are_refused() {
    assert!(http1(&[("content-length", "5"), ("content-length", "6")]).is_some());
    for value in ["5, 5", "5,6", "+5", "-5", "0x5", "", "5 5", "\u{b2}"] {
        assert!(http1(&[("content-length", value)]).is_some(), "{value}");
    }
}

#[test]
fn rfc9112_6_1_transfer_encoding_is_chunked_once_and_http11() {
    for value in ["gzip", "gzip, chunked", "chunked, chunked", "chunked, identity", "xchunked", ""]
    {
        assert!(http1(&[("transfer-encoding", value)]).is_some(), "{value}");
    }
    let twice = [("transfer-encoding", "chunked"), ("transfer-encoding", "chunked")];
    assert!(http1(&twice).is_some());
    let old = parts(Version::HTTP_10, "/", &[("transfer-encoding", "chunked")]);
    assert!(ambiguous(&old).unwrap().contains("HTTP/1.0"));
}

#[test]
fn rfc9112_3_2_host_is_there_once_and_valid() {
    assert!(ambiguous(&parts(Version::HTTP_11, "/", &[])).unwrap().contains("no Host"));
    assert!(http1(&[("host", "a")]).unwrap().contains("More than one"));
    for version in [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2] {
        let bad = parts(version, "/", &[("host", "a b")]);
        assert!(ambiguous(&bad).is_some());
    }
}

#[test]
fn rfc3986_3_2_2_hosts() {
    for good in [
        "a",
        "a.b-c_d",
        "a:",
        "a:80",
        "127.0.0.1:65535",
        "a:00080",
        "[::1]",
        "[2001:db8::1]:8080",
        "a%20b",
    ] {
        assert!(valid_host(good.as_bytes()), "{good}");
    }
    for bad in [
        "",
        ":80",
        "a:b",
        "a:65536",
        "a:18446744073709551696",
        "a:80:80",
        "::1",
        "[::1",
        "[::1]x",
        "[1.2.3.4]",
        "[fe80::1%25e]",
        "a,b",
        "a/b",
        "u@a",
        "a?",
        "a#",
        "a b",
        "a\\b",
        "a%2",
        "a%zz",
        "\u{e4}",
        "a:+80",
    ] {
        assert!(!valid_host(bad.as_bytes()), "{bad}");
    }
}

#[test]
fn rfc9112_3_2_2_the_absolute_forms_authority_wins_over_host() {
    let mut parts = parts(Version::HTTP_11, "http://real:81/x", &[("host", "other")]);
    assert_eq!(ambiguous(&parts), None, "differing is allowed in HTTP/1.1");
    assert_eq!(host_of(&parts.uri, parts.headers.get(HOST)), "real:81");
    settle_host(&parts.uri, &mut parts.headers);
    assert_eq!(parts.headers.get(HOST).unwrap(), "real:81");
    assert_eq!(parts.headers.get_all(HOST).iter().count(), 1);
}

#[test]
fn origin_form_keeps_its_host() {
    let mut parts = parts(Version::HTTP_11, "/x", &[("host", "a")]);
    settle_host(&parts.uri, &mut parts.headers);
    assert_eq!(parts.headers.get(HOST).unwrap(), "a");
    assert_eq!(host_of(&parts.uri, parts.headers.get(HOST)), "a");
    assert_eq!(host_of(&parts.uri, None), "");
}

#[test]
fn rfc9113_8_3_1_host_and_authority_agree() {
    let same = parts(Version::HTTP_2, "http://A:1/", &[("host", "a:1")]);
    assert_eq!(ambiguous(&same), None);
    let other = parts(Version::HTTP_2, "http://a/", &[("host", "b")]);
    assert!(ambiguous(&other).unwrap().contains("differs"));
    let neither = parts(Version::HTTP_2, "/", &[]);
    assert!(ambiguous(&neither).unwrap().contains("neither"));
    let mut only = parts(Version::HTTP_2, "http://a:1/", &[]);
    settle_host(&only.uri, &mut only.headers);
    assert_eq!(only.headers.get(HOST).unwrap(), "a:1");
}

#[test]
fn rfc9110_4_2_4_user_information_is_refused() {
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let disguised = parts(version, "http://bank@evil/", &[("host", "evil")]);
        assert!(ambiguous(&disguised).is_some());
    }
}

#[test]
fn rfc9113_8_2_2_connection_fields_do_not_cross_http2() {
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"] {
        let request = parts(Version::HTTP_2, "http://a/", &[(name, "chunked")]);
        assert!(ambiguous(&request).is_some(), "{name}");
    }
    let gzip = parts(Version::HTTP_2, "http://a/", &[("te", "gzip")]);
    assert!(ambiguous(&gzip).is_some());
    let trailers = parts(Version::HTTP_2, "http://a/", &[("te", "trailers")]);
    assert_eq!(ambiguous(&trailers), None);
}

#[test]
fn rfc9113_8_2_1_white_space_around_a_value_is_refused() {
    for (value, refused) in [(" a", true), ("a ", true), ("a\t", true), ("a b", false), ("", false)]
    {
        let request = parts(Version::HTTP_2, "http://a/", &[("x-any", value)]);
        assert_eq!(ambiguous(&request).is_some(), refused, "{value:?}");
    }
}

#[test]
fn rfc9113_8_3_1_a_path_begins_with_a_slash() {
    for (method, path, refused) in [
        (Method::GET, "/x", false),
        (Method::GET, "*", true),
        (Method::OPTIONS, "*", false),
        (Method::CONNECT, "", false),
    ] {
        assert_eq!(!is_path(&method, path), refused, "{method} {path}");
    }
}

proptest! {
    #[test]
    fn whatever_the_bytes_it_answers_and_what_passes_has_one_host(
        fields in proptest::collection::vec(
            (proptest::sample::select(vec!["host", "content-length", "transfer-encoding", "te"]),
             any_value()), 0..5),
        http2 in any::<bool>(),
    ) {
        let version = if http2 { Version::HTTP_2 } else { Version::HTTP_11 };
        let mut parts = parts(version, "/", &[]);
        for (name, value) in fields {
            parts.headers.append(name, value);
        }
        if ambiguous(&parts).is_none() {
            prop_assert_eq!(parts.headers.get_all(HOST).iter().count(), 1);
            prop_assert!(parts.headers.get_all("content-length").iter().count() <= 1);
        }
    }

    #[test]
    fn a_valid_host_is_an_authority_to_http_too(text in "[a-z0-9:.\\[\\]%@,_-]{0,12}") {
        if valid_host(text.as_bytes()) && !text.contains('%') {
            prop_assert!(text.parse::<Authority>().is_ok(), "{}", text);
        }
    }
}
