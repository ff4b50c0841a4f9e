//! Path conditions: how they are read, how specific they are, and where their captures are.

use std::cmp::Reverse;

use regex::bytes::{Regex, RegexBuilder};

use crate::config::pattern::is_call_name;
use crate::config::route::{Grpc, Match};

/// The most captures of a template. Their places are kept in a fixed array beside the request.
pub const CAPTURES_MAX: usize = 8;

/// The most segments of a template or a prefix. It bounds how deep a look-up can go.
pub const SEGMENTS_MAX: usize = 64;

/// The most memory, in bytes, that one compiled regular expression may take, and again the cache
/// that it fills while it matches. A larger one is an error.
pub const REGEX_BYTES_MAX: usize = 256 * 1024;

/// The path condition of a route.
#[derive(Debug)]
pub(super) enum Path {
    /// No condition.
    Any,
    /// This path.
    Exact(Box<str>),
    /// These segments, and then what `end` says.
    Segments { segments: Box<[Segment]>, end: End },
    /// The whole path; `text` is as it was written.
    Regex { text: Box<str>, regex: Regex },
}

/// One segment of a template or a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Segment {
    /// Exactly this.
    Literal(Box<str>),
    /// Anything but nothing.
    Capture,
}

/// How a template or prefix ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum End {
    /// The path ends here.
    Closed,
    /// A slash and anything, which is captured.
    Rest,
    /// Nothing, or a slash and anything.
    Prefix,
}

/// The names of the captures of a template, from the left.
pub(super) type Names = Box<[Box<str>]>;

/// The sort key of a path condition: the kind, then for segments their number, the number of
/// literals, where the captures are, and whether it is a prefix.
pub(super) type Order = (u8, Reverse<usize>, Reverse<usize>, Vec<bool>, bool);

/// Where in a path the values of a template's captures are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Captures {
    ranges: [(u32, u32); CAPTURES_MAX],
    len: usize,
}

impl Captures {
    /// The number of captures.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value of the n-th capture, counted from 0, in the path that was looked up; as it came,
    /// not decoded.
    #[must_use]
    pub fn get<'p>(&self, n: usize, path: &'p str) -> Option<&'p str> {
        let (start, end) = self.ranges.get(..self.len)?.get(n)?;
        path.get(*start as usize..*end as usize)
    }

    fn push(&mut self, start: usize, end: usize) {
        let range = u32::try_from(start).ok().zip(u32::try_from(end).ok());
        if let (Some(slot), Some(range)) = (self.ranges.get_mut(self.len), range) {
            *slot = range;
            self.len += 1;
        }
    }
}

impl Path {
    /// Reads the path condition of a route and the names of its captures; a bad one is reported and
    /// taken as none.
    pub(super) fn parse(route: &Match, report: &mut dyn FnMut(String, String)) -> (Self, Names) {
        let given = [
            ("path", &route.path),
            ("path_prefix", &route.path_prefix),
            ("path_template", &route.path_template),
            ("path_regex", &route.path_regex),
        ];
        let mut given = given.iter().filter_map(|(key, text)| Some((*key, text.as_deref()?)));
        if let Some(grpc) = &route.grpc {
            if let Some((beside, _)) = given.next() {
                let message = format!("cannot stand beside {beside}; write one of them");
                report("grpc".to_owned(), message);
            }
            return (call(grpc, report), Box::default());
        }
        let Some((key, text)) = given.next() else { return (Self::Any, Box::default()) };
        if let Some((second, _)) = given.next() {
            let message = format!("cannot stand beside {key}; write one of them");
            report(second.to_owned(), message);
        }
        let parsed = match key {
            "path_regex" => whole_regex(text)
                .map(|regex| (Self::Regex { text: text.into(), regex }, Box::default())),
            _ => possible(text).and_then(|()| match key {
                "path" => Ok((Self::Exact(text.into()), Box::default())),
                "path_prefix" => prefix(text).map(|path| (path, Box::default())),
                _ => template(text),
            }),
        };
        parsed.unwrap_or_else(|message| {
            report(key.to_owned(), message);
            (Self::Any, Box::default())
        })
    }

    pub(super) fn order(&self) -> Order {
        let plain = |kind| (kind, Reverse(0), Reverse(0), Vec::new(), false);
        match self {
            Self::Exact(_) => plain(0),
            Self::Regex { .. } => plain(2),
            Self::Any => plain(4),
            Self::Segments { segments, end } => {
                let captures: Vec<bool> =
                    segments.iter().map(|segment| *segment == Segment::Capture).collect();
                let literals = captures.iter().filter(|capture| !**capture).count();
                let kind = if *end == End::Closed { 1 } else { 3 };
                let is_prefix = *end == End::Prefix;
                (kind, Reverse(segments.len()), Reverse(literals), captures, is_prefix)
            }
        }
    }

    /// Where the captures are in a path that this condition matches.
    pub(super) fn captures(&self, path: &str) -> Captures {
        let mut captures = Captures::default();
        let Self::Segments { segments, end } = self else { return captures };
        if *end == End::Prefix {
            return captures;
        }
        let mut start = 1;
        for segment in segments {
            let rest = path.get(start..).unwrap_or_default();
            let end = start + rest.find('/').unwrap_or(rest.len());
            if *segment == Segment::Capture {
                captures.push(start, end);
            }
            start = end + 1;
        }
        if *end == End::Rest {
            captures.push(start, path.len());
        }
        captures
    }
}

/// Compiles a regular expression that must match the whole of a text.
pub(super) fn whole_regex(text: &str) -> Result<Regex, String> {
    let build = |pattern: &str| {
        RegexBuilder::new(pattern)
            .unicode(false)
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .build()
    };
    // It is compiled alone first, so that the message quotes what was written, and so that `a)|(b`
    // is an error instead of a way out of the group around it.
    build(text).and_then(|_| build(&format!(r"\A(?:{text})\z"))).map_err(|error| match error {
        regex::Error::CompiledTooBig(bytes) => {
            format!("takes more than {bytes} bytes when compiled; make it simpler")
        }
        error => format!("is not a regular expression: {error}"),
    })
}

/// Whether any path of a request can be like this.
fn possible(text: &str) -> Result<(), String> {
    if !text.starts_with('/') {
        return Err(format!("`{text}` can never match: a path starts with `/`"));
    }
    if let Some(bad) = text.chars().find(|c| matches!(c, '?' | '#')) {
        return Err(format!(
            "`{text}` can never match: `{bad}` ends the path; conditions on the query go to `query`"
        ));
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "`{text}` can never match: a path has no blanks; write them percent-encoded, %20"
        ));
    }
    Ok(())
}

fn split(text: &str) -> Result<Vec<&str>, String> {
    let segments: Vec<&str> = match text.strip_prefix('/').unwrap_or(text) {
        "" => Vec::new(),
        inner => inner.split('/').collect(),
    };
    if segments.len() > SEGMENTS_MAX {
        return Err(format!("has more than {SEGMENTS_MAX} segments"));
    }
    Ok(segments)
}

fn prefix(text: &str) -> Result<Path, String> {
    let segments = split(text.strip_suffix('/').unwrap_or(text))?;
    let segments = segments.into_iter().map(|segment| Segment::Literal(segment.into())).collect();
    Ok(Path::Segments { segments, end: End::Prefix })
}

/// The path of a call: `/service/method`. Without one of the two it is a template whose captures
/// have no names.
fn call(grpc: &Grpc, report: &mut dyn FnMut(String, String)) -> Path {
    for (key, name) in [("service", &grpc.service), ("method", &grpc.method)] {
        let wrong = name.as_ref().filter(|name| !is_call_name(name));
        if let Some(name) = wrong {
            let message = format!(
                "`{name}` can never match: a {key} is its name alone, without slashes and blanks"
            );
            report(format!("grpc.{key}"), message);
        }
    }
    if let (Some(service), Some(method)) = (&grpc.service, &grpc.method) {
        return Path::Exact(format!("/{service}/{method}").into());
    }
    let segment = |name: &Option<String>| match name {
        Some(name) => Segment::Literal(name.as_str().into()),
        None => Segment::Capture,
    };
    let segments = Box::new([segment(&grpc.service), segment(&grpc.method)]);
    Path::Segments { segments, end: End::Closed }
}

fn template(text: &str) -> Result<(Path, Names), String> {
    let mut names: Vec<Box<str>> = Vec::new();
    let mut segments = Vec::new();
    let mut end = End::Closed;
    for part in split(text)? {
        if end == End::Rest {
            return Err(format!("`{text}`: `{{name=**}}` is the rest, so nothing can follow it"));
        }
        let Some(inner) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
            if part.contains(['{', '}']) || matches!(part, "*" | "**") {
                return Err(format!(
                    "`{text}`: `{part}` is not a segment; write a literal, `{{name}}` for a whole \
                     segment or `{{name=**}}` for the rest"
                ));
            }
            segments.push(Segment::Literal(part.into()));
            continue;
        };
        let name = match inner.strip_suffix("=**") {
            Some(name) => {
                end = End::Rest;
                name
            }
            None => {
                segments.push(Segment::Capture);
                inner
            }
        };
        if !is_name(name) {
            return Err(format!(
                "`{text}`: `{name}` is not a name; use letters, digits and `_`, a letter first"
            ));
        }
        if names.iter().any(|other| **other == *name) {
            return Err(format!("`{text}` has two captures of the name `{name}`"));
        }
        names.push(name.into());
    }
    if names.len() > CAPTURES_MAX {
        return Err(format!("`{text}` has more than {CAPTURES_MAX} captures"));
    }
    if names.is_empty() {
        return Ok((Path::Exact(text.into()), Box::default()));
    }
    Ok((Path::Segments { segments: segments.into(), end }, names.into()))
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
