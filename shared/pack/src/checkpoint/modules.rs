//! modules.json: the steps that sentence-transformers takes from texts to vectors or scores, each with files of its own.
//!
//! ```text
//! Transformer, Pooling, Dense…, Normalize     an embedder; the dense layers and the last step may be missing
//! Transformer, LogitScore                     a reranker that reads two tokens' logits
//! Transformer                                 a cross-encoder, if its task is sequence-classification
//! ```
//!
//! Dropout does nothing but in training. Every other module, every other order and every setting of one that would change
//! vectors is refused by name. Of two modules of one name sentence-transformers keeps the last, in the place of the first;
//! so does this.

use defrost_model::{DenseActivation, DenseLayer, Head};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::keys::{self, File};
use super::sentence_transformers::has_prompts;
use super::{optional, required};
use crate::Error;
use crate::formats::Checkpoint;

const FILE: &str = "modules.json";
/// The beginning of the types of the library's own modules; all others are code of the model's author.
const PACKAGE: &str = "sentence_transformers.";

/// The steps of a checkpoint.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    /// The folder of the transformer, mostly empty: the checkpoint itself.
    pub(crate) transformer: String,
    /// The way in which tokens' vectors become one, and the file that says so.
    pub(crate) pooling: Option<(Head, String)>,
    pub(crate) dense: Vec<DenseModule>,
    pub(crate) normalizes: bool,
    /// Ids of the tokens that answer no and yes.
    pub(crate) logit_score: Option<[usize; 2]>,
    /// The name that two modules share, if any do.
    pub(crate) replaced: Option<String>,
    /// Widths of the model's vectors as the pooling's file has them, and their keys.
    pub(crate) widths: Vec<(String, Value)>,
    /// Whether there is a modules.json, and not the pooling's file alone.
    pub(crate) listed: bool,
}

/// A module `Dense`.
#[derive(Debug)]
pub(crate) struct DenseModule {
    pub(crate) path: String,
    pub(crate) inputs: usize,
    pub(crate) layer: DenseLayer,
}

#[derive(Debug, Clone, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    name: Option<Value>,
    #[serde(default)]
    kwargs: Option<Vec<Value>>,
}

impl Entry {
    /// The class, without the package it is in.
    fn class(&self) -> &str {
        self.kind.rsplit('.').next().unwrap_or_default()
    }

    fn config(
        &self,
        checkpoint: &Checkpoint,
        file: File,
    ) -> Result<(Map<String, Value>, String), Error> {
        let name = if self.path.is_empty() {
            "config.json".to_owned()
        } else {
            format!("{}/config.json", self.path)
        };
        let config: Map<String, Value> = required(checkpoint, &name)?;
        keys::check(file, &name, &config)?;
        Ok((config, name))
    }
}

impl Modules {
    /// What modules.json says, or `1_Pooling/config.json` where there is none; `None` without either.
    pub(crate) fn read(checkpoint: &Checkpoint) -> Result<Option<Self>, Error> {
        let Some(entries) = optional::<Vec<Map<String, Value>>>(checkpoint, FILE)? else {
            return Self::pooling_alone(checkpoint);
        };
        let mut kept: Vec<(Value, Entry)> = Vec::new();
        let mut modules = Self { listed: true, ..Self::default() };
        for (at, entry) in entries.into_iter().enumerate() {
            keys::check(File::Modules, FILE, &entry)?;
            let mut entry: Entry = serde_json::from_value(Value::Object(entry))
                .map_err(|error| Error::Model(format!("{FILE}: module {at}: {error}")))?;
            entry.path = plain(&entry.path);
            let name = entry.name.clone().unwrap_or_else(|| at.into());
            match kept.iter_mut().find(|(known, _)| *known == name) {
                None => kept.push((name, entry)),
                Some(known) => {
                    modules.replaced = Some(format!(
                        "the {} called {name} in place of the {} of that name",
                        entry.class(),
                        known.1.class()
                    ));
                    known.1 = entry;
                }
            }
        }
        for (at, (_, entry)) in kept.iter().enumerate() {
            modules.add(checkpoint, at, entry)?;
        }
        Ok(Some(modules))
    }

    fn pooling_alone(checkpoint: &Checkpoint) -> Result<Option<Self>, Error> {
        const POOLING: &str = "1_Pooling/config.json";
        let Some(config) = optional::<Map<String, Value>>(checkpoint, POOLING)? else {
            return Ok(None);
        };
        keys::check(File::Pooling, POOLING, &config)?;
        let mut alone = Self::default();
        alone.add_pooling(checkpoint, &config, POOLING.to_owned())?;
        Ok(Some(alone))
    }

    fn add_pooling(
        &mut self,
        checkpoint: &Checkpoint,
        config: &Map<String, Value>,
        file: String,
    ) -> Result<(), Error> {
        let head = pooling(config, &file)?;
        check_prompts_count(checkpoint, config, head, &file)?;
        for key in ["embedding_dimension", "word_embedding_dimension"] {
            let width = config.get(key).filter(|width| !width.is_null());
            self.widths.extend(width.map(|width| (format!("{file}: {key}"), width.clone())));
        }
        self.pooling = Some((head, file));
        Ok(())
    }

    fn add(&mut self, checkpoint: &Checkpoint, at: usize, entry: &Entry) -> Result<(), Error> {
        let class = entry.class();
        let refuse =
            |what: &str| Err(Error::Model(format!("{FILE}: module {at}, {class:?}, {what}")));
        if !entry.kind.starts_with(PACKAGE) {
            let kind = &entry.kind;
            return refuse(&format!(
                "is code of its own ({kind:?}): expected modules of sentence_transformers, which this version computes"
            ));
        }
        if entry.kwargs.as_ref().is_some_and(|kwargs| !kwargs.is_empty()) {
            return refuse("takes kwargs of a request, which are not supported: expected none");
        }
        if (at == 0) != (class == "Transformer") {
            return refuse("is out of place: expected Transformer first, and only there");
        }
        if self.logit_score.is_some() {
            return refuse(
                "comes after LogitScore, which gives the score: expected nothing after it",
            );
        }
        match class {
            "Transformer" => self.transformer.clone_from(&entry.path),
            "Pooling" if self.pooling.is_none() => {
                let (config, file) = entry.config(checkpoint, File::Pooling)?;
                self.add_pooling(checkpoint, &config, file)?;
            }
            "Dense" if self.pooling.is_none() => {
                return refuse(
                    "comes before the pooling, which is not supported: expected it after",
                );
            }
            "Dense" if self.normalizes => {
                return refuse(
                    "comes after Normalize: vectors are scaled to length 1 once and last here, so this model's would be \
                     others: expected Dense before Normalize. If it was trained in this order, it cannot be packed",
                );
            }
            "Dense" => {
                let (config, file) = entry.config(checkpoint, File::Dense)?;
                self.dense.push(dense(entry.path.clone(), config, &file)?);
            }
            "Normalize" if self.pooling.is_some() => {
                let file = format!("{}/config.json", entry.path);
                let config =
                    if entry.path.is_empty() { None } else { optional(checkpoint, &file)? };
                keys::check(File::Normalize, &file, &config.unwrap_or_default())?;
                self.normalizes = true;
            }
            "Dropout" => {}
            "LogitScore" if self.pooling.is_none() => {
                let (config, file) = entry.config(checkpoint, File::LogitScore)?;
                self.logit_score = Some(logit_score(config, &file)?);
            }
            _ => {
                return refuse(
                    "is not supported there: expected Transformer, Pooling, Dense, Normalize and Dropout in this order, \
                     or Transformer and LogitScore",
                );
            }
        }
        Ok(())
    }
}

/// The names of a pooling: in configurations from sentence-transformers 5.4 on, in `pooling_mode_*` flags of older ones,
/// and in the engine.
const POOLINGS: [(&str, &str, Head); 6] = [
    ("cls", "cls_token", Head::FirstPooling),
    ("max", "max_tokens", Head::MaxPooling),
    ("mean", "mean_tokens", Head::MeanPooling),
    ("mean_sqrt_len_tokens", "mean_sqrt_len_tokens", Head::SqrtPooling),
    ("weightedmean", "weightedmean_tokens", Head::WeightedPooling),
    ("lasttoken", "lasttoken", Head::LastPooling),
];

/// The pooling of this name, `mean` or `mean_tokens`.
pub(crate) fn pooling_by_name(name: &str) -> Option<Head> {
    let known = POOLINGS.iter().find(|(new, old, _)| *new == name || *old == name);
    known.map(|&(_, _, head)| head)
}

/// The present name of a pooling; empty for other heads.
pub(crate) fn pooling_name(head: Head) -> &'static str {
    POOLINGS.iter().find(|known| known.2 == head).map_or("", |known| known.0)
}

/// The names that [`pooling_by_name`] knows, of the present kind.
pub(crate) fn pooling_names() -> String {
    POOLINGS.map(|(name, _, _)| name).join(", ")
}

/// The one pooling that a configuration asks for.
fn pooling(config: &Map<String, Value>, file: &str) -> Result<Head, Error> {
    let mut flags: Vec<(&str, &Value)> = config
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix("pooling_mode_")?, value)))
        .collect();
    flags.sort_by_key(|(name, _)| *name);
    let set =
        || flags.iter().filter(|(_, value)| **value == Value::Bool(true)).map(|(name, _)| *name);
    let modes: Vec<String> = match config.get("pooling_mode") {
        Some(Value::String(mode)) => vec![mode.to_lowercase()],
        Some(Value::Array(modes)) => modes
            .iter()
            .map(|mode| mode.as_str().map_or_else(|| mode.to_string(), str::to_lowercase))
            .collect(),
        None | Some(Value::Null) if flags.is_empty() => vec!["mean".to_owned()],
        None | Some(Value::Null) => set().map(str::to_owned).collect(),
        Some(other) => vec![other.to_string()],
    };
    let [mode] = modes.as_slice() else {
        return Err(Error::Model(format!(
            "{file}: pooling modes {modes:?} are set, whose vectors would be joined, which is not supported: expected \
             exactly one of {}",
            pooling_names()
        )));
    };
    let head = pooling_by_name(mode).ok_or_else(|| {
        Error::Model(format!(
            "{file}: pooling mode {mode:?} is not known, expected one of {}",
            pooling_names()
        ))
    })?;
    Ok(head)
}

/// Refuses a pooling that leaves the prompt's tokens out, if there is a prompt whose tokens count otherwise. The last token
/// is what it is, with or without the prompt's.
fn check_prompts_count(
    checkpoint: &Checkpoint,
    config: &Map<String, Value>,
    head: Head,
    file: &str,
) -> Result<(), Error> {
    let included = config.get("include_prompt") != Some(&Value::Bool(false));
    if included || head == Head::LastPooling || !has_prompts(checkpoint)? {
        return Ok(());
    }
    Err(Error::Model(format!(
        "{file}: include_prompt is false, which leaves the prompt's tokens out of the {} pooling and is not supported: \
         expected true, or no prompts in config_sentence_transformers.json",
        pooling_name(head)
    )))
}

/// A module's folder as it is joined to the checkpoint's: `./1_Pooling/` is `1_Pooling`. What leads out stays as it is.
fn plain(path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

#[derive(Debug, Deserialize)]
struct RawDense {
    in_features: usize,
    out_features: usize,
    bias: Option<bool>,
    activation_function: Option<String>,
}

fn dense(path: String, config: Map<String, Value>, file: &str) -> Result<DenseModule, Error> {
    if config.get("activation_function") == Some(&Value::Null) {
        return Err(Error::Model(format!(
            "{file}: activation_function is null, which may mean none or the usual one: expected its name, such as \
             torch.nn.modules.linear.Identity or torch.nn.modules.activation.Tanh"
        )));
    }
    let raw: RawDense = serde_json::from_value(Value::Object(config))
        .map_err(|error| Error::Model(format!("{file}: {error}")))?;
    // What sentence-transformers takes where the file does not say.
    let named = raw.activation_function.as_deref().unwrap_or("torch.nn.modules.activation.Tanh");
    let class = named.strip_prefix("torch.nn.").and_then(|rest| rest.rsplit('.').next());
    let activation = class
        .and_then(|class| DenseActivation::by_name(&class.to_lowercase()))
        .ok_or_else(|| {
            let known = DenseActivation::ALL.map(DenseActivation::name).join(", ");
            Error::Model(format!(
                "{file}: activation_function {named:?} is not supported, expected a module of torch.nn: {known}"
            ))
        })?;
    let layer =
        DenseLayer { outputs: raw.out_features, activation, bias: raw.bias.unwrap_or(true) };
    Ok(DenseModule { path, inputs: raw.in_features, layer })
}

#[derive(Debug, Deserialize)]
struct RawLogitScore {
    true_token_id: usize,
    false_token_id: Option<usize>,
}

fn logit_score(config: Map<String, Value>, file: &str) -> Result<[usize; 2], Error> {
    let raw: RawLogitScore = serde_json::from_value(Value::Object(config))
        .map_err(|error| Error::Model(format!("{file}: {error}")))?;
    let no = raw.false_token_id.ok_or_else(|| {
        Error::Model(format!(
            "{file}: false_token_id is not set, so the score would be one token's logit, which is not supported: expected \
             the ids of two tokens, true_token_id and false_token_id"
        ))
    })?;
    if no == raw.true_token_id {
        return Err(Error::Model(format!(
            "{file}: true_token_id and false_token_id are both {no}, so every score would be 0: expected the ids of the two \
             tokens that answer yes and no"
        )));
    }
    Ok([no, raw.true_token_id])
}
