//! The settings in force as YAML, for the operator, without secrets.

use super::Config;
use super::secrets::Secrets;

/// Prints the settings in force. Values from outside, and header values that carry proof of
/// identity, are masked. This is the only place that knows `serde_yaml`.
///
/// # Errors
/// When the settings cannot be written as YAML, which no file that was read leads to.
pub fn to_yaml(config: &Config, secrets: &Secrets) -> Result<String, String> {
    let failed = |error: serde_yaml::Error| format!("the settings cannot be printed: {error}");
    let mut value = serde_yaml::to_value(config).map_err(failed)?;
    secrets.mask_tree(&mut value);
    serde_yaml::to_string(&value).map_err(failed)
}

#[cfg(test)]
mod tests;
