//! What is wrong with a file, and where.
//!
//! Every step of reading adds to one [`Report`], so that an operator sees all problems at once. The
//! report keeps them apart by place and text, because a setting under `defaults` is looked at once
//! for every route that takes it.

use std::collections::{BTreeSet, HashSet};
use std::fmt;

/// A place in the file: line and column, both counted from 1; 0 stands for no place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
}

/// One thing that is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The setting, such as `routes[2].retry.max_attempts`; empty for the file as a whole.
    pub path: String,
    /// What is wrong and what to do.
    pub message: String,
    /// The name that was probably meant.
    pub suggestion: Option<String>,
}

impl Problem {
    /// A problem without a suggestion.
    #[must_use]
    pub fn new(place: Place, path: &str, message: impl Into<String>) -> Self {
        Self {
            line: place.line,
            column: place.column,
            path: path.to_owned(),
            message: message.into(),
            suggestion: None,
        }
    }

    /// The same problem with the name that was probably meant.
    #[must_use]
    pub fn suggest(mut self, suggestion: Option<&str>) -> Self {
        self.suggestion = suggestion.map(str::to_owned);
        self
    }

    /// The problem in one line, with the file's name in front, in the form that editors jump to.
    #[must_use]
    pub fn in_file(&self, file: &str) -> String {
        format!("{file}:{self}")
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(name) => write!(f, "; did you mean `{name}`?"),
            None => Ok(()),
        }
    }
}

/// More problems than this help nobody, and a file that is no configuration has one in each line.
pub const MAX_PROBLEMS: usize = 1000;

/// The problems found so far.
#[derive(Debug, Default)]
pub struct Report {
    problems: Vec<Problem>,
    seen: HashSet<(Place, String)>,
    paths: BTreeSet<String>,
}

impl Report {
    /// Adds a problem, unless the same has been said of the same place before.
    pub fn push(&mut self, problem: Problem) {
        let place = Place { line: problem.line, column: problem.column };
        self.paths.insert(problem.path.clone());
        if !self.is_full() && self.seen.insert((place, problem.message.clone())) {
            self.problems.push(problem);
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// Whether further problems are dropped.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.problems.len() >= MAX_PROBLEMS
    }

    /// The paths of all that has been said, also of what was said of the same place before.
    #[must_use]
    pub const fn paths(&self) -> &BTreeSet<String> {
        &self.paths
    }

    /// The problems in the order of the file.
    #[must_use]
    pub fn finish(mut self) -> Vec<Problem> {
        self.problems.sort_by(|a, b| {
            (a.line, a.column, &a.path, &a.message).cmp(&(b.line, b.column, &b.path, &b.message))
        });
        self.problems
    }
}
