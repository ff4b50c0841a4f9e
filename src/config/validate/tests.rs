use super::*;
use crate::config::testing::{file, good, problems};

fn one(text: &str, problem: &str) {
    let found = problems(text);
    assert_eq!(found.len(), 1, "{found:#?}\n{text}");
    assert!(found[0].contains(problem), "{found:#?}");
}

#[test]
fn names_are_bounded_labels() {
    let named = |name: &str| file("", "").replace("name: r,", &format!("name: {name},"));
    let longest = "n".repeat(MAX_NAME);
    assert!(problems(&named(&longest)).is_empty());
    assert!(problems(&named("A.b_c-9")).is_empty());
    one(&named(&format!("{longest}n")), "cannot be a name");
    one(&named("'a b'"), "`a b` cannot be a name");
    one(&named("é"), "cannot be a name");
    one(
        &file("", "").replace(" a:", " 'a b':").replace("upstream: a", "upstream: a b"),
        "cannot be",
    );
}

#[test]
fn the_numbers_of_things_are_bounded() {
    let listeners = |count: usize| {
        let all: String = (0..count)
            .map(|n| format!("  - {{ name: l{n}, bind: '127.0.0.1:{}' }}\n", 20000 + n))
            .collect();
        format!("listeners:\n{all}")
    };
    assert!(problems(&listeners(MAX_LISTENERS)).is_empty());
    one(&listeners(MAX_LISTENERS + 1), "listeners: has 65 entries; 64 is the most");
    let upstreams = |count: usize| {
        let all: String =
            (0..count).map(|n| format!("  u{n}: {{ endpoints: ['a:1'] }}\n")).collect();
        format!("{}upstreams:\n{all}", listeners(1))
    };
    assert!(problems(&upstreams(MAX_UPSTREAMS)).is_empty());
    one(&upstreams(MAX_UPSTREAMS + 1), "upstreams: has 2001 entries; 2000 is the most");
    let endpoints = |count: usize| {
        let all: Vec<String> = (1..=count).map(|n| format!("'a:{n}'")).collect();
        file("", "").replace("'10.0.0.1:80'", &all.join(", "))
    };
    assert!(problems(&endpoints(MAX_ENDPOINTS)).is_empty());
    one(&endpoints(MAX_ENDPOINTS + 1), "upstreams.a.endpoints: has more than 1000 entries");
}

#[test]
fn too_many_routes_are_refused() {
    let mut text = file("", "");
    for index in 0..MAX_ROUTES {
        text.push_str(&format!("  - {{ name: r{index}, upstream: a }}\n"));
    }
    one(&text, "routes: has 20001 entries; 20000 is the most");
}

#[test]
fn attempts_and_their_time_fit_into_the_whole() {
    let route = |total: &str, per_try: &str, attempts: u32| {
        file(
            "",
            &format!(
                "timeouts: {{ total: {total}, per_try: {per_try}, connect: 100ms }}, \
                           retry: {{ max_attempts: {attempts} }}"
            ),
        )
    };
    assert!(problems(&route("3s", "1s", 3)).is_empty());
    assert!(problems(&route("null", "1h", 10)).is_empty());
    assert!(problems(&route("3s", "null", 10)).is_empty());
    one(&route("3s", "1001ms", 3), "3 attempts of 1001ms do not fit into `total`, 3s");
    one(&route("3s", "4s", 1), "is 4s, longer than `total`, 3s");
}

#[test]
fn addresses_have_a_host_and_a_port() {
    let with = |address: &str| file("", "").replace("10.0.0.1:80", address);
    for address in
        ["[::1]:80", "a-b.c_d:1", "unix:/run/x.sock", "pay.internal.:65535", "10.0.0.1:1"]
    {
        assert!(problems(&with(address)).is_empty(), "{address}");
    }
    for address in [
        "a",
        "a:0",
        "a:65536",
        ":80",
        "::1:80",
        "[::x]:80",
        "unix:run",
        "unix:",
        "a b:1",
        "-a:1",
        "http://a:1",
    ] {
        one(&with(address), "upstreams.a.endpoints[0]: `");
    }
    let long = file("", "").replace("'10.0.0.1:80'", "{ address: nope }");
    one(&long, "upstreams.a.endpoints[0].address: `nope` is not an address");
}

#[test]
fn hosts_of_routes_are_names() {
    for host in ["a.b", "'*.a.b'", "a:8080", "10.0.0.1", "'[::1]'", "'[::1]:80'"] {
        assert!(problems(&file("", &format!("match: {{ host: {host} }}"))).is_empty(), "{host}");
    }
    for host in ["'*'", "'a.*'", "a/b", "'a:'", "'a:0'", "'*.'", "'http://a'", "'::1'", "''"] {
        one(&file("", &format!("match: {{ host: {host} }}")), "is not a host");
    }
    one(&file("", "rewrite: { host: '*.a' }"), "routes[0].rewrite.host: `*.a` is not a host");
}

#[test]
fn a_rewrite_uses_what_the_match_captures() {
    let with = |path: &str| {
        let keys = format!(
            "match: {{ path_template: '/v1/{{id}}/{{r=**}}' }}, rewrite: {{ path: '{path}' }}"
        );
        file("", &keys)
    };
    assert!(problems(&with("/x/{r}/{id}")).is_empty());
    one(&with("/x/{idd}"), "`{idd}` is not captured by `match.path_template`; did you mean `id`?");
    one(&with("/x/{"), "not closed");
    one(&with("x"), "is not a path");
    one(&file("", "rewrite: { path: '/{id}' }"), "`{id}` is not captured");
}

#[test]
fn calls_are_matched_by_the_names_of_services_and_methods() {
    let with = |conditions: &str| file("", &format!("match: {{ {conditions} }}"));
    for good in [
        "grpc: { service: pay.v1.Payments, method: Charge }",
        "grpc: { service: pay.v1.Payments }, methods: [GET, POST]",
        "grpc: { method: Charge }, headers: { x-tenant: a }",
        "grpc: {}",
        "grpc: null",
    ] {
        assert!(problems(&with(good)).is_empty(), "{good}");
    }
    let whole = "grpc: { service: /pay.Payments/Charge }";
    one(&with(whole), "match.grpc.service: `/pay.Payments/Charge` is not the name of a service");
    one(&with(whole), "did you mean `pay.Payments`?");
    one(&with("grpc: { method: pay.Payments/Charge }"), "did you mean `Charge`?");
    one(&with("grpc: { service: '' }"), "is not the name of a service");
    one(&with("grpc: { method: 'a b' }"), "is not the name of a method");
    one(&with("grpc: { servce: a }"), "did you mean `service`?");
    one(&with("grpc: {}, path: /a"), "match.grpc: stands beside `path`");
    one(&with("grpc: {}, methods: [GET]"), "match.methods: never matches beside `grpc`");
}

#[test]
fn a_check_in_grpc_stands_alone_and_needs_http2() {
    let with = |check: &str| file(&format!("protocol: http2, health_check: {{ {check} }}"), "");
    for good in ["grpc: {}", "grpc: { service: '' }, interval: 1s", "grpc: { service: a.B }"] {
        assert!(problems(&with(good)).is_empty(), "{good}");
    }
    one(&with("grpc: {}, path: /x"), "health_check.path: stands beside `grpc`");
    one(&with("grpc: {}, expect: 200"), "health_check.expect: stands beside `grpc`");
    one(&with("grpc: { service: /a }"), "health_check.grpc.service: `/a` is not the name");
    let http1 = file("health_check: { grpc: {} }", "");
    one(&http1, "health_check.grpc: needs HTTP/2 to the endpoints; write `protocol: http2`");
    let auto = file("protocol: auto, health_check: { grpc: {} }", "");
    one(&auto, "needs HTTP/2");
}

#[test]
fn what_follows_from_another_problem_is_not_said() {
    // The upstream and the total cannot be read; the route that names the one and the limit that is
    // compared with the other are not at fault.
    one(&file("protocol: spdy", ""), "upstreams.a.protocol");
    one(
        &file("", "timeouts: { total: x, per_try: 1h }, retry: { max_attempts: 5 }"),
        "routes[0].timeouts.total",
    );
    one(&file("", "").replace("upstream: a", "upstrem: a"), "did you mean `upstream`?");
    one(&file("", "").replace("endpoints:", "endpoint:"), "did you mean `endpoints`?");
    one(&file("", "match: [], rewrite: { path_prefix: / }"), "routes[0].match: expected a mapping");
    one(&file("", "retry: { on: [x, reset] }, match: { path: / }"), "routes[0].retry.on[0]");
}

#[test]
fn a_problem_keeps_its_index_when_an_item_before_it_cannot_be_read() {
    let text =
        format!("{}  - {{ upstream: a }}\n  - {{ name: third, upstream: b }}\n", file("", ""));
    let found = problems(&text);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("routes[1]: `name` is required"));
    assert!(
        found[1].starts_with("7:30: routes[2].upstream: there is no upstream `b`"),
        "{}",
        found[1]
    );
}

#[test]
fn names_in_paths_may_hold_dots() {
    let text =
        file("", "match: { host: a }").replace(" a: {", " pay.v1: {").replace("'10.0.0.1:80'", "x");
    let found = problems(&text);
    assert!(
        found[0].starts_with("3:25: upstreams.\"pay.v1\".endpoints[0]: `x` is not"),
        "{found:#?}"
    );
    good(&file("", "").replace(" a: {", " pay.v1: {").replace("upstream: a", "upstream: pay.v1"));
}

#[test]
fn what_a_client_can_do_with_http2_is_bounded() {
    let with = |http2: &str| {
        let limits = format!("name: in, limits: {{ http2: {{ {http2} }} }},");
        file("", "").replace("name: in,", &limits)
    };
    let rates = ["resets_per_second", "pings_per_second", "settings_per_second"];
    for key in rates.into_iter().chain(["max_concurrent_streams"]) {
        assert!(problems(&with(&format!("{key}: 1"))).is_empty(), "{key}");
        assert!(problems(&with(&format!("{key}: 1000000"))).is_empty(), "{key}");
        for wrong in ["0", "1000001"] {
            let problem = format!("listeners[0].limits.http2.{key}: is {wrong}; it must be from 1");
            one(&with(&format!("{key}: {wrong}")), &problem);
        }
    }
    one(&with("ping_per_second: 5"), "did you mean `pings_per_second`?");
}
