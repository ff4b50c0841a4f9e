//! The routes of one host, by path, and the search among them.
//!
//! Routes are known by their rank: the lower, the more specific. A list of ranks is always in
//! ascending order, so the first route of a list whose conditions hold is the best of that list,
//! and a list or a subtree whose lowest rank is not below the best one so far need not be looked
//! at.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::Target;
use super::path::{End, Path, Segment};
use super::rule::Rule;

/// The routes of one host.
#[derive(Debug, Default)]
pub(super) struct Table {
    exact: HashMap<Box<str>, Vec<usize>, RandomState>,
    /// A trie of segments; the first node stands for the root.
    nodes: Vec<Node>,
    regexes: Vec<usize>,
    any: Vec<usize>,
}

/// What follows the segments that lead to it.
#[derive(Debug)]
struct Node {
    literals: HashMap<Box<str>, usize, RandomState>,
    capture: Option<usize>,
    closed: Vec<usize>,
    rest: Vec<usize>,
    prefix: Vec<usize>,
    /// The lowest rank here and below.
    lowest: usize,
}

/// A search for the best route of one request.
#[derive(Debug)]
pub(super) struct Search<'s> {
    rules: &'s [Rule],
    target: &'s Target<'s>,
    /// The rank of the best route so far; above all ranks when there is none.
    best: usize,
    work: usize,
}

impl Table {
    /// Adds a route. Its rank must be above all that were added before.
    pub(super) fn insert(&mut self, rank: usize, path: &Path) {
        match path {
            Path::Any => self.any.push(rank),
            Path::Regex { .. } => self.regexes.push(rank),
            Path::Exact(path) => self.exact.entry(path.clone()).or_default().push(rank),
            Path::Segments { segments, end } => self.insert_segments(rank, segments, *end),
        }
    }

    /// The number of routes with a regular expression.
    pub(super) fn regexes(&self) -> usize {
        self.regexes.len()
    }

    fn insert_segments(&mut self, rank: usize, segments: &[Segment], end: End) {
        if self.nodes.is_empty() {
            self.nodes.push(Node::new(rank));
        }
        let mut at = 0;
        for segment in segments {
            let fresh = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { return };
            at = match segment {
                Segment::Literal(text) => *node.literals.entry(text.clone()).or_insert(fresh),
                Segment::Capture => *node.capture.get_or_insert(fresh),
            };
            if at == fresh {
                self.nodes.push(Node::new(rank));
            }
        }
        let Some(node) = self.nodes.get_mut(at) else { return };
        match end {
            End::Closed => node.closed.push(rank),
            End::Rest => node.rest.push(rank),
            End::Prefix => node.prefix.push(rank),
        }
    }
}

impl Node {
    /// A node made for a route of this rank. Later routes have higher ranks, so it stays the
    /// lowest.
    fn new(rank: usize) -> Self {
        Self {
            literals: HashMap::default(),
            capture: None,
            closed: Vec::new(),
            rest: Vec::new(),
            prefix: Vec::new(),
            lowest: rank,
        }
    }
}

impl<'s> Search<'s> {
    pub(super) fn new(rules: &'s [Rule], target: &'s Target<'s>) -> Self {
        Self { rules, target, best: usize::MAX, work: 0 }
    }

    /// The number of routes examined and of nodes visited.
    pub(super) fn work(&self) -> usize {
        self.work
    }

    /// The rank of the best route of a table. All tables searched before had none.
    pub(super) fn in_table(&mut self, table: &Table) -> Option<usize> {
        let path = self.target.path;
        if let Some(list) = table.exact.get(path) {
            self.offer(list);
        }
        // Every other kind of path is less specific than an exact one.
        if self.best == usize::MAX {
            self.visit(table, 0, path.strip_prefix('/'));
            self.offer(&table.regexes);
            self.offer(&table.any);
        }
        Some(self.best).filter(|best| *best < usize::MAX)
    }

    /// Visits a node; `rest` is what follows the slash behind the segments that led here, or
    /// nothing if the path ended. The depth is bounded by that of the trie.
    fn visit(&mut self, table: &Table, node: usize, rest: Option<&str>) {
        let Some(node) = table.nodes.get(node).filter(|node| node.lowest < self.best) else {
            return;
        };
        self.work += 1;
        let Some(rest) = rest else {
            self.offer(&node.closed);
            self.offer(&node.prefix);
            return;
        };
        if !node.literals.is_empty() || node.capture.is_some() {
            let (segment, deeper) = match rest.split_once('/') {
                Some((segment, deeper)) => (segment, Some(deeper)),
                None => (rest, None),
            };
            if let Some(next) = node.literals.get(segment) {
                self.visit(table, *next, deeper);
            }
            if let Some(next) = node.capture.filter(|_| !segment.is_empty()) {
                self.visit(table, next, deeper);
            }
        }
        self.offer(&node.rest);
        self.offer(&node.prefix);
    }

    /// Takes the first route of a list that holds, if it is better than the best so far.
    fn offer(&mut self, list: &[usize]) {
        for rank in list.iter().copied().take_while(|rank| *rank < self.best) {
            self.work += 1;
            if self.rules.get(rank).is_some_and(|rule| rule.holds(self.target)) {
                self.best = rank;
                return;
            }
        }
    }
}
