//! A file, from text to settings.

use serde::de::DeserializeOwned;

use super::decode::decode;
use super::problem::{Problem, Report};
use super::route::Route;
use super::secrets::{MASK, Secrets};
use super::source::Source;
use super::substitute::{Environment, substitute};
use super::tree::{Key, Kind, Node, Scalar, join, parse};
use super::upstream::Upstream;
use super::validate::{View, validate, validate_route_defaults, validate_upstream_defaults};
use super::{Config, merge};

/// A file that was read and has no problems.
#[derive(Clone, Debug)]
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

/// Reads a file.
///
/// # Errors
/// All problems of the file, in its order; values from outside are masked in them.
pub fn read(text: &str, env: &dyn Environment) -> Result<Loaded, Vec<Problem>> {
    let mut report = Report::default();
    let Some(mut root) = parse(text, &mut report) else { return Err(report.finish()) };
    if root.kind == Kind::Null {
        report.push(Problem::new(root.place, "", "the file is empty"));
        return Err(report.finish());
    }
    let mut secrets = substitute(&mut root, env, &mut report);
    defaults(&root, &mut report);
    merge::merge_defaults(&mut root, &mut report);
    secrets.add_paths(&root, "");
    let source = Source::new(root);
    let sections = decode_sections(source.root(), &mut report);
    let Sections { config, listeners, routes } = sections;
    let view = View { config: &config, listeners: &listeners, routes: &routes };
    validate(&view, &source, &mut report);
    if report.is_empty() {
        let hash = fnv1a(&serde_json::to_vec(&config).unwrap_or_default());
        return Ok(Loaded { config, source, secrets, hash });
    }
    Err(masked(report.finish(), &source, &secrets))
}

/// The settings as far as they could be read. Lists lack what could not be, so each item's index in
/// the file stands beside.
struct Sections {
    config: Config,
    listeners: Vec<usize>,
    routes: Vec<usize>,
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
    Sections { config, listeners: listeners_at, routes: routes_at }
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

/// Reads what stands under `defaults` by itself, so that its problems are found without a route that
/// takes it, and are named as what they are.
fn defaults(root: &Node, report: &mut Report) {
    let Some(defaults) = root.get("defaults") else { return };
    let key = Key { text: "defaults".to_owned(), place: defaults.place };
    let alone = Kind::Mapping(vec![(key, defaults.clone())]);
    let source = Source::new(Node { place: root.place, kind: alone });
    if let Some(route) = defaults.get("route") {
        let named = with_name(route, &merge::OWN_OF_ROUTE);
        if let Some(route) = decode::<Route>(&named, "defaults.route", report) {
            validate_route_defaults(&route, &source, report);
        }
    }
    if let Some(upstream) = defaults.get("upstream") {
        let kept = without(upstream, &merge::OWN_OF_UPSTREAM);
        if let Some(upstream) = decode::<Upstream>(&kept, "defaults.upstream", report) {
            validate_upstream_defaults(&upstream, &source, report);
        }
    }
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

/// The problems without values from outside: those are searched for everywhere, and a short one where
/// it was put in.
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
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests;
