//! One compiled route: the conditions beside host and path, and the order among routes.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use http::Method;
use http::header::{HeaderName, HeaderValue};
use regex::bytes::Regex;

use super::Target;
use super::path::{self, Names, Path};
use crate::config::route::{Match, ValueMatch};
use crate::snapshot::grpc::is_call;

/// One compiled route.
#[derive(Debug)]
pub(super) struct Rule {
    /// Its index in the file.
    pub(super) index: usize,
    /// The table that it is in, which stands for its host.
    pub(super) table: usize,
    pub(super) path: Path,
    pub(super) captures: Names,
    /// Calls of gRPC alone.
    pub(super) grpc: bool,
    /// Empty = all.
    pub(super) methods: Box<[Method]>,
    /// In the order of their names.
    pub(super) headers: Conditions<HeaderName>,
    /// In the order of their names.
    pub(super) query: Conditions<Box<str>>,
    /// Indexes of listeners; empty = all.
    pub(super) listeners: Box<[usize]>,
}

/// What the values of these names must be.
pub(super) type Conditions<N> = Box<[(N, Value)]>;

/// What a value must be.
#[derive(Debug)]
pub(super) enum Value {
    Exact(Box<[u8]>),
    /// The whole value; `text` is as it was written.
    Regex {
        text: Box<str>,
        regex: Regex,
    },
    Present(bool),
}

/// The sort key among the routes of one host.
pub(super) type Order = (path::Order, bool, bool, Reverse<usize>, Reverse<usize>, bool, usize);

impl Rule {
    /// Compiles all conditions but the host; bad ones are reported and left out.
    pub(super) fn compile(
        index: usize,
        route: &Match,
        listeners: &[String],
        report: &mut dyn FnMut(String, String),
    ) -> Self {
        let (path, captures) = Path::parse(route, report);
        let mut methods = methods(&route.methods, report);
        // A call is a POST, whether that is written or not.
        if route.grpc.is_some() && methods.contains(&Method::POST) {
            methods = Box::default();
        }
        Self {
            index,
            table: 0,
            path,
            captures,
            grpc: route.grpc.is_some(),
            methods,
            headers: headers(&route.headers, report),
            query: query(&route.query, report),
            listeners: listener_indexes(&route.listeners, listeners, report),
        }
    }

    pub(super) fn order(&self) -> Order {
        (
            self.path.order(),
            !self.grpc,
            self.methods.is_empty(),
            Reverse(self.headers.len()),
            Reverse(self.query.len()),
            self.listeners.is_empty(),
            self.index,
        )
    }

    /// Whether the method is one of the route's. CONNECT opens a tunnel, and so has to be named.
    pub(super) fn takes(&self, method: &Method) -> bool {
        if self.methods.is_empty() {
            return *method != Method::CONNECT;
        }
        self.methods.contains(method)
    }

    /// Whether all conditions but the host hold. The place in the table has shown that the path
    /// does, unless it is a regular expression, which costs most and so comes last.
    pub(super) fn holds(&self, target: &Target<'_>) -> bool {
        (self.listeners.is_empty() || self.listeners.contains(&target.listener))
            && self.takes(target.method)
            && (!self.grpc || is_call(target.method, target.headers))
            && self.headers.iter().all(|(name, value)| {
                value.holds(target.headers.get_all(name).iter().map(HeaderValue::as_bytes))
            })
            && self
                .query
                .iter()
                .all(|(name, value)| value.holds_in_query(name, target.query.unwrap_or_default()))
            && match &self.path {
                Path::Regex { regex, .. } => regex.is_match(target.path.as_bytes()),
                _ => true,
            }
    }
}

impl Value {
    fn compile(
        key: &str,
        value: &ValueMatch,
        report: &mut dyn FnMut(String, String),
    ) -> Option<Self> {
        match value {
            ValueMatch::Exact(text) => Some(Self::Exact(text.as_bytes().into())),
            ValueMatch::Present(present) => Some(Self::Present(*present)),
            ValueMatch::Regex(text) => match path::whole_regex(text) {
                Ok(regex) => Some(Self::Regex { text: text.as_str().into(), regex }),
                Err(message) => {
                    report(format!("{key}.regex"), message);
                    None
                }
            },
        }
    }

    /// Whether the condition holds for one that has these values.
    pub(super) fn holds<'v>(&self, mut values: impl Iterator<Item = &'v [u8]>) -> bool {
        match self {
            Self::Exact(wanted) => values.any(|value| value == &**wanted),
            Self::Regex { regex, .. } => values.any(|value| regex.is_match(value)),
            Self::Present(present) => values.next().is_some() == *present,
        }
    }

    pub(super) fn holds_in_query(&self, name: &str, query: &str) -> bool {
        let mut values = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .filter(|(key, _)| decoded(key).eq(name.bytes()))
            .map(|(_, value)| value);
        match self {
            Self::Exact(wanted) => values.any(|value| decoded(value).eq(wanted.iter().copied())),
            Self::Regex { regex, .. } => values.any(|value| regex.is_match(&decode(value))),
            Self::Present(present) => values.next().is_some() == *present,
        }
    }

    /// The one value that meets the condition, if it names one.
    pub(super) fn exact(&self) -> Option<&[u8]> {
        match self {
            Self::Exact(value) => Some(value),
            Self::Regex { .. } | Self::Present(_) => None,
        }
    }

    /// Whether every value that meets this condition provably meets the other.
    pub(super) fn implies(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present(a), Self::Present(b)) => a == b,
            (Self::Exact(_) | Self::Regex { .. }, Self::Present(present)) => *present,
            (Self::Exact(a), Self::Exact(b)) => a == b,
            (Self::Exact(a), Self::Regex { regex, .. }) => regex.is_match(a),
            (Self::Regex { text: a, .. }, Self::Regex { text: b, .. }) => a == b,
            (Self::Regex { .. } | Self::Present(_), _) => false,
        }
    }
}

/// The bytes of a part of a query, percent-decoded, `+` being a space. What follows a `%` and is
/// not two hexadecimal digits stays as it is.
fn decoded(text: &str) -> impl Iterator<Item = u8> + '_ {
    let mut bytes = text.as_bytes();
    std::iter::from_fn(move || {
        let (&first, rest) = bytes.split_first()?;
        bytes = rest;
        match (first, rest) {
            (b'+', _) => Some(b' '),
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    bytes = after;
                    Some(high << 4 | low)
                }
                _ => Some(first),
            },
            _ => Some(first),
        }
    })
}

fn decode(text: &str) -> Cow<'_, [u8]> {
    if text.contains(['%', '+']) {
        Cow::Owned(decoded(text).collect())
    } else {
        Cow::Borrowed(text.as_bytes())
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

fn methods(given: &[String], report: &mut dyn FnMut(String, String)) -> Box<[Method]> {
    let mut methods: Vec<Method> = Vec::new();
    for text in given {
        let upper = text.to_ascii_uppercase();
        let standard =
            ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
        if *text != upper && standard.contains(&upper.as_str()) {
            let message =
                format!("`{text}` can never match: methods are in capitals; write {upper}");
            report("methods".to_owned(), message);
        }
        match Method::from_bytes(text.as_bytes()) {
            Ok(method) if methods.contains(&method) => {}
            Ok(method) => methods.push(method),
            Err(_) => report("methods".to_owned(), format!("`{text}` is not a method")),
        }
    }
    methods.into()
}

fn headers(
    given: &BTreeMap<String, ValueMatch>,
    report: &mut dyn FnMut(String, String),
) -> Conditions<HeaderName> {
    let mut headers: Vec<(HeaderName, Value)> = Vec::new();
    for (text, value) in given {
        let key = format!("headers.{text}");
        let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
            report(key, format!("`{text}` is not the name of a header field"));
            continue;
        };
        if headers.iter().any(|(other, _)| *other == name) {
            report(
                key,
                "is given twice, in different letter case, which does not count".to_owned(),
            );
            continue;
        }
        if let ValueMatch::Exact(wanted) = value
            && (HeaderValue::from_str(wanted).is_err()
                || wanted.trim_matches([' ', '\t']) != wanted)
        {
            let reason = "a value has no control characters and no blanks around it";
            report(key, format!("can never match: {reason}"));
            continue;
        }
        if let Some(value) = Value::compile(&key, value, report) {
            headers.push((name, value));
        }
    }
    headers.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
    headers.into()
}

fn query(
    given: &BTreeMap<String, ValueMatch>,
    report: &mut dyn FnMut(String, String),
) -> Conditions<Box<str>> {
    given
        .iter()
        .filter_map(|(name, value)| {
            let value = Value::compile(&format!("query.{name}"), value, report)?;
            Some((name.as_str().into(), value))
        })
        .collect()
}

fn listener_indexes(
    given: &[String],
    listeners: &[String],
    report: &mut dyn FnMut(String, String),
) -> Box<[usize]> {
    let mut indexes = Vec::new();
    for name in given {
        match listeners.iter().position(|listener| listener == name) {
            Some(index) => indexes.push(index),
            None => report("listeners".to_owned(), format!("`{name}` is not a listener")),
        }
    }
    indexes.sort_unstable();
    indexes.dedup();
    indexes.into()
}
