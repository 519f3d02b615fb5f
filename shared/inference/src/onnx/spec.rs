//! What a snapshot says about its ONNX model, read from config.json and the graph at pack time.
//!
//! Any architecture will do, since the graph is the architecture: of config.json only what texts and pooling depend on is
//! used. Where the files leave it open, a model with the output `logits` is a cross-encoder, any other an embedder.

use std::collections::BTreeMap;
use std::fmt::Display;

use defrost_engine::Head;
use defrost_loader::{Checkpoint, Dtype, OnnxModel, Snapshot};
use serde::Deserialize;

use super::weights::Weight;
use crate::Error;
use crate::prompt::Prompt;
use crate::spec::checkpoint::{
    RawMatryoshka, SpecOptions, embedding, estimated_max, max_length, named_template, pooling,
    required,
};
use crate::spec::meta::Meta;
use crate::spec::{EmbeddingSpec, Template};
use crate::tokenizer::TextTokenizer;

/// Metadata key of what runs the model; the engine's snapshots do not have it.
pub(crate) const BACKEND: &str = "backend";
/// Its value for ONNX models.
pub(crate) const ORT: &str = "ort";

/// Positions of a model that does not say: what BERT has.
const USUAL_POSITIONS: usize = 512;
/// Families whose positions start after the padding id.
const SHIFTED: [&str; 3] = ["xlm-roberta", "roberta", "camembert"];
/// Operators that take one scale for all activations of a run. With them a pair's score would depend on its neighbours.
const WHOLE_BATCH: [&str; 4] = [
    "DynamicQuantizeLinear",
    "DynamicQuantizeMatMul",
    "DynamicQuantizeLSTM",
    "QEmbedLayerNormalization",
];

/// Everything but graph and weights.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OnnxSpec {
    pub(crate) name: String,
    pub(crate) family: String,
    pub(crate) head: Head,
    pub(crate) hidden: usize,
    pub(crate) layers: usize,
    pub(crate) max_positions: usize,
    pub(crate) pad_id: u32,
    pub(crate) template: Template,
    pub(crate) max_length: usize,
    pub(crate) estimated_max: f32,
    pub(crate) embedding: Option<EmbeddingSpec>,
    pub(crate) precision: String,
    /// The output to read.
    pub(crate) output: String,
    /// Whether sequences must be run one by one, because the model quantises the activations of a run together.
    pub(crate) alone: bool,
}

/// The fields of config.json that matter, under the names of several architectures.
#[derive(Debug, Deserialize)]
struct RawConfig {
    #[serde(default)]
    model_type: Option<String>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(alias = "dim", alias = "d_model", alias = "n_embd")]
    hidden_size: Option<usize>,
    #[serde(alias = "n_layers", alias = "num_layers", alias = "n_layer")]
    num_hidden_layers: Option<usize>,
    #[serde(alias = "n_positions")]
    max_position_embeddings: Option<usize>,
    pad_token_id: Option<u32>,
    #[serde(flatten)]
    matryoshka: RawMatryoshka,
}

impl OnnxSpec {
    /// From the files beside the model.
    pub(super) fn read(
        checkpoint: &Checkpoint,
        model: &OnnxModel,
        weights: &[Weight],
        tokenizer: &[u8],
        options: &SpecOptions,
    ) -> Result<Self, Error> {
        let raw: RawConfig = required(checkpoint, "config.json")?;
        let family = raw.model_type.unwrap_or_default();
        let pooling = pooling(checkpoint)?;
        let has_logits = model.outputs().iter().any(|name| name == "logits");
        let ends = |end: &str| raw.architectures.iter().flatten().any(|name| name.ends_with(end));
        let template = match &options.template {
            Some(name) => name.as_str(),
            None if pooling.is_some() => "embedding",
            None if ends("ForCausalLM") && has_logits => match family.as_str() {
                "qwen2" => "mxbai-rerank-v2",
                "qwen3" => "qwen3-reranker",
                other => {
                    return Err(Error::Model(format!(
                        "the prompt of a decoder of model_type {other:?} is not known: give --template"
                    )));
                }
            },
            None if ends("ForSequenceClassification") || has_logits => "pair",
            None => "embedding",
        };
        let template = named_template(checkpoint, template)?;
        let head = match &template {
            Template::Pair => Head::Classifier,
            Template::MxbaiRerankV2 | Template::Qwen3Reranker => Head::YesNo,
            Template::Embedding { .. } => pooling.unwrap_or(Head::MeanPooling),
        };
        let output = output(model.outputs(), &template)?;
        let pad_id = raw.pad_token_id.unwrap_or_else(|| u32::from(SHIFTED.contains(&&*family)));
        let reserved = if SHIFTED.contains(&&*family) { pad_id as usize + 1 } else { 0 };
        let max_positions =
            raw.max_position_embeddings.unwrap_or(USUAL_POSITIONS).saturating_sub(reserved).max(1);
        let max_length = max_length(checkpoint, max_positions, &template, options)?;
        // What no start would accept is refused here already.
        Prompt::new(TextTokenizer::from_json(tokenizer)?, &template, max_length, max_positions)?;
        let hidden = raw.hidden_size.unwrap_or_default();
        let embedding = match &template {
            Template::Embedding { .. } => {
                Some(embedding(checkpoint, raw.matryoshka.decide(options))?)
            }
            _ => None,
        };
        Ok(Self {
            name: options.name.clone(),
            family,
            head,
            hidden,
            layers: raw.num_hidden_layers.unwrap_or_default(),
            max_positions,
            pad_id,
            template,
            max_length,
            estimated_max: estimated_max(hidden),
            embedding,
            precision: precision(weights).to_owned(),
            output,
            alone: WHOLE_BATCH.iter().any(|kind| model.operators().contains(*kind)),
        })
    }

    /// The metadata strings.
    pub(super) fn to_meta(&self) -> BTreeMap<String, String> {
        let mut meta = BTreeMap::new();
        let mut put = |key: &str, value: &dyn Display| {
            meta.insert(key.to_owned(), value.to_string());
        };
        put(BACKEND, &ORT);
        put("model.name", &self.name);
        put("model.family", &self.family);
        put("model.head", &self.head.name());
        put("model.hidden", &self.hidden);
        put("model.layers", &self.layers);
        put("model.max_positions", &self.max_positions);
        put("model.pad_id", &self.pad_id);
        put("onnx.output", &self.output);
        put("onnx.alone", &self.alone);
        put("precision", &self.precision);
        put("reranker.max_length", &self.max_length);
        put("reranker.estimated_max", &self.estimated_max);
        self.template.put_meta(&mut meta);
        if let Some(embedding) = &self.embedding {
            embedding.put_meta(&mut meta);
        }
        meta
    }

    /// Reads them back; the error names the key at fault.
    #[cfg_attr(not(feature = "ort"), allow(dead_code, reason = "only read to run it"))]
    pub(crate) fn from_snapshot(snapshot: &Snapshot) -> Result<Self, Error> {
        let meta = Meta { path: snapshot.path(), get: &|key| snapshot.meta(key) };
        Ok(Self {
            name: meta.text("model.name")?.to_owned(),
            family: meta.text("model.family")?.to_owned(),
            head: meta.named("model.head", Head::by_name)?,
            hidden: meta.parse("model.hidden")?,
            layers: meta.parse("model.layers")?,
            max_positions: meta.parse("model.max_positions")?,
            pad_id: meta.parse("model.pad_id")?,
            template: meta.template()?,
            max_length: meta.parse("reranker.max_length")?,
            estimated_max: meta.parse("reranker.estimated_max")?,
            embedding: EmbeddingSpec::from_meta(&meta)?,
            precision: meta.text("precision")?.to_owned(),
            output: meta.text("onnx.output")?.to_owned(),
            alone: meta.parse("onnx.alone")?,
        })
    }
}

/// The output to read: for scores `logits`, for embeddings those that exporters pool first, then hidden states.
fn output(outputs: &[String], template: &Template) -> Result<String, Error> {
    let wanted: &[&str] = match template {
        Template::Embedding { .. } => {
            &["sentence_embedding", "last_hidden_state", "token_embeddings", "hidden_states"]
        }
        _ => &["logits", "scores", "output"],
    };
    let known = wanted.iter().find(|name| outputs.iter().any(|output| output == *name));
    match (known, outputs) {
        (Some(name), _) => Ok((*name).to_owned()),
        (None, [only]) => Ok(only.clone()),
        (None, several) => Err(Error::Model(format!(
            "the model has the outputs {several:?}, expected one of {wanted:?} or a single one of any name"
        ))),
    }
}

/// The type that most bytes of the weights have.
fn precision(weights: &[Weight]) -> &'static str {
    let mut bytes: BTreeMap<&str, usize> = BTreeMap::new();
    for weight in weights {
        let name = match weight.plan.dtype {
            Dtype::U8 | Dtype::I8 => "int8",
            Dtype::F16 => "f16",
            Dtype::Bf16 => "bf16",
            _ => "f32",
        };
        *bytes.entry(name).or_default() += weight.bytes.len();
    }
    bytes.into_iter().max_by_key(|&(_, bytes)| bytes).map_or("f32", |(name, _)| name)
}
