use super::*;

/// Builds a map from lines, repeated names included.
fn map(lines: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, HeaderValue::from_bytes(value.as_bytes()).unwrap())
    };
    let mut headers = HeaderMap::new();
    lines.iter().map(pair).for_each(|(name, value)| {
        headers.append(name, value);
    });
    headers
}

/// The lines of a map, sorted.
fn lines(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let mut lines: Vec<_> =
        headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    lines.sort_unstable();
    lines
}

fn ops(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderOps {
    let pairs = |list: &[(&str, &str)]| {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    HeaderOps {
        set: pairs(set),
        add: pairs(add),
        remove: remove.iter().map(|name| (*name).to_owned()).collect(),
    }
}

#[test]
fn remove_then_set_then_add() {
    let settings = ops(
        &[("x-a", "set"), ("X-B", "set")],
        &[("x-a", "added"), ("x-c", "added"), ("x-d", "added")],
        &["X-C", "x-e", "x-absent"],
    );
    let mut headers = map(&[
        ("x-a", "1"),
        ("x-a", "2"),
        ("x-c", "3"),
        ("x-d", "4"),
        ("x-e", "5"),
        ("x-e", "6"),
        ("x-f", "7"),
    ]);
    CompiledOps::compile(&settings).unwrap().apply(&mut headers);
    let wanted = [
        ("x-a", "added"),
        ("x-a", "set"),
        ("x-b", "set"),
        ("x-c", "added"),
        ("x-d", "4"),
        ("x-d", "added"),
        ("x-f", "7"),
    ];
    assert_eq!(lines(&headers), wanted);
}

#[test]
fn no_changes_change_nothing() {
    let compiled = CompiledOps::compile(&HeaderOps::default()).unwrap();
    assert!(compiled.is_empty());
    let mut headers = map(&[("a", "1")]);
    compiled.apply(&mut headers);
    assert_eq!(lines(&headers), [("a", "1")]);
}

#[test]
fn what_cannot_be_a_field_is_refused_by_name_and_without_its_value() {
    for settings in [ops(&[("a b", "x")], &[], &[]), ops(&[], &[], &[""])] {
        assert!(CompiledOps::compile(&settings).unwrap_err().contains("not a header name"));
    }
    let secret = ops(&[], &[("authorization", "hunter2\n")], &[]);
    CompiledOps::compile(&secret).expect("the white space around a value is no part of it");
    let secret = ops(&[], &[("authorization", "hunter\n2")], &[]);
    let error = CompiledOps::compile(&secret).unwrap_err();
    assert!(error.contains("authorization") && !error.contains("hunter"), "{error}");
}

#[test]
fn framing_and_host_are_not_for_routes_to_change() {
    for name in FRAMING.iter().copied().chain(["Host", "Content-Length"]) {
        for settings in
            [ops(&[(name, "1")], &[], &[]), ops(&[], &[(name, "1")], &[]), ops(&[], &[], &[name])]
        {
            let error = CompiledOps::compile(&settings).unwrap_err();
            assert!(error.contains(&name.to_lowercase()), "{error}");
        }
    }
}

#[test]
fn credentials_are_not_in_debug_output() {
    let settings = ops(&[("authorization", "hunter2"), ("x-api-key", "hunter2")], &[], &[]);
    let compiled = CompiledOps::compile(&settings).unwrap();
    assert!(!format!("{compiled:?}").contains("hunter2"));
    let mut headers = HeaderMap::new();
    compiled.apply(&mut headers);
    assert_eq!(headers.get("authorization").unwrap().as_bytes(), b"hunter2");
}
