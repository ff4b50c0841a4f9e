//! What an operator sees: every metric, log field and reason, each declared in one place.

pub mod access_log;
pub mod log;
pub mod metrics;
pub mod reason;
pub mod seldom;
