//! The rules on small strings: each finds what it is for, where it is, and nothing else.

use std::collections::BTreeSet;

use super::floors::{self, HOUSE, Manifest};
use super::rules;
use super::source::{File, Problem, mask};

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

fn manifest() -> Manifest {
    Manifest::parse(
        "[package]\nname = \"outrigger\"\n\
         [dependencies]\ntokio = \"1\"\nhyper = { version = \"1\" }\n\
         http.workspace = true\nserde = \"1\"\nhttp-body = \"1\"\ngovernor = \"0\"\n\
         [dev-dependencies]\nproptest = \"1\"\n[dependencies.lru]\nversion = \"1\"\n",
    )
}

/// The lines on which the floors find a problem.
fn floor_faults(path: &str, text: &str) -> Vec<usize> {
    let mut problems = Vec::new();
    floors::check(&file(path, text), &manifest(), &mut problems);
    problems.iter().map(|problem| problem.line).collect()
}

fn rule_faults(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    rules::check(&file(path, text), &mut problems);
    problems.iter().map(Problem::to_string).collect()
}

#[test]
fn the_manifest_gives_names_as_code_spells_them() {
    let manifest = manifest();
    let wanted = ["governor", "http", "http_body", "hyper", "lru", "proptest", "serde", "tokio"];
    assert_eq!(manifest.package, "outrigger");
    assert_eq!(manifest.crates, BTreeSet::from(wanted.map(String::from)));
}

#[test]
fn no_module_stands_on_two_floors() {
    let names: BTreeSet<&str> = HOUSE.iter().map(|place| place.module).collect();
    assert_eq!(names.len(), HOUSE.len());
}

#[test]
fn a_policy_may_use_units_and_serde_and_nothing_above() {
    let path = "src/policy/retry.rs";
    assert_eq!(floor_faults(path, "use serde::Serialize;\nuse crate::units::Ratio;"), []);
    assert_eq!(floor_faults(path, "use super::Mode;\nuse super::super::units::Ratio;"), []);
    assert_eq!(floor_faults(path, "\nuse tokio::sync::Mutex;"), [2]);
    assert_eq!(floor_faults(path, "fn f() {\n  tokio::spawn(async {});\n}"), [2]);
    assert_eq!(floor_faults(path, "#[derive(http::Thing)]\nstruct S;"), [1]);
    assert_eq!(floor_faults(path, "use crate::clock;"), [1]);
    assert_eq!(floor_faults(path, "use outrigger::proxy;"), [1]);
    assert_eq!(floor_faults(path, "fn f() { let now =\n  crate::clock::now(); }"), [2]);
    assert_eq!(floor_faults(path, "use super::super::config::Route;"), [1]);
    assert_eq!(
        floor_faults(path, "use crate::{units::Ratio,\n  config::{Route as R, Other}};"),
        [2, 2]
    );
    assert_eq!(floor_faults("src/policy/mod.rs", "use super::config;"), [1]);
    assert_eq!(floor_faults(path, "mod inner { use super::super::super::config; }"), [1]);
    assert_eq!(floor_faults(path, "mod inner { use super::super::config; }"), []);
}

#[test]
fn names_of_the_file_itself_are_no_crates() {
    let path = "src/policy/retry.rs";
    assert_eq!(floor_faults(path, "use std::fmt as http;\nfn f() { http::write(); }"), []);
    assert_eq!(floor_faults(path, "mod http;\nuse http::Thing;"), []);
    assert_eq!(floor_faults(path, "// tokio::spawn\nconst X: &str = \"tokio::spawn\";"), []);
    assert_eq!(
        floor_faults(path, "fn f() { a.tokio(); b::tokio::c(); <A as B>::tokio::d(); }"),
        []
    );
}

#[test]
fn one_file_more_is_one_file_only() {
    let text = "use governor::Quota;";
    assert_eq!(floor_faults("src/policy/rate_limit.rs", text), []);
    assert_eq!(floor_faults("src/policy/rate_limit/tests.rs", text), []);
    assert_eq!(floor_faults("src/policy/retry.rs", text), [1]);
}

#[test]
fn siblings_do_not_see_each_other() {
    assert_eq!(floor_faults("src/server/mod.rs", "use crate::admin::View;"), [1]);
    assert_eq!(floor_faults("src/server/mod.rs", "use crate::server::drain;"), []);
    assert_eq!(floor_faults("src/server/mod.rs", "use crate::proxy::Proxy;"), []);
    assert_eq!(floor_faults("src/main.rs", "use outrigger::app;"), []);
}

#[test]
fn part_of_a_crate_can_be_given_or_taken() {
    assert_eq!(floor_faults("src/clock.rs", "use tokio::time::sleep;"), []);
    assert_eq!(floor_faults("src/clock.rs", "use tokio::{net, time};"), [1]);
    assert_eq!(floor_faults("src/upstream/pool.rs", "use hyper::client::conn::http1;"), []);
    assert_eq!(floor_faults("src/upstream/pool.rs", "use hyper::server::conn::http1;"), [1]);
    assert_eq!(floor_faults("src/upstream/pool.rs", "use hyper::{Request, server};"), [1]);
}

#[test]
fn only_the_clock_waits() {
    assert_eq!(floor_faults("src/app.rs", "fn f() { tokio::time::sleep(x); }"), [1]);
    let test = "src/upstream/pool/tests.rs";
    assert_eq!(floor_faults(test, "#[tokio::test]\nfn f() { tokio::time::advance(x); }"), []);
    assert_eq!(floor_faults(test, "fn f() { tokio::time::timeout(x); }"), []);
    assert_eq!(floor_faults(test, "fn f() { tokio::time::sleep(x); }"), [1]);
    assert_eq!(floor_faults(test, "use hyper::server::conn::http1;"), []);
    assert_eq!(floor_faults("src/policy/retry/tests.rs", "use hyper::Request;"), [1]);
    assert_eq!(floor_faults("src/policy/retry/tests.rs", "use crate::clock;"), []);
    assert_eq!(floor_faults("src/policy/retry/tests.rs", "use proptest::prelude::*;"), []);
    assert_eq!(floor_faults("src/policy/retry.rs", "use proptest::prelude::*;"), [1]);
}

#[test]
fn a_module_without_a_floor_is_a_problem() {
    assert_eq!(floor_faults("src/new_thing/mod.rs", ""), [1]);
}

#[test]
fn literals_and_comments_are_blanked_line_for_line() {
    let text =
        "a \"b\\\"c\" /* d /* e */ f */ 'g' '\\'' 'h: r#\"i\"j\"# // k\nl br\"m\" '\u{e9}' n";
    let masked = mask(text);
    let words: Vec<&str> = masked.split_whitespace().collect();
    assert_eq!(words, ["a", "'h:", "l", "b", "n"]);
    assert_eq!(masked.lines().count(), 2);
    assert_eq!(mask("\"two\nlines\" x").lines().nth(1).map(str::trim), Some("x"));
}

#[test]
fn clocks_unwraps_sleeps_and_ignored_tests_are_found() {
    let found = |path, text: &str| rule_faults(path, &format!("//! Doc.\n{text}")).len();
    assert_eq!(found("src/app.rs", "fn f() { Instant::now(); }"), 1);
    assert_eq!(found("src/clock.rs", "fn f() { Instant::now(); SystemTime::now(); }"), 0);
    assert_eq!(found("tests/it.rs", "fn f() { std::time::SystemTime::now(); }"), 1);
    let reasoned =
        "#[expect(clippy::disallowed_methods, reason = \"x\")]\nfn f() { Instant::now(); }";
    assert_eq!(found("src/policy/retry/tests.rs", reasoned), 0);
    assert_eq!(found("src/policy/retry.rs", reasoned), 1);
    assert_eq!(found("src/app.rs", "const X: N = N::new(1).unwrap();"), 0);
    assert_eq!(found("src/app.rs", "const fn f() -> N { N::new(1).unwrap() }"), 1);
    assert_eq!(found("src/app.rs", "fn f() { x\n.unwrap(); x.expect(\"y\"); }"), 2);
    assert_eq!(found("src/app.rs", "// .unwrap()\nfn f() { x.unwrap_or(1); expect(2); }"), 0);
    assert_eq!(found("src/app/tests.rs", "fn f() { x.unwrap(); x.expect(\"y\"); }"), 0);
    assert_eq!(found("tests/it.rs", "fn f() { std::thread::sleep(x); time::sleep(y); }"), 2);
    assert_eq!(found("tests/it.rs", "#[ignore]\n#[test]\nfn f() {}"), 1);
}

#[test]
fn sizes_are_counted_to_the_line() {
    let lines = |count: usize| "//! x\n".repeat(count);
    assert_eq!(rule_faults("src/app.rs", &lines(rules::FILE_LINES)), Vec::<String>::new());
    assert_eq!(rule_faults("src/app.rs", &lines(rules::FILE_LINES + 1)).len(), 1);
    let function = |count: usize| format!("//! x\nfn f() {{\n{}}}\n", "g();\n".repeat(count));
    assert_eq!(rule_faults("src/app.rs", &function(rules::FUNCTION_LINES - 2)).len(), 0);
    assert_eq!(rule_faults("src/app.rs", &function(rules::FUNCTION_LINES - 1)).len(), 1);
    let declared = format!("//! x\ntrait T {{ fn f(x: [u8; 2]);\n{} }}\n", "\n".repeat(99));
    assert_eq!(rule_faults("src/app.rs", &declared).len(), 0);
    let line = |count: usize| format!("//! {}\n", "\u{e9}".repeat(count));
    assert_eq!(rule_faults("src/app.rs", &line(rules::COLUMNS - 4)).len(), 0);
    assert_eq!(rule_faults("src/app.rs", &line(rules::COLUMNS - 3)).len(), 1);
}

#[test]
fn names_and_texts_that_must_not_be_here() {
    let one = |path: &str, text: &str| rule_faults(path, text).len() == 1;
    assert!(one("src/app.rs", "fn f() {}"), "no module doc");
    assert!(one("src/string_utils.rs", "//! x"), "empty word");
    assert!(one("tests/common/mod.rs", ""), "empty word in a folder");
    assert!(one("notes.md", ""), "top level");
    assert!(one("README.md", concat!("see /wo", "rk/x")), "a path of one machine");
    assert!(one("docker/x.sh", concat!("# TO", "DO later")), "left over");
    assert!(!one("README.md", "see net/work/x"), "part of a longer path");
    assert!(!one("src/database.rs", "//! x"), "part of a word");
    let text = rule_faults("docker/x.sh", concat!("a\n# FIX", "ME")).concat();
    assert!(text.starts_with("docker/x.sh:2: error: "), "{text}");
}

#[test]
fn a_golden_file_needs_a_test() {
    let golden = file("tests/golden/errors.txt", "");
    let mut problems = Vec::new();
    let files = [golden, file("tests/it/errors.rs", "include_str!(\"../golden/errors.txt\")")];
    rules::golden(&files, &mut problems);
    assert!(problems.is_empty());
    rules::golden(&files[..1], &mut problems);
    assert_eq!(problems.len(), 1);
}
