//! What the tests of this floor share: an environment that is not the process's, and short files.

use std::collections::BTreeMap;
use std::path::Path;

use super::substitute::Environment;
use super::{Loaded, read};

/// An environment of fixed variables and files.
#[derive(Default)]
pub(super) struct Fixed {
    pub(super) variables: BTreeMap<&'static str, &'static str>,
    pub(super) files: BTreeMap<&'static str, &'static str>,
}

impl Environment for Fixed {
    fn variable(&self, name: &str) -> Result<Option<String>, String> {
        Ok(self.variables.get(name).map(|value| (*value).to_owned()))
    }

    fn file(&self, path: &Path) -> Result<String, String> {
        let found = path.to_str().and_then(|path| self.files.get(path));
        found.map(|text| (*text).to_owned()).ok_or_else(|| "no such file".to_owned())
    }
}

/// A listener, an upstream `a` and a route to it, with more keys for the upstream and for the
/// route.
pub(super) fn file(upstream: &str, route: &str) -> String {
    format!(
        "listeners: [{{ name: in, bind: '127.0.0.1:15001' }}]\n\
         upstreams:\n  a: {{ endpoints: ['10.0.0.1:80']{} }}\n\
         routes:\n  - {{ name: r, upstream: a{} }}\n",
        after_comma(upstream),
        after_comma(route)
    )
}

fn after_comma(keys: &str) -> String {
    if keys.is_empty() { String::new() } else { format!(", {keys}") }
}

/// Reads a file that has no problems.
pub(super) fn good(text: &str) -> Loaded {
    match read(text, &Fixed::default()) {
        Ok(loaded) => loaded,
        Err(problems) => panic!("{problems:#?}\n{text}"),
    }
}

/// The problems of a file, one a line, and none when it has none.
pub(super) fn problems(text: &str) -> Vec<String> {
    match read(text, &Fixed::default()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}
