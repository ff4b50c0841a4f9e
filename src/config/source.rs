//! Which setting stands where in the file.

use std::fmt;

use super::problem::Place;
use super::tree::{Kind, Node, is_plain, join};

/// The file as it was read, with defaults merged: it knows the place of every setting.
#[derive(Clone)]
pub struct Source {
    root: Node,
}

impl fmt::Debug for Source {
    /// Says nothing of the content, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({} values)", self.root.size())
    }
}

impl Source {
    pub(super) const fn new(root: Node) -> Self {
        Self { root }
    }

    pub(super) const fn root(&self) -> &Node {
        &self.root
    }

    /// The line and column, from 1, of a setting such as `routes[2].retry.max_attempts`. When the
    /// file does not have it, the place of the nearest setting around it that it has.
    #[must_use]
    pub fn position(&self, path: &str) -> (u32, u32) {
        let Place { line, column } = self.find(path).0.place;
        (line, column)
    }

    /// The node of a setting that the file has.
    pub(super) fn node(&self, path: &str) -> Option<&Node> {
        match self.find(path) {
            (node, "") => Some(node),
            _ => None,
        }
    }

    /// The deepest node on the way, and what of the path is left.
    fn find<'p>(&self, path: &'p str) -> (&Node, &'p str) {
        let mut node = &self.root;
        let mut rest = path;
        while !rest.is_empty() {
            let Some((child, after)) = step(node, rest) else { break };
            node = child;
            rest = after;
        }
        (node, rest)
    }
}

fn step<'n, 'p>(node: &'n Node, rest: &'p str) -> Option<(&'n Node, &'p str)> {
    match &node.kind {
        Kind::Null | Kind::Scalar(_) => None,
        Kind::Sequence(items) => {
            let (index, after) = rest.strip_prefix('[')?.split_once(']')?;
            Some((items.get(index.parse::<usize>().ok()?)?, after))
        }
        Kind::Mapping(entries) => {
            let rest = rest.strip_prefix('.').unwrap_or(rest);
            let quoted = rest.starts_with('"');
            // A quoted name is compared as it is spelt in a path, so that it need not be unquoted.
            entries.iter().find_map(|(key, child)| {
                let after = if quoted {
                    rest.strip_prefix(join("", &key.text).as_str())?
                } else {
                    rest.strip_prefix(key.text.as_str()).filter(|_| is_plain(&key.text))?
                };
                (after.is_empty() || after.starts_with(['.', '['])).then_some((child, after))
            })
        }
    }
}

#[cfg(test)]
mod tests;
