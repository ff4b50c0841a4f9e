//! Which route and which upstream a request goes to.

use crate::support::client::{Ask, request};
use crate::support::proxy::proxy;
use crate::support::{client, reply, upstream};

#[tokio::test(flavor = "multi_thread")]
async fn the_most_specific_route_that_matches_is_taken() {
    let upstream = upstream().spawn().await;
    let routes = [
        ("exact_host", "{ host: pay.test }"),
        ("any_host", "{}"),
        ("suffix", "{ host: \"*.shop.test\" }"),
        ("exact_path", "{ host: pay.test, path: /v1/charges }"),
        ("prefix", "{ host: pay.test, path_prefix: /v1 }"),
        ("template", "{ host: pay.test, path_template: \"/v1/charges/{id}\" }"),
        ("regex", "{ host: re.test, path_regex: \"/x[0-9]+\" }"),
        ("post", "{ host: pay.test, path: /v1/charges, methods: [POST] }"),
        ("gold", "{ host: pay.test, headers: { x-tier: gold } }"),
        ("not_gold", "{ host: tier.test, headers: { x-tier: { present: false } } }"),
        ("numbered", "{ host: tier.test, query: { id: { regex: \"[0-9]+\" } } }"),
    ];
    let mut yaml = String::from("upstreams: { back: { endpoints: [\"{upstream}\"] } }\nroutes:\n");
    for (name, matches) in routes {
        let names = format!("headers: {{ request: {{ set: {{ x-route: {name} }} }} }}");
        yaml.push_str(&format!(
            "  - {{ name: {name}, match: {matches}, upstream: back, {names} }}\n"
        ));
    }
    let proxy = proxy(&yaml).to(&upstream).spawn().await;
    let ask = |method: &str, host: &str, target: &str| request(method, target).header("host", host);
    let table: Vec<(&str, Ask)> = vec![
        ("any_host", ask("GET", "nobody.test", "/v1")),
        ("any_host", ask("GET", "shop.test", "/")),
        ("suffix", ask("GET", "a.b.shop.test", "/")),
        ("exact_host", ask("GET", "pay.test", "/")),
        ("exact_host", ask("GET", "PAY.test:8080", "/v11")),
        ("prefix", ask("GET", "pay.test", "/v1/other")),
        ("prefix", ask("GET", "pay.test", "/v1")),
        ("exact_path", ask("GET", "pay.test", "/v1/charges?x")),
        ("post", ask("POST", "pay.test", "/v1/charges")),
        ("template", ask("GET", "pay.test", "/v1/charges/7")),
        ("prefix", ask("GET", "pay.test", "/v1/charges/7/8")),
        ("gold", ask("GET", "pay.test", "/").header("x-tier", "gold")),
        ("exact_host", ask("GET", "pay.test", "/").header("x-tier", "golden")),
        ("regex", ask("GET", "re.test", "/x42")),
        ("any_host", ask("GET", "re.test", "/x42/y")),
        ("not_gold", ask("GET", "tier.test", "/")),
        ("numbered", ask("GET", "tier.test", "/?id=42").header("x-tier", "gold")),
        ("any_host", ask("GET", "tier.test", "/?id=x").header("x-tier", "gold")),
    ];
    for (at, (route, ask)) in table.into_iter().enumerate() {
        assert_eq!(client(&proxy).send(ask).await.status(), 200);
        let seen = &upstream.requests()[at];
        assert_eq!(seen.header("x-route"), Some(route), "{at}: {} {}", seen.method, seen.uri);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_route_the_answer_is_a_problem_with_its_reason() {
    let upstream = upstream().spawn().await;
    let yaml = "upstreams: { back: { endpoints: [\"{upstream}\"] } }
routes: [{ name: r, match: { host: pay.test }, upstream: back }]
";
    let proxy = proxy(yaml).to(&upstream).spawn().await;
    for client in [client(&proxy), client(&proxy).http2()] {
        let answer = client.get("/").await;
        assert_eq!((answer.status().as_u16(), answer.reason()), (404, Some("no_route")));
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("retry-after"), None);
        let problem = answer.json();
        assert_eq!(problem["type"], "urn:outrigger:reason:no_route");
        assert_eq!(problem["status"], 404);
    }
    let head = client(&proxy).send(request("HEAD", "/")).await;
    assert_eq!((head.status().as_u16(), head.body.len()), (404, 0));
    let counted = "outrigger_listener_reasons_total{listener=\"in\",reason=\"no_route\"}";
    assert_eq!(proxy.metric(counted), 3.0);
    assert_eq!(upstream.hits(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn weights_split_the_requests() {
    let (one, two, none) =
        (upstream().spawn().await, upstream().spawn().await, upstream().spawn().await);
    let yaml = "upstreams:
  one: { endpoints: [\"{one}\"] }
  two: { endpoints: [\"{two}\"] }
  none: { endpoints: [\"{none}\"] }
routes:
  - name: r
    upstreams: [{ name: one, weight: 3 }, { name: two, weight: 1 }, { name: none, weight: 0 }]
";
    let proxy = proxy(yaml)
        .with("one", one.address())
        .with("two", two.address())
        .with("none", none.address())
        .spawn()
        .await;
    let mut connection = client(&proxy).connect().await;
    for _ in 0..1000 {
        assert_eq!(connection.send(request("GET", "/")).await.status(), 200);
    }
    assert_eq!((one.hits() + two.hits(), none.hits()), (1000, 0));
    // 750 expected, standard deviation 13.7: seven of them either way.
    assert!((654..=846).contains(&one.hits()), "{} of 1000 where 750 are due", one.hits());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_sends_the_next_request_of_an_open_connection_elsewhere() {
    let (old, new) = (
        upstream().always(|| reply(200).body("old")).spawn().await,
        upstream().always(|| reply(200).body("new")).spawn().await,
    );
    let yaml = "upstreams: { back: { endpoints: [\"{upstream}\"] } }
routes: [{ name: r, upstream: back }]
";
    let proxy = proxy(yaml).to(&old).spawn().await;
    let mut connection = client(&proxy).connect().await;
    assert_eq!(connection.send(request("GET", "/")).await.text(), "old");
    let text = proxy.text.replace(&old.address().to_string(), &new.address().to_string());
    proxy.app().proxy.reload(&text).expect("the configuration is good");
    let mut answer = String::new();
    while answer != "new" {
        answer = connection.send(request("GET", "/")).await.text().to_owned();
        assert!(["old", "new"].contains(&answer.as_str()), "{answer}");
    }
}
