//! Outrigger: a sidecar resilience proxy.

pub mod admin;
pub mod app;
pub mod check;
pub mod clock;
pub mod config;
pub mod control;
pub mod demo;
pub mod explain;
pub mod policy;
pub mod proxy;
pub mod server;
pub mod shared;
pub mod snapshot;
pub mod telemetry;
pub mod units;
pub mod upstream;
pub mod watch;
