//! `OpenAI`'s completions.

use schemars::JsonSchema;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::collected::{Choices, finish_reason, stop_string};
use super::shapes::{LlamaTimings, OrNull, TokenUsage, finite, shown};
use super::{Write, chat, sse};
use crate::chat::reply::{
    Alternative, Finish, ReplyDelta, ReplyFacts, Timings, TokenLogprob, Usage,
};
use crate::chat::request::{CompletionRequest, Streaming};

/// An answer as a whole, and one event of a stream.
#[derive(Debug, Clone, serde::Serialize, JsonSchema)]
pub struct TextCompletion<'a> {
    /// `cmpl-` and the request's id.
    id: &'a str,
    /// Always `text_completion`.
    #[schemars(extend("const" = "text_completion"))]
    object: &'static str,
    /// Unix time in seconds.
    created: u64,
    /// The served model's name.
    model: &'a str,
    /// Snapshot and build.
    system_fingerprint: &'a str,
    /// What continues the prompts; in a stream, one piece of one of them.
    choices: Vec<Choice<'a>>,
    /// How many tokens there were; in a stream null but in the last event, and only if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OrNull<TokenUsage>")]
    #[allow(
        clippy::option_option,
        reason = "absent, null and a value are three different things here"
    )]
    usage: Option<Option<TokenUsage>>,
    /// How long it took, for clients of llama.cpp.
    #[serde(skip_serializing_if = "Option::is_none")]
    timings: Option<LlamaTimings>,
    /// Parts of the request that were not honoured; absent when there are none.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    warnings: &'a [String],
}

#[derive(Debug, Clone, serde::Serialize, JsonSchema)]
#[schemars(rename = "TextChoice")]
struct Choice<'a> {
    text: &'a str,
    index: usize,
    /// Null unless they were asked for.
    logprobs: Option<TokensInTurn>,
    /// `stop` or `length`; null in a stream but in the last piece.
    finish_reason: Option<&'static str>,
    /// vLLM: the stop string that ended the text.
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<&'a str>,
}

/// One element of each list for each token.
#[derive(Debug, Clone, serde::Serialize, JsonSchema)]
#[schemars(rename = "TextLogprobs")]
struct TokensInTurn {
    /// Texts of the tokens; bytes that are no text as `bytes:\xNN`.
    tokens: Vec<String>,
    /// Null for the first token of an echoed prompt.
    token_logprobs: Vec<Option<f32>>,
    /// The likeliest tokens and the one that came; null if none were asked for.
    top_logprobs: Option<Vec<Option<Likeliest>>>,
    /// Where in the text each token begins, in characters.
    text_offset: Vec<usize>,
}

/// Texts of tokens with their log probabilities, as an object.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(with = "std::collections::BTreeMap<String, f32>")]
struct Likeliest(Vec<(String, f32)>);

impl Serialize for Likeliest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (token, logprob) in &self.0 {
            map.serialize_entry(token, logprob)?;
        }
        map.end()
    }
}

fn likeliest(token: &TokenLogprob) -> Option<Likeliest> {
    let mut tokens: Vec<(String, f32)> = Vec::new();
    let came = token.logprob.map(|logprob| (&token.text, &token.bytes, logprob))?;
    let top =
        token.top.iter().map(|Alternative { text, bytes, logprob, .. }| (text, bytes, *logprob));
    // Two tokens may have one text: the likelier stands for both.
    for (text, bytes, logprob) in top.chain([came]) {
        let text = shown(text, bytes, "bytes:");
        if tokens.iter().all(|(known, _)| *known != text) {
            tokens.push((text, finite(logprob)));
        }
    }
    Some(Likeliest(tokens))
}

pub(super) struct Writer {
    facts: ReplyFacts,
    id: String,
    stream: Option<Streaming>,
    /// How many of the likeliest tokens were asked for.
    top: Option<usize>,
    choices: Choices,
    count: usize,
    /// Characters of each choice's text so far, as its tokens have them.
    offsets: Vec<usize>,
    warnings: Vec<String>,
}

impl Writer {
    pub(super) fn new(request: &CompletionRequest, facts: ReplyFacts) -> Self {
        Self {
            id: format!("cmpl-{}", facts.id),
            facts,
            stream: request.generation.stream,
            top: request.generation.logprobs,
            choices: Choices::default(),
            count: request.prompts.len() * request.generation.n,
            offsets: vec![0; request.prompts.len() * request.generation.n],
            warnings: request.warnings.clone(),
        }
    }

    #[allow(
        clippy::option_option,
        reason = "absent, null and a value are three different things here"
    )]
    fn answer<'a>(
        &'a self,
        choices: Vec<Choice<'a>>,
        usage: Option<Option<TokenUsage>>,
    ) -> TextCompletion<'a> {
        TextCompletion {
            id: &self.id,
            object: "text_completion",
            created: self.facts.created,
            model: &self.facts.model,
            system_fingerprint: &self.facts.fingerprint,
            choices,
            usage,
            timings: None,
            warnings: &[],
        }
    }

    fn send(
        &mut self,
        index: usize,
        text: &str,
        logprobs: &[TokenLogprob],
        finish: Option<&Finish>,
        out: &mut Vec<u8>,
    ) {
        let logprobs = (self.top.is_some() && !logprobs.is_empty())
            .then(|| logprobs_of(logprobs, self.top, self.offsets.get_mut(index)));
        let choice = Choice {
            text,
            index,
            logprobs,
            finish_reason: finish.map(|finish| finish_reason(finish, false, false)),
            stop_reason: finish.and_then(stop_string),
        };
        let usage = self.stream.is_some_and(|stream| stream.include_usage).then_some(None);
        sse::event(None, &self.answer(vec![choice], usage), out);
    }
}

/// A token begins where the characters of those before it end: as many as bytes begin a character.
fn logprobs_of(
    tokens: &[TokenLogprob],
    top: Option<usize>,
    offset: Option<&mut usize>,
) -> TokensInTurn {
    let mut at = offset.as_ref().map_or(0, |offset| **offset);
    let mut text_offset = Vec::with_capacity(tokens.len());
    for token in tokens {
        text_offset.push(at);
        at += token.bytes.iter().filter(|&&byte| byte & 0xC0 != 0x80).count();
    }
    if let Some(offset) = offset {
        *offset = at;
    }
    TokensInTurn {
        tokens: tokens.iter().map(|token| shown(&token.text, &token.bytes, "bytes:")).collect(),
        token_logprobs: tokens.iter().map(|token| token.logprob.map(finite)).collect(),
        top_logprobs: top
            .is_some_and(|top| top > 0)
            .then(|| tokens.iter().map(likeliest).collect()),
        text_offset,
    }
}

impl Write for Writer {
    fn begin(&mut self, _: &Usage, _: &mut Vec<u8>) {
        if self.stream.is_none() {
            self.choices.at(self.count.saturating_sub(1));
        }
    }

    fn delta(
        &mut self,
        choice: usize,
        delta: &ReplyDelta,
        logprobs: &[TokenLogprob],
        out: &mut Vec<u8>,
    ) {
        if self.stream.is_some() {
            if let ReplyDelta::Content(text) = delta {
                self.send(choice, text, logprobs, None, out);
            }
        } else {
            let logprobs = if self.top.is_some() { logprobs } else { &[] };
            self.choices.at(choice).push(delta, logprobs);
        }
    }

    fn finish(
        &mut self,
        choice: usize,
        finish: &Finish,
        logprobs: &[TokenLogprob],
        out: &mut Vec<u8>,
    ) {
        if self.stream.is_some() {
            self.send(choice, "", logprobs, Some(finish), out);
        } else {
            let logprobs = if self.top.is_some() { logprobs } else { &[] };
            self.choices.at(choice).end(finish, logprobs);
        }
    }

    fn end(&mut self, usage: &Usage, timings: Option<&Timings>, out: &mut Vec<u8>) {
        let usage: TokenUsage = usage.into();
        let timings = timings.map(LlamaTimings::from);
        let Some(stream) = self.stream else {
            let choice = |(index, choice): (usize, &'_ super::collected::Collected)| {
                let finish = choice.finish.as_ref().unwrap_or(&Finish::Stop);
                (index, finish_reason(finish, false, false))
            };
            let reasons: Vec<_> = self.choices.0.iter().enumerate().map(choice).collect();
            let choices =
                self.choices.0.iter().zip(reasons).map(|(choice, (index, reason))| Choice {
                    text: &choice.content,
                    index,
                    logprobs: self.top.map(|_| logprobs_of(&choice.logprobs, self.top, None)),
                    finish_reason: Some(reason),
                    stop_reason: choice.finish.as_ref().and_then(stop_string),
                });
            let answer = self.answer(choices.collect(), Some(Some(usage)));
            let whole = TextCompletion { timings, warnings: &self.warnings, ..answer };
            return sse::json(&whole, out);
        };
        if stream.include_usage {
            let last = TextCompletion { timings, ..self.answer(Vec::new(), Some(Some(usage))) };
            sse::event(None, &last, out);
        }
        out.extend_from_slice(sse::DONE);
    }

    fn fail(&mut self, status: u16, code: &str, message: &str, out: &mut Vec<u8>) {
        chat::fail(status, code, message, out);
    }
}
