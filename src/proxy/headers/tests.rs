use http::header::CONTENT_TYPE;

use super::*;

#[test]
fn grpc_is_told_by_its_content_type_alone() {
    for (value, grpc) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("Application/gRPC; charset=utf-8", true),
        ("application/grpc-web", false),
        ("application/grpc-web+proto", false),
        ("application/grpcx", false),
        ("application/json", false),
        ("", false),
    ] {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
        assert_eq!(is_grpc(&headers), grpc, "{value}");
    }
    assert!(!is_grpc(&HeaderMap::new()));
}

/// Builds a map from lines, repeated names included.
pub(super) fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        let name = http::HeaderName::from_bytes(name.as_bytes()).unwrap();
        headers.append(name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    headers
}

/// The lines of a map, sorted.
pub(super) fn lines(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let mut lines: Vec<_> =
        headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    lines.sort_unstable();
    lines
}

/// Any bytes that can be a field's value.
pub(super) fn any_value() -> impl proptest::strategy::Strategy<Value = http::HeaderValue> {
    use proptest::prelude::*;
    let byte = any::<u8>().prop_map(|b| match b {
        0..=8 | 10..=31 | 127 => b'"',
        other => other,
    });
    proptest::collection::vec(byte, 0..60)
        .prop_map(|bytes| http::HeaderValue::from_bytes(&bytes).unwrap())
}
