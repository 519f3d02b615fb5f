//! JSON Schemas of vectors, which write themselves and so cannot be derived.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::vectors::{
    ByType, Dense, DenseList, HiddenList, RowList, Similarities, SparseList, SparseMap,
};

macro_rules! inlined {
    ($($type:ident => $schema:tt)*) => {$(
        impl JsonSchema for $type<'_> {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

inlined! {
    Dense => {"anyOf": [
        {"type": "array", "items": {"type": "number"}},
        {"type": "string", "description": "Little-endian bytes in base64.", "contentEncoding": "base64"},
    ]}
    DenseList => {"type": "array", "items": {"anyOf": [
        {"type": "array", "items": {"type": "number"}},
        {"type": "string", "description": "Little-endian bytes in base64.", "contentEncoding": "base64"},
    ]}}
    ByType => {
        "type": "object",
        "propertyNames": {"enum": ["float", "int8", "uint8", "binary", "ubinary", "base64"]},
        "additionalProperties": {"type": "array", "items": {"anyOf": [
            {"type": "array", "items": {"type": "number"}},
            {"type": "string", "contentEncoding": "base64"},
        ]}},
    }
    SparseMap => {
        "type": "object",
        "propertyNames": {"pattern": "^[0-9]+$"},
        "additionalProperties": {"type": "number"},
    }
    SparseList => {"type": "array", "items": {"type": "array", "items": {
        "type": "object",
        "properties": {
            "index": {"type": "integer", "minimum": 0, "description": "Token id."},
            "value": {"type": "number", "description": "Its weight."},
        },
        "required": ["index", "value"],
    }}}
    RowList => {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    HiddenList => {"type": "array", "items": {
        "type": "array", "items": {"type": "array", "items": {"type": "number"}},
    }}
    Similarities => {"type": "array", "items": {"type": "number"}}
}
