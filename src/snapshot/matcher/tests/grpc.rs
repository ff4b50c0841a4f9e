//! Calls of gRPC by service and method.

use super::*;

fn call(path: &str) -> Request {
    Request::new(&format!("POST {path}")).header("content-type", "application/grpc+proto")
}

#[test]
fn what_is_not_given_is_any() {
    let matcher = table(&[
        "grpc: { service: pay.Payments, method: Charge }",
        "grpc: { service: pay.Payments }",
        "grpc: { method: Charge }",
        "grpc: {}",
    ]);
    for (path, route) in [
        ("h/pay.Payments/Charge", Some(0)),
        ("h/pay.Payments/Refund", Some(1)),
        ("h/pay.Other/Charge", Some(2)),
        ("h/pay.Other/Refund", Some(3)),
        ("h/pay.Payments/", None),
        ("h/pay.Payments", None),
        ("h/v1/pay.Payments/Charge", None),
        ("h/pay.payments/charge", Some(3)),
    ] {
        assert_eq!(call(path).by(&matcher), route, "{path}");
    }
}

#[test]
fn what_is_no_call_goes_elsewhere() {
    let matcher = table(&["grpc: { service: a.B, method: C }", "path: /a.B/C", "{}"]);
    assert_eq!(call("h/a.B/C").by(&matcher), Some(0));
    assert_eq!(found(&matcher, "POST h/a.B/C"), Some(1));
    let json = Request::new("POST h/a.B/C").header("content-type", "application/json");
    assert_eq!(json.by(&matcher), Some(1));
    let get = Request::new("GET h/a.B/C").header("content-type", "application/grpc");
    assert_eq!(get.by(&matcher), Some(1));
    let web = Request::new("POST h/a.B/C").header("content-type", "application/grpc-web-text");
    assert_eq!(web.by(&matcher), Some(0), "gRPC-Web is a call, too");
    assert_eq!(matcher.miss(0, &json.target()), Some(Miss::Grpc));
}

#[test]
fn it_is_as_specific_as_its_path_and_goes_before_it() {
    // From the most to the least specific; all of them match.
    let lists: [&[&str]; 2] = [
        &["grpc: { service: a, method: b }", "path: /a/b", "grpc: { service: a }"],
        &[
            "grpc: { service: a }",
            "path_template: '/a/{m}'",
            "grpc: { method: b }",
            "path_template: '/{s}/b'",
            "grpc: {}",
            "path_template: '/{s}/{m}'",
            "path_regex: '.*'",
            "path_prefix: /a",
        ],
    ];
    for list in lists {
        for left in 0..list.len() {
            let mut backwards = list[left..].to_vec();
            backwards.reverse();
            let last = backwards.len() - 1;
            assert_eq!(call("h/a/b").by(&table(&backwards)), Some(last), "{backwards:?}");
        }
    }
}

#[test]
fn a_second_route_of_the_same_calls_is_hidden() {
    let same = ["grpc: { service: a }", "{ grpc: { service: a }, methods: [POST] }"];
    assert_eq!(table(&same).shadowed(), [(1, 0)]);
    let not = ["path: /a/b", "grpc: { service: a, method: b }"];
    assert_eq!(table(&not).shadowed(), []);
}

#[test]
fn names_that_cannot_be_are_refused() {
    let problem = |yaml: &str| {
        let route = route(yaml);
        Matcher::compile(&[&route], &[]).expect_err(yaml).remove(0)
    };
    let (_, key, message) = problem("grpc: { service: /a.B }");
    assert_eq!(key, "grpc.service");
    assert!(message.contains("without slashes"), "{message}");
    assert_eq!(problem("grpc: { method: '' }").1, "grpc.method");
    let (_, key, message) = problem("{ grpc: {}, path: /a }");
    assert_eq!((key.as_str(), message.contains("beside path")), ("grpc", true));
}
