//! One problem on its way from a value to the report.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, Expected, Unexpected};

use super::super::problem::{Place, Problem, Report};
use super::super::secrets::MASK;
use super::super::suggest::nearest;
use super::super::tree::{Kind, Node, join};
use super::{Id, Reader, id};

/// Why a value could not be read. It finds its place on the way up, at the first node it passes.
#[derive(Debug)]
pub(in super::super) struct Fault(Box<Inner>);

#[derive(Debug)]
struct Inner {
    what: What,
    suggestion: Option<String>,
    spot: Option<Spot>,
}

#[derive(Debug)]
enum What {
    Message(String),
    UnknownKey(String),
    Missing(&'static str),
}

/// Where a fault belongs, and which node is to be hidden because of it.
#[derive(Debug)]
struct Spot {
    culprit: Id,
    place: Place,
    path: String,
    message: Option<String>,
}

/// The names that a mapping must have, where there are several: serde names one at a time.
pub(super) const REQUIRED: [(&str, &[&str]); 3] = [
    ("Listener", &["name", "bind"]),
    ("WeightedUpstream", &["name", "weight"]),
    ("CertificateFiles", &["cert", "key"]),
];

impl Fault {
    fn new(what: What, suggestion: Option<&str>) -> Self {
        Self(Box::new(Inner { what, suggestion: suggestion.map(str::to_owned), spot: None }))
    }

    fn message(text: impl Into<String>) -> Self {
        Self::new(What::Message(text.into()), None)
    }

    /// Names the words that would have been right.
    pub(super) fn instead_of(self, variants: &[&str]) -> Self {
        match self.0.what {
            What::Message(text) => {
                let found = text.split_once(", found ").map_or("something else", |(_, f)| f);
                Self::message(format!("expected {}, found {found}", one_of(variants)))
            }
            _ => self,
        }
    }

    /// Gives the fault its place, unless it has one. `owner` is the name of the structure that the
    /// node is read as, if it is one.
    pub(super) fn at(mut self, reader: Reader<'_, '_>, owner: &str) -> Self {
        if self.0.spot.is_some() {
            return self;
        }
        let Reader { node, trail, hidden } = reader;
        let mut spot =
            Spot { culprit: id(node), place: node.place, path: trail.path(), message: None };
        // What a mapping lacks is no news when a part of it has been reported and is hidden.
        let partial = node.entries().iter().any(|(_, value)| hidden.contains(&id(value)));
        match &self.0.what {
            What::Message(_) if partial => {}
            What::Message(text) => spot.message = visible(node, text),
            What::UnknownKey(name) => {
                spot.message = Some("there is no such setting".to_owned());
                if let Some((key, value)) = node.entries().iter().find(|(key, _)| key.text == *name)
                {
                    spot.culprit = id(value);
                    spot.place = key.place;
                    spot.path = join(&spot.path, name);
                }
            }
            What::Missing(name) => spot.message = missing(node, name, owner),
        }
        self.0.spot = Some(spot);
        self
    }

    /// Reports the fault and returns the node that is to be hidden.
    pub(super) fn report(self, report: &mut Report) -> Option<Id> {
        let Inner { suggestion, spot, .. } = *self.0;
        let spot = spot?;
        if let Some(message) = spot.message {
            let problem = Problem::new(spot.place, &spot.path, message);
            report.push(problem.suggest(suggestion.as_deref()));
        }
        Some(spot.culprit)
    }
}

/// The message without the value when it came from outside; nothing when that has failed already.
fn visible(node: &Node, text: &str) -> Option<String> {
    match &node.kind {
        Kind::Scalar(scalar) if scalar.broken => None,
        Kind::Scalar(scalar) if scalar.substituted => {
            let written = format!("`{}`", scalar.text);
            Some(text.replace(&written, &format!("`{MASK}`")))
        }
        _ => Some(text.to_owned()),
    }
}

/// What is missing; nothing when it is there and only hidden by a problem of its own.
fn missing(node: &Node, name: &'static str, owner: &str) -> Option<String> {
    let required = REQUIRED.iter().find(|(structure, _)| *structure == owner);
    let names = required.map_or(std::slice::from_ref(&name), |(_, names)| *names);
    let absent: Vec<String> = names
        .iter()
        .filter(|name| node.get(name).is_none())
        .map(|name| format!("`{name}`"))
        .collect();
    match absent.as_slice() {
        [] => None,
        [one] => Some(format!("{one} is required")),
        several => Some(format!("{} are required", several.join(" and "))),
    }
}

fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => "nothing".to_owned(),
    }
}

/// What was found, in the words of the file's author.
fn found(unexpected: &Unexpected<'_>) -> String {
    match unexpected {
        Unexpected::Bool(value) => format!("`{value}`"),
        Unexpected::Unsigned(number) => format!("`{number}`"),
        Unexpected::Signed(number) => format!("`{number}`"),
        Unexpected::Float(number) => format!("`{number}`"),
        Unexpected::Str("") => "an empty text".to_owned(),
        Unexpected::Str(text) | Unexpected::Other(text) => format!("`{text}`"),
        Unexpected::Unit | Unexpected::Option => "nothing (null)".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

/// What was wanted, without the words of Rust.
fn wanted(expected: &dyn Expected) -> Cow<'static, str> {
    let text = expected.to_string();
    match text.as_str() {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number, 0 or more".into(),
        "a boolean" => "`true` or `false`".into(),
        "a string" => "a text".into(),
        "path string" => "a path".into(),
        "a sequence" => "a list".into(),
        "a map" => "a mapping".into(),
        other if other.starts_with("struct ") => "a mapping".into(),
        other => other.to_owned().into(),
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.what {
            What::Message(text) => f.write_str(text),
            What::UnknownKey(name) => write!(f, "there is no setting `{name}`"),
            What::Missing(name) => write!(f, "`{name}` is required"),
        }
    }
}

impl std::error::Error for Fault {}

impl Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::message(message.to_string())
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::message(format!("expected {}, found {}", wanted(expected), found(&unexpected)))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let most = match (&unexpected, expected.to_string().as_str()) {
            (Unexpected::Signed(_), _) => None,
            (_, "u16") => Some(u64::from(u16::MAX)),
            (_, "u32") => Some(u64::from(u32::MAX)),
            (_, "u64" | "usize") => Some(u64::MAX),
            _ => None,
        };
        match most {
            Some(most) => {
                let found = found(&unexpected);
                Self::message(format!("expected a whole number up to {most}, found {found}"))
            }
            None => Self::invalid_type(unexpected, expected),
        }
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let text = format!("expected {}, found `{variant}`", one_of(expected));
        Self::new(What::Message(text), nearest(variant, expected.iter().copied()))
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        let suggestion = nearest(field, expected.iter().copied());
        Self::new(What::UnknownKey(field.to_owned()), suggestion)
    }

    fn missing_field(field: &'static str) -> Self {
        Self::new(What::Missing(field), None)
    }
}
