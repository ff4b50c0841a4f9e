//! The house rules, kept by a test: which module sees which, sizes, clocks, names and left-overs.
//!
//! Each problem is printed as `path:line: error: what is wrong; what to do`.

#[path = "tidy/floors.rs"]
mod floors;
#[path = "tidy/paths.rs"]
mod paths;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/rules_of_rules.rs"]
mod rules_of_rules;
#[path = "tidy/source.rs"]
mod source;

use std::path::Path;

use source::{File, Problem};

fn repository() -> Vec<File> {
    let files = source::walk(Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap_or_default();
    assert!(files.iter().any(|file| file.path == "src/lib.rs"), "the walk missed the sources");
    files
}

fn assert_none(problems: &[Problem]) {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    assert!(lines.is_empty(), "{} problems\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn every_module_sees_only_the_floors_below_it_and_its_own_crates() {
    let files = repository();
    let manifest = files.iter().find(|file| file.path == "Cargo.toml").expect("Cargo.toml exists");
    let manifest = floors::Manifest::parse(&manifest.text);
    assert!(manifest.package == "outrigger" && manifest.crates.contains("tokio"));
    let mut problems = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        floors::check(file, &manifest, &mut problems);
    }
    assert_none(&problems);
}

#[test]
fn files_keep_the_sizes_names_and_words_of_the_house() {
    let mut problems = Vec::new();
    for file in repository() {
        rules::check(&file, &mut problems);
    }
    assert_none(&problems);
}

#[test]
fn every_golden_file_is_compared_with() {
    let mut problems = Vec::new();
    rules::golden(&repository(), &mut problems);
    assert_none(&problems);
}

#[test]
fn cargo_and_clippy_count_as_this_test_does() {
    let files = repository();
    let text = |path: &str| {
        let file = files.iter().find(|file| file.path == path);
        file.map(|file| file.text.as_str()).unwrap_or_default()
    };
    let columns = format!("max_width = {}", rules::COLUMNS);
    assert!(text(".rustfmt.toml").contains(&columns), ".rustfmt.toml: want `{columns}`");
    let lines = format!("too-many-lines-threshold = {}", rules::FUNCTION_LINES);
    assert!(text(".clippy.toml").contains(&lines), ".clippy.toml: want `{lines}`");
}
