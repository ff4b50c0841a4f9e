//! Routes that can never be chosen.
//!
//! A route is hidden by one that is more specific in the documented order and whose conditions
//! follow from its own. More specific means narrower in most respects, so there are only two cases:
//! the paths are the same, or the path of the hiding route matches everything.
//!
//! In the first case the order asks for at least as many header conditions, and the implication for
//! no others, so both have conditions on the same names; the same then goes for the query. Routes
//! are therefore grouped by path and names, and within a group by their exact values, which keeps
//! the work for thousands of routes on one path linear unless their conditions are inexact.

use std::collections::HashMap;

use super::path::{End, Path, Segment};
use super::rule::{Rule, Value};

/// The pairs of a hidden route and the one that hides it, by their index in the file, in file
/// order. `rules` are in order of rank; `listeners` is the number of listeners.
pub(super) fn shadowed(rules: &[Rule], listeners: usize) -> Vec<(usize, usize)> {
    let mut groups: HashMap<Group<'_>, Members<'_>> = HashMap::new();
    let mut wide: HashMap<usize, Vec<&Rule>> = HashMap::new();
    let mut found = Vec::new();
    for rule in rules {
        let members = groups.entry(Group::of(rule)).or_default();
        let values = values(rule);
        let exact = members.exact.entry(values.clone()).or_default();
        let wide = wide.entry(rule.table).or_default();
        let wider = wide.iter().filter(|by| covers(&by.path, &rule.path));
        let mut hiding = exact.iter().chain(&members.inexact).chain(wider);
        if let Some(by) = hiding.find(|by| follows(by, rule, listeners)) {
            found.push((rule.index, by.index));
        }
        if is_wide(&rule.path) {
            wide.push(rule);
        }
        if values.contains(&None) {
            members.inexact.push(rule);
        } else {
            exact.push(rule);
        }
    }
    found.sort_unstable();
    found
}

/// What two routes of the same path must share for one to hide the other.
#[derive(PartialEq, Eq, Hash)]
struct Group<'r> {
    table: usize,
    path: PathKey<'r>,
    headers: Vec<&'r str>,
    query: Vec<&'r str>,
}

#[derive(PartialEq, Eq, Hash)]
enum PathKey<'r> {
    Any,
    Exact(&'r str),
    Segments(&'r [Segment], End),
    Regex(&'r str),
}

/// The exact values of a route, in the order of their names; nothing for an inexact one.
type Values<'r> = Vec<Option<&'r [u8]>>;

#[derive(Default)]
struct Members<'r> {
    /// Those whose values are all exact, by these.
    exact: HashMap<Values<'r>, Vec<&'r Rule>>,
    inexact: Vec<&'r Rule>,
}

impl<'r> Group<'r> {
    fn of(rule: &'r Rule) -> Self {
        Self {
            table: rule.table,
            path: match &rule.path {
                Path::Any => PathKey::Any,
                Path::Exact(path) => PathKey::Exact(path),
                Path::Segments { segments, end } => PathKey::Segments(segments, *end),
                Path::Regex { text, .. } => PathKey::Regex(text),
            },
            headers: rule.headers.iter().map(|(name, _)| name.as_str()).collect(),
            query: rule.query.iter().map(|(name, _)| &**name).collect(),
        }
    }
}

fn values(rule: &Rule) -> Values<'_> {
    let headers = rule.headers.iter().map(|(_, value)| value);
    headers.chain(rule.query.iter().map(|(_, value)| value)).map(Value::exact).collect()
}

/// Whether the path matches everything, or everything that starts with a slash.
fn is_wide(path: &Path) -> bool {
    match path {
        Path::Segments { segments, end } => segments.is_empty() && *end == End::Prefix,
        Path::Regex { text, .. } => matches!(bare(text), ".*" | "/.*"),
        Path::Any | Path::Exact(_) => false,
    }
}

/// Whether a wide path matches every path that the other matches.
fn covers(wide: &Path, other: &Path) -> bool {
    match (wide, other) {
        (Path::Regex { text, .. }, _) if bare(text) == ".*" => true,
        (Path::Regex { .. }, Path::Segments { segments, end }) => {
            !segments.is_empty() || *end == End::Rest
        }
        (Path::Regex { .. }, _) => false,
        _ => true,
    }
}

/// A regular expression without the anchors at its ends, which are implied.
fn bare(text: &str) -> &str {
    let text = text.strip_prefix('^').unwrap_or(text);
    text.strip_suffix('$').unwrap_or(text)
}

/// Whether the conditions of `by`, host and path aside, follow from those of `rule`.
fn follows(by: &Rule, rule: &Rule, listeners: usize) -> bool {
    let methods = if rule.methods.is_empty() {
        by.methods.is_empty()
    } else {
        rule.methods.iter().all(|method| by.takes(method))
    };
    let calls = !by.grpc || rule.grpc;
    let on_listener = |listener: &usize| by.listeners.contains(listener);
    let listeners = by.listeners.is_empty()
        || if rule.listeners.is_empty() {
            by.listeners.len() == listeners
        } else {
            rule.listeners.iter().all(on_listener)
        };
    calls
        && methods
        && listeners
        && implied(&by.headers, &rule.headers)
        && implied(&by.query, &rule.query)
}

/// Whether each of these conditions follows from one of the others of the same name.
fn implied<N: PartialEq>(these: &[(N, Value)], from: &[(N, Value)]) -> bool {
    these.iter().all(|(name, value)| {
        from.iter().any(|(other, given)| other == name && given.implies(value))
    })
}
