//! Qwen2 (Yang et al., 2024): pre-norm causal decoder, grouped-query attention, rotary positions, biased q/k/v.

use super::{
    Architecture, Biases, Blueprint, Defaults, FeedForward, Files, Gguf, Names, Norm, Placed,
    Positions, Preset,
};
use crate::{Attention, Head};

pub(super) static QWEN2: Architecture = Architecture {
    name: "qwen2",
    aliases: &[],
    blueprint: Blueprint { biases: Biases { qkv: true, ..Biases::NONE }, ..DECODER },
    files: Files {
        keys: &[],
        harmless: &[],
        unused: &[],
        only: &[],
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
        gguf: Some(Gguf { architectures: &["qwen2"], names: &GGUF_NAMES, paired_heads: false }),
        tokenizer: "Qwen2",
        classes: ["Qwen2Model", "Qwen2ForCausalLM"],
        template: "mxbai-rerank-v2",
        keeps_chat_template: true,
    },
    presets: &[
        RERANKER,
        Preset { name: "qwen2.5-0.5b-instruct", head: Head::LanguageModel, ..RERANKER },
    ],
};

const RERANKER: Preset = Preset {
    name: "mxbai-rerank-base-v2",
    head: Head::YesNo,
    token_heads: false,
    hidden: 896,
    layers: 24,
    heads: 14,
    kv_heads: 2,
    head_dim: 64,
    intermediate: 4864,
    vocab: 151_936,
    max_positions: 32_768,
    type_vocab: 0,
    norm_eps: 1e-6,
    rope_theta: 1e6,
    attention: Attention::PLAIN,
    pad_id: 1,
};

/// What Qwen's decoders compute.
pub(super) const DECODER: Blueprint = Blueprint {
    norm: Norm::Rms,
    placed: Placed::Pre,
    positions: Positions::Rotary,
    token_types: false,
    embedding_norm: false,
    embedding_scale: false,
    final_norm: true,
    causal: true,
    biases: Biases::NONE,
    head_norms: false,
    feed_forward: FeedForward::SwiGlu,
    classifier: None,
};

/// Names that Qwen's decoders share.
pub(super) const NAMES: Names = Names {
    words: "embed_tokens",
    positions: "",
    types: "",
    embedding_norm: "",
    layer: "layers.{}.",
    qkv: ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    out: "self_attn.o_proj",
    attention_norm: "input_layernorm",
    after_attention_norm: "",
    head_norms: ["", ""],
    up: &["mlp.gate_proj", "mlp.up_proj"],
    down: "mlp.down_proj",
    output_norm: "post_attention_layernorm",
    after_feed_forward_norm: "",
    final_norm: "norm",
    classifier: ["", ""],
};

/// Names that decoders share in GGUF files.
pub(super) const GGUF_NAMES: Names = Names {
    words: "token_embd",
    layer: "blk.{}.",
    qkv: ["attn_q", "attn_k", "attn_v"],
    out: "attn_output",
    attention_norm: "attn_norm",
    up: &["ffn_gate", "ffn_up"],
    down: "ffn_down",
    output_norm: "ffn_norm",
    final_norm: "output_norm",
    ..NAMES
};
