//! The OpenAPI document of a running function.
//!
//! It is put together when it is first asked for, never on the way to the first answer: from the
//! schemas that the wire types derive ([`SchemaBook`]), the settings (limits, keys, hooks) and the
//! facts of the model that decide what a request may ask for. What the document says a request may
//! be is accepted, what it says a request may not be is refused, and every answer fits its schema:
//! `scripts/check/test_schemathesis` holds the binary to that.
//!
//! A kind of function brings its routes as an [`Api`], made by its service; everything else is the
//! same for all kinds. So a binary links the describers of its own routes only. One that serves
//! several kinds has the routes of all of them in one document.

#[cfg(feature = "chat")]
mod chat;
mod description;
mod either;
mod embed;
mod fields;
mod merge;
mod parts;
mod probes;
mod rerank;
mod tokens;

use defrost_api::SchemaBook;
use serde_json::{Map, Value, json};

pub use self::description::{Api, Description};
use self::parts::Parts;

const ABOUT: &str = "\
Every path of a group is one handler under the names that the clients of several services use; the \
keys of the body say whose request it is, and the answer comes back in that service's shape.

Fields that are not listed are ignored, which the answer's `warnings` (or the header `x-warnings`) \
say, and `null` means that a field is not there. `model` may be any name unless the server is \
strict (`STRICT_MODEL`); the answer carries the served one.

Errors have one body with a stable `code` and the field at fault (`param`). `429` and `503` come \
with `retry-after`. A path that does not exist is `404` with the code `not_found`; a method that a \
path does not take is `405` with an `allow` header. Every answer carries `x-request-id`, the \
request's own if it had one.";

/// Writes the document: OpenAPI 3.1.
pub fn openapi(description: &Description) -> Value {
    let mut book = SchemaBook::new();
    let mut parts = Parts::new(description.needs_key, description.strict_model);
    let mut paths = Map::new();
    for api in &description.apis {
        let mut own = Map::new();
        (api.describe)(&mut own, &mut parts, &mut book);
        merge::add(&mut paths, own, &parts);
    }
    probes::describe(&mut paths, &mut parts, &mut book, description);
    let mut components = parts.components(&mut book);
    components.insert("schemas".to_owned(), book.finish().into());
    let mut document = json!({
        "openapi": "3.1.1",
        "info": {
            "title": description.function.name,
            "summary": description.function.about,
            "description": ABOUT,
            "version": description.function.version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "this server"}],
        "tags": tags(&description.apis),
        "paths": paths,
        "components": components,
    });
    if description.snapshot_hooks
        && let Some(tags) = document["tags"].as_array_mut()
    {
        tags.push(
            json!({"name": "snapshots", "description": "Around a copy of the process's memory."}),
        );
    }
    if description.needs_key {
        document["security"] = parts::security();
    }
    drop_unused(&mut document, "headers");
    drop_unused(&mut document, "requestBodies");
    document
}

fn tags(apis: &[Api]) -> Vec<Value> {
    let own = apis.iter().map(|api| (api.name, api.about));
    let common = [
        (parts::OTHER_NAMES, "The same under the paths that clients of other services send to."),
        ("service", "What runs, and how it is."),
        ("pages", "For people with a browser."),
    ];
    own.chain(common).map(|(name, about)| json!({"name": name, "description": about})).collect()
}

/// Leaves those components of a kind that something refers to.
fn drop_unused(document: &mut Value, kind: &str) {
    let written = document.to_string();
    if let Some(components) = document["components"][kind].as_object_mut() {
        components.retain(|name, _| written.contains(&format!("\"#/components/{kind}/{name}\"")));
    }
}
