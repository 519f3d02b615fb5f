//! What sentence-transformers keeps beside a checkpoint and its modules: prompts, and how long texts may be.

use std::collections::{BTreeMap, BTreeSet};

use defrost_model::Template;
use defrost_model::spec::{EmbeddingSpec, MOST_PROMPTS, Matryoshka};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{self, File};
use super::kind::ModelKind;
use super::modules::Modules;
use super::told::Told;
use super::{optional, optional_beside_weights};
use crate::Error;
use crate::formats::Checkpoint;

const FILE: &str = "config_sentence_transformers.json";

/// What the file calls models that give vectors, and models that score pairs.
const EMBEDDER: &str = "SentenceTransformer";
const RERANKER: &str = "CrossEncoder";

/// Prompts that sentence-transformers looks for when it embeds queries or documents.
const OF_EMBEDDERS: [&str; 4] = ["query", "document", "passage", "corpus"];

/// Names of the file about the transformer, in the order in which sentence-transformers tries them; those after the first
/// are of old versions, one for each family.
const TRANSFORMER: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];

/// Tasks of a transformer whose outputs are read here.
const TASKS: [&str; 3] = ["feature-extraction", "sequence-classification", "text-generation"];

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Prompts {
    #[serde(rename = "prompts")]
    texts: Option<BTreeMap<String, Option<String>>>,
    default_prompt_name: Option<String>,
    similarity_fn_name: Option<String>,
    activation_fn: Option<Value>,
    model_type: Option<String>,
}

/// The transformer as sentence-transformers loads it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TransformerFile {
    pub(crate) max_seq_length: Option<usize>,
    pub(crate) do_lower_case: Option<bool>,
    transformer_task: Option<String>,
    /// The file's own name.
    #[serde(skip)]
    pub(crate) name: &'static str,
}

/// What the file about the transformer says, whatever it is called.
pub(crate) fn transformer(checkpoint: &Checkpoint) -> Result<TransformerFile, Error> {
    for name in TRANSFORMER {
        let Some(keys) = optional_beside_weights::<Map<String, Value>>(checkpoint, name)? else {
            continue;
        };
        // One that says nothing is as good as absent, as there.
        if keys.is_empty() {
            continue;
        }
        keys::check(File::Transformer, name, &keys)?;
        let file: TransformerFile = serde_json::from_value(Value::Object(keys))
            .map_err(|error| Error::Model(format!("{name}: {error}")))?;
        if let Some(task) =
            file.transformer_task.as_ref().filter(|task| !TASKS.contains(&task.as_str()))
        {
            return Err(Error::Model(format!(
                "{name}: transformer_task is {task:?}, which is not supported: expected one of {}",
                TASKS.join(", ")
            )));
        }
        return Ok(TransformerFile { name, ..file });
    }
    Ok(TransformerFile::default())
}

fn prompts(checkpoint: &Checkpoint) -> Result<Prompts, Error> {
    let keys: Map<String, Value> = optional(checkpoint, FILE)?.unwrap_or_default();
    keys::check(File::SentenceTransformers, FILE, &keys)?;
    let read: Prompts = serde_json::from_value(Value::Object(keys))
        .map_err(|error| Error::Model(format!("{FILE}: {error}")))?;
    match read.model_type.as_deref() {
        None | Some(EMBEDDER | RERANKER) => Ok(read),
        Some(other) => Err(Error::Model(format!(
            "{FILE}: model_type is {other:?}, which is not supported: expected {EMBEDDER:?} or {RERANKER:?} or no such key"
        ))),
    }
}

/// What the file says that the model is, if it does.
pub(crate) fn said_kind(checkpoint: &Checkpoint) -> Result<Option<ModelKind>, Error> {
    Ok(prompts(checkpoint)?
        .model_type
        .map(|name| if name == EMBEDDER { ModelKind::Embedder } else { ModelKind::Reranker }))
}

/// The name of a prompt that embedders have, if the file has one and does not say that the model is a reranker.
pub(crate) fn prompts_of_embedder(checkpoint: &Checkpoint) -> Result<Option<String>, Error> {
    let read = prompts(checkpoint)?;
    if read.model_type.as_deref() == Some(RERANKER) {
        return Ok(None);
    }
    let mut names = read.texts.unwrap_or_default().into_keys();
    Ok(names.find(|name| OF_EMBEDDERS.contains(&name.as_str())))
}

/// What files of sentence-transformers say that would change results and that it reads with a modules.json alone, other than
/// the pooling's.
pub(crate) fn unread_without_modules(checkpoint: &Checkpoint) -> Result<Vec<String>, Error> {
    let file = transformer(checkpoint)?;
    let name = file.name;
    let length = file.max_seq_length.map(|_| format!("{name}: max_seq_length"));
    let lower = file.do_lower_case.filter(|&lower| lower);
    let lower = lower.map(|_| format!("{name}: do_lower_case"));
    let prompts = has_prompts(checkpoint)?.then(|| format!("{FILE}: prompts"));
    Ok([length, lower, prompts].into_iter().flatten().collect())
}

/// Whether a text gets anything before it by a prompt of the file.
pub(crate) fn has_prompts(checkpoint: &Checkpoint) -> Result<bool, Error> {
    let texts = prompts(checkpoint)?.texts.unwrap_or_default();
    Ok(texts.into_values().flatten().any(|text| !text.is_empty()))
}

/// Refuses a prompt that every query of a reranker would get: prompts of rerankers are their templates'. Gives the
/// activation that the file names.
pub(crate) fn check_reranker(
    checkpoint: &Checkpoint,
    instruction: Option<&str>,
) -> Result<Option<Value>, Error> {
    let Prompts { texts: prompts, default_prompt_name, activation_fn, .. } = prompts(checkpoint)?;
    let prompts = prompts.unwrap_or_default();
    let default = default_prompt_name.and_then(|name| prompts.get(&name).cloned().flatten());
    match default.filter(|text| !text.is_empty() && Some(text.as_str()) != instruction) {
        None => Ok(activation_fn),
        Some(text) => Err(Error::Model(format!(
            "{FILE}: default_prompt_name puts {text:?} before every query of a reranker, which is not supported: expected \
             null. Take it out in a copy of the folder, and send the text as `instruction` with each request, where the \
             template has one"
        ))),
    }
}

/// Prompts and normalisation; without such files there are no prompts, and vectors are left as they are, which is what
/// sentence-transformers does with a folder that has no modules.json.
pub(crate) fn embedding(
    checkpoint: &Checkpoint,
    modules: Option<&Modules>,
    matryoshka: Matryoshka,
) -> Result<EmbeddingSpec, Error> {
    let Prompts { texts: prompts, default_prompt_name, .. } = prompts(checkpoint)?;
    let prompts: BTreeMap<String, String> =
        prompts.into_iter().flatten().filter_map(|(name, text)| Some((name, text?))).collect();
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
    let normalizes = modules.is_some_and(|modules| modules.normalizes);
    Ok(EmbeddingSpec {
        prompts,
        default_prompt: default_prompt_name,
        normalizes,
        matryoshka,
        weightless: BTreeSet::new(),
    })
}

/// That vectors are not normalised, where no file says whether they are.
pub(crate) fn not_normalized(modules: Option<&Modules>) -> Option<Told> {
    let unsaid = modules.is_none_or(|modules| !modules.listed);
    unsaid.then(|| {
        let from = "no modules.json, without which sentence-transformers does not either; requests may ask for `normalize`";
        Told::new("vectors", "not normalised", from)
    })
}

/// What else there is to know: how vectors are compared, where that is not by their cosine.
pub(crate) fn similarity(checkpoint: &Checkpoint, normalizes: bool) -> Result<Option<Told>, Error> {
    let named = prompts(checkpoint)?.similarity_fn_name;
    let other = named.filter(|name| name != "cosine" && !(name == "dot" && normalizes));
    Ok(other.map(|name| {
        let value = format!("{name}, and cosine where this model is asked for rankings");
        Told::new("similarity", value, format!("{FILE}: similarity_fn_name"))
    }))
}

/// The template of this name, with the prompts of sentence-transformers' files where it has any.
pub(crate) fn named_template(checkpoint: &Checkpoint, name: &str) -> Result<Template, Error> {
    match name {
        "pair" => Ok(Template::Pair),
        "mxbai-rerank-v2" => Ok(Template::MxbaiRerankV2),
        "qwen3-reranker" => Ok(Template::Qwen3Reranker),
        "embedding" => {
            let spec = embedding(checkpoint, None, Matryoshka::No)?;
            Ok(Template::Embedding {
                query_prompt: spec.query_prompt().to_owned(),
                document_prompt: spec.document_prompt().to_owned(),
            })
        }
        "chat" => Ok(Template::Chat),
        other => Err(Error::Model(format!(
            "unknown template {other:?}, expected pair, mxbai-rerank-v2, qwen3-reranker, embedding or chat"
        ))),
    }
}
