//! What made-up language models have beside a reranker's files: the keys of their attention, a template, the tokens that end a
//! turn.

use defrost_model::{ModelConfig, RopeScaling};
use serde_json::{Map, Value, json};

/// ChatML, as Qwen and SmolLM have it.
pub(super) const TEMPLATE: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// Keys of config.json.
pub(super) fn attention(config: &ModelConfig) -> Map<String, Value> {
    let mut keys = Map::new();
    match config.attention.rope {
        RopeScaling::None => {}
        RopeScaling::Linear { factor } => {
            keys.insert("rope_scaling".into(), json!({"rope_type": "linear", "factor": factor}));
        }
        RopeScaling::Llama3 { factor, low, high, original } => {
            let scaling = json!({
                "rope_type": "llama3", "factor": factor, "low_freq_factor": low,
                "high_freq_factor": high, "original_max_position_embeddings": original,
            });
            keys.insert("rope_scaling".into(), scaling);
        }
    }
    if config.family.files.local_layers {
        let scale = config.attention.scale.map(|scale| f64::from(scale).powi(-2));
        let scalar = scale.map_or(json!(config.head_dim), |scalar| json!(scalar.round()));
        keys.insert("query_pre_attn_scalar".into(), scalar);
    }
    if let Some(local) = config.attention.local {
        keys.insert("sliding_window".into(), json!(local.window));
        keys.insert("sliding_window_pattern".into(), json!(local.every));
        keys.insert("rope_local_base_freq".into(), json!(local.theta));
    }
    keys
}

/// Files beside config.json.
pub(super) fn files() -> [(&'static str, Value); 2] {
    let tokenizer = json!({
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>", "eos_token": "<|im_end|>", "chat_template": TEMPLATE,
    });
    let generation = json!({"do_sample": true, "temperature": 0.7, "top_p": 0.8, "top_k": 20});
    [("tokenizer_config.json", tokenizer), ("generation_config.json", generation)]
}
