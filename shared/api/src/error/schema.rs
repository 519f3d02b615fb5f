//! JSON Schemas of the four forms of the error body.

use serde_json::{Value, json};

use super::ErrorStyle;

impl ErrorStyle {
    /// Every form.
    pub const ALL: [Self; 4] = [Self::OpenAi, Self::Tei, Self::FastApi, Self::Anthropic];

    /// The name of this form's schema.
    pub fn schema_name(self) -> &'static str {
        match self {
            Self::OpenAi => "Error",
            Self::Tei => "TeiError",
            Self::FastApi => "ValidationError",
            Self::Anthropic => "AnthropicError",
        }
    }

    /// The JSON Schema of a body of this form.
    pub fn schema(self) -> Value {
        let kinds = json!({"enum": [
            "Validation", "Empty", "Unauthorized", "Overloaded", "Unhealthy", "Backend",
        ], "description": "TEI's word for the kind of error."});
        let (title, error, detail) = match self {
            Self::Tei => {
                return json!({
                    "title": "TEI's error",
                    "type": "object",
                    "properties": {
                        "error": {"type": "string", "description": "What is wrong and what to do."},
                        "error_type": kinds,
                    },
                    "required": ["error", "error_type"],
                    "additionalProperties": false,
                });
            }
            Self::OpenAi | Self::Anthropic => (
                if self == Self::OpenAi { "Error" } else { "Anthropic's error" },
                "The error, as clients of OpenAI read it.",
                json!({"type": "string", "description": "The same text, for clients of Jina and Voyage."}),
            ),
            Self::FastApi => (
                "FastAPI's validation error",
                "The error, as clients of OpenAI read it.",
                json!({
                    "type": "array",
                    "description": "The same, as clients of FastAPI read it.",
                    "items": {
                        "type": "object",
                        "properties": {
                            "loc": {
                                "type": "array",
                                "items": {"type": ["string", "integer"]},
                                "description": "Path to the field at fault.",
                            },
                            "msg": {"type": "string"},
                            "type": {"type": "string"},
                        },
                        "required": ["loc", "msg", "type"],
                    },
                }),
            ),
        };
        let mut schema = json!({
            "title": title,
            "type": "object",
            "properties": {
                "error": {
                    "type": "object",
                    "description": error,
                    "properties": {
                        "message": {"type": "string", "description": "What is wrong and what to do."},
                        "type": {"type": "string", "description": "The kind of error, as OpenAI names it."},
                        "param": {"type": ["string", "null"], "description": "The field at fault."},
                        "code": {"type": "string", "description": "Stable; the message may change."},
                    },
                    "required": ["message", "type", "param", "code"],
                },
                "message": {"type": "string", "description": "The same text, for clients of Cohere."},
                "detail": detail,
                "error_type": kinds,
            },
            "required": ["error", "message", "detail", "error_type"],
        });
        if self == Self::Anthropic {
            schema["properties"]["type"] = json!({"const": "error"});
        }
        schema
    }
}
