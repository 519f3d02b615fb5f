//! `OpenAI`'s responses: an answer is a list of items, a stream says of each when it begins, what
//! comes, and what it was in the end.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::shapes::LogprobEntry;
use super::{Write, sse};
use crate::chat::reply::{Finish, ReplyDelta, ReplyFacts, Timings, TokenLogprob, Usage};
use crate::chat::request::{ChatRequest, ResponsesEcho};

/// An answer as a whole, and what the first and last events of a stream hold.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ResponsesAnswer<'a> {
    /// `resp_` and the request's id.
    id: &'a str,
    /// Always `response`.
    #[schemars(extend("const" = "response"))]
    object: &'static str,
    /// Unix time in seconds.
    created_at: u64,
    /// `completed`, `incomplete`, `failed`; `in_progress` in a stream's first events.
    status: &'static str,
    /// What went wrong.
    error: Option<Failure<'a>>,
    /// Why the answer is incomplete.
    incomplete_details: Option<Incomplete>,
    /// The served model's name.
    model: &'a str,
    /// What the model thought, said and called.
    output: Vec<Item<'a>>,
    /// How many tokens there were; null until they are known.
    usage: Option<ResponsesUsage>,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
    /// Fields of the request as they came.
    #[serde(flatten)]
    #[schemars(skip)]
    echo: &'a Map<String, Value>,
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "ResponsesError")]
struct Failure<'a> {
    code: &'static str,
    message: &'a str,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[schemars(rename = "ResponsesIncomplete")]
struct Incomplete {
    reason: &'static str,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
struct ResponsesUsage {
    /// Tokens of the prompt.
    input_tokens: usize,
    input_tokens_details: InputDetails,
    /// Tokens made.
    output_tokens: usize,
    output_tokens_details: OutputDetails,
    /// Both.
    total_tokens: usize,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[schemars(rename = "ResponsesInputDetails")]
struct InputDetails {
    /// Tokens of the prompt that an earlier request had left.
    cached_tokens: usize,
    /// Always 0: nothing is paid for.
    cache_write_tokens: usize,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[schemars(rename = "ResponsesOutputDetails")]
struct OutputDetails {
    /// Tokens made that are thoughts.
    reasoning_tokens: usize,
}

impl From<&Usage> for ResponsesUsage {
    fn from(usage: &Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputDetails {
                cached_tokens: usage.cached_tokens,
                cache_write_tokens: 0,
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens: usage.reasoning_tokens },
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
        }
    }
}

/// One item of an answer.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schemars(rename = "ResponsesItem")]
enum Item<'a> {
    /// What the model said.
    Message { id: &'a str, status: &'static str, role: &'static str, content: Vec<Part<'a>> },
    /// What the model thought.
    Reasoning { id: &'a str, status: &'static str, summary: [bool; 0], content: Vec<Part<'a>> },
    /// A call of a function.
    FunctionCall {
        id: &'a str,
        status: &'static str,
        call_id: &'a str,
        name: &'a str,
        arguments: &'a str,
    },
}

#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[schemars(rename = "ResponsesPart")]
enum Part<'a> {
    OutputText { text: &'a str, annotations: [bool; 0], logprobs: Vec<LogprobEntry> },
    ReasoningText { text: &'a str },
}

/// What an item is made of.
#[derive(Debug, Clone)]
enum Kind {
    Message,
    Reasoning,
    Call { id: String, name: String },
}

/// One item as far as it has come.
#[derive(Debug, Clone)]
struct Progress {
    id: String,
    kind: Kind,
    /// The text, or the arguments.
    text: String,
    logprobs: Vec<TokenLogprob>,
    is_whole: bool,
}

impl Progress {
    fn part(&self) -> Option<Part<'_>> {
        match self.kind {
            Kind::Message => Some(Part::OutputText {
                text: &self.text,
                annotations: [],
                logprobs: self.logprobs.iter().map(|one| LogprobEntry::of(one, false)).collect(),
            }),
            Kind::Reasoning => Some(Part::ReasoningText { text: &self.text }),
            Kind::Call { .. } => None,
        }
    }

    /// As it is when it begins, or as far as it has come.
    fn item(&self, with_content: bool) -> Item<'_> {
        let content = || self.part().filter(|_| with_content).into_iter().collect();
        let status = match (with_content, self.is_whole) {
            (false, _) => "in_progress",
            (true, true) => "completed",
            (true, false) => "incomplete",
        };
        match &self.kind {
            Kind::Message => {
                Item::Message { id: &self.id, status, role: "assistant", content: content() }
            }
            Kind::Reasoning => {
                Item::Reasoning { id: &self.id, status, summary: [], content: content() }
            }
            Kind::Call { id, name } => Item::FunctionCall {
                id: &self.id,
                status,
                call_id: id,
                name,
                arguments: if with_content { &self.text } else { "" },
            },
        }
    }
}

pub(super) struct Writer {
    facts: ReplyFacts,
    id: String,
    is_stream: bool,
    with_logprobs: bool,
    echo: ResponsesEcho,
    items: Vec<Progress>,
    /// Whether the last item has not ended.
    is_open: bool,
    finish: Finish,
    /// The number of the next event.
    sequence: u64,
    warnings: Vec<String>,
}

impl Writer {
    pub(super) fn new(request: &ChatRequest, facts: ReplyFacts) -> Self {
        Self {
            id: format!("resp_{}", facts.id),
            facts,
            is_stream: request.generation.stream.is_some(),
            with_logprobs: request.generation.logprobs.is_some(),
            echo: request.echo.clone(),
            items: Vec::new(),
            is_open: false,
            finish: Finish::Stop,
            sequence: 0,
            warnings: request.warnings.clone(),
        }
    }

    fn answer(&self, status: &'static str, usage: Option<&Usage>) -> ResponsesAnswer<'_> {
        let is_cut = status == "incomplete";
        ResponsesAnswer {
            id: &self.id,
            object: "response",
            created_at: self.facts.created,
            status,
            error: None,
            incomplete_details: is_cut.then_some(Incomplete { reason: "max_output_tokens" }),
            model: &self.facts.model,
            output: self.items.iter().map(|item| item.item(true)).collect(),
            usage: usage.map(ResponsesUsage::from),
            warnings: &self.warnings,
            echo: &self.echo.0,
        }
    }

    fn send(&mut self, name: &str, mut data: Value, out: &mut Vec<u8>) {
        if !self.is_stream {
            return;
        }
        data["type"] = name.into();
        data["sequence_number"] = self.sequence.into();
        self.sequence += 1;
        sse::event(Some(name), &data, out);
    }

    /// Sends an event about the last item.
    fn about(&mut self, name: &str, mut data: Value, out: &mut Vec<u8>) {
        let Some(last) = self.items.last() else { return };
        data["item_id"] = last.id.as_str().into();
        data["output_index"] = (self.items.len() - 1).into();
        if !matches!(last.kind, Kind::Call { .. }) {
            data["content_index"] = 0.into();
        }
        self.send(name, data, out);
    }

    fn open(&mut self, kind: Kind, out: &mut Vec<u8>) {
        self.close(true, out);
        let prefix = match kind {
            Kind::Message => "msg",
            Kind::Reasoning => "rs",
            Kind::Call { .. } => "fc",
        };
        let index = self.items.len();
        let id = format!("{prefix}_{}_{index}", self.facts.id);
        let text = String::new();
        self.items.push(Progress { id, kind, text, logprobs: Vec::new(), is_whole: false });
        self.is_open = true;
        if self.is_stream
            && let Some(item) = self.items.last()
        {
            let added = json!({"output_index": index, "item": item.item(false)});
            let part = item.part().map(|part| json!({"part": part}));
            self.send("response.output_item.added", added, out);
            if let Some(part) = part {
                self.about("response.content_part.added", part, out);
            }
        }
    }

    /// Ends the last item, which is whole unless the reply was cut off in it.
    fn close(&mut self, is_whole: bool, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.is_open) {
            return;
        }
        let index = self.items.len() - 1;
        self.items[index].is_whole = is_whole;
        if !self.is_stream {
            return;
        }
        let item = &self.items[index];
        let done = json!({"output_index": index, "item": item.item(true)});
        let part = item.part().map(|part| json!({"part": part}));
        let (name, end) = match &item.kind {
            Kind::Message => {
                let logprobs: Vec<_> =
                    item.logprobs.iter().map(|one| LogprobEntry::of(one, false)).collect();
                ("response.output_text.done", json!({"text": item.text, "logprobs": logprobs}))
            }
            Kind::Reasoning => ("response.reasoning_text.done", json!({"text": item.text})),
            Kind::Call { name, .. } => (
                "response.function_call_arguments.done",
                json!({"arguments": item.text, "name": name}),
            ),
        };
        self.about(name, end, out);
        if let Some(part) = part {
            self.about("response.content_part.done", part, out);
        }
        self.send("response.output_item.done", done, out);
    }

    fn is_in(&self, wanted: impl Fn(&Kind) -> bool) -> bool {
        self.is_open && self.items.last().is_some_and(|item| wanted(&item.kind))
    }

    fn add(&mut self, text: &str, logprobs: &[TokenLogprob]) {
        if let Some(item) = self.items.last_mut() {
            item.text.push_str(text);
            item.logprobs.extend_from_slice(logprobs);
        }
    }
}

impl Write for Writer {
    fn begin(&mut self, _: &Usage, out: &mut Vec<u8>) {
        if self.is_stream {
            let response = json!({"response": self.answer("in_progress", None)});
            self.send("response.created", response.clone(), out);
            self.send("response.in_progress", response, out);
        }
    }

    fn delta(
        &mut self,
        _: usize,
        delta: &ReplyDelta,
        logprobs: &[TokenLogprob],
        out: &mut Vec<u8>,
    ) {
        let logprobs = if self.with_logprobs { logprobs } else { &[] };
        match delta {
            ReplyDelta::Content(text) => {
                if !self.is_in(|kind| matches!(kind, Kind::Message)) {
                    self.open(Kind::Message, out);
                }
                self.add(text, logprobs);
                if self.is_stream {
                    let logprobs: Vec<_> =
                        logprobs.iter().map(|one| LogprobEntry::of(one, false)).collect();
                    let data = json!({"delta": text, "logprobs": logprobs});
                    self.about("response.output_text.delta", data, out);
                }
            }
            ReplyDelta::Reasoning(text) => {
                if !self.is_in(|kind| matches!(kind, Kind::Reasoning)) {
                    self.open(Kind::Reasoning, out);
                }
                self.add(text, &[]);
                self.about("response.reasoning_text.delta", json!({"delta": text}), out);
            }
            ReplyDelta::ToolCall { id, name, .. } => {
                self.open(Kind::Call { id: id.clone(), name: name.clone() }, out);
            }
            ReplyDelta::Arguments { fragment, .. } => {
                if self.is_in(|kind| matches!(kind, Kind::Call { .. })) {
                    self.add(fragment, &[]);
                    let data = json!({"delta": fragment});
                    self.about("response.function_call_arguments.delta", data, out);
                }
            }
        }
    }

    fn finish(&mut self, _: usize, finish: &Finish, _: &[TokenLogprob], out: &mut Vec<u8>) {
        self.finish = finish.clone();
        if self.items.is_empty() {
            // Clients look for a message.
            self.open(Kind::Message, out);
        }
        self.close(*finish != Finish::Length, out);
    }

    fn end(&mut self, usage: &Usage, _: Option<&Timings>, out: &mut Vec<u8>) {
        let status = if self.finish == Finish::Length { "incomplete" } else { "completed" };
        let answer = self.answer(status, Some(usage));
        if !self.is_stream {
            return sse::json(&answer, out);
        }
        let response = json!({"response": answer});
        self.send(&format!("response.{status}"), response, out);
    }

    fn fail(&mut self, _: u16, _: &str, message: &str, out: &mut Vec<u8>) {
        let error = Some(Failure { code: "server_error", message });
        let response =
            json!({"response": ResponsesAnswer { error, ..self.answer("failed", None) }});
        self.send("response.failed", response, out);
    }
}
