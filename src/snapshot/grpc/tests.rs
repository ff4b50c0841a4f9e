//! Which types of content are calls, and on which wire.

use super::*;

#[test]
fn the_wire_is_told_by_the_type_of_the_content() {
    let cases = [
        ("application/grpc", Some(Wire::Own)),
        ("Application/GRPC", Some(Wire::Own)),
        ("application/grpc+proto", Some(Wire::Own)),
        ("application/grpc; charset=utf-8", Some(Wire::Own)),
        ("application/grpc-web", Some(Wire::Web)),
        ("application/grpc-web+proto", Some(Wire::Web)),
        ("application/grpc-web-text", Some(Wire::WebText)),
        ("application/gRPC-Web-Text+proto", Some(Wire::WebText)),
        ("application/grpc-webby", None),
        ("application/grpcx", None),
        ("application/grp", None),
        ("application/json", None),
        ("", None),
    ];
    for (text, wire) in cases {
        assert_eq!(Wire::of(text.as_bytes()), wire, "{text}");
    }
}

#[test]
fn a_call_is_a_post_of_such_content() {
    let mut headers = HeaderMap::new();
    assert!(!is_call(&Method::POST, &headers));
    headers.insert(CONTENT_TYPE, "application/grpc".parse().unwrap());
    assert!(is_call(&Method::POST, &headers));
    assert!(!is_call(&Method::GET, &headers));
}
