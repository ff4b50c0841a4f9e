//! Which endpoint? Choosing among those that may be chosen.
//!
//! A [`Plan`] is made when the set of endpoints changes and holds what does not change between
//! requests; [`Endpoints`] is what one attempt sees of them; [`Plan::choose`] takes the choice. The
//! latency of an endpoint is measured by [`PeakEwma`], and [`Ring`] is the consistent hash.
//!
//! Who may be chosen, in this order: those that are available and not tried before by this request;
//! if there is none, those that are available. In both, endpoints of the own zone are taken alone
//! while at least half of them are available. Nobody is chosen when nobody is available.
//!
//! | policy | choice |
//! |---|---|
//! | `peak_ewma` | two drawn by weight; the lower `cost * (in flight / weight + 1)` |
//! | `least_request` | two drawn by weight; the lower `in flight / weight`, or the first |
//! | `round_robin` | the next of an order that has each as often as its weight |
//! | `ring_hash` | the first on the ring from the hash whose load is within the bound |
//!
//! Two random choices: M. Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing",
//! 2001. It is the draw that follows the weight, and not only the comparison, because with nothing
//! in flight a comparison by weight would give the heaviest everything.
//!
//! An endpoint in slow start is left out of a choice as often as it lacks of its full share. That
//! holds its share in proportion at every load; a load multiplied by the inverse of its share would
//! give it nothing at all while the others have little in flight.
//!
//! What is absent: who is available (ejection, health checks and breakers decide that), what to do
//! when nobody is, and counting what is in flight.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Factor, Period, text_value};

mod choice;
mod peak_ewma;
mod ring;
#[cfg(test)]
mod tests;

pub use choice::{Chance, Endpoints, Member, Plan, least, load, pick_two};
pub use peak_ewma::{PeakEwma, SEED, cost, failure_latency, next};
pub use ring::{POINTS_MAX, Ring, Walk, hash};

/// How an endpoint is chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The algorithm.
    pub policy: Policy,
    /// With `peak_ewma`: the latency that a failure counts as, so that an endpoint that fails fast
    /// does not look fast.
    pub failure_penalty: Period,
    /// With `ring_hash`: what is hashed. Required there.
    pub hash_on: Option<HashOn>,
    /// With `ring_hash`: no endpoint gets more than this factor of the mean load.
    pub bound: Factor,
}

/// The algorithm of the choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// The better of two chosen at random, by peak-sensitive latency times requests in flight.
    #[default]
    PeakEwma,
    /// The better of two chosen at random, by requests in flight.
    LeastRequest,
    /// Each in turn, by weight.
    RoundRobin,
    /// By a hash of a part of the request, with bounded load.
    RingHash,
}

/// The part of a request that is hashed or limited on: `header:NAME`, `cookie:NAME`, `client_ip`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The value of a request header; the name in lower case.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
    /// The client's address without its port.
    ClientIp,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            policy: Policy::PeakEwma,
            failure_penalty: Period::from_secs(5),
            hash_on: None,
            bound: Factor::percent(125),
        }
    }
}

impl FromStr for HashOn {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("header", name)) if !name.is_empty() => {
                Ok(Self::Header(name.to_ascii_lowercase()))
            }
            Some(("cookie", name)) if !name.is_empty() => Ok(Self::Cookie(name.to_owned())),
            None if text == "client_ip" => Ok(Self::ClientIp),
            _ => Err(format!("`{text}` is not header:<name>, cookie:<name> or client_ip")),
        }
    }
}

impl fmt::Display for HashOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::ClientIp => f.write_str("client_ip"),
        }
    }
}

text_value!(
    HashOn,
    "HashOn",
    r"^(header:.+|cookie:.+|client_ip)$",
    "a part of the request, such as header:x-user, cookie:sid or client_ip"
);
