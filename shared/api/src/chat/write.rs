//! From the pieces of a reply to the bytes that its client reads.
//!
//! One writer serves whole answers and streams: what calls it need not know which it is. Each call
//! appends to `out` what is to be sent now, which of a whole answer is nothing before its end.
//!
//! ```text
//! begin, (delta | finish of each choice) …, end        or, after begin, fail at any time
//! ```
//!
//! A stream is of server-sent events: a line `data: ` of JSON, an empty line. Lines end where
//! clients think they do, and many split at more characters than the standard's two: so U+0085,
//! U+2028 and U+2029 are written as escapes. A failure after the first byte has no status any more,
//! and is an event in the words of its API.

mod chat;
mod collected;
mod completions;
mod llama;
mod messages;
mod responses;
mod shapes;
mod sse;

use super::reply::{Finish, ReplyDelta, ReplyFacts, Timings, TokenLogprob, Usage};
use super::request::{ChatApi, ChatRequest, CompletionApi, CompletionRequest, ReasoningOutput};

pub use chat::{ChatChunk, ChatCompletion};
pub use completions::TextCompletion;
pub use llama::LlamaCompletion;
pub use messages::MessagesAnswer;
pub use responses::ResponsesAnswer;
pub use shapes::{AppliedTemplate, CountedTokens};

/// What each API's writer does. See [`ReplyWriter`], whose methods these are.
trait Write {
    fn begin(&mut self, usage: &Usage, out: &mut Vec<u8>);
    fn delta(
        &mut self,
        choice: usize,
        delta: &ReplyDelta,
        logprobs: &[TokenLogprob],
        out: &mut Vec<u8>,
    );
    fn finish(
        &mut self,
        choice: usize,
        finish: &Finish,
        logprobs: &[TokenLogprob],
        out: &mut Vec<u8>,
    );
    fn end(&mut self, usage: &Usage, timings: Option<&Timings>, out: &mut Vec<u8>);
    fn fail(&mut self, status: u16, code: &str, message: &str, out: &mut Vec<u8>);
    fn keep_alive(&self) -> &'static [u8] {
        sse::COMMENT
    }
}

/// Writes the answer to one request.
pub struct ReplyWriter {
    writer: Box<dyn Write + Send>,
    is_stream: bool,
    hides_reasoning: bool,
}

impl std::fmt::Debug for ReplyWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplyWriter").field("is_stream", &self.is_stream).finish_non_exhaustive()
    }
}

impl ReplyWriter {
    /// Of a reply in a conversation.
    pub fn chat(request: &ChatRequest, facts: ReplyFacts) -> Self {
        let writer: Box<dyn Write + Send> = match request.api {
            ChatApi::Chat | ChatApi::ChatFunctions => Box::new(chat::Writer::new(request, facts)),
            ChatApi::Responses => Box::new(responses::Writer::new(request, facts)),
            ChatApi::Messages => Box::new(messages::Writer::new(request, facts)),
        };
        Self {
            writer,
            is_stream: request.generation.stream.is_some(),
            hides_reasoning: request.reasoning == ReasoningOutput::Hidden,
        }
    }

    /// Of texts that were continued. The choices of the first prompt come first, then those of the
    /// second: choice `prompt * n + reply`. `prompts` are their texts, which llama.cpp's answer
    /// repeats; an echo is to be given as the first delta of each choice, with its tokens'
    /// probabilities.
    pub fn completion(
        request: &CompletionRequest,
        facts: ReplyFacts,
        prompts: Vec<String>,
    ) -> Self {
        let writer: Box<dyn Write + Send> = match request.api {
            CompletionApi::Completions => Box::new(completions::Writer::new(request, facts)),
            CompletionApi::LlamaCpp => Box::new(llama::Writer::new(request, facts, prompts)),
        };
        Self { writer, is_stream: request.generation.stream.is_some(), hides_reasoning: false }
    }

    /// Whether the answer is sent as it is made.
    pub fn is_stream(&self) -> bool {
        self.is_stream
    }

    /// The `content-type` of the answer.
    pub fn content_type(&self) -> &'static str {
        if self.is_stream { "text/event-stream" } else { "application/json" }
    }

    /// The prompt is known: `usage` has its tokens and how many of them were there already.
    pub fn begin(&mut self, usage: &Usage, out: &mut Vec<u8>) {
        self.writer.begin(usage, out);
    }

    /// A piece of a choice, with the log probabilities of the tokens that it, or text that was held
    /// back before it, consists of.
    pub fn delta(
        &mut self,
        choice: usize,
        delta: &ReplyDelta,
        logprobs: &[TokenLogprob],
        out: &mut Vec<u8>,
    ) {
        if !(self.hides_reasoning && matches!(delta, ReplyDelta::Reasoning(_))) {
            self.writer.delta(choice, delta, logprobs, out);
        }
    }

    /// A choice has ended, with log probabilities that no delta had.
    pub fn finish(
        &mut self,
        choice: usize,
        finish: &Finish,
        logprobs: &[TokenLogprob],
        out: &mut Vec<u8>,
    ) {
        self.writer.finish(choice, finish, logprobs, out);
    }

    /// Every choice has ended.
    pub fn end(&mut self, usage: &Usage, timings: Option<&Timings>, out: &mut Vec<u8>) {
        self.writer.end(usage, timings, out);
    }

    /// What went wrong after `begin`, with the status that it would have had. Nothing follows it. A
    /// whole answer has not begun: an [`ErrorBody`](crate::ErrorBody) is sent in its place.
    pub fn fail(&mut self, status: u16, code: &str, message: &str, out: &mut Vec<u8>) {
        if self.is_stream {
            self.writer.fail(status, code, message, out);
        }
    }

    /// What to send into a stream while nothing else is to be sent; changes nothing.
    pub fn keep_alive(&self) -> &'static [u8] {
        if self.is_stream { self.writer.keep_alive() } else { b"" }
    }
}
