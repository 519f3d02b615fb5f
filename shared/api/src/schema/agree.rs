//! Several names of one option: what they may say together.
//!
//! Clients of different services ask for the same thing under different names, and the server
//! refuses a request that says two things. These schemas say so for names of every form, because a
//! field of another form is read wherever it is sent.

use serde_json::{Value, json};

use crate::request::MAX_RANK_FIELDS;

/// The fields that these rules govern. What they may be is said here and not again at each form:
/// generators of requests multiply the cases of everything that is said of a field, and give up
/// (`OutgrewCases`) when there are too many.
pub(super) const GOVERNED: [&str; 14] = [
    "raw_scores",
    "use_activation",
    "normalize",
    "normalized",
    "normalization",
    "top_n",
    "top_k",
    "truncate",
    "truncation",
    "truncation_direction",
    "truncation_side",
    "input_type",
    "task",
    "rank_fields",
];

/// A rule as far as it speaks of fields that this `body` reads: what it says of others would refuse
/// bodies that are answered, with a warning.
pub(super) fn of(mut rule: Value, body: &Value) -> Value {
    for branch in rule["anyOf"].as_array_mut().into_iter().flatten() {
        if let Some(properties) = branch["properties"].as_object_mut() {
            properties.retain(|field, _| body["properties"].get(field).is_some());
        }
    }
    rule
}

/// `raw_scores`, `use_activation`, `normalize` and `normalization` ask for the same scores.
pub(super) fn scores(takes_mxbai: bool) -> Value {
    let mapped =
        if takes_mxbai { json!(["sigmoid", "mxbai", null]) } else { json!(["sigmoid", null]) };
    json!({
        "title": "Names of one mapping of scores agree",
        "type": "object",
        "anyOf": [
            {"title": "in [0, 1]", "properties": {
                "raw_scores": {"enum": [false, "false", null]},
                "use_activation": {"enum": [true, "true", null]},
                "normalize": {"enum": [true, "true", null]},
                "normalization": {"enum": mapped},
            }},
            {"title": "raw", "properties": {
                "raw_scores": {"enum": [true, "true", null]},
                "use_activation": {"enum": [false, "false", null]},
                "normalize": {"enum": [false, "false", null]},
                "normalization": {"enum": ["raw", null]},
            }},
        ],
    })
}

/// `normalize`, `normalized` and `use_activation` ask for vectors of the same length.
pub(super) fn lengths() -> Value {
    let all = |value: Value, llama: Value| {
        json!({"properties": {
            "normalize": value, "normalized": value, "use_activation": value, "embd_normalize": llama,
        }})
    };
    json!({
        "title": "Names of one normalisation agree",
        "type": "object",
        "anyOf": [
            all(json!({"enum": [true, "true", null]}), json!({"enum": [2, null]})),
            all(
                json!({"enum": [false, "false", null]}),
                json!({"anyOf": [
                    {"type": "integer", "not": {"const": 2}, "minimum": -1, "maximum": u32::MAX}, {"type": "null"},
                ]}),
            ),
        ],
    })
}

type Names = &'static [&'static str];

/// Names of what the inputs are: of `input_type`, of `task`, and of the prompts that go with them.
/// They are read in any case, and with other words before the dot, which these lists leave out.
const ROLES: [(&str, Names, Names, Names); 3] = [
    (
        "queries",
        &["query", "search_query", "retrieval_query"],
        &["retrieval.query", "code.query"],
        &["query"],
    ),
    (
        "documents",
        &["document", "passage", "search_document", "retrieval_document"],
        &["retrieval.passage", "retrieval.document", "code.passage", "code.document"],
        &["document", "passage"],
    ),
    (
        "neither",
        &["classification", "clustering", "none"],
        &[
            "retrieval",
            "text-matching",
            "classification",
            "clustering",
            "separation",
            "embed",
            "none",
        ],
        &[],
    ),
];

/// `input_type` and `task` say the same of what the inputs are; with `prompts`, `prompt_name` may
/// name one of these, that of the role.
pub(super) fn roles(prompts: Option<&[String]>) -> Value {
    let or_none = |names: &mut dyn Iterator<Item = &str>| -> Value {
        names.map(Value::from).chain([Value::Null, "".into()]).collect()
    };
    let branches = ROLES.map(|(title, types, tasks, called)| {
        let mut properties = json!({
            "input_type": {"enum": or_none(&mut types.iter().copied())},
            "task": {"enum": or_none(&mut tasks.iter().copied())},
        });
        if let Some(prompts) = prompts {
            let of_role = |name: &&str| called.is_empty() || called.contains(name);
            let mut names = prompts.iter().map(String::as_str).filter(of_role);
            properties["prompt_name"] = json!({"enum": or_none(&mut names)});
        }
        json!({"title": title, "properties": properties})
    });
    json!({"title": "Names of one role agree", "type": "object", "anyOf": branches})
}

/// What happens to over-long texts: at which end they are cut, if at all, and to how many tokens.
/// Documents that are read in pieces are read from their start.
pub(super) fn cutting() -> Value {
    let left = json!(["Left", "left", "START", "start", null]);
    let right = json!(["Right", "right", "END", "end", null]);
    let cut = |title: &str, truncate: Value, side: &Value| {
        json!({"title": title, "properties": {
            "truncate": {"enum": truncate},
            "truncation": {"enum": [true, "true", null]},
            "truncation_direction": {"enum": side},
            "truncation_side": {"enum": side},
        }})
    };
    let refuse = |side: &Value| {
        json!({"title": "refuse", "properties": {
            "truncate": {"enum": [false, "false", "NONE", "none", null]},
            "truncation": {"enum": [false, "false", null]},
            "truncation_direction": {"enum": side},
            "truncation_side": {"enum": side},
            "truncate_prompt_tokens": {"enum": [0, null]},
        }})
    };
    let all = json!([true, "true", "END", "end", "START", "start", null]);
    let mut from_start = cut("cut at the start", all, &left);
    from_start["properties"]["max_chunks_per_doc"] = json!({"enum": [0, 1, null]});
    json!({
        "title": "Names of one truncation agree",
        "type": "object",
        "anyOf": [
            cut("cut at the end", json!([true, "true", "END", "end", null]), &right),
            from_start,
            refuse(&right),
            refuse(&left),
        ],
    })
}

/// `truncate: "START"` cuts on the left. Of the parameters of `/similarity`, which are fewer.
pub(super) fn sides() -> Value {
    json!({
        "title": "Names of one side agree",
        "type": ["object", "null"],
        "anyOf": [
            {"properties": {"truncate": {
                "enum": [true, false, "true", "false", "END", "end", "NONE", "none", null],
            }}},
            {"properties": {
                "truncation_direction": {"enum": ["Left", "left", "START", "start", null]},
            }},
        ],
    })
}

/// `top_n` and `top_k` are one number. Schemas cannot compare fields, so of equal numbers only the
/// one that means all is listed.
pub(super) fn top() -> Value {
    let count = json!({"type": ["integer", "null"], "minimum": 0});
    json!({
        "title": "One number of results",
        "type": "object",
        "anyOf": [
            {"properties": {"top_n": count, "top_k": {"type": "null"}}},
            {"properties": {"top_n": {"type": "null"}, "top_k": count}},
            {"properties": {"top_n": {"const": 0}, "top_k": {"const": 0}}},
        ],
    })
}

/// Documents that are objects have a `text`, which may be other than a string where `rank_fields`
/// names it: then whatever it holds is read as its JSON. That other fields will do as well if
/// `rank_fields` names them cannot be said in a schema.
pub(super) fn rank_fields(key: &str, max_documents: usize) -> Value {
    let text = json!({"type": "string"});
    let list = |items: &Value| json!({"type": "array", "items": items, "minItems": 1, "maxItems": max_documents});
    let object = |field: Value| {
        json!({"anyOf": [
            {"type": "string"},
            {"type": "object", "properties": {"text": field}, "required": ["text"]},
        ]})
    };
    let not_null = json!({"type": ["string", "number", "boolean", "array", "object"]});
    json!({
        "title": "Documents have what rank_fields names",
        "type": "object",
        "anyOf": [
            {"title": "texts", "properties": {
                key: {"anyOf": [list(&text), text]},
                "rank_fields": {
                    "type": ["array", "null"], "items": {"type": "string"}, "uniqueItems": true, "maxItems": MAX_RANK_FIELDS,
                },
            }},
            {"title": "objects with a text", "properties": {
                key: {"anyOf": [list(&object(text.clone())), text]},
                "rank_fields": {"type": ["array", "null"], "maxItems": 0},
            }},
            {"title": "objects with fields", "properties": {
                key: {"anyOf": [list(&object(not_null)), text]},
                "rank_fields": {
                    "type": "array", "items": {"type": "string"}, "contains": {"const": "text"},
                    "uniqueItems": true, "maxItems": MAX_RANK_FIELDS,
                },
            }, "required": ["rank_fields"]},
        ],
    })
}
