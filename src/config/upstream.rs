//! Where requests go.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};

use super::tls::UpstreamTls;
use crate::policy::{concurrency, ejection, health_check, load_balancing, retry_budget};
use crate::proxy_protocol::Version;
use crate::units::Period;

/// A named group of endpoints that serve the same thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// The endpoints: `host:port`, `unix:/path`, or a mapping with weight and zone.
    pub endpoints: Vec<Endpoint>,
    /// A name that is resolved to the endpoints, instead of `endpoints`.
    pub dns: Option<Dns>,
    /// Send requests where their connection was going before it was redirected, instead of to
    /// `endpoints`.
    pub original_destination: Option<OriginalDestination>,
    /// What is spoken to the endpoints.
    pub protocol: Protocol,
    /// Say whom a connection is made for in a header of this version of the PROXY protocol; it then
    /// carries requests of that one client connection alone.
    pub proxy_protocol: Option<Version>,
    /// Speak TLS to the endpoints.
    pub tls: Option<UpstreamTls>,
    /// Connections.
    pub pool: Pool,
    /// The choice among the endpoints.
    pub load_balancing: load_balancing::Settings,
    /// Prefer endpoints of this zone while at least half of them can be chosen.
    pub zone: Option<String>,
    /// Ask the endpoints for their health.
    pub health_check: Option<health_check::Settings>,
    /// Stop choosing endpoints that fail.
    pub ejection: ejection::Settings,
    /// The time over which an endpoint that comes back takes its full share again; 0 = at once.
    pub slow_start: Period,
    /// The adaptive limit of how much work it is given at once, and the queue in front of it.
    pub concurrency: concurrency::Settings,
    /// What all retries to this upstream may cost.
    pub retry_budget: retry_budget::Settings,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            dns: None,
            original_destination: None,
            protocol: Protocol::Http1,
            proxy_protocol: None,
            tls: None,
            pool: Pool::default(),
            load_balancing: load_balancing::Settings::default(),
            zone: None,
            health_check: None,
            ejection: ejection::Settings::default(),
            slow_start: Period::from_secs(10),
            concurrency: concurrency::Settings::default(),
            retry_budget: retry_budget::Settings::default(),
        }
    }
}

/// One endpoint: the short form is its address alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// `host:port`, `[v6]:port` or `unix:/path`; a name is resolved, and all its addresses are
    /// used.
    pub address: String,
    /// Its share relative to the others; 1 to 1000.
    pub weight: u32,
    /// The zone that it is in.
    pub zone: Option<String>,
}

/// The long form of an [`Endpoint`].
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EndpointForm {
    /// `host:port`, `[v6]:port` or `unix:/path`. Required.
    address: String,
    /// Its share relative to the others.
    #[serde(default = "one")]
    weight: u32,
    /// The zone that it is in.
    #[serde(default)]
    zone: Option<String>,
}

/// An endpoint: its address alone, or with weight and zone.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum EndpointSchema {
    /// The address alone.
    Address(String),
    /// With weight and zone.
    Form(EndpointForm),
}

impl JsonSchema for Endpoint {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Endpoint".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        EndpointSchema::json_schema(generator)
    }
}

const fn one() -> u32 {
    1
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Endpoint;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an address such as 10.0.0.1:8080, or a mapping with `address`")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Endpoint, E> {
                Ok(Endpoint { address: text.to_owned(), weight: 1, zone: None })
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                let form = serde::de::value::MapAccessDeserializer::new(map);
                let EndpointForm { address, weight, zone } = EndpointForm::deserialize(form)?;
                Ok(Endpoint { address, weight, zone })
            }
        }
        // A text is asked for, so that the short form needs no quotes; a mapping comes as one.
        from.deserialize_str(Visitor)
    }
}

/// A name that is resolved to endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// `host:port`. Required.
    pub name: String,
    /// The bounds of the time after which the name is resolved again; the record's own TTL between.
    #[serde(default)]
    pub refresh: Refresh,
    /// How long the last good answer is kept when the name no longer resolves.
    #[serde(default = "keep_last_good")]
    pub keep_last_good: Period,
}

/// The bounds of the time after which a name is resolved again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Refresh {
    /// The shortest.
    pub min: Period,
    /// The longest.
    pub max: Period,
}

impl Default for Refresh {
    fn default() -> Self {
        Self { min: Period::from_secs(1), max: Period::from_secs(30) }
    }
}

/// How long the last good answer of a name is kept, unless the file says otherwise.
pub const KEEP_LAST_GOOD: Period = Period::from_secs(600);

const fn keep_last_good() -> Period {
    KEEP_LAST_GOOD
}

/// Endpoints that requests bring themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct OriginalDestination {
    /// The most destinations that are known at once; the one not used for longest makes room.
    pub max_endpoints: usize,
}

impl Default for OriginalDestination {
    fn default() -> Self {
        Self { max_endpoints: 256 }
    }
}

/// What is spoken to the endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "UpstreamProtocol")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// What the endpoint chooses in the TLS handshake; in the clear, HTTP/1.1.
    Auto,
}

/// Connections to an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Pool {
    /// Open connections at once, of all workers together.
    pub max_connections: usize,
    /// A connection without work is closed after this.
    pub idle_timeout: Period,
    /// A connection is not used again after this age; null = no limit.
    pub max_age: Option<Period>,
    /// Connections without work that each worker keeps to one endpoint.
    pub max_idle_per_endpoint: usize,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            idle_timeout: Period::from_secs(60),
            max_age: None,
            max_idle_per_endpoint: 64,
        }
    }
}
