//! JSON schemas before they are compiled: what cannot be enforced is found here, with its place and its keyword.
//!
//! Every keyword of every draft is in one of three lists: what llguidance enforces, what only describes, and what is refused.
//! A word in none of them is an annotation, as the specification has it, unless it is a keyword in the wrong case, which
//! would be ignored in silence. Values are checked for their type and bounded, so that the compiler is given nothing that it
//! does not expect.

use serde_json::{Map, Value, json};

/// Nesting of schemas.
const DEEPEST: usize = 64;
/// Lengths and counts. Longer ones are beyond what a context holds.
const LARGEST: u64 = 1_000_000;

/// Bounds of numbers, on both sides of 0: as far as every whole number has a float.
const FARTHEST: f64 = 1e16;

/// What the value of a keyword is.
#[derive(Clone, Copy)]
enum Kind {
    Schema,
    Schemas,
    NamedSchemas,
    /// A schema, or several: `items` of older drafts.
    SchemaOrSchemas,
    Types,
    Names,
    Values,
    Anything,
    Count,
    Number,
    PositiveNumber,
    Text,
}

const ENFORCED: [(&str, Kind); 29] = [
    ("$ref", Kind::Text),
    ("$defs", Kind::NamedSchemas),
    ("definitions", Kind::NamedSchemas),
    ("additionalItems", Kind::Schema),
    ("additionalProperties", Kind::Schema),
    ("allOf", Kind::Schemas),
    ("anyOf", Kind::Schemas),
    ("const", Kind::Anything),
    ("enum", Kind::Values),
    ("exclusiveMaximum", Kind::Number),
    ("exclusiveMinimum", Kind::Number),
    ("format", Kind::Text),
    ("items", Kind::SchemaOrSchemas),
    ("maxItems", Kind::Count),
    ("maxLength", Kind::Count),
    ("maxProperties", Kind::Count),
    ("maximum", Kind::Number),
    ("minItems", Kind::Count),
    ("minLength", Kind::Count),
    ("minProperties", Kind::Count),
    ("minimum", Kind::Number),
    ("multipleOf", Kind::PositiveNumber),
    ("oneOf", Kind::Schemas),
    ("pattern", Kind::Text),
    ("patternProperties", Kind::NamedSchemas),
    ("prefixItems", Kind::Schemas),
    ("properties", Kind::NamedSchemas),
    ("required", Kind::Names),
    ("type", Kind::Types),
];

/// Keywords that cannot be enforced, and what may be written instead.
const REFUSED: [(&str, &str); 21] = [
    ("$dynamicRef", "use $ref"),
    ("$recursiveRef", "use $ref"),
    ("contains", "use items"),
    ("dependencies", "use anyOf"),
    ("dependentRequired", "use anyOf"),
    ("dependentSchemas", "use anyOf"),
    ("else", "use anyOf"),
    ("if", "use anyOf"),
    ("maxContains", "use maxItems"),
    ("minContains", "use minItems"),
    ("not", "say what is allowed"),
    ("nullable", "use \"type\": [\"…\", \"null\"]"),
    ("propertyNames", "use patternProperties with \"additionalProperties\": false"),
    ("then", "use anyOf"),
    ("unevaluatedItems", "use items"),
    ("unevaluatedProperties", "use additionalProperties"),
    ("uniqueItems", "leave it out, and make items unique afterwards"),
    ("extends", "use allOf"),
    ("disallow", "say what is allowed"),
    ("divisibleBy", "use multipleOf"),
    ("x-guidance", "leave it out"),
];

const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// How JSON is written.
pub(super) fn on_one_line(schema: &Value) -> Value {
    let style = json!({
        "item_separator": ", ",
        "key_separator": ": ",
        "whitespace_flexible": false,
    });
    match prepared(schema) {
        Value::Object(mut fields) => {
            fields.insert("x-guidance".to_owned(), style);
            Value::Object(fields)
        }
        Value::Bool(true) => json!({"x-guidance": style}),
        other => other,
    }
}

/// What formats do not say and those who read them insist on: times end within the minute (the 60 of leap seconds is no time for
/// most), the parts of addresses have a length.
const MORE_OF_FORMATS: [(&str, &str); 4] = [
    ("date-time", "^[^:]*:[0-9]{2}:[0-5]"),
    ("time", "^[^:]*:[0-9]{2}:[0-5]"),
    ("email", "^[^@]{1,64}@[^@.]{1,63}(\\.[^@.]{1,63}){0,2}$"),
    ("hostname", "^[^.]{1,63}(\\.[^.]{1,63}){0,2}$"),
];

/// The same schema for the compiler, with what its formats let through and validators do not.
fn prepared(schema: &Value) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut out = Map::new();
    for (key, value) in fields {
        let kind = ENFORCED.iter().find(|(known, _)| known == key).map(|(_, kind)| *kind);
        let value = match (kind, value) {
            (Some(Kind::Schema | Kind::SchemaOrSchemas), Value::Object(_)) => prepared(value),
            (Some(Kind::Schemas | Kind::SchemaOrSchemas), Value::Array(schemas)) => {
                schemas.iter().map(prepared).collect()
            }
            (Some(Kind::NamedSchemas), Value::Object(schemas)) => {
                schemas.iter().map(|(name, schema)| (name.clone(), prepared(schema))).collect()
            }
            _ => value.clone(),
        };
        out.insert(key.clone(), value);
    }
    let format = out.get("format").and_then(Value::as_str);
    let more = MORE_OF_FORMATS.iter().find(|(name, _)| Some(*name) == format);
    if let Some((_, pattern)) = more {
        let also = json!({"type": "string", "pattern": pattern});
        match out.get_mut("allOf").and_then(Value::as_array_mut) {
            Some(all) => all.push(also),
            None => {
                out.insert("allOf".to_owned(), json!([also]));
            }
        }
    }
    Value::Object(out)
}

/// The schema of arguments: of an object, even where it does not say so.
pub(super) fn of_object(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) if !fields.contains_key("type") && !fields.contains_key("$ref") => {
            let mut fields = fields.clone();
            fields.insert("type".to_owned(), json!("object"));
            Value::Object(fields)
        }
        Value::Object(_) => schema.clone(),
        _ => json!({"type": "object"}),
    }
}

/// Whether a schema has anything that cannot be enforced.
///
/// # Errors
/// What it is and where.
pub(super) fn check(schema: &Value) -> Result<(), String> {
    check_at(schema, &mut Place { steps: Vec::new(), depth: 0 })
}

/// Where in a schema.
struct Place {
    steps: Vec<String>,
    /// Schemas around this one.
    depth: usize,
}

impl Place {
    fn refused(&self, message: impl std::fmt::Display) -> String {
        if self.steps.is_empty() {
            return format!("{message}, at the top");
        }
        format!("{message}, at /{}", self.steps.join("/"))
    }

    fn within(&mut self, step: impl Into<String>, schema: &Value) -> Result<(), String> {
        self.steps.push(step.into());
        check_at(schema, self)?;
        self.steps.pop();
        Ok(())
    }
}

fn check_at(schema: &Value, place: &mut Place) -> Result<(), String> {
    let fields = match schema {
        Value::Bool(_) => return Ok(()),
        Value::Object(fields) => fields,
        other => {
            let message =
                format!("expected a schema, an object or a boolean, found {}", kind(other));
            return Err(place.refused(message));
        }
    };
    if place.depth > DEEPEST {
        return Err(place.refused(format!("it is nested more than {DEEPEST} deep")));
    }
    place.depth += 1;
    for (key, value) in fields {
        if let Some((_, instead)) = REFUSED.iter().find(|(refused, _)| refused == key) {
            // Draft 4 has `"uniqueItems": false` and the like, which say nothing.
            if *value != Value::Bool(false) || key == "not" || key == "if" {
                let message = format!("{key:?} is not supported ({instead})");
                return Err(place.refused(message));
            }
        }
        if let Some((_, expected)) = ENFORCED.iter().find(|(known, _)| known == key) {
            place.steps.push(key.clone());
            check_value(key, value, *expected, place)?;
            place.steps.pop();
            continue;
        }
        if key == "$id" && !place.steps.is_empty() {
            return Err(place.refused("\"$id\" is not supported below the top"));
        }
        let known = ENFORCED.iter().map(|(known, _)| *known);
        let mut meant = known.chain(REFUSED.iter().map(|(known, _)| *known));
        let is_misspelt = |known: &&str| *known != key && known.eq_ignore_ascii_case(key);
        if let Some(meant) = meant.find(is_misspelt) {
            return Err(place.refused(format!("{key:?} is no keyword: it is written {meant:?}")));
        }
    }
    place.depth -= 1;
    contradictions(fields, place)
}

/// Bounds that no value meets.
fn contradictions(fields: &Map<String, Value>, place: &Place) -> Result<(), String> {
    for (least, most) in
        [("minItems", "maxItems"), ("minLength", "maxLength"), ("minProperties", "maxProperties")]
    {
        let count = |key: &str| fields.get(key).and_then(Value::as_u64);
        if let (Some(from), Some(to)) = (count(least), count(most))
            && from > to
        {
            return Err(place.refused(format!("{least} is {from} and {most} is {to}")));
        }
    }
    Ok(())
}

fn check_value(key: &str, value: &Value, expected: Kind, place: &mut Place) -> Result<(), String> {
    let is_name = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    let number = value.as_f64();
    let list = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let (is_right, what) = match (expected, value) {
        (Kind::Schema, schema)
        | (Kind::SchemaOrSchemas, schema @ (Value::Object(_) | Value::Bool(_))) => {
            return check_at(schema, place);
        }
        (Kind::Schemas | Kind::SchemaOrSchemas, Value::Array(schemas))
            if !schemas.is_empty() || key == "prefixItems" || key == "items" =>
        {
            let mut schemas = schemas.iter().enumerate();
            return schemas.try_for_each(|(at, schema)| place.within(at.to_string(), schema));
        }
        (Kind::NamedSchemas, Value::Object(schemas)) => {
            let mut schemas = schemas.iter();
            return schemas.try_for_each(|(name, schema)| place.within(name.clone(), schema));
        }
        (Kind::Schemas, _) => (false, "a list of schemas".to_owned()),
        (Kind::SchemaOrSchemas, _) => (false, "a schema or a list of schemas".to_owned()),
        (Kind::NamedSchemas, _) => (false, "an object of schemas".to_owned()),
        (Kind::Types, value) => {
            let are_names = !list.is_empty() && list.iter().all(is_name);
            (is_name(value) || are_names, format!("one of {}, or a list of them", TYPES.join(", ")))
        }
        (Kind::Names, value) => {
            let are_names = value.is_array() && list.iter().all(Value::is_string);
            (are_names, "a list of names".to_owned())
        }
        (Kind::Values, _) => (!list.is_empty(), "a list with a value at least".to_owned()),
        (Kind::Anything, _) => return Ok(()),
        (Kind::Count, count) => (
            count.as_u64().is_some_and(|count| count <= LARGEST),
            format!("a whole number from 0 to {LARGEST}"),
        ),
        (Kind::Number, _) => (
            number.is_some_and(|number| number.abs() <= FARTHEST),
            format!("a number from -{FARTHEST:e} to {FARTHEST:e}"),
        ),
        (Kind::PositiveNumber, _) => {
            (number.is_some_and(|number| number > 0.0), "a number above 0".to_owned())
        }
        (Kind::Text, value) => (value.is_string(), "a text".to_owned()),
    };
    if is_right {
        return Ok(());
    }
    let found = shortened(value);
    Err(place.refused(format!("{key:?}: expected {what}, found {found}")))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    let short: String = text.chars().take(60).collect();
    if short.len() < text.len() { format!("{short}…") } else { short }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_enforced_is_named_with_its_place() {
        let deep = (0..100).fold(json!({"type": "string"}), |inner, _| json!({"items": inner}));
        for (schema, expected) in [
            (json!({"not": {}}), "\"not\" is not supported (say what is allowed), at the top"),
            (
                json!({"properties": {"a": {"uniqueItems": true}}}),
                "\"uniqueItems\" is not supported (leave it out, and make items unique afterwards), at \
                 /properties/a",
            ),
            (
                json!({"anyOf": [{}, {"minlength": 3}]}),
                "\"minlength\" is no keyword: it is written \"minLength\", at /anyOf/1",
            ),
            (
                json!({"type": "text"}),
                "\"type\": expected one of array, boolean, integer, null, number, object, string, or a \
                 list of them, found \"text\", at /type",
            ),
            (
                json!({"exclusiveMinimum": true}),
                "\"exclusiveMinimum\": expected a number from -1e16 to 1e16, found true, at /exclusiveMinimum",
            ),
            (json!({"minItems": 3, "maxItems": 2}), "minItems is 3 and maxItems is 2, at the top"),
            (json!([]), "expected a schema, an object or a boolean, found a list, at the top"),
            (
                json!({"items": 7}),
                "\"items\": expected a schema or a list of schemas, found 7, at /items",
            ),
            (
                json!({"enum": []}),
                "\"enum\": expected a list with a value at least, found [], at /enum",
            ),
            (
                json!({"maxLength": 1e9}),
                "\"maxLength\": expected a whole number from 0 to 1000000, found 1000000000.0, at \
                 /maxLength",
            ),
        ] {
            assert_eq!(check(&schema), Err(expected.to_owned()));
        }
        assert!(check(&deep).is_err_and(|message| message.contains("nested")));
    }

    #[test]
    fn names_and_values_are_no_keywords() {
        for schema in [
            json!({"properties": {"not": {"type": "string"}, "minlength": true}}),
            json!({"const": {"not": 1}, "default": {"if": 2}, "examples": [{"uniqueItems": true}]}),
            json!({"uniqueItems": false, "title": "T", "x-order": 1, "deprecated": true}),
            json!({"enum": [{"nullable": true}]}),
        ] {
            assert_eq!(check(&schema), Ok(()), "{schema}");
        }
    }

    #[test]
    fn every_keyword_is_in_one_list() {
        for (at, (key, _)) in ENFORCED.iter().enumerate() {
            assert!(!REFUSED.iter().any(|(refused, _)| refused == key), "{key}");
            assert!(!ENFORCED[..at].iter().any(|(other, _)| other == key), "{key}");
        }
    }
}
