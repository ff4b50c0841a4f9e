use crate::config::route::ValueMatch;
use crate::config::testing::{file, good, problems};

#[test]
fn the_wanted_type_decides_how_a_scalar_is_read() {
    let route = "match: { host: off, query: { a: 8080, b: true, c: 1.5 }, headers: { d: no } }, \
                 retry: { on: [503, \"504\"] }, circuit_breaker: { failures: [5xx] }, \
                 headers: { request: { set: { e: 007, f: false } } }";
    let config = good(&file("slow_start: 0, health_check: { expect: 204 }", route)).config;
    let route = &config.routes[0];
    assert_eq!(route.matches.host.as_deref(), Some("off"));
    let exact = |text: &str| ValueMatch::Exact(text.to_owned());
    assert_eq!(route.matches.query["a"], exact("8080"));
    assert_eq!(route.matches.query["b"], exact("true"));
    assert_eq!(route.matches.query["c"], exact("1.5"));
    assert_eq!(route.matches.headers["d"], exact("no"));
    assert_eq!(route.headers.request.set["e"], "007");
    assert_eq!(route.headers.request.set["f"], "false");
    assert_eq!(route.retry.on.len(), 2);
    assert!(config.upstreams["a"].slow_start.is_zero());
}

#[test]
fn quotes_make_a_text_and_null_is_not_a_setting() {
    for (route, message) in [
        ("retry: { max_attempts: \"3\" }", "expected a whole number, 0 or more, found `3`"),
        ("retry: { other_endpoint: yes }", "expected `true` or `false`, found `yes`"),
        ("retry: { other_endpoint: 'true' }", "expected `true` or `false`, found `true`"),
        ("retry: null", "expected a mapping, found nothing (null)"),
        ("retry: { on: }", "expected a list, found nothing (null)"),
        ("retry: { on: reset }", "expected a list, found `reset`"),
        ("retry: { mode: null }", "expected `off`, `observe` or `enforce`, found nothing (null)"),
        ("retry: { mode: on }", "found `on`"),
        (
            "retry: { max_attempts: 4294967296 }",
            "expected a whole number up to 4294967295, found `4294967296`",
        ),
        ("retry: { max_attempts: 99999999999999999999 }", "found `99999999999999999999`"),
        ("retry: { max_attempts: -1 }", "found `-1`"),
        ("retry: { max_attempts: 1.5 }", "found `1.5`"),
        (
            "timeouts: { total: { a: b } }",
            "a length of time such as 250ms, 2s, 5m or 24h, found a map",
        ),
        ("timeouts: { connect: null }", "expected a length of time"),
        (
            "match: { headers: { a: { regex: x, present: true } } }",
            "`regex` or `present`, not both",
        ),
        ("match: { headers: { a: {} } }", "write `regex` or `present`"),
        ("match: { headers: { a: { rgex: x } } }", "did you mean `regex`?"),
        (
            "match: { headers: { a: [] } }",
            "a text, or a mapping with `regex` or `present`, found a",
        ),
    ] {
        let found = problems(&file("", route));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(message), "{found:#?}");
    }
}

#[test]
fn everything_wrong_with_a_route_is_found_at_once() {
    let text = file(
        "pool: { max_connections: lots, idle: 1s }, endpoints: x",
        "retry: { max_attempts: x, onn: [], backoff: { base: 1, max: 2 }, on: [a, reset, b] }, \
         upstream: b, timeoutz: {}, match: { methods: [[], get] }",
    );
    let text = text.replace("endpoints: ['10.0.0.1:80'], ", "").replace("upstream: a, ", "");
    let found = problems(&text);
    let expected = [
        "upstreams.a.pool.max_connections: expected a whole number, 0 or more, found `lots`",
        "upstreams.a.pool.idle: there is no such setting; did you mean `idle_timeout`?",
        "upstreams.a.endpoints: expected a list, found `x`",
        "routes[0].retry.max_attempts: expected a whole number, 0 or more, found `x`",
        "routes[0].retry.onn: there is no such setting; did you mean `on`?",
        "routes[0].retry.backoff.base: `1` is not a length of time",
        "routes[0].retry.backoff.max: `2` is not a length of time",
        "routes[0].retry.on[0]: `a` is not a condition",
        "routes[0].retry.on[2]: `b` is not a condition",
        "routes[0].upstream: there is no upstream `b`",
        "routes[0].timeoutz: there is no such setting; did you mean `timeouts`?",
        "routes[0].match.methods[0]: expected a text, found a list",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found}\nis not\n{expected}");
    }
}

#[test]
fn all_required_names_are_asked_for_together() {
    let text = "listeners: [{}, { name: 5x, bind: [] }]\nroutes: [{ upstreams: [{}] }]\n\
                upstreams: { a: { dns: {} } }\n";
    let found = problems(text);
    assert_eq!(found.len(), 5, "{found:#?}");
    assert!(found[0].ends_with("listeners[0]: `name` and `bind` are required"));
    assert!(found[1].contains("listeners[1].bind: expected an address"));
    assert!(found[2].ends_with("routes[0]: `name` is required"));
    assert!(found[3].ends_with("routes[0].upstreams[0]: `name` and `weight` are required"));
    assert!(found[4].ends_with("upstreams.a.dns: `name` is required"));
}

#[test]
fn the_required_names_are_those_of_the_types() {
    let schema = crate::config::schema();
    for (structure, definition) in schema["$defs"].as_object().unwrap() {
        let required: Vec<&str> = definition["required"]
            .as_array()
            .map(|names| names.iter().filter_map(serde_json::Value::as_str).collect())
            .unwrap_or_default();
        let known = super::fault::REQUIRED.iter().find(|(name, _)| name == structure);
        match known {
            Some((_, names)) => assert_eq!(required, *names, "{structure}"),
            None => assert!(required.len() < 2, "{structure} requires {required:?}"),
        }
    }
}

#[test]
fn a_setting_of_a_later_version_is_named() {
    let found =
        problems(&format!("{}telemetry: {{ tracing: {{ x: 1 }} }}\n", file("", "faults: [x]")));
    for path in ["routes[0].faults", "telemetry.tracing"] {
        let hit = found.iter().any(|p| p.contains(&format!("{path}: is not available yet")));
        assert!(hit, "{path}: {found:#?}");
    }
    assert_eq!(found.len(), 2);
    assert!(problems(&file("tls: null", "faults: []")).is_empty());
}

#[test]
fn a_file_in_which_everything_is_wrong_is_read_in_bounds() {
    let many: String =
        (0..5000).map(|n| format!("  - {{ name: r{n}, x: 1, y: 2, z: 3 }}\n")).collect();
    let found = problems(&format!("routes:\n{many}"));
    assert_eq!(found.len(), crate::config::problem::MAX_PROBLEMS);
}
