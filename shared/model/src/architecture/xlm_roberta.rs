//! XLM-RoBERTa (Conneau et al., 2019): as BERT, with positions that start after the padding id and a classifier of its own.

use super::bert::{ENCODER, NAMES};
use super::{Architecture, Blueprint, Defaults, Files, Names, Positions, Preset};
use crate::{Attention, Head};

pub(super) static XLM_ROBERTA: Architecture = Architecture {
    name: "xlm-roberta",
    aliases: &[],
    blueprint: Blueprint { positions: Positions::LearnedAfterPadding, ..ENCODER },
    files: Files {
        keys: &[],
        harmless: &[],
        unused: &[],
        only: &[],
        defaults: Defaults {
            norm_eps: 1e-12,
            type_vocab: 2,
            pad_id: 1,
            head_dim: None,
            tied: false,
        },
        prefixes: &["", "roberta.", "bert."],
        names: Names { classifier: ["classifier.dense", "classifier.out_proj"], ..NAMES },
        norm_offset: 0.0,
        local_layers: false,
        gguf: None,
        tokenizer: "XLMRoberta",
        classes: ["XLMRobertaModel", "XLMRobertaForSequenceClassification"],
        template: "pair",
        keeps_chat_template: false,
    },
    presets: &[
        Preset { name: "bge-reranker-v2-m3", head: Head::Classifier, token_heads: false, ..BGE_M3 },
        BGE_M3,
    ],
};

const BGE_M3: Preset = Preset {
    name: "bge-m3",
    head: Head::FirstPooling,
    token_heads: true,
    hidden: 1024,
    layers: 24,
    heads: 16,
    kv_heads: 16,
    head_dim: 64,
    intermediate: 4096,
    vocab: 250_002,
    max_positions: 8192,
    type_vocab: 1,
    norm_eps: 1e-5,
    rope_theta: 1e6,
    attention: Attention::PLAIN,
    pad_id: 1,
};
