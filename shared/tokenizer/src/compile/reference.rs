//! The tokenizer of the `tokenizers` crate that an image is made after.
//!
//! It is put together as the rest of the product puts it together from the same file: without decoder, truncation and
//! padding, and with ids of added tokens that follow from the model and their order.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};
use tokenizers::{
    AddedToken, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    Tokenizer,
};

use super::trie;
use crate::added::{STRIPS_LEFT, STRIPS_RIGHT};
use crate::error::CompileError;
use crate::image::{Section, Writer, model, step};

/// Builds the tokenizer out of a file of which everything is known to be well formed. Takes the file apart.
pub(super) fn build(file: &mut Value, kind: u32) -> Result<Tokenizer, CompileError> {
    let mut fields: Map<String, Value> =
        std::mem::take(file).as_object().cloned().unwrap_or_default();
    let mut take = |key: &str| fields.remove(key).filter(|value| !value.is_null());
    let model = ModelWrapper::deserialize(take("model").unwrap_or_default())?;
    let is_expected = match &model {
        ModelWrapper::BPE(_) => [model::BYTE_PAIR, model::CHARACTER_PAIR].contains(&kind),
        ModelWrapper::Unigram(_) => kind == model::UNIGRAM,
        ModelWrapper::WordPiece(_) => kind == model::WORD_PIECE,
        ModelWrapper::WordLevel(_) => false,
    };
    if !is_expected {
        return Err(CompileError::unsupported("a model whose type is not clear"));
    }
    let mut tokenizer = Tokenizer::new(model);
    if let Some(value) = take("normalizer") {
        tokenizer.with_normalizer(Some(NormalizerWrapper::deserialize(value)?)).map_err(refused)?;
    }
    if let Some(value) = take("pre_tokenizer") {
        tokenizer.with_pre_tokenizer(Some(PreTokenizerWrapper::deserialize(value)?));
    }
    if let Some(value) = take("post_processor") {
        tokenizer.with_post_processor(Some(PostProcessorWrapper::deserialize(value)?));
    }
    let added =
        Vec::<AddedToken>::deserialize(take("added_tokens").unwrap_or(Value::Array(Vec::new())))?;
    tokenizer.add_tokens(added).map_err(refused)?;
    Ok(tokenizer)
}

#[allow(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
pub(super) fn refused(error: tokenizers::Error) -> CompileError {
    CompileError::Refused(error.to_string())
}

/// Compiles the added tokens and the largest id; gives the texts of the tokens.
pub(super) fn added(
    reference: &Tokenizer,
    writer: &mut Writer,
) -> Result<Vec<String>, CompileError> {
    let tokens: BTreeMap<u32, AddedToken> =
        reference.get_added_tokens_decoder().into_iter().collect();
    let strips_right = tokens.values().any(|token| token.rstrip);
    let normalizes = writer.settings.steps[0] != step::NONE;
    let mut keys = BTreeMap::new();
    let mut records = Vec::new();
    for (index, (&id, token)) in (0u32..).zip(&tokens) {
        let starts_blank = token.content.starts_with(char::is_whitespace);
        let is_late =
            token.normalized && (normalizes || !may_be_found_early(token, tokens.values()));
        if is_late || token.single_word || strips_right && starts_blank {
            return Err(CompileError::unsupported(format!("the added token {:?}", token.content)));
        }
        let key = token.content.as_bytes().to_vec();
        if let Some(&head) = key.first() {
            writer.settings.added_heads[usize::from(head / 8)] |= 1 << (head % 8);
        }
        if keys.insert(key, index).is_some() {
            return Err(CompileError::unsupported("an added token that is there twice"));
        }
        let left = if token.lstrip { STRIPS_LEFT } else { 0 };
        let right = if token.rstrip { STRIPS_RIGHT } else { 0 };
        records.extend([id, left | right].into_iter().flat_map(u32::to_le_bytes));
    }
    writer.settings.largest_id = reference.get_vocab(true).into_values().max().unwrap_or(0);
    writer.set(Section::AddedTrie, trie::build(&keys)?);
    writer.set(Section::Added, records);
    Ok(tokens.into_values().map(|token| token.content).collect())
}

/// Whether a token that the crate looks for in normalized text, between the other tokens, is found just there when all
/// are looked for at once, where there is no normalizer: it shares no byte with one of the others, nor white space that
/// one of the two strips.
fn may_be_found_early<'a>(
    token: &AddedToken,
    mut all: impl Iterator<Item = &'a AddedToken>,
) -> bool {
    let text = token.content.as_str();
    let is_bare = !token.lstrip && !token.rstrip && text.trim() == text;
    is_bare && !all.any(|other| !other.normalized && may_overlap(text, &other.content))
}

/// Whether there is a text in which two tokens share bytes.
fn may_overlap(one: &str, other: &str) -> bool {
    let meets = |left: &str, right: &str| {
        left.char_indices().any(|(at, _)| {
            let rest = &left[at..];
            rest.starts_with(right) || right.starts_with(rest)
        })
    };
    meets(one, other) || meets(other, one)
}

#[cfg(test)]
mod tests {
    use super::may_overlap;

    #[test]
    fn tokens_overlap_in_whole_and_in_part() {
        for (one, other, expected) in [
            ("<s>", "<mask>", false),
            ("<s>", "</s>", false),
            ("<s>", "<s>x", true),
            ("<s>", "x<s>y", true),
            ("ab", "bc", true),
            ("a\u{e9}", "\u{e9}b", true),
            ("a", "", true),
        ] {
            assert_eq!(may_overlap(one, other), expected, "{one:?} {other:?}");
            assert_eq!(may_overlap(other, one), expected, "{other:?} {one:?}");
        }
    }
}
