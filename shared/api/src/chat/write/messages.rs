//! Anthropic's messages: an answer is a list of blocks, a stream opens and closes one after the
//! other.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::collected::Choices;
use super::{Write, sse};
use crate::chat::reply::{Finish, ReplyDelta, ReplyFacts, Timings, TokenLogprob, Usage};
use crate::chat::request::ChatRequest;
use crate::error::{ErrorBody, ErrorStyle};

/// An answer as a whole.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct MessagesAnswer<'a> {
    /// `msg_` and the request's id.
    id: &'a str,
    /// Always `message`.
    #[schemars(extend("const" = "message"))]
    r#type: &'static str,
    /// Always `assistant`.
    #[schemars(extend("const" = "assistant"))]
    role: &'static str,
    /// The served model's name.
    model: &'a str,
    /// What the model thought, said, and called, in this order.
    content: Vec<Block<'a>>,
    /// `end_turn`, `max_tokens`, `stop_sequence` or `tool_use`; null in a stream's first event.
    stop_reason: Option<&'static str>,
    /// The stop sequence that ended the reply.
    stop_sequence: Option<&'a str>,
    /// How many tokens there were.
    usage: MessagesUsage,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schemars(rename = "MessagesBlock")]
enum Block<'a> {
    /// What the model said.
    Text { text: &'a str },
    /// What the model thought.
    Thinking {
        thinking: &'a str,
        /// Always empty: nothing is signed.
        signature: &'a str,
    },
    /// A call of a tool.
    ToolUse { id: &'a str, name: &'a str, input: Map<String, Value> },
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[allow(clippy::struct_field_names, reason = "the names are Anthropic's")]
struct MessagesUsage {
    /// Tokens of the prompt that were computed.
    input_tokens: usize,
    /// Always 0: nothing is paid for.
    cache_creation_input_tokens: usize,
    /// Tokens of the prompt that an earlier request had left.
    cache_read_input_tokens: usize,
    /// Tokens made.
    output_tokens: usize,
}

impl From<&Usage> for MessagesUsage {
    fn from(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens.saturating_sub(usage.cached_tokens),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached_tokens,
            output_tokens: usage.completion_tokens,
        }
    }
}

/// Which kind of block is open in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Text,
    Thinking,
    ToolUse,
}

pub(super) struct Writer {
    facts: ReplyFacts,
    id: String,
    is_stream: bool,
    reply: Choices,
    open: Option<Open>,
    /// Blocks begun so far.
    blocks: usize,
    has_calls: bool,
    finish: Finish,
    has_begun: bool,
    warnings: Vec<String>,
}

impl Writer {
    pub(super) fn new(request: &ChatRequest, facts: ReplyFacts) -> Self {
        Self {
            id: format!("msg_{}", facts.id),
            facts,
            is_stream: request.generation.stream.is_some(),
            reply: Choices::default(),
            open: None,
            blocks: 0,
            has_calls: false,
            finish: Finish::Stop,
            has_begun: false,
            warnings: request.warnings.clone(),
        }
    }

    fn message<'a>(&'a self, content: Vec<Block<'a>>, usage: &Usage) -> MessagesAnswer<'a> {
        MessagesAnswer {
            id: &self.id,
            r#type: "message",
            role: "assistant",
            model: &self.facts.model,
            content,
            stop_reason: None,
            stop_sequence: None,
            usage: usage.into(),
            warnings: &self.warnings,
        }
    }

    fn stop(&self) -> (&'static str, Option<&str>) {
        match &self.finish {
            Finish::Length => ("max_tokens", None),
            Finish::StopString(text) => ("stop_sequence", Some(text)),
            Finish::Stop if self.has_calls => ("tool_use", None),
            Finish::Stop => ("end_turn", None),
        }
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            let index = self.blocks - 1;
            let data = json!({"type": "content_block_stop", "index": index});
            sse::event(Some("content_block_stop"), &data, out);
        }
    }

    /// Makes sure that a block of this kind is open. Every tool has one of its own.
    fn open(&mut self, kind: Open, block: &Block<'_>, out: &mut Vec<u8>) {
        if self.open == Some(kind) && kind != Open::ToolUse {
            return;
        }
        self.close(out);
        let index = self.blocks;
        let data = json!({"type": "content_block_start", "index": index, "content_block": block});
        sse::event(Some("content_block_start"), &data, out);
        self.open = Some(kind);
        self.blocks += 1;
    }

    fn send(&self, delta: &Value, out: &mut Vec<u8>) {
        let index = self.blocks.saturating_sub(1);
        let data = json!({"type": "content_block_delta", "index": index, "delta": delta});
        sse::event(Some("content_block_delta"), &data, out);
    }
}

/// A call's arguments as an object. Those that were cut off are none: they are given as they are,
/// so that no tool is run with less than the model meant.
fn input(arguments: &str) -> Map<String, Value> {
    if arguments.trim().is_empty() {
        return Map::new();
    }
    serde_json::from_str(arguments)
        .unwrap_or_else(|_| Map::from_iter([("raw_arguments".to_owned(), arguments.into())]))
}

impl Write for Writer {
    fn begin(&mut self, usage: &Usage, out: &mut Vec<u8>) {
        self.reply.at(0);
        if self.is_stream {
            let message = self.message(Vec::new(), usage);
            let data = json!({"type": "message_start", "message": message});
            sse::event(Some("message_start"), &data, out);
            self.has_begun = true;
        }
    }

    fn delta(&mut self, _: usize, delta: &ReplyDelta, _: &[TokenLogprob], out: &mut Vec<u8>) {
        self.has_calls |= matches!(delta, ReplyDelta::ToolCall { .. });
        if !self.is_stream {
            return self.reply.at(0).push(delta, &[]);
        }
        match delta {
            ReplyDelta::Content(text) => {
                self.open(Open::Text, &Block::Text { text: "" }, out);
                self.send(&json!({"type": "text_delta", "text": text}), out);
            }
            ReplyDelta::Reasoning(text) => {
                let block = Block::Thinking { thinking: "", signature: "" };
                self.open(Open::Thinking, &block, out);
                self.send(&json!({"type": "thinking_delta", "thinking": text}), out);
            }
            ReplyDelta::ToolCall { id, name, .. } => {
                let block = Block::ToolUse { id, name, input: Map::new() };
                self.open(Open::ToolUse, &block, out);
            }
            ReplyDelta::Arguments { fragment, .. } => {
                self.send(&json!({"type": "input_json_delta", "partial_json": fragment}), out);
            }
        }
    }

    fn finish(&mut self, _: usize, finish: &Finish, _: &[TokenLogprob], _: &mut Vec<u8>) {
        self.finish = finish.clone();
    }

    fn end(&mut self, usage: &Usage, _: Option<&Timings>, out: &mut Vec<u8>) {
        if self.is_stream {
            self.close(out);
            let (stop_reason, stop_sequence) = self.stop();
            let data = json!({
                "type": "message_delta",
                "delta": {"stop_reason": stop_reason, "stop_sequence": stop_sequence},
                "usage": MessagesUsage::from(usage),
            });
            sse::event(Some("message_delta"), &data, out);
            return sse::event(Some("message_stop"), &json!({"type": "message_stop"}), out);
        }
        self.reply.at(0);
        let mut content = Vec::new();
        if let Some(reply) = self.reply.0.first() {
            if !reply.reasoning.is_empty() {
                content.push(Block::Thinking { thinking: &reply.reasoning, signature: "" });
            }
            if !reply.content.is_empty() {
                content.push(Block::Text { text: &reply.content });
            }
            content.extend(reply.calls.iter().map(|call| Block::ToolUse {
                id: &call.id,
                name: &call.name,
                input: input(&call.arguments),
            }));
        }
        let (stop_reason, stop_sequence) = self.stop();
        let stop_reason = Some(stop_reason);
        let whole = MessagesAnswer { stop_reason, stop_sequence, ..self.message(content, usage) };
        sse::json(&whole, out);
    }

    fn fail(&mut self, status: u16, code: &str, message: &str, out: &mut Vec<u8>) {
        let body = ErrorBody::new(ErrorStyle::Anthropic, status, code, None, message);
        sse::event(Some("error"), &body, out);
    }

    fn keep_alive(&self) -> &'static [u8] {
        // Clients that have seen no message yet know comments only.
        if self.has_begun { b"event: ping\ndata: {\"type\":\"ping\"}\n\n" } else { sse::COMMENT }
    }
}
