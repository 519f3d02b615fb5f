//! What a snapshot says about an ONNX model.

use std::collections::BTreeMap;
use std::fmt::Display;

use defrost_loader::Snapshot;

use super::meta::{LOWERCASE, Meta, NO_TYPES};
use super::{EmbeddingSpec, Template, TextRules};
use crate::{Error, Head};

/// The metadata key of the runtime of the model; the engine's snapshots do not have it.
const BACKEND: &str = "backend";
/// The value of that key for ONNX models.
const ORT: &str = "ort";

/// Whether the snapshot holds an ONNX model instead of parts.
pub fn holds_graph(snapshot: &Snapshot) -> bool {
    snapshot.meta(BACKEND) == Some(ORT)
}

/// Everything but graph and weights.
#[derive(Debug, Clone, PartialEq)]
pub struct OnnxSpec {
    /// Name shown to clients.
    pub name: String,
    /// The `model_type` of config.json.
    pub family: String,
    /// The head, which turns the output into an answer.
    pub head: Head,
    /// Width of the hidden states; 0 if config.json does not say.
    pub hidden: usize,
    /// The number of transformer layers; 0 if config.json does not say.
    pub layers: usize,
    /// The most tokens that a sequence may have.
    pub max_positions: usize,
    /// Token id that shorter sequences of a micro-batch are filled up with.
    pub pad_id: u32,
    /// The rules for texts and tokens beside those of tokenizer.json.
    pub text: TextRules,
    /// The template by which texts become sequences.
    pub template: Template,
    /// The most tokens of a pair or input, unless configured otherwise.
    pub max_length: usize,
    /// Largest logit the authors expect.
    pub estimated_max: f32,
    /// The rules of embedding texts; `None` for models that score pairs.
    pub embedding: Option<EmbeddingSpec>,
    /// The type that most bytes of the weights have.
    pub precision: String,
    /// The name of the output to read.
    pub output: String,
    /// Whether sequences must be run one by one, because the model quantises the activations of a run together.
    pub alone: bool,
}

impl OnnxSpec {
    /// The metadata strings.
    pub fn to_meta(&self) -> BTreeMap<String, String> {
        let mut meta = BTreeMap::new();
        let mut put = |key: &str, value: &dyn Display| {
            meta.insert(key.to_owned(), value.to_string());
        };
        put(BACKEND, &ORT);
        put("model.name", &self.name);
        put("model.family", &self.family);
        put("model.head", &self.head.name());
        if self.text.lowercase {
            put(LOWERCASE, &true);
        }
        if !self.text.token_types {
            put(NO_TYPES, &true);
        }
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
    pub fn from_snapshot(snapshot: &Snapshot) -> Result<Self, Error> {
        let meta = Meta { path: snapshot.path(), get: &|key| snapshot.meta(key) };
        Ok(Self {
            name: meta.text("model.name")?.to_owned(),
            family: meta.text("model.family")?.to_owned(),
            head: meta.named("model.head", Head::by_name)?,
            hidden: meta.parse("model.hidden")?,
            layers: meta.parse("model.layers")?,
            max_positions: meta.parse("model.max_positions")?,
            pad_id: meta.parse("model.pad_id")?,
            text: TextRules {
                lowercase: meta.parse_or(LOWERCASE, false)?,
                token_types: !meta.parse_or(NO_TYPES, false)?,
            },
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
