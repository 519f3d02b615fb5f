//! Reads a [`ModelSpec`] from the files of a Hugging Face checkpoint: config.json, and for embedding
//! models the files of sentence-transformers (modules.json, `1_Pooling`, prompts).
//!
//! What would change results and is not implemented (another activation, sliding windows, scaled
//! rotary frequencies, several labels) is refused here, at pack time.

mod matryoshka;
mod sentence_transformers;
mod token_heads;

use std::collections::BTreeSet;

use defrost_engine::plan::{Group, Naming};
use defrost_engine::{Family, Head, ModelConfig, TokenHeads};
use defrost_loader::Checkpoint;
use serde::Deserialize;

pub(crate) use matryoshka::RawMatryoshka;
pub(crate) use sentence_transformers::{embedding, named_template, pooling};
pub(crate) use token_heads::with_token_heads;

use super::{Matryoshka, ModelSpec, Template};
use crate::Error;
use crate::prompt::Prompt;
use crate::tokenizer::TextTokenizer;

/// Default length of cross-encoder pairs: what `FlagEmbedding` and sentence-transformers use.
const PAIR_MAX_LENGTH: usize = 512;
/// Default length of prompts of the Qwen rerankers and embedders, from their model cards.
const PROMPT_MAX_LENGTH: usize = 8192;

/// The fields of config.json that matter; null is as good as absent.
#[derive(Debug, Deserialize)]
struct RawConfig {
    model_type: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    hidden_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    intermediate_size: Option<usize>,
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    type_vocab_size: Option<usize>,
    layer_norm_eps: Option<f32>,
    rms_norm_eps: Option<f32>,
    rope_theta: Option<f32>,
    rope_parameters: Option<RopeParameters>,
    rope_scaling: Option<serde_json::Value>,
    use_sliding_window: Option<bool>,
    position_embedding_type: Option<String>,
    hidden_act: Option<String>,
    attention_bias: Option<bool>,
    is_decoder: Option<bool>,
    pad_token_id: Option<u32>,
    #[serde(flatten)]
    matryoshka: RawMatryoshka,
}

#[derive(Debug, Deserialize)]
struct RopeParameters {
    rope_theta: Option<f32>,
    rope_type: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lengths {
    max_seq_length: Option<usize>,
}

/// What the user may decide over what the files say.
#[derive(Debug, Clone, Default)]
pub struct SpecOptions {
    /// Name shown to clients; required, because directories do not know their model's name.
    pub name: String,
    /// `pair`, `mxbai-rerank-v2`, `qwen3-reranker` or `embedding`, where the files leave it open.
    pub template: Option<String>,
    /// Default length instead of the model's own.
    pub max_length: Option<usize>,
    /// To what embeddings may be cut, instead of what the files or the name say.
    pub matryoshka: Option<Matryoshka>,
}

/// A checkpoint's specification and the names its tensors go by.
#[derive(Debug)]
pub(crate) struct FromCheckpoint {
    /// As yet without a stored prefix.
    pub(crate) spec: ModelSpec,
    /// What that may be.
    pub(crate) beginning: Vec<u32>,
    pub(crate) naming: Naming,
    /// The bytes of tokenizer.json.
    pub(crate) tokenizer: Vec<u8>,
}

/// Reads everything; refuses what this version would compute wrongly.
pub(crate) fn read(
    checkpoint: &Checkpoint,
    options: &SpecOptions,
) -> Result<FromCheckpoint, Error> {
    let raw: RawConfig = required(checkpoint, "config.json")?;
    let tokenizer = checkpoint.file("tokenizer.json")?.ok_or_else(|| {
        Error::Model("the checkpoint has no tokenizer.json (the fast tokenizer's file); save it with `AutoTokenizer.from_pretrained(...).save_pretrained(...)`".into())
    })?;
    let text_tokenizer = TextTokenizer::from_json(&tokenizer)?;
    let model_type = raw.model_type.clone().unwrap_or_default();
    let family = Family::by_name(&model_type).ok_or_else(|| {
        let known: Vec<&str> = Family::ALL.iter().map(|family| family.name()).collect();
        Error::Model(format!(
            "config.json: model_type is {model_type:?}, expected one of {}",
            known.join(", ")
        ))
    })?;
    check_variants(&raw, family)?;
    let pooling = pooling(checkpoint)?;
    let template = template(checkpoint, &raw, family, pooling, options)?;
    let prefix = prefix(checkpoint, family)?;
    let head = head(&template, pooling, family);
    let mut config = dimensions(&raw, family, head)?;
    if head.is_pooling() {
        config.token_heads = token_heads::token_heads(checkpoint, config.hidden)?;
    }
    config.validate()?;
    check_labels(checkpoint, family, head)?;
    let no_yes = match template.no_yes() {
        None => [0, 0],
        Some(words) => [
            text_tokenizer.single_token(words[0])? as usize,
            text_tokenizer.single_token(words[1])? as usize,
        ],
    };
    if no_yes.iter().any(|&id| id >= config.vocab) {
        return Err(Error::Model(format!(
            "the tokenizer's answer tokens {no_yes:?} lie outside of the {} words of config.json",
            config.vocab
        )));
    }
    let largest = text_tokenizer.largest_id() as usize;
    if largest >= config.vocab {
        return Err(Error::Model(format!(
            "tokenizer.json gives ids up to {largest}, config.json has {} words: the files belong \
             to different models",
            config.vocab
        )));
    }
    let lm_head = if checkpoint.get("lm_head.weight").is_some() {
        "lm_head.weight".to_owned()
    } else {
        format!("{prefix}embed_tokens.weight")
    };
    let max_length = max_length(checkpoint, config.max_positions, &template, options)?;
    let mut spec = match &template {
        Template::Embedding { .. } => Some(embedding(checkpoint, raw.matryoshka.decide(options))?),
        _ => None,
    };
    if let Some(spec) = spec.as_mut().filter(|_| config.token_heads.sparse) {
        spec.weightless = token_heads::weightless(&config, &text_tokenizer, &tokenizer)?;
    }
    // What no start would accept is refused here already.
    let prompt = Prompt::new(text_tokenizer, &template, max_length, config.max_positions)?;
    let beginning = if config.shares_prefixes() { prompt.beginning()? } else { Vec::new() };
    let spec = ModelSpec {
        name: options.name.clone(),
        estimated_max: estimated_max(config.hidden),
        config,
        stored_prefix: Vec::new(),
        template,
        max_length,
        embedding: spec,
    };
    Ok(FromCheckpoint { spec, beginning, naming: Naming { prefix, lm_head, no_yes }, tokenizer })
}

pub(crate) fn optional<T: for<'de> Deserialize<'de>>(
    checkpoint: &Checkpoint,
    name: &str,
) -> Result<Option<T>, Error> {
    checkpoint
        .file(name)?
        .map(|bytes| {
            serde_json::from_slice(&bytes).map_err(|err| Error::Model(format!("{name}: {err}")))
        })
        .transpose()
}

pub(crate) fn required<T: for<'de> Deserialize<'de>>(
    checkpoint: &Checkpoint,
    name: &str,
) -> Result<T, Error> {
    optional(checkpoint, name)?.ok_or_else(|| Error::Model(format!("the checkpoint has no {name}")))
}

fn refuse(field: &str, found: &str, expected: &str) -> Error {
    Error::Model(format!("config.json: {field} is {found}, expected {expected}"))
}

fn check_variants(raw: &RawConfig, family: Family) -> Result<(), Error> {
    let expected = if family.is_causal() { "silu" } else { "gelu" };
    if let Some(found) = raw.hidden_act.as_deref().filter(|&act| act != expected) {
        return Err(refuse("hidden_act", found, expected));
    }
    if let Some(found) = raw.position_embedding_type.as_deref().filter(|&kind| kind != "absolute") {
        return Err(refuse("position_embedding_type", found, "absolute"));
    }
    for (field, set) in [
        ("use_sliding_window", raw.use_sliding_window),
        ("is_decoder", raw.is_decoder),
        ("attention_bias", raw.attention_bias.filter(|_| family == Family::Qwen3)),
    ] {
        if set == Some(true) {
            return Err(refuse(field, "true", "false"));
        }
    }
    let scaled = raw.rope_scaling.as_ref().is_some_and(|scaling| {
        !scaling.is_null() && scaling.get("rope_type").is_none_or(|kind| kind != "default")
    });
    let kind = raw.rope_parameters.as_ref().and_then(|rope| rope.rope_type.as_deref());
    if scaled || kind.is_some_and(|kind| kind != "default") {
        return Err(refuse("rope_scaling", "set", "unscaled rotary frequencies"));
    }
    Ok(())
}

fn dimensions(raw: &RawConfig, family: Family, head: Head) -> Result<ModelConfig, Error> {
    let need = |name: &str, value: Option<usize>| {
        value.ok_or_else(|| Error::Model(format!("config.json has no {name}")))
    };
    let hidden = need("hidden_size", raw.hidden_size)?;
    let heads = need("num_attention_heads", raw.num_attention_heads)?;
    let table = need("max_position_embeddings", raw.max_position_embeddings)?;
    let pad_id = raw.pad_token_id.unwrap_or_else(|| u32::from(family == Family::XlmRoberta));
    let reserved = if family == Family::XlmRoberta { pad_id as usize + 1 } else { 0 };
    let rope = raw.rope_parameters.as_ref().and_then(|rope| rope.rope_theta).or(raw.rope_theta);
    Ok(ModelConfig {
        family,
        head,
        token_heads: TokenHeads::default(),
        hidden,
        layers: need("num_hidden_layers", raw.num_hidden_layers)?,
        heads,
        kv_heads: if family.is_causal() { raw.num_key_value_heads.unwrap_or(heads) } else { heads },
        head_dim: raw.head_dim.unwrap_or_else(|| hidden / heads.max(1)),
        intermediate: need("intermediate_size", raw.intermediate_size)?,
        vocab: need("vocab_size", raw.vocab_size)?,
        max_positions: table.checked_sub(reserved).ok_or_else(|| {
            refuse("max_position_embeddings", &table.to_string(), "more than the reserved ones")
        })?,
        type_vocab: if family.is_causal() { 0 } else { raw.type_vocab_size.unwrap_or(2) },
        norm_eps: if family.is_causal() {
            raw.rms_norm_eps.unwrap_or(1e-6)
        } else {
            raw.layer_norm_eps.unwrap_or(1e-12)
        },
        rope_theta: rope.unwrap_or(10_000.0),
        pad_id,
        stored_prefix: 0,
    })
}

fn template(
    checkpoint: &Checkpoint,
    raw: &RawConfig,
    family: Family,
    pooling: Option<Head>,
    options: &SpecOptions,
) -> Result<Template, Error> {
    let classifies =
        raw.architectures.iter().flatten().any(|name| name.ends_with("ForSequenceClassification"));
    let name = match &options.template {
        Some(name) => name.as_str(),
        None if pooling.is_some() => "embedding",
        None if classifies && !family.is_causal() => "pair",
        None => match family {
            Family::Bert | Family::XlmRoberta => "embedding",
            Family::Qwen2 => "mxbai-rerank-v2",
            Family::Qwen3 => "qwen3-reranker",
        },
    };
    let template = named_template(checkpoint, name)?;
    let fits = match template {
        Template::Pair => !family.is_causal(),
        Template::MxbaiRerankV2 | Template::Qwen3Reranker => family.is_causal(),
        Template::Embedding { .. } => true,
    };
    if !fits {
        return Err(Error::Model(format!(
            "template {} does not fit a {} model",
            template.name(),
            family.name()
        )));
    }
    Ok(template)
}

fn head(template: &Template, pooling: Option<Head>, family: Family) -> Head {
    match template {
        Template::Pair => Head::Classifier,
        Template::MxbaiRerankV2 | Template::Qwen3Reranker => Head::YesNo,
        Template::Embedding { .. } => pooling.unwrap_or_else(|| {
            if family.is_causal() { Head::LastPooling } else { Head::MeanPooling }
        }),
    }
}

/// The prefix under which the transformer's tensors are stored.
fn prefix(checkpoint: &Checkpoint, family: Family) -> Result<String, Error> {
    let (probe, prefixes): (&str, &[&str]) = if family.is_causal() {
        ("embed_tokens.weight", &["model.", ""])
    } else {
        ("embeddings.word_embeddings.weight", &["", "bert.", "roberta.", "0.auto_model."])
    };
    prefixes
        .iter()
        .find(|prefix| checkpoint.get(&format!("{prefix}{probe}")).is_some())
        .map(|prefix| (*prefix).to_owned())
        .ok_or_else(|| {
            Error::Model(format!(
                "the checkpoint has no tensor {probe:?}, with none of the prefixes {prefixes:?}"
            ))
        })
}

/// Tensors that checkpoints carry beside the model that is run: buffers that are computed, poolers
/// and language-model heads that this head does not read.
const UNUSED: [&str; 4] =
    ["position_ids", "rotary_emb.inv_freq", "pooler.dense.weight", "pooler.dense.bias"];

/// Refuses tensors that nothing reads: a model with them computes something else than this one.
pub(crate) fn check_all_read(checkpoint: &Checkpoint, groups: &[Group]) -> Result<(), Error> {
    let read: BTreeSet<&str> = groups
        .iter()
        .flat_map(|group| &group.parts)
        .flat_map(|part| &part.sources)
        .map(String::as_str)
        .collect();
    let ignored = |name: &str| {
        name.starts_with("cls.")
            || name.starts_with("lm_head.")
            || UNUSED.iter().any(|end| name.ends_with(end))
    };
    match checkpoint.names().find(|name| !read.contains(name) && !ignored(name)) {
        None => Ok(()),
        Some(name) => Err(Error::Model(format!(
            "the checkpoint has a tensor {name:?} that this version does not use: the model \
             differs from what its config.json says, or is not supported"
        ))),
    }
}

fn check_labels(checkpoint: &Checkpoint, family: Family, head: Head) -> Result<(), Error> {
    let name = match family {
        Family::Bert => "classifier.weight",
        _ => "classifier.out_proj.weight",
    };
    if head != Head::Classifier {
        return Ok(());
    }
    match checkpoint.get(name).map(|tensor| tensor.shape) {
        Some(shape) if shape.first() == Some(&1) => Ok(()),
        Some(shape) => Err(Error::Model(format!(
            "{name} has shape {shape:?}: expected one label, as rerankers have"
        ))),
        None => Err(Error::Model(format!("the checkpoint has no tensor {name:?}"))),
    }
}

/// The constants of `mxbai_rerank`: 9.0 for base-v2 (hidden size 896), 12.0 for all others.
pub(crate) fn estimated_max(hidden: usize) -> f32 {
    if hidden == 896 { 9.0 } else { 12.0 }
}

/// The length that the model's own files or package ask for, and no more than it has positions.
pub(crate) fn max_length(
    checkpoint: &Checkpoint,
    max_positions: usize,
    template: &Template,
    options: &SpecOptions,
) -> Result<usize, Error> {
    let own = match template {
        Template::Pair => PAIR_MAX_LENGTH,
        Template::MxbaiRerankV2 | Template::Qwen3Reranker => PROMPT_MAX_LENGTH,
        Template::Embedding { .. } => {
            let lengths: Lengths =
                optional(checkpoint, "sentence_bert_config.json")?.unwrap_or_default();
            lengths.max_seq_length.unwrap_or(PROMPT_MAX_LENGTH)
        }
    };
    Ok(options.max_length.unwrap_or(own).min(max_positions).max(1))
}
