//! What a reply consists of, a piece at a time.

/// The next piece of a reply, in order. No text is empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// More of the answer.
    Content(String),
    /// More of the thoughts before it.
    Reasoning(String),
    /// A call of a tool begins.
    ToolCall {
        /// Its place among the reply's calls, from 0.
        index: usize,
        /// What the client's result will refer to.
        id: String,
        /// The tool.
        name: String,
    },
    /// More of the arguments of a call, which together are JSON unless the reply was cut off.
    Arguments {
        /// The call.
        index: usize,
        /// The next text.
        fragment: String,
    },
}
