//! What the clients of each service send to the chat routes.
//!
//! A schema says what the server checks of a field by itself, and which names of one option exclude
//! each other. What only the model or a grammar's compiler can tell is said in words.

mod forms;

use serde_json::{Value, json};

use super::shape::{counted, token_ids};
use super::{Form, SchemaBook};
use crate::chat::{ChatBody, ChatLimits, ChatRoute, MAX_STOPS, MAX_TOP_LOGPROBS};
use crate::tokenize::TokenizeBody;

/// What the schemas of chat requests depend on.
#[derive(Debug, Clone, Default)]
pub struct ChatRules {
    /// Bounds on one request.
    pub limits: ChatLimits,
    /// Token ids from this one on have no meaning; `None`: not known yet.
    pub vocab: Option<usize>,
}

impl ChatRoute {
    /// What the clients of each service send to this route.
    pub fn forms(self) -> Vec<&'static Form> {
        let mine: &'static [Form] = match self {
            Self::Chat => &forms::CHAT,
            Self::Completions => &forms::COMPLETIONS,
            Self::LlamaCompletion => &forms::LLAMA,
            Self::Responses => &forms::RESPONSES,
            Self::Messages => &forms::MESSAGES,
            Self::CountTokens => &forms::COUNT_TOKENS,
            Self::ApplyTemplate => &forms::APPLY_TEMPLATE,
            Self::Invocations => {
                return forms::CHAT
                    .iter()
                    .chain(&forms::COMPLETIONS)
                    .chain(&forms::RESPONSES)
                    .collect();
            }
        };
        mine.iter().collect()
    }
}

/// On `/tokenize`, where the model has a template for conversations.
pub const CHAT_TOKENIZE_FORMS: [Form; 1] = [Form {
    name: "VllmTokenizeChatRequest",
    title: "vLLM, a conversation",
    about: "Answered with the token ids of the prompt that the model's chat template makes.",
    examples: &[("", r#"{"messages": [{"role": "user", "content": "Say hello."}]}"#)],
    required: &["messages"],
    optional: &[
        "model",
        "add_special_tokens",
        "add_generation_prompt",
        "continue_final_message",
        "tools",
        "chat_template_kwargs",
        "return_token_strs",
    ],
}];

/// Fields that ask for a form of the answer: no two of them.
const FORMATS: [&str; 7] = [
    "response_format",
    "grammar",
    "json_schema",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
];

/// Names of the most tokens to make: no two of them, which might differ.
const LIMITS: [&str; 3] = ["max_tokens", "max_completion_tokens", "n_predict"];

impl SchemaBook {
    /// A reference to the schema of a form of a chat route.
    pub fn chat_form(&mut self, form: &Form, rules: &ChatRules) -> Value {
        let body = self.body::<ChatBody>();
        self.insert(form.name, || {
            let mut schema = form.schema(&body, |field, schema| bound(form, field, schema, rules));
            let has = |field: &&str| form.fields().any(|known| known == *field);
            let mut agree = Vec::new();
            for (title, names) in
                [("One form of the answer", &FORMATS[..]), ("One limit", &LIMITS[..])]
            {
                let names: Vec<&str> = names.iter().copied().filter(has).collect();
                if names.len() > 1 {
                    agree.push(at_most_one(title, &names));
                }
            }
            if has(&"top_logprobs") && has(&"logprobs") {
                agree.push(json!({"title": "Likeliest tokens come with log probabilities", "anyOf": [
                    {"properties": {"logprobs": {"enum": [true, "true"]}}, "required": ["logprobs"]},
                    {"properties": {"top_logprobs": {"enum": [0, null]}}},
                ]}));
            }
            if has(&"best_of") {
                agree.push(json!({"title": "All replies that are made are returned", "anyOf": [
                    {"properties": {"best_of": {"type": "null"}}},
                    {"properties": {"best_of": {"const": 1}, "n": {"enum": [1, null]}}},
                ]}));
            }
            if !agree.is_empty() {
                schema["allOf"] = agree.into();
            }
            schema
        })
    }

    /// A reference to the schema of a form of `/tokenize` with a conversation.
    pub fn chat_tokenize_form(&mut self, form: &Form) -> Value {
        let body = self.body::<TokenizeBody>();
        self.insert(form.name, || {
            form.schema(&body, |field, schema| {
                bound(form, field, schema, &ChatRules::default());
            })
        })
    }
}

/// Of these fields one at most is not null.
fn at_most_one(title: &str, names: &[&str]) -> Value {
    let only = |kept: &&str| {
        let others = names.iter().filter(|name| *name != kept);
        let nulls: serde_json::Map<_, _> =
            others.map(|name| ((*name).to_owned(), json!({"type": "null"}))).collect();
        json!({"title": kept, "properties": nulls})
    };
    json!({"title": title, "anyOf": names.iter().map(only).collect::<Vec<_>>()})
}

fn bound(form: &Form, field: &str, schema: &mut Value, rules: &ChatRules) {
    let between = |schema: &mut Value, least: Value, most: Value| {
        schema["minimum"] = least;
        schema["maximum"] = most;
    };
    match field {
        "messages" => *schema = messages(form, schema),
        "tools" => schema["items"] = tool(form),
        "functions" => {
            schema["items"] = function();
            schema["minItems"] = 1.into();
        }
        "temperature" | "frequency_penalty" | "presence_penalty" => {
            let least = if field == "temperature" { 0 } else { -2 };
            between(schema, least.into(), 2.into());
        }
        "top_p" | "min_p" => between(schema, 0.into(), 1.into()),
        "repeat_penalty" | "repetition_penalty" => {
            schema["exclusiveMinimum"] = 0.into();
            schema["maximum"] = 100.into();
        }
        "top_k" | "repeat_last_n" => schema["minimum"] = (-1).into(),
        "max_tokens" | "max_completion_tokens" | "max_output_tokens" | "n_predict" => {
            schema["minimum"] = (-1).into();
            if form.required != ["prompt"] {
                schema["not"] = json!({"const": 0});
            }
        }
        "n" => between(schema, 1.into(), rules.limits.max_n.into()),
        "top_logprobs" | "n_probs" => between(schema, 0.into(), MAX_TOP_LOGPROBS.into()),
        "logprobs" if form.required == ["prompt"] => {
            *schema = json!({
                "description": schema["description"], "type": ["integer", "null"],
                "minimum": 0, "maximum": MAX_TOP_LOGPROBS,
            });
        }
        "logprobs" => {
            *schema = json!({
                "description": schema["description"], "enum": [true, false, "true", "false", null],
            });
        }
        "stop" | "stop_sequences" => counted_at_most(schema, MAX_STOPS),
        "guided_choice" => counted(schema, 1000),
        "stop_token_ids" => {
            if let Some(vocab) = rules.vocab {
                token_ids(schema, vocab);
            }
        }
        "prompt" => {
            counted(schema, rules.limits.max_prompts);
            if let Some(vocab) = rules.vocab {
                token_ids(schema, vocab);
            }
        }
        "response_format" => *schema = response_format(schema),
        "json_schema" | "guided_json" => schema["type"] = json!(["object", "boolean", "null"]),
        "chat_template_kwargs" | "metadata" => schema["type"] = json!(["object", "null"]),
        "documents" => schema["type"] = json!(["array", "null"]),
        "modalities" => {
            *schema = json!({
                "description": schema["description"], "type": ["array", "null"], "items": {"const": "text"},
            });
        }
        "reasoning_effort" => {
            schema["enum"] =
                json!(["none", "minimal", "low", "medium", "high", "xhigh", "max", null]);
        }
        "reasoning_format" => {
            schema["enum"] = json!(["auto", "deepseek", "none", "hidden", null]);
        }
        "truncation" => schema["enum"] = json!(["auto", "disabled", null]),
        _ => {}
    }
}

/// Lists hold so many elements at most; they may be empty.
fn counted_at_most(schema: &mut Value, most: usize) {
    counted(schema, most);
    for branch in schema["anyOf"].as_array_mut().into_iter().flatten() {
        if let Some(branch) = branch.as_object_mut() {
            branch.remove("minItems");
        }
    }
}

fn text() -> Value {
    json!({"anyOf": [
        {"type": "string"},
        {"type": "array", "minItems": 1, "items": {
            "type": "object",
            "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
            "required": ["type", "text"],
        }},
    ]})
}

fn messages(form: &Form, schema: &Value) -> Value {
    let said = |roles: Value| {
        json!({
            "type": "object",
            "properties": {"role": {"enum": roles}, "content": text()},
            "required": ["role", "content"],
        })
    };
    let items = if is_anthropic(form) {
        let block = |kind: &str, properties: Value, required: Value| {
            let mut block = json!({"title": kind, "type": "object", "properties": properties, "required": required});
            block["properties"]["type"] = json!({"const": kind});
            block
        };
        let content = |blocks: Value| json!({"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"anyOf": blocks}}]});
        let said_by = |role: &str, content: Value| {
            json!({
                "title": role, "type": "object", "properties": {"role": {"const": role}, "content": content},
                "required": ["role", "content"],
            })
        };
        let text_block =
            block("text", json!({"text": {"type": "string"}}), json!(["type", "text"]));
        let result = block(
            "tool_result",
            json!({"tool_use_id": {"type": "string"}, "content": text()}),
            json!(["type", "tool_use_id"]),
        );
        let thinking = block(
            "thinking",
            json!({"thinking": {"type": "string"}, "signature": {"type": "string"}}),
            json!(["type", "thinking"]),
        );
        let call = block(
            "tool_use",
            json!({"id": {"type": "string"}, "name": {"type": "string"}, "input": {"type": "object"}}),
            json!(["type", "id", "name", "input"]),
        );
        json!({"anyOf": [
            said_by("user", content(json!([text_block, result]))),
            said_by("assistant", content(json!([text_block, thinking, call]))),
        ]})
    } else {
        let call = json!({
            "type": "object",
            "properties": {
                "id": {"type": "string"},
                "type": {"const": "function"},
                "function": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string"},
                        "arguments": {"type": "string", "description": "JSON."},
                    },
                    "required": ["name", "arguments"],
                },
            },
            "required": ["id", "type", "function"],
        });
        let mut result = said(json!(["tool"]));
        result["properties"]["tool_call_id"] = json!({"type": "string"});
        let mut content = text();
        content["anyOf"]
            .as_array_mut()
            .into_iter()
            .for_each(|forms| forms.push(json!({"type": "null"})));
        json!({"anyOf": [
            said(json!(["system", "developer", "user"])),
            {
                "type": "object",
                "properties": {
                    "role": {"const": "assistant"},
                    "content": content,
                    "reasoning_content": {"type": ["string", "null"], "description": "What it thought before."},
                    "tool_calls": {"type": ["array", "null"], "items": call},
                },
                "required": ["role"],
            },
            result,
        ]})
    };
    json!({
        "description": schema["description"], "type": "array", "items": items, "minItems": 1,
        "maxItems": schema["maxItems"],
    })
}

fn function() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 256},
            "description": {"type": ["string", "null"]},
            "parameters": {"type": ["object", "null"], "description": "A JSON schema."},
            "strict": {"type": ["boolean", "null"]},
        },
        "required": ["name"],
    })
}

fn tool(form: &Form) -> Value {
    let mut flat = function();
    match form.name {
        name if is_anthropic(form) || name == "ResponsesRequest" => {
            let kind = if is_anthropic(form) { "custom" } else { "function" };
            flat["properties"]["type"] = json!({"enum": [kind, null]});
            if is_anthropic(form)
                && let Some(properties) = flat["properties"].as_object_mut()
                && let Some(schema) = properties.remove("parameters")
            {
                properties.insert("input_schema".to_owned(), schema);
            }
            flat
        }
        _ => json!({
            "type": "object",
            "properties": {"type": {"const": "function"}, "function": flat},
            "required": ["type", "function"],
        }),
    }
}

fn is_anthropic(form: &Form) -> bool {
    ["MessagesRequest", "CountTokensRequest"].contains(&form.name)
}

fn response_format(schema: &Value) -> Value {
    let of = |kind: &str, field: Option<(&str, Value)>| {
        let mut format = json!({
            "title": kind, "type": "object", "properties": {"type": {"const": kind}}, "required": ["type"],
        });
        if let Some((name, schema)) = field {
            format["properties"][name] = schema;
            format["required"] = json!(["type", name]);
        }
        format
    };
    let inner = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "schema": {"type": "object", "description": "A JSON schema; what cannot be held to is refused by its keyword."},
            "strict": {"type": ["boolean", "null"]},
        },
        "required": ["schema"],
    });
    json!({
        "description": schema["description"],
        "anyOf": [
            {"type": "null"},
            of("text", None),
            of("json_object", None),
            of("json_schema", Some(("json_schema", inner))),
            of("regex", Some(("regex", json!({"type": "string"})))),
            of("gbnf_grammar", Some(("grammar", json!({"type": "string"})))),
        ],
    })
}
