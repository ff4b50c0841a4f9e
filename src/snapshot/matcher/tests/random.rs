//! Random tables and requests: the table agrees with the plain rules, and what it calls hidden is.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::*;
use crate::config::route::Grpc;

/// The words are few, so that routes and requests often meet.
fn host() -> impl Strategy<Value = Option<String>> {
    let hosts = [
        "a.org",
        "a.org:80",
        "b.a.org",
        "*.org",
        "*.a.org",
        "*.a.org:80",
        "*.org:80",
        "c.b.a.org:80",
    ];
    option::weighted(0.7, select(hosts.to_vec()).prop_map(str::to_owned))
}

fn literal() -> impl Strategy<Value = String> {
    select(&["a", "b", ""][..]).prop_map(str::to_owned)
}

fn join(segments: &[String]) -> String {
    segments.iter().map(|segment| format!("/{segment}")).collect()
}

fn path() -> impl Strategy<Value = Match> {
    let template = (vec(option::weighted(0.6, literal()), 0..4), any::<bool>());
    let template = template.prop_map(|(segments, open)| {
        let name = |(n, literal): (usize, Option<String>)| literal.unwrap_or(format!("{{c{n}}}"));
        let mut segments: Vec<String> = segments.into_iter().enumerate().map(name).collect();
        if open || segments.is_empty() {
            segments.push("{rest=**}".to_owned());
        }
        Match { path_template: Some(join(&segments)), ..Match::default() }
    });
    let exact = vec(literal(), 1..4)
        .prop_map(|segments| Match { path: Some(join(&segments)), ..Match::default() });
    let prefix = (vec(select(&["a", "b"][..]), 0..3), any::<bool>()).prop_map(|(parts, slash)| {
        let mut path: String = parts.iter().map(|part| format!("/{part}")).collect();
        if slash || path.is_empty() {
            path.push('/');
        }
        Match { path_prefix: Some(path), ..Match::default() }
    });
    let regex = select(&["/a.*", ".*", "^/[ab]*$", "/.*", "/a|/b"][..])
        .prop_map(|regex| Match { path_regex: Some(regex.to_owned()), ..Match::default() });
    let name = || option::weighted(0.6, select(&["a", "b"][..]).prop_map(str::to_owned));
    let grpc = (name(), name()).prop_map(|(service, method)| Match {
        grpc: Some(Grpc { service, method }),
        ..Match::default()
    });
    let any = Just(Match::default());
    prop_oneof![3 => template, 3 => exact, 3 => prefix, 1 => regex, 2 => grpc, 1 => any]
}

fn values(name: &'static [&'static str]) -> impl Strategy<Value = BTreeMap<String, ValueMatch>> {
    let value = prop_oneof![
        select(&["1", "2"][..]).prop_map(|text| ValueMatch::Exact(text.to_owned())),
        select(&["1|3", ".*"][..]).prop_map(|text| ValueMatch::Regex(text.to_owned())),
        any::<bool>().prop_map(ValueMatch::Present),
    ];
    btree_map(select(name).prop_map(str::to_owned), value, 0..3)
        .prop_flat_map(|map| prop_oneof![2 => Just(BTreeMap::new()), 1 => Just(map)])
}

fn some_of(all: &'static [&'static str]) -> impl Strategy<Value = Vec<String>> {
    let some = subsequence(all, 0..=all.len()).prop_map(|some| names(&some));
    prop_oneof![2 => Just(Vec::new()), 1 => some]
}

pub(super) fn a_route() -> impl Strategy<Value = Match> {
    let beside = (
        host(),
        some_of(&["GET", "POST", "CONNECT"]),
        values(&["x-a", "x-b"]),
        values(&["p", "q"]),
        some_of(&["in", "out"]),
    );
    (path(), beside).prop_map(|(path, (host, mut methods, headers, query, listeners))| Match {
        // Beside `grpc`, methods without POST are refused.
        methods: {
            methods.retain(|method| path.grpc.is_none() || method == "POST");
            methods
        },
        host,
        headers,
        query,
        listeners,
        ..path
    })
}

pub(super) fn a_request() -> impl Strategy<Value = Request> {
    let hosts =
        ["", "a.org", "A.org:80", "b.a.org:80", "c.b.A.ORG", "c.b.a.org:80", "x.org", "org"];
    let fields = vec((select(&["x-a", "x-b"][..]), select(&["1", "2", "3"][..])), 0..3);
    let kinds = ["application/grpc", "application/grpc-web+proto", "text/plain"];
    let kind = option::weighted(0.6, select(kinds.to_vec()));
    let query = select(&["", "p=1", "p=2&q=1", "q=3&p=1", "q", "p=1&p=2"][..]);
    (
        select(hosts.to_vec()),
        vec(literal(), 1..5),
        select(&["GET", "POST", "CONNECT"][..]),
        fields,
        query,
        (0..2_usize, kind),
    )
        .prop_map(|(host, segments, method, fields, query, (listener, kind))| {
            let start = Request {
                host: host.to_owned(),
                path: join(&segments),
                query: (!query.is_empty()).then(|| query.to_owned()),
                ..Request::new(&format!("{method} /"))
            };
            let request = Request { listener, ..start };
            let kind = kind.map(|kind| ("content-type", kind));
            let fields = fields.into_iter().chain(kind);
            fields.fold(request, |request, (name, value)| request.header(name, value))
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_table_agrees_with_the_plain_rules(
        routes in vec(a_route(), 0..25),
        requests in vec(a_request(), 8),
    ) {
        let listeners = names(&["in", "out"]);
        let matcher = compile(&routes);
        for request in &requests {
            prop_assert_eq!(request.by(&matcher), reference::find(&routes, &listeners, request));
        }
    }

    /// Taking a hidden route away changes nothing, and where it matches, the one that hides it
    /// does.
    #[test]
    fn a_hidden_route_is_never_chosen(
        routes in vec(a_route(), 1..25),
        copies in vec(any::<prop::sample::Index>(), 0..5),
        requests in vec(a_request(), 8),
    ) {
        let mut routes = routes;
        for copy in copies {
            routes.push(routes[copy.index(routes.len())].clone());
        }
        let listeners = names(&["in", "out"]);
        let matcher = compile(&routes);
        for (hidden, by) in matcher.shadowed() {
            for request in &requests {
                prop_assert_ne!(request.by(&matcher), Some(hidden));
                if reference::matches(&routes[hidden], &listeners, request) {
                    prop_assert!(reference::matches(&routes[by], &listeners, request));
                }
            }
        }
    }

    /// No text of a request makes the look-up fail, and captures lie in the path.
    #[test]
    fn any_text_is_looked_up(host in ".{0,40}", path in "(/.{0,6}){0,6}", query in ".{0,20}") {
        let matcher = table(&[
            "host: '*.org'",
            "path_template: '/{a}/{b}'",
            "path_template: '/{a=**}'",
            "query: { q: a }",
        ]);
        let request = Request { host, path, query: Some(query), ..Request::new("GET /") };
        if let Some(found) = matcher.find(&request.target()) {
            for n in 0..found.captures.len() {
                prop_assert!(found.captures.get(n, &request.path).is_some());
            }
        }
    }
}
