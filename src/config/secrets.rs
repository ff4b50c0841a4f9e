//! What is not printed back: values from outside, the values of header fields that carry proof of
//! identity, and users with their passwords in addresses.

use std::collections::BTreeSet;
use std::fmt;

use super::tree::{Kind, Node, join};

/// What is printed in place of a secret.
pub const MASK: &str = "***";

/// A value shorter than this is masked where it was put in, and not in other texts: to mask every
/// `1` or `8080` would make the output unreadable and protect nothing.
const SHORTEST_SEARCHED: usize = 6;

/// The values that came from outside, and the settings that they are in.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// Longest first, so that a secret that contains another is masked whole.
    values: Vec<String>,
    paths: BTreeSet<String>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({} values)", self.values.len())
    }
}

impl Secrets {
    /// Remembers a value that was put in.
    pub(super) fn add_value(&mut self, value: &str) {
        if value.len() >= SHORTEST_SEARCHED && !self.values.iter().any(|known| known == value) {
            let at = self.values.partition_point(|known| known.len() > value.len());
            self.values.insert(at, value.to_owned());
        }
    }

    /// Remembers the paths of all values that were put in.
    pub(super) fn add_paths(&mut self, node: &Node, path: &str) {
        match &node.kind {
            Kind::Null => {}
            Kind::Scalar(scalar) if scalar.substituted => {
                self.paths.insert(path.to_owned());
            }
            Kind::Scalar(_) => {}
            Kind::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    if holds_substituted(item) {
                        self.add_paths(item, &format!("{path}[{index}]"));
                    }
                }
            }
            Kind::Mapping(entries) => {
                for (key, value) in entries {
                    if holds_substituted(value) {
                        self.add_paths(value, &join(path, &key.text));
                    }
                }
            }
        }
    }

    /// The text with every value from outside masked, and every user in an address.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let mut text = without_users(text);
        for value in &self.values {
            if text.contains(value) {
                text = text.replace(value, MASK);
            }
        }
        text
    }

    /// The whole configuration as YAML's data model, masked.
    pub(super) fn mask_tree(&self, value: &mut serde_yaml::Value) {
        self.walk(value, "", "", false);
    }

    fn walk(&self, value: &mut serde_yaml::Value, path: &str, name: &str, hidden: bool) {
        use serde_yaml::Value;
        let hidden = hidden || self.paths.contains(path);
        match value {
            Value::Null => {}
            Value::Sequence(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.walk(item, &format!("{path}[{index}]"), name, hidden);
                }
            }
            Value::Mapping(entries) => {
                let fields = matches!(name, "set" | "add" | "headers" | "query");
                for (key, entry) in entries.iter_mut() {
                    let key = key.as_str().unwrap_or_default();
                    let hidden = hidden || fields && carries_identity(key);
                    self.walk(entry, &join(path, key), key, hidden);
                }
            }
            _ if hidden => *value = Value::String(MASK.to_owned()),
            Value::String(text) => *text = self.mask(text),
            Value::Bool(_) | Value::Number(_) | Value::Tagged(_) => {}
        }
    }
}

/// The text with what stands before the `@` of addresses masked (RFC 3986, 3.2.1).
fn without_users(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "/?#,\"'`<>".contains(c));
        let (authority, tail) = after.split_at(end.unwrap_or(after.len()));
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                out.push_str(MASK);
                out.push('@');
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn holds_substituted(node: &Node) -> bool {
    match &node.kind {
        Kind::Null => false,
        Kind::Scalar(scalar) => scalar.substituted,
        Kind::Sequence(items) => items.iter().any(holds_substituted),
        Kind::Mapping(entries) => entries.iter().any(|(_, value)| holds_substituted(value)),
    }
}

/// Whether a header field or query parameter of this name is proof of identity.
fn carries_identity(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    matches!(name.as_str(), "cookie" | "set-cookie")
        || ["authorization", "api-key", "api_key", "apikey", "token", "secret", "password"]
            .iter()
            .any(|part| name.contains(part))
}

#[cfg(test)]
mod tests;
