//! Reads a [`ModelSpec`] from the files of a Hugging Face checkpoint: config.json, `tokenizer_config.json`, and for models of
//! sentence-transformers its files (modules.json, `1_Pooling`, prompts).
//!
//! ```text
//! files            where the parts lie, what tensors are called       keys    which keys are known at all
//! modules          the steps of modules.json                          mask    what a decoder's tokens see
//! tokenizer_files  tokenizer.json as `transformers` would load it     kind    embedder or reranker, by which file
//! chat_template    which known prompt a chat template is, if any
//! attention        where a language model departs from the usual    chat    how it converses
//! beginning        what its conversations begin with
//! ```
//!
//! What would change results and is not implemented (another activation, other scalings of rotary
//! frequencies, several labels) is refused here, at pack time.

mod activation;
mod attention;
mod beginning;
mod chat;
mod chat_template;
mod contradictions;
mod files;
mod keys;
mod kind;
mod mask;
mod matryoshka;
mod modules;
mod python;
mod sentence_transformers;
mod token_heads;
mod tokenizer_files;
mod tokens;
mod told;
mod unused;

use std::collections::BTreeMap;

use defrost_model::architecture::{Norm, Positions};
use defrost_model::parts::Naming;
use defrost_model::{Attention, Family, Head, ModelConfig, TokenHeads};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

pub(crate) use activation::{RawActivation, decide as decide_activation};
pub(crate) use contradictions::{check_matryoshka, check_pooling};
pub use files::open_checkpoint;
pub(crate) use files::{prepare, refuse_adapters};
pub use kind::{ModelKind, kind_of};
pub use mask::AttentionMask;
pub(crate) use matryoshka::RawMatryoshka;
pub(crate) use modules::{Modules, pooling_by_name, pooling_name, pooling_names};
pub(crate) use sentence_transformers::{
    check_reranker, embedding, named_template, not_normalized, transformer,
};
pub(crate) use tokenizer_files::read as tokenizer_files;
pub use told::Told;
pub(crate) use unused::check_all_read;

use self::contradictions::{check_labels, check_sizes};
use self::keys::File;
use self::sentence_transformers::{TransformerFile, similarity};
use crate::Error;
use crate::formats::Checkpoint;
use defrost_model::TextRules;
use defrost_model::{Matryoshka, ModelSpec, Template};
use defrost_tasks::TextTokenizer;
use defrost_tasks::{Prompt, QWEN3_INSTRUCTION};

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
    #[serde(default, deserialize_with = "size")]
    hidden_size: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    num_hidden_layers: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    num_attention_heads: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    num_key_value_heads: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    head_dim: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    intermediate_size: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    vocab_size: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    max_position_embeddings: Option<usize>,
    #[serde(default, deserialize_with = "size")]
    type_vocab_size: Option<usize>,
    layer_norm_eps: Option<f32>,
    rms_norm_eps: Option<f32>,
    rope_theta: Option<f32>,
    rope_parameters: Option<Map<String, Value>>,
    rope_scaling: Option<Map<String, Value>>,
    hidden_act: Option<String>,
    is_causal: Option<bool>,
    use_bidirectional_attention: Option<bool>,
    auto_map: Option<BTreeMap<String, Value>>,
    layer_types: Option<Vec<String>>,
    sliding_window: Option<Value>,
    sliding_window_pattern: Option<Value>,
    #[serde(rename = "_sliding_window_pattern")]
    own_sliding_window_pattern: Option<Value>,
    query_pre_attn_scalar: Option<Value>,
    rope_local_base_freq: Option<Value>,
    eos_token_id: Option<Value>,
    #[serde(default, deserialize_with = "size")]
    embedding_size: Option<usize>,
    num_labels: Option<Value>,
    id2label: Option<Value>,
    #[serde(flatten)]
    activation: RawActivation,
    tie_word_embeddings: Option<bool>,
    tokenizer_class: Option<String>,
    /// The id of the padding token; below 0 there is none.
    pad_token_id: Option<f64>,
    #[serde(flatten)]
    matryoshka: RawMatryoshka,
}

/// A size, which some libraries write as `384.0`.
pub(crate) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<usize>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(from)? else {
        return Ok(None);
    };
    let whole = number.as_u64().and_then(|size| usize::try_from(size).ok());
    let written =
        || number.as_f64().filter(|size| size.fract() == 0.0 && (0.0..1e15).contains(size));
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and below 10^15"
    )]
    let size = whole.or_else(|| written().map(|size| size as usize));
    size.map(Some).ok_or_else(|| {
        serde::de::Error::custom(format!("a size is {number}, expected a whole number from 0"))
    })
}

impl RawConfig {
    /// The id of the padding token; `None` if there is none.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "whole and in range"
    )]
    fn pad_id(&self) -> Result<Option<u32>, Error> {
        match self.pad_token_id {
            None => Ok(None),
            Some(id) if id < 0.0 => Ok(None),
            Some(id) if id.fract() == 0.0 && id <= f64::from(u32::MAX) => Ok(Some(id as u32)),
            Some(id) => Err(refuse("pad_token_id", &id.to_string(), "a token id, or -1 for none")),
        }
    }
}

/// What the user may decide over what the files say.
#[derive(Debug, Clone, Default)]
pub struct SpecOptions {
    /// Name shown to clients; required, because directories do not know their model's name.
    pub name: String,
    /// `pair`, `mxbai-rerank-v2`, `qwen3-reranker` or `embedding`, whatever the files say.
    pub template: Option<String>,
    /// The purpose of the model, whatever the files say.
    pub kind: Option<ModelKind>,
    /// The pooling of an embedder (`mean`, `cls`, `lasttoken`, …), whatever the files say.
    pub pooling: Option<String>,
    /// The tokens that a token sees, whatever the files say.
    pub attention: Option<AttentionMask>,
    /// Default length instead of the model's own.
    pub max_length: Option<usize>,
    /// The lengths to which embeddings may be cut, instead of those that the files or the name say.
    pub matryoshka: Option<Matryoshka>,
}

/// A checkpoint's specification and the names its tensors go by.
#[derive(Debug)]
pub(crate) struct FromCheckpoint {
    /// The specification, as yet without a stored prefix.
    pub(crate) spec: ModelSpec,
    /// The tokens that the stored prefix may be.
    pub(crate) beginning: Vec<u32>,
    pub(crate) naming: Naming,
    /// The bytes of tokenizer.json, changed where another file overrules it.
    pub(crate) tokenizer: Vec<u8>,
    /// The decisions about the model, and the files that made them.
    pub(crate) told: Vec<Told>,
}

/// Reads everything; refuses what this version would compute wrongly. The checkpoint is a [`prepare`]d one.
pub(crate) fn read(
    checkpoint: &Checkpoint,
    options: &SpecOptions,
) -> Result<FromCheckpoint, Error> {
    let raw = raw_config(checkpoint)?;
    let model_type = raw.model_type.clone().unwrap_or_default();
    let family = Family::by_name(&model_type).ok_or_else(|| {
        let known: Vec<&str> = Family::all()
            .flat_map(|family| [family.name].into_iter().chain(family.aliases.iter().copied()))
            .collect();
        Error::Model(format!(
            "config.json: model_type is {model_type:?}, expected one of {}",
            known.join(", ")
        ))
    })?;
    check_activation(&raw, family)?;
    check_sizes(&raw)?;
    let files = tokenizer_files(checkpoint, Some(family), raw.tokenizer_class.as_deref())?;
    let transformer = transformer(checkpoint)?;
    let modules = Modules::read(checkpoint)?;
    let modules = modules.as_ref();
    let (bidirectional, mask) = mask::decide(checkpoint, &raw, family, modules, options)?;
    let kind::Kind { template, head, told } =
        kind::decide(checkpoint, &raw, family, modules, bidirectional, options)?;
    let told: Vec<Told> = told.into_iter().chain(mask).chain(files.told).collect();
    if head != Head::LanguageModel {
        check_variants(&raw, family)?;
    }
    let prefix = prefix(checkpoint, family)?;
    let mut config = dimensions(&raw, family, head)?;
    config.bidirectional = bidirectional;
    check_plain(&config)?;
    if head.is_pooling() {
        config.token_heads = token_heads::token_heads(checkpoint, config.hidden)?;
        config.dense = modules.map_or(Ok(Vec::new()), |modules| dense(modules, config.hidden))?;
    }
    config.validate()?;
    check_labels(checkpoint, &raw, family, head)?;
    check_pooling(modules, config.hidden)?;
    let mut read = FromCheckpoint {
        spec: ModelSpec {
            name: options.name.clone(),
            estimated_max: estimated_max(config.hidden),
            config,
            stored_prefix: Vec::new(),
            text: TextRules::default(),
            template,
            max_length: 0,
            embedding: None,
            chat: None,
        },
        beginning: Vec::new(),
        naming: Naming { prefix, ..Naming::default() },
        tokenizer: files.json,
        told,
    };
    let tokenizer = read.tokenizer()?;
    let spec = &mut read.spec;
    // Of a model with one type there is nothing to leave out, and snapshots stay as they were.
    spec.text.token_types = files.token_types || spec.config.type_vocab <= 1;
    spec.text.lowercase = transformer.do_lower_case == Some(true);
    let tokenizer = tokenizer.with_rules(spec.text_rules());
    let length = max_length(&transformer, files.max_length.as_ref(), spec, options)?;
    spec.max_length = length.0;
    if let Some(from) = length.1 {
        read.told.push(Told::new("length", format!("{} tokens", length.0), from));
    }
    if spec.text.lowercase {
        let from = format!("{}: do_lower_case", transformer.name);
        read.told.push(Told::new("texts", "in lower case", from));
    }
    if let Some(replaced) = modules.and_then(|modules| modules.replaced.clone()) {
        read.told.push(Told::new("modules", replaced, "modules.json"));
    }
    check_types(&tokenizer, &spec.config, &spec.template)?;
    if head == Head::YesNo {
        read.naming.no_yes = no_yes(&tokenizer, spec, modules)?;
        read.naming.lm_head = lm_head(checkpoint, &raw, family, &read.naming.prefix)?.0;
    }
    if head == Head::LanguageModel {
        return read.language_model(checkpoint, &raw, &tokenizer);
    }
    if let Template::Embedding { .. } = spec.template {
        let matryoshka = raw.matryoshka.decide(options)?;
        check_matryoshka(&matryoshka, spec.config.outputs(), options.matryoshka.is_some())?;
        let mut embedding = embedding(checkpoint, modules, matryoshka)?;
        read.told.extend(not_normalized(modules));
        if spec.config.token_heads.sparse {
            embedding.weightless =
                token_heads::weightless(&spec.config, &tokenizer, &read.tokenizer)?;
        }
        read.told.extend(similarity(checkpoint, embedding.normalizes)?);
        spec.embedding = Some(embedding);
    } else {
        let instruction = (spec.template == Template::Qwen3Reranker).then_some(QWEN3_INSTRUCTION);
        let in_file = check_reranker(checkpoint, instruction)?;
        read.told.extend(decide_activation(&raw.activation, in_file.as_ref())?);
    }
    // What no start would accept is refused here already.
    let (length, positions) = (spec.max_length, spec.config.max_positions);
    let prompt = Prompt::new(tokenizer, &spec.template, length, positions)?;
    if spec.config.shares_prefixes() {
        read.beginning = prompt.beginning()?;
    }
    Ok(read)
}

/// Refuses rerankers and embedders of a family whose layers only language models are run with.
fn check_plain(config: &ModelConfig) -> Result<(), Error> {
    if config.head == Head::LanguageModel || config.is_plain() {
        return Ok(());
    }
    Err(Error::Model(format!(
        "{} models are run as language models only: expected --kind chat",
        config.family.name
    )))
}

/// config.json, whose keys are all known.
fn raw_config(checkpoint: &Checkpoint) -> Result<RawConfig, Error> {
    const FILE: &str = "config.json";
    let mut keys: Map<String, Value> = optional_beside_weights(checkpoint, FILE)?
        .ok_or_else(|| Error::Model(format!("the checkpoint has no {FILE}")))?;
    // Another architecture has other keys; that it is another one is the better message.
    let family = keys.get("model_type").and_then(Value::as_str).and_then(Family::by_name);
    if let Some(family) = family {
        as_usual(&mut keys, family)?;
        keys::check(File::Config, FILE, &keys)?;
    }
    serde_json::from_value(Value::Object(keys))
        .map_err(|error| Error::Model(format!("{FILE}: {error}")))
}

/// Gives the family's own keys the names that others have, and takes those out that are the family's alone and change
/// nothing.
fn as_usual(keys: &mut Map<String, Value>, family: Family) -> Result<(), Error> {
    for &(key, expected) in family.files.only {
        let found = keys.get(key).filter(|value| !value.is_null());
        if let Some(found) = found.filter(|&found| found != &Value::Bool(expected)) {
            return Err(refuse(key, &found.to_string(), &expected.to_string()));
        }
    }
    for &key in family.files.harmless {
        keys.remove(key);
    }
    for &(own, usual) in family.files.keys {
        let Some(value) = keys.remove(own) else { continue };
        if let Some(other) = keys.get(usual).filter(|&other| other != &value) {
            return Err(refuse(
                own,
                &value.to_string(),
                &format!("{other}, as {usual} is, which means the same"),
            ));
        }
        keys.insert(usual.to_owned(), value);
    }
    Ok(())
}

impl FromCheckpoint {
    /// What is left to read of a language model.
    fn language_model(
        mut self,
        checkpoint: &Checkpoint,
        raw: &RawConfig,
        tokenizer: &TextTokenizer,
    ) -> Result<Self, Error> {
        let config = &mut self.spec.config;
        (self.naming.lm_head, config.tied) =
            lm_head(checkpoint, raw, config.family, &self.naming.prefix)?;
        let (chat, told) = chat::read(checkpoint, raw, &self.tokenizer, tokenizer, config.vocab)?;
        if config.shares_prefixes() {
            self.beginning = beginning::beginning(&chat, tokenizer, config.max_positions);
        }
        self.spec.chat = Some(chat);
        self.told.extend(told);
        Ok(self)
    }

    /// The tokenizer, all of whose tokens the model knows.
    fn tokenizer(&mut self) -> Result<TextTokenizer, Error> {
        let vocab = self.spec.config.vocab;
        let mut tokenizer = TextTokenizer::from_json(&self.tokenizer)?;
        if tokenizer.largest_id() as usize >= vocab
            && let Some((json, told)) = tokenizer_files::within(&self.tokenizer, vocab)?
        {
            tokenizer = TextTokenizer::from_json(&json)?;
            self.tokenizer = json;
            self.told.push(told);
        }
        let largest = tokenizer.largest_id() as usize;
        if largest < vocab {
            return Ok(tokenizer);
        }
        Err(Error::Model(format!(
            "tokenizer.json gives ids up to {largest}, config.json has {vocab} words: the files belong to different \
             models"
        )))
    }
}

/// The layers after the pooling, each as wide as the one before it is long.
fn dense(modules: &Modules, hidden: usize) -> Result<Vec<defrost_model::DenseLayer>, Error> {
    let mut inputs = hidden;
    for module in &modules.dense {
        if module.inputs != inputs {
            return Err(Error::Model(format!(
                "{}/config.json: in_features is {}, expected the {inputs} that come before it",
                module.path, module.inputs
            )));
        }
        inputs = module.layer.outputs;
    }
    Ok(modules.dense.iter().map(|module| module.layer).collect())
}

/// Refuses token types that the model has no row for.
fn check_types(
    tokenizer: &TextTokenizer,
    config: &ModelConfig,
    template: &Template,
) -> Result<(), Error> {
    let tokens = match template {
        Template::Pair => tokenizer.pair(&[0], &[0])?,
        _ => tokenizer.single(&[0])?,
    };
    match tokens.types.iter().find(|&&kind| kind as usize >= config.type_vocab.max(1)) {
        None => Ok(()),
        Some(kind) => Err(Error::Model(format!(
            "tokenizer.json gives tokens the type {kind}, expected types below {} as config.json has: the files belong to \
             different models",
            config.type_vocab
        ))),
    }
}

/// The ids of the tokens that answer no and yes: what modules.json says, or the template's words.
fn no_yes(
    tokenizer: &TextTokenizer,
    spec: &ModelSpec,
    modules: Option<&Modules>,
) -> Result<[usize; 2], Error> {
    let ids = match (modules.and_then(|modules| modules.logit_score), spec.template.no_yes()) {
        (Some(ids), _) => ids,
        (None, Some([no, yes])) => {
            [tokenizer.single_token(no)? as usize, tokenizer.single_token(yes)? as usize]
        }
        (None, None) => [0, 0],
    };
    if ids.iter().any(|&id| id >= spec.config.vocab) {
        return Err(Error::Model(format!(
            "the answer tokens {ids:?} lie outside of the {} words of config.json",
            spec.config.vocab
        )));
    }
    Ok(ids)
}

/// The matrix that logits come from, and whether that is the table of words.
fn lm_head(
    checkpoint: &Checkpoint,
    raw: &RawConfig,
    family: Family,
    prefix: &str,
) -> Result<(String, bool), Error> {
    const HEAD: &str = "lm_head.weight";
    let words = format!("{prefix}embed_tokens.weight");
    // Not saying is saying what `transformers` takes for the family.
    let tied = raw.tie_word_embeddings.unwrap_or(family.files.defaults.tied);
    match (tied, checkpoint.get(HEAD)) {
        (false, Some(_)) => Ok((HEAD.to_owned(), false)),
        (false, None) => Err(Error::Model(format!(
            "the checkpoint has no tensor {HEAD:?}, which the scores come from: expected it, as config.json does not say \
             that tie_word_embeddings is true. Get all of the model's files; or, if its head is its table of words, say \
             \"tie_word_embeddings\": true in config.json. An embedder needs no head: say --kind embedder"
        ))),
        (true, Some(head)) if checkpoint.get(&words).is_some_and(|words| words != head) => {
            Err(Error::Model(format!(
                "config.json: tie_word_embeddings is true, but {HEAD:?} is another matrix than {words:?}, so which one \
                 scores come from cannot be told: expected one of them, or tie_word_embeddings false if the head counts"
            )))
        }
        (true, _) => Ok((words, true)),
    }
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

/// Reads as [`optional`] does, from the folder that the weights lie in.
pub(crate) fn optional_beside_weights<T: for<'de> Deserialize<'de>>(
    checkpoint: &Checkpoint,
    name: &str,
) -> Result<Option<T>, Error> {
    let bytes = checkpoint.file_beside_weights(name)?;
    bytes
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

/// Refuses another activation than the family's.
fn check_activation(raw: &RawConfig, family: Family) -> Result<(), Error> {
    let blueprint = &family.blueprint;
    // The first is what messages expect; the others are other names of the same function.
    let names = blueprint.feed_forward.activation_names();
    if let Some(found) = raw.hidden_act.as_deref().filter(|act| !names.contains(act)) {
        return Err(refuse(family.files.own_key("hidden_act"), found, names[0]));
    }
    Ok(())
}

/// Refuses what the layers of rerankers and embedders do not compute; of language models [`attention`] reads it.
fn check_variants(raw: &RawConfig, family: Family) -> Result<(), Error> {
    let blueprint = &family.blueprint;
    if !family.files.local_layers {
        attention::refuse_keys(raw, family)?;
    }
    // An encoder's layers all see all of the text, whatever their types are called.
    let mut kinds = raw.layer_types.iter().flatten().filter(|_| blueprint.causal);
    if let Some(found) = kinds.find(|kind| *kind != "full_attention") {
        return Err(refuse("layer_types", found, "full_attention for every layer"));
    }
    for (field, rope) in
        [("rope_scaling", &raw.rope_scaling), ("rope_parameters", &raw.rope_parameters)]
    {
        let Some(rope) = rope.as_ref().filter(|rope| !rope.is_empty()) else {
            continue;
        };
        let kind = rope.get("rope_type").or_else(|| rope.get("type"));
        let plain = kind.is_some_and(|kind| kind == "default")
            || (kind.is_none() && rope.keys().all(|key| key == "rope_theta"));
        if !plain {
            let found = Value::Object(rope.clone()).to_string();
            return Err(refuse(field, &found, "rope_type default: unscaled rotary frequencies"));
        }
        let known =
            ["rope_type", "type", "rope_theta", "factor", "original_max_position_embeddings"];
        if let Some(key) = rope.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(refuse(
                field,
                &format!("with {key}"),
                "no such key beside rope_type default",
            ));
        }
    }
    Ok(())
}

/// The base of the rotary frequencies where no file has one.
const ROPE_THETA: f32 = 10_000.0;

/// The base of the rotary frequencies, wherever it is written. `transformers` reads the inner one from version 5 on and the
/// outer one before, so two that differ are two models. Of two inner ones it reads `rope_scaling` alone, which without a
/// base of its own has the outer or the usual one.
fn rope_theta(raw: &RawConfig, family: Family) -> Result<Option<f32>, Error> {
    let inner = [&raw.rope_parameters, &raw.rope_scaling].into_iter().flatten();
    let number = |value: &Value| {
        let number = value.as_f64().filter(|number| *number > 0.0);
        #[allow(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
        let number = number.map(|number| number as f32);
        number.ok_or_else(|| refuse("rope_theta", &value.to_string(), "a number above 0"))
    };
    let inner = inner.filter_map(|rope| rope.get("rope_theta"));
    let inner = inner.map(number).collect::<Result<Vec<_>, _>>()?;
    let own = |rope: &Option<Map<String, Value>>| {
        let rope = rope.as_ref().filter(|rope| !rope.is_empty())?;
        Some(rope.contains_key("rope_theta"))
    };
    if let (Some(false), Some(true), None) =
        (own(&raw.rope_scaling), own(&raw.rope_parameters), raw.rope_theta)
        && let Some(&theta) =
            inner.first().filter(|&&theta| theta.to_bits() != ROPE_THETA.to_bits())
        && family.blueprint.positions == Positions::Rotary
    {
        return Err(refuse(
            "rope_scaling",
            &format!("without a rope_theta beside rope_parameters with {theta}"),
            &format!(
                "one of the two: `transformers` reads rope_scaling in place of rope_parameters, and so computes with a \
                 rope_theta of {ROPE_THETA}. Take out rope_scaling in a copy of the folder, or give it the rope_theta that \
                 the model was trained with"
            ),
        ));
    }
    let mut all = inner.into_iter().chain(raw.rope_theta);
    let first = all.next();
    match all.find(|&other| Some(other) != first) {
        None => Ok(first),
        Some(other) => Err(refuse(
            "rope_theta",
            &format!("{} in one place and {other} in another", first.unwrap_or_default()),
            "one value: the one that the model was trained with",
        )),
    }
}

fn dimensions(raw: &RawConfig, family: Family, head: Head) -> Result<ModelConfig, Error> {
    let need = |name: &str, value: Option<usize>| {
        let own = family.files.own_key(name);
        value.ok_or_else(|| Error::Model(format!("config.json has no {own}")))
    };
    let hidden = need("hidden_size", raw.hidden_size)?;
    let heads = need("num_attention_heads", raw.num_attention_heads)?;
    let table = need("max_position_embeddings", raw.max_position_embeddings)?;
    let (blueprint, defaults) = (&family.blueprint, &family.files.defaults);
    let shifted = blueprint.positions == Positions::LearnedAfterPadding;
    if shifted && raw.pad_token_id.is_some_and(|id| id < 0.0) {
        return Err(refuse("pad_token_id", "below 0", "the id that positions start after"));
    }
    let pad_id = raw.pad_id()?.unwrap_or(defaults.pad_id);
    let reserved = blueprint.positions.reserved(pad_id);
    let (attention, rope) = if head == Head::LanguageModel {
        attention::read(raw, family)?
    } else {
        (Attention::PLAIN, rope_theta(raw, family)?)
    };
    let usual_width = defaults.head_dim.unwrap_or_else(|| hidden / heads.max(1));
    Ok(ModelConfig {
        family,
        head,
        token_heads: TokenHeads::default(),
        bidirectional: false,
        dense: Vec::new(),
        hidden,
        layers: need("num_hidden_layers", raw.num_hidden_layers)?,
        heads,
        kv_heads: raw.num_key_value_heads.filter(|_| blueprint.causal).unwrap_or(heads),
        head_dim: raw.head_dim.unwrap_or(usual_width),
        intermediate: need("intermediate_size", raw.intermediate_size)?,
        vocab: need("vocab_size", raw.vocab_size)?,
        max_positions: table.checked_sub(reserved).ok_or_else(|| {
            refuse("max_position_embeddings", &table.to_string(), "more than the reserved ones")
        })?,
        type_vocab: raw
            .type_vocab_size
            .filter(|_| blueprint.token_types)
            .unwrap_or(defaults.type_vocab),
        norm_eps: match blueprint.norm {
            Norm::Rms => raw.rms_norm_eps,
            Norm::Layer => raw.layer_norm_eps,
        }
        .unwrap_or(defaults.norm_eps),
        rope_theta: rope.unwrap_or(ROPE_THETA),
        attention,
        tied: false,
        pad_id,
        stored_prefix: 0,
    })
}

/// The prefix under which the transformer's tensors are stored.
fn prefix(checkpoint: &Checkpoint, family: Family) -> Result<String, Error> {
    let (probe, prefixes) = (format!("{}.weight", family.files.names.words), family.files.prefixes);
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

/// The constants of `mxbai_rerank`: 9.0 for base-v2 (hidden size 896), 12.0 for all others.
pub(crate) fn estimated_max(hidden: usize) -> f32 {
    if hidden == 896 { 9.0 } else { 12.0 }
}

/// The length that the model's own files or package ask for, and no more than it has positions; and which key of which
/// file says so, if one does.
fn max_length(
    transformer: &TransformerFile,
    tokenizer: Option<&(usize, &'static str)>,
    spec: &ModelSpec,
    options: &SpecOptions,
) -> Result<(usize, Option<String>), Error> {
    length(transformer, tokenizer, &spec.template, spec.config.max_positions, options)
}

/// The length of any model, as [`max_length`] has it. `tokenizer` is what the tokenizer's file says, and in which key.
pub(crate) fn length(
    transformer: &TransformerFile,
    tokenizer: Option<&(usize, &'static str)>,
    template: &Template,
    max_positions: usize,
    options: &SpecOptions,
) -> Result<(usize, Option<String>), Error> {
    let usual = match template {
        Template::Pair => PAIR_MAX_LENGTH,
        // All that it has positions for.
        Template::Chat => max_positions,
        _ => PROMPT_MAX_LENGTH,
    };
    let in_file = match (transformer.max_seq_length, tokenizer) {
        (Some(length), _) => Some((length, format!("{}: max_seq_length", transformer.name))),
        (None, Some(&(length, key))) if length < usual => {
            Some((length, format!("tokenizer_config.json: {key}")))
        }
        _ => None,
    };
    if let Some(length) = options.max_length {
        if !(1..=max_positions).contains(&length) {
            return Err(Error::Model(format!(
                "--max-length is {length}, expected 1 to the {max_positions} positions of the model"
            )));
        }
        let over = in_file.filter(|&(own, _)| own < length);
        let over = over.map(|(own, from)| format!(", over the {own} of {from}"));
        return Ok((length, Some(format!("--max-length{}", over.unwrap_or_default()))));
    }
    let bound = |length: usize| length.min(max_positions).max(1);
    Ok(match in_file {
        Some((length, from)) if length > max_positions => {
            (max_positions, Some(format!("the model's positions, as {from} is {length}")))
        }
        Some((length, from)) => (bound(length), Some(from)),
        None => (bound(usual), None),
    })
}
