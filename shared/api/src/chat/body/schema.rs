//! JSON Schemas of values that chat clients send in more than one form, beside the visitors that
//! read them.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::content::{Parts, TextContent};
use super::messages::{Arguments, ChoiceBody, Input};
use super::values::{FlagOrCount, Json, LogitBias, Number, Object, Objects, Seed, Texts};
use crate::chat::message::Role;
use crate::schema::inlined;

inlined! {
    Number => {"type": "number"}
    Seed => {"type": "integer", "minimum": i64::MIN, "maximum": u64::MAX}
    Texts => {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    FlagOrCount => {"type": ["boolean", "integer"]}
    LogitBias => {
        "type": "object", "patternProperties": {"^[0-9]{1,9}$": {"type": "number", "minimum": -100, "maximum": 100}},
        "additionalProperties": false,
    }
    Json => {}
    Role => {"enum": ["system", "developer", "user", "assistant", "tool"]}
    Arguments => {"type": "string"}
    ChoiceBody => {"enum": ["none", "auto"]}
    Input => {"anyOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {
            "type": "object",
            "properties": {
                "type": {"const": "message"},
                "role": {"enum": ["system", "developer", "user", "assistant"]},
                "content": {"anyOf": [{"type": "string"}, {"type": "array", "items": {
                    "type": "object",
                    "properties": {"type": {"enum": ["input_text", "output_text"]}, "text": {"type": "string"}},
                    "required": ["type", "text"],
                }}]},
            },
            "required": ["role", "content"],
        }},
    ]}
    Parts => {"anyOf": [
        {"type": "string"},
        {"type": "array", "items": {
            "type": "object",
            "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
            "required": ["type", "text"],
        }},
    ]}
    TextContent => {"anyOf": [
        {"type": "string"},
        {"type": "array", "items": {
            "type": "object",
            "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
            "required": ["type", "text"],
        }},
    ]}
}

impl<T: JsonSchema> JsonSchema for Object<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema, const MAX: usize> JsonSchema for Objects<T, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("ListOf{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": T::json_schema(generator), "maxItems": MAX})
    }
}
