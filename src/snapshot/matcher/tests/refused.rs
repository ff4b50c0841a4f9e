//! What is refused when the table is compiled, and which routes are reported as hidden.

use super::*;

fn problems(yaml: &str) -> Vec<(usize, String, String)> {
    let (good, bad) = (route("path: /good"), route(yaml));
    Matcher::compile(&[&good, &bad], &names(&["in"])).err().unwrap_or_default()
}

#[test]
fn what_can_never_match_is_refused_by_key() {
    let deep = "/x".repeat(SEGMENTS_MAX + 1);
    for (yaml, key, words) in [
        ("host: ''", "host", "is not a host"),
        ("host: 'a b'", "host", "is not a host"),
        ("host: 'a..b'", "host", "is not a host"),
        ("host: http://a", "host", "is not a host"),
        ("host: bücher.de", "host", "xn--"),
        ("host: '*'", "host", "leave host out"),
        ("host: 'a.*.org'", "host", "first labels"),
        ("host: 'a.org:0'", "host", "port 0"),
        ("host: 'a.org:70000'", "host", "is not a host"),
        ("path: a", "path", "starts with `/`"),
        ("path: ''", "path", "starts with `/`"),
        ("path: '/a?b'", "path", "go to `query`"),
        ("path: '/a#b'", "path", "ends the path"),
        ("path: '/a b'", "path", "%20"),
        ("path_prefix: v1", "path_prefix", "starts with `/`"),
        ("path_template: '{a}'", "path_template", "starts with `/`"),
        ("path_template: '/{a}x'", "path_template", "whole segment"),
        ("path_template: '/*'", "path_template", "whole segment"),
        ("path_template: '/{a'", "path_template", "whole segment"),
        ("path_template: '/{}'", "path_template", "is not a name"),
        ("path_template: '/{1}'", "path_template", "is not a name"),
        ("path_template: '/{a=*}'", "path_template", "is not a name"),
        ("path_template: '/{a}/{a}'", "path_template", "two captures"),
        ("path_template: '/{a=**}/b'", "path_template", "nothing can follow"),
        ("path_template: '/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}'", "path_template", "more than 8"),
        (&format!("path_template: '{deep}'"), "path_template", "more than 64"),
        (&format!("path_prefix: '{deep}'"), "path_prefix", "more than 64"),
        ("path_regex: '/('", "path_regex", "unclosed group"),
        ("path_regex: 'a)|(b'", "path_regex", "unopened group"),
        ("path_regex: '(a{1000}){1000}'", "path_regex", "make it simpler"),
        ("{ path: /a, path_regex: b }", "path_regex", "beside path"),
        ("methods: ['']", "methods", "is not a method"),
        ("methods: ['A B']", "methods", "is not a method"),
        ("methods: [post]", "methods", "write POST"),
        ("headers: { 'a b': c }", "headers.a b", "name of a header"),
        ("headers: { x: ' a' }", "headers.x", "can never match"),
        ("headers: { x: \"a\\nb\" }", "headers.x", "can never match"),
        ("headers: { x: { regex: '(' } }", "headers.x.regex", "unclosed group"),
        ("headers: { X-A: a, x-a: b }", "headers.x-a", "given twice"),
        ("query: { q: { regex: '[' } }", "query.q.regex", "unclosed"),
        ("listeners: [nowhere]", "listeners", "`nowhere` is not a listener"),
    ] {
        let problems = problems(yaml);
        let [(index, at, message)] = &problems[..] else { panic!("{yaml}: {problems:?}") };
        assert_eq!((*index, at.as_str()), (1, key), "{yaml}");
        assert!(message.contains(words), "{yaml}: {message}");
    }
}

#[test]
fn all_problems_are_given_at_once_in_file_order() {
    let routes =
        [route("{ host: '*', path: a, methods: [get] }"), route("query: { q: { regex: ( } }")];
    let found = Matcher::compile(&routes.iter().collect::<Vec<_>>(), &[]).unwrap_err();
    let at: Vec<(usize, &str)> = found.iter().map(|(i, key, _)| (*i, key.as_str())).collect();
    assert_eq!(at, [(0, "host"), (0, "path"), (0, "methods"), (1, "query.q.regex")]);
}

#[test]
fn the_number_of_regular_expressions_of_a_host_is_bounded() {
    let all = |host: &str, n: usize| -> Vec<Match> {
        (0..n).map(|i| route(&format!("{{ host: {host}, path_regex: '/{i}' }}"))).collect()
    };
    let mut routes = all("a", REGEXES_MAX);
    routes.extend(all("b", REGEXES_MAX));
    routes.push(route("path: /x"));
    let compiled = Matcher::compile(&routes.iter().collect::<Vec<_>>(), &[]);
    assert!(compiled.is_ok());
    routes.push(route("{ host: a, path_regex: /one }"));
    let found = Matcher::compile(&routes.iter().collect::<Vec<_>>(), &[]).unwrap_err();
    let [(index, key, message)] = &found[..] else { panic!("{found:?}") };
    assert_eq!((*index, key.as_str()), (2 * REGEXES_MAX + 1, "path_regex"));
    assert!(message.contains("256"), "{message}");
}

#[test]
fn hidden_routes_are_found() {
    for (yaml, hidden) in [
        // The same conditions, however they are written.
        (&["path: /a", "path: /a"][..], &[(1, 0)][..]),
        (&["{}", "{}", "{}"], &[(1, 0), (2, 0)]),
        (&["host: A.org", "host: a.org."], &[(1, 0)]),
        (&["path_prefix: /a/", "path_prefix: /a"], &[(1, 0)]),
        (&["path_template: '/{a}'", "path_template: '/{b}'"], &[(1, 0)]),
        (&["path_template: /a", "path: /a"], &[(1, 0)]),
        (&["path_regex: 'a+'", "path_regex: 'a+'"], &[(1, 0)]),
        // Methods and listeners within those of the other.
        (&["methods: [GET, POST]", "methods: [POST]"], &[(1, 0)]),
        (&["methods: [POST]", "methods: [GET, POST]"], &[]),
        (&["{}", "methods: [POST]"], &[]),
        (&["listeners: [in, out]", "listeners: [out]"], &[(1, 0)]),
        (&["listeners: [in, out]", "{}"], &[(1, 0)]),
        (&["listeners: [in]", "{}"], &[]),
        // Values that follow from values.
        (&["headers: { x: { present: true } }", "headers: { x: a }"], &[(1, 0)]),
        (&["headers: { x: { present: true } }", "headers: { x: { regex: b } }"], &[(1, 0)]),
        (&["headers: { x: { regex: 'a+' } }", "headers: { x: aa }"], &[(1, 0)]),
        (&["headers: { x: { regex: 'a+' } }", "headers: { x: b }"], &[]),
        (&["headers: { x: a }", "headers: { x: { present: true } }"], &[]),
        (&["headers: { x: a }", "headers: { x: b }", "headers: { x: b }"], &[(2, 1)]),
        (&["headers: { x: { present: false } }", "headers: { x: a }"], &[]),
        (&["query: { x: { present: true } }", "query: { x: a }"], &[(1, 0)]),
        (&["query: { x: a, y: b }", "query: { x: a }"], &[]),
        // Paths that match everything.
        (&["{}", "path_prefix: /"], &[(0, 1)]),
        (&["{}", "{ path_prefix: /, methods: [GET] }"], &[]),
        (&["headers: { x: a }", "{ path_prefix: / }"], &[(0, 1)]),
        (&["path_prefix: /a", "path_regex: '^.*$'"], &[(0, 1)]),
        (&["path_prefix: /a", "path_regex: '/.*'", "path_prefix: /"], &[(0, 1)]),
        (&["path: /a", "path_template: '/{a}'", "path_regex: '.*'"], &[]),
        (&["path_regex: '.*'", "path_regex: 'a'"], &[(1, 0)]),
        (&["path_template: '/{a=**}'", "path_prefix: /"], &[]),
        // Another host.
        (&["host: a.org", "host: '*.org'", "host: 'a.org:80'", "{}"], &[]),
    ] {
        assert_eq!(table(yaml).shadowed(), hidden, "{yaml:?}");
    }
}
