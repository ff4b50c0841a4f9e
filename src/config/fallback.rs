//! What answers in place of an upstream that failed.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// One link of a route's fallback chain: `stale`, `{ upstream: <name> }` or `{ respond: { … } }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// The last good answer that `cache` has kept.
    Stale,
    /// Another upstream.
    Upstream(String),
    /// A fixed answer.
    Respond(Respond),
}

/// A fixed answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Respond {
    /// Its status, 200 to 599.
    pub status: u16,
    /// Its body, in UTF-8.
    pub body: String,
    /// The type of its body; for a body without one, `text/plain; charset=utf-8`.
    pub content_type: Option<String>,
}

impl Default for Respond {
    fn default() -> Self {
        Self { status: 200, body: String::new(), content_type: None }
    }
}

impl std::fmt::Display for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stale => f.write_str("stale"),
            Self::Upstream(name) => write!(f, "upstream:{name}"),
            Self::Respond(_) => f.write_str("respond"),
        }
    }
}

/// The one link that is written as a word.
const WORDS: &[&str] = &["stale"];
/// The keys of the others.
const KEYS: &[&str] = &["upstream", "respond"];

impl<'de> Deserialize<'de> for Link {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Link;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("stale, { upstream: <name> } or { respond: { status, body } }")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Link, E> {
                match text {
                    "stale" => Ok(Link::Stale),
                    _ => Err(E::unknown_variant(text, WORDS)),
                }
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Link, A::Error> {
                let mut found = None;
                while let Some(key) = map.next_key::<String>()? {
                    let link = match key.as_str() {
                        "upstream" => Link::Upstream(map.next_value()?),
                        "respond" => Link::Respond(map.next_value()?),
                        _ => return Err(Error::unknown_field(&key, KEYS)),
                    };
                    if found.replace(link).is_some() {
                        return Err(Error::custom("is two links in one; write them one by one"));
                    }
                }
                found.ok_or_else(|| Error::custom("write `upstream` or `respond`"))
            }
        }
        // A text is asked for, so that the word needs no quotes; a mapping comes as one.
        from.deserialize_str(Visitor)
    }
}

impl Serialize for Link {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Stale => to.serialize_str("stale"),
            Self::Upstream(name) => to.collect_map([("upstream", name)]),
            Self::Respond(respond) => to.collect_map([("respond", respond)]),
        }
    }
}

impl JsonSchema for Link {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FallbackLink".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let respond = generator.subschema_for::<Respond>();
        let one = |key: &str, value: Schema| {
            json_schema!({
                "type": "object",
                "properties": { (key): value },
                "required": [key],
                "additionalProperties": false
            })
        };
        let name = json_schema!({ "type": "string" });
        json_schema!({
            "description": "stale, { upstream: <name> } or { respond: { … } }",
            "anyOf": [
                { "type": "string", "enum": WORDS },
                one("upstream", name),
                one("respond", respond)
            ]
        })
    }
}
