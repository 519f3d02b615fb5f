//! Where a checkpoint keeps its parts, and what its tensors are called, brought to one form.
//!
//! Most checkpoints are a folder of files, but older ones of sentence-transformers keep the transformer in a folder of its
//! own (`0_Transformer`), modules after the pooling always are in theirs (`2_Dense`), and BGE-M3's heads are in two more
//! files. Names of tensors carry what was wrapped around the model when it was saved:
//!
//! | in the name                                      | from                                          |
//! |--------------------------------------------------|-----------------------------------------------|
//! | `_orig_mod.`                                     | `torch.compile`, of the model or of each layer |
//! | `module.`                                        | `DataParallel`, DDP                            |
//! | `_fsdp_wrapped_module.`, `_checkpoint_wrapped_module.` | FSDP, activation checkpointing           |
//! | `0.auto_model.`, `auto_model.`, `0.model.`       | sentence-transformers                          |
//! | `model.` before all else                         | a class of one's own around the model          |
//! | `LayerNorm.gamma`, `LayerNorm.beta`              | TensorFlow's names in BERT's first checkpoints |
//!
//! Adapters (`LoRA`) are not merged here: a checkpoint with one beside it, or made of one alone, is refused.

use std::borrow::Cow;
use std::path::Path;

use defrost_model::Family;
use defrost_model::parts::dense_source;
use serde_json::Value;

use super::modules::Modules;
use super::{optional_beside_weights, token_heads};
use crate::Error;
use crate::formats::Checkpoint;
use crate::gguf;

/// Files of an adapter, the first of which says what it belongs to.
const ADAPTERS: [&str; 4] = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "pytorch_adapter.bin",
];

/// Parts of the names of an adapter's tensors among others.
const ADAPTER_TENSORS: [&str; 5] =
    [".lora_A", ".lora_B", ".lora_embedding_", ".base_layer.", ".lora_magnitude_vector"];

/// What wraps layers or a model, anywhere in a name.
const INNER_WRAPPERS: [&str; 3] =
    ["_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."];

/// What wraps a model, before all else. Of decoders `model.` is the body's own name.
const WRAPPERS: [&str; 4] = ["module.", "0.auto_model.", "auto_model.", "0.model."];

/// Opens the checkpoint in a folder, wherever in it the weights are, or a GGUF file.
///
/// # Errors
/// As [`Checkpoint::open`]; if a GGUF file has what this version does not know; and if the folder holds an adapter, alone or beside a model, which would be left out.
pub fn open_checkpoint(dir: &Path) -> Result<Checkpoint, Error> {
    if let Some(file) = gguf::find(dir)? {
        return gguf::open(&file);
    }
    let files = Checkpoint::without_weights(dir);
    refuse_adapters(dir)?;
    let folder = Modules::read(&files)?.map(|modules| modules.transformer).unwrap_or_default();
    if !folder.is_empty() {
        // A folder that leads elsewhere is refused by the code that opens it.
        refuse_adapters(&dir.join(&folder))?;
    }
    Ok(Checkpoint::open_in(dir, &folder)?)
}

/// Refuses a folder with an adapter in it.
pub(crate) fn refuse_adapters(dir: &Path) -> Result<(), Error> {
    let Some(found) = ADAPTERS.iter().find(|name| dir.join(name).is_file()) else {
        return Ok(());
    };
    let config = Checkpoint::without_weights(dir).file(ADAPTERS[0])?;
    let config: Value =
        config.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let text = |key: &str| config[key].as_str().map(str::to_owned);
    let kind = text("peft_type").unwrap_or_else(|| "LoRA or the like".to_owned());
    let base = text("base_model_name_or_path").unwrap_or_else(|| "BASE".to_owned());
    Err(Error::Model(format!(
        "{} is an adapter ({kind}) of {base}, which this version does not merge: expected a whole model. {}",
        dir.join(found).display(),
        how_to_merge(&base)
    )))
}

fn how_to_merge(base: &str) -> String {
    format!(
        "Merge it first: `PeftModel.from_pretrained(AutoModel.from_pretrained({base:?}), \
         DIR).merge_and_unload().save_pretrained(OUT)` (AutoModelForCausalLM or AutoModelForSequenceClassification for \
         rerankers), copy the other files of the base to OUT and pack OUT; or remove the adapter's files to pack the base \
         without it"
    )
}

/// The checkpoint with all its tensors, under the names that [`defrost_engine::plan`] knows.
pub(crate) fn prepare(checkpoint: &Checkpoint) -> Result<Cow<'_, Checkpoint>, Error> {
    let is_gguf = checkpoint.is_gguf();
    if !is_gguf {
        refuse_adapters(checkpoint.dir())?;
    }
    if let Some(name) =
        checkpoint.names().find(|name| ADAPTER_TENSORS.iter().any(|part| name.contains(part)))
    {
        return Err(Error::Model(format!(
            "tensor {name:?} belongs to an adapter (LoRA) that is not merged with the weights it changes: expected a \
             whole model. {}",
            how_to_merge("BASE")
        )));
    }
    let mut all = renamed(checkpoint)?;
    if let Some(modules) = Modules::read(checkpoint)? {
        for (at, module) in modules.dense.iter().enumerate() {
            all = Cow::Owned(with_dense(&all, &module.path, at)?);
        }
    }
    // GGUF files have norms as they are multiplied.
    let offset = if is_gguf { 0.0 } else { norm_offset(checkpoint)? };
    Ok(Cow::Owned(token_heads::with_token_heads(&all)?.into_owned().with_norm_offset(offset)))
}

/// What the family's norms are stored less by.
fn norm_offset(checkpoint: &Checkpoint) -> Result<f32, Error> {
    let config: Option<Value> = optional_beside_weights(checkpoint, "config.json")?;
    let family = config.as_ref().and_then(|config| config["model_type"].as_str());
    Ok(family.and_then(Family::by_name).map_or(0.0, |family| family.files.norm_offset))
}

/// The checkpoint with the tensors of one dense module, the `at`th, which lies in the folder `path`.
fn with_dense(checkpoint: &Checkpoint, path: &str, at: usize) -> Result<Checkpoint, Error> {
    let source = dense_source(at);
    let prefix = source.strip_suffix("linear").unwrap_or(&source);
    for file in ["model.safetensors", "pytorch_model.bin"] {
        let name = if path.is_empty() { file.to_owned() } else { format!("{path}/{file}") };
        if let Some(with) = checkpoint.with_file(&name, prefix)? {
            return Ok(with);
        }
    }
    Err(Error::Model(format!(
        "{path} has no weights: expected {path}/model.safetensors or {path}/pytorch_model.bin of the module Dense that \
         modules.json names; get the whole checkpoint"
    )))
}

fn renamed(checkpoint: &Checkpoint) -> Result<Cow<'_, Checkpoint>, Error> {
    let config: Option<Value> = optional_beside_weights(checkpoint, "config.json")?;
    let family = config.as_ref().and_then(|config| config["model_type"].as_str());
    let is_decoder = family.and_then(Family::by_name).is_some_and(|family| family.blueprint.causal);
    let bare = |name: &str| unwrapped(name, is_decoder);
    // A class around a causal model, whose body is `model.` by itself.
    let nested =
        is_decoder && checkpoint.names().any(|name| bare(name).starts_with("model.model."));
    let rename = |name: &str| {
        let name = bare(name);
        match name.strip_prefix("model.") {
            Some(rest) if nested => rest.to_owned(),
            _ => name,
        }
    };
    if checkpoint.names().all(|name| rename(name) == name) {
        return Ok(Cow::Borrowed(checkpoint));
    }
    Ok(Cow::Owned(checkpoint.renamed(rename)?))
}

/// A tensor's name without what was around the model, in today's spelling.
fn unwrapped(name: &str, is_decoder: bool) -> String {
    let mut name = name.to_owned();
    for wrapper in INNER_WRAPPERS {
        name = name.replace(wrapper, "");
    }
    let encoder_only = if is_decoder { &[][..] } else { &["model."] };
    let wrappers = || WRAPPERS.iter().chain(encoder_only);
    while let Some(rest) = wrappers().find_map(|wrapper| name.strip_prefix(wrapper)) {
        // Of a decoder in sentence-transformers `model.` may be either; the body's own stays.
        name = rest.to_owned();
    }
    for (old, new) in
        [("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")]
    {
        if let Some(before) = name.strip_suffix(old) {
            name = format!("{before}{new}");
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_was_around_the_model() {
        for (name, encoder, decoder) in [
            ("_orig_mod.embeddings.x", "embeddings.x", "embeddings.x"),
            ("module._orig_mod.bert.x", "bert.x", "bert.x"),
            ("encoder.layer.0._orig_mod.x", "encoder.layer.0.x", "encoder.layer.0.x"),
            ("module.module.x", "x", "x"),
            ("auto_model.x", "x", "x"),
            ("0.auto_model.x", "x", "x"),
            ("0.model.layers.0.x", "layers.0.x", "layers.0.x"),
            ("model.bert.x", "bert.x", "model.bert.x"),
            ("model.layers.0.x", "layers.0.x", "model.layers.0.x"),
            ("a.LayerNorm.gamma", "a.LayerNorm.weight", "a.LayerNorm.weight"),
            ("a.LayerNorm.beta", "a.LayerNorm.bias", "a.LayerNorm.bias"),
            ("a.gamma_module.x", "a.gamma_module.x", "a.gamma_module.x"),
        ] {
            assert_eq!(unwrapped(name, false), encoder, "{name}");
            assert_eq!(unwrapped(name, true), decoder, "{name}");
        }
    }
}
