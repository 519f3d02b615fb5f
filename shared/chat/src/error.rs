/// Why a conversation has no prompt, or a form no grammar. Each is the request's fault unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The model's template cannot be read: the snapshot's fault.
    #[error("the model's chat template is not one that can be run: line {line}: {message}")]
    Template {
        /// Where.
        line: usize,
        /// What was found.
        message: String,
    },
    /// The template has refused the conversation, with words of its own.
    #[error("the model's chat template refuses these messages: {0}")]
    Refused(String),
    /// The template fails on the conversation.
    #[error("the model's chat template fails on these messages: line {line}: {message}")]
    Render {
        /// Where.
        line: usize,
        /// What happened.
        message: String,
    },
    /// The messages, the tools or their options contradict each other.
    #[error("{field}: {message}")]
    Request {
        /// The field of the request, such as `tool_choice`.
        field: &'static str,
        /// What was expected, what was found.
        message: String,
    },
    /// A schema, a regular expression or a grammar that cannot be enforced.
    #[error("{field}: {message}")]
    Grammar {
        /// The field of the request, such as `response_format`.
        field: &'static str,
        /// What was found and where, with the keyword's name.
        message: String,
    },
}

impl Error {
    /// The field of the request that is at fault; `None`: the model is.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Template { .. } => None,
            Self::Refused(_) | Self::Render { .. } => Some("messages"),
            Self::Request { field, .. } | Self::Grammar { field, .. } => Some(field),
        }
    }
}
