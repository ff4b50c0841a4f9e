//! `defaults` under every route and upstream, before they are read.
//!
//! Mappings are merged name by name; lists and scalars are taken whole; what a route or upstream
//! says wins, and `null` says something. Each value keeps its own place, so that a problem in a
//! default is shown where it was written.

use super::problem::{Problem, Report};
use super::tree::{Kind, MAX_NODES, Node, join};

/// What makes a route the route that it is, and so cannot be a default.
pub(super) const OWN_OF_ROUTE: [&str; 4] = ["name", "match", "upstream", "upstreams"];
/// What makes an upstream the upstream that it is.
pub(super) const OWN_OF_UPSTREAM: [&str; 3] = ["endpoints", "dns", "original_destination"];

/// Merges the defaults into the tree.
pub(super) fn merge_defaults(root: &mut Node, report: &mut Report) {
    let mut room = MAX_NODES;
    for (kind, own, section) in
        [("route", &OWN_OF_ROUTE[..], "routes"), ("upstream", &OWN_OF_UPSTREAM[..], "upstreams")]
    {
        let Some(defaults) = root.get("defaults").and_then(|all| all.get(kind)) else { continue };
        let base = without(defaults, own, kind, report);
        let Some(target) = entry(root, section) else { continue };
        let fits = match &mut target.kind {
            Kind::Sequence(items) => items.iter_mut().all(|item| lay_over(&base, item, &mut room)),
            Kind::Mapping(entries) => {
                entries.iter_mut().all(|(_, item)| lay_over(&base, item, &mut room))
            }
            Kind::Null | Kind::Scalar(_) => true,
        };
        if !fits {
            let message = format!("with `defaults` the file has more than {MAX_NODES} values");
            report.push(Problem::new(base.place, &join("defaults", kind), message));
        }
    }
}

/// The defaults without what cannot be one, which is reported.
fn without(defaults: &Node, own: &[&str], kind: &str, report: &mut Report) -> Node {
    let Kind::Mapping(entries) = &defaults.kind else { return defaults.clone() };
    let mut kept = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        if own.contains(&key.text.as_str()) {
            let path = join(&join("defaults", kind), &key.text);
            let message = format!("each {kind} has its own; this cannot be a default");
            report.push(Problem::new(key.place, &path, message));
        } else {
            kept.push((key.clone(), value.clone()));
        }
    }
    Node { place: defaults.place, kind: Kind::Mapping(kept) }
}

fn entry<'a>(root: &'a mut Node, name: &str) -> Option<&'a mut Node> {
    match &mut root.kind {
        Kind::Mapping(entries) => {
            entries.iter_mut().find(|(key, _)| key.text == name).map(|(_, node)| node)
        }
        _ => None,
    }
}

/// Adds to `over` what only `base` has; false when there is no room for it.
fn lay_over(base: &Node, over: &mut Node, room: &mut usize) -> bool {
    let (Kind::Mapping(below), Kind::Mapping(above)) = (&base.kind, &mut over.kind) else {
        return true;
    };
    for (key, value) in below {
        if let Some((_, own)) = above.iter_mut().find(|(name, _)| name.text == key.text) {
            if !lay_over(value, own, room) {
                return false;
            }
            continue;
        }
        let Some(left) = room.checked_sub(value.size()) else { return false };
        *room = left;
        above.push((key.clone(), value.clone()));
    }
    true
}

#[cfg(test)]
mod tests;
