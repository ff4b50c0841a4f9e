//! The compiled route table: which route is a request for?
//!
//! The most specific route that matches wins, wherever it stands in the file. Two routes compare by
//! the first of these in which they differ:
//!
//! 1. **Host**: an exact name with a port, an exact name, `*.suffix` (the longer suffix first, then
//!    with a port before without), no host.
//! 2. **Path**: exact (a template without captures is an exact path), then a template, then a
//!    regular expression, then an open path (a prefix, or a template that ends in `{name=**}`),
//!    then none. Among templates and among open paths: more segments before the end, then more
//!    literal segments, then the literal that stands further left; an open template goes before the
//!    prefix of the same shape, since it matches less. Regular expressions are equal to each other.
//! 3. **gRPC** given, before not given.
//! 4. **Methods** given, before not given.
//! 5. More **header** conditions.
//! 6. More **query** conditions.
//! 7. **Listeners** given, before not given.
//! 8. The order in the file.
//!
//! A route whose host is the best one but whose other conditions fail does not hide the routes of
//! less specific hosts: they are tried next.
//!
//! What each condition means:
//!
//! - **Host**: letter case and one dot at the end do not count. A pattern without a port matches
//!   every port; one with a port matches that port alone, and a request that names no port has
//!   none. `*.example.org` matches one or more labels before `.example.org`. A request without a
//!   host, or with one longer than a DNS name can be, matches routes without a host only.
//! - **Path**: compared byte by byte as it came. Nothing is decoded, no dot segment is resolved and
//!   no slash is merged, so `/a%2Fb` has one segment and `/a//b` has three, the second empty. A
//!   prefix matches whole segments: `/v1` and `/v1/` both match `/v1`, `/v1/` and `/v1/x`, not
//!   `/v1x`; `/` matches every path, `*` included. In a template `{name}` is one segment that is
//!   not empty; `{name=**}` is the rest after a slash, which may be empty. A regular expression
//!   must match the whole path.
//! - **Methods**: given or not, CONNECT matches only where it is named: it opens a tunnel. Its path
//!   is empty, so that of the paths only `/` as a prefix matches it.
//! - **gRPC**: the path is `/service/method`, exact where both are given, else a template of these
//!   two segments; and it is a POST whose content is that of gRPC or gRPC-Web.
//! - **Headers**: a field that came several times holds if one of its values does. Regular
//!   expressions match whole values.
//! - **Query**: names and values are compared after percent-decoding, `+` being a space; a name
//!   without `=` has the empty value. One that came several times holds if one of its values does.
//!
//! All regular expressions are over bytes: `\d`, `\w` and case folding are those of ASCII.
//!
//! The cost of a look-up does not grow with the number of hosts and paths: hosts and exact paths
//! are hash maps, templates and prefixes one trie of segments per host. What is tried one by one,
//! in the order above, is the routes of the same host *and* path, and the regular expressions of
//! one host, of which there are at most [`REGEXES_MAX`]. In the trie a segment can lead on by its
//! literal and by a capture; branches that hold no better route than the best so far are left out.
//! A look-up allocates nothing, with one exception: a query value that is percent-encoded and
//! compared with a regular expression.
//!
//! What is absent: rewriting (the captures say where in the path the values are), and the choice of
//! an upstream.

use http::{HeaderMap, Method};

use crate::config::route::Match;
use host::{Host, Hosts};
use path::Path;
use rule::Rule;
use table::{Search, Table};

mod host;
mod miss;
mod path;
mod rule;
mod shadow;
mod table;
#[cfg(test)]
mod tests;

pub use miss::Miss;
pub use path::{CAPTURES_MAX, Captures, REGEX_BYTES_MAX, SEGMENTS_MAX};

/// The most regular expressions of paths that one host may have. They are tried one by one, so this
/// bounds what a request can cost.
pub const REGEXES_MAX: usize = 256;

/// A condition that cannot be compiled: the index of its route in the file, its key below `match`
/// (for example `path_regex` or `headers.x-tier.regex`), and what is wrong with it.
pub type Problem = (usize, String, String);

/// The compiled route table.
#[derive(Debug)]
pub struct Matcher {
    /// The routes, the most specific first; an index in here is a rank.
    rules: Vec<Rule>,
    hosts: Hosts,
    /// One for each different host pattern; [`Hosts`] says which.
    tables: Vec<Table>,
    /// The rank of each route by its index in the file.
    ranks: Vec<usize>,
    listeners: usize,
}

/// What is known of a request when its route is looked up.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The index of the listener that it came in by, in the list given to [`Matcher::compile`].
    pub listener: usize,
    /// Its host, with or without a port, in any letter case; empty if it has none.
    pub host: &'a str,
    /// Its path as it came, without the query.
    pub path: &'a str,
    /// Its query without the question mark.
    pub query: Option<&'a str>,
    /// Its method.
    pub method: &'a Method,
    /// Its header fields.
    pub headers: &'a HeaderMap,
}

/// The route that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The index of the route in the file.
    pub index: usize,
    /// Where in the path the values of the template's captures are, in the order of
    /// [`Matcher::capture_names`]; empty for other paths.
    pub captures: Captures,
}

impl Matcher {
    /// Compiles the conditions of the routes, given in file order, for listeners of these names.
    ///
    /// # Errors
    ///
    /// Every condition that cannot be read, or that no request can ever meet.
    pub fn compile(routes: &[&Match], listeners: &[String]) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut compiled: Vec<(Host, Rule)> = Vec::with_capacity(routes.len());
        for (index, route) in routes.iter().enumerate() {
            let mut report = |key: String, message| problems.push((index, key, message));
            let host = host::parse(route.host.as_deref(), &mut report);
            let rule = Rule::compile(index, route, listeners, &mut report);
            compiled.push((host, rule));
        }
        compiled.sort_by_cached_key(|(host, rule)| (host.order(), rule.order()));

        let mut matcher = Self {
            rules: Vec::with_capacity(routes.len()),
            hosts: Hosts::default(),
            tables: Vec::new(),
            ranks: vec![0; routes.len()],
            listeners: listeners.len(),
        };
        for (rank, (host, mut rule)) in compiled.into_iter().enumerate() {
            rule.table = matcher.hosts.table(host, &mut matcher.tables);
            if let Some(table) = matcher.tables.get_mut(rule.table) {
                table.insert(rank, &rule.path);
                if table.regexes() > REGEXES_MAX && matches!(rule.path, Path::Regex { .. }) {
                    problems.push((rule.index, "path_regex".to_owned(), too_many_regexes()));
                }
            }
            if let Some(slot) = matcher.ranks.get_mut(rule.index) {
                *slot = rank;
            }
            matcher.rules.push(rule);
        }
        problems.sort_by_key(|(route, ..)| *route);
        if problems.is_empty() { Ok(matcher) } else { Err(problems) }
    }

    /// The route of a request, or nothing if no route matches it.
    #[must_use]
    pub fn find(&self, target: &Target<'_>) -> Option<Found> {
        self.find_counting(target).0
    }

    /// The same, and the work that it took: the number of routes whose conditions were examined
    /// plus the number of trie nodes visited.
    #[must_use]
    pub fn find_counting(&self, target: &Target<'_>) -> (Option<Found>, usize) {
        let mut search = Search::new(&self.rules, target);
        let found = self.hosts.first(target.host, |table| {
            self.tables.get(table).and_then(|table| search.in_table(table))
        });
        let found = found
            .and_then(|rank| self.rules.get(rank))
            .map(|rule| Found { index: rule.index, captures: rule.path.captures(target.path) });
        (found, search.work())
    }

    /// The names of the captures of a route's path template, in the order of [`Found::captures`];
    /// none for other routes. `route` is its index in the file.
    #[must_use]
    pub fn capture_names(&self, route: usize) -> &[Box<str>] {
        let rule = self.ranks.get(route).and_then(|rank| self.rules.get(*rank));
        rule.map_or(&[], |rule| &rule.captures)
    }

    /// The routes that can never be chosen, each with the more specific one that is always chosen
    /// in its place; both by their index in the file, in file order.
    ///
    /// A pair is reported when every request that meets the conditions of the first provably meets
    /// those of the second. Routes that are hidden by several others together are not found.
    #[must_use]
    pub fn shadowed(&self) -> Vec<(usize, usize)> {
        shadow::shadowed(&self.rules, self.listeners)
    }
}

fn too_many_regexes() -> String {
    format!(
        "is one more than the {REGEXES_MAX} regular expressions that a host may have, which are \
         tried one by one; use path_prefix or path_template"
    )
}
