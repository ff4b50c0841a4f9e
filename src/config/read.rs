//! A file, from text to settings.

use std::fmt;

use serde::de::DeserializeOwned;

use super::decode::decode;
use super::problem::{Problem, Report};
use super::route::Route;
use super::secrets::{MASK, Secrets};
use super::source::Source;
use super::substitute::{Environment, substitute};
use super::tree::{Key, Kind, Node, Scalar, join, parse};
use super::upstream::Upstream;
use super::validate::validate;
use super::{Config, merge};

/// A file that was read and has no problems.
#[derive(Clone)]
pub struct Loaded {
    /// The settings in force, defaults merged and values from outside put in.
    pub config: Config,
    /// Where each setting stands in the file.
    pub source: Source,
    /// What must not be printed.
    pub secrets: Secrets,
    /// FNV-1a, 64 bits, of the settings in force: the same settings give the same number in every
    /// process of one version, however the file is written. Not a secure hash.
    pub hash: u64,
}

impl fmt::Debug for Loaded {
    /// Says nothing of the content, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Loaded({:016x})", self.hash)
    }
}

/// Reads a file.
///
/// # Errors
/// All problems of the file, in its order; values from outside are masked in them.
pub fn read(text: &str, env: &dyn Environment) -> Result<Loaded, Vec<Problem>> {
    let mut report = Report::default();
    let Some((source, secrets, sections)) = decode_file(text, env, &mut report) else {
        return Err(report.finish());
    };
    validate(&sections, &source, &mut report);
    if report.is_empty() {
        let config = sections.config;
        let mut hash = Fnv1a::default();
        // Writing to the hash cannot fail, and every setting has a form in JSON.
        let _ = serde_json::to_writer(&mut hash, &config);
        return Ok(Loaded { config, source, secrets, hash: hash.0 });
    }
    Err(masked(report.finish(), &source, &secrets))
}

/// All steps but the rules between settings. `None` when there is nothing to look at.
pub(super) fn decode_file(
    text: &str,
    env: &dyn Environment,
    report: &mut Report,
) -> Option<(Source, Secrets, Sections)> {
    let mut root = parse(text, report)?;
    if root.kind == Kind::Null {
        report.push(Problem::new(root.place, "", "the file is empty"));
        return None;
    }
    let mut secrets = substitute(&mut root, env, report);
    // Before they are merged, so that their problems are first found under their own name.
    let defaults = decode_defaults(&root, report);
    merge::merge_defaults(&mut root, report);
    secrets.add_paths(&root, "");
    let source = Source::new(root);
    let sections = Sections { defaults, ..decode_sections(source.root(), report) };
    Some((source, secrets, sections))
}

/// The settings as far as they could be read. Lists lack what could not be, so each item's index in
/// the file stands beside.
#[derive(Default)]
pub(super) struct Sections {
    /// The settings.
    pub(super) config: Config,
    /// For each listener that was read, its index in the file.
    pub(super) listeners: Vec<usize>,
    /// For each route that was read, its index in the file.
    pub(super) routes: Vec<usize>,
    /// What stands under `defaults`, read by itself.
    pub(super) defaults: (Option<Route>, Option<Upstream>),
}

/// The sections that are read item by item: a problem in one route means reading that route again,
/// not the file.
const LARGE: [&str; 3] = ["listeners", "upstreams", "routes"];

fn decode_sections(root: &Node, report: &mut Report) -> Sections {
    let top = match &root.kind {
        Kind::Mapping(entries) => Kind::Mapping(
            entries
                .iter()
                .filter(|(key, _)| !LARGE.contains(&key.text.as_str()))
                .cloned()
                .collect(),
        ),
        other => other.clone(),
    };
    let top = Node { place: root.place, kind: top };
    let mut config: Config = decode(&top, "", report).unwrap_or_default();
    let (listeners, listeners_at) = decode_list(root, "listeners", report);
    let (routes, routes_at) = decode_list(root, "routes", report);
    config.listeners = listeners;
    config.routes = routes;
    match root.get("upstreams").map(|node| (node, &node.kind)) {
        None => {}
        Some((_, Kind::Mapping(entries))) => {
            for (key, node) in entries {
                let path = join("upstreams", &key.text);
                if let Some(upstream) = decode(node, &path, report) {
                    config.upstreams.insert(key.text.clone(), upstream);
                }
            }
        }
        Some((node, _)) => {
            let message = "expected a mapping of names to upstreams";
            report.push(Problem::new(node.place, "upstreams", message));
        }
    }
    Sections { config, listeners: listeners_at, routes: routes_at, ..Sections::default() }
}

fn decode_list<T: DeserializeOwned>(
    root: &Node,
    name: &str,
    report: &mut Report,
) -> (Vec<T>, Vec<usize>) {
    let Some(node) = root.get(name) else { return Default::default() };
    let Kind::Sequence(items) = &node.kind else {
        report.push(Problem::new(node.place, name, format!("expected a list of {name}")));
        return Default::default();
    };
    let read = |(index, item)| {
        decode(item, &format!("{name}[{index}]"), report).map(|value| (value, index))
    };
    items.iter().enumerate().filter_map(read).unzip()
}

/// Reads what stands under `defaults` by itself, so that its problems are found without a route
/// that takes it, and are named as what they are.
fn decode_defaults(root: &Node, report: &mut Report) -> (Option<Route>, Option<Upstream>) {
    let Some(defaults) = root.get("defaults") else { return (None, None) };
    let route = defaults
        .get("route")
        .and_then(|node| decode(&with_name(node, &merge::OWN_OF_ROUTE), "defaults.route", report));
    let upstream = defaults.get("upstream").and_then(|node| {
        decode(&without(node, &merge::OWN_OF_UPSTREAM), "defaults.upstream", report)
    });
    (route, upstream)
}

fn without(node: &Node, own: &[&str]) -> Node {
    let kind = match &node.kind {
        Kind::Mapping(entries) => Kind::Mapping(
            entries.iter().filter(|(key, _)| !own.contains(&key.text.as_str())).cloned().collect(),
        ),
        other => other.clone(),
    };
    Node { place: node.place, kind }
}

/// The defaults of a route with a name, so that they can be read as one.
fn with_name(node: &Node, own: &[&str]) -> Node {
    let mut node = without(node, own);
    let text = |text: &str| text.to_owned();
    if let Kind::Mapping(entries) = &mut node.kind {
        let name = Scalar { text: text("defaults"), plain: true, ..Scalar::default() };
        let name = Node { place: node.place, kind: Kind::Scalar(name) };
        entries.push((Key { text: text("name"), place: node.place }, name));
    }
    node
}

/// The problems without values from outside: those are searched for everywhere, and a short one
/// where it was put in.
fn masked(mut problems: Vec<Problem>, source: &Source, secrets: &Secrets) -> Vec<Problem> {
    for problem in &mut problems {
        problem.message = secrets.mask(&problem.message);
        if let Some(Node { kind: Kind::Scalar(scalar), .. }) = source.node(&problem.path)
            && scalar.substituted
        {
            let written = format!("`{}`", scalar.text);
            problem.message = problem.message.replace(&written, &format!("`{MASK}`"));
            problem.suggestion = None;
        }
        problem.suggestion = problem.suggestion.take().map(|text| secrets.mask(&text));
    }
    problems
}

/// The hash of Fowler, Noll and Vo, variant 1a, 64 bits.
struct Fnv1a(u64);

impl Default for Fnv1a {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl std::io::Write for Fnv1a {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        self.0 = bytes.iter().fold(self.0, step);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
