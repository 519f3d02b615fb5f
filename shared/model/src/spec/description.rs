//! What a snapshot says about its model, whatever runs it.

use std::path::Path;

use defrost_loader::Snapshot;

use super::meta::{HEAD, NAME};
use super::onnx::{OnnxSpec, holds_graph};
use super::{ChatSpec, EmbeddingSpec, ModelSpec, Template, TextRules};
use crate::{Error, Head, TokenHeads, stored};

/// A snapshot's metadata as values.
#[derive(Debug, Clone, PartialEq)]
pub enum Description {
    /// The metadata of a model whose weights are stored part by part.
    Parts(Box<ModelSpec>),
    /// The metadata of an ONNX model.
    Onnx(Box<OnnxSpec>),
}

/// What all descriptions say.
#[derive(Debug, Clone)]
pub struct Common {
    /// Name shown to clients.
    pub name: String,
    /// The architecture's name.
    pub family: String,
    /// The template by which texts become sequences.
    pub template: Template,
    /// The head, which turns hidden states into an answer.
    pub head: Head,
    /// Heads that answer for every token.
    pub token_heads: TokenHeads,
    /// Whether the last hidden states of every token can be had: a model with layers after the pooling is not trained for
    /// them, and an ONNX model gives what it gives.
    pub answers_tokens: bool,
    /// The precision of the weights: `int8`, `bf16`, `f16`, `f32` or `blocks`.
    pub precision: String,
    /// Width of the hidden states.
    pub hidden: usize,
    /// The number of transformer layers.
    pub layers: usize,
    /// Token ids from this one on have no meaning; `None`: the tokenizer says it.
    pub vocab: Option<usize>,
    /// The most tokens that a sequence may have.
    pub max_positions: usize,
    /// The most tokens of a pair or input, unless configured otherwise.
    pub max_length: usize,
    /// Largest logit the authors expect.
    pub estimated_max: f32,
    /// The rules of embedding texts; `None` for models that score pairs.
    pub embedding: Option<EmbeddingSpec>,
    /// How a language model converses; `None` for all others.
    pub chat: Option<ChatSpec>,
    /// The rules for texts and tokens beside those of tokenizer.json.
    pub text: TextRules,
}

impl Common {
    /// How a language model converses.
    ///
    /// # Errors
    /// If it is a model of another function, which the error names.
    pub fn language_model(&self, path: &Path) -> Result<&ChatSpec, Error> {
        let is_embedder = self.head.is_pooling();
        self.chat.as_ref().ok_or_else(|| {
            Error::Model(format!(
                "snapshot {} holds {}, {}: expected a language model. Serve it with `{}`; or pack its checkpoint again with \
                 --kind chat, if it is one",
                path.display(),
                self.name,
                if is_embedder { "an embedder" } else { "a reranker" },
                if is_embedder { "embed" } else { "rerank-cpu-int8" },
            ))
        })
    }
}

/// Refuses the snapshot of a language model, for a function of scores or vectors; read off its metadata alone.
///
/// # Errors
/// The error says which function serves it.
pub fn refuse_language_model(snapshot: &Snapshot) -> Result<(), Error> {
    if snapshot.meta(HEAD) != Some(Head::LanguageModel.name()) {
        return Ok(());
    }
    Err(Error::Model(format!(
        "snapshot {} holds {}, a language model, which gives neither scores nor vectors: expected a reranker or an embedder. \
         Serve it with `chat`; or pack its checkpoint again with --kind reranker or --kind embedder, if it was trained for \
         that",
        snapshot.path().display(),
        snapshot.meta(NAME).unwrap_or("a model")
    )))
}

impl Description {
    /// Reads the metadata.
    ///
    /// # Errors
    /// If a key is missing or unknown; the error names it.
    pub fn of(snapshot: &Snapshot) -> Result<Self, Error> {
        if holds_graph(snapshot) {
            return Ok(Self::Onnx(Box::new(OnnxSpec::from_snapshot(snapshot)?)));
        }
        Ok(Self::Parts(Box::new(ModelSpec::from_snapshot(snapshot)?)))
    }

    /// The name of the runtime that such snapshots are packed for.
    pub fn made_for(&self) -> &'static str {
        match self {
            Self::Parts(_) => "engine",
            Self::Onnx(_) => "ort",
        }
    }

    /// What does not depend on how the weights are stored.
    pub fn common(&self, snapshot: &Snapshot) -> Common {
        match self {
            Self::Parts(spec) => {
                let config = &spec.config;
                Common {
                    name: spec.name.clone(),
                    family: config.family.name.to_owned(),
                    template: spec.template.clone(),
                    head: config.head,
                    token_heads: config.token_heads,
                    answers_tokens: config.dense.is_empty(),
                    precision: snapshot.meta(stored::PRECISION).unwrap_or("unknown").to_owned(),
                    hidden: config.hidden,
                    layers: config.layers,
                    vocab: Some(config.vocab),
                    max_positions: config.max_positions,
                    max_length: spec.max_length,
                    estimated_max: spec.estimated_max,
                    embedding: spec.embedding.clone(),
                    chat: spec.chat.clone(),
                    text: spec.text_rules(),
                }
            }
            Self::Onnx(spec) => Common {
                name: spec.name.clone(),
                family: spec.family.clone(),
                template: spec.template.clone(),
                head: spec.head,
                token_heads: TokenHeads::default(),
                answers_tokens: false,
                precision: spec.precision.clone(),
                hidden: spec.hidden,
                layers: spec.layers,
                vocab: None,
                max_positions: spec.max_positions,
                max_length: spec.max_length,
                estimated_max: spec.estimated_max,
                embedding: spec.embedding.clone(),
                chat: None,
                text: spec.text,
            },
        }
    }
}
