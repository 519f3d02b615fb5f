//! Messages, tools and what is asked of a reply, as plain values: every API's requests become these.

use serde_json::Value;

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
    /// The word that templates compare with.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }

    /// The role of this name.
    pub fn parse(name: &str) -> Option<Self> {
        let roles = [Self::System, Self::Developer, Self::User, Self::Assistant, Self::Tool];
        let found = roles.into_iter().find(|role| role.as_str() == name);
        found.or_else(|| (name == "function").then_some(Self::Tool))
    }
}

/// One message of a conversation. What clients send as a list of parts of text is one text here.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What was said; `None` for an assistant that only called tools.
    pub content: Option<String>,
    /// What the assistant thought before it spoke (`reasoning_content`).
    pub reasoning: Option<String>,
    /// The calls that the assistant made.
    pub tool_calls: Vec<ToolCall>,
    /// Which call this is the result of.
    pub tool_call_id: Option<String>,
    /// The name of the speaker, or of the tool.
    pub name: Option<String>,
}

impl Message {
    /// A message of text alone.
    pub fn text(role: Role, content: impl Into<String>) -> Self {
        Self {
            role,
            content: Some(content.into()),
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
    /// Its arguments, as JSON text; empty for none.
    pub arguments: String,
}

/// A tool that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// The JSON schema of its arguments; `None`: it has none.
    pub parameters: Option<Value>,
    /// Whether the arguments must follow the schema to the letter.
    pub strict: bool,
}

/// Which tools the model may or must call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// It may call one, or several, or answer.
    #[default]
    Auto,
    /// It answers; templates are not shown the tools.
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

/// The form of what the model says.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum ResponseFormat {
    /// Any text.
    #[default]
    Text,
    /// A JSON object.
    JsonObject,
    /// JSON that a schema validates.
    JsonSchema(Value),
    /// What a regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choice(Vec<String>),
    /// llama.cpp's grammars.
    Gbnf(String),
    /// Lark's grammars, as llguidance reads them.
    Lark(String),
}

impl ResponseFormat {
    /// Whether every text has it.
    pub fn is_free(&self) -> bool {
        *self == Self::Text
    }
}
