//! The endpoints of an upstream at one time, and the choice among them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use super::address::EndpointAddress;
use super::endpoint::Endpoint;
use crate::config::upstream::Upstream as Settings;
use crate::policy::ejection::{self, WhenAllEjected};
use crate::policy::load_balancing::{self as balancing, Policy, Ring};

/// The endpoints of an upstream, replaced whole when an address comes or goes.
#[derive(Debug, Default)]
pub struct EndpointSet {
    /// The endpoints, in a stable order.
    pub endpoints: Vec<Arc<Endpoint>>,
    ring: Option<Ring>,
    turns: Vec<usize>,
}

/// What an endpoint should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Where it is.
    pub address: EndpointAddress,
    /// Its share relative to the others.
    pub weight: u32,
    /// The zone that it is in.
    pub zone: Option<Arc<str>>,
}

/// The endpoint that was chosen, and how.
#[derive(Debug)]
pub struct Chosen {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// No endpoint could be chosen by the rules, and this one was taken all the same.
    pub last_resort: bool,
}
