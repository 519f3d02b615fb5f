//! What the clients of each service send to the routes that turn texts into tokens and back.

use serde_json::Value;

use super::embed::{EmbedRules, prompt_names};
use super::shape::{counted, not_empty, token_ids};
use super::{Form, SchemaBook};
use crate::lenient::MIXED;
use crate::tokenize::{DetokenizeBody, TokenizeBody};

/// On `/tokenize`.
pub const TOKENIZE_FORMS: [Form; 3] = [
    Form {
        name: "TeiTokenizeRequest",
        title: "Text Embeddings Inference",
        about: "Answered with a list of tokens for each text.",
        examples: &[("", r#"{"inputs": ["It rained."], "add_special_tokens": true}"#)],
        required: &["inputs"],
        optional: &["add_special_tokens", "prompt_name"],
    },
    Form {
        name: "VllmTokenizeRequest",
        title: "vLLM",
        about: "Answered with token ids and the number of tokens that the model reads.",
        examples: &[("", r#"{"prompt": "It rained.", "return_token_strs": true}"#)],
        required: &["prompt"],
        optional: &["model", "add_special_tokens", "return_token_strs"],
    },
    Form {
        name: "LlamaTokenizeRequest",
        title: "llama.cpp",
        about: "Answered with token ids.",
        examples: &[("", r#"{"content": "It rained.", "with_pieces": true}"#)],
        required: &["content"],
        optional: &["add_special", "with_pieces"],
    },
];

/// On `/detokenize` and `/decode`.
pub const DETOKENIZE_FORMS: [Form; 2] = [
    Form {
        name: "DetokenizeRequest",
        title: "vLLM, llama.cpp",
        about: "Answered with the text.",
        examples: &[("", r#"{"tokens": [1, 2]}"#)],
        required: &["tokens"],
        optional: &["model", "skip_special_tokens"],
    },
    Form {
        name: "TeiDecodeRequest",
        title: "Text Embeddings Inference",
        about: "One list of ids or several; answered with a list of texts.",
        examples: &[("", r#"{"ids": [[1, 2]], "skip_special_tokens": true}"#)],
        required: &["ids"],
        optional: &["skip_special_tokens"],
    },
];

impl SchemaBook {
    /// A reference to the schema of a form of `/tokenize`.
    pub fn tokenize_form(&mut self, form: &Form, rules: &EmbedRules) -> Value {
        let body = self.body::<TokenizeBody>();
        self.insert(form.name, || {
            form.schema(&body, |field, schema| {
                if field == "inputs" {
                    keep(schema, |branch| {
                        branch["items"]["type"] != "integer" && branch["title"] != MIXED
                    });
                    drop_tokens(schema);
                    counted(schema, rules.limits.max_inputs);
                }
                if field == "prompt_name" {
                    prompt_names(schema, rules);
                }
            })
        })
    }

    /// A reference to the schema of a form of `/detokenize`.
    pub fn detokenize_form(&mut self, form: &Form, rules: &EmbedRules) -> Value {
        let body = self.body::<DetokenizeBody>();
        self.insert(form.name, || {
            form.schema(&body, |field, schema| {
                if let Some(vocab) = rules.vocab {
                    token_ids(schema, vocab);
                }
                if field == "ids" {
                    keep(schema, |branch| branch["type"] == "array" && branch["title"] != MIXED);
                    keep_tokens(schema);
                    if let Some(lists) = schema.pointer_mut("/anyOf/0") {
                        counted(lists, rules.limits.max_inputs);
                    }
                    if let Some(list) = schema.pointer_mut("/anyOf/1") {
                        not_empty(list);
                    }
                }
            })
        })
    }
}

fn keep(schema: &mut Value, wanted: impl Fn(&Value) -> bool) {
    if let Some(branches) = schema["anyOf"].as_array_mut() {
        branches.retain(wanted);
    }
}

/// Of inputs of every kind, the texts.
fn drop_tokens(schema: &mut Value) {
    if let Some(items) = schema.pointer_mut("/anyOf/1/items") {
        keep(items, |kind| kind["type"] != "array");
    }
}

/// Of inputs of every kind, the lists of ids.
fn keep_tokens(schema: &mut Value) {
    if let Some(items) = schema.pointer_mut("/anyOf/0/items") {
        keep(items, |kind| kind["type"] == "array");
    }
}
