//! What sentence-transformers keeps beside a checkpoint: modules.json, the pooling's configuration, prompts.

use std::collections::{BTreeMap, BTreeSet};

use defrost_engine::Head;
use defrost_loader::Checkpoint;
use serde::Deserialize;

use super::{optional, required};
use crate::Error;
use crate::spec::Template;
use crate::spec::embedding::{EmbeddingSpec, MOST_PROMPTS, Matryoshka};

#[derive(Debug, Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pooling {
    include_prompt: Option<bool>,
    /// The flags `pooling_mode_*`, of which exactly one is set.
    #[serde(flatten)]
    rest: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Prompts {
    prompts: BTreeMap<String, Option<String>>,
    default_prompt_name: Option<String>,
}

fn modules(checkpoint: &Checkpoint) -> Result<Option<Vec<Module>>, Error> {
    optional(checkpoint, "modules.json")
}

fn name(module: &Module) -> String {
    module.kind.rsplit('.').next().unwrap_or_default().to_owned()
}

fn prompts(checkpoint: &Checkpoint) -> Result<Prompts, Error> {
    Ok(optional(checkpoint, "config_sentence_transformers.json")?.unwrap_or_default())
}

/// The pooling that sentence-transformers' files ask for; `None` if there are none.
pub(crate) fn pooling(checkpoint: &Checkpoint) -> Result<Option<Head>, Error> {
    let Some(modules) = modules(checkpoint)? else {
        return Ok(None);
    };
    let known = ["Transformer", "Pooling", "Normalize"];
    if let Some(other) = modules.iter().map(name).find(|name| !known.contains(&name.as_str())) {
        return Err(Error::Model(format!(
            "modules.json: module {other:?} is not supported, expected {}",
            known.join(", ")
        )));
    }
    let Some(module) = modules.iter().find(|module| name(module) == "Pooling") else {
        return Ok(None);
    };
    let file = format!("{}/config.json", module.path);
    let pooling: Pooling = required(checkpoint, &file)?;
    let set: Vec<&str> = pooling
        .rest
        .iter()
        .filter(|(_, value)| **value == serde_json::Value::Bool(true))
        .filter_map(|(name, _)| name.strip_prefix("pooling_mode_"))
        .collect();
    // A prompt's tokens change a mean only; the first and the last token are what they are.
    if pooling.include_prompt == Some(false) && set == ["mean_tokens"] {
        return Err(Error::Model(format!("{file}: include_prompt is false, expected true")));
    }
    match set.as_slice() {
        ["mean_tokens"] => Ok(Some(Head::MeanPooling)),
        ["cls_token"] => Ok(Some(Head::FirstPooling)),
        ["lasttoken"] => Ok(Some(Head::LastPooling)),
        other => Err(Error::Model(format!(
            "{file}: pooling modes {other:?} are set, expected exactly one of mean_tokens, \
             cls_token, lasttoken"
        ))),
    }
}

/// Prompts and normalisation; without such files there are no prompts, and vectors are normalised, as they are by
/// `FlagEmbedding` and every server.
pub(crate) fn embedding(
    checkpoint: &Checkpoint,
    matryoshka: Matryoshka,
) -> Result<EmbeddingSpec, Error> {
    const FILE: &str = "config_sentence_transformers.json";
    let Prompts { prompts, default_prompt_name } = prompts(checkpoint)?;
    let prompts: BTreeMap<String, String> =
        prompts.into_iter().filter_map(|(name, text)| Some((name, text?))).collect();
    if prompts.len() > MOST_PROMPTS {
        let found = prompts.len();
        return Err(Error::Model(format!(
            "{FILE}: {found} prompts, expected at most {MOST_PROMPTS}"
        )));
    }
    if let Some(name) = default_prompt_name.as_ref().filter(|&name| !prompts.contains_key(name)) {
        return Err(Error::Model(format!(
            "{FILE}: default_prompt_name is {name:?}, which is none of the prompts"
        )));
    }
    let normalizes = modules(checkpoint)?
        .is_none_or(|modules| modules.iter().any(|module| name(module) == "Normalize"));
    Ok(EmbeddingSpec {
        prompts,
        default_prompt: default_prompt_name,
        normalizes,
        matryoshka,
        weightless: BTreeSet::new(),
    })
}

/// The template of this name, with the prompts of sentence-transformers' files where it has any.
pub(crate) fn named_template(checkpoint: &Checkpoint, name: &str) -> Result<Template, Error> {
    match name {
        "pair" => Ok(Template::Pair),
        "mxbai-rerank-v2" => Ok(Template::MxbaiRerankV2),
        "qwen3-reranker" => Ok(Template::Qwen3Reranker),
        "embedding" => {
            let spec = embedding(checkpoint, Matryoshka::No)?;
            Ok(Template::Embedding {
                query_prompt: spec.query_prompt().to_owned(),
                document_prompt: spec.document_prompt().to_owned(),
            })
        }
        other => Err(Error::Model(format!(
            "unknown template {other:?}, expected pair, mxbai-rerank-v2, qwen3-reranker or embedding"
        ))),
    }
}
