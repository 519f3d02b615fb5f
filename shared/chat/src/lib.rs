//! From messages to prompts and back: chat templates, tool calls, reasoning, and grammars that hold tokens to a form.
//!
//! ```text
//! Conversation --Templates::prompt--> Prompt { text, form, grammar }
//!                                        text --> the model's tokens, and so on
//!                                        grammar --GrammarCompiler::compile--> TokenConstraint: which tokens may come next
//!                                        form --> ReplyParser: the reply's text --> Delta, Delta, …
//! ```
//!
//! Nothing here runs a model, speaks HTTP or opens a file.

mod calendar;
mod conversation;
mod delta;
mod error;
mod format;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod grammar;
mod message;
mod reply;
pub mod template;
mod thinking;

pub use conversation::{Conversation, Prompt, Templates};
pub use delta::Delta;
pub use error::Error;
pub use format::FormatKind;
pub use grammar::{Grammar, GrammarCompiler, TokenConstraint, Tokenize, VocabularyToken};
pub use message::{Message, ResponseFormat, Role, Tool, ToolCall, ToolChoice};
pub use reply::{ReplyForm, ReplyParser, parse_reply};
pub use template::{SpecialTexts, Template};
pub use thinking::Thinking;

/// A number that looks like chance, of another: the finaliser of `SplitMix64`.
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}
