//! The floors of the house as a table, and the rule that a module sees only the floors below its
//! own and only the crates that the table gives it.

use std::collections::BTreeSet;

use super::paths::{self, Path};
use super::source::{File, Problem};

/// One module below `src/`: its floor and the crates, or paths in crates, that it may name.
/// A leading `!` takes a path out again; `*` allows every crate.
pub(crate) struct Place {
    pub(crate) module: &'static str,
    pub(crate) floor: u8,
    pub(crate) crates: &'static [&'static str],
}

/// On the top floor the parts of the process may know each other.
const TOP: u8 = 10;

const SHELL: &[&str] = &[
    "bytes",
    "h2",
    "http",
    "http_body",
    "http_body_util",
    "httpdate",
    "hyper",
    "!hyper::client",
    "hyper_util::rt",
    "serde",
    "serde_json",
    "socket2",
    "tokio",
    "tracing",
];

/// The house, from the ground up.
pub(crate) const HOUSE: &[Place] = &[
    Place { module: "units", floor: 0, crates: &["schemars", "serde"] },
    Place { module: "policy", floor: 1, crates: &["schemars", "serde"] },
    Place { module: "proxy_protocol", floor: 1, crates: &["schemars", "serde"] },
    Place {
        module: "config",
        floor: 2,
        crates: &["regex", "saphyr_parser", "schemars", "serde", "serde_json", "serde_yaml"],
    },
    Place { module: "clock", floor: 3, crates: &["tokio::time"] },
    Place { module: "shared", floor: 3, crates: &[] },
    Place { module: "failpoint", floor: 3, crates: &[] },
    Place {
        module: "telemetry",
        floor: 3,
        crates: &["prometheus", "tracing", "tracing_subscriber"],
    },
    Place { module: "gate", floor: 4, crates: &[] },
    Place {
        module: "records",
        floor: 5,
        crates: &[
            "base64",
            "dashmap",
            "etcd_client",
            "bytes",
            "h2",
            "http",
            "http_body_util",
            "hyper",
            "!hyper::server",
            "hyper_util::rt",
            "postcard",
            "prost",
            "redb",
            "redis",
            "ring",
            "rustls",
            "serde",
            "tokio::io",
            "tokio::net",
            "tokio::pin",
            "tokio::runtime",
            "tokio::select",
            "tokio::sync",
            "tokio::task",
            "tokio::try_join",
            "tokio_rustls",
            "tracing",
            "webpki_roots",
        ],
    },
    Place {
        module: "tls",
        floor: 4,
        crates: &[
            "arc_swap",
            "rustls",
            "tokio::io",
            "tokio_rustls",
            "tracing",
            "webpki",
            "webpki_roots",
        ],
    },
    Place {
        module: "http1",
        floor: 4,
        crates: &["bytes", "http", "http_body", "httparse", "tokio::io"],
    },
    Place {
        module: "upstream",
        floor: 5,
        crates: &[
            "arc_swap",
            "bytes",
            "fastrand",
            "foldhash",
            "h2",
            "hickory_resolver",
            "http",
            "http_body",
            "http_body_util",
            "httparse",
            "hyper",
            "!hyper::server",
            "hyper_util::rt",
            "socket2",
            "tokio",
            "tracing",
        ],
    },
    Place {
        module: "snapshot",
        floor: 6,
        crates: &[
            "arc_swap",
            "bytes",
            "dashmap",
            "foldhash",
            "http",
            "regex",
            "tokio::sync",
            "tracing",
        ],
    },
    Place {
        module: "proxy",
        floor: 7,
        crates: &[
            "arc_swap",
            "bytes",
            "fastrand",
            "http",
            "http_body",
            "http_body_util",
            "httpdate",
            "serde",
            "serde_json",
            "tokio::sync",
            "tokio::task",
            "tracing",
        ],
    },
    Place { module: "server", floor: 8, crates: SHELL },
    Place { module: "explain", floor: 8, crates: &["http", "serde", "serde_json"] },
    Place { module: "watch", floor: 8, crates: &["notify", "tokio", "tracing"] },
    Place { module: "admin", floor: 9, crates: SHELL },
    Place { module: "protect", floor: 8, crates: &["tracing"] },
    Place { module: "app", floor: TOP, crates: &["*"] },
    Place { module: "check", floor: TOP, crates: &[] },
    Place { module: "command", floor: TOP, crates: &["*"] },
    Place { module: "control", floor: TOP, crates: &["*"] },
    Place { module: "demo", floor: TOP, crates: &["*"] },
    Place { module: "lib", floor: TOP, crates: &["*"] },
    Place { module: "main", floor: TOP, crates: &["*"] },
];

/// Single files that may name more than their module: governor keeps its own state and clock, so
/// one file holds it, and one gives it the process's clock.
const MORE: &[(&str, &[&str])] =
    &[("src/policy/rate_limit.rs", &["governor", "lru"]), ("src/snapshot/limit.rs", &["governor"])];

/// Below this floor the tests are as pure as the code; from it on, they may name any crate, since a
/// fake server or a stamp of the other side's is their business.
const FIRST_OPEN_TESTS: u8 = 3;

/// What tests on the pure floors may name besides.
const IN_PURE_TESTS: &[&str] =
    &["jsonschema", "proptest", "regex", "serde_json", "serde_yaml", "tempfile"];

/// What of tokio's time a test may name: to steer it, and to bound a wait for an event.
const TIME_IN_TESTS: &[&str] =
    &["tokio::time::advance", "tokio::time::pause", "tokio::time::resume", "tokio::time::timeout"];

/// What `Cargo.toml` says: the name of the package and of each crate it depends on, as code spells
/// it.
pub(crate) struct Manifest {
    pub(crate) package: String,
    pub(crate) crates: BTreeSet<String>,
}

impl Manifest {
    pub(crate) fn parse(text: &str) -> Self {
        let mut found = Self { package: String::new(), crates: BTreeSet::new() };
        let mut section = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']');
                if let Some((_, name)) = section.rsplit_once("dependencies.") {
                    found.crates.insert(name.replace('-', "_"));
                }
            } else if let Some((key, value)) = line.split_once('=') {
                let key = key.trim().replace('-', "_");
                if section == "package" && key == "name" {
                    found.package = value.trim().trim_matches('"').replace('-', "_");
                } else if section.ends_with("dependencies") {
                    let name = key.split('.').next().unwrap_or_default();
                    found.crates.insert(name.to_owned());
                }
            }
        }
        found
    }
}

/// The module directly below `src/` that a file belongs to.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    inside.split('/').next().map(|name| name.trim_end_matches(".rs"))
}

/// Checks one file below `src/` against the table.
pub(crate) fn check(file: &File, manifest: &Manifest, problems: &mut Vec<Problem>) {
    let Some(module) = module_of(&file.path) else { return };
    let Some(place) = HOUSE.iter().find(|place| place.module == module) else {
        let what = format!(
            "module `{module}` has no floor; add it to HOUSE in tests/tidy/floors.rs with the \
             crates that it may name"
        );
        problems.push(Problem::new(&file.path, 1, what));
        return;
    };
    for path in paths::of(file, &manifest.package, &manifest.crates) {
        let fault = match &path.target {
            paths::Target::Crate(name) => crate_fault(file, place, &path, name),
            paths::Target::Module(name) => module_fault(file, place, name),
        };
        if let Some(what) = fault {
            problems.push(Problem::new(&file.path, path.line, what));
        }
    }
}

fn module_fault(file: &File, place: &Place, name: &str) -> Option<String> {
    let there = HOUSE.iter().find(|other| other.module == name)?;
    // The one thing of a higher floor that tests of pure code need is an instant to start from.
    let clock_in_test = file.is_test() && name == "clock";
    let fine = there.module == place.module || there.floor < place.floor || place.floor == TOP;
    if fine || clock_in_test {
        return None;
    }
    let relation = if there.floor == place.floor { "on the same floor as" } else { "above" };
    Some(format!(
        "`{name}` (floor {}) is {relation} `{}` (floor {}); move the code that both need down, or \
         take the value as an argument",
        there.floor, place.module, place.floor
    ))
}

fn crate_fault(file: &File, place: &Place, path: &Path, name: &str) -> Option<String> {
    let full = path.full.as_str();
    if starts_with_path(full, "tokio::time") && place.module != "clock" {
        let fine = file.is_test() && TIME_IN_TESTS.contains(&full);
        return (!fine).then(|| format!("`{full}` has a clock of its own; use src/clock.rs"));
    }
    if file.is_test() && place.floor >= FIRST_OPEN_TESTS {
        return None;
    }
    let more = MORE.iter().filter(|(path, _)| *path == file.path || tests_of(path, &file.path));
    let in_tests: &[&str] = if file.is_test() { IN_PURE_TESTS } else { &[] };
    let allowed = more.flat_map(|(_, crates)| crates.iter()).chain(place.crates).chain(in_tests);
    let (mut yes, mut no) = (false, false);
    for entry in allowed {
        match entry.strip_prefix('!') {
            Some(taken) => no |= starts_with_path(full, taken),
            None => yes |= *entry == "*" || starts_with_path(full, entry),
        }
    }
    (!yes || no).then(|| {
        format!(
            "`{full}` is not for `{}` (floor {}); do it on the floor where `{name}` is at home, or \
             with the reason in the commit, add it to HOUSE in tests/tidy/floors.rs",
            place.module, place.floor
        )
    })
}

/// Whether the second path is the file of tests of the first.
fn tests_of(source: &str, path: &str) -> bool {
    let folder = source.trim_end_matches(".rs");
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with("/tests"))
}

fn starts_with_path(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
