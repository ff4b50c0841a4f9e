use std::fmt::Write;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::config::testing::{Fixed, file, good, problems};
use crate::config::{admin, listener, route, telemetry, to_yaml, upstream};

fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text_of(path: &str) -> String {
    std::fs::read_to_string(repository(path)).unwrap()
}

#[test]
fn the_reference_is_every_key_at_its_default() {
    let text = text_of("config/reference.yaml");
    let loaded = good(&text);
    let config = &loaded.config;
    assert_eq!(config.admin, admin::Admin::default());
    assert_eq!(config.runtime, admin::Runtime::default());
    assert_eq!(config.telemetry, telemetry::Telemetry::default());
    assert_eq!(config.reload, admin::Reload::default());
    // A second file with only what is required gives the same listener, upstream and route.
    let short = good(
        "listeners: [{ name: egress, bind: '127.0.0.1:15001' }]\n\
         upstreams: { payments: { endpoints: ['payments.internal:8080'] } }\n\
         routes: [{ name: payments, upstream: payments }]\n",
    );
    assert_eq!(loaded.config, short.config);
    assert_eq!(loaded.hash, short.hash);
    assert_eq!(config.listeners[0].limits, listener::Limits::default());
    assert_eq!(config.routes[0].headers, route::Headers::default());
    assert_eq!(config.upstreams["payments"].pool, upstream::Pool::default());
}

#[test]
fn the_reference_has_the_keys_of_the_types_and_no_others() {
    let text = text_of("config/reference.yaml");
    let loaded = good(&text);
    let printed = to_yaml(&loaded.config, &loaded.secrets).unwrap();
    let keys = |text: &str| {
        let mut keys = Vec::new();
        collect_keys(&parse(text, &mut Report::default()).unwrap(), "", &mut keys);
        keys.sort();
        keys
    };
    assert_eq!(keys(&text), keys(&printed));
}

fn collect_keys(node: &Node, path: &str, keys: &mut Vec<String>) {
    match &node.kind {
        Kind::Mapping(entries) => {
            for (key, value) in entries {
                let path = join(path, &key.text);
                collect_keys(value, &path, keys);
                keys.push(path);
            }
        }
        Kind::Sequence(items) => items.iter().for_each(|item| collect_keys(item, path, keys)),
        Kind::Null | Kind::Scalar(_) => {}
    }
}

#[test]
fn the_example_is_good() {
    let loaded = good(&text_of("config/example.yaml"));
    assert_eq!(loaded.config.routes.len(), 3);
    assert_eq!(loaded.config.routes[1].timeouts.total.unwrap().as_secs(), 3);
}

/// Regenerate with `UPDATE_GOLDEN=1 cargo test --lib config::read`.
#[test]
fn each_class_of_error_reads_as_it_is_kept() {
    let mut shown = String::new();
    for name in ["errors.yaml", "rules.yaml", "syntax.yaml"] {
        let text = text_of(&format!("tests/golden/{name}"));
        for problem in read(&text, &Fixed::default()).unwrap_err() {
            writeln!(shown, "{}", problem.in_file(name)).unwrap();
        }
    }
    let path = repository("tests/golden/errors.txt");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &shown).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), shown);
}

#[test]
fn an_empty_file_changes_nothing() {
    assert_eq!(problems(""), ["1:1: the file is empty"]);
    assert_eq!(problems("{}"), ["1:1: listeners: at least one listener is needed"]);
    assert_eq!(problems("[]")[0], "1:1: expected a mapping, found a list");
    assert!(problems("text")[0].contains("expected a mapping, found `text`"));
}

#[test]
fn the_hash_follows_the_settings_and_not_the_text() {
    let one = good(&file("", "retry: { max_attempts: 3 }"));
    let same = good(&format!("# a comment\n{}", file("slow_start: 10000ms", "")));
    let other = good(&file("", "retry: { max_attempts: 4 }"));
    assert_eq!(one.hash, same.hash);
    assert_ne!(one.hash, other.hash);
}

#[test]
fn the_hash_is_fowler_noll_and_vo_s() {
    // Vectors of the algorithm's authors for the 64-bit variant 1a.
    for (text, expected) in [
        ("", 0xcbf2_9ce4_8422_2325_u64),
        ("a", 0xaf63_dc4c_8601_ec8c),
        ("foobar", 0x8594_4171_f739_67e8),
    ] {
        let mut hash = Fnv1a::default();
        std::io::Write::write_all(&mut hash, text.as_bytes()).unwrap();
        assert_eq!(hash.0, expected, "{text}");
    }
}

#[test]
fn ten_thousand_routes_are_read() {
    let mut text = file("", "");
    for index in 0..10_000 {
        writeln!(text, "  - {{ name: r{index}, match: {{ host: h{index}.x }}, upstream: a }}")
            .unwrap();
    }
    assert_eq!(good(&text).config.routes.len(), 10_001);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_read_or_refused_with_a_place(text in "\\PC{0,80}(\n\\PC{0,40}){0,5}") {
        if let Err(found) = read(&text, &Fixed::default()) {
            prop_assert!(!found.is_empty());
            prop_assert!(found.iter().all(|problem| problem.line > 0 && problem.column > 0));
        }
    }

    #[test]
    fn a_damaged_file_never_panics(
        which in 0..2_usize,
        cuts in prop::collection::vec(
            (any::<prop::sample::Index>(), "[-{}\\[\\]:,&*!|>'\"#$ \n0-9a-z%]{0,4}"),
            1..6,
        ),
    ) {
        let name = ["config/reference.yaml", "config/example.yaml"][which];
        let mut chars: Vec<char> = text_of(name).chars().collect();
        for (at, insert) in cuts {
            let at = at.index(chars.len());
            let end = (at + 3).min(chars.len());
            chars.splice(at..end, insert.chars());
        }
        let text: String = chars.into_iter().collect();
        match read(&text, &Fixed::default()) {
            Ok(loaded) => prop_assert!(to_yaml(&loaded.config, &loaded.secrets).is_ok()),
            Err(found) => prop_assert!(found.iter().all(|problem| problem.line > 0)),
        }
    }
}
