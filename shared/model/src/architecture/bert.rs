//! BERT (Devlin et al., 2018): post-norm encoder, learned positions, token types.

use super::{
    Architecture, Biases, Blueprint, Defaults, FeedForward, Files, Names, Norm, Placed, Positions,
    Preset,
};
use crate::{Attention, DenseActivation, Head};

pub(super) static BERT: Architecture = Architecture {
    name: "bert",
    aliases: &[],
    blueprint: ENCODER,
    files: Files {
        keys: &[],
        harmless: &[],
        unused: &[],
        only: &[],
        defaults: Defaults {
            norm_eps: 1e-12,
            type_vocab: 2,
            pad_id: 0,
            head_dim: None,
            tied: false,
        },
        prefixes: &["", "bert.", "roberta."],
        // The hidden layer of the classifier is the pooler's.
        names: Names { classifier: ["{}pooler.dense", "classifier"], ..NAMES },
        norm_offset: 0.0,
        local_layers: false,
        gguf: None,
        tokenizer: "Bert",
        classes: ["BertModel", "BertForSequenceClassification"],
        template: "pair",
        keeps_chat_template: false,
    },
    presets: &[
        Preset { name: "ms-marco-minilm-l6-v2", head: Head::Classifier, ..MINILM },
        Preset { name: "all-minilm-l6-v2", head: Head::MeanPooling, ..MINILM },
    ],
};

/// What BERT and its kin compute.
pub(super) const ENCODER: Blueprint = Blueprint {
    norm: Norm::Layer,
    placed: Placed::Post,
    positions: Positions::Learned,
    token_types: true,
    embedding_norm: true,
    embedding_scale: false,
    final_norm: false,
    causal: false,
    biases: Biases::ALL,
    head_norms: false,
    feed_forward: FeedForward::Gelu,
    classifier: Some(DenseActivation::Tanh),
};

/// Names that BERT and its kin share.
pub(super) const NAMES: Names = Names {
    words: "embeddings.word_embeddings",
    positions: "embeddings.position_embeddings",
    types: "embeddings.token_type_embeddings",
    embedding_norm: "embeddings.LayerNorm",
    layer: "encoder.layer.{}.",
    qkv: ["attention.self.query", "attention.self.key", "attention.self.value"],
    out: "attention.output.dense",
    attention_norm: "attention.output.LayerNorm",
    after_attention_norm: "",
    head_norms: ["", ""],
    up: &["intermediate.dense"],
    down: "output.dense",
    output_norm: "output.LayerNorm",
    after_feed_forward_norm: "",
    final_norm: "",
    classifier: ["", ""],
};

const MINILM: Preset = Preset {
    name: "",
    head: Head::Classifier,
    token_heads: false,
    hidden: 384,
    layers: 6,
    heads: 12,
    kv_heads: 12,
    head_dim: 32,
    intermediate: 1536,
    vocab: 30_522,
    max_positions: 512,
    type_vocab: 2,
    norm_eps: 1e-12,
    rope_theta: 1e6,
    attention: Attention::PLAIN,
    pad_id: 0,
};
