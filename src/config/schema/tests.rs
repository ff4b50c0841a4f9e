use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::*;
use crate::config::problem::Report;
use crate::config::read::decode_file;
use crate::config::testing::Fixed;

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).unwrap()
}

fn files() -> Vec<Value> {
    let own = ["tests/golden/full.yaml", "tests/golden/keyed.yaml"];
    ["config/reference.yaml", "config/example.yaml"]
        .iter()
        .chain(&own)
        .map(|name| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        })
        .collect()
}

/// Whether the types accept it; the rules between settings are beyond a schema.
fn readable(file: &Value) -> Result<(), String> {
    let text = serde_yaml::to_string(file).unwrap();
    let mut report = Report::default();
    decode_file(&text, &Fixed::default(), &mut report);
    let found: Vec<String> = report.finish().iter().map(ToString::to_string).collect();
    if found.is_empty() { Ok(()) } else { Err(found.join("\n")) }
}

#[test]
fn the_schema_is_one_of_its_draft() {
    let schema = schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["$id"], "urn:outrigger:config");
    assert_eq!(schema["title"], "Outrigger configuration");
    assert!(jsonschema::draft202012::meta::is_valid(&schema));
}

#[test]
fn good_files_are_good_to_both() {
    let validator = validator();
    for file in files() {
        assert_eq!(readable(&file), Ok(()));
        let errors: Vec<String> = validator
            .iter_errors(&file)
            .map(|error| format!("{} at {}", error, error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}");
    }
}

/// Every file that differs from `file` in one place: a name that is not known in each mapping, and
/// a value of each kind in place of each value.
fn damaged(file: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut pointers = vec![String::new()];
    while let Some(pointer) = pointers.pop() {
        let node = file.pointer(&pointer).unwrap();
        let keys: Vec<String> = match node {
            Value::Object(entries) => {
                let mut copy = file.clone();
                let target = copy.pointer_mut(&pointer).unwrap().as_object_mut().unwrap();
                target.insert("zzz-unknown".to_owned(), json!({ "x": 1 }));
                all.push((format!("{pointer}/zzz-unknown"), copy));
                entries.keys().map(|key| key.replace('~', "~0").replace('/', "~1")).collect()
            }
            Value::Array(items) => (0..items.len()).map(|index| index.to_string()).collect(),
            _ => Vec::new(),
        };
        pointers.extend(keys.iter().map(|key| format!("{pointer}/{key}")));
        for other in [
            json!(null),
            json!(true),
            json!(false),
            json!(0),
            json!(12345),
            json!(-1),
            json!(1.5),
            json!("no such word"),
            json!(""),
            json!([]),
            json!([{}]),
            json!({}),
            json!({ "x": [] }),
        ] {
            let mut copy = file.clone();
            *copy.pointer_mut(&pointer).unwrap() = other.clone();
            all.push((format!("{pointer} = {other}"), copy));
        }
    }
    all
}

#[test]
fn damaged_files_are_the_same_to_both() {
    let validator = validator();
    let mut refused = 0;
    for file in files() {
        for (what, file) in damaged(&file) {
            // What a route leaves out of its rate limit may come from `defaults`, which a schema
            // cannot follow.
            if what.ends_with("rate_limit = {}") {
                continue;
            }
            let read = readable(&file);
            let valid = validator.is_valid(&file);
            assert_eq!(read.is_ok(), valid, "{what}\nread: {read:?}\nschema: {valid}");
            refused += usize::from(!valid);
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn every_setting_is_explained() {
    let schema = schema();
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        for (key, property) in definition["properties"].as_object().into_iter().flatten() {
            let told = property.get("description").is_some();
            assert!(told, "{name}.{key} has no description: {property}");
        }
    }
}
