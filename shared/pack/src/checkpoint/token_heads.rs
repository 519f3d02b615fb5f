//! The sparse and `ColBERT` heads of BGE-M3, wherever a checkpoint keeps them.
//!
//! The published one has `sparse_linear.pt` and `colbert_linear.pt`, state dicts of a linear layer each, beside the
//! weights. The same as `*.safetensors`, or as tensors `sparse_linear.weight` and so on among the weights, will do. A
//! checkpoint without them packs as a model without them.

use std::borrow::Cow;
use std::collections::BTreeSet;

use defrost_model::{ModelConfig, TokenHeads};
use defrost_tasks::TextTokenizer;
use serde_json::Value;

use crate::Error;
use crate::formats::Checkpoint;

const SPARSE: &str = "sparse_linear";
const COLBERT: &str = "colbert_linear";

/// The checkpoint with the heads' tensors among its own.
pub(crate) fn with_token_heads(checkpoint: &Checkpoint) -> Result<Cow<'_, Checkpoint>, Error> {
    let mut all = Cow::Borrowed(checkpoint);
    for head in [SPARSE, COLBERT] {
        for end in ["safetensors", "pt"] {
            if all.get(&format!("{head}.weight")).is_some() {
                break;
            }
            if let Some(with) = all.with_file(&format!("{head}.{end}"), &format!("{head}."))? {
                all = Cow::Owned(with);
            }
        }
    }
    Ok(all)
}

/// The heads that a checkpoint has, by the shapes of their tensors.
pub(crate) fn token_heads(checkpoint: &Checkpoint, hidden: usize) -> Result<TokenHeads, Error> {
    let width = |head: &str| {
        let Some(weight) = checkpoint.get(&format!("{head}.weight")) else {
            return Ok(0);
        };
        let bias = checkpoint.get(&format!("{head}.bias")).map(|bias| bias.shape);
        match (weight.shape.as_slice(), bias.as_deref()) {
            (&[width, columns], Some(&[len])) if columns == hidden && len == width => Ok(width),
            (shape, bias) => Err(Error::Model(format!(
                "{head} has a weight of shape {shape:?} and a bias of {bias:?}, expected [n, {hidden}] and [n]"
            ))),
        }
    };
    let sparse = width(SPARSE)?;
    if sparse > 1 {
        return Err(Error::Model(format!("{SPARSE} gives {sparse} weights a token, expected 1")));
    }
    Ok(TokenHeads { sparse: sparse == 1, colbert: width(COLBERT)? })
}

/// The tokens that have no weight in sparse vectors: those the tokenizer puts around a text (cls and eos), the one for
/// padding and the one for what is not in the vocabulary. `FlagEmbedding` drops cls, eos, pad and unk by name.
pub(crate) fn weightless(
    config: &ModelConfig,
    tokenizer: &TextTokenizer,
    json: &[u8],
) -> Result<BTreeSet<u32>, Error> {
    let mut ids: BTreeSet<u32> = tokenizer.single(&[])?.ids.into_iter().collect();
    ids.insert(config.pad_id);
    let json: Value = serde_json::from_slice(json)
        .map_err(|error| Error::Tokenizer(format!("tokenizer.json: {error}")))?;
    let model = &json["model"];
    let named = model["unk_token"].as_str().and_then(|token| model["vocab"][token].as_u64());
    let unknown = model["unk_id"].as_u64().or(named);
    ids.extend(unknown.and_then(|id| u32::try_from(id).ok()));
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use defrost_testing::golden;

    use super::*;
    use crate::SpecOptions;
    use crate::checkpoint::read;

    /// The golden tokenizers keep the special tokens where the real ones have them, as the real ones do where they lie
    /// beside this checkout.
    #[test]
    fn weightless_tokens_are_those_that_flag_embedding_drops() {
        for model in ["xlmr-m3", "bert-embedding"] {
            let dir = golden::checkpoint(model);
            let json = std::fs::read(dir.join("tokenizer.json")).unwrap();
            let checkpoint = Checkpoint::open(&dir).unwrap();
            let config = read(&checkpoint, &SpecOptions::default()).unwrap().spec.config;
            let real = golden::repository("../shared/data/tokenizers/xlm-roberta/tokenizer.json");
            let real = std::fs::read(real).ok().filter(|_| model == "xlmr-m3");
            for json in std::iter::once(json).chain(real) {
                let tokenizer = TextTokenizer::from_json(&json).unwrap();
                let found = weightless(&config, &tokenizer, &json).unwrap();
                assert_eq!(found, BTreeSet::from([0, 1, 2, 3]), "{model}");
            }
        }
    }
}
