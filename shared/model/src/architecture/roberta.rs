//! RoBERTa (Liu et al., 2019) and `CamemBERT` (Martin et al., 2019): the layers and the names of XLM-RoBERTa, under class
//! names and with tokenizers of their own. Published files have `layer_norm_eps` 1e-5 and one token type.

use super::bert::{ENCODER, NAMES};
use super::{Architecture, Blueprint, Defaults, Files, Names, Positions, Preset};
use crate::{Attention, Head};

pub(super) static ROBERTA: Architecture = Architecture {
    name: "roberta",
    aliases: &[],
    blueprint: BLUEPRINT,
    files: Files {
        norm_offset: 0.0,
        local_layers: false,
        gguf: None,
        tokenizer: "Roberta",
        classes: ["RobertaModel", "RobertaForSequenceClassification"],
        ..FILES
    },
    presets: &[
        Preset { name: "all-distilroberta-v1", ..BASE },
        Preset { name: "stsb-roberta-base", head: Head::Classifier, layers: 12, ..BASE },
    ],
};

pub(super) static CAMEMBERT: Architecture = Architecture {
    name: "camembert",
    aliases: &[],
    blueprint: BLUEPRINT,
    files: Files {
        norm_offset: 0.0,
        local_layers: false,
        gguf: None,
        tokenizer: "Camembert",
        classes: ["CamembertModel", "CamembertForSequenceClassification"],
        ..FILES
    },
    presets: &[Preset {
        name: "crossencoder-camembert-base",
        head: Head::Classifier,
        layers: 12,
        vocab: 32_005,
        ..BASE
    }],
};

const BLUEPRINT: Blueprint = Blueprint { positions: Positions::LearnedAfterPadding, ..ENCODER };

const FILES: Files = Files {
    keys: &[],
    harmless: &[],
    unused: &[],
    only: &[],
    defaults: Defaults { norm_eps: 1e-12, type_vocab: 2, pad_id: 1, head_dim: None, tied: false },
    prefixes: &["", "roberta.", "camembert."],
    names: Names { classifier: ["classifier.dense", "classifier.out_proj"], ..NAMES },
    norm_offset: 0.0,
    local_layers: false,
    gguf: None,
    tokenizer: "",
    classes: ["", ""],
    template: "pair",
    keeps_chat_template: false,
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
    vocab: 50_265,
    max_positions: 512,
    type_vocab: 1,
    norm_eps: 1e-5,
    rope_theta: 1e6,
    attention: Attention::PLAIN,
    pad_id: 1,
};
