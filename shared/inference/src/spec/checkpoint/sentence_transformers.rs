//! What sentence-transformers keeps beside a checkpoint: modules.json, the pooling's configuration, prompts.

use std::collections::BTreeMap;

use defrost_engine::Head;
use defrost_loader::Checkpoint;
use serde::Deserialize;

use super::{optional, required};
use crate::Error;
use crate::spec::Template;

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
}

/// The pooling that sentence-transformers' files ask for; `None` if there are none.
pub(crate) fn pooling(checkpoint: &Checkpoint) -> Result<Option<Head>, Error> {
    let Some(modules) = optional::<Vec<Module>>(checkpoint, "modules.json")? else {
        return Ok(None);
    };
    let known = ["Transformer", "Pooling", "Normalize"];
    let name = |module: &Module| module.kind.rsplit('.').next().unwrap_or_default().to_owned();
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
    if pooling.include_prompt == Some(false) {
        return Err(Error::Model(format!("{file}: include_prompt is false, expected true")));
    }
    let set: Vec<&str> = pooling
        .rest
        .iter()
        .filter(|(_, value)| **value == serde_json::Value::Bool(true))
        .filter_map(|(name, _)| name.strip_prefix("pooling_mode_"))
        .collect();
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

/// The template of this name, with the prompts of sentence-transformers' files where it has any.
pub(crate) fn named_template(checkpoint: &Checkpoint, name: &str) -> Result<Template, Error> {
    match name {
        "pair" => Ok(Template::Pair),
        "mxbai-rerank-v2" => Ok(Template::MxbaiRerankV2),
        "qwen3-reranker" => Ok(Template::Qwen3Reranker),
        "embedding" => {
            let prompts: Prompts =
                optional(checkpoint, "config_sentence_transformers.json")?.unwrap_or_default();
            // Documents go by several names; sentence-transformers tries them in this order.
            let prompt = |names: &[&str]| {
                names
                    .iter()
                    .find_map(|name| prompts.prompts.get(*name).cloned().flatten())
                    .unwrap_or_default()
            };
            Ok(Template::Embedding {
                query_prompt: prompt(&["query"]),
                document_prompt: prompt(&["document", "passage", "corpus"]),
            })
        }
        other => Err(Error::Model(format!(
            "unknown template {other:?}, expected pair, mxbai-rerank-v2, qwen3-reranker or embedding"
        ))),
    }
}
