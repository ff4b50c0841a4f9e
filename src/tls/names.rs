//! Which clients are let in by name.

use super::Identity;

/// One name of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    /// This name.
    Whole(Box<str>),
    /// One label more than this, which begins with its dot.
    Label(Box<str>),
    /// This, which ends with a slash, and anything after it.
    Begins(Box<str>),
}

/// The names of which a client must have one; an empty list lets in any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names(Vec<Pattern>);

impl Names {
    /// The list of the configuration, which has been checked.
    pub(super) fn new(list: &[String]) -> Self {
        Self(list.iter().map(|name| Pattern::new(name)).collect())
    }

    pub(super) fn admit(&self, identity: &Identity) -> bool {
        self.0.is_empty()
            || identity.names().any(|name| self.0.iter().any(|pattern| pattern.matches(name)))
    }
}

impl Pattern {
    fn new(text: &str) -> Self {
        if text.contains("://") {
            return match text.strip_suffix('*') {
                Some(begin) => Self::Begins(begin.into()),
                None => Self::Whole(text.into()),
            };
        }
        let text = text.to_ascii_lowercase();
        match text.strip_prefix('*') {
            Some(rest) => Self::Label(rest.into()),
            None => Self::Whole(text.into()),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Whole(whole) => **whole == *name,
            Self::Label(rest) => name
                .strip_suffix(&**rest)
                .is_some_and(|label| !label.is_empty() && !label.contains(['.', '/', ':', '*'])),
            Self::Begins(begin) => name.strip_prefix(&**begin).is_some_and(|rest| !rest.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests;
