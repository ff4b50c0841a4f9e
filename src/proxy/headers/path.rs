//! Paths that a server behind us could read as those of another route, whose policies, rewrites and
//! upstream are others: refused with 400.

use crate::policy::path_reading::{Fault, readings};
use crate::snapshot::matcher::{Matcher, Target};

/// Looks whether a request goes by the route of this index however its path is read.
///
/// # Errors
/// A sentence for the problem's detail: the path has a reading by which it goes by another route or
/// none, or one that nobody should see.
pub fn one_reading(
    matcher: &Matcher,
    target: &Target<'_>,
    route: usize,
) -> Result<(), &'static str> {
    let others = readings(target.path).map_err(Fault::detail)?;
    let same = others.iter().all(|path| {
        let found = matcher.find(&Target { path, ..*target });
        found.is_some_and(|found| found.index == route)
    });
    if same { Ok(()) } else { Err("Other servers can read the path as one of another route") }
}

#[cfg(test)]
mod tests;
