//! A conversation as plain values: every API's messages and tools become these.

use serde_json::{Map, Value};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Whoever set the assistant up.
    System,
    /// As [`Role::System`], where a template knows the difference.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// A tool's result; also what older clients call `function`.
    Tool,
}

impl Role {
    /// The word that clients send.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// One message. What came as a list of parts of text is one text, the parts on lines of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// Who speaks.
    pub role: Role,
    /// What was said; `None` for an assistant that only called tools.
    pub content: Option<String>,
    /// What the assistant thought before it spoke.
    pub reasoning: Option<String>,
    /// The calls that the assistant made.
    pub tool_calls: Vec<ToolCall>,
    /// Which call this is the result of.
    pub tool_call_id: Option<String>,
    /// The name of the speaker, or of the tool.
    pub name: Option<String>,
}

impl ChatMessage {
    /// A message of text alone.
    pub fn text(role: Role, content: impl Into<String>) -> Self {
        Self { content: Some(content.into()), ..Self::of(role) }
    }

    /// A message of nothing yet.
    pub(crate) fn of(role: Role) -> Self {
        Self {
            role,
            content: None,
            reasoning: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
        }
    }
}

/// A call of a tool in the conversation so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// What its result refers to.
    pub id: String,
    /// The tool.
    pub name: String,
    /// Its arguments as JSON text, as the client wrote them; empty for none.
    pub arguments: String,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name, which no other tool of the request has.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// The JSON schema of its arguments, an object; `None`: it has none.
    pub parameters: Option<Value>,
    /// Whether the arguments must follow the schema to the letter.
    pub strict: bool,
}

/// Which tools the model may or must call. Names are those of tools of the request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// It may call one, or several, or answer.
    #[default]
    Auto,
    /// It answers.
    None,
    /// It calls one at least.
    Required,
    /// It calls this one.
    Named(String),
    /// As [`ToolChoice::Auto`], or [`ToolChoice::Required`] if `required`, among these.
    Allowed {
        /// The names of the tools.
        names: Vec<String>,
        /// Whether one must be called.
        required: bool,
    },
}

/// What the prompt is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The messages in order; at least one.
    pub messages: Vec<ChatMessage>,
    /// The tools in order.
    pub tools: Vec<Tool>,
    /// Which of them the model may or must call.
    pub tool_choice: ToolChoice,
    /// Whether it may call several at once.
    pub parallel_tool_calls: bool,
    /// Whether the prompt ends where the assistant begins to speak.
    pub add_generation_prompt: bool,
    /// Whether the prompt ends inside of the last message, which the model continues. Never set
    /// together with `add_generation_prompt`.
    pub continue_final_message: bool,
    /// Further variables of the template: `enable_thinking`, `reasoning_effort`, `documents`. None has
    /// the name of one that the server sets.
    pub template_kwargs: Map<String, Value>,
}
