//! What a reply must be, and its tokens held to it.
//!
//! ```text
//! a form, calls, thoughts --Grammar--> Lark --GrammarCompiler (llguidance)--> TokenConstraint: which tokens may come next
//! ```
//!
//! The grammar of a reply is thoughts, where the template opens them or the model may, and after them an answer of the form
//! that was asked for, or calls of tools in the model's own format. What is free stays free: with `tool_choice` auto any text
//! may come, and the grammar begins to hold where a call begins.
//!
//! JSON is on one line, with a space after commas and colons and none elsewhere, as Python writes it: white space that is
//! free is where small models lose themselves, and what is fixed is forced, which costs no choice and hardly any time.
//!
//! What cannot be held to is an error that names the keyword ([`schema`]), never something less.

mod compiler;
mod gbnf;
mod lark;
mod pattern;
mod schema;
mod vocabulary;

use crate::Error;
use crate::format::FormatKind;
use crate::message::{ResponseFormat, Tool};
use crate::thinking::Thinking;
pub use compiler::{GrammarCompiler, TokenConstraint};
pub use vocabulary::{Tokenize, VocabularyToken};

/// What a reply must be, before it is put in the tokens of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Grammar {
    stage: Stage,
    answer: Answer,
}

/// Where a prompt ends, as to thoughts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Past them, or there are none.
    None,
    /// Within: they must end.
    Open(Thinking),
    /// Before: the model may think.
    Maybe(Thinking),
}

/// What comes after thoughts.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    /// The form of an answer in words.
    pub(crate) format: ResponseFormat,
    /// What may or must be called instead.
    pub(crate) calling: Option<Calling>,
}

/// Which tools are called, and how.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Calling {
    pub(crate) format: FormatKind,
    pub(crate) tools: Vec<Tool>,
    pub(crate) is_required: bool,
    pub(crate) are_several: bool,
}

impl Grammar {
    /// Of a text that has this form; `None`: every text has it.
    ///
    /// # Errors
    /// [`Error::Grammar`] if it cannot be held to, as far as can be told without the model's tokens.
    pub fn of_format(format: &ResponseFormat) -> Result<Option<Self>, Error> {
        Self::new(Stage::None, Answer { format: format.clone(), calling: None })
    }

    pub(crate) fn new(stage: Stage, answer: Answer) -> Result<Option<Self>, Error> {
        let is_free = answer.format.is_free();
        let calls = answer.calling.as_ref().is_some_and(|calling| !calling.tools.is_empty());
        if is_free && !calls {
            return Ok(None);
        }
        let grammar = Self { stage, answer };
        grammar.check()?;
        Ok(Some(grammar))
    }

    fn check(&self) -> Result<(), Error> {
        if let ResponseFormat::JsonSchema(schema) = &self.answer.format {
            schema::check(schema).map_err(|message| of_format(&self.answer.format, &message))?;
        }
        for (at, tool) in self.strict_tools() {
            if let Some(parameters) = &tool.parameters {
                schema::check(parameters).map_err(|message| of_tool(at, tool, &message))?;
            }
        }
        self.lark(&lark::quoted, &|_| false).map(|_| ())
    }

    /// The tools whose arguments must follow their schema.
    fn strict_tools(&self) -> impl Iterator<Item = (usize, &Tool)> {
        let tools = self.answer.calling.iter().flat_map(|calling| &calling.tools);
        tools.enumerate().filter(|(_, tool)| tool.strict)
    }
}

/// The request's field that a form came from is for the wire to say; this is its most common name.
fn of_format(format: &ResponseFormat, message: &str) -> Error {
    let kind = match format {
        ResponseFormat::JsonSchema(_) => "the JSON schema cannot be enforced",
        ResponseFormat::Regex(_) => "the regular expression cannot be enforced",
        ResponseFormat::Gbnf(_) => "the grammar (GBNF) cannot be enforced",
        ResponseFormat::Lark(_) => "the grammar (Lark) cannot be enforced",
        ResponseFormat::Choice(_) => "the choices cannot be enforced",
        ResponseFormat::Text | ResponseFormat::JsonObject => "the form cannot be enforced",
    };
    Error::Grammar { field: "response_format", message: format!("{kind}: {message}") }
}

fn of_tool(at: usize, tool: &Tool, message: &str) -> Error {
    let message = format!(
        "tool {at}, {:?}: its parameters cannot be enforced: {message}; without \"strict\" they are \
         followed as far as they can be",
        tool.name
    );
    Error::Grammar { field: "tools", message }
}
