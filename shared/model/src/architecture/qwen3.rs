//! Qwen3 (Yang et al., 2025): as Qwen2 without biases, with an RMS norm on every query and key head.

use super::qwen2::{DECODER, GGUF_NAMES, NAMES};
use super::{Architecture, Blueprint, Defaults, Files, Gguf, Names, Preset};
use crate::{Attention, Head};

pub(super) static QWEN3: Architecture = Architecture {
    name: "qwen3",
    aliases: &[],
    blueprint: Blueprint { head_norms: true, ..DECODER },
    files: Files {
        keys: &[],
        harmless: &[],
        unused: &[],
        only: &[("attention_bias", false)],
        // What `transformers` takes for the width of a head.
        defaults: Defaults {
            norm_eps: 1e-6,
            type_vocab: 0,
            pad_id: 0,
            head_dim: Some(128),
            tied: false,
        },
        prefixes: &["model.", ""],
        names: Names { head_norms: ["self_attn.q_norm", "self_attn.k_norm"], ..NAMES },
        norm_offset: 0.0,
        local_layers: false,
        gguf: Some(Gguf {
            architectures: &["qwen3"],
            names: &Names { head_norms: ["attn_q_norm", "attn_k_norm"], ..GGUF_NAMES },
            paired_heads: false,
        }),
        tokenizer: "Qwen2",
        classes: ["Qwen3Model", "Qwen3ForCausalLM"],
        template: "qwen3-reranker",
        keeps_chat_template: false,
    },
    presets: &[
        RERANKER,
        Preset {
            name: "qwen3-embedding-0.6b",
            head: Head::LastPooling,
            max_positions: 32_768,
            ..RERANKER
        },
        CHAT,
        Preset { name: "qwen3-1.7b", hidden: 2048, intermediate: 6144, ..CHAT },
    ],
};

const CHAT: Preset =
    Preset { name: "qwen3-0.6b", head: Head::LanguageModel, vocab: 151_936, ..RERANKER };

const RERANKER: Preset = Preset {
    name: "qwen3-reranker-0.6b",
    head: Head::YesNo,
    token_heads: false,
    hidden: 1024,
    layers: 28,
    heads: 16,
    kv_heads: 8,
    head_dim: 128,
    intermediate: 3072,
    vocab: 151_669,
    max_positions: 40_960,
    type_vocab: 0,
    norm_eps: 1e-6,
    rope_theta: 1e6,
    attention: Attention::PLAIN,
    pad_id: 1,
};
