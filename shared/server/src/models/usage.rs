//! What a request has had of a model: time, texts and tokens.

use std::time::Duration;

use defrost_model::Room;

/// Where a job's time went.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    /// Time until its first micro-batch began, without its own tokenising.
    pub(crate) queue: Duration,
    pub(crate) tokenize: Duration,
    /// Time from the beginning of its first micro-batch to the end of its last one.
    pub(crate) inference: Duration,
}

/// The counters of Text Embeddings Inference, which has one pair for scores and one for vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TeiCounter {
    Predict,
    Embed,
}

/// What a job has had of the model, for the metrics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Usage {
    /// The tokens that were run for each document or input.
    pub(crate) lengths: Vec<usize>,
    /// How many documents or inputs were cut to fit.
    pub(crate) truncated: usize,
    /// Where Text Embeddings Inference would count it, if it had such a request.
    pub(crate) tei: Option<TeiCounter>,
    /// What was generated, by models that do.
    pub(crate) completions: Option<Completions>,
}

/// The completions of one prompt. Its tokens are in [`Usage::lengths`].
#[derive(Debug, Clone, Copy, Default)]
#[cfg_attr(not(feature = "chat"), allow(dead_code, reason = "only models that chat have any"))]
pub(crate) struct Completions {
    pub(crate) choices: usize,
    /// Tokens of all of them.
    pub(crate) tokens: usize,
    /// Tokens of the prompt that were known already.
    pub(crate) cached: usize,
    /// Tokens that were computed before it was known whether they come, and those of them that came.
    pub(crate) guessed: usize,
    pub(crate) accepted: usize,
    /// Tokens that could only come as they did.
    pub(crate) forced: usize,
    /// Time from the first step to the first token, and from there to the end.
    pub(crate) prefill: Duration,
    pub(crate) decoding: Duration,
}

/// How busy a model is that generates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(not(feature = "chat"), allow(dead_code, reason = "only models that chat say so"))]
pub(crate) struct Load {
    /// Requests that have tokens in memory.
    pub(crate) running: usize,
    /// Those that wait for some of it, or for their turn.
    pub(crate) waiting: usize,
    pub(crate) room: Room,
}

impl Usage {
    /// How many documents or inputs there were.
    pub(crate) fn items(&self) -> usize {
        self.lengths.len()
    }

    /// The tokens that were run for all of them.
    pub(crate) fn tokens(&self) -> usize {
        self.lengths.iter().sum()
    }
}
