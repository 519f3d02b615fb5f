//! What a reply consists of, a piece at a time, and what is told of it at its end.

/// The next piece of one choice's reply, in order. No text is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyDelta {
    /// More of the answer; of completions, more of the text.
    Content(String),
    /// More of the thoughts before it.
    Reasoning(String),
    /// A call of a tool begins.
    ToolCall {
        /// Its place among the reply's calls, from 0; one more than that of the last.
        index: usize,
        /// What the client's result will refer to.
        id: String,
        /// The tool.
        name: String,
    },
    /// More of the arguments of the call that began last, which together are JSON unless the reply
    /// was cut off.
    Arguments {
        /// The call.
        index: usize,
        /// The next text.
        fragment: String,
    },
}

/// Why a choice ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The model ended its turn; also after it has called tools.
    Stop,
    /// A stop string came, this one.
    StopString(String),
    /// `max_tokens`, or the end of the context.
    Length,
}

/// The log probability of one token of a reply.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: u32,
    /// Its text, of special tokens too. What is no whole character is told by the bytes.
    pub text: String,
    /// Its bytes; of special tokens none.
    pub bytes: Vec<u8>,
    /// `None` for the first token of an echoed prompt, which nothing precedes.
    pub logprob: Option<f32>,
    /// The likeliest tokens in its place, as many as asked for, likeliest first.
    pub top: Vec<Alternative>,
}

/// A token that might have come.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// The token.
    pub id: u32,
    /// Its text, of special tokens too.
    pub text: String,
    /// Its bytes; of special tokens none.
    pub bytes: Vec<u8>,
    /// Its log probability.
    pub logprob: f32,
}

/// How many tokens were read and made: of all prompts and choices of the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt, each prompt once however many choices continue it.
    pub prompt_tokens: usize,
    /// How many of them were there already.
    pub cached_tokens: usize,
    /// Tokens made.
    pub completion_tokens: usize,
    /// How many of them were thoughts.
    pub reasoning_tokens: usize,
}

/// How long it took; llama.cpp's clients read it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Timings {
    /// Tokens of the prompt that were not there already.
    pub prompt_tokens: usize,
    /// Milliseconds for them.
    pub prompt_ms: f64,
    /// Tokens made.
    pub predicted_tokens: usize,
    /// Milliseconds for them.
    pub predicted_ms: f64,
}

/// What an answer says beside the reply.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplyFacts {
    /// The request's id, without a prefix: each shape puts its own (`chatcmpl-`, `resp_`) before it.
    pub id: String,
    /// Unix time in seconds.
    pub created: u64,
    /// The served model's name.
    pub model: String,
    /// What the numbers depend on: snapshot and build.
    pub fingerprint: String,
}
