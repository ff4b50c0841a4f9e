//! The order of specificity, the meaning of each condition, what is refused, and the work done.

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::*;
use crate::config::route::{Match, ValueMatch};

mod grpc;
mod miss;
mod random;
mod reference;
mod refused;

/// A route from a YAML mapping.
fn route(yaml: &str) -> Match {
    crate::config::tests::piece(yaml)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn compile(routes: &[Match]) -> Matcher {
    let routes: Vec<&Match> = routes.iter().collect();
    Matcher::compile(&routes, &names(&["in", "out"])).unwrap()
}

fn table(yaml: &[&str]) -> Matcher {
    compile(&yaml.iter().map(|yaml| route(yaml)).collect::<Vec<_>>())
}

/// A request in short: `METHOD host/path?query`, header fields apart.
#[derive(Clone, Debug)]
struct Request {
    listener: usize,
    host: String,
    path: String,
    query: Option<String>,
    method: Method,
    headers: HeaderMap,
}

impl Request {
    fn new(line: &str) -> Self {
        let (method, url) = line.split_once(' ').unwrap_or(("GET", line));
        let (url, query) = match url.split_once('?') {
            Some((url, query)) => (url, Some(query.to_owned())),
            None => (url, None),
        };
        let slash = url.find('/').unwrap_or(url.len());
        Self {
            listener: 0,
            host: url[..slash].to_owned(),
            path: url[slash..].to_owned(),
            query,
            method: method.parse().unwrap(),
            headers: HeaderMap::new(),
        }
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).unwrap();
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    fn target(&self) -> Target<'_> {
        Target {
            listener: self.listener,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            method: &self.method,
            headers: &self.headers,
        }
    }

    fn by(&self, matcher: &Matcher) -> Option<usize> {
        matcher.find(&self.target()).map(|found| found.index)
    }
}

fn found(matcher: &Matcher, line: &str) -> Option<usize> {
    Request::new(line).by(matcher)
}

/// Each list is from the most to the least specific, and all its routes match the request. Whatever
/// the order in the file, the first of what is left must win.
#[test]
fn the_more_specific_route_wins_wherever_it_stands() {
    let lists: [(&str, &[&str]); 7] = [
        (
            "GET A.b.Example.org:81/",
            &[
                "host: a.b.example.org:81",
                "host: a.b.example.org",
                "host: '*.b.example.org:81'",
                "host: '*.b.example.org'",
                "host: '*.example.org:81'",
                "host: '*.example.org'",
                "{}",
            ],
        ),
        (
            "GET h/a/b/c",
            &[
                "path: /a/b/c",
                "path_template: '/a/b/{z}'",
                "path_template: '/a/{y}/c'",
                "path_template: '/{x}/b/c'",
                "path_template: '/a/{y}/{z}'",
                "path_template: '/{x}/{y}/{z}'",
                "path_regex: '/a/.*'",
                "path_prefix: /a/b/c",
                "path_template: '/a/b/{rest=**}'",
                "path_prefix: /a/b",
                "path_template: '/a/{y}/{rest=**}'",
                "path_template: '/{x}/b/{rest=**}'",
                "path_template: '/{x}/{y}/{rest=**}'",
                "path_template: '/a/{rest=**}'",
                "path_prefix: /a",
                "path_template: '/{rest=**}'",
                "path_prefix: /",
                "{}",
            ],
        ),
        ("POST h/a", &["methods: [POST]", "{ headers: { host: { present: false } } }", "{}"]),
        (
            "GET h/a?q=1&r=2",
            &[
                "{ headers: { x-a: { present: false }, x-b: { present: false } } }",
                "{ headers: { x-a: { present: false } }, query: { q: '1' } }",
                "{ headers: { x-a: { present: false } }, listeners: [in] }",
                "{ headers: { x-a: { present: false } } }",
                "query: { q: '1', r: '2' }",
                "{ query: { q: '1' }, listeners: [in, out] }",
                "query: { q: '1' }",
                "listeners: [in]",
                "{}",
            ],
        ),
        ("GET h/a", &["{ host: h, path_prefix: / }", "path: /a"]),
        ("GET h/a", &["path: /a", "{ path_prefix: /a, methods: [GET] }"]),
        (
            "GET h/a",
            &["methods: [GET]", "headers: { x: { present: false }, y: { present: false } }"],
        ),
    ];
    for (line, list) in lists {
        for from in 0..list.len() {
            let rest = &list[from..];
            let reversed: Vec<&str> = rest.iter().rev().copied().collect();
            assert_eq!(found(&table(rest), line), Some(0), "{line}: {rest:?}");
            assert_eq!(found(&table(&reversed), line), Some(rest.len() - 1), "{line}: {rest:?}");
        }
    }
}

#[test]
fn the_first_in_the_file_wins_among_equals() {
    let matcher = table(&["path_regex: '/a.*'", "path_regex: '/.*b'", "path_regex: '/ab'"]);
    assert_eq!(found(&matcher, "GET h/ab"), Some(0));
    assert_eq!(found(&matcher, "GET h/b"), Some(1));
}

#[test]
fn a_better_host_without_a_matching_route_does_not_hide_the_others() {
    let matcher = table(&[
        "{ host: a.example.org:80, path: /port }",
        "{ host: a.example.org, path: /exact }",
        "{ host: '*.example.org', path: /wild }",
        "{ path: /any }",
    ]);
    for (index, path) in ["/port", "/exact", "/wild", "/any"].iter().enumerate() {
        assert_eq!(found(&matcher, &format!("GET a.example.org:80{path}")), Some(index));
    }
    assert_eq!(found(&matcher, "GET a.example.org:81/port"), None);
}

#[test]
fn hosts() {
    for (pattern, matching, others) in [
        (
            "a.org",
            "a.org A.ORG a.org. a.org:1 a.org.:1 a.org:",
            "b.org x.a.org a.orgx a.org:x a.org:99999",
        ),
        ("A.Org:80", "a.org:80 a.ORG.:80", "a.org a.org:8 a.org: a.org:800"),
        ("'*.a.org'", "b.a.org c.b.A.org b.a.org:9 .b.a.org", "a.org .a.org ba.org b.a.org.x"),
        ("'*.a.org:80'", "b.a.org:80", "b.a.org a.org:80"),
        ("'[::1]'", "[::1] [::1]:80", "::1 [::2] [::1]:x"),
        ("'[::1]:80'", "[::1]:80", "[::1] [::1]:81"),
    ] {
        let matcher = table(&[&format!("host: {pattern}")]);
        for host in matching.split(' ') {
            assert_eq!(found(&matcher, &format!("GET {host}/")), Some(0), "{pattern} {host}");
        }
        for host in others.split(' ').chain([""]) {
            assert_eq!(found(&matcher, &format!("GET {host}/")), None, "{pattern} {host}");
        }
    }
}

#[test]
fn a_host_longer_than_a_name_matches_only_routes_without_host_and_costs_nothing() {
    let matcher = table(&["host: '*.a.org'", "{ path: /any }"]);
    let long = format!("{}a.org", "x.".repeat(30_000));
    assert_eq!(found(&matcher, &format!("GET {long}/")), None);
    assert_eq!(found(&matcher, &format!("GET {long}/any")), Some(1));
    let longest = format!("{}.a.org", "x".repeat(247));
    assert_eq!(found(&matcher, &format!("GET {longest}/")), Some(0));
    assert_eq!(found(&matcher, &format!("GET x{longest}/")), None);
}

#[test]
fn paths() {
    for (path, matching, others) in [
        ("path: /a", "/a", "/ /a/ /A /a/b /aa"),
        ("path_prefix: /a", "/a /a/ /a/b /a//b", "/ /ab /b/a //a"),
        ("path_prefix: /a/", "/a /a/ /a/b", "/ab"),
        ("path_prefix: /", "/ /a //", ""),
        ("path_template: '/a/{b}'", "/a/x /a/%2F /a/{b}", "/a /a/ /a/x/ /a/x/y /b/x"),
        ("path_template: '/a/{b}/'", "/a/x/", "/a/x /a//"),
        ("path_template: '/a/{b=**}'", "/a/ /a/x /a/x/y /a//", "/a /ax /b/x"),
        ("path_template: '/a'", "/a", "/a/"),
        ("path_regex: '/[0-9]+'", "/1 /12", "/ /1/ /a1 /1a x/1"),
        ("path_regex: '^/v[0-9]+/$'", "/v1/", "/v1/x"),
        ("path_regex: '/a|/b/c'", "/a /b/c", "/a/c /ac /b"),
        (r"path_regex: '/\d'", "/1", "/١"),
        ("path_regex: '(?i)/é'", "/é", "/É"),
    ] {
        let matcher = table(&[path]);
        for request in matching.split(' ') {
            assert_eq!(found(&matcher, &format!("GET h{request}")), Some(0), "{path} {request}");
        }
        for request in others.split(' ').filter(|path| !path.is_empty()) {
            let mut other = Request::new("GET h/");
            request.clone_into(&mut other.path);
            assert_eq!(other.by(&matcher), None, "{path} {request}");
        }
    }
}

#[test]
fn paths_that_are_no_paths_match_the_root_prefix_alone() {
    for path in ["*", "", "h:443"] {
        let mut request = Request::new("OPTIONS h/");
        path.clone_into(&mut request.path);
        assert_eq!(request.by(&table(&["path_prefix: /"])), Some(0), "{path}");
        assert_eq!(request.by(&table(&["{}"])), Some(0), "{path}");
        for other in
            ["path: /", "path_template: '/{a=**}'", "path_template: '/{a}'", "path_prefix: /a"]
        {
            assert_eq!(request.by(&table(&[other])), None, "{path} {other}");
        }
    }
}

#[test]
fn captures_are_ranges_of_the_path_by_name() {
    let matcher = table(&[
        "path_template: '/v1/{account}/x/{id}'",
        "path_template: '/files/{drive}/{rest=**}'",
        "path: /plain",
    ]);
    for (path, index, expected) in [
        ("/v1/a%2Fb/x/7", 0, &[("account", "a%2Fb"), ("id", "7")][..]),
        ("/files/c/a/b", 1, &[("drive", "c"), ("rest", "a/b")]),
        ("/files/c/", 1, &[("drive", "c"), ("rest", "")]),
        ("/files/ü/é", 1, &[("drive", "ü"), ("rest", "é")]),
        ("/plain", 2, &[]),
    ] {
        let request = Request::new(&format!("GET h{path}"));
        let found = matcher.find(&request.target()).unwrap();
        assert_eq!(found.index, index, "{path}");
        let names = matcher.capture_names(found.index);
        let values = (0..found.captures.len()).map(|n| found.captures.get(n, path).unwrap());
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| &**name).zip(values).collect();
        assert_eq!(pairs, expected, "{path}");
        assert_eq!(names.len(), found.captures.len());
        assert_eq!(found.captures.get(expected.len(), path), None);
    }
    assert!(matcher.capture_names(99).is_empty());
}

#[test]
fn header_values() {
    let cases = [
        ("a", &["a"][..], true),
        ("a", &["b", "a"], true),
        ("a", &["A"], false),
        ("a", &["a, b"], false),
        ("a", &[], false),
        ("{ regex: 'a+' }", &["aa"], true),
        ("{ regex: 'a+' }", &["b", "aa"], true),
        ("{ regex: 'a+' }", &["aab"], false),
        ("{ regex: '.*' }", &[], false),
        ("{ present: true }", &[""], true),
        ("{ present: true }", &[], false),
        ("{ present: false }", &[], true),
        ("{ present: false }", &[""], false),
    ];
    for (condition, values, expected) in cases {
        let matcher = table(&[&format!("headers: {{ X-Tier: {condition} }}")]);
        let start = Request::new("GET h/").header("x-other", "a");
        let request = values.iter().fold(start, |request, value| request.header("x-tier", value));
        assert_eq!(request.by(&matcher).is_some(), expected, "{condition} {values:?}");
    }
}

#[test]
fn query_values() {
    for (condition, query, expected) in [
        ("q: a", "q=a", true),
        ("q: a", "x=1&q=a&y", true),
        ("q: a", "q=b&q=a", true),
        ("q: a", "Q=a", false),
        ("q: a", "xq=a", false),
        ("q: a", "q=a=", false),
        ("q: 'a=b'", "q=a=b", true),
        ("q: 'a b'", "q=a+b", true),
        ("q: 'a b'", "q=a%20b", true),
        ("q: 'a+b'", "q=a%2bb", true),
        ("q: '%zz%'", "q=%zz%", true),
        ("'a b': c", "a+b=c", true),
        ("q: ''", "q", true),
        ("q: ''", "q=", true),
        ("q: ''", "", false),
        ("'': { present: true }", "&&", false),
        ("'': x", "=x", true),
        ("q: { regex: 'a b?' }", "q=%61+b", true),
        ("q: { regex: 'a b?' }", "q=a", false),
        ("q: { present: true }", "q&x", true),
        ("q: { present: true }", "x=q", false),
        ("q: { present: false }", "x=q", true),
        ("q: { present: false }", "%71=1", false),
    ] {
        let matcher = table(&[&format!("query: {{ {condition} }}")]);
        let matched = found(&matcher, &format!("GET h/?{query}")).is_some();
        assert_eq!(matched, expected, "{condition} {query}");
    }
    assert_eq!(found(&table(&["query: { q: { present: false } }"]), "GET h/"), Some(0));
}

#[test]
fn methods_and_listeners() {
    let matcher = table(&["{ methods: [GET, PURGE], listeners: [out] }"]);
    for (method, listener, expected) in [
        ("GET", 1, true),
        ("PURGE", 1, true),
        ("HEAD", 1, false),
        ("GET", 0, false),
        ("GET", 9, false),
    ] {
        let request = Request { listener, ..Request::new(&format!("{method} h/")) };
        assert_eq!(request.by(&matcher).is_some(), expected, "{method} {listener}");
    }
}

#[test]
fn nothing_matches_an_empty_table() {
    assert_eq!(found(&table(&[]), "GET h/"), None);
}

/// The work of a look-up, counted, is the same among 10 routes and among 10,000.
#[test]
fn ten_thousand_routes_cost_what_ten_do() {
    let routes = |n: usize| -> Vec<Match> {
        let kinds = |i: usize| {
            [
                route(&format!("{{ host: h{i}.example.org, path: /a/b }}")),
                route(&format!("{{ host: api.org, path: /v1/exact{i} }}")),
                route(&format!("{{ host: api.org, path_prefix: /v1/prefix{i}/x }}")),
                route(&format!("{{ host: api.org, path_template: '/v1/t{i}/{{id}}/y' }}")),
                route(&format!("{{ host: '*.w{i}.org', path_template: '/w/{{rest=**}}' }}")),
            ]
        };
        (0..n / 5).flat_map(kinds).collect()
    };
    let (few, many) = (compile(&routes(10)), compile(&routes(10_000)));
    for line in [
        "GET h1.example.org/a/b",
        "GET api.org/v1/exact1",
        "GET api.org/v1/prefix1/x/y/z",
        "GET api.org/v1/t1/17/y",
        "GET api.org/v1/t1/17/z",
        "GET api.org/v1/none",
        "GET a.b.w1.org/w/x/y/z",
        "GET none.org/",
    ] {
        let request = Request::new(line);
        let (found_few, work_few) = few.find_counting(&request.target());
        let (found_many, work_many) = many.find_counting(&request.target());
        assert_eq!(found_few, found_many, "{line}");
        assert_eq!(work_few, work_many, "{line}");
        assert!(work_many <= 6, "{line}: {work_many}");
    }
    assert!(many.shadowed().is_empty());
}

/// Half of 512 templates match the request; the best is found without visiting the others.
#[test]
fn branches_that_cannot_hold_a_better_route_are_not_searched() {
    let routes: Vec<Match> = (0_u32..1 << 9)
        .map(|bits| {
            let segment = |n: u32| match bits >> n & 1 {
                0 => "/a".to_owned(),
                _ => format!("/{{c{n}}}"),
            };
            Match { path_template: Some((0..9).map(segment).collect()), ..Match::default() }
        })
        // The one of captures alone has more of them than allowed.
        .filter(|route| route.path_template.as_ref().unwrap().matches('{').count() <= CAPTURES_MAX)
        .collect();
    let matcher = compile(&routes);
    let request = Request::new("GET h/a/a/a/a/a/a/a/a/b");
    let (found, work) = matcher.find_counting(&request.target());
    assert_eq!(found.unwrap().index, 1 << 8, "a capture at the end alone");
    assert!(work <= 11, "{work}");
}

#[test]
fn a_path_of_slashes_goes_no_deeper_than_the_routes() {
    let matcher = table(&["path_template: '/a/{b}/{rest=**}'", "path_prefix: /"]);
    let request = Request { path: "/".repeat(60_000), ..Request::new("GET h/") };
    let (found, work) = matcher.find_counting(&request.target());
    assert_eq!(found.unwrap().index, 1);
    assert!(work <= 3, "{work}");
}

#[test]
fn what_a_look_up_gives_is_small() {
    assert!(size_of::<Found>() <= 96, "{}", size_of::<Found>());
}
