use proptest::prelude::*;

use super::*;

#[test]
fn an_expression_matches_the_whole_value_only() {
    let regex = compile_regex("a|b+").unwrap();
    assert!(regex.is_match(b"a") && regex.is_match(b"bb"));
    assert!(!regex.is_match(b"ab") && !regex.is_match(b"xa") && !regex.is_match(b"a\n"));
    assert!(compile_regex("^/v[0-9]+/.*$").unwrap().is_match(b"/v1/\xff"));
}

#[test]
fn bad_and_large_expressions_are_refused_with_a_cause() {
    for (text, cause) in [
        ("(", "unclosed group"),
        ("a)|(b", "unopened group"),
        ("[z-a]", "invalid character class range"),
        ("((a{500}){500}){500}", "needs more than 256 KiB"),
        (&"(".repeat(200), "not a regular expression"),
        (&"a".repeat(1025), "longer than 1024 bytes"),
    ] {
        let why = compile_regex(text).unwrap_err();
        assert!(why.contains(cause) && !why.contains('\n'), "{text}: {why}");
    }
}

#[test]
fn a_template_is_read_into_segments() {
    let segments = template("/v1/users/{id}/{rest=**}").unwrap();
    use Segment::{Literal, One, Rest};
    assert_eq!(segments, [Literal("v1"), Literal("users"), One("id"), Rest("rest")]);
    assert_eq!(template("/").unwrap(), [Literal("")]);
    for bad in ["", "v1", "/{a=**}/b", "/{a}/{a}", "/x{a}", "/{a", "/{}", "/{a-b}", "/{a=*}"] {
        assert!(template(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_references_of_a_rewrite_are_found() {
    assert_eq!(references("/a/{x}/b-{y_1}").unwrap(), ["x", "y_1"]);
    assert_eq!(references("/plain").unwrap(), Vec::<&str>::new());
    for bad in ["/{", "/}", "/{}", "/{a", "/a}{b}", "/{a b}", "/{a}}"] {
        assert!(references(bad).is_err(), "{bad}");
    }
}

#[test]
fn tokens_values_and_paths_follow_their_grammar() {
    assert!(is_token("X-User_1") && !is_token("") && !is_token("a b") && !is_token("a:b"));
    assert!(is_field_value("") && is_field_value("a b\tc é"));
    assert!(!is_field_value(" a") && !is_field_value("a\r\nb: c") && !is_field_value("\u{7f}"));
    assert!(is_path("/") && is_path("/a%20b"));
    assert!(!is_path("a") && !is_path("/a b") && !is_path("/a?b") && !is_path("/a#b"));
}

proptest! {
    #[test]
    fn nothing_panics_or_takes_long(text in "[a-z{}=*/\\[\\]()|+?.\\\\0-9^$-]{0,60}") {
        let _ = (compile_regex(&text), template(&text), references(&text));
    }
}
