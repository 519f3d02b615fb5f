//! `OpenAI`'s chat completions.
//!
//! The first chunk of each choice has its role and nothing else, so that clients see that the
//! answer has begun; the one with the reason has no content; the last, without choices, has the
//! usage if it was asked for.

use schemars::JsonSchema;
use serde::Serialize;

use super::collected::{Choices, Collected, finish_reason, stop_string};
use super::shapes::{LlamaTimings, LogprobEntry, OrNull, TokenUsage};
use super::{Write, sse};
use crate::chat::reply::{Finish, ReplyDelta, ReplyFacts, Timings, TokenLogprob, Usage};
use crate::chat::request::{ChatApi, ChatRequest, Streaming};
use crate::error::{ErrorBody, ErrorStyle};

/// An answer as a whole.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ChatCompletion<'a> {
    /// `chatcmpl-` and the request's id.
    id: &'a str,
    /// Always `chat.completion`.
    #[schemars(extend("const" = "chat.completion"))]
    object: &'static str,
    /// Unix time in seconds.
    created: u64,
    /// The served model's name.
    model: &'a str,
    /// Snapshot and build.
    system_fingerprint: &'a str,
    /// The replies.
    choices: Vec<Choice<'a>>,
    /// How many tokens there were.
    usage: TokenUsage,
    /// How long it took, for clients of llama.cpp.
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<LlamaTimings>,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ChatChoice")]
struct Choice<'a> {
    index: usize,
    message: Message<'a>,
    /// Null unless they were asked for.
    logprobs: Option<Logprobs>,
    /// `stop`, `length`, `tool_calls` or `function_call`.
    finish_reason: &'static str,
    /// vLLM: the stop string that ended the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<&'a str>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ChatReply")]
struct Message<'a> {
    #[schemars(extend("const" = "assistant"))]
    role: &'static str,
    /// What the model said; null where it only called tools.
    content: Option<&'a str>,
    /// Always null: the model's refusals are content.
    refusal: Option<&'a str>,
    /// What the model thought.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    /// Calls of tools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ToolCall<'a>>,
    /// The call, for requests with `functions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Function<'a>>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ChatToolCall")]
struct ToolCall<'a> {
    id: &'a str,
    #[schemars(extend("const" = "function"))]
    r#type: &'static str,
    function: Function<'a>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ChatFunctionCall")]
struct Function<'a> {
    name: &'a str,
    /// JSON.
    arguments: &'a str,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ChatLogprobs")]
struct Logprobs {
    /// One for each token.
    content: Vec<LogprobEntry>,
    /// Always null.
    refusal: Option<bool>,
}

impl Logprobs {
    fn of(tokens: &[TokenLogprob]) -> Self {
        let content = tokens.iter().map(|token| LogprobEntry::of(token, false)).collect();
        Self { content, refusal: None }
    }
}

/// One event of a stream.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ChatChunk<'a> {
    /// `chatcmpl-` and the request's id; the same in every chunk.
    id: &'a str,
    /// Always `chat.completion.chunk`.
    #[schemars(extend("const" = "chat.completion.chunk"))]
    object: &'static str,
    /// Unix time in seconds; the same in every chunk.
    created: u64,
    /// The served model's name.
    model: &'a str,
    /// Snapshot and build.
    system_fingerprint: &'a str,
    /// One piece of one reply; none in the chunk with the usage.
    choices: Vec<ChunkChoice<'a>>,
    /// With `include_usage`: null but in the last chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OrNull<TokenUsage>")]
    #[allow(
        clippy::option_option,
        reason = "absent, null and a value are three different things here"
    )]
    usage: Option<Option<TokenUsage>>,
    /// How long it took, beside the usage.
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<LlamaTimings>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ChatChunkChoice")]
struct ChunkChoice<'a> {
    index: usize,
    delta: Delta<'a>,
    /// Null unless they were asked for.
    logprobs: Option<Logprobs>,
    /// Null but in the reply's last chunk.
    finish_reason: Option<&'static str>,
    /// vLLM: the stop string that ended the reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<&'a str>,
}

#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
#[schemars(rename = "ChatDelta")]
struct Delta<'a> {
    /// In the reply's first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    /// More of the text; null in the first chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OrNull<String>")]
    #[allow(
        clippy::option_option,
        reason = "absent, null and a value are three different things here"
    )]
    content: Option<Option<&'a str>>,
    /// More of the thoughts.
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    /// A call that begins, or more of its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallDelta<'a>; 1]>,
    /// The same, for requests with `functions`.
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionDelta<'a>>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ChatToolCallDelta")]
struct CallDelta<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: FunctionDelta<'a>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ChatFunctionDelta")]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

pub(super) struct Writer {
    facts: ReplyFacts,
    id: String,
    n: usize,
    stream: Option<Streaming>,
    with_logprobs: bool,
    is_function: bool,
    choices: Choices,
    /// Which choices of a stream have called tools.
    called: Vec<bool>,
    warnings: Vec<String>,
}

impl Writer {
    pub(super) fn new(request: &ChatRequest, facts: ReplyFacts) -> Self {
        Self {
            id: format!("chatcmpl-{}", facts.id),
            facts,
            n: request.generation.n,
            stream: request.generation.stream,
            with_logprobs: request.generation.logprobs.is_some(),
            is_function: request.api == ChatApi::ChatFunctions,
            choices: Choices::default(),
            called: vec![false; request.generation.n],
            warnings: request.warnings.clone(),
        }
    }

    fn chunk<'a>(&'a self, choice: Option<ChunkChoice<'a>>) -> ChatChunk<'a> {
        ChatChunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.facts.created,
            model: &self.facts.model,
            system_fingerprint: &self.facts.fingerprint,
            choices: choice.into_iter().collect(),
            usage: self.stream.is_some_and(|stream| stream.include_usage).then_some(None),
            timings: None,
        }
    }

    fn send(
        &self,
        index: usize,
        delta: Delta<'_>,
        logprobs: &[TokenLogprob],
        finish: Option<(&'static str, Option<&str>)>,
        out: &mut Vec<u8>,
    ) {
        let has_logprobs = self.with_logprobs && !logprobs.is_empty();
        let choice = ChunkChoice {
            index,
            delta,
            logprobs: has_logprobs.then(|| Logprobs::of(logprobs)),
            finish_reason: finish.map(|(reason, _)| reason),
            stop_reason: finish.and_then(|(_, text)| text),
        };
        sse::event(None, &self.chunk(Some(choice)), out);
    }

    fn choice<'a>(&'a self, index: usize, choice: &'a Collected) -> Choice<'a> {
        let finish = choice.finish.as_ref().unwrap_or(&Finish::Stop);
        let has_calls = !choice.calls.is_empty();
        let function = |call: &'a super::collected::Call| Function {
            name: &call.name,
            arguments: &call.arguments,
        };
        let mut calls = choice.calls.iter();
        let function_call = calls.next().filter(|_| self.is_function).map(function);
        let tool_call = |call: &'a super::collected::Call| ToolCall {
            id: &call.id,
            r#type: "function",
            function: function(call),
        };
        let tool_calls = choice.calls.iter().filter(|_| !self.is_function).map(tool_call).collect();
        Choice {
            index,
            message: Message {
                role: "assistant",
                content: (!choice.content.is_empty() || !has_calls).then_some(&choice.content),
                refusal: None,
                reasoning_content: (!choice.reasoning.is_empty()).then_some(&choice.reasoning),
                tool_calls,
                function_call,
            },
            logprobs: self.with_logprobs.then(|| Logprobs::of(&choice.logprobs)),
            finish_reason: finish_reason(finish, has_calls, self.is_function),
            stop_reason: stop_string(finish),
        }
    }
}

impl Write for Writer {
    fn begin(&mut self, _: &Usage, out: &mut Vec<u8>) {
        if self.stream.is_none() {
            // A choice without a word is a choice.
            self.choices.at(self.n.saturating_sub(1));
            return;
        }
        for index in 0..self.n {
            let first = Delta { role: Some("assistant"), content: Some(None), ..Delta::default() };
            self.send(index, first, &[], None, out);
        }
    }

    fn delta(
        &mut self,
        choice: usize,
        delta: &ReplyDelta,
        logprobs: &[TokenLogprob],
        out: &mut Vec<u8>,
    ) {
        if self.stream.is_none() {
            let logprobs = if self.with_logprobs { logprobs } else { &[] };
            self.choices.at(choice).push(delta, logprobs);
            return;
        }
        let piece = match delta {
            ReplyDelta::Content(text) => Delta { content: Some(Some(text)), ..Delta::default() },
            ReplyDelta::Reasoning(text) => {
                Delta { reasoning_content: Some(text), ..Delta::default() }
            }
            ReplyDelta::ToolCall { index, id, name } => {
                if let Some(called) = self.called.get_mut(choice) {
                    *called = true;
                }
                let function = FunctionDelta { name: Some(name), arguments: "" };
                self.call_delta(*index, Some(id), function)
            }
            ReplyDelta::Arguments { index, fragment } => {
                self.call_delta(*index, None, FunctionDelta { name: None, arguments: fragment })
            }
        };
        self.send(choice, piece, logprobs, None, out);
    }

    fn finish(
        &mut self,
        choice: usize,
        finish: &Finish,
        logprobs: &[TokenLogprob],
        out: &mut Vec<u8>,
    ) {
        if self.stream.is_none() {
            let logprobs = if self.with_logprobs { logprobs } else { &[] };
            self.choices.at(choice).end(finish, logprobs);
            return;
        }
        let called = self.called.get(choice).copied().unwrap_or_default();
        let reason = finish_reason(finish, called, self.is_function);
        self.send(choice, Delta::default(), logprobs, Some((reason, stop_string(finish))), out);
    }

    fn end(&mut self, usage: &Usage, timings: Option<&Timings>, out: &mut Vec<u8>) {
        let timings = timings.map(LlamaTimings::from);
        let Some(stream) = self.stream else {
            let choices = self.choices.0.iter().enumerate();
            let whole = ChatCompletion {
                id: &self.id,
                object: "chat.completion",
                created: self.facts.created,
                model: &self.facts.model,
                system_fingerprint: &self.facts.fingerprint,
                choices: choices.map(|(index, choice)| self.choice(index, choice)).collect(),
                usage: usage.into(),
                timings,
                warnings: &self.warnings,
            };
            return sse::json(&whole, out);
        };
        if stream.include_usage {
            let chunk = ChatChunk { usage: Some(Some(usage.into())), timings, ..self.chunk(None) };
            sse::event(None, &chunk, out);
        }
        out.extend_from_slice(sse::DONE);
    }

    fn fail(&mut self, status: u16, code: &str, message: &str, out: &mut Vec<u8>) {
        fail(status, code, message, out);
    }
}

impl Writer {
    fn call_delta<'a>(
        &self,
        index: usize,
        id: Option<&'a str>,
        function: FunctionDelta<'a>,
    ) -> Delta<'a> {
        if self.is_function {
            return Delta { function_call: Some(function), ..Delta::default() };
        }
        let call = CallDelta { index, id, r#type: id.map(|_| "function"), function };
        Delta { tool_calls: Some([call]), ..Delta::default() }
    }
}

/// An error in a stream, and its end.
pub(super) fn fail(status: u16, code: &str, message: &str, out: &mut Vec<u8>) {
    let body = ErrorBody::new(ErrorStyle::OpenAi, status, code, None, message);
    sse::event(None, &body, out);
    out.extend_from_slice(sse::DONE);
}
