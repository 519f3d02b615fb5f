//! Reads tokenizer.json, which may come from anywhere.
//!
//! The `tokenizers` crate panics on some files where it should refuse them: on a decoder that is not well formed, on a
//! `precompiled_charsmap` that is no table, on merges that give no word; a wrong table or template it even accepts,
//! to fail at the first text. A panic ends a function at once, without the line that says what is wrong. So the
//! file is taken apart here: the decoder, which only [`vocabulary`](super::vocabulary) needs, is passed over, tables are
//! checked by [`charsmap`](super::charsmap), merges by [`model`](super::model), templates by
//! [`template`](super::template), and only the rest is left to the crate.

use serde::Deserialize;
use serde_json::Value;
use tokenizers::{
    AddedToken, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, Tokenizer,
};

use super::{charsmap, fault, model, template};
use crate::Error;

/// The only version there is.
const VERSION: &str = "1.0";

#[derive(Deserialize)]
struct File {
    version: Option<String>,
    #[serde(default)]
    added_tokens: Vec<Added>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<Value>,
    model: Value,
}

/// Ids follow from the model and the order, as in the crate itself.
#[derive(Deserialize)]
struct Added {
    #[serde(flatten)]
    token: AddedToken,
}

/// The tokenizer of these bytes, without decoder, truncation and padding.
pub(super) fn read(json: &[u8]) -> Result<Tokenizer, Error> {
    let file: File = serde_json::from_slice(json)
        .map_err(|error| Error::Tokenizer(format!("tokenizer.json: {error}")))?;
    if let Some(found) = file.version.filter(|version| version != VERSION) {
        return Err(Error::Tokenizer(format!(
            "tokenizer.json has version {found:?}, expected {VERSION:?}"
        )));
    }
    let mut tokenizer = Tokenizer::new(model::read(file.model)?);
    if let Some(normalizer) = file.normalizer {
        charsmap::check_all(&normalizer)?;
        let normalizer: NormalizerWrapper = serde_json::from_value(normalizer)
            .map_err(|error| Error::Tokenizer(format!("tokenizer.json: normalizer: {error}")))?;
        tokenizer.with_normalizer(Some(normalizer)).map_err(fault)?;
    }
    tokenizer.with_pre_tokenizer(file.pre_tokenizer);
    if let Some(processor) = file.post_processor {
        template::check_all(&processor)?;
        let processor: PostProcessorWrapper =
            serde_json::from_value(processor).map_err(|error| {
                Error::Tokenizer(format!("tokenizer.json: post_processor: {error}"))
            })?;
        tokenizer.with_post_processor(Some(processor));
    }
    tokenizer.add_tokens(file.added_tokens.into_iter().map(|added| added.token)).map_err(fault)?;
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use defrost_testing::golden::{self, EMBEDDING_MODELS, PAIR_MODELS};

    use super::*;

    const TEXT: &str =
        "Where do plants get their food? ﬁne ½ ① 中文字符 e\u{301} <s> [MASK] <|im_end|>\n\t😀";

    /// The golden tokenizers and, where they lie beside this checkout, the real ones.
    #[test]
    fn every_tokenizer_is_the_one_the_crate_reads() {
        let golden = PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS).map(golden::checkpoint);
        let real = ["bert-base-uncased", "qwen2.5", "qwen3", "qwen3-embedding", "xlm-roberta"]
            .map(|name| golden::repository("../shared/data/tokenizers").join(name));
        for dir in golden.chain(real) {
            let Ok(json) = std::fs::read(dir.join("tokenizer.json")) else {
                println!("not run: {} is not beside this checkout", dir.display());
                continue;
            };
            let (ours, theirs) = (read(&json).unwrap(), Tokenizer::from_bytes(&json).unwrap());
            assert_eq!(ours.get_vocab(true), theirs.get_vocab(true));
            for pair in [(TEXT, "food"), ("", TEXT)] {
                let (a, b) = (ours.encode(pair, true).unwrap(), theirs.encode(pair, true).unwrap());
                assert_eq!(a.get_ids(), b.get_ids(), "{}", dir.display());
                assert_eq!(a.get_type_ids(), b.get_type_ids());
            }
        }
    }
}
