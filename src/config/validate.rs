//! What a type cannot say: rules between settings, and names that must exist.
//!
//! Rules see the settings as they were read, and report at the place of the setting that has to be
//! changed. A rule says nothing where a setting that it looks at could not be read: that has been
//! reported, and what follows from it would only be noise.

mod fallback;
mod idempotency;
mod listener;
mod origin;
mod policy;
mod priority;
mod route;
mod store;
mod tls;
mod tunnel;
mod upstream;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::hash::Hash;
use std::ops::Bound::{self, Unbounded};

use super::admin::{Admin, MaxMemory, Runtime};
use super::problem::{Place, Problem, Report};
use super::read::Sections;
use super::source::Source;
use super::tree::{Kind, join};
use crate::units::ByteSize;

/// The most listeners; each is a socket for every worker.
pub const MAX_LISTENERS: usize = 64;
/// The most routes: each is a label of metrics and has a breaker of its own.
pub const MAX_ROUTES: usize = 20_000;
/// The most upstreams: each is a label of metrics.
pub const MAX_UPSTREAMS: usize = 2_000;
/// The most endpoints of one upstream: each choice may have to look at all of them.
pub const MAX_ENDPOINTS: usize = 1_000;
/// The most stores: each is a file, or connections, of its own, and a label of metrics.
pub const MAX_STORES: usize = 16;
/// The longest name of a listener, route or upstream, as each is a metric label.
pub const MAX_NAME: usize = 64;

/// Checks the rules and adds what breaks them to the report.
pub(super) fn validate(sections: &Sections, source: &Source, report: &mut Report) {
    let unread = report.paths().clone();
    let mut check = Check { source, report, unread };
    let config = &sections.config;
    let names = Names::of(source, &config.priorities.tiers);
    // First, so that a problem in a default carries its own name and not that of a route.
    if let Some(route) = &sections.defaults.0 {
        route::policies(&mut check, &"defaults.route", route, &names);
    }
    if let Some(upstream) = &sections.defaults.1 {
        upstream::policies(&mut check, &"defaults.upstream", upstream);
    }
    check.count("listeners", MAX_LISTENERS);
    check.count("routes", MAX_ROUTES);
    check.count("upstreams", MAX_UPSTREAMS);
    check.count("stores", MAX_STORES);
    admin(&mut check, &config.admin);
    priority::check(&mut check, &"priorities", &config.priorities);
    runtime(&mut check, &config.runtime);
    if source.root().get("listeners").is_none_or(|node| node.size() == 1) {
        check.problem(&"listeners", "at least one listener is needed");
    }
    let listeners = || sections.listeners.iter().copied().zip(&config.listeners);
    check.once("name", "listeners", listeners().map(|(i, l)| (i, &l.name)));
    for (index, one) in listeners() {
        listener::check(&mut check, &format_args!("listeners[{index}]"), one);
    }
    listener::binds(&mut check, &config.admin.bind, listeners());
    for (name, one) in &config.upstreams {
        let at = join("upstreams", name);
        check.name(&at, name);
        upstream::check(&mut check, &at, one);
    }
    store::check(&mut check, &config.stores);
    let routes = || sections.routes.iter().copied().zip(&config.routes);
    check.once("name", "routes", routes().map(|(i, r)| (i, &r.name)));
    for (index, one) in routes() {
        let at = format_args!("routes[{index}]");
        route::check(&mut check, &at, one, &names);
        tunnel::connect(&mut check, &at, one, &config.upstreams);
    }
    idempotency::namespaces(&mut check, routes());
    origin::check(&mut check, config, routes());
}

fn admin(check: &mut Check<'_>, admin: &Admin) {
    if admin.max_connections == 0 {
        check.problem(&"admin.max_connections", "is 0, so nobody could ask; write 1 or more");
    }
}

/// The least `runtime.max_memory`: what the process holds without a single request, twice.
const MIN_MEMORY: ByteSize = ByteSize::kib(32 * 1024);

fn runtime(check: &mut Check<'_>, runtime: &Runtime) {
    if let Some(MaxMemory::Size(size)) = runtime.max_memory
        && size < MIN_MEMORY
    {
        let message = format!("is {size}, too little to do anything; write {MIN_MEMORY} or more");
        check.problem(&"runtime.max_memory", message);
    }
}

/// The path of a setting, spelt out only when there is something to say of it.
type At<'a> = &'a dyn std::fmt::Display;

/// The names that routes can refer to. From the file and not from the settings, so that an upstream
/// that could not be read is not reported as missing besides.
pub(super) struct Names<'a> {
    pub(super) upstreams: HashSet<&'a str>,
    pub(super) listeners: HashSet<&'a str>,
    /// Each store, and whether it has an `aead_key`.
    pub(super) stores: HashMap<&'a str, bool>,
    pub(super) tiers: &'a [String],
}

impl<'a> Names<'a> {
    fn of(source: &'a Source, tiers: &'a [String]) -> Self {
        let root = source.root();
        let upstreams = root.get("upstreams").map(super::tree::Node::entries).unwrap_or_default();
        let listeners = match root.get("listeners").map(|node| &node.kind) {
            Some(Kind::Sequence(items)) => items.as_slice(),
            _ => &[],
        };
        let name = |node: &'a super::tree::Node| match node.get("name").map(|name| &name.kind) {
            Some(Kind::Scalar(scalar)) => Some(scalar.text.as_str()),
            _ => None,
        };
        let stores = root.get("stores").map(super::tree::Node::entries).unwrap_or_default();
        let sealed = |store: &super::tree::Node| {
            store.get("aead_key").is_some_and(|key| key.kind != Kind::Null)
        };
        Self {
            stores: stores.iter().map(|(key, one)| (key.text.as_str(), sealed(one))).collect(),
            upstreams: upstreams.iter().map(|(key, _)| key.text.as_str()).collect(),
            listeners: listeners.iter().filter_map(name).collect(),
            tiers,
        }
    }
}

/// The report with what the rules need to speak of places.
pub(super) struct Check<'a> {
    source: &'a Source,
    report: &'a mut Report,
    /// The paths of what could not be read.
    unread: BTreeSet<String>,
}

impl Check<'_> {
    /// Reports a problem of a setting, unless it could not be read.
    fn problem(&mut self, path: At<'_>, message: impl Into<String>) {
        self.problem_like(path, message, None);
    }

    /// The same with the name that was probably meant.
    fn problem_like(&mut self, path: At<'_>, message: impl Into<String>, meant: Option<&str>) {
        if !self.report.is_full() && self.readable(path) {
            let path = path.to_string();
            let (line, column) = self.source.position(&path);
            let place = Place { line, column };
            self.report.push(Problem::new(place, &path, message).suggest(meant));
        }
    }

    /// Reports a problem between a setting and others of its mapping, unless one of them could not
    /// be read and so has a value that nobody wrote.
    fn conflict(&mut self, path: At<'_>, message: impl Into<String>) {
        if self.readable(&parent(&path.to_string())) {
            self.problem(path, message);
        }
    }

    /// Whether everything in, and every mapping around, a setting could be read.
    fn readable(&self, path: At<'_>) -> bool {
        if self.unread.is_empty() {
            return true;
        }
        let path = path.to_string();
        let inside = |from: String| {
            let next =
                self.unread.range::<str, _>((Bound::Included(from.as_str()), Unbounded)).next();
            next.is_some_and(|bad| bad.starts_with(&from))
        };
        let mut ends = path.match_indices(['.', '[']).map(|(end, _)| end).chain([path.len()]);
        let around = self.unread.contains("")
            || ends.any(|end| path.get(..end).is_some_and(|p| self.unread.contains(p)));
        !around && !inside(format!("{path}.")) && !inside(format!("{path}["))
    }

    /// Reports a count that must not be 0.
    fn some(&mut self, path: At<'_>, count: u32) {
        if count == 0 {
            self.problem(path, "is 0; it must be 1 or more");
        }
    }

    /// Reports a number out of its range.
    fn range<T: PartialOrd + std::fmt::Display>(
        &mut self,
        path: At<'_>,
        value: T,
        low: T,
        high: T,
    ) {
        if value < low || value > high {
            self.problem(path, format!("is {value}; it must be from {low} to {high}"));
        }
    }

    /// Reports a name that cannot be a label.
    fn name(&mut self, path: At<'_>, name: &str) {
        let fits = !name.is_empty()
            && name.len() <= MAX_NAME
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b));
        if !fits {
            self.problem(
                path,
                format!(
                    "`{name}` cannot be a name; write 1 to {MAX_NAME} letters, digits, `_`, `.` \
                     or `-`"
                ),
            );
        }
    }

    /// Whether a setting was put in from outside.
    fn substituted(&self, path: &str) -> bool {
        let node = self.source.node(path).map(|node| &node.kind);
        matches!(node, Some(Kind::Scalar(scalar)) if scalar.substituted)
    }

    /// The keys that a mapping has, but for those that are null.
    fn written(&self, path: &str) -> Vec<String> {
        let entries = self.source.node(path).map(super::tree::Node::entries).unwrap_or_default();
        let given = entries.iter().filter(|(_, value)| value.kind != Kind::Null);
        given.map(|(key, _)| key.text.clone()).collect()
    }

    /// The path of a key in a mapping, or of the short form that stands in its place.
    fn either(&self, path: &str, key: &str) -> String {
        let long = join(path, key);
        if self.source.node(&long).is_some() { long } else { path.to_owned() }
    }

    /// Reports a section with too many entries.
    fn count(&mut self, section: &str, most: usize) {
        let count = match self.source.root().get(section).map(|node| &node.kind) {
            Some(Kind::Sequence(items)) => items.len(),
            Some(Kind::Mapping(entries)) => entries.len(),
            _ => 0,
        };
        if count > most {
            self.problem(&section, format!("has {count} entries; {most} is the most"));
        }
    }

    /// Reports values of one key that more than one item of a list has.
    fn once<'v, T: Hash + Eq + std::fmt::Display + 'v + ?Sized>(
        &mut self,
        key: &str,
        list: &str,
        values: impl Iterator<Item = (usize, &'v T)>,
    ) {
        let mut first: HashMap<&T, usize> = HashMap::new();
        for (index, value) in values {
            if let Some(before) = first.get(value) {
                let (line, _) = self.source.position(&format!("{list}[{before}].{key}"));
                let path = format!("{list}[{index}].{key}");
                self.problem(&path, format!("`{value}` is taken already, in line {line}"));
            } else {
                first.insert(value, index);
            }
        }
    }
}

/// The path of the mapping or list around a setting. A quoted name may contain dots; the shorter
/// path that comes out then is around the setting as well.
fn parent(path: &str) -> &str {
    path.rfind(['.', '[']).and_then(|at| path.get(..at)).unwrap_or(path)
}

/// The values of a mapping with the path of each.
fn each<'m, V>(
    path: At<'_>,
    map: &'m BTreeMap<String, V>,
) -> impl Iterator<Item = (String, &'m str, &'m V)> {
    let path = path.to_string();
    map.iter().map(move |(name, value)| (join(&path, name), name.as_str(), value))
}

#[cfg(test)]
mod tests;
