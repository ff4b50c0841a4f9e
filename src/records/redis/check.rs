//! Whether a server is fit to keep records, as its `INFO` tells.

use redis::Value;

use super::address::Layout;
use crate::records::{Cause, Kind};

/// What matters of a server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) role: Box<str>,
    /// Names the history that the server has: a new one after a failover and after a restart
    /// without a replica to tell.
    pub(super) replication: Box<str>,
    pub(super) policy: Box<str>,
    pub(super) clustered: bool,
    /// The most memory that it takes, in bytes; 0 when it has no bound.
    pub(super) max_memory: u64,
    pub(super) used_memory: u64,
    /// Keys that it threw away for room since its start.
    pub(super) evicted: u64,
}

impl Facts {
    /// From the answer to `INFO`.
    pub(super) fn of(value: &Value) -> Option<Self> {
        let text = match value {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).ok()?,
            Value::VerbatimString { text, .. } => text,
            _ => return None,
        };
        let mut facts = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once(':')) {
            let number = || value.trim().parse().unwrap_or(0);
            match name {
                "role" => facts.role = value.trim().into(),
                "master_replid" => facts.replication = value.trim().into(),
                "maxmemory_policy" => facts.policy = value.trim().into(),
                "cluster_enabled" => facts.clustered = value.trim() == "1",
                "maxmemory" => facts.max_memory = number(),
                "used_memory" => facts.used_memory = number(),
                "evicted_keys" => facts.evicted = number(),
                _ => {}
            }
        }
        Some(facts)
    }

    /// # Errors
    /// When the server could forget, is not the primary, or is set up for another layout.
    pub(super) fn judge(&self, layout: Layout) -> Result<(), Cause> {
        if &*self.role != "master" {
            let what = format!("the server is a {}, and records need the primary", self.role);
            return Err(Cause::new(Kind::Unavailable, what));
        }
        if &*self.policy != "noeviction" {
            let what = format!(
                "maxmemory-policy is {}: the server may forget that an operation was executed; \
                 set it to noeviction",
                if self.policy.is_empty() { "not to be seen" } else { &self.policy }
            );
            return Err(Cause::new(Kind::Unfit, what));
        }
        match (layout, self.clustered) {
            (Layout::Single | Layout::Sentinels, true) => Err(Cause::new(
                Kind::Unfit,
                "the server is a node of a cluster; give several of its nodes in `url`",
            )),
            (Layout::Cluster, false) => Err(Cause::new(
                Kind::Unfit,
                "the server is not in cluster mode; give one address in `url`, or the name of the \
                 primary as `sentinel`",
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
