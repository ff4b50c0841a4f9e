//! The JSON Schema of the file, for editors.

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::Config;
use super::merge::{OWN_OF_ROUTE, OWN_OF_UPSTREAM};

/// The schema of the file (draft 2020-12). It says what the types say: rules between settings and
/// names that must exist are left to reading.
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Config>().to_value();
    loosen(&mut schema);
    for (section, name, own) in
        [("route", "Route", &OWN_OF_ROUTE[..]), ("upstream", "Upstream", &OWN_OF_UPSTREAM[..])]
    {
        let mut entry = definition(&mut schema, name).cloned().unwrap_or_default();
        entry.remove("required");
        entry.remove("default");
        if let Some(Value::Object(properties)) = entry.get_mut("properties") {
            properties.retain(|key, _| !own.contains(&key.as_str()));
        }
        entry.insert("description".to_owned(), json!(format!("Merged under every {section}.")));
        if let Some(Value::Object(properties)) =
            definition(&mut schema, "Defaults").and_then(|defaults| defaults.get_mut("properties"))
        {
            properties.insert(section.to_owned(), Value::Object(entry));
        }
    }
    if let Value::Object(root) = &mut schema {
        root.insert("$id".to_owned(), json!("urn:outrigger:config"));
        root.insert("title".to_owned(), json!("Outrigger configuration"));
    }
    schema
}

fn definition<'a>(schema: &'a mut Value, name: &str) -> Option<&'a mut Map<String, Value>> {
    schema.get_mut("$defs")?.get_mut(name)?.as_object_mut()
}

/// An unquoted number or switch is read as a text where a text is wanted, so the schema allows it.
fn loosen(schema: &mut Value) {
    match schema {
        Value::Array(items) => items.iter_mut().for_each(loosen),
        Value::Object(entries) => {
            let free = !["pattern", "enum", "const"].iter().any(|key| entries.contains_key(*key));
            if free && let Some(kind) = entries.get_mut("type") {
                match kind {
                    Value::String(name) if name == "string" => {
                        *kind = json!(["string", "number", "boolean"]);
                    }
                    Value::Array(names) if names.contains(&json!("string")) => {
                        names.extend([json!("number"), json!("boolean")]);
                    }
                    _ => {}
                }
            }
            // Defaults are values and not schemas.
            let inner = entries.iter_mut().filter(|(key, _)| *key != "default");
            inner.for_each(|(_, value)| loosen(value));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
