//! Which request goes where, and under which policies.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::fallback::Link;
use crate::policy::{
    bulkhead, cache, circuit_breaker, hedge, idempotency, mirror, rate_limit, retry, timeout,
};

/// One route: what it matches, where it goes, and its policies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Its name: in metrics and logs, and what its state is kept by over a reload. Required.
    pub name: String,
    /// What it matches; everything when empty.
    #[serde(default, rename = "match")]
    pub matches: Match,
    /// The upstream it goes to. Required, unless `upstreams` is given.
    #[serde(default)]
    pub upstream: Option<String>,
    /// Several upstreams with weights, instead of `upstream`.
    #[serde(default)]
    pub upstreams: Vec<WeightedUpstream>,
    /// Changes of path and host on the way.
    #[serde(default)]
    pub rewrite: Option<Rewrite>,
    /// Changes of header fields.
    #[serde(default)]
    pub headers: Headers,
    /// The protocols that a client may go on with over HTTP/1.1 (`Upgrade`), when the upstream
    /// agrees; any other offer is taken away and the request answered without. Empty = none.
    #[serde(default = "websocket")]
    pub upgrades: Vec<String>,
    /// Send copies to another upstream as well, and throw their answers away; null = none.
    #[serde(default)]
    pub mirror: Option<mirror::Settings>,
    /// The tier of importance; overrides what the request says.
    #[serde(default)]
    pub priority: Option<String>,
    /// How long things may take.
    #[serde(default)]
    pub timeouts: timeout::Settings,
    /// What is tried again.
    #[serde(default)]
    pub retry: retry::Settings,
    /// Send a second copy when the first is slow.
    #[serde(default)]
    pub hedge: Option<hedge::Settings>,
    /// When to stop trying.
    #[serde(default)]
    pub circuit_breaker: circuit_breaker::Settings,
    /// How many at once.
    #[serde(default)]
    pub bulkhead: Option<bulkhead::Settings>,
    /// How many in a time.
    #[serde(default)]
    pub rate_limit: Option<rate_limit::Settings>,
    /// Execute each Idempotency-Key once, and answer a repeated one from its record.
    #[serde(default)]
    pub idempotency: Option<idempotency::Settings>,
    /// Keep the last good answers to GETs, for when the upstream fails.
    #[serde(default)]
    pub cache: Option<cache::Settings>,
    /// What answers instead when the upstream failed, in this order. Empty with a `cache` is
    /// `[stale]`.
    #[serde(default)]
    pub fallback: Vec<Link>,
    /// Failures to pretend.
    #[serde(default)]
    pub faults: LaterList,
}

fn websocket() -> Vec<String> {
    vec!["websocket".to_owned()]
}

/// A list of the contract that this version cannot act on: only an empty one is accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaterList;

/// An upstream with its share of a route's requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedUpstream {
    /// The name of the upstream. Required.
    pub name: String,
    /// Its share relative to the others. Required.
    pub weight: u32,
}

/// What a route matches. All that is given must hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Match {
    /// A host, exact or `*.suffix`; without a port it matches any port.
    pub host: Option<String>,
    /// The whole path.
    pub path: Option<String>,
    /// The beginning of the path, by whole segments.
    pub path_prefix: Option<String>,
    /// The whole path as a regular expression.
    pub path_regex: Option<String>,
    /// The whole path with `{name}` for a segment and `{name=**}` for the rest.
    pub path_template: Option<String>,
    /// The methods; empty = all but CONNECT, which opens a tunnel and has to be named.
    pub methods: Vec<String>,
    /// Header fields by name.
    pub headers: BTreeMap<String, ValueMatch>,
    /// Query parameters by name.
    pub query: BTreeMap<String, ValueMatch>,
    /// Calls of gRPC and gRPC-Web by service and method, instead of a path.
    pub grpc: Option<Grpc>,
    /// The listeners; empty = all.
    pub listeners: Vec<String>,
}

/// Which calls of gRPC a route matches. What is not given is any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "GrpcMatch")]
pub struct Grpc {
    /// The service with its package: `pay.v1.Payments`.
    pub service: Option<String>,
    /// The method: `Charge`.
    pub method: Option<String>,
}

/// What a value must be: a text (exact), `{ regex: … }` or `{ present: true | false }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// Exactly this.
    Exact(String),
    /// The whole value as a regular expression.
    Regex(String),
    /// There, or not there.
    Present(bool),
}

/// Changes of path and host on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// Put in place of the matched prefix (of `path_prefix`; of the whole path of `path`).
    pub path_prefix: Option<String>,
    /// The new path, with `{name}` of the template's captures.
    pub path: Option<String>,
    /// The new `Host`.
    pub host: Option<String>,
}

/// Changes of header fields.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Headers {
    /// On the way to the upstream.
    pub request: HeaderOps,
    /// On the way back.
    pub response: HeaderOps,
}

/// Changes of header fields, in the order remove, set, add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct HeaderOps {
    /// Put in place of what is there.
    pub set: BTreeMap<String, String>,
    /// Put beside what is there.
    pub add: BTreeMap<String, String>,
    /// Taken away.
    pub remove: Vec<String>,
}

impl<'de> Deserialize<'de> for LaterList {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if Vec::<serde::de::IgnoredAny>::deserialize(from)?.is_empty() {
            return Ok(Self);
        }
        Err(Error::custom("is not available yet in this version; leave the list empty"))
    }
}

impl Serialize for LaterList {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(std::iter::empty::<()>())
    }
}

impl JsonSchema for LaterList {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LaterList".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "array", "maxItems": 0, "description": "not available yet in this version"
        })
    }
}

impl JsonSchema for ValueMatch {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ValueMatch".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let form = |key: &str, kind: &str| {
            json_schema!({
                "type": "object",
                "properties": { (key): { "type": kind } },
                "required": [key],
                "additionalProperties": false
            })
        };
        json_schema!({
            "description": "a text (exact), { regex: … } or { present: true | false }",
            "anyOf": [{ "type": "string" }, form("regex", "string"), form("present", "boolean")]
        })
    }
}

impl Serialize for ValueMatch {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exact(text) => to.serialize_str(text),
            Self::Regex(regex) => to.collect_map([("regex", regex)]),
            Self::Present(present) => to.collect_map([("present", present)]),
        }
    }
}

/// The keys of the long forms.
const LONG_FORMS: &[&str] = &["regex", "present"];

impl<'de> Deserialize<'de> for ValueMatch {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = ValueMatch;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text, or a mapping with `regex` or `present`")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<ValueMatch, E> {
                Ok(ValueMatch::Exact(text.to_owned()))
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                mut map: A,
            ) -> Result<ValueMatch, A::Error> {
                let mut found = None;
                while let Some(key) = map.next_key::<String>()? {
                    let form = match key.as_str() {
                        "regex" => ValueMatch::Regex(map.next_value()?),
                        "present" => ValueMatch::Present(map.next_value()?),
                        _ => return Err(Error::unknown_field(&key, LONG_FORMS)),
                    };
                    if found.replace(form).is_some() {
                        return Err(Error::custom("write `regex` or `present`, not both"));
                    }
                }
                found.ok_or_else(|| Error::custom("write `regex` or `present`"))
            }
        }
        // A text is asked for, so that the short form needs no quotes; a mapping comes as one.
        from.deserialize_str(Visitor)
    }
}
