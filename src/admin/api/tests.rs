use super::*;

#[test]
fn paths_of_breakers_are_read_from_both_ends() {
    let change =
        |route, upstream, isolate| Some(Call::Breaker(Change { route, upstream, isolate }));
    assert_eq!(Call::of("/breakers/a/isolate"), change("a", None, true));
    assert_eq!(Call::of("/breakers/a/b/close"), change("a", Some("b"), false));
    // Names may be verbs themselves.
    assert_eq!(Call::of("/breakers/close/isolate/close"), change("close", Some("isolate"), false));
    for path in ["/breakers/", "/breakers/isolate", "/breakers/a", "/breakers/a/b", "/breakersa"] {
        assert_eq!(Call::of(path), None, "{path}");
    }
}

#[test]
fn the_index_names_each_path_by_the_method_that_it_takes() {
    for (line, _) in INDEX {
        let (method, path) = line.split_once(' ').unwrap();
        let path = path.split('?').next().unwrap().replace(['{', '}'], "");
        let call = Call::of(&path).unwrap_or_else(|| panic!("{line} is not served"));
        assert_eq!(call.changes(), method == "POST", "{line}");
    }
}
