//! Why a route is not the one of a request: the first of its conditions that does not hold.
//!
//! For operators, not for requests: each route is looked at by itself, without the tables.

use http::HeaderValue;

use super::path::{End, Path, Segment};
use super::rule::Rule;
use super::{Matcher, Target};
use crate::snapshot::grpc::is_call;

/// The first condition of a route that a request does not meet, in the order in which they are
/// looked at; a later one is a nearer miss.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Miss {
    /// The host.
    Host,
    /// The path.
    Path,
    /// It is no call of gRPC.
    Grpc,
    /// The method.
    Method,
    /// The header field of this name.
    Header(String),
    /// The query parameter of this name.
    Query(String),
    /// The listener.
    Listener,
}

impl Matcher {
    /// The first condition of a route, by its index in the file, that the request does not meet;
    /// nothing when it meets them all, or when there is no such route. A route without a miss is
    /// not yet the one that is chosen: a more specific one may be.
    #[must_use]
    pub fn miss(&self, route: usize, target: &Target<'_>) -> Option<Miss> {
        let rule = self.ranks.get(route).and_then(|rank| self.rules.get(*rank))?;
        let host = self.hosts.first(target.host, |table| (table == rule.table).then_some(()));
        if host.is_none() {
            return Some(Miss::Host);
        }
        if !rule.path.matches(target.path) {
            return Some(Miss::Path);
        }
        rule.miss(target)
    }
}

impl Rule {
    fn miss(&self, target: &Target<'_>) -> Option<Miss> {
        if self.grpc && !is_call(target.method, target.headers) {
            return Some(Miss::Grpc);
        }
        if !self.takes(target.method) {
            return Some(Miss::Method);
        }
        let header = self.headers.iter().find(|(name, value)| {
            !value.holds(target.headers.get_all(name).iter().map(HeaderValue::as_bytes))
        });
        if let Some((name, _)) = header {
            return Some(Miss::Header(name.to_string()));
        }
        let query = target.query.unwrap_or_default();
        let parameter = self.query.iter().find(|(name, value)| !value.holds_in_query(name, query));
        if let Some((name, _)) = parameter {
            return Some(Miss::Query(name.to_string()));
        }
        let here = self.listeners.is_empty() || self.listeners.contains(&target.listener);
        (!here).then_some(Miss::Listener)
    }
}

impl Path {
    /// Whether the condition holds for a path.
    fn matches(&self, path: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(wanted) => **wanted == *path,
            Self::Regex { regex, .. } => regex.is_match(path.as_bytes()),
            Self::Segments { segments, end } => segments_match(segments, *end, path),
        }
    }
}

fn segments_match(segments: &[Segment], end: End, path: &str) -> bool {
    let mut rest = path;
    for segment in segments {
        let Some(after) = rest.strip_prefix('/') else { return false };
        let (part, tail) = after.split_at(after.find('/').unwrap_or(after.len()));
        let holds = match segment {
            Segment::Literal(wanted) => **wanted == *part,
            Segment::Capture => !part.is_empty(),
        };
        if !holds {
            return false;
        }
        rest = tail;
    }
    match end {
        End::Closed => rest.is_empty(),
        End::Rest => rest.starts_with('/'),
        // The prefix `/` matches what is no path at all, too: the `*` of OPTIONS.
        End::Prefix => segments.is_empty() || rest.is_empty() || rest.starts_with('/'),
    }
}
