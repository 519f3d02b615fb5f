//! What a request wants to know of its prompt itself: log-probabilities of its tokens, and the prompt before each completion.

use super::Common;
use super::branch::Rules;
use crate::GenerationTask;
use crate::generate::job::{Produced, ProducedToken};
use crate::generate::logprobs::logprobs;
use crate::generate::text::TextStream;

/// Log-probabilities of a prompt, as far as they are known.
#[derive(Debug)]
pub(super) struct Scores {
    /// How many of the likeliest tokens are told.
    most: usize,
    /// The tokens whose logits have been seen, and the first one, which has none.
    pub(super) tokens: Vec<ProducedToken>,
}

impl Scores {
    /// If the task wants any.
    pub(super) fn of(task: &GenerationTask) -> Option<Self> {
        let first = ProducedToken { id: *task.prompt.first()?, logprobs: None };
        task.prompt_scores().map(|most| Self { most, tokens: vec![first] })
    }

    /// Takes what the model says after the tokens from place `first` on.
    pub(super) fn take(
        &mut self,
        prompt: &[u32],
        first: usize,
        rows: &[Vec<f32>],
        common: &Common,
    ) {
        for (place, row) in (first + 1..).zip(rows) {
            if let Some(&id) = prompt.get(place).filter(|_| place == self.tokens.len()) {
                let told = logprobs(row, id, self.most, &common.pieces);
                self.tokens.push(ProducedToken { id, logprobs: Some(told) });
            }
        }
    }

    /// The tokens with so many of the likeliest ones at each place.
    pub(super) fn with(&self, most: usize) -> Vec<ProducedToken> {
        let mut tokens = self.tokens.clone();
        for told in tokens.iter_mut().filter_map(|token| token.logprobs.as_mut()) {
            told.top.truncate(most);
        }
        tokens
    }
}

/// The prompt as a part of a completion.
pub(super) fn echo(
    task: &GenerationTask,
    scores: Option<&Scores>,
    rules: &Rules,
    common: &Common,
) -> Produced {
    let tokens = match scores.zip(task.logprobs) {
        Some((scores, most)) => scores.with(most),
        None => task.prompt.iter().map(|&id| ProducedToken { id, logprobs: None }).collect(),
    };
    let mut stream = TextStream::new(&[], false);
    let mut text = String::new();
    for token in &tokens {
        let bytes = rules.bytes(token.id, common);
        let token = ProducedToken { id: token.id, logprobs: None };
        text.extend(stream.push(token, bytes).produced.map(|part| part.text));
    }
    text.extend(stream.finish().map(|part| part.text));
    Produced { text, tokens, is_echo: true }
}
