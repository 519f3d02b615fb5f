//! JSON Schemas of values that clients send in more than one form, beside the visitors that read
//! them. They are inlined: a document of the API shows at each field what the field takes.
//!
//! What a schema lists, the visitor accepts, and what it leaves out is refused, but for spellings
//! (`"TRUE"`) that are read without being worth a line.

use crate::schema::inlined;

use super::{Content, Count, Document, Documents, Flag, FlagOrName, Inputs, Names, Text, TokenId};

/// The title of an input of texts and token ids in turn, which few routes take.
pub(crate) const MIXED: &str = "texts and token ids";

inlined! {
    Flag => {"enum": [true, false, "true", "false"]}
    FlagOrName => {"type": ["boolean", "string"]}
    TokenId => {"type": "integer", "minimum": 0, "maximum": u32::MAX}
    Count => {"type": "integer", "minimum": 0}
    Text => {"anyOf": [
        {"type": "string"},
        {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
    ]}
    Document => {"type": ["string", "object"]}
    Documents => {"anyOf": [
        {"type": "array", "items": {"type": ["string", "object"]}},
        {"type": "string"},
    ]}
    Names => {"anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
    ]}
    Content => {"anyOf": [
        {"type": "string"},
        {"type": "array", "items": {
            "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"],
        }},
    ]}
    Inputs => {"anyOf": [
        {"type": "string"},
        {"type": "array", "description": "Several inputs: texts, objects or lists of token ids.", "items": {"anyOf": [
            {"type": "string"},
            {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": u32::MAX}},
            {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
            {"type": "object", "properties": {"content": {"anyOf": [
                {"type": "string"},
                {"type": "array", "items": {
                    "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"],
                }},
            ]}}, "required": ["content"]},
            {"type": "object", "properties": {"prompt_string": {"type": "string"}}, "required": ["prompt_string"]},
        ]}},
        {"type": "array", "description": "One input: its token ids.", "items": {"type": "integer", "minimum": 0, "maximum": u32::MAX}},
        {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        {
            "title": MIXED, "type": "array", "contains": {"type": "integer"},
            "items": {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0, "maximum": u32::MAX}]},
        },
    ]}
}
