//! Which text goes before an input.

use defrost_model::EmbeddingSpec;

use super::PromptChoice;
use crate::Error;

/// How a query prompt that holds a task begins; the only such form that is known.
const INSTRUCT: &str = "Instruct: ";

/// Whether a task changes what the model makes of a query.
pub(super) fn takes_instruction(spec: &EmbeddingSpec) -> bool {
    spec.query_prompt().starts_with(INSTRUCT)
}

/// The text before the inputs of a request.
pub(super) fn resolve(spec: &EmbeddingSpec, choice: &PromptChoice) -> Result<String, Error> {
    let text = match choice {
        PromptChoice::None => "",
        PromptChoice::Prefix(text) => text,
        PromptChoice::Query => spec.query_prompt(),
        PromptChoice::Document => spec.document_prompt(),
        PromptChoice::Default => match &spec.default_prompt {
            Some(name) => named(spec, name)?,
            None => spec.document_prompt(),
        },
        PromptChoice::Named(name) => named(spec, name)?,
        PromptChoice::Instruction(task) if takes_instruction(spec) => {
            return Ok(format!("{INSTRUCT}{task}\nQuery:"));
        }
        PromptChoice::Instruction(_) => {
            return Err(Error::InvalidInput {
                param: "instruction",
                message: "this model takes no instruction: leave it out, or give the text that goes before inputs as a \
                          prompt"
                    .into(),
            });
        }
    };
    Ok(text.to_owned())
}

fn named<'a>(spec: &'a EmbeddingSpec, name: &str) -> Result<&'a str, Error> {
    spec.prompts.get(name).map(String::as_str).ok_or_else(|| {
        let known: Vec<&str> = spec.prompts.keys().map(String::as_str).collect();
        let known = if known.is_empty() {
            "it has none".into()
        } else {
            format!("expected {}", known.join(", "))
        };
        Error::InvalidInput {
            param: "prompt_name",
            message: format!("the model has no prompt {name:?}: {known}"),
        }
    })
}
