use super::*;
use crate::config::problem::Report;
use crate::config::tree::parse;

#[test]
fn a_setting_is_found_and_else_what_is_around_it() {
    let text =
        "routes:\n  - name: a\n  - name: b\n    retry: { on: [x, y] }\nup:\n  a.b: { z: 1 }\n";
    let source = Source::new(parse(text, &mut Report::default()).unwrap());
    for (path, place) in [
        ("routes[1].name", (3, 11)),
        ("routes[1].retry.on[1]", (4, 22)),
        ("routes[1].retry.max_attempts", (4, 12)),
        ("routes[7]", (2, 3)),
        ("up.\"a.b\".z", (6, 13)),
        ("up.a.b.z", (6, 3)),
        ("nothing", (1, 1)),
        ("", (1, 1)),
        ("routes[99999999999999999999999].x", (2, 3)),
    ] {
        assert_eq!(source.position(path), place, "{path}");
    }
    assert!(source.node("routes[1].retry").is_some());
    assert!(source.node("routes[1].retr").is_none());
}
