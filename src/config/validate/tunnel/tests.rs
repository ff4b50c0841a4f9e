use crate::config::testing::{file, good, problems};

fn one(text: &str, problem: &str) {
    let found = problems(text);
    assert_eq!(found.len(), 1, "{found:#?}\n{text}");
    assert!(found[0].contains(problem), "{found:#?}");
}

#[test]
fn websocket_is_let_through_unless_the_route_says_otherwise() {
    let upgrades = |route: &str| good(&file("", route)).config.routes[0].upgrades.clone();
    assert_eq!(upgrades(""), ["websocket"]);
    assert_eq!(upgrades("upgrades: []"), [""; 0]);
    assert_eq!(upgrades("upgrades: [websocket, SPDY/3.1, tcp]"), ["websocket", "SPDY/3.1", "tcp"]);
    let defaults = format!("{}defaults: {{ route: {{ upgrades: [] }} }}\n", file("", ""));
    assert_eq!(good(&defaults).config.routes[0].upgrades, [""; 0]);
}

#[test]
fn a_protocol_that_cannot_pass_is_told_at_its_place() {
    let upgrades = |list: &str| file("", &format!("upgrades: {list}"));
    for own in ["h2c", "H2C", "h2", "HTTP/2.0", "TLS/1.0", "tls"] {
        let text = upgrades(&format!("[websocket, {own}]"));
        one(&text, "routes[0].upgrades[1]: `");
        one(&text, "cannot pass: the proxy could not see the requests in it");
    }
    one(&upgrades("['']"), "upgrades[0]: `` is not a protocol");
    one(&upgrades("['a b']"), "`a b` is not a protocol; write a name or name/version");
    one(&upgrades("['a/']"), "`a/` is not a protocol");
    one(&upgrades("[websocket, WebSocket]"), "[1]: `WebSocket` is in this list already");
    let many: Vec<String> = (0..17).map(|n| format!("p{n}")).collect();
    one(&upgrades(&format!("[{}]", many.join(", "))), "upgrades: has 17 entries; 16 is the most");
    one(&upgrades("websocket"), "routes[0].upgrades");
}

#[test]
fn a_tunnel_goes_to_no_upstream_under_tls() {
    let connect = "match: { methods: [CONNECT] }";
    assert!(problems(&file("", connect)).is_empty());
    assert!(problems(&file("tls: {}", "match: { methods: [GET] }")).is_empty());
    one(&file("tls: {}", connect), "routes[0].upstream: `a` has `tls`, and what goes through");
    let weighted = file("tls: {}", connect)
        .replace("upstream: a", "upstreams: [{ name: b, weight: 1 }, { name: a, weight: 1 }]")
        .replace("routes:", "  b: { endpoints: ['10.0.0.2:80'] }\nroutes:");
    one(&weighted, "routes[0].upstreams[1].name: `a` has `tls`");
}
