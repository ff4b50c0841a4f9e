//! Values from outside: `${NAME}` from the environment, `${file:/path}` from a file.
//!
//! They are put into scalars, never into names, after the file has been read as YAML: what comes in
//! cannot add settings. What came in is remembered, because it is not printed back.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::problem::{Problem, Report};
use super::secrets::Secrets;
use super::tree::{Kind, MAX_FILE_BYTES, Node, Scalar, join};

/// The most that is read of a file that is put in; a secret is far smaller.
pub const MAX_VALUE_BYTES: u64 = 64 << 10;

/// The most that is put in, all in all: as much as a file may be large, so that a short file with
/// many references to a long value stays in bounds.
const MAX_TOTAL_BYTES: usize = MAX_FILE_BYTES;

/// Where values from outside come from.
pub trait Environment {
    /// The value of an environment variable; `None` when it is not set.
    ///
    /// # Errors
    /// When it is set and cannot be used; the text says why, without the value.
    fn variable(&self, name: &str) -> Result<Option<String>, String>;

    /// The content of a file, at most [`MAX_VALUE_BYTES`].
    ///
    /// # Errors
    /// When it cannot be read or is not a text of that size; the text says why.
    fn file(&self, path: &Path) -> Result<String, String>;
}

/// The environment and the files of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        match std::env::var(name) {
            Ok(value) => Ok(Some(value)),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err("its value is not UTF-8".to_owned()),
        }
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        let cause = |error: std::io::Error| error.to_string();
        // Asked before it is opened, because opening a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(cause)?.is_file() {
            return Err("it is not a regular file".to_owned());
        }
        let mut text = String::new();
        let read = File::open(path).map_err(cause)?.take(MAX_VALUE_BYTES + 1);
        { read }.read_to_string(&mut text).map_err(cause)?;
        if text.len() as u64 > MAX_VALUE_BYTES {
            return Err(format!("it is larger than {} KiB", MAX_VALUE_BYTES >> 10));
        }
        Ok(text)
    }
}

/// Puts the values from outside into every scalar of the tree, and returns what is to be kept
/// secret.
pub fn substitute(root: &mut Node, env: &dyn Environment, report: &mut Report) -> Secrets {
    let mut walk = Walk { env, report, secrets: Secrets::default(), room: MAX_TOTAL_BYTES };
    walk.node(root, "");
    walk.secrets
}

struct Walk<'a> {
    env: &'a dyn Environment,
    report: &'a mut Report,
    secrets: Secrets,
    /// How many bytes may still be put in.
    room: usize,
}

impl Walk<'_> {
    fn node(&mut self, node: &mut Node, path: &str) {
        match &mut node.kind {
            Kind::Null => {}
            Kind::Sequence(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    if holds_reference(item) {
                        self.node(item, &format!("{path}[{index}]"));
                    }
                }
            }
            Kind::Mapping(entries) => {
                for (key, value) in entries {
                    if holds_reference(value) {
                        self.node(value, &join(path, &key.text));
                    }
                }
            }
            Kind::Scalar(scalar) => {
                if !scalar.text.contains("${") {
                    return;
                }
                match self.expand(&scalar.text) {
                    Ok((text, substituted)) => {
                        scalar.plain |= substituted;
                        scalar.substituted = substituted;
                        scalar.text = text;
                    }
                    Err(message) => {
                        scalar.broken = true;
                        self.report.push(Problem::new(node.place, path, message));
                    }
                }
            }
        }
    }

    /// The text with its references replaced, and whether there were any.
    fn expand(&mut self, text: &str) -> Result<(String, bool), String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut substituted = false;
        while let Some(at) = rest.find("${") {
            let (before, from) = rest.split_at(at);
            if let Some(literal) = before.strip_suffix('$') {
                out.push_str(literal);
                out.push_str("${");
                rest = from.get(2..).unwrap_or("");
                continue;
            }
            let inner = from.get(2..).unwrap_or("");
            let (name, after) = inner
                .split_once('}')
                .ok_or("`${` is not closed by `}`; write `$${` for the characters themselves")?;
            let value = self.value(name)?;
            self.room = self.room.checked_sub(value.len()).ok_or_else(|| {
                format!("the values put in are larger than {} MiB", MAX_TOTAL_BYTES >> 20)
            })?;
            self.secrets.add_value(&value);
            out.push_str(before);
            out.push_str(&value);
            substituted = true;
            rest = after;
        }
        out.push_str(rest);
        Ok((out, substituted))
    }

    fn value(&self, name: &str) -> Result<String, String> {
        if let Some(path) = name.strip_prefix("file:") {
            if !path.starts_with('/') {
                return Err(format!("`${{{name}}}` needs an absolute path"));
            }
            let text = self.env.file(Path::new(path));
            let text = text.map_err(|why| format!("`{path}` cannot be read: {why}"))?;
            let line = text.strip_suffix('\n').unwrap_or(&text);
            return Ok(line.strip_suffix('\r').unwrap_or(line).to_owned());
        }
        let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !first || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(format!(
                "`${{{name}}}` is not a reference; write `${{NAME}}` or `${{file:/path}}`, \
                 and `$${{` for the characters themselves"
            ));
        }
        match self.env.variable(name) {
            Ok(Some(value)) => Ok(value),
            Ok(None) => Err(format!("the environment variable `{name}` is not set")),
            Err(why) => Err(format!("the environment variable `{name}` cannot be used: {why}")),
        }
    }
}

/// Whether anything is to be replaced in it; paths are built only where this is so.
fn holds_reference(node: &Node) -> bool {
    match &node.kind {
        Kind::Null => false,
        Kind::Scalar(Scalar { text, .. }) => text.contains("${"),
        Kind::Sequence(items) => items.iter().any(holds_reference),
        Kind::Mapping(entries) => entries.iter().any(|(_, value)| holds_reference(value)),
    }
}

#[cfg(test)]
mod tests;
