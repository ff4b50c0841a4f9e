use proptest::prelude::*;

use super::*;

fn settings(prefix: Option<&str>, path: Option<&str>, host: Option<&str>) -> route::Rewrite {
    let owned = |text: Option<&str>| text.map(str::to_owned);
    route::Rewrite { path_prefix: owned(prefix), path: owned(path), host: owned(host) }
}

fn prefixed(replacement: &str, matched: &str, uri: &str) -> Result<String, &'static str> {
    let rewrite = Rewrite::compile(&settings(Some(replacement), None, None)).unwrap();
    let matched = Matched { prefix: matched.len(), captures: &[] };
    rewrite.target(&uri.parse().unwrap(), matched).map(|target| target.to_string())
}

fn filled(template: &str, captures: &[(&str, &str)], uri: &str) -> Result<String, &'static str> {
    let rewrite = Rewrite::compile(&settings(None, Some(template), None)).unwrap();
    let matched = Matched { prefix: 0, captures };
    rewrite.target(&uri.parse().unwrap(), matched).map(|target| target.to_string())
}

#[test]
fn the_prefix_is_replaced_with_one_slash_between_and_the_query_stays() {
    for (replacement, matched, uri, wanted) in [
        ("/", "/api", "/api/x?q=1&q=2", "/x?q=1&q=2"),
        ("/", "/api/", "/api/x", "/x"),
        ("/", "/api", "/api", "/"),
        ("/", "/api", "/api?", "/?"),
        ("/v2", "/api", "/api", "/v2"),
        ("/v2", "/api", "/api/", "/v2/"),
        ("/v2", "/api/", "/api/x", "/v2/x"),
        ("/v2/", "/api", "/api/x", "/v2/x"),
        ("/v2/", "/api/", "/api/x", "/v2/x"),
        ("/v2", "/", "/x/y", "/v2/x/y"),
        ("/v2", "/exact/path", "/exact/path", "/v2"),
        ("/", "/api", "/api//x//y", "//x//y"),
        ("/", "/api", "http://host/api/x?y", "/x?y"),
    ] {
        assert_eq!(prefixed(replacement, matched, uri).as_deref(), Ok(wanted), "{uri}");
    }
}

#[test]
fn bytes_that_are_not_replaced_stay_as_they_came() {
    let uri = "/api/%2F%zz%C3%A4;a=b/a%20b/!$&'()*+,=:@~?a=%00&b=/../";
    let wanted = uri.replace("/api", "/v2");
    assert_eq!(prefixed("/v2", "/api", uri), Ok(wanted));
}

#[test]
fn dot_segments_do_not_step_out_of_the_new_prefix() {
    for rest in ["..", "../x", "x/../../y", "%2e%2E/x", ".%2e/", "./x", "..;a=b/x", "x/.."] {
        assert!(prefixed("/tenants/a", "/api", &format!("/api/{rest}")).is_err(), "{rest}");
        assert!(filled("/tenants/{rest}", &[("rest", rest)], "/").is_err(), "{rest}");
    }
    for rest in ["...", ".x", "x.", "..x", "a/.well-known/b", "%2e%2e%2e"] {
        assert!(prefixed("/tenants/a", "/api", &format!("/api/{rest}")).is_ok(), "{rest}");
    }
    // A segment that only comes to be by joining two parts.
    assert!(filled("/.{x}", &[("x", ".")], "/").is_err());
}

#[test]
fn a_template_takes_its_captures() {
    let captures = [("id", "42"), ("rest", "a/b%20c")];
    let target = filled("/v2/{id}/of-{id}/{rest}", &captures, "/old?q");
    assert_eq!(target.as_deref(), Ok("/v2/42/of-42/a/b%20c?q"));
    assert!(filled("/v2/{other}", &captures, "/old").is_err());
    for bad in ["a?b", "a#b", "a b", "a\u{7f}", "a\n"] {
        assert!(filled("/v2/{id}", &[("id", bad)], "/").is_err(), "{bad:?}");
    }
    let rewrite = Rewrite::compile(&settings(None, Some("/{a}/x{b}"), None)).unwrap();
    assert_eq!(rewrite.captures().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn without_a_change_the_target_is_what_came_in_origin_form() {
    let rewrite = Rewrite::compile(&route::Rewrite::default()).unwrap();
    for (uri, wanted) in [
        ("/a/../b?x", "/a/../b?x"),
        ("http://host/a?x", "/a?x"),
        ("http://host", "/"),
        ("http://host?x", "/?x"),
        ("*", "*"),
    ] {
        let target = rewrite.target(&uri.parse().unwrap(), Matched::default()).unwrap();
        assert_eq!(target.as_str(), wanted);
    }
}

#[test]
fn a_match_that_does_not_fit_the_path_is_an_error() {
    assert!(prefixed("/", "/longer/than/that", "/api").is_err());
}

#[test]
fn a_target_longer_than_http_can_hold_is_an_error() {
    let long = format!("/api/{}", "x".repeat(TARGET_MAX - 10));
    assert!(prefixed("/", "/api", &long).is_ok());
    assert!(prefixed("/a-prefix-that-is-longer", "/api", &long).is_err());
}

#[test]
fn wrong_settings_say_what_to_write() {
    for (prefix, path, host, wanted) in [
        (Some("/a"), Some("/b"), None, "exclude"),
        (Some("a"), None, None, "begins with"),
        (Some(""), None, None, "begins with"),
        (Some("/a?b"), None, None, "query"),
        (Some("/a b"), None, None, "encode"),
        (Some("/a/../b"), None, None, "segment"),
        (None, Some("v2/{id}"), None, "begins with"),
        (None, Some("{id}"), None, "begins with"),
        (None, Some("/v2/{id"), None, "close"),
        (None, Some("/v2/id}"), None, "encode"),
        (None, Some("/v2/{}"), None, "capture"),
        (None, Some("/v2/{a=**}"), None, "capture"),
        (None, Some("/v2/../{id}"), None, "segment"),
        (None, None, Some("a b"), "host"),
        (None, None, Some(""), "host"),
        (None, None, Some("http://a"), "host"),
    ] {
        let error = Rewrite::compile(&settings(prefix, path, host)).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn the_host_is_replaced_only_when_the_route_says_so() {
    let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static("came"))]);
    Rewrite::compile(&route::Rewrite::default()).unwrap().apply_host(&mut headers);
    assert_eq!(headers.get(HOST).unwrap(), "came");
    let rewrite = Rewrite::compile(&settings(None, None, Some("pay.svc:80"))).unwrap();
    rewrite.apply_host(&mut headers);
    assert_eq!(headers.get_all(HOST).iter().collect::<Vec<_>>(), ["pay.svc:80"]);
}

proptest! {
    #[test]
    fn a_rewritten_target_is_a_path_with_the_query_that_came(
        path in "/[a-z./%;2eE]{0,20}", query in proptest::option::of("[a-z=&?/]{0,9}"),
        cut in 0..25_usize,
    ) {
        let came = query.as_ref().map_or_else(|| path.clone(), |q| format!("{path}?{q}"));
        let rewrite = Rewrite::compile(&settings(Some("/v2"), None, None)).unwrap();
        let matched = Matched { prefix: cut, captures: &[] };
        if let Ok(target) = rewrite.target(&came.parse().unwrap(), matched) {
            prop_assert!(target.path() == "/v2" || target.path().starts_with("/v2/"));
            prop_assert_eq!(target.query(), query.as_deref());
            prop_assert!(target.path().split('/').all(|s| s != ".." && s != "."));
        }
    }

    #[test]
    fn any_capture_makes_a_valid_target_or_an_error(value in "\\PC{0,20}") {
        let captures = [("id", value.as_str())];
        if let Ok(target) = filled("/v2/{id}", &captures, "/x?q") {
            prop_assert_eq!(target, format!("/v2/{value}?q"));
        }
    }
}
