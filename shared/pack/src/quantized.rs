//! A checkpoint of floats in the blocks that llama.cpp's `llama-quantize` would put it in.
//!
//! Which matrix gets which kind is the rule of [`crate::Quantization`]. What is looked for in a block is the plain scale, without
//! llama.cpp's search for the least error: see `defrost_engine::blocks::quantize`. All blocks are in memory at once, which is as much
//! as the snapshot will have.

use defrost_engine::blocks;
use defrost_model::{BlockKind, Family};
use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde_json::Value;

use crate::Error;
use crate::formats::{Checkpoint, CheckpointDtype, CheckpointTensor, to_f32};
use crate::synth::{Quantization, Role};

/// The checkpoint with its matrices in blocks.
///
/// # Errors
/// If it is no folder of a decoder, or a matrix is none of floats.
pub fn quantized(checkpoint: &Checkpoint, to: Quantization) -> Result<Checkpoint, Error> {
    let refuse = |what: String| Err(Error::Model(what));
    let config = checkpoint.file_beside_weights("config.json")?.unwrap_or_default();
    let config: Value = serde_json::from_slice(&config).unwrap_or_default();
    let name = config["model_type"].as_str().unwrap_or_default();
    let family = Family::by_name(name).filter(|family| family.files.gguf.is_some());
    let Some(family) = family.filter(|_| checkpoint.quantization().is_none()) else {
        return refuse(format!(
            "--precision {} is for folders of decoders in floats: expected int8, bf16 or f32, or the model that a GGUF file \
             was made of",
            to.name
        ));
    };
    let names = &family.files.names;
    let said = config["tie_word_embeddings"].as_bool().unwrap_or(family.files.defaults.tied);
    let tied = said || checkpoint.get("lm_head.weight").is_none();
    let layers = config["num_hidden_layers"].as_u64().and_then(|n| usize::try_from(n).ok());
    let layers = layers.unwrap_or_default();
    let role = |name: &str| {
        let stem = name.strip_suffix(".weight").unwrap_or(name);
        let layer = stem.split('.').find_map(|piece| piece.parse::<usize>().ok());
        match layer {
            Some(layer) if stem.ends_with(names.qkv[2]) || stem.ends_with(names.down) => {
                Role::Fine(layer)
            }
            None if stem == "lm_head" || (tied && stem.ends_with(names.words)) => Role::Head,
            _ => Role::Other,
        }
    };
    let all: Vec<&str> = checkpoint.names().collect();
    let converted = all.into_par_iter().filter_map(|name| {
        let tensor = checkpoint.get(name).filter(|tensor| tensor.shape.len() == 2)?;
        let kind = to.kind(role(name), layers, tensor.shape[1]).blocks()?;
        Some(in_blocks(&tensor, kind).map(|tensor| (name.to_owned(), tensor)))
    });
    let converted = converted.collect::<Result<Vec<_>, Error>>()?;
    Ok(checkpoint.clone().with_blocks(converted, to.name.to_uppercase()))
}

fn in_blocks(tensor: &CheckpointTensor, kind: BlockKind) -> Result<CheckpointTensor, Error> {
    let values = to_f32(tensor)?;
    let bytes = blocks::quantize(kind, &values, tensor.shape[1]);
    let (dtype, shape) = (CheckpointDtype::U8, tensor.shape.clone());
    Ok(CheckpointTensor { dtype, shape, bytes: bytes.into(), blocks: Some(kind) })
}
