//! What can be looked at.

use super::*;
use crate::upstream::endpoint::Endpoint;

const PATHS: [(&str, &str); 12] = [
    ("/", "text/plain; charset=utf-8"),
    ("/metrics", "text/plain; version=0.0.4"),
    ("/healthz", "text/plain; charset=utf-8"),
    ("/readyz", "application/json"),
    ("/config", "application/yaml"),
    ("/problems", "application/json"),
    ("/routes", "application/json"),
    ("/upstreams", "application/json"),
    ("/breakers", "application/json"),
    ("/protection", "application/json"),
    ("/tls", "application/json"),
    ("/explain?url=http://payments.internal/", "application/json"),
];

#[test]
fn every_path_answers_to_get_and_head() {
    let served = Served::with("");
    for (path, kind) in PATHS {
        let got = served.get(path);
        assert_eq!((got.status, got.field("content-type")), (200, Some(kind)), "{path}");
        assert_eq!(got.field("content-length"), Some(got.body.len().to_string().as_str()));
        let head = served.ask(&format!("HEAD {path}"), &[]);
        assert_eq!((head.status, head.body.as_str()), (200, ""), "{path}");
        assert_eq!(head.field("content-type"), Some(kind));
        assert_ne!(head.field("content-length"), Some("0"), "{path}");
    }
}

#[test]
fn other_methods_and_paths_are_refused() {
    let served = Served::with_token();
    for (line, allow) in [
        ("DELETE /config", "GET, HEAD"),
        ("POST /metrics", "GET, HEAD"),
        ("GET /reload", "POST"),
        ("HEAD /breakers/pay/isolate", "POST"),
        ("PUT /breakers/pay/spare/close", "POST"),
    ] {
        let got = served.ask(line, &["authorization: Bearer let-me"]);
        assert_eq!((got.status, got.field("allow")), (405, Some(allow)), "{line}");
    }
    for path in ["/nope", "/breakers/pay", "/breakers/pay/reset", "/config/", "//", "/breakers//x"]
    {
        let got = served.get(path);
        assert_eq!(got.status, 404, "{path}");
        assert_eq!(got.field("content-type"), Some("application/problem+json"));
        assert_eq!(got.json()["status"], 404);
    }
}

#[test]
fn browsers_get_a_page_that_names_every_path() {
    let served = Served::with("");
    let page = served.ask("GET /", &["accept: text/html,*/*;q=0.8"]);
    assert_eq!(page.field("content-type"), Some("text/html; charset=utf-8"));
    let text = served.get("/").body;
    for path in ["/metrics", "/config", "/explain", "/reload", "/breakers/{route}/isolate"] {
        assert!(page.body.contains(path) && text.contains(path), "{path}");
    }
}

#[test]
fn readiness_fails_in_the_drain_and_liveness_does_not() {
    let served = Served::with("");
    assert_eq!(served.json("/readyz"), serde_json::json!({ "ready": true, "generation": 1 }));
    served.proxy.begin_drain();
    let got = served.get("/readyz");
    assert_eq!(got.status, 503);
    assert_eq!(got.json()["reason"], "draining");
    assert_eq!(served.get("/healthz").status, 200);
}

#[test]
fn attempts_in_flight_of_an_upstream_are_those_of_its_endpoints() {
    let served = Served::with("");
    let shown = |upstream: &str| {
        let name = format!("outrigger_upstream_attempts_in_flight{{upstream=\"{upstream}\"}} ");
        let body = served.get("/metrics").body;
        let line = body.lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {name}in\n{body}"))
    };
    let live = Arc::clone(&served.proxy.live());
    let set = live.snapshot.upstreams["payments"].state.endpoints.load_full();
    let mut attempts: Vec<_> = set.endpoints.iter().map(Endpoint::enter).collect();
    assert_eq!((shown("payments").as_str(), shown("spare").as_str()), ("2", "0"));
    attempts.pop();
    assert_eq!(shown("payments"), "1");
    attempts.clear();
    assert_eq!(shown("payments"), "0");
}

#[test]
fn no_view_has_a_secret() {
    let served = Served::with_token();
    for (path, _) in PATHS {
        let body = served.get(path).body;
        assert!(!body.contains("hidden-value") && !body.contains("let-me"), "{path}: {body}");
    }
    assert!(served.get("/config").body.contains("authorization: '***'"));
    let routes = served.json("/routes");
    assert_eq!(routes[0]["policies"]["headers"]["request"]["set"]["authorization"], "***");
}

#[test]
fn routes_have_their_conditions_policies_and_breakers() {
    let routes = Served::with("").json("/routes");
    let pay = &routes[0];
    assert_eq!(pay["name"], "pay");
    assert_eq!(pay["match"], serde_json::json!({ "host": "payments.internal" }));
    let to = serde_json::json!([
        { "name": "payments", "weight": 3, "breaker": "closed" },
        { "name": "spare", "weight": 1, "breaker": "closed" },
    ]);
    assert_eq!(pay["upstreams"], to);
    assert_eq!(pay["policies"]["timeouts"]["total"], "15s");
    assert!(pay["policies"].get("rate_limit").is_none(), "what is not set is not shown");
    assert_eq!(routes[1]["policies"]["circuit_breaker"]["mode"], "observe");
}

#[test]
fn an_endpoint_out_of_the_choice_shows_in_the_view_and_in_the_metrics() {
    let served = Served::with("");
    let live = Arc::clone(&served.proxy.live());
    let upstream = &live.snapshot.upstreams["payments"];
    let endpoint = upstream.state.endpoints.load().endpoints[0].clone();
    let _attempt = endpoint.enter();
    let gauge = |state: &str| {
        let name =
            format!("outrigger_upstream_endpoints{{upstream=\"payments\",state=\"{state}\"}}");
        let text = served.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.map(|value| value.parse::<f64>().unwrap())
    };
    assert_eq!((gauge("available"), gauge("ejected")), (Some(2.0), Some(0.0)));
    let period = endpoint.eject(&upstream.settings, clock::now(), 0.5).as_secs_f64();
    assert_eq!((gauge("available"), gauge("ejected")), (Some(1.0), Some(1.0)));
    let view = &served.json("/upstreams")[0];
    assert_eq!(view["name"], "payments");
    let shown = &view["endpoints"][0];
    assert_eq!((&shown["address"], &shown["state"]), (&"127.0.0.1:9001".into(), &"ejected".into()));
    assert_eq!(shown["in_flight"], 1);
    let left = shown["ejected_for_seconds"].as_f64().unwrap();
    assert!(left > 0.0 && left <= period, "{left} of {period}");
    let other = serde_json::json!({
        "address": "127.0.0.1:9002", "state": "available", "in_flight": 0, "weight": 2, "zone": "b"
    });
    assert_eq!(view["endpoints"][1], other);
    let explained = served.json("/explain?url=http://payments.internal/");
    assert_eq!(explained["route"]["upstreams"][0]["endpoints"][0]["state"], "ejected");
}

#[test]
fn the_budget_in_the_view_is_the_one_in_the_metrics() {
    let served = Served::with("");
    let live = Arc::clone(&served.proxy.live());
    let budget = &served.json("/upstreams")[0]["retry_budget"];
    assert_eq!((&budget["available"], &budget["from_floor"]), (&3.0.into(), &3.0.into()));
    for _ in 0..10 {
        live.snapshot.upstreams["payments"].deposit(clock::now());
    }
    let saved = served.json("/upstreams")[0]["retry_budget"]["from_traffic"].as_f64().unwrap();
    assert!(saved > 1.0, "a fifth of ten requests, up to a cap of more than one: {saved}");
    let metrics = served.get("/metrics").body;
    let wanted = "outrigger_upstream_retry_budget_balance{upstream=\"payments\"} ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(wanted)).unwrap();
    assert!(value.parse::<f64>().unwrap() > 4.0, "{value}");
}

#[test]
fn explain_takes_its_request_from_the_query() {
    let served = Served::with("");
    let query = "method=POST&url=http%3A%2F%2Fpayments.internal%2Fx%3Fa%3D1&header=x-a:+b";
    let explained = served.json(&format!("/explain?{query}&listener=egress"));
    assert_eq!(explained["request"]["method"], "POST");
    assert_eq!(explained["request"]["target"], "/x?a=1");
    assert_eq!(explained["route"]["name"], "pay");
    assert_eq!(explained["route"]["upstreams"][0]["breaker"], "closed");
    assert_eq!(served.json("/explain?url=http://nobody/")["route"], Value::Null);
    for (query, wanted) in [
        ("", "is not a URL"),
        ("?url=/&listener=nowhere", "no listener is named"),
        ("?url=/&header=x", "name: value"),
        ("?url=/&colour=red", "`colour` is no parameter"),
    ] {
        let got = served.get(&format!("/explain{query}"));
        assert_eq!(got.status, 400, "{query}");
        assert!(got.detail().contains(wanted), "{query}: {}", got.detail());
    }
}

#[test]
fn a_foreign_host_on_the_loopback_gets_nothing() {
    let served = Served::with("");
    let ask = |host: &str| {
        let request = format!("GET /config HTTP/1.1\r\nhost: {host}\r\n\r\n");
        exchange(served.connect(), &request)
    };
    for host in ["evil.example", "evil.example:15000", "localhost.evil.example", "127.0.0.1.x"] {
        let got = ask(host);
        assert_eq!(got.status, 421, "{host}");
        assert!(!got.body.contains("egress"));
    }
    for host in ["localhost", "LOCALHOST:15000", "127.0.0.1:15000", "10.0.0.1", "[::1]:15000"] {
        assert_eq!(ask(host).status, 200, "{host}");
    }
}

#[test]
fn what_is_refused_for_the_proxy_s_own_sake_is_told() {
    let served = Served::with("");
    let usage = [Some(0.97), Some(0.1), None, Some(0.002)];
    served.proxy.metrics.protection().set(&[0.8, 0.0, 0.0, 0.0], &usage);
    let shown = served.json("/protection");
    assert_eq!((&shown["refused_tiers"], &shown["tiers"]), (&3.into(), &4.into()), "{shown}");
    let memory = serde_json::json!({
        "resource": "memory", "pressure": 0.8, "usage": 0.97, "start": 0.85, "full": 1.0
    });
    assert_eq!(shown["resources"][0], memory);
    assert_eq!(shown["resources"][2].get("usage"), None, "{shown}");
    let text = served.get("/metrics").body;
    for line in [
        "outrigger_protection_pressure{resource=\"memory\"} 0.8\n",
        "outrigger_protection_usage_ratio{resource=\"descriptors\"} 0.1\n",
    ] {
        assert!(text.contains(line), "{line}");
    }
    assert!(!text.contains("usage_ratio{resource=\"accept_queue\"}"));
}

#[test]
fn certificates_are_told_without_their_keys() {
    let served = Served::with("");
    let issued = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let (cert, key) = (served.folder.path().join("a.crt"), served.folder.path().join("a.key"));
    std::fs::write(&cert, issued.cert.pem()).unwrap();
    std::fs::write(&key, issued.signing_key.serialize_pem()).unwrap();
    let tls = format!("tls: {{ cert: {}, key: {} }}", cert.display(), key.display());
    let text = FILE.replace("127.0.0.1:0\" }]", &format!("127.0.0.1:0\", {tls} }}]"));
    served.proxy.reload(&text).unwrap();
    let shown = &served.json("/tls")[0];
    assert_eq!((&shown["side"], &shown["name"]), (&"listener".into(), &"egress".into()));
    assert_eq!(shown["certificates"][0]["names"], serde_json::json!(["a.test"]));
    assert!(shown["certificates"][0]["expires_in_seconds"].as_i64().unwrap() > 0, "{shown}");
    assert_eq!(shown.get("refused"), None);
    std::fs::write(&cert, "").unwrap();
    served.proxy.live().snapshot.refresh_tls(&served.proxy.metrics);
    let shown = &served.json("/tls")[0];
    assert!(shown["refused"].as_str().unwrap().contains("BEGIN CERTIFICATE"), "{shown}");
    let metrics = served.get("/metrics").body;
    let refused = "outrigger_tls_files_refused{side=\"listener\",name=\"egress\"} 1\n";
    assert!(metrics.contains(refused) && metrics.contains("certificate_expires_seconds{"));
    let config = served.get("/config").body;
    let secret = issued.signing_key.serialize_pem();
    let secret = secret.lines().nth(1).unwrap();
    assert!(config.contains(&key.display().to_string()) && !config.contains(secret));
}
