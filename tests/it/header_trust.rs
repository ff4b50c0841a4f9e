//! Fields that steer the proxy or speak for others: what is left of them on a side that is not
//! believed, over HTTP/1 and HTTP/2, under any spelling.

use crate::support::client::{client, request};
use crate::support::proxy::one_route;
use crate::support::upstream;

/// What only a trusted side may say.
const STEERING: &[(&str, &str)] = &[
    ("x-outrigger-shed", "1"),
    ("x-outrigger-mirror", "1"),
    ("x-outrigger-tried", "1"),
    ("x-outrigger-anything", "1"),
    ("x-retry-attempt", "1"),
    ("x-request-timeout-ms", "60000"),
    ("x-envoy-expected-rq-timeout-ms", "60000"),
    ("x-priority", "critical"),
    ("x-brownout", "3"),
];

/// What an application that knows no difference between `-` and `_` would take for them.
const ALIKE: &[&str] = &[
    "x_outrigger_shed",
    "x-outrigger_mirror",
    "x_outrigger-anything",
    "x_retry_attempt",
    "x_request_timeout_ms",
    "x_envoy-expected-rq_timeout-ms",
    "x_priority",
    "x_brownout",
    "x_forwarded_for",
    "x-forwarded_proto",
    "x_forwarded-host",
];

/// What is nobody's business but the application's.
const PASSING: &[(&str, &str)] = &[
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    ("tracestate", "a=b"),
    ("baggage", "a=b"),
    ("x-request-id", "r"),
    ("authorization", "Bearer t"),
    ("idempotency-key", "k"),
    ("x_own_field", "1"),
    ("x-outriggered", "1"),
    ("x-forwarded-for", "192.0.2.1"),
];

#[tokio::test]
async fn nothing_that_steers_is_believed_of_anybody() {
    for http2 in [false, true] {
        let upstream = upstream().spawn().await;
        let proxy = one_route(&upstream, "").listening("trust: none").spawn().await;
        let client = if http2 { client(&proxy).http2() } else { client(&proxy) };
        let mut ask = request("GET", "/");
        let alike = ALIKE.iter().map(|name| (*name, "1"));
        for (name, value) in STEERING.iter().chain(PASSING).copied().chain(alike) {
            ask = ask.header(name, value);
        }
        assert_eq!(client.send(ask).await.status(), 200);
        let seen = upstream.request();
        for (name, value) in PASSING {
            assert_eq!(seen.header(name), Some(*value), "{name}");
        }
        for name in ALIKE {
            assert_eq!(seen.header(name), None, "{name}");
        }
        for (name, value) in STEERING {
            // Our own word for the time that is left stands in the place of the caller's.
            assert_ne!(seen.header(name), Some(*value), "{name}");
        }
        let names: Vec<&str> = seen.headers.keys().map(http::HeaderName::as_str).collect();
        assert!(!names.iter().any(|name| name.starts_with("x-outrigger-")), "{names:?}");
    }
}

#[tokio::test]
async fn a_trusted_side_is_believed() {
    let upstream = upstream().spawn().await;
    let proxy = one_route(&upstream, "").listening("trust: local").spawn().await;
    let mut ask = request("GET", "/");
    for name in ["x-outrigger-anything", "x-priority", "x_priority"] {
        ask = ask.header(name, "1");
    }
    assert_eq!(client(&proxy).send(ask).await.status(), 200);
    let seen = upstream.request();
    for name in ["x-outrigger-anything", "x-priority", "x_priority"] {
        assert_eq!(seen.header(name), Some("1"), "{name}");
    }
}

#[tokio::test]
async fn forwarding_fields_are_as_their_rule_says() {
    for (mode, address, host) in [
        ("pass", Some("192.0.2.1"), Some("first.test")),
        ("append", Some("192.0.2.1, 127.0.0.1"), None),
        ("replace", Some("127.0.0.1"), None),
        ("remove", None, None),
    ] {
        for http2 in [false, true] {
            let upstream = upstream().spawn().await;
            let rules = format!("trust: none, forwarded: {{ x_forwarded: {mode} }}");
            let proxy = one_route(&upstream, "").listening(&rules).spawn().await;
            let client = if http2 { client(&proxy).http2() } else { client(&proxy) };
            let ask = request("GET", "/")
                .header("x-forwarded-for", "192.0.2.1")
                .header("x-forwarded-host", "first.test")
                .header("x_forwarded_for", "192.0.2.66");
            assert_eq!(client.send(ask).await.status(), 200);
            let seen = upstream.request();
            let lines: Vec<&str> = seen
                .headers
                .get_all("x-forwarded-for")
                .iter()
                .map(|line| line.to_str().expect("text"))
                .collect();
            let list = (!lines.is_empty()).then(|| lines.join(", "));
            assert_eq!(list.as_deref(), address, "{mode}");
            // What an untrusted side says of its first host is not kept by a rule that writes.
            if host.is_some() || mode == "remove" {
                assert_eq!(seen.header("x-forwarded-host"), host, "{mode}");
            } else {
                assert_ne!(seen.header("x-forwarded-host"), Some("first.test"), "{mode}");
            }
            assert_eq!(seen.header("x_forwarded_for"), None, "{mode}");
        }
    }
}

#[tokio::test]
async fn a_path_of_another_route_gets_no_further() {
    for http2 in [false, true] {
        let upstream = upstream().spawn().await;
        let proxy = crate::support::proxy::proxy(
            "listeners:\n  - { name: in, bind: \"127.0.0.1:0\" }\n\
             \x20 - { name: free, bind: \"127.0.0.1:0\", ambiguous_paths: pass }\n\
             upstreams: { back: { endpoints: [\"{upstream}\"] } }\nroutes:\n\
             \x20 - { name: public, match: { path_prefix: /public }, upstream: back }\n\
             \x20 - { name: admin, match: { path_prefix: /admin }, upstream: back }\n",
        );
        let proxy = proxy.to(&upstream).spawn().await;
        let strict = client(&proxy);
        let free = crate::support::client::client_at(proxy.listener("free"));
        let [strict, free] = [strict, free].map(|it| if http2 { it.http2() } else { it });
        for path in ["/public/../admin", "/public/..%2fadmin", "/public/..;/admin", "/public/%00"] {
            let answer = strict.get(path).await;
            assert_eq!(answer.status(), 400, "{path}");
            assert_eq!(answer.header("x-outrigger-reason"), Some("bad_request"), "{path}");
            assert_eq!(free.get(path).await.status(), 200, "{path}");
        }
        for path in ["/public/a%2Fb", "/public//x", "/public/a;v=1", "/admin"] {
            assert_eq!(strict.get(path).await.status(), 200, "{path}");
            // What the upstream gets is what came.
            assert_eq!(upstream.requests().last().expect("a request").uri.path(), path);
        }
    }
}
