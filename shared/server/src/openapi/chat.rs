//! The chat routes.

use std::collections::BTreeMap;

use defrost_api::{
    AppliedTemplate, CHAT_TOKENIZE_FORMS, ChatCompletion, ChatRoute, ChatRules, CountedTokens,
    EmbedRules, LlamaCompletion, MessagesAnswer, ResponsesAnswer, SchemaBook, TextCompletion,
};
use serde_json::{Map, Value, json};

use super::description::Api;
use super::fields::{count, text, text_or_null};
use super::parts::{OTHER_NAMES, Parts, TruncationHeader, operation_id};
use super::tokens;

/// The name of Azure's part of a path.
const DEPLOYMENT: &str = "{deployment}";

impl Api {
    /// `/v1/chat/completions` and its kin, tokens included.
    pub fn chat(rules: ChatRules) -> Self {
        Self {
            name: "chat",
            about: "Replies in conversations, and texts that go on.",
            describe: Box::new(move |paths, parts, book| {
                describe(paths, parts, book, &rules);
                let tokens = EmbedRules { vocab: rules.vocab, ..EmbedRules::default() };
                tokens::describe(paths, parts, book, &tokens, "chat", None, &CHAT_TOKENIZE_FORMS);
            }),
            info,
            props,
        }
    }
}

fn info() -> Vec<(&'static str, Value)> {
    vec![
        ("takes_instruction", json!({"type": "boolean"})),
        ("quantization", text_or_null("What the weights' blocks are called together.")),
        (
            "context_length",
            count("Most tokens of one conversation, prompt and completion together."),
        ),
        ("kv_tokens", count("Tokens of all conversations that there is memory for.")),
        ("has_template", json!({"type": "boolean"})),
        ("tool_calls", text_or_null("How the model writes calls of tools.")),
        ("structured_output", json!({"type": "array", "items": {"type": "string"}})),
        ("max_running", count("Most completions that are generated at once.")),
        (
            "max_tokens",
            json!({"type": ["integer", "null"], "description": "Most tokens of a completion where a request does not say; null: what the context leaves."}),
        ),
    ]
}

fn props() -> Vec<(&'static str, Value)> {
    vec![
        ("chat_template", text_or_null("What makes prompts of conversations.")),
        ("bos_token", text("What a prompt begins with; empty: nothing.")),
        ("eos_token", text("What ends a turn.")),
    ]
}

fn describe(
    paths: &mut Map<String, Value>,
    parts: &mut Parts,
    book: &mut SchemaBook,
    rules: &ChatRules,
) {
    // Routes of one kind share the body that the first of them is named after.
    let mut bodies: BTreeMap<&str, Value> = BTreeMap::new();
    for (path, route) in ChatRoute::PATHS {
        let (name, summary) = named(route);
        let body = bodies.entry(name).or_insert_with(|| {
            let forms = route.forms();
            let schemas = forms.iter().map(|form| book.chat_form(form, rules)).collect();
            parts.body(name, forms, schemas)
        });
        let streams = !matches!(route, ChatRoute::CountTokens | ChatRoute::ApplyTemplate);
        let about = if streams {
            "The reply, in the shape of the request; with `stream`, its events."
        } else {
            "The answer."
        };
        let told = if streams { TruncationHeader::Nothing } else { TruncationHeader::Never };
        let mut answers = parts.work_answers(about, told, answers(route, book));
        if streams {
            answers["200"]["content"]["text/event-stream"] = json!({"schema": {
                "type": "string",
                "description": "Server-sent events: lines `data: ` of JSON, as the request's API has them. Lines that begin with `:` say nothing.",
            }});
        }
        let is_canonical = paths.values().all(|item| item["post"]["summary"] != summary);
        let mut operation = json!({
            "tags": [if is_canonical { "chat" } else { OTHER_NAMES }],
            "summary": summary,
            "operationId": operation_id(&path.replace(['{', '}'], "")),
            "requestBody": body,
            "responses": answers,
        });
        if path.contains(DEPLOYMENT) {
            operation["parameters"] = json!([{
                "name": "deployment", "in": "path", "required": true, "schema": {"type": "string"},
                "description": "Name of the model, where the body has none.",
            }]);
        }
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item["post"] = operation;
    }
    paths.insert(
        "/slots".to_owned(),
        json!({"get": {
            "tags": [OTHER_NAMES],
            "summary": "What runs at the moment, for clients of llama.cpp",
            "operationId": "slots",
            "parameters": [{
                "name": "fail_on_no_slot", "in": "query", "schema": {"type": "string"},
                "description": "With any value, the answer is 503 while every slot runs a completion.",
            }],
            "responses": slots(parts),
        }}),
    );
}

fn slots(parts: &Parts) -> Value {
    let next = json!({
        "has_next_token": {"type": "boolean"},
        "has_new_line": {"type": "boolean"},
        "n_remain": {"type": "integer", "minimum": -1, "description": "Of max_tokens; -1 where there is none."},
        "n_decoded": count("Tokens so far."),
    });
    let mut answers = json!({"200": {
        "description": "As many as completions may run at once. Those that were never used have no task.",
        "content": {"application/json": {"schema": {"type": "array", "items": {
            "type": "object",
            "properties": {
                "id": count("Its number."),
                "n_ctx": count("Most tokens of a conversation."),
                "is_processing": {"type": "boolean"},
                "speculative": {"type": "boolean"},
                "id_task": count("The number of the completion that runs in it, or ran there last."),
                "n_prompt_tokens": count("Tokens of its prompt."),
                "n_prompt_tokens_cache": count("How many of them were known already."),
                "params": {"type": "object", "description": "How tokens are chosen, and how many."},
                "next_token": {
                    "type": "array", "minItems": 1, "maxItems": 1,
                    "items": {"type": "object", "properties": next},
                },
            },
            "required": ["id", "n_ctx", "is_processing", "speculative"],
        }}}},
    }});
    parts.fail(&mut answers, false, &[crate::error::Failure::Unavailable]);
    answers
}

/// The name of a route's body, and what the route does.
fn named(route: ChatRoute) -> (&'static str, &'static str) {
    match route {
        ChatRoute::Chat => ("Chat", "Reply in a conversation"),
        ChatRoute::Completions => ("Completions", "Continue texts"),
        ChatRoute::LlamaCompletion => {
            ("LlamaCompletion", "Continue texts, for clients of llama.cpp")
        }
        ChatRoute::Responses => {
            ("Responses", "Reply in a conversation, for clients of OpenAI's responses")
        }
        ChatRoute::Messages => ("Messages", "Reply in a conversation, for clients of Anthropic"),
        ChatRoute::CountTokens => {
            ("CountTokens", "How many tokens a conversation has, for clients of Anthropic")
        }
        ChatRoute::ApplyTemplate => ("ApplyTemplate", "The prompt that a conversation makes"),
        ChatRoute::Invocations => ("Invocations", "Reply or continue, by the keys of the body"),
    }
}

fn answers(route: ChatRoute, book: &mut SchemaBook) -> Vec<Value> {
    match route {
        ChatRoute::Chat => vec![book.answer::<ChatCompletion<'_>>()],
        ChatRoute::Completions => vec![book.answer::<TextCompletion<'_>>()],
        ChatRoute::LlamaCompletion => {
            let one = book.answer::<LlamaCompletion<'_>>();
            vec![one.clone(), json!({"type": "array", "items": one})]
        }
        ChatRoute::Responses => vec![book.answer::<ResponsesAnswer<'_>>()],
        ChatRoute::Messages => vec![book.answer::<MessagesAnswer<'_>>()],
        ChatRoute::CountTokens => vec![book.answer::<CountedTokens>()],
        ChatRoute::ApplyTemplate => vec![book.answer::<AppliedTemplate<'_>>()],
        ChatRoute::Invocations => vec![
            book.answer::<ChatCompletion<'_>>(),
            book.answer::<TextCompletion<'_>>(),
            book.answer::<ResponsesAnswer<'_>>(),
        ],
    }
}
