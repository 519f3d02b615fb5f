//! JSON that several APIs share: usage, times, log probabilities.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use crate::chat::reply::{Alternative, Timings, TokenLogprob, Usage};

/// How many tokens there were, as `OpenAI`'s chat and completions say it.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub(super) struct TokenUsage {
    /// Tokens of the prompt.
    prompt_tokens: usize,
    /// Tokens made.
    completion_tokens: usize,
    /// Both.
    total_tokens: usize,
    prompt_tokens_details: CachedTokens,
    completion_tokens_details: ReasoningTokens,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
struct CachedTokens {
    /// Tokens of the prompt that an earlier request had left.
    cached_tokens: usize,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
struct ReasoningTokens {
    /// Tokens made that are thoughts.
    reasoning_tokens: usize,
}

impl From<&Usage> for TokenUsage {
    fn from(usage: &Usage) -> Self {
        Self {
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
            prompt_tokens_details: CachedTokens { cached_tokens: usage.cached_tokens },
            completion_tokens_details: ReasoningTokens { reasoning_tokens: usage.reasoning_tokens },
        }
    }
}

/// How long it took, in llama.cpp's words.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub(super) struct LlamaTimings {
    /// Tokens of the prompt that were computed.
    prompt_n: usize,
    /// Milliseconds for them.
    prompt_ms: f64,
    prompt_per_token_ms: f64,
    prompt_per_second: f64,
    /// Tokens made.
    predicted_n: usize,
    /// Milliseconds for them.
    predicted_ms: f64,
    predicted_per_token_ms: f64,
    predicted_per_second: f64,
}

impl From<&Timings> for LlamaTimings {
    fn from(timings: &Timings) -> Self {
        let per_token = |ms: f64, tokens: usize| if tokens == 0 { 0.0 } else { ms / tokens as f64 };
        let per_second =
            |tokens: usize, ms: f64| if ms > 0.0 { tokens as f64 * 1000.0 / ms } else { 0.0 };
        let Timings { prompt_tokens, prompt_ms, predicted_tokens, predicted_ms } = *timings;
        Self {
            prompt_n: prompt_tokens,
            prompt_ms,
            prompt_per_token_ms: per_token(prompt_ms, prompt_tokens),
            prompt_per_second: per_second(prompt_tokens, prompt_ms),
            predicted_n: predicted_tokens,
            predicted_ms,
            predicted_per_token_ms: per_token(predicted_ms, predicted_tokens),
            predicted_per_second: per_second(predicted_tokens, predicted_ms),
        }
    }
}

/// The schema of a field that may be left out and may be null.
#[derive(Debug)]
pub(super) struct OrNull<T>(PhantomData<T>);

impl<T: JsonSchema> JsonSchema for OrNull<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("{}OrNull", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [generator.subschema_for::<T>(), {"type": "null"}]})
    }
}

/// Log probabilities of one token, as `OpenAI`'s chat has them and llama.cpp's with an id.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct LogprobEntry {
    /// llama.cpp: the token's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    /// The token's text; bytes that are no text as `\xNN`.
    token: String,
    /// The token's bytes.
    bytes: Vec<u8>,
    /// Natural logarithm; -9999 for what cannot come.
    logprob: f32,
    /// The likeliest tokens in its place.
    top_logprobs: Vec<TopEntry>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
struct TopEntry {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<u32>,
    token: String,
    bytes: Vec<u8>,
    logprob: f32,
}

impl LogprobEntry {
    pub(super) fn of(token: &TokenLogprob, with_ids: bool) -> Self {
        let top = |one: &Alternative| TopEntry {
            id: with_ids.then_some(one.id),
            token: shown(&one.text, &one.bytes, ""),
            bytes: one.bytes.clone(),
            logprob: finite(one.logprob),
        };
        Self {
            id: with_ids.then_some(token.id),
            token: shown(&token.text, &token.bytes, ""),
            bytes: token.bytes.clone(),
            logprob: finite(token.logprob.unwrap_or(0.0)),
            top_logprobs: token.top.iter().map(top).collect(),
        }
    }
}

/// `OpenAI`'s number for minus infinity, which JSON has not.
const IMPOSSIBLE: f32 = -9999.0;

pub(super) fn finite(logprob: f32) -> f32 {
    // Of a number that is none, the other is the maximum.
    logprob.max(IMPOSSIBLE)
}

/// A token's text; where its bytes are none, each byte as `\xNN` after `prefix`, as `OpenAI` shows
/// them.
pub(super) fn shown(text: &str, bytes: &[u8], prefix: &str) -> String {
    use std::fmt::Write as _;

    if std::str::from_utf8(bytes).is_ok() {
        return text.to_owned();
    }
    let mut shown = prefix.to_owned();
    for byte in bytes {
        // Writing into a string does not fail.
        let _ = write!(shown, "\\x{byte:02x}");
    }
    shown
}

/// The answer to a request for the number of a prompt's tokens.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct CountedTokens {
    /// How many tokens the prompt has.
    pub input_tokens: usize,
}

/// The answer to a request for a prompt.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct AppliedTemplate<'a> {
    /// What the model's chat template makes of the conversation.
    pub prompt: &'a str,
}
