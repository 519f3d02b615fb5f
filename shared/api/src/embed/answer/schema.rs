//! JSON Schemas of vectors, which write themselves and so cannot be derived.

use crate::schema::inlined;

use super::vectors::{
    ByType, Dense, DenseList, HiddenList, RowList, Similarities, SparseList, SparseMap,
};

inlined! {
    Dense<'_> => {"anyOf": [
        {"type": "array", "items": {"type": "number"}},
        {"type": "string", "description": "Little-endian bytes in base64.", "contentEncoding": "base64"},
    ]}
    DenseList<'_> => {"type": "array", "items": {"anyOf": [
        {"type": "array", "items": {"type": "number"}},
        {"type": "string", "description": "Little-endian bytes in base64.", "contentEncoding": "base64"},
    ]}}
    ByType<'_> => {
        "type": "object",
        "propertyNames": {"enum": ["float", "int8", "uint8", "binary", "ubinary", "base64"]},
        "additionalProperties": {"type": "array", "items": {"anyOf": [
            {"type": "array", "items": {"type": "number"}},
            {"type": "string", "contentEncoding": "base64"},
        ]}},
    }
    SparseMap<'_> => {
        "type": "object",
        "propertyNames": {"pattern": "^[0-9]+$"},
        "additionalProperties": {"type": "number"},
    }
    SparseList<'_> => {"type": "array", "items": {"type": "array", "items": {
        "type": "object",
        "properties": {
            "index": {"type": "integer", "minimum": 0, "description": "Token id."},
            "value": {"type": "number", "description": "Its weight."},
        },
        "required": ["index", "value"],
    }}}
    RowList<'_> => {"type": "array", "items": {"type": "array", "items": {"type": "number"}}}
    HiddenList<'_> => {"type": "array", "items": {
        "type": "array", "items": {"type": "array", "items": {"type": "number"}},
    }}
    Similarities<'_> => {"type": "array", "items": {"type": "number"}}
}
