//! Checks a configuration as a start or a reload would, and does nothing else.

use crate::config::{self, Environment, Problem};
use crate::policy::retry::Suppressed;
use crate::proxy::site::Site;
use crate::records::registry::Registry;
use crate::snapshot::{Snapshot, problem};
use crate::telemetry::metrics::Metrics;

/// Reads, validates and compiles; returns a summary in a few words.
///
/// # Errors
/// All that is wrong with the file.
pub fn check(text: &str, environment: &dyn Environment) -> Result<String, Vec<Problem>> {
    let loaded = config::read(text, environment)?;
    let mut problems = Vec::new();
    for (index, listener) in loaded.config.listeners.iter().enumerate() {
        if let Err(message) = Site::compile(listener) {
            let path = format!("listeners[{index}].forwarded");
            problems.push(problem(&loaded.source, &path, message));
        }
    }
    // No store is opened for a look at the file.
    let (metrics, stores) = (Metrics::new(Suppressed::NAMES), Registry::default());
    match Snapshot::compile(loaded, None, &metrics, &stores) {
        Ok(snapshot) if problems.is_empty() => {
            let count = |number: usize, one: &str| {
                format!("{number} {one}{}", if number == 1 { "" } else { "s" })
            };
            let config = &snapshot.config;
            let mut summary = format!(
                "ok: {}, {}, {}, config {}",
                count(config.listeners.len(), "listener"),
                count(config.routes.len(), "route"),
                count(config.upstreams.len(), "upstream"),
                snapshot.hash
            );
            for caution in config::cautions(config) {
                summary.push_str("\nwarning: ");
                summary.push_str(&caution);
            }
            Ok(summary)
        }
        Ok(_) => Err(problems),
        Err(more) => {
            problems.extend(more);
            Err(problems)
        }
    }
}
