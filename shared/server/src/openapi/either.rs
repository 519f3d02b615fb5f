//! Schemas and bodies that are one of several.

use serde_json::{Map, Value, json};

const JSON: &str = "application/json";

/// One schema, or any of several.
pub(super) fn any_of(mut schemas: Vec<Value>) -> Value {
    match schemas.len() {
        1 => schemas.remove(0),
        _ => json!({"anyOf": schemas}),
    }
}

/// One schema of either, each kind once.
pub(super) fn either(schemas: [&Value; 2]) -> Value {
    let mut kinds: Vec<Value> = Vec::new();
    for schema in schemas {
        let own = schema["anyOf"].as_array().map_or_else(|| vec![schema.clone()], Clone::clone);
        kinds.extend(own.into_iter().filter(|one| !kinds.contains(one)).collect::<Vec<_>>());
    }
    any_of(kinds)
}

/// One body of any of these.
pub(super) fn body(bodies: [&Value; 2]) -> Value {
    let content = bodies.map(|body| &body["content"][JSON]);
    let schemas = content.map(|content| &content["schema"]);
    let mut joined = json!({"schema": either(schemas)});
    let examples: Map<String, Value> = content
        .iter()
        .filter_map(|content| content["examples"].as_object())
        .flat_map(|examples| examples.values().cloned())
        .enumerate()
        .map(|(place, example)| (format!("{place}"), example))
        .collect();
    if !examples.is_empty() {
        joined["examples"] = examples.into();
    }
    json!({"required": true, "content": {JSON: joined}})
}
