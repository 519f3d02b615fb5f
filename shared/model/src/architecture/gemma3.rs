//! Gemma 3 (Gemma Team, 2025), the models that read text alone: norms before and after, windows on five of six layers with
//! angles of their own, GELU by tanh in the gate, word vectors times the square root of their length, and weights of norms
//! that files have less one.

use super::qwen2::{DECODER, GGUF_NAMES, NAMES};
use super::{Architecture, Blueprint, Defaults, FeedForward, Files, Gguf, Names, Placed, Preset};
use crate::{Attention, Head, LocalLayers};

pub(super) static GEMMA3: Architecture = Architecture {
    name: "gemma3_text",
    aliases: &[],
    blueprint: Blueprint {
        placed: Placed::Sandwich,
        embedding_scale: true,
        head_norms: true,
        feed_forward: FeedForward::GeGluTanh,
        ..DECODER
    },
    files: Files {
        keys: &[("hidden_activation", "hidden_act")],
        harmless: &[],
        unused: &[],
        only: &[("attention_bias", false)],
        defaults: Defaults {
            norm_eps: 1e-6,
            type_vocab: 0,
            pad_id: 0,
            head_dim: Some(256),
            tied: true,
        },
        prefixes: &["model.", ""],
        names: Names {
            head_norms: ["self_attn.q_norm", "self_attn.k_norm"],
            after_attention_norm: "post_attention_layernorm",
            output_norm: "pre_feedforward_layernorm",
            after_feed_forward_norm: "post_feedforward_layernorm",
            ..NAMES
        },
        norm_offset: 1.0,
        local_layers: true,
        gguf: Some(Gguf {
            architectures: &["gemma3"],
            names: &Names {
                head_norms: ["attn_q_norm", "attn_k_norm"],
                after_attention_norm: "post_attention_norm",
                after_feed_forward_norm: "post_ffw_norm",
                ..GGUF_NAMES
            },
            paired_heads: false,
        }),
        tokenizer: "Gemma",
        classes: ["Gemma3TextModel", "Gemma3ForCausalLM"],
        template: "chat",
        keeps_chat_template: false,
    },
    presets: &[
        GEMMA_3_270M,
        Preset { name: "gemma-3-1b", hidden: 1152, layers: 26, intermediate: 6912, ..GEMMA_3_270M },
    ],
};

const GEMMA_3_270M: Preset = Preset {
    name: "gemma-3-270m",
    head: Head::LanguageModel,
    token_heads: false,
    hidden: 640,
    layers: 18,
    heads: 4,
    kv_heads: 1,
    head_dim: 256,
    intermediate: 2048,
    vocab: 262_144,
    max_positions: 32_768,
    type_vocab: 0,
    norm_eps: 1e-6,
    rope_theta: 1e6,
    attention: Attention {
        local: Some(LocalLayers { window: 512, every: 6, theta: 1e4 }),
        ..Attention::PLAIN
    },
    pad_id: 0,
};
