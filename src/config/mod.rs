//! The YAML surface: what the file can say, how it is read, and how it is printed back.
//!
//! Reading goes through one step a file: [`tree`] (YAML with places), [`substitute`] (values from
//! outside), `merge` (defaults), `decode` (types), `validate` (rules between settings). All
//! problems of all steps are collected. Nothing here compiles, opens or resolves what the file
//! speaks of.

pub mod admin;
mod cautions;
mod decode;
pub mod fallback;
pub mod listener;
mod merge;
mod output;
pub mod pattern;
pub mod problem;
mod read;
pub mod route;
mod schema;
pub mod secrets;
pub mod source;
pub mod store;
pub mod substitute;
pub mod suggest;
pub mod telemetry;
#[cfg(test)]
mod testing;
#[cfg(test)]
pub(crate) mod tests;
pub mod tls;
pub mod tree;
pub mod upstream;
pub mod validate;

pub use cautions::cautions;
pub use output::{to_json, to_yaml};
pub use problem::Problem;
pub use read::{Loaded, read};
pub use schema::schema;
pub use secrets::Secrets;
pub use source::Source;
pub use substitute::{Environment, ProcessEnvironment};

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The operator's listener.
    pub admin: admin::Admin,
    /// Threads, memory and shutdown of the process.
    pub runtime: admin::Runtime,
    /// Logs.
    pub telemetry: telemetry::Telemetry,
    /// How the file is read again.
    pub reload: admin::Reload,
    /// Where Idempotency-Key records live, by name.
    pub stores: BTreeMap<String, store::Store>,
    /// Where requests come in.
    pub listeners: Vec<listener::Listener>,
    /// Where requests go, by name.
    pub upstreams: BTreeMap<String, upstream::Upstream>,
    /// The tiers of importance.
    pub priorities: crate::policy::priority::Settings,
    /// Which request goes where, and under which policies.
    pub routes: Vec<route::Route>,
    /// Merged, mapping by mapping, under every route and upstream before they are read.
    pub defaults: Defaults,
}

/// What every route and upstream starts from. Kept as written; it is merged before routes and
/// upstreams are read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Defaults {
    /// Any key of a route but `name`, `match` and its upstreams.
    pub route: BTreeMap<String, serde_json::Value>,
    /// Any key of an upstream but `endpoints` and `dns`.
    pub upstream: BTreeMap<String, serde_json::Value>,
}

/// A key of the contract that this version does not act on: anything but null is an error, so that
/// no setting is ever silently without effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Later;

/// The text of the error for a key that this version does not act on.
pub const NOT_AVAILABLE: &str = "is not available yet in this version; remove it or set it to null";

impl<'de> Deserialize<'de> for Later {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Option::<serde::de::IgnoredAny>::deserialize(from)? {
            None => Ok(Self),
            Some(_) => Err(serde::de::Error::custom(NOT_AVAILABLE)),
        }
    }
}

impl Serialize for Later {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_none()
    }
}

impl JsonSchema for Later {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Later".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "null", "description": "not available yet in this version" })
    }
}
