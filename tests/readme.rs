//! README says what the code does: its tables come from the code, and its files parse.
//!
//! `UPDATE_GOLDEN=1 cargo test --test readme` writes the generated tables anew.
#![expect(clippy::expect_used, clippy::panic, reason = "every function here is part of a test")]

use std::fmt::Write as _;
use std::path::PathBuf;

use outrigger::config::{self, Config, ProcessEnvironment};
use outrigger::policy::idempotency::problem::Code;
use outrigger::policy::retry::Suppressed;
use outrigger::telemetry::metrics::Metrics;
use outrigger::telemetry::reason::Reason;

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("README.md")
}

fn readme() -> String {
    std::fs::read_to_string(path()).expect("README.md can be read")
}

/// The byte range between the lines `<!-- name -->` and `<!-- /name -->`.
fn between(text: &str, name: &str) -> std::ops::Range<usize> {
    let (open, close) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->\n"));
    assert!(text.matches(&open).count() == 1, "README.md has `{}` once", open.trim());
    let from = text.find(&open).expect("counted above") + open.len();
    let length = text[from..].find(&close);
    from..from + length.unwrap_or_else(|| panic!("README.md has no `{}`", close.trim()))
}

/// The blocks of YAML, in order.
fn blocks(text: &str) -> Vec<&str> {
    let opened = text.split("```yaml\n").skip(1);
    opened.map(|rest| rest.split("```").next().unwrap_or_default()).collect()
}

fn read(text: &str) -> Config {
    match config::read(text, &ProcessEnvironment) {
        Ok(loaded) => loaded.config,
        Err(problems) => panic!("{problems:?}\n{text}"),
    }
}

fn reasons() -> String {
    let mut table = "| reason | status | meaning |\n|---|---|---|\n".to_owned();
    for reason in Reason::ALL {
        let status = match reason.status() {
            0 => "–".to_owned(),
            status => status.to_string(),
        };
        let _ = writeln!(table, "| `{}` | {status} | {} |", reason.as_str(), reason.title());
    }
    table
}

fn suppressed() -> String {
    let mut table = "| retry suppressed | meaning |\n|---|---|\n".to_owned();
    for why in Suppressed::ALL {
        let _ = writeln!(table, "| `{}` | {} |", why.as_str(), why.meaning());
    }
    table
}

fn idempotency() -> String {
    let mut table = "| code | HTTP | gRPC | the same key again | a new key is safe | meaning |\n\
                     |---|---|---|---|---|---|\n"
        .to_owned();
    for code in Code::ALL {
        let statuses: Vec<String> = code.statuses().iter().map(u16::to_string).collect();
        let _ = writeln!(
            table,
            "| <a id=\"{}\"></a>`{}` | {} | {} | {} | {} | {} |",
            code.anchor(),
            code.as_str(),
            statuses.join(", "),
            code.grpc(),
            code.retry_same_key().as_str(),
            if code.new_key_safe() { "yes" } else { "no" },
            code.title()
        );
    }
    table
}

fn metrics() -> String {
    let mut table = "| metric | kind | labels | meaning |\n|---|---|---|---|\n".to_owned();
    for row in Metrics::table() {
        let labels: Vec<String> = row.labels.iter().map(|label| format!("`{label}`")).collect();
        let labels = labels.join(" ");
        let _ = writeln!(table, "| `{}` | {} | {labels} | {} |", row.name, row.kind, row.help);
    }
    table
}

#[test]
fn the_tables_are_those_of_the_code() {
    let before = readme();
    let mut text = before.clone();
    let tables = [
        ("reasons", reasons()),
        ("suppressed", suppressed()),
        ("idempotency", idempotency()),
        ("metrics", metrics()),
    ];
    for (name, table) in &tables {
        assert!(table.lines().count() > 10, "the table of {name} is not empty");
        text.replace_range(between(&text, name), table);
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path(), &text).expect("README.md can be written");
        return;
    }
    for (wanted, found) in text.lines().zip(before.lines()) {
        assert_eq!(wanted, found, "README.md is old; UPDATE_GOLDEN=1 cargo test --test readme");
    }
    assert_eq!(text.len(), before.len(), "README.md has lines that the code does not");
}

#[test]
fn every_yaml_file_passes_the_check() {
    let text = readme();
    let blocks = blocks(&text);
    assert!(blocks.len() >= 2, "the blocks were found");
    for block in blocks {
        let checked = outrigger::check::check(block, &ProcessEnvironment);
        assert!(checked.is_ok(), "{checked:?}\n{block}");
    }
}

#[test]
fn the_first_file_has_nine_lines_and_routes_by_host() {
    let text = readme();
    assert!(text.contains("<!-- minimal -->\n```yaml\n"), "the marker stands before the block");
    let minimal = blocks(&text)[0];
    assert_eq!(minimal.lines().count(), 9);
    let config = read(minimal);
    assert_eq!(config.listeners[0].bind.to_string(), "127.0.0.1:15001");
    assert_eq!(config.routes[0].matches.host.as_deref(), Some("payments.internal"));
    assert_eq!(config.upstreams["payments"].endpoints[0].address, "payments.internal:8080");
}

#[test]
fn what_is_said_to_be_a_default_changes_nothing() {
    let text = readme();
    let table = &text[between(&text, "defaults")];
    let minimal = |listener: &str, upstream: &str, route: &str, file: &str| {
        format!(
            "listeners:\n  - name: in\n    bind: 127.0.0.1:1\n{listener}\
             upstreams:\n  up:\n    endpoints: [\"127.0.0.1:2\"]\n{upstream}\
             routes:\n  - name: all\n    upstream: up\n{route}{file}"
        )
    };
    let plain = read(&minimal("", "", "", ""));
    let rows: Vec<&str> = table.lines().skip(2).collect();
    assert!(rows.len() >= 15, "the rows were found");
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let setting = cells[2].trim_matches('`');
        let inner = format!("    {setting}\n");
        let written = match cells[1] {
            "listener" => minimal(&inner, "", "", ""),
            "upstream" => minimal("", &inner, "", ""),
            "route" => minimal("", "", &inner, ""),
            "file" => minimal("", "", "", &format!("{setting}\n")),
            other => panic!("`{other}` is no part of the file"),
        };
        assert!(read(&written) == plain, "this is not the default: {setting}");
    }
}
