use crate::config::testing::{file, good, problems};
use crate::proxy_protocol::Version;

/// A listener with these settings, an upstream with these and a route with these.
fn whole(listener: &str, upstream: &str, route: &str) -> String {
    format!(
        "listeners: [{{ name: in, bind: '127.0.0.1:15001', {listener} }}]\n\
         upstreams:\n  a: {{ {upstream} }}\n\
         routes:\n  - {{ name: r, upstream: a, {route} }}\n"
    )
}

const TAKES: &str = "original_destination: true";
const BRINGS: &str = "original_destination: {}, concurrency: { mode: off }";
const OFF: &str = "circuit_breaker: { mode: off }";

fn one(text: &str, problem: &str) {
    let found = problems(text);
    assert_eq!(found.len(), 1, "{found:#?}\n{text}");
    assert!(found[0].contains(problem), "{found:#?}");
}

#[test]
fn an_upstream_may_take_the_destination_of_its_requests() {
    let loaded = good(&whole(TAKES, BRINGS, OFF));
    let own = loaded.config.upstreams["a"].original_destination.as_ref();
    assert_eq!(own.map(|own| own.max_endpoints), Some(256));
    let many = BRINGS.replace("{}", "{ max_endpoints: 1001 }");
    one(&whole(TAKES, &many, OFF), "max_endpoints: is 1001; it must be from 1 to 1000");
    let none = BRINGS.replace("{}", "{ max_endpoints: 0 }");
    one(&whole(TAKES, &none, OFF), "max_endpoints: is 0");
}

#[test]
fn what_has_no_sense_without_endpoints_of_ones_own_is_refused() {
    for (more, problem) in [
        ("endpoints: ['10.0.0.1:80']", "stands beside `endpoints` or `dns`"),
        ("dns: { name: 'a:80' }", "stands beside `endpoints` or `dns`"),
        ("health_check: { path: / }", "upstreams.a.health_check: would ask every server"),
        ("zone: b", "upstreams.a.zone: does nothing here"),
    ] {
        one(&whole(TAKES, &format!("{BRINGS}, {more}"), OFF), problem);
    }
    let limited = BRINGS.replace("concurrency: { mode: off }", "slow_start: 1s");
    one(&whole(TAKES, &limited, OFF), "upstreams.a.concurrency: would let one slow destination");
    one(
        &whole(TAKES, BRINGS, "priority: default"),
        "routes[0].circuit_breaker: would close the way",
    );
    let fallback = "fallback: [{ upstream: any }]";
    let text = whole(TAKES, "endpoints: ['10.0.0.1:80']", fallback);
    let text = text.replace("routes:", &format!("  any: {{ {BRINGS} }}\nroutes:"));
    one(&text, "would close the way to every destination of `any`");
    let mirror = text.replace(fallback, "mirror: { upstream: any }");
    one(&mirror, "`any` has no endpoints of its own to copy to");
}

#[test]
fn the_destination_is_the_kernels_word_for_a_tcp_connection() {
    one(&whole("trust: none", BRINGS, OFF), "a.original_destination: has no listener that takes");
    let unix = whole(TAKES, BRINGS, OFF).replace("127.0.0.1:15001", "unix:/run/x");
    one(&unix, "listeners[0].original_destination: does nothing on a unix socket");
    let told = format!("{TAKES}, proxy_protocol: true");
    one(&whole(&told, BRINGS, OFF), "stands beside `proxy_protocol`");
}

#[test]
fn a_header_names_one_client_and_so_is_for_connections_of_one() {
    for (text, version) in [("v1", Version::V1), ("v2", Version::V2)] {
        let loaded = good(&file(&format!("proxy_protocol: {text}"), ""));
        assert_eq!(loaded.config.upstreams["a"].proxy_protocol, Some(version));
    }
    assert!(!problems(&file("proxy_protocol: v3", "")).is_empty());
    for protocol in ["http2", "auto"] {
        let keys = format!("proxy_protocol: v2, protocol: {protocol}");
        one(&file(&keys, ""), "upstreams.a.proxy_protocol: needs `protocol: http1`");
    }
}
