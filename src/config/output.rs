//! The settings in force as YAML and JSON, for the operator, without secrets.

use super::Config;
use super::secrets::Secrets;

/// Prints the settings in force. Values from outside, and header values that carry proof of
/// identity, are masked. This is the only place that knows `serde_yaml`.
///
/// # Errors
/// When the settings cannot be written as YAML, which no file that was read leads to.
pub fn to_yaml(config: &Config, secrets: &Secrets) -> Result<String, String> {
    serde_yaml::to_string(&masked(config, secrets)?).map_err(|error| failed(&error))
}

/// The settings in force as JSON, masked as in [`to_yaml`], for views that show a part of them.
///
/// # Errors
/// When the settings cannot be written as JSON, which no file that was read leads to.
pub fn to_json(config: &Config, secrets: &Secrets) -> Result<serde_json::Value, String> {
    serde_json::to_value(masked(config, secrets)?).map_err(|error| failed(&error))
}

fn masked(config: &Config, secrets: &Secrets) -> Result<serde_yaml::Value, String> {
    let mut value = serde_yaml::to_value(config).map_err(|error| failed(&error))?;
    secrets.mask_tree(&mut value);
    Ok(value)
}

fn failed(error: &dyn std::fmt::Display) -> String {
    format!("the settings cannot be printed: {error}")
}

#[cfg(test)]
mod tests;
