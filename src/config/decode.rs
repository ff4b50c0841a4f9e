//! The tree as settings, by what each setting wants.
//!
//! A serde deserializer in which the wanted type decides how a scalar is read: unquoted `8080`,
//! `off` or `true` is a text where a text is wanted. A problem does not end the reading: the value
//! at fault is hidden and its owner is read again without it, so that everything wrong with a route
//! is reported at once, each at its own place.

mod fault;

use std::collections::HashSet;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Error, MapAccess, SeqAccess, Unexpected};
use serde::de::{Deserializer, IntoDeserializer, Visitor};

use self::fault::Fault;
use super::problem::Report;
use super::tree::{Key, Kind, Node, Scalar, join};

/// How often one listener, upstream or route is read again. Each round reports one problem.
const MAX_ROUNDS: usize = 100;

/// Reads a value of type `T` from a node at `path`. Problems go to the report; what could not be
/// read is left out, and `None` is returned when nothing can stand without it.
pub(super) fn decode<T: DeserializeOwned>(
    node: &Node,
    path: &str,
    report: &mut Report,
) -> Option<T> {
    let mut hidden = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        if report.is_full() {
            return None;
        }
        let trail = Trail { parent: None, step: Step::Root(path) };
        let reader = Reader { node, trail: &trail, hidden: &hidden };
        let fault = match reader.placed(T::deserialize(reader)) {
            Ok(value) => return Some(value),
            Err(fault) => fault,
        };
        let culprit = fault.report(report)?;
        if culprit == id(node) {
            return None;
        }
        hidden.insert(culprit);
    }
    None
}

/// What tells one node of a tree from another while the tree is borrowed.
type Id = usize;

fn id(node: &Node) -> Id {
    std::ptr::from_ref(node).addr()
}

/// The way from the root to a value, as links on the stack: it is only spelt out for a problem.
#[derive(Clone, Copy)]
struct Trail<'a> {
    parent: Option<&'a Self>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root(&'a str),
    Name(&'a str),
    Index(usize),
}

impl Trail<'_> {
    fn path(&self) -> String {
        let above = self.parent.map(Trail::path).unwrap_or_default();
        match self.step {
            Step::Root(path) => path.to_owned(),
            Step::Name(name) => join(&above, name),
            Step::Index(index) => format!("{above}[{index}]"),
        }
    }
}

/// Reads one node.
#[derive(Clone, Copy)]
struct Reader<'t, 'de> {
    node: &'de Node,
    trail: &'t Trail<'t>,
    hidden: &'t HashSet<Id>,
}

impl<'de> Reader<'_, 'de> {
    /// Hands the node to the visitor as what it is; a scalar as a text.
    fn shape<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match &self.node.kind {
            Kind::Null => visitor.visit_unit(),
            Kind::Scalar(scalar) => visitor.visit_str(&scalar.text),
            Kind::Sequence(items) => visitor.visit_seq(Items { reader: self, items, next: 0 }),
            Kind::Mapping(entries) => {
                visitor.visit_map(Entries { reader: self, entries, next: 0, value: None })
            }
        }
    }

    fn number<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Some(text) = self.plain() else { return self.mistaken(visitor) };
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return self.mistaken(visitor);
        }
        match (text.parse::<u64>(), text.parse::<i64>()) {
            (Ok(number), _) => visitor.visit_u64(number),
            (_, Ok(number)) => visitor.visit_i64(number),
            _ => Err(Fault::invalid_value(Unexpected::Other(text), &visitor)),
        }
    }

    fn boolean<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.plain() {
            Some("true") => visitor.visit_bool(true),
            Some("false") => visitor.visit_bool(false),
            _ => self.mistaken(visitor),
        }
    }

    /// The text of a scalar that may be a number or a switch.
    fn plain(self) -> Option<&'de str> {
        match &self.node.kind {
            Kind::Scalar(Scalar { text, plain: true, .. }) => Some(text),
            _ => None,
        }
    }

    /// The fault of a node that is not what the visitor wants.
    fn mistaken<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let found = match &self.node.kind {
            Kind::Null => Unexpected::Unit,
            Kind::Scalar(scalar) => Unexpected::Str(&scalar.text),
            Kind::Sequence(_) => Unexpected::Seq,
            Kind::Mapping(_) => Unexpected::Map,
        };
        Err(Fault::invalid_type(found, &visitor))
    }

    /// Hands the node over as the type that it looks like, for values that are kept as written.
    fn guess<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        let Some(text) = self.plain() else { return self.shape(visitor) };
        match text {
            "true" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            _ if text.parse::<i64>().is_ok() => self.number(visitor),
            _ => self.shape(visitor),
        }
    }

    fn placed<T>(self, result: Result<T, Fault>) -> Result<T, Fault> {
        result.map_err(|fault| fault.at(self, ""))
    }
}

macro_rules! read_as {
    ($how:ident: $($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
            self.placed(self.$how(visitor))
        })*
    };
}

impl<'de> Deserializer<'de> for Reader<'_, 'de> {
    type Error = Fault;

    read_as!(guess: deserialize_any);
    read_as!(boolean: deserialize_bool);
    read_as!(number: deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64);
    read_as!(shape: deserialize_str deserialize_string deserialize_char deserialize_bytes
        deserialize_byte_buf deserialize_f32 deserialize_f64 deserialize_unit deserialize_seq
        deserialize_map deserialize_identifier);

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        self.placed(match self.node.kind {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        // A derived structure would take a list as its fields in order, which no file should rely
        // on.
        let result = match self.node.kind {
            Kind::Mapping(_) => self.shape(visitor),
            _ => self.mistaken(visitor),
        };
        result.map_err(|fault| fault.at(self, name))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.placed(match &self.node.kind {
            Kind::Scalar(scalar) => visitor.visit_enum(text(&scalar.text)),
            _ => self.mistaken(visitor).map_err(|fault| fault.instead_of(variants)),
        })
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.placed(visitor.visit_newtype_struct(self))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _len: usize,
        visitor: V,
    ) -> Result<V::Value, Fault> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        visitor.visit_unit()
    }
}

fn text(text: &str) -> StrDeserializer<'_, Fault> {
    text.into_deserializer()
}

/// The items of a list that are not hidden.
struct Items<'t, 'de> {
    reader: Reader<'t, 'de>,
    items: &'de [Node],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        while let Some(node) = self.items.get(self.next) {
            let index = self.next;
            self.next += 1;
            if !self.reader.hidden.contains(&id(node)) {
                return self.reader.child(node, Step::Index(index), seed).map(Some);
            }
        }
        Ok(None)
    }
}

/// The entries of a mapping that are not hidden.
struct Entries<'t, 'de> {
    reader: Reader<'t, 'de>,
    entries: &'de [(Key, Node)],
    next: usize,
    value: Option<(&'de Key, &'de Node)>,
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Fault> {
        while let Some((key, node)) = self.entries.get(self.next) {
            self.next += 1;
            if !self.reader.hidden.contains(&id(node)) {
                self.value = Some((key, node));
                return seed.deserialize(text(&key.text)).map(Some);
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Fault> {
        match self.value.take() {
            Some((key, node)) => self.reader.child(node, Step::Name(&key.text), seed),
            None => Err(Fault::custom("a value was asked for before its name")),
        }
    }
}

impl<'de> Reader<'_, 'de> {
    fn child<S: DeserializeSeed<'de>>(
        self,
        node: &'de Node,
        step: Step<'_>,
        seed: S,
    ) -> Result<S::Value, Fault> {
        let trail = Trail { parent: Some(self.trail), step };
        let reader = Reader { node, trail: &trail, hidden: self.hidden };
        // Placed here as well: a type may read something and then refuse it.
        reader.placed(seed.deserialize(reader))
    }
}

#[cfg(test)]
mod tests;
