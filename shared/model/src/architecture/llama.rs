//! Llama (Touvron et al., 2023; Dubey et al., 2024) and what has its layers: `SmolLM2`, `TinyLlama`, Mistral. Pre-norm causal
//! decoder without biases, grouped-query attention, rotary positions whose angles Llama 3.1 and later stretch.

use super::qwen2::{DECODER, GGUF_NAMES, NAMES};
use super::{Architecture, Defaults, Files, Gguf, Preset};
use crate::{Attention, Head, RopeScaling};

pub(super) static LLAMA: Architecture = Architecture {
    name: "llama",
    aliases: &[],
    blueprint: DECODER,
    files: Files {
        keys: &[],
        harmless: &[],
        unused: &[],
        only: &[("attention_bias", false), ("mlp_bias", false)],
        defaults: Defaults {
            norm_eps: 1e-6,
            type_vocab: 0,
            pad_id: 0,
            head_dim: None,
            tied: false,
        },
        prefixes: &["model.", ""],
        names: NAMES,
        norm_offset: 0.0,
        local_layers: false,
        gguf: Some(Gguf { architectures: &["llama"], names: &GGUF_NAMES, paired_heads: true }),
        tokenizer: "PreTrained",
        classes: ["LlamaModel", "LlamaForCausalLM"],
        template: "chat",
        keeps_chat_template: false,
    },
    presets: &[
        LLAMA_3_2_1B,
        Preset {
            name: "smollm2-1.7b",
            layers: 24,
            kv_heads: 32,
            vocab: 49_152,
            max_positions: 8192,
            rope_theta: 130_000.0,
            attention: Attention::PLAIN,
            ..LLAMA_3_2_1B
        },
    ],
};

const LLAMA_3_2_1B: Preset = Preset {
    name: "llama-3.2-1b",
    head: Head::LanguageModel,
    token_heads: false,
    hidden: 2048,
    layers: 16,
    heads: 32,
    kv_heads: 8,
    head_dim: 64,
    intermediate: 8192,
    vocab: 128_256,
    max_positions: 131_072,
    type_vocab: 0,
    norm_eps: 1e-5,
    rope_theta: 500_000.0,
    attention: Attention {
        rope: RopeScaling::Llama3 { factor: 32.0, low: 1.0, high: 4.0, original: 8192.0 },
        ..Attention::PLAIN
    },
    pad_id: 0,
};
