//! An explanation as JSON: what would happen to a request.

use serde::Serialize;
use serde_json::{Map, Value};

use super::learned::Learned;
use super::limit::Limit;
use crate::config::upstream::Protocol;
use crate::policy::load_balancing::Policy;

/// What would happen to a request.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// The request, as it was understood.
    pub request: Understood,
    /// What it would follow; nothing when no route matches.
    pub route: Option<Followed>,
    /// Other routes and why they do not match: when one matches, those of the same host and path;
    /// when none does, the nearest ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub misses: Vec<NearMiss>,
}

/// The request, as it was understood.
#[derive(Clone, Debug, Serialize)]
pub struct Understood {
    /// The listener's name.
    pub listener: String,
    /// The method.
    pub method: String,
    /// The host that is matched; empty when there is none.
    pub host: String,
    /// The path and query.
    pub target: String,
}

/// A route that does not match, and its first condition that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NearMiss {
    /// The route's name.
    pub route: String,
    /// `host`, `path`, `method`, `header`, `query` or `listener`.
    pub condition: &'static str,
    /// What it wants, in a few words.
    pub wants: String,
}

/// The route that a request follows.
#[derive(Clone, Debug, Serialize)]
pub struct Followed {
    /// Its name.
    pub name: String,
    /// Its conditions, as in the file.
    pub r#match: Value,
    /// What the upstream is asked for.
    pub sent: Sent,
    /// Where it goes.
    pub upstreams: Vec<Destination>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// What is tried again.
    pub retry: Retry,
    /// What answers this request when its upstream fails, in this order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fallback: Vec<FallbackLink>,
    /// The tier of importance of this request.
    pub priority: String,
    /// The rate that is learned from its upstream; of a running proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learned_rate: Option<Learned>,
    /// Every policy of the route, as in the file with defaults filled in.
    pub policies: Map<String, Value>,
}

/// What the upstream is asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Sent {
    /// The path and query after rewriting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The `Host` field after rewriting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Why the request is answered 400 instead: its path does not fit the rewriting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<&'static str>,
}

/// An upstream of the route.
#[derive(Clone, Debug, Serialize)]
pub struct Destination {
    /// Its name.
    pub name: String,
    /// Its weight in the route.
    pub weight: u32,
    /// The share of the route's requests that goes there, 0 to 1.
    pub share: f64,
    /// What is spoken to it.
    pub protocol: Protocol,
    /// How an endpoint is chosen.
    pub load_balancing: Policy,
    /// The endpoints: of a running proxy those that there are, else those of the file.
    pub endpoints: Vec<Place>,
    /// The state of the circuit to it; of a running proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<&'static str>,
    /// The adaptive limit; of a running proxy, unless it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// What retries may cost.
    pub retry_budget: Budget,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct Place {
    /// Its address, or of a file a name that is resolved to addresses.
    pub address: String,
    /// Its share relative to the others.
    pub weight: u32,
    /// Its zone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// `available`, `ejected` or `unhealthy`; of a running proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
}

/// What retries to an upstream may cost.
#[derive(Clone, Debug, Serialize)]
pub struct Budget {
    /// Retries as a share of first attempts, such as `20%`.
    pub ratio: String,
    /// Retries a second that are always allowed.
    pub min_per_second: u32,
    /// Retries that it would pay for now; of a running proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<f64>,
}

/// How long a request may take, in the form of the file (`250ms`, `5s`); nothing = no limit.
#[derive(Clone, Debug, Serialize)]
pub struct Timeouts {
    /// The whole request; a deadline of the caller's can make it shorter.
    pub total: Option<String>,
    /// One attempt, to the head of its answer.
    pub per_try: Option<String>,
    /// To make a connection.
    pub connect: String,
    /// Without a byte of body either way.
    pub idle: String,
}

/// What is tried again.
#[derive(Clone, Debug, Serialize)]
pub struct Retry {
    /// Whether this request would be tried again when an attempt ends in one of `on`.
    pub this_request: Again,
    /// Why, in a few words.
    pub because: &'static str,
    /// The most attempts, the first included.
    pub max_attempts: u32,
    /// The ends of an attempt that are worth another one.
    pub on: Vec<String>,
}

/// A link of the fallback chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FallbackLink {
    /// `stale`, `upstream:<name>` or `respond`.
    pub link: String,
    /// Whether and when it can answer this request, in a few words.
    pub when: &'static str,
}

/// Whether a request is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Again {
    /// After any of the ends.
    Yes,
    /// Only when it is proved that the upstream executed nothing of it.
    OnlyUnsent,
    /// Never.
    No,
}
