//! llama.cpp's own completions: an object, or a list of them for several prompts or replies; in a
//! stream an event for each piece and one with everything else for the end of each. There is no
//! `[DONE]`: `stop` says it.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::collected::{Choices, Collected};
use super::shapes::{LlamaTimings, LogprobEntry};
use super::{Write, sse};
use crate::chat::reply::{Finish, ReplyDelta, ReplyFacts, Timings, TokenLogprob, Usage};
use crate::chat::request::{CompletionRequest, Generation, OutputFormat, RepeatWindow};
use crate::error::{ErrorBody, ErrorStyle};

/// One text that was continued; in a stream, the last event of it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct LlamaCompletion<'a> {
    /// Which prompt and reply.
    index: usize,
    /// What continues the prompt; empty at the end of a stream.
    content: &'a str,
    /// Always empty: `/tokenize` turns texts into token ids.
    tokens: [u32; 0],
    /// Always -1: a request has no slot of its own.
    id_slot: i32,
    /// Always true.
    stop: bool,
    /// The served model's name.
    model: &'a str,
    /// Tokens made, of all texts of the request.
    tokens_predicted: usize,
    /// Tokens of all prompts.
    tokens_evaluated: usize,
    /// Tokens of the prompts that an earlier request had left.
    tokens_cached: usize,
    /// What the request asked for; null where it said nothing.
    generation_settings: Map<String, Value>,
    /// The prompt's text.
    prompt: &'a str,
    /// Whether a line ended in the text.
    has_new_line: bool,
    /// Always false: what does not fit is refused.
    truncated: bool,
    /// `eos`, `limit` or `word`.
    stop_type: &'static str,
    /// The stop string that ended the text, or nothing.
    stopping_word: &'a str,
    /// Log probabilities, if they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_probabilities: Option<Vec<LogprobEntry>>,
    /// How long it took.
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<LlamaTimings>,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Debug, Serialize)]
struct Piece<'a> {
    index: usize,
    content: &'a str,
    tokens: [u32; 0],
    stop: bool,
    id_slot: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_probabilities: Option<Vec<LogprobEntry>>,
}

pub(super) struct Writer {
    facts: ReplyFacts,
    n: usize,
    is_stream: bool,
    /// Whether the answer is one object.
    single: bool,
    with_logprobs: bool,
    settings: Map<String, Value>,
    prompts: Vec<String>,
    choices: Choices,
    /// Whether a line ended in each choice.
    has_new_line: Vec<bool>,
    warnings: Vec<String>,
}

impl Writer {
    pub(super) fn new(
        request: &CompletionRequest,
        facts: ReplyFacts,
        prompts: Vec<String>,
    ) -> Self {
        let generation = &request.generation;
        let count = request.prompts.len() * generation.n;
        Self {
            facts,
            n: generation.n,
            is_stream: generation.stream.is_some(),
            single: request.single && generation.n == 1,
            with_logprobs: generation.logprobs.is_some(),
            settings: settings(generation),
            prompts,
            choices: Choices(vec![Collected::default(); count]),
            has_new_line: vec![false; count],
            warnings: request.warnings.clone(),
        }
    }

    fn probabilities(&self, tokens: &[TokenLogprob]) -> Option<Vec<LogprobEntry>> {
        let entry = |token| LogprobEntry::of(token, true);
        self.with_logprobs.then(|| tokens.iter().map(entry).collect())
    }

    fn last<'a>(
        &'a self,
        index: usize,
        choice: &'a Collected,
        usage: &Usage,
        timings: Option<&Timings>,
    ) -> LlamaCompletion<'a> {
        let (stop_type, stopping_word) = match &choice.finish {
            None | Some(Finish::Stop) => ("eos", ""),
            Some(Finish::StopString(word)) => ("word", word.as_str()),
            Some(Finish::Length) => ("limit", ""),
        };
        let logprobs = (!choice.logprobs.is_empty() || !self.is_stream)
            .then(|| self.probabilities(&choice.logprobs));
        LlamaCompletion {
            index,
            content: &choice.content,
            tokens: [],
            id_slot: -1,
            stop: true,
            model: &self.facts.model,
            tokens_predicted: usage.completion_tokens,
            tokens_evaluated: usage.prompt_tokens,
            tokens_cached: usage.cached_tokens,
            generation_settings: self.settings.clone(),
            prompt: self.prompts.get(index / self.n.max(1)).map_or("", String::as_str),
            has_new_line: self.has_new_line.get(index).copied().unwrap_or_default(),
            truncated: false,
            stop_type,
            stopping_word,
            completion_probabilities: logprobs.flatten(),
            timings: timings.map(LlamaTimings::from),
            warnings: &self.warnings,
        }
    }
}

impl Write for Writer {
    fn begin(&mut self, _: &Usage, _: &mut Vec<u8>) {}

    fn delta(
        &mut self,
        choice: usize,
        delta: &ReplyDelta,
        logprobs: &[TokenLogprob],
        out: &mut Vec<u8>,
    ) {
        let ReplyDelta::Content(text) = delta else { return };
        if let Some(has) = self.has_new_line.get_mut(choice) {
            *has |= text.contains('\n');
        }
        if !self.is_stream {
            let logprobs = if self.with_logprobs { logprobs } else { &[] };
            return self.choices.at(choice).push(delta, logprobs);
        }
        let piece = Piece {
            index: choice,
            content: text,
            tokens: [],
            stop: false,
            id_slot: -1,
            completion_probabilities: self.probabilities(logprobs),
        };
        sse::event(None, &piece, out);
    }

    fn finish(
        &mut self,
        choice: usize,
        finish: &Finish,
        logprobs: &[TokenLogprob],
        _: &mut Vec<u8>,
    ) {
        let logprobs = if self.with_logprobs { logprobs } else { &[] };
        self.choices.at(choice).end(finish, logprobs);
    }

    fn end(&mut self, usage: &Usage, timings: Option<&Timings>, out: &mut Vec<u8>) {
        let choices = self.choices.0.iter().enumerate();
        let mut results = choices.map(|(index, choice)| self.last(index, choice, usage, timings));
        if self.is_stream {
            results.for_each(|last| sse::event(None, &last, out));
        } else if let (true, Some(only)) = (self.single, results.next()) {
            sse::json(&only, out);
        } else {
            let all: Vec<_> = self
                .choices
                .0
                .iter()
                .enumerate()
                .map(|(index, choice)| self.last(index, choice, usage, timings))
                .collect();
            sse::json(&all, out);
        }
    }

    fn fail(&mut self, status: u16, code: &str, message: &str, out: &mut Vec<u8>) {
        let body = ErrorBody::new(ErrorStyle::OpenAi, status, code, None, message);
        sse::event(None, &body, out);
    }
}

/// What the request asked for, under llama.cpp's names.
fn settings(generation: &Generation) -> Map<String, Value> {
    let sampling = &generation.sampling;
    let window = sampling.repeat_last_n.map(|window| match window {
        RepeatWindow::Last(tokens) => i64::try_from(tokens).unwrap_or(i64::MAX),
        RepeatWindow::All => -1,
    });
    let grammar = match &generation.format {
        OutputFormat::Grammar { text, .. } => text.as_str(),
        _ => "",
    };
    let bias: Vec<Value> = sampling
        .logit_bias
        .iter()
        .map(|&(token, bias)| {
            // JSON has no infinity; llama.cpp reads false as never.
            if bias.is_finite() { json!([token, bias]) } else { json!([token, false]) }
        })
        .collect();
    let settings = json!({
        "n_predict": generation.max_tokens,
        "seed": sampling.seed,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": sampling.min_p,
        "repeat_penalty": sampling.repeat_penalty,
        "repeat_last_n": window,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "logit_bias": bias,
        "stop": generation.stop,
        "ignore_eos": generation.ignore_eos,
        "n_probs": generation.logprobs.unwrap_or(0),
        "grammar": grammar,
        "stream": generation.stream.is_some(),
    });
    match settings {
        Value::Object(settings) => settings,
        _ => Map::new(),
    }
}
