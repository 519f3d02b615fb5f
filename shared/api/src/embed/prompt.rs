//! The prompt that goes before each input, from whichever of five fields asks for it.
//!
//! Retrieval models read a query differently from a document: Qwen3's queries carry an instruction,
//! E5's texts begin with `query: ` or `passage: `. Hosted APIs hide that behind a role
//! (`input_type`, `task`), self-hosted ones let the client name or spell the prompt.

use super::EmbedBody;
use crate::checks;
use crate::error::Invalid;

/// What to put before each input.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Prompt {
    /// Nothing was asked for: the model's default, which is that of documents where its files name
    /// none.
    #[default]
    Default,
    /// The prompt of queries.
    Query,
    /// The prompt of documents.
    Document,
    /// The model's own prompt of this name.
    Named(String),
    /// The model's own prompt of this name if it has one, else none at all: what the inputs are for
    /// is neither search nor storage (`clustering`, `text-matching`).
    Purpose(String),
    /// The prompt of queries with this task description.
    Instruction(String),
    /// This text itself; empty: none at all.
    Prefix(String),
}

/// What the inputs are, as hosted APIs say it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Query,
    Document,
    Other,
}

impl Role {
    /// Cohere's, Voyage's, NVIDIA's and Google's words.
    fn of_input_type(name: &str) -> Option<Self> {
        match name {
            "query" | "search_query" | "retrieval_query" => Some(Self::Query),
            "document" | "passage" | "search_document" | "retrieval_document" => {
                Some(Self::Document)
            }
            "classification" | "clustering" | "none" => Some(Self::Other),
            _ => None,
        }
    }

    /// Jina's words, for which a suffix tells the side: `retrieval.query`, `code.passage`.
    fn of_task(name: &str) -> Option<Self> {
        match name.rsplit_once('.') {
            Some((_, "query")) => return Some(Self::Query),
            Some((_, "passage" | "document")) => return Some(Self::Document),
            _ => {}
        }
        match name {
            "retrieval" | "text-matching" | "classification" | "clustering" | "separation"
            | "embed" | "none" => Some(Self::Other),
            _ => None,
        }
    }

    fn is_called(self, name: &str) -> bool {
        match self {
            Self::Query => name == "query",
            Self::Document => matches!(name, "document" | "passage"),
            Self::Other => true,
        }
    }

    /// The prompt of inputs of which this `word` alone says something.
    fn prompt(self, word: &str) -> Prompt {
        match self {
            Self::Query => Prompt::Query,
            Self::Document => Prompt::Document,
            Self::Other if word.eq_ignore_ascii_case("none") => Prompt::Prefix(String::new()),
            Self::Other => Prompt::Purpose(word.to_ascii_lowercase()),
        }
    }
}

impl EmbedBody {
    /// The word by which a request says that its inputs are queries or documents; a model may have
    /// a prompt of that name.
    pub(super) fn role_word(&self) -> Option<String> {
        [&self.input_type, &self.task].into_iter().flatten().find(|word| !word.is_empty()).cloned()
    }

    pub(super) fn prompt(&self, warnings: &mut Vec<String>) -> Result<Prompt, Invalid> {
        let input_type = role(
            "input_type",
            self.input_type.as_deref(),
            Role::of_input_type,
            "query, document, search_query, search_document, passage, classification, clustering or none",
        )?;
        let task = role(
            "task",
            self.task.as_deref(),
            Role::of_task,
            "retrieval.query, retrieval.passage, text-matching, classification, separation or none",
        )?;
        let field = if input_type.is_some() { "input_type" } else { "task" };
        let role = checks::agreed([("input_type", input_type), ("task", task)])?;
        let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let spelled = checks::agreed([
            ("prompt_name", given(&self.prompt_name).map(Prompt::Named)),
            ("prompt", self.prompt.clone().map(Prompt::Prefix)),
            ("instruction", given(&self.instruction).map(Prompt::Instruction)),
        ])?;
        Ok(match (spelled, role) {
            (None, None) => Prompt::Default,
            (None, Some(role)) => role.prompt(&self.role_word().unwrap_or_default()),
            (Some(Prompt::Instruction(_)), Some(Role::Document)) => {
                warnings.push(format!(
                    "instruction is ignored: {field} says that the inputs are documents, which take none"
                ));
                Prompt::Document
            }
            (Some(Prompt::Named(name)), Some(role)) if !role.is_called(&name) => {
                return Err(checks::contradiction(field, "prompt_name"));
            }
            (Some(spelled), _) => spelled,
        })
    }
}

fn role(
    field: &'static str,
    name: Option<&str>,
    read: impl Fn(&str) -> Option<Role>,
    expected: &str,
) -> Result<Option<Role>, Invalid> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    match read(&name.to_ascii_lowercase()) {
        Some(role) => Ok(Some(role)),
        None => {
            Err(Invalid::new(field, format!("{field}: expected {expected}; found another name")))
        }
    }
}
