//! Outrigger: a sidecar resilience proxy.

pub mod config;
pub mod policy;
pub mod units;
