use std::path::Path;

use super::*;
use crate::clock;
use crate::config::{self, Environment};
use crate::policy::retry::Suppressed;
use crate::records::registry::Registry;
use crate::telemetry::metrics::Metrics;

/// Has one variable and no files.
struct OneVariable;

impl Environment for OneVariable {
    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        Ok((name == "KEY").then(|| "a-long-secret".to_owned()))
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        Err(format!("there is no {}", path.display()))
    }
}

const FILE: &str = r#"
listeners:
  - { name: egress, bind: "127.0.0.1:0" }
  - { name: outside, bind: "127.0.0.1:0", trust: none }
upstreams:
  payments: { endpoints: ["127.0.0.1:9001", { address: "pay.internal:9002", weight: 2, zone: b }] }
  spare: { endpoints: ["127.0.0.1:9003"], retry_budget: { ratio: 10%, min_per_second: 1 } }
routes:
  - name: charge
    match:
      host: payments.internal
      path: /v1/charges
      methods: [POST]
      headers: { x-api-key: "${KEY}" }
    upstream: payments
    retry: { unsafe_methods: always }
  - name: pay
    match: { host: payments.internal, path_prefix: /v1 }
    upstreams: [{ name: payments, weight: 3 }, { name: spare, weight: 1 }]
    rewrite: { path_prefix: /api, host: pay.svc }
    timeouts: { total: 10s }
    retry: { max_attempts: 4 }
    headers: { request: { set: { authorization: "Bearer ${KEY}" } } }
  - name: user
    match: { host: users.internal, path_template: "/users/{id}" }
    upstream: spare
    rewrite: { path: "/v2/{id}/profile" }
    timeouts: { total: null, per_try: 250ms }
    retry: { mode: "off" }
  - name: inside
    match: { host: users.internal, path: /admin, listeners: [egress] }
    upstream: spare
    retry: { unsafe_methods: never }
    cache: { stale_if_error: 1m }
    fallback: [stale, { upstream: payments }, { respond: { status: 203 } }]
  - name: steered
    match: { host: users.internal, path: /steered, headers: { x-priority: { present: true } } }
    upstream: spare
"#;

fn snapshot() -> Snapshot {
    let loaded = config::read(FILE, &OneVariable).unwrap();
    Snapshot::compile(loaded, None, &Metrics::new(Suppressed::NAMES), &Registry::default()).unwrap()
}

fn asked(method: &str, url: &str) -> Asked {
    Asked { method: method.to_owned(), url: url.to_owned(), ..Asked::default() }
}

fn told(asked: &Asked) -> Explanation {
    explain(&snapshot(), asked, None).unwrap()
}

fn followed(method: &str, url: &str) -> Followed {
    told(&asked(method, url)).route.unwrap()
}

#[test]
fn a_request_is_followed_to_its_upstreams() {
    let route = followed("POST", "http://payments.internal/v1/refunds?id=7");
    assert_eq!(route.name, "pay");
    assert_eq!(route.sent.target.as_deref(), Some("/api/refunds?id=7"));
    assert_eq!(route.sent.host.as_deref(), Some("pay.svc"));
    let shares: Vec<_> = route.upstreams.iter().map(|to| (to.name.as_str(), to.share)).collect();
    assert_eq!(shares, [("payments", 0.75), ("spare", 0.25)]);
    let endpoints: Vec<_> =
        route.upstreams[0].endpoints.iter().map(|e| (e.address.as_str(), e.weight)).collect();
    assert_eq!(endpoints, [("127.0.0.1:9001", 1), ("pay.internal:9002", 2)]);
    assert_eq!(route.timeouts.per_try.as_deref(), Some("2500ms"), "10s over four attempts");
    assert!(route.upstreams[0].breaker.is_none(), "a file has no state");
}

#[test]
fn a_path_that_others_read_otherwise_is_told_to_be_refused() {
    let told = explain(&snapshot(), &asked("GET", "http://payments.internal/v1/..%2fx"), None);
    assert!(told.unwrap_err().starts_with("the answer is 400 bad_request: Other servers can"));
    assert_eq!(followed("GET", "http://payments.internal/v1/a%2fx").name, "pay");
}

#[test]
fn a_running_proxy_tells_its_state() {
    let told =
        explain(&snapshot(), &asked("GET", "http://payments.internal/v1/"), Some(clock::now()));
    let upstream = told.unwrap().route.unwrap().upstreams.remove(0);
    assert_eq!(upstream.breaker, Some("closed"));
    assert_eq!(upstream.retry_budget.available, Some(3.0), "a floor of three, and no traffic yet");
    let endpoints: Vec<_> =
        upstream.endpoints.iter().map(|e| (e.address.as_str(), e.state)).collect();
    assert_eq!(endpoints, [("127.0.0.1:9001", Some("available"))], "the name is not resolved yet");
}

#[test]
fn whether_the_method_is_tried_again_is_told() {
    let again = |method: &str, url: &str| followed(method, url).retry.this_request;
    assert_eq!(again("GET", "http://payments.internal/v1/x"), Again::Yes);
    assert_eq!(again("PUT", "http://payments.internal/v1/x"), Again::Yes);
    assert_eq!(again("POST", "http://payments.internal/v1/x"), Again::OnlyUnsent);
    assert_eq!(again("GET", "http://users.internal/users/1"), Again::No, "mode is off");
    assert_eq!(again("PATCH", "http://users.internal/admin"), Again::No, "never");
    let key = Asked {
        headers: vec!["X-Api-Key: a-long-secret".to_owned()],
        ..asked("POST", "http://payments.internal/v1/charges")
    };
    let route = told(&key).route.unwrap();
    assert_eq!((route.name.as_str(), route.retry.this_request), ("charge", Again::Yes), "always");
}

#[test]
fn captures_and_dot_segments_are_treated_as_in_a_request() {
    let route = followed("GET", "http://users.internal/users/7?x=1");
    assert_eq!(route.sent.target.as_deref(), Some("/v2/7/profile?x=1"));
    assert_eq!(route.timeouts.total, None);
    assert_eq!(route.timeouts.per_try.as_deref(), Some("250ms"));
    let refused = followed("GET", "http://payments.internal/v1/a/../secret").sent;
    assert!(refused.refused.is_some() && refused.target.is_none());
}

#[test]
fn the_links_that_would_answer_a_failure_are_told_in_their_order() {
    let links = |method: &str| {
        let route = followed(method, "http://users.internal/admin");
        let told = |link: super::FallbackLink| format!("{}: {}", link.link, link.when);
        route.fallback.into_iter().map(told).collect::<Vec<_>>()
    };
    assert_eq!(
        links("GET"),
        [
            "stale: if a good answer is kept and not too old",
            "upstream:payments: if there is time left",
            "respond: always"
        ]
    );
    assert_eq!(
        links("POST")[..2],
        [
            "stale: never: only GET is answered from what is kept",
            "upstream:payments: only if nothing was sent"
        ]
    );
    let text = told(&asked("GET", "http://users.internal/admin")).to_string();
    assert!(text.contains("fallback    1. stale: if"), "{text}");
    let upstreams = followed("GET", "http://users.internal/admin").upstreams;
    let shares: Vec<_> = upstreams.iter().map(|to| (to.name.as_str(), to.share)).collect();
    assert_eq!(shares, [("spare", 1.0), ("payments", 0.0)]);
}

#[test]
fn near_misses_name_the_first_condition_that_fails_and_the_nearest_come_first() {
    let told = told(&asked("GET", "http://payments.internal/v2"));
    assert!(told.route.is_none());
    let misses: Vec<_> = told.misses.iter().map(|m| (m.route.as_str(), m.condition)).collect();
    let wanted = [
        ("charge", "path"),
        ("pay", "path"),
        ("user", "host"),
        ("inside", "host"),
        ("steered", "host"),
    ];
    assert_eq!(misses, wanted);
    assert_eq!(told.misses[1].wants, "/v1 and below");
}

#[test]
fn a_route_of_the_same_path_that_was_passed_by_is_named_with_its_reason() {
    let passed = |headers: &[&str], method: &str| {
        let headers = headers.iter().map(|field| (*field).to_owned()).collect();
        let told = told(&Asked { headers, ..asked(method, "http://payments.internal/v1/charges") });
        assert_eq!(told.route.unwrap().name, "pay");
        told.misses
    };
    let [by_method] = &passed(&[], "GET")[..] else { panic!("one route has this path") };
    assert_eq!((by_method.condition, by_method.wants.as_str()), ("method", "POST"));
    let [by_header] = &passed(&["x-api-key: other"], "POST")[..] else { panic!("one route") };
    assert_eq!(by_header.condition, "header");
    assert_eq!(by_header.wants, "x-api-key with the value of the file");
}

#[test]
fn the_listener_decides_who_is_believed_and_which_routes_there_are() {
    let on = |listener: &str, path: &str| {
        told(&Asked {
            listener: Some(listener.to_owned()),
            headers: vec!["x-priority: high".to_owned()],
            ..asked("GET", &format!("http://users.internal{path}"))
        })
    };
    assert!(on("egress", "/admin").route.is_some());
    assert_eq!(on("outside", "/admin").misses[0].condition, "listener");
    assert!(on("egress", "/steered").route.is_some());
    assert_eq!(on("outside", "/steered").misses[0].condition, "header", "it is not believed there");
}

#[test]
fn no_form_of_an_explanation_has_a_secret() {
    for (method, path) in [("POST", "/v1/x"), ("POST", "/v1/charges"), ("GET", "/other")] {
        for fields in [vec![], vec!["x-api-key: a-long-secret".to_owned()]] {
            let url = format!("http://payments.internal{path}");
            let told = told(&Asked { headers: fields, ..asked(method, &url) });
            let json = serde_json::to_string(&told).unwrap();
            assert!(!json.contains("a-long-secret"), "{json}");
            assert!(!told.to_string().contains("a-long-secret"), "{told}");
        }
    }
}

#[test]
fn what_is_no_request_is_refused_in_a_sentence_without_values() {
    let refused = |asked: &Asked| explain(&snapshot(), asked, None).unwrap_err();
    for url in ["", "ftp://a/b", "payments.internal", "http://", "http://a b/"] {
        let sentence = refused(&asked("GET", url));
        assert!(sentence.contains("http://host/path"), "{url}: {sentence}");
    }
    assert!(refused(&asked("G ET", "/")).contains("not a method"));
    let with = |field: &str| Asked { headers: vec![field.to_owned()], ..asked("GET", "/") };
    assert!(refused(&with("no colon")).contains("name: value"));
    assert!(refused(&with("bad name: x")).contains("bad name"));
    let sentence = refused(&with("authorization: se\u{1}cret"));
    assert!(sentence.contains("authorization") && !sentence.contains("cret"), "{sentence}");
    let listener = Asked { listener: Some("nowhere".to_owned()), ..asked("GET", "/") };
    assert_eq!(refused(&listener), "no listener is named `nowhere`; there is `egress`, `outside`");
}

#[test]
fn a_path_alone_takes_its_host_from_the_header() {
    let with_host =
        Asked { headers: vec!["host: payments.internal:80".to_owned()], ..asked("GET", "/v1/x") };
    assert_eq!(told(&with_host).route.unwrap().name, "pay");
    let without = told(&asked("GET", "/v1/x"));
    assert!(without.route.is_none() && without.request.host.is_empty());
}

#[test]
fn the_text_fits_a_screen_and_begins_with_the_answer() {
    let text = told(&asked("POST", "http://payments.internal/v1/charges")).to_string();
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.lines().count() <= 30, "{text}");
    let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("no `{part}` in\n{text}"));
    let parts = [
        "POST payments.internal /v1/charges on egress",
        "route       pay",
        "sent as     POST /api/charges, host pay.svc",
        "upstream    payments, 75.0% of requests",
        "timeouts    total 10s, per try 2500ms",
        "retry       only if the upstream executed nothing of it: POST is not safe to repeat",
        "not         charge: wants header x-api-key",
    ];
    assert!(parts.map(at).is_sorted(), "{text}");
}

#[test]
fn what_is_done_with_a_key_is_told() {
    let text = |keys: &str, method: &str| {
        let file = format!(
            "listeners: [{{ name: in, bind: \"127.0.0.1:0\" }}]\n\
             stores: {{ s: {{ memory: {{}} }} }}\n\
             upstreams: {{ u: {{ endpoints: [\"127.0.0.1:9001\"] }} }}\n\
             routes: [{{ name: r, upstream: u, idempotency: {{ {keys} }} }}]\n"
        );
        let loaded = config::read(&file, &OneVariable).unwrap();
        let (metrics, stores) = (Metrics::new(Suppressed::NAMES), Registry::default());
        let snapshot = Snapshot::compile(loaded, None, &metrics, &stores).unwrap();
        explain(&snapshot, &asked(method, "http://a/"), None).unwrap().to_string()
    };
    let enforced = text("store: s, scope: [none]", "POST");
    assert!(enforced.contains("executed once for each key of none, in store s"), "{enforced}");
    assert!(text("store: s, scope: [none]", "GET").contains("GET is not covered"));
    assert!(text("role: originate", "POST").contains("gets a key if it has none"));
}

#[test]
fn calls_of_grpc_are_told_by_their_type() {
    let file = "listeners: [{ name: in, bind: '127.0.0.1:0' }]
upstreams: { a: { endpoints: ['127.0.0.1:9001'], protocol: http2 } }
routes:
  - { name: charge, match: { grpc: { service: pay.Payments, method: Charge } }, upstream: a }
";
    let loaded = config::read(file, &OneVariable).unwrap();
    let metrics = Metrics::new(Suppressed::NAMES);
    let snapshot = Snapshot::compile(loaded, None, &metrics, &Registry::default()).unwrap();
    let call = |url: &str, kind: &str| {
        let headers = vec![format!("content-type: {kind}")];
        explain(&snapshot, &Asked { headers, ..asked("POST", url) }, None).unwrap()
    };
    let found = call("/pay.Payments/Charge", "application/grpc").route.unwrap();
    assert_eq!(found.name, "charge");
    let wants = serde_json::json!({ "grpc": { "service": "pay.Payments", "method": "Charge" } });
    assert_eq!(found.r#match, wants);
    let miss = |url: &str, kind: &str| {
        let miss = call(url, kind).misses.remove(0);
        (miss.condition, miss.wants)
    };
    let post = "a POST with content-type application/grpc".to_owned();
    assert_eq!(miss("/pay.Payments/Charge", "application/json"), ("grpc", post));
    let path = "/pay.Payments/Charge".to_owned();
    assert_eq!(miss("/pay.Payments/Refund", "application/grpc"), ("path", path));
}
