//! The inputs of a request: taken from the key of its shape, checked against the limits.

use super::{EmbedBody, EmbedLimits, EmbedShape};
use crate::checks;
use crate::error::Invalid;
use crate::lenient::{EmbedInput, Inputs, Text};

/// Characters that the MLX service lets through for each token of its limit.
pub(crate) const MLX_CHARS_PER_TOKEN: usize = 10;

impl EmbedBody {
    pub(super) fn take_inputs(
        self,
        shape: EmbedShape,
        key: &'static str,
        limits: &EmbedLimits,
    ) -> Result<(Vec<EmbedInput>, bool), Invalid> {
        let mlx_chars = limits.max_text_length.saturating_mul(MLX_CHARS_PER_TOKEN);
        match shape {
            EmbedShape::Mlx => {
                let text = checks::bounded(key, self.text, mlx_chars, "MAX_TEXT_LENGTH")?;
                Ok((vec![EmbedInput::Text(text)], true))
            }
            EmbedShape::MlxBatch => {
                let texts = checks::counted(key, self.texts, limits.max_batch, "MAX_BATCH")?;
                Ok((bounded(key, texts, mlx_chars, "MAX_TEXT_LENGTH")?, false))
            }
            EmbedShape::Baai => {
                let texts = checks::counted(key, self.texts, limits.max_texts, "MAX_TEXTS")?;
                Ok((bounded(key, texts, limits.max_text_chars, "MAX_TEXT_CHARS")?, false))
            }
            _ => {
                let texts = |texts: Vec<Text>| Inputs {
                    items: texts.into_iter().map(|Text(text)| EmbedInput::Text(text)).collect(),
                    single: false,
                };
                let inputs = match key {
                    "input" => self.input,
                    "content" => self.content,
                    "inputs" => self.inputs,
                    _ => self.texts.map(texts),
                };
                let inputs = inputs.ok_or_else(|| {
                    Invalid::new(key, format!("{key} is missing; send what to embed")).unreadable()
                })?;
                check(&inputs, shape, key, limits)?;
                Ok((inputs.items, inputs.single))
            }
        }
    }
}

/// Where the client finds the input at this index.
pub(super) fn param(shape: EmbedShape, key: &str, single: bool, index: usize) -> String {
    match (shape, index) {
        (EmbedShape::TeiSimilarity, 0) => "inputs.source_sentence".to_owned(),
        (EmbedShape::TeiSimilarity, _) => format!("inputs.sentences[{}]", index - 1),
        _ if single => key.to_owned(),
        _ => format!("{key}[{index}]"),
    }
}

fn bounded(
    key: &str,
    texts: Vec<Text>,
    max_chars: usize,
    setting: &str,
) -> Result<Vec<EmbedInput>, Invalid> {
    let input = |(index, text)| {
        checks::bounded(&format!("{key}[{index}]"), Some(text), max_chars, setting)
            .map(EmbedInput::Text)
    };
    texts.into_iter().enumerate().map(input).collect()
}

fn check(
    inputs: &Inputs,
    shape: EmbedShape,
    key: &'static str,
    limits: &EmbedLimits,
) -> Result<(), Invalid> {
    // Of a comparison's inputs the first is no element of the list.
    let (list, found) = match shape {
        EmbedShape::TeiSimilarity => ("inputs.sentences", inputs.items.len().saturating_sub(1)),
        _ => (key, inputs.items.len()),
    };
    if found == 0 {
        return Err(Invalid::empty(
            list,
            format!("{list} cannot be empty: expected at least one input, found an empty list"),
        ));
    }
    if found > limits.max_inputs {
        return Err(Invalid::new(
            list,
            format!(
                "{list}: at most {} inputs are allowed (MAX_INPUTS), found {found}; send several requests",
                limits.max_inputs
            ),
        ));
    }
    if limits.allow_empty_input {
        return Ok(());
    }
    match inputs.items.iter().position(EmbedInput::is_empty) {
        None => Ok(()),
        Some(index) => {
            let param = param(shape, key, inputs.single, index);
            let message = format!(
                "{param} cannot be empty: expected a text or tokens (ALLOW_EMPTY_INPUT lifts this)"
            );
            Err(Invalid::empty(param, message))
        }
    }
}
