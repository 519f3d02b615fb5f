//! A reply on its way from the model to the client: parts of completions become what an answer says, whole or piece
//! by piece.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use defrost_api::{ReplyWriter, Timings, Usage};

use crate::app::App;
use crate::edge::budget::Held;
use crate::edge::cost::Cost;
use crate::edge::request_id::RequestId;
use crate::error::ApiError;
use crate::models::admission::{Admitted, Begun};
use crate::models::usage::Times;
use crate::services::chat::chat_model::ChatModel;
use crate::services::chat::incoming::{Came, Incoming};
use crate::services::chat::job::{Prepared, ReplyPart, Unread, bytes_of_a_token};
use crate::services::chat::speaker::{self, Speaker};

/// What a whole answer holds beyond what was set aside for it grows in steps of so many bytes.
const STEP: usize = 64 << 10;

/// A prompt on its way to the model's thread.
pub(super) struct Prompt {
    pub(super) prepared: Prepared,
    pub(super) begun: Begun<ReplyPart>,
    pub(super) unread: Arc<Unread>,
}

/// See the module page.
pub(super) struct Reply {
    incoming: Incoming,
    writer: ReplyWriter,
    /// One for each completion, those of the first prompt first.
    speakers: Vec<Speaker>,
    /// How many completions each prompt has.
    choices: usize,
    usage: Usage,
    timings: Timings,
    times: Times,
    /// Whether the first step of a prompt has run.
    has_begun: bool,
    /// Bytes of what was said so far, about.
    said: usize,
    pub(super) id: RequestId,
    chat: Arc<ChatModel>,
    /// What is set aside for parts on their way.
    _held: Vec<Held>,
    /// To be dropped last.
    _admitted: Admitted,
}

impl Reply {
    pub(super) fn new(
        id: &RequestId,
        (admitted, chat): (Admitted, Arc<ChatModel>),
        writer: ReplyWriter,
        speakers: Vec<Speaker>,
        prompts: Vec<Prompt>,
    ) -> Self {
        let mut usage = Usage::default();
        let count = prompts.len();
        let (mut held, mut events) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for Prompt { prepared, begun: Begun { events: own, held: bytes }, unread } in prompts {
            usage.prompt_tokens += prepared.tokens;
            held.push(bytes);
            events.push((own, unread));
        }
        Self {
            incoming: Incoming::of(events),
            writer,
            choices: speakers.len() / count.max(1),
            speakers,
            usage,
            timings: Timings::default(),
            times: Times::default(),
            has_begun: false,
            said: 0,
            id: id.clone(),
            chat,
            _held: held,
            _admitted: admitted,
        }
    }

    pub(super) fn is_stream(&self) -> bool {
        self.writer.is_stream()
    }

    pub(super) fn content_type(&self) -> &'static str {
        self.writer.content_type()
    }

    pub(super) fn keep_alive(&self) -> &'static [u8] {
        self.writer.keep_alive()
    }

    /// What it cost so far.
    pub(super) fn cost(&self) -> Cost {
        let tokens = self.usage.prompt_tokens + self.usage.completion_tokens;
        Cost { items: self.speakers.len(), tokens, times: self.times }
    }

    /// Writes what comes next to `out`; whether there is more. An error is the last that comes.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut Vec<u8>,
    ) -> Poll<Result<bool, ApiError>> {
        self.incoming.poll_next(cx).map(|came| self.write(came, out))
    }

    fn write(
        &mut self,
        came: Option<Result<(usize, Came), ApiError>>,
        out: &mut Vec<u8>,
    ) -> Result<bool, ApiError> {
        let Some(came) = came else {
            self.end(out);
            return Ok(false);
        };
        match came? {
            (prompt, Came::Part(part)) => self.part(prompt, part, out),
            (_, Came::End(times)) => {
                // Of several prompts, the longest; they ran beside each other.
                let Times { queue, tokenize, inference } = times;
                self.times.queue = self.times.queue.max(queue);
                self.times.tokenize += tokenize;
                self.times.inference = self.times.inference.max(inference);
            }
        }
        Ok(true)
    }

    fn part(&mut self, prompt: usize, part: ReplyPart, out: &mut Vec<u8>) {
        match part {
            // Read before this was made; and what the prompt's tokens are is told where it is echoed.
            ReplyPart::Prepared(_) | ReplyPart::PromptScored(_) => {}
            ReplyPart::Started { cached } => {
                self.usage.cached_tokens += cached;
                self.begin(out);
            }
            ReplyPart::Produced { choice, produced } => {
                self.begin(out);
                let choice = prompt * self.choices + choice;
                let Some(speaker) = self.speakers.get_mut(choice) else { return };
                let logprobs = produced.tokens.iter().filter_map(|one| one.logprobs.as_ref());
                let logprobs: usize =
                    logprobs.map(|one| bytes_of_a_token(Some(one.top.len()))).sum();
                self.said += produced.text.len() + logprobs;
                for (delta, logprobs) in speaker.speak(&produced, self.chat.pieces()) {
                    self.writer.delta(choice, &delta, &logprobs, out);
                }
            }
            ReplyPart::Finished { choice, finish } => {
                self.begin(out);
                let choice = prompt * self.choices + choice;
                let Some(speaker) = self.speakers.get_mut(choice) else { return };
                let (said, rest) = speaker.finish();
                for (delta, logprobs) in said {
                    self.writer.delta(choice, &delta, &logprobs, out);
                }
                self.writer.finish(choice, &speaker::ended(&finish), &rest, out);
            }
            ReplyPart::Took(took) => {
                self.timings.prompt_tokens += took.prompt - took.cached.min(took.prompt);
                self.timings.prompt_ms += took.prefill.as_secs_f64() * 1e3;
                self.timings.predicted_tokens += took.completion;
                self.timings.predicted_ms += took.decoding.as_secs_f64() * 1e3;
            }
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if !self.has_begun {
            self.has_begun = true;
            self.writer.begin(&self.usage, out);
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        self.usage.completion_tokens = self.timings.predicted_tokens;
        self.usage.reasoning_tokens = self.speakers.iter().map(Speaker::reasoning_tokens).sum();
        self.writer.end(&self.usage, Some(&self.timings), out);
    }

    /// The whole answer.
    pub(super) async fn whole(mut self, app: &App) -> Result<Response, ApiError> {
        let (mut out, mut beside) = (Vec::new(), app.budget.hold());
        while poll_fn(|cx| self.poll_write(cx, &mut out)).await? {
            // The writer keeps what was said until it is all there: as text, and once more as JSON.
            let needed = self.said.saturating_mul(2);
            if needed > beside.bytes() {
                beside.resize(needed + STEP)?;
            }
        }
        let (cost, times) = (self.cost(), self.times);
        let kind = [(header::CONTENT_TYPE, self.content_type())];
        drop(self);
        let mut response = (kind, beside.answer(out)?).into_response();
        response.extensions_mut().insert(cost);
        crate::routes::timing(app, response.headers_mut(), &times);
        Ok(response)
    }

    /// Tells what went wrong after the answer has begun.
    pub(super) fn fail(&mut self, error: &ApiError, out: &mut Vec<u8>) {
        self.begin(out);
        self.writer.fail(error.status(), error.code(), &error.to_string(), out);
    }
}
