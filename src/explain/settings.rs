//! A route's settings as the operator may see them: masked, without what is not set.

use serde_json::{Map, Value};

use crate::config;
use crate::snapshot::Snapshot;

/// What of a route is not a policy.
const NOT_POLICIES: [&str; 4] = ["name", "match", "upstream", "upstreams"];

/// The routes' settings, masked.
pub struct Printed(Value);

impl Printed {
    /// Prints the settings of all routes.
    ///
    /// # Errors
    /// When they cannot be printed, which no file that was read leads to.
    pub fn of(snapshot: &Snapshot) -> Result<Self, String> {
        let mut all = config::to_json(&snapshot.config, &snapshot.secrets)?;
        Ok(Self(all.get_mut("routes").map(Value::take).unwrap_or_default()))
    }

    /// The conditions of a route, by its index in the file; an empty mapping matches everything.
    #[must_use]
    pub fn conditions(&self, route: usize) -> Value {
        let given = self.0.get(route).and_then(|route| route.get("match"));
        Value::Object(given.map(stated).unwrap_or_default())
    }

    /// The policies of a route, by its index in the file.
    #[must_use]
    pub fn policies(&self, route: usize) -> Map<String, Value> {
        let mut policies = self.0.get(route).map(stated).unwrap_or_default();
        policies.retain(|key, _| !NOT_POLICIES.contains(&key.as_str()));
        policies
    }
}

/// The keys of a mapping that say something: neither null nor empty all the way down. Nulls deeper
/// down stay, for there they are values (`timeouts.total: null` is no limit).
fn stated(value: &Value) -> Map<String, Value> {
    let Value::Object(entries) = value else { return Map::new() };
    let says = |value: &&Value| !value.is_null() && !is_empty(value);
    entries
        .iter()
        .filter(|(_, value)| says(value))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.values().all(is_empty),
        _ => false,
    }
}
