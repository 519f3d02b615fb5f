//! Small changes to schemas as JSON trees.

use serde_json::{Value, json};

/// What `char::is_whitespace` knows, written out: engines differ on what `\s` is.
const NOT_BLANK: &str = "[^\\u0009-\\u000d\\u0020\\u0085\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";

/// Takes null out of what a schema accepts.
pub(super) fn forbid_null(schema: &mut Value) {
    if let Some(schema) = schema.as_object_mut()
        && schema.get("default").is_some_and(Value::is_null)
    {
        schema.remove("default");
    }
    if let Some(kinds) = schema.get_mut("type")
        && let Some(list) = kinds.as_array_mut()
    {
        list.retain(|kind| kind != "null");
        if let [only] = list.as_slice() {
            *kinds = only.clone();
        }
    }
    if let Some(values) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        values.retain(|value| !value.is_null());
    }
    if let Some(branches) = schema.get_mut("anyOf")
        && let Some(list) = branches.as_array_mut()
    {
        list.retain(|branch| branch != &json!({"type": "null"}));
        if let [only] = list.as_slice() {
            let only = only.clone();
            if let (Some(schema), Value::Object(only)) = (schema.as_object_mut(), only) {
                schema.remove("anyOf");
                schema.extend(only);
            }
        }
    }
}

/// Fields that may be left out of an answer are never null: their values are left out instead.
pub(super) fn leave_out_null(schema: &mut Value) {
    each(schema, &mut |schema| {
        let required = schema.get("required").cloned().unwrap_or_default();
        let is_required = |name: &str| {
            required.as_array().is_some_and(|names| names.iter().any(|known| known == name))
        };
        let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) else {
            return;
        };
        for (_, property) in properties.iter_mut().filter(|(name, _)| !is_required(name)) {
            forbid_null(property);
        }
    });
}

/// Texts must hold a character that is no white space.
pub(super) fn not_blank(schema: &mut Value) {
    strings(schema, &json!({"pattern": NOT_BLANK}));
}

/// Texts must hold a character that is no white space, and this many at most.
pub(super) fn bounded(schema: &mut Value, max_chars: usize) {
    strings(schema, &json!({"pattern": NOT_BLANK, "minLength": 1, "maxLength": max_chars}));
}

/// Texts and lists of tokens must not be empty, and of the parts of a message one at least.
pub(super) fn not_empty(schema: &mut Value) {
    strings(schema, &json!({"minLength": 1}));
    each(schema, &mut |schema| match schema.pointer("/items/type").and_then(Value::as_str) {
        Some("integer") => schema["minItems"] = 1.into(),
        Some("object") => {
            let text = schema.pointer_mut("/items/properties/text").and_then(Value::as_object_mut);
            text.and_then(|text| text.remove("minLength"));
            schema["contains"] = json!({"properties": {"text": {"minLength": 1}}});
        }
        _ => {}
    });
}

/// Numbers are token ids of a vocabulary of this size.
pub(super) fn token_ids(schema: &mut Value, vocab: usize) {
    each(schema, &mut |schema| {
        if schema.get("type").is_some_and(|kind| kind == "integer")
            && let Some(schema) = schema.as_object_mut()
        {
            schema.insert("maximum".to_owned(), vocab.saturating_sub(1).into());
        }
    });
}

/// Lists must hold 1 to `max` elements. Lists inside of lists are left alone.
pub(super) fn counted(schema: &mut Value, max: usize) {
    match schema.get_mut("anyOf").and_then(Value::as_array_mut) {
        Some(branches) => branches.iter_mut().for_each(|branch| counted(branch, max)),
        None => {
            if let Some(schema) = schema.as_object_mut()
                && schema.get("type").is_some_and(|kind| kind == "array")
            {
                schema.insert("minItems".to_owned(), 1.into());
                schema.insert("maxItems".to_owned(), max.into());
            }
        }
    }
}

/// Adds these keywords to every schema of free strings.
fn strings(schema: &mut Value, keywords: &Value) {
    each(schema, &mut |schema| {
        let free =
            schema.get("type").is_some_and(|kind| kind == "string") && schema.get("enum").is_none();
        if free
            && let (Some(schema), Some(keywords)) = (schema.as_object_mut(), keywords.as_object())
        {
            schema.extend(keywords.clone());
        }
    });
}

/// Doc comments link to items of the crate; readers of the document have none.
pub(super) fn plain_text(schema: &mut Value) {
    each(schema, &mut |schema| {
        if let Some(Value::String(text)) = schema.get_mut("description") {
            *text = text.replace("[`crate::", "`").replace("[`", "`").replace("`]", "`");
        }
    });
}

/// Runs `change` on this tree and every tree in it.
fn each(value: &mut Value, change: &mut dyn FnMut(&mut Value)) {
    if value.is_object() {
        change(value);
    }
    match value {
        Value::Array(values) => values.iter_mut().for_each(|value| each(value, change)),
        Value::Object(map) => map.values_mut().for_each(|value| each(value, change)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_goes_wherever_it_is_written() {
        for (nullable, plain) in [
            (json!({"type": ["string", "null"]}), json!({"type": "string"})),
            (json!({"type": ["a", "b", "null"]}), json!({"type": ["a", "b"]})),
            (json!({"enum": [true, null]}), json!({"enum": [true]})),
            (
                json!({"description": "d", "anyOf": [{"type": "string"}, {"type": "null"}]}),
                json!({"description": "d", "type": "string"}),
            ),
        ] {
            let mut schema = nullable.clone();
            forbid_null(&mut schema);
            assert_eq!(schema, plain, "{nullable}");
        }
    }

    #[test]
    fn white_space_is_what_the_server_trims() {
        let listed = |character: char| {
            matches!(character, '\u{9}'..='\u{d}' | '\u{20}' | '\u{85}' | '\u{a0}' | '\u{1680}'
                | '\u{2000}'..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}')
        };
        for character in '\0'..=char::MAX {
            assert_eq!(character.is_whitespace(), listed(character), "{character:?}");
        }
    }

    #[test]
    fn bounds_reach_texts_and_outer_lists_only() {
        let list =
            json!({"type": "array", "items": {"type": "array", "items": {"type": "integer"}}});
        let mut schema = json!({"anyOf": [{"type": "string"}, list]});
        counted(&mut schema, 7);
        not_empty(&mut schema);
        assert_eq!(schema["anyOf"][0], json!({"type": "string", "minLength": 1}));
        assert_eq!(schema["anyOf"][1]["maxItems"], 7);
        assert_eq!(schema["anyOf"][1]["items"]["minItems"], 1);
        assert!(schema["anyOf"][1]["items"].get("maxItems").is_none());
    }
}
