//! From messages to prompts and back: chat templates, tool calls, reasoning, and grammars that hold tokens to a form.
//!
//! Nothing here runs a model, speaks HTTP or opens a file.

mod delta;
mod error;
mod format;
mod message;

pub use delta::Delta;
pub use error::Error;
pub use format::FormatKind;
pub use message::{Message, ResponseFormat, Role, Tool, ToolCall, ToolChoice};
