//! Pieces of files, for the tests of this floor and of those above.

use serde::de::DeserializeOwned;

use super::decode::decode;
use super::problem::Report;
use super::tree::parse;

/// Reads a piece of a file as the whole file is read.
pub(crate) fn piece<T: DeserializeOwned>(text: &str) -> T {
    let mut report = Report::default();
    let root = parse(text, &mut report);
    let value = root.and_then(|root| decode(&root, "", &mut report));
    value.unwrap_or_else(|| panic!("{text}: {:?}", report.finish()))
}
