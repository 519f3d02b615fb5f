//! Paths that several services have, as one operation each: a request is one of any of them, and so
//! is its answer.

use serde_json::{Map, Value};

use super::either::{body, either};
use super::parts::Parts;

/// Adds a service's paths to those of others.
pub(super) fn add(paths: &mut Map<String, Value>, own: Map<String, Value>, parts: &Parts) {
    for (path, item) in own {
        match paths.get_mut(&path) {
            Some(known) => join(known, item, parts),
            None => drop(paths.insert(path, item)),
        }
    }
}

/// Joins the operations of one path. The first service's words stand for all.
fn join(known: &mut Value, item: Value, parts: &Parts) {
    let Value::Object(operations) = item else { return };
    for (method, operation) in operations {
        if known.get(&method).is_none() {
            known[method] = operation;
            continue;
        }
        let known = &mut known[method];
        if known["requestBody"] != operation["requestBody"] {
            let bodies = [&known["requestBody"], &operation["requestBody"]];
            known["requestBody"] = body(bodies.map(|body| parts.resolved(body)));
        }
        let Value::Object(answers) = &operation["responses"] else { continue };
        for (status, answer) in answers {
            match known["responses"].get_mut(status) {
                Some(known) => join_answers(known, answer),
                None => known["responses"][status] = answer.clone(),
            }
        }
    }
}

/// A good answer is one of any service's, with the headers that all of them have. Errors are the
/// same everywhere.
fn join_answers(known: &mut Value, answer: &Value) {
    if let Some(headers) = known.get_mut("headers").and_then(Value::as_object_mut) {
        headers.retain(|name, _| answer["headers"].get(name).is_some());
    }
    let Some(content) = answer["content"].as_object() else { return };
    for (media_type, own) in content {
        let known = &mut known["content"][media_type];
        if known.is_null() {
            known.clone_from(own);
        } else {
            known["schema"] = either([&known["schema"], &own["schema"]]);
        }
    }
}
