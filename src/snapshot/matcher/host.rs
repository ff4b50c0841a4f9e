//! Hosts: their patterns, and the map from the host of a request to the tables that may have its
//! route, the most specific first.

use std::cmp::Reverse;
use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::table::Table;

/// The longest name that is looked up, as long as a DNS name can be. A longer one is no name of the
/// configuration, and must not cost a look-up for each of its dots.
const NAME_MAX: usize = 253;

/// The host condition of a route; names in lower case without a dot at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Host {
    /// No condition.
    Any,
    /// This name.
    Exact { name: Box<str>, port: Option<u16> },
    /// One or more labels, a dot and this suffix.
    Suffix { suffix: Box<str>, port: Option<u16> },
}

/// The sort key of a host condition: the class, the length of the suffix, and the lack of a port.
pub(super) type Order = (u8, Reverse<usize>, bool);

/// Table numbers by host.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    exact: HashMap<Box<str>, Ports, RandomState>,
    suffix: HashMap<Box<str>, Ports, RandomState>,
    /// The length of the longest key of `suffix`, so that longer ones are not looked up.
    longest_suffix: usize,
    any: Option<usize>,
}

/// Table numbers of one name.
#[derive(Debug, Default)]
struct Ports {
    by_port: Vec<(u16, usize)>,
    any: Option<usize>,
}

/// Reads a host condition; a bad one is reported and taken as none.
pub(super) fn parse(text: Option<&str>, report: &mut dyn FnMut(String, String)) -> Host {
    let Some(text) = text else { return Host::Any };
    match pattern(text) {
        Ok(host) => host,
        Err(message) => {
            report("host".to_owned(), message);
            Host::Any
        }
    }
}

impl Host {
    pub(super) fn order(&self) -> Order {
        match self {
            Self::Exact { port: Some(_), .. } => (0, Reverse(0), false),
            Self::Exact { port: None, .. } => (1, Reverse(0), true),
            Self::Suffix { suffix, port } => (2, Reverse(suffix.len()), port.is_none()),
            Self::Any => (3, Reverse(0), true),
        }
    }
}

impl Hosts {
    /// The number of the table for this host condition; a new one is added to `tables`.
    pub(super) fn table(&mut self, host: Host, tables: &mut Vec<Table>) -> usize {
        let mut add = || {
            tables.push(Table::default());
            tables.len() - 1
        };
        match host {
            Host::Any => *self.any.get_or_insert_with(add),
            Host::Exact { name, port } => self.exact.entry(name).or_default().table(port, add),
            Host::Suffix { suffix, port } => {
                self.longest_suffix = self.longest_suffix.max(suffix.len());
                self.suffix.entry(suffix).or_default().table(port, &mut add)
            }
        }
    }

    /// Calls `look` with the tables for a request's host, the most specific first, until it gives
    /// something.
    pub(super) fn first<R>(
        &self,
        host: &str,
        mut look: impl FnMut(usize) -> Option<R>,
    ) -> Option<R> {
        if !self.exact.is_empty() || !self.suffix.is_empty() {
            let (name, port) = split(host);
            let mut lower = [0; NAME_MAX];
            if let Some(name) = lower_case(name, &mut lower)
                && let Some(found) = self.first_named(name, port, &mut look)
            {
                return Some(found);
            }
        }
        self.any.and_then(look)
    }

    fn first_named<R>(
        &self,
        name: &str,
        port: Option<u16>,
        look: &mut impl FnMut(usize) -> Option<R>,
    ) -> Option<R> {
        let exact = self.exact.get(name).and_then(|ports| ports.first(port, look));
        if exact.is_some() || self.suffix.is_empty() {
            return exact;
        }
        // A dot at the very start has no label before it, so the first byte is left out.
        let dots = name.bytes().enumerate().skip(1).filter(|(_, byte)| *byte == b'.');
        dots.filter(|(dot, _)| name.len() - dot - 1 <= self.longest_suffix)
            .filter_map(|(dot, _)| self.suffix.get(name.get(dot + 1..)?))
            .find_map(|ports| ports.first(port, look))
    }
}

impl Ports {
    fn table(&mut self, port: Option<u16>, add: impl FnOnce() -> usize) -> usize {
        let Some(port) = port else { return *self.any.get_or_insert_with(add) };
        match self.by_port.binary_search_by_key(&port, |(port, _)| *port) {
            Ok(at) => self.by_port.get(at).map_or_else(add, |(_, table)| *table),
            Err(at) => {
                let table = add();
                self.by_port.insert(at, (port, table));
                table
            }
        }
    }

    fn first<R>(&self, port: Option<u16>, look: &mut impl FnMut(usize) -> Option<R>) -> Option<R> {
        let at = port.and_then(|p| self.by_port.binary_search_by_key(&p, |(port, _)| *port).ok());
        let with_port = at.and_then(|at| self.by_port.get(at)).and_then(|(_, table)| look(*table));
        with_port.or_else(|| self.any.and_then(look))
    }
}

fn pattern(text: &str) -> Result<Host, String> {
    let (name, port) = split(text);
    if port == Some(0) {
        return Err(format!("`{text}` has port 0, which no request is for"));
    }
    let name = name.to_ascii_lowercase();
    let (suffix, wild) = match name.strip_prefix("*.") {
        Some(suffix) => (suffix, true),
        None => (name.as_str(), false),
    };
    if suffix.contains('*') {
        return Err(format!(
            "`{text}`: a `*` stands for the first labels alone, as in `*.example.org`; \
             leave host out to match every host"
        ));
    }
    let address = !wild && suffix.starts_with('[') && suffix.ends_with(']');
    let good = |byte: u8| match byte {
        b'[' | b']' | b':' => address,
        _ => byte.is_ascii_alphanumeric() || b"-_.~%".contains(&byte),
    };
    let labels = address || suffix.split('.').all(|label| !label.is_empty());
    if !labels || suffix.len() > NAME_MAX || !suffix.bytes().all(good) {
        return Err(format!(
            "`{text}` is not a host; write a name such as example.org, example.org:8443, \
             *.example.org or [::1], other letters than ASCII in their `xn--` form"
        ));
    }
    let suffix = Box::from(suffix);
    Ok(if wild { Host::Suffix { suffix, port } } else { Host::Exact { name: suffix, port } })
}

/// Splits a host into its name, without one dot at the end, and its port. What follows the colon
/// stays in the name when it is not a port, and then matches nothing.
fn split(host: &str) -> (&str, Option<u16>) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, _)) if name.contains(':') && !name.ends_with(']') => (host, None),
        Some((name, "")) => (name, None),
        Some((name, digits)) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            match digits.parse() {
                Ok(port) => (name, Some(port)),
                Err(_) => (host, None),
            }
        }
        _ => (host, None),
    };
    (name.strip_suffix('.').unwrap_or(name), port)
}

/// The name in lower case, in `buffer` if it has capitals; nothing if it is empty or too long.
fn lower_case<'a>(name: &'a str, buffer: &'a mut [u8; NAME_MAX]) -> Option<&'a str> {
    if name.is_empty() || name.len() > NAME_MAX {
        return None;
    }
    if !name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Some(name);
    }
    let lower = buffer.get_mut(..name.len())?;
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    std::str::from_utf8(lower).ok()
}
