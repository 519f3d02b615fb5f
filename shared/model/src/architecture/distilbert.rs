//! `DistilBERT` (Sanh et al., 2019): BERT's layers under other names, without token types and pooler; its classifier has a
//! hidden layer of its own, which goes through the rectifier.

use super::bert::ENCODER;
use super::{Architecture, Blueprint, Defaults, Files, Names, Preset};
use crate::{Attention, DenseActivation, Head};

pub(super) static DISTILBERT: Architecture = Architecture {
    name: "distilbert",
    aliases: &[],
    blueprint: Blueprint { token_types: false, classifier: Some(DenseActivation::Relu), ..ENCODER },
    files: Files {
        keys: &[
            ("dim", "hidden_size"),
            ("n_layers", "num_hidden_layers"),
            ("n_heads", "num_attention_heads"),
            ("hidden_dim", "intermediate_size"),
            ("activation", "hidden_act"),
        ],
        // The table of positions is stored however it was filled at the beginning of training, and the epsilon of the norms
        // stands in the code of `transformers`, which reads no key for it.
        harmless: &[
            "dropout",
            "layer_norm_eps",
            "qa_dropout",
            "seq_classif_dropout",
            "sinusoidal_pos_embds",
            "tie_weights_",
        ],
        unused: &["vocab_transform.", "vocab_layer_norm.", "vocab_projector."],
        only: &[],
        defaults: Defaults {
            norm_eps: 1e-12,
            type_vocab: 0,
            pad_id: 0,
            head_dim: None,
            tied: false,
        },
        prefixes: &["", "distilbert."],
        names: Names {
            words: "embeddings.word_embeddings",
            positions: "embeddings.position_embeddings",
            types: "",
            embedding_norm: "embeddings.LayerNorm",
            layer: "transformer.layer.{}.",
            qkv: ["attention.q_lin", "attention.k_lin", "attention.v_lin"],
            out: "attention.out_lin",
            attention_norm: "sa_layer_norm",
            after_attention_norm: "",
            head_norms: ["", ""],
            up: &["ffn.lin1"],
            down: "ffn.lin2",
            output_norm: "output_layer_norm",
            after_feed_forward_norm: "",
            final_norm: "",
            classifier: ["pre_classifier", "classifier"],
        },
        norm_offset: 0.0,
        local_layers: false,
        gguf: None,
        tokenizer: "DistilBert",
        classes: ["DistilBertModel", "DistilBertForSequenceClassification"],
        template: "pair",
        keeps_chat_template: false,
    },
    presets: &[
        Preset { name: "multi-qa-distilbert-cos-v1", ..BASE },
        Preset { name: "msmarco-distilbert-base-tas-b", head: Head::FirstPooling, ..BASE },
    ],
};

const BASE: Preset = Preset {
    name: "",
    head: Head::MeanPooling,
    token_heads: false,
    hidden: 768,
    layers: 6,
    heads: 12,
    kv_heads: 12,
    head_dim: 64,
    intermediate: 3072,
    vocab: 30_522,
    max_positions: 512,
    type_vocab: 0,
    norm_eps: 1e-12,
    rope_theta: 1e6,
    attention: Attention::PLAIN,
    pad_id: 0,
};
