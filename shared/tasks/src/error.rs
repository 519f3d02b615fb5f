//! What can go wrong between texts and scores.

/// Why texts could not be scored, or a model could not be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request itself cannot be served; `param` names the field to change.
    #[error("{message}")]
    InvalidInput {
        /// The request field at fault, in the names of [`crate::ScoreTask`] or [`crate::EmbedTask`].
        param: &'static str,
        /// The text that says what was expected, what was found, and what to do.
        message: String,
    },
    /// The request asks for more than [`crate::Bounds`] allow.
    #[error("{message}")]
    TooMuch {
        /// The request field that makes it so much.
        param: &'static str,
        /// The text that says what was counted, the bound, and what to do.
        message: String,
    },
    /// A text does not fit the model and the request forbids truncation.
    #[error(
        "{param}: input is too large. This model's maximum context length is {limit} tokens. Please reduce the length of the input prompt, or allow truncation"
    )]
    TooLong {
        /// The most tokens of one pair.
        limit: usize,
        /// The text that did not fit: `query` or `documents`.
        param: &'static str,
    },
    /// A text does not fit the embedding model, or the request's own limit, and the request forbids to cut it.
    #[error(
        "this model's maximum context length is {limit} tokens and input {index} has at least {found}: input is too large. Please reduce the length of the input prompt or allow truncation"
    )]
    InputTooLong {
        /// The most tokens of one input, special tokens and prompt included.
        limit: usize,
        /// Tokens of the input, all of them unless it is many times too long.
        found: usize,
        /// Position of the request.
        request: usize,
        /// Position of the input in the request.
        index: usize,
    },
    /// Prompt and completion do not fit the model.
    #[error(
        "this model's maximum context length is {limit} tokens, {}: the prompt has {prompt}. Please reduce the length of the input prompt or of the completion",
        match completion {
            Some(completion) => format!("{} were asked for, {completion} in the completion", prompt.saturating_add(*completion)),
            None => "and at least one must be left for the completion".to_owned(),
        }
    )]
    ContextExceeded {
        /// The most tokens of prompt and completion together.
        limit: usize,
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens that the completion was to have at most, if the request says.
        completion: Option<usize>,
    },
    /// No token can be chosen: the model's logits are not numbers, or all tokens are ruled out.
    #[error("no token can follow after {position} tokens: {why}")]
    NoToken {
        /// The number of tokens before it, prompt included.
        position: usize,
        /// The reason.
        why: &'static str,
    },
    /// The model answered NaN or infinity; such a score or vector is never passed on.
    #[error("the model's answer for document or input {index} is not a finite number")]
    NonFinite {
        /// Position of the request.
        request: usize,
        /// Position of the document or input in the request.
        index: usize,
    },
    /// The caller went away before the work was done.
    #[error("cancelled: the client has gone")]
    Cancelled,
    /// The snapshot or checkpoint is not one this version can run.
    #[error("{0}")]
    Model(String),
    /// The tokenizer refused its file or a text.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// The runtime refused weights or a batch.
    #[error(transparent)]
    Runtime(defrost_model::Error),
    /// Reading or verifying the snapshot failed.
    #[error(transparent)]
    Loader(#[from] defrost_loader::Error),
}

impl Error {
    /// The same error about the request at this position.
    pub(crate) fn of_request(mut self, at: usize) -> Self {
        if let Self::InputTooLong { request, .. } | Self::NonFinite { request, .. } = &mut self {
            *request = at;
        }
        self
    }

    /// Whether every later request would meet it too: the model's bytes cannot be had, or its device is lost.
    pub fn is_permanent(&self) -> bool {
        use defrost_model::Error::{Lost, Weights};
        matches!(self, Self::Loader(_) | Self::Runtime(Weights(_) | Lost(_)))
    }

    /// Whether there was no memory for it, so that a smaller request, or the same one later, may be answered.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Runtime(defrost_model::Error::OutOfMemory(_)))
    }
}

impl From<defrost_model::Error> for Error {
    fn from(error: defrost_model::Error) -> Self {
        match error {
            defrost_model::Error::Model(message) => Self::Model(message),
            defrost_model::Error::Loader(error) => Self::Loader(error),
            other => Self::Runtime(other),
        }
    }
}
