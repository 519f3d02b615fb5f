//! Which keys of a checkpoint's configuration files are known, and what of them.
//!
//! The author of a model may write any key into its files, and libraries add new ones; one that changes what the model
//! computes, and is passed over here, would give other numbers without a word. So a key is either read, or known to change
//! nothing, or accepted with such values only as change nothing; with any other key, or value, the checkpoint is refused by
//! name. `null` is as good as absent everywhere. The table is the list of what is known; each row has a test.

use serde_json::{Map, Value};

use crate::Error;

/// A configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum File {
    /// config.json of `transformers`.
    Config,
    /// `sentence_bert_config.json`: the transformer as sentence-transformers loads it.
    Transformer,
    /// `config_sentence_transformers.json`: prompts and the like.
    SentenceTransformers,
    /// An entry of modules.json.
    Modules,
    /// The file `1_Pooling/config.json`.
    Pooling,
    /// The file `2_Dense/config.json`.
    Dense,
    /// The file `3_Normalize/config.json`.
    Normalize,
    /// The file `1_LogitScore/config.json`.
    LogitScore,
    /// The file `tokenizer_config.json`.
    Tokenizer,
    /// The file `special_tokens_map.json`.
    SpecialTokens,
}

/// What is known of a key.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    not(test),
    allow(dead_code, reason = "the value of a key that is read is for the row's test")
)]
pub(crate) enum Rule {
    /// The key is read. With this value, which is JSON, some model becomes another or is refused.
    Read(&'static str),
    /// The key changes nothing.
    Harmless,
    /// The key changes nothing with these values, which are JSON.
    Only(&'static [&'static str]),
    /// The key holds an object and changes nothing with these keys and values, which are JSON.
    Parts(&'static [(&'static str, &'static [&'static str])]),
}

use File::{
    Config, Dense, LogitScore, Modules, Normalize, Pooling, SentenceTransformers, SpecialTokens,
    Tokenizer, Transformer,
};
use Rule::{Harmless, Only, Parts, Read};

/// The key is `false`, or absent.
const NOT: Rule = Only(&["false"]);
/// The key is absent.
const ABSENT: Rule = Only(&[]);
/// The key asks for nothing: an empty object.
const EMPTY: Rule = Only(&["{}"]);
/// No share of the layers is left out in training; none ever is after it.
const NO_SHARE: Rule = Only(&["0", "0.0"]);
/// The key asks for nothing but leave to run code, which sentence-transformers takes from no file.
const ONLY_TRUST: Rule =
    Only(&["{}", r#"{"trust_remote_code":true}"#, r#"{"trust_remote_code":false}"#]);
/// Keys that only make the same numbers in another way, or in the way they are made anyway.
const LOADING: Rule = Parts(&[
    ("attn_implementation", &[r#""eager""#, r#""sdpa""#, r#""flash_attention_2""#]),
    ("dtype", &[r#""float32""#, r#""torch.float32""#]),
    ("torch_dtype", &[r#""float32""#, r#""torch.float32""#]),
    ("trust_remote_code", &["true", "false"]),
]);
/// Either value, since only the caller that loads a model decides it.
const EITHER: Rule = Only(&["false", "true"]);
/// A token that no tokenizer has.
const NO_TOKEN: Rule = Read(r#""no such token""#);
/// Such tokens.
const NO_TOKENS: Rule = Read(r#"["no such token"]"#);

/// All that is known, by file and then by key.
pub(crate) const KEYS: &[(File, &str, Rule)] = &[
    (Config, "_attn_implementation", Harmless),
    (Config, "_attn_implementation_autoset", Harmless),
    (Config, "_commit_hash", Harmless),
    (Config, "_flash_attn_2_enabled", Harmless),
    (Config, "_name_or_path", Harmless),
    (Config, "_num_labels", Harmless),
    (Config, "_sliding_window_pattern", Read("7")),
    (Config, "adapters", Only(&["{}", r#"{"adapters":{},"config_map":{},"hidden_size":0}"#])),
    (Config, "add_cross_attention", NOT),
    (Config, "architectures", Read(r#"["BertForTokenClassification"]"#)),
    (Config, "attention_bias", Read("true")),
    (Config, "attention_dropout", Harmless),
    (Config, "attention_probs_dropout_prob", Harmless),
    (Config, "attn_implementation", Harmless),
    (Config, "attn_logit_softcapping", ABSENT),
    (
        Config,
        "auto_map",
        Read(
            r#"{"AutoModel":"modeling.Model","AutoModelForCausalLM":"modeling.Model","AutoModelForSequenceClassification":"modeling.Model"}"#,
        ),
    ),
    (Config, "bad_words_ids", Harmless),
    (Config, "begin_suppress_tokens", Harmless),
    (Config, "bos_token_id", Harmless),
    (Config, "cache_implementation", Harmless),
    (Config, "chunk_size_feed_forward", Harmless),
    (Config, "classifier_dropout", Harmless),
    (Config, "config_kwargs", ONLY_TRUST),
    (Config, "cross_attention_hidden_size", ABSENT),
    (Config, "decoder_layerdrop", NO_SHARE),
    (Config, "decoder_start_token_id", Harmless),
    (Config, "directionality", Only(&[r#""bidi""#])),
    (Config, "diversity_penalty", Harmless),
    (Config, "do_sample", Harmless),
    (Config, "dtype", Harmless),
    (Config, "early_stopping", Harmless),
    (Config, "emb_size", Harmless),
    (Config, "embedding_size", Read("8")),
    (Config, "encoder_layerdrop", NO_SHARE),
    (Config, "encoder_no_repeat_ngram_size", Harmless),
    // Of language models it is read where generation_config.json does not say it.
    (Config, "eos_token_id", Harmless),
    (Config, "exponential_decay_length_penalty", Harmless),
    (Config, "final_logit_softcapping", ABSENT),
    (Config, "finetuning_task", Harmless),
    (Config, "forced_bos_token_id", Harmless),
    (Config, "forced_eos_token_id", Harmless),
    (Config, "gradient_checkpointing", Harmless),
    (Config, "head_dim", Read("8")),
    (Config, "hidden_act", Read(r#""relu""#)),
    (Config, "hidden_dropout_prob", Harmless),
    (Config, "hidden_size", Read("8")),
    (Config, "id2label", Read(r#"{"0":"no","1":"yes"}"#)),
    (Config, "initializer_factor", Harmless),
    (Config, "initializer_range", Harmless),
    (Config, "intermediate_size", Read("8")),
    (Config, "is_causal", Read("false")),
    (Config, "is_composition", Harmless),
    (Config, "is_decoder", NOT),
    (Config, "is_encoder_decoder", NOT),
    (Config, "is_llama_config", Harmless),
    (Config, "is_matryoshka", Read("true")),
    (Config, "keys_to_ignore_at_inference", Harmless),
    (Config, "label2id", Harmless),
    (Config, "language", Harmless),
    (Config, "layer_norm_eps", Read("0.5")),
    (Config, "layer_types", Read(r#"["sliding_attention"]"#)),
    (Config, "layerdrop", NO_SHARE),
    (Config, "length_penalty", Harmless),
    (Config, "license", Harmless),
    (Config, "matryoshka_dimensions", Read("[8]")),
    (Config, "matryoshka_dims", Read("[8]")),
    (Config, "max_length", Harmless),
    (Config, "max_position_embeddings", Read("64")),
    (Config, "max_window_layers", Harmless),
    (Config, "min_length", Harmless),
    (Config, "mlp_bias", NOT),
    (Config, "model_kwargs", ONLY_TRUST),
    (Config, "model_max_length", Harmless),
    (Config, "model_type", Read(r#""t5""#)),
    (Config, "no_repeat_ngram_size", Harmless),
    (Config, "num_attention_heads", Read("3")),
    (Config, "num_beam_groups", Harmless),
    (Config, "num_beams", Harmless),
    (Config, "num_hidden_layers", Read("1")),
    (Config, "num_key_value_heads", Read("3")),
    (Config, "num_labels", Read("2")),
    (Config, "num_return_sequences", Harmless),
    (Config, "output_attentions", Harmless),
    (Config, "output_hidden_states", Harmless),
    (Config, "output_past", Harmless),
    (Config, "output_scores", Harmless),
    (Config, "pad_token_id", Read("7")),
    (Config, "pooler_fc_size", Harmless),
    (Config, "pooler_num_attention_heads", Harmless),
    (Config, "pooler_num_fc_layers", Harmless),
    (Config, "pooler_size_per_head", Harmless),
    (Config, "pooler_type", Harmless),
    (Config, "position_embedding_type", Only(&[r#""absolute""#])),
    (Config, "prefix", Harmless),
    (Config, "pretraining_tp", Only(&["1"])),
    (Config, "problem_type", Harmless),
    (Config, "pruned_heads", Only(&["{}"])),
    (Config, "quantization_config", EMPTY),
    (Config, "query_pre_attn_scalar", Read("8")),
    (Config, "remove_invalid_values", Harmless),
    (Config, "repetition_penalty", Harmless),
    (Config, "return_dict", Harmless),
    (Config, "return_dict_in_generate", Harmless),
    (Config, "rms_norm_eps", Read("0.5")),
    (Config, "rope_interleaved", NOT),
    (Config, "rope_local_base_freq", Read("8.0")),
    (Config, "rope_parameters", Read(r#"{"rope_type":"yarn"}"#)),
    (Config, "rope_scaling", Read(r#"{"rope_type":"yarn"}"#)),
    (Config, "rope_theta", Read("77.0")),
    (Config, "sbert_ce_default_activation_function", Read(r#""torch.nn.modules.activation.Tanh""#)),
    (
        Config,
        "sentence_transformers",
        Read(r#"{"activation_fn":"torch.nn.modules.activation.Tanh"}"#),
    ),
    (Config, "sep_token_id", Harmless),
    // Of Gemma 3 it is read; models of other families have it where use_sliding_window is false.
    (Config, "sliding_window", Harmless),
    (Config, "sliding_window_pattern", Read("7")),
    (Config, "suppress_tokens", Harmless),
    (Config, "task_specific_params", Harmless),
    (Config, "temperature", Harmless),
    (Config, "tf_legacy_loss", Harmless),
    (Config, "tie_encoder_decoder", NOT),
    (Config, "tie_word_embeddings", Read("false")),
    (Config, "tokenizer_class", Read(r#""BertJapaneseTokenizer""#)),
    (Config, "tokenizer_kwargs", ONLY_TRUST),
    (Config, "top_k", Harmless),
    (Config, "top_p", Harmless),
    (Config, "torch_dtype", Harmless),
    (Config, "torchscript", Harmless),
    (Config, "transformers.js_config", Harmless),
    (Config, "transformers_version", Harmless),
    (Config, "trust_remote_code", EITHER),
    (Config, "type_vocab_size", Read("3")),
    (Config, "typical_p", Harmless),
    (Config, "unsloth_fixed", Harmless),
    (Config, "unsloth_version", Harmless),
    (Config, "use_bfloat16", Harmless),
    (Config, "use_bidirectional_attention", Read("true")),
    (Config, "use_cache", Harmless),
    (Config, "use_flash_attn", Harmless),
    (Config, "use_mrope", NOT),
    (Config, "use_return_dict", Harmless),
    (Config, "use_sliding_window", NOT),
    (Config, "vocab_size", Read("8")),
    (Config, "xla_device", Harmless),
    (Transformer, "backend", Harmless),
    (Transformer, "config_args", ONLY_TRUST),
    (Transformer, "config_kwargs", ONLY_TRUST),
    (Transformer, "do_lower_case", Read("true")),
    (Transformer, "document_length", ABSENT),
    (Transformer, "max_seq_length", Read("17")),
    (
        Transformer,
        "modality_config",
        Only(&[
            "{}",
            r#"{"text":{"method":"forward","method_output_name":"last_hidden_state"}}"#,
            r#"{"text":{"method":"forward","method_output_name":"logits"}}"#,
            r#"{"text":{"method":"forward","method_output_name":["logits"]}}"#,
            r#"{"message":{"format":"flat","method":"forward","method_output_name":"logits"},"text":{"method":"forward","method_output_name":"logits"}}"#,
            r#"{"message":{"format":"flat","method":"forward","method_output_name":"last_hidden_state"},"text":{"method":"forward","method_output_name":"last_hidden_state"}}"#,
        ]),
    ),
    (Transformer, "model_args", LOADING),
    (Transformer, "model_kwargs", LOADING),
    (Transformer, "model_name_or_path", Harmless),
    (
        Transformer,
        "module_output_name",
        Only(&[r#""token_embeddings""#, r#""scores""#, r#""causal_logits""#]),
    ),
    (
        Transformer,
        "processing_kwargs",
        Only(&["{}", r#"{"chat_template":{"add_generation_prompt":true}}"#]),
    ),
    (Transformer, "processor_kwargs", ONLY_TRUST),
    (Transformer, "query_expansion", ABSENT),
    (Transformer, "query_length", ABSENT),
    (Transformer, "return_token_type_ids", NOT),
    (Transformer, "tokenizer_args", ONLY_TRUST),
    (Transformer, "tokenizer_kwargs", ONLY_TRUST),
    (Transformer, "tokenizer_name_or_path", ABSENT),
    (Transformer, "transformer_task", Read(r#""fill-mask""#)),
    (Transformer, "trust_remote_code", EITHER),
    (Transformer, "unpad_inputs", Harmless),
    (Transformer, "vocab_size", Harmless),
    (SentenceTransformers, "__version__", Harmless),
    (SentenceTransformers, "activation_fn", Read(r#""torch.nn.modules.activation.Tanh""#)),
    (SentenceTransformers, "default_prompt_name", Read(r#""none of them""#)),
    (SentenceTransformers, "keep_in_fp32_modules", Harmless),
    (SentenceTransformers, "model_type", Read(r#""SparseEncoder""#)),
    (SentenceTransformers, "prompts", Read(r#"{"query":"another: "}"#)),
    (SentenceTransformers, "similarity_fn_name", Read(r#""euclidean""#)),
    (SentenceTransformers, "truncate_dim", ABSENT),
    (Modules, "idx", Harmless),
    (Modules, "kwargs", Read(r#"["task"]"#)),
    (Modules, "name", Read(r#""0""#)),
    (Modules, "path", Read(r#""elsewhere""#)),
    (Modules, "type", Read(r#""own.Code""#)),
    (Pooling, "embedding_dimension", Read("8")),
    (Pooling, "include_prompt", Read("false")),
    (Pooling, "pooling_mode", Read(r#""max""#)),
    (Pooling, "pooling_mode_cls_token", Read("true")),
    (Pooling, "pooling_mode_lasttoken", Read("true")),
    (Pooling, "pooling_mode_max_tokens", Read("true")),
    (Pooling, "pooling_mode_mean_sqrt_len_tokens", Read("true")),
    (Pooling, "pooling_mode_mean_tokens", Read("false")),
    (Pooling, "pooling_mode_weightedmean_tokens", Read("true")),
    (Pooling, "word_embedding_dimension", Read("8")),
    (Dense, "activation_function", Read(r#""torch.nn.modules.activation.Sigmoid""#)),
    (Dense, "bias", Read("false")),
    (Dense, "in_features", Read("9")),
    (Dense, "module_input_name", Only(&[r#""sentence_embedding""#])),
    (Dense, "module_output_name", Only(&[r#""sentence_embedding""#])),
    (Dense, "out_features", Read("9")),
    (Dense, "use_residual", NOT),
    (Normalize, "module_input_name", Only(&[r#""sentence_embedding""#])),
    (Normalize, "module_output_name", Only(&[r#""sentence_embedding""#])),
    (LogitScore, "false_token_id", Read("9")),
    (LogitScore, "module_input_name", Only(&[r#""causal_logits""#])),
    (LogitScore, "true_token_id", Read("9")),
    (Tokenizer, "_commit_hash", Harmless),
    (Tokenizer, "add_bos_token", Read("true")),
    (Tokenizer, "add_eos_token", Read("true")),
    (Tokenizer, "add_prefix_space", Read("true")),
    (Tokenizer, "added_tokens_decoder", Read(r#"{"7":{"content":"no such token"}}"#)),
    (Tokenizer, "additional_special_tokens", NO_TOKENS),
    (Tokenizer, "auto_map", Read(r#"{"AutoTokenizer":["own.Tokenizer",null]}"#)),
    (Tokenizer, "backend", Harmless),
    (Tokenizer, "boi_token", Harmless),
    (Tokenizer, "bos_token", NO_TOKEN),
    (Tokenizer, "chat_template", Harmless),
    (Tokenizer, "clean_up_tokenization_spaces", Harmless),
    (Tokenizer, "cls_token", NO_TOKEN),
    (Tokenizer, "do_basic_tokenize", Only(&["true"])),
    (Tokenizer, "do_lower_case", Read("false")),
    (Tokenizer, "eoi_token", Harmless),
    (Tokenizer, "eos_token", NO_TOKEN),
    (Tokenizer, "errors", Harmless),
    (Tokenizer, "extra_special_tokens", NO_TOKENS),
    // It changes nothing of other families; of Mistral's, which only ONNX models may be, it is refused.
    (Tokenizer, "fix_mistral_regex", EITHER),
    (Tokenizer, "from_slow", Harmless),
    (Tokenizer, "image_token", Harmless),
    (Tokenizer, "is_local", Harmless),
    (Tokenizer, "legacy", Harmless),
    (Tokenizer, "local_files_only", Harmless),
    (Tokenizer, "mask_token", NO_TOKEN),
    (Tokenizer, "max_len", Read("17")),
    (Tokenizer, "max_length", Harmless),
    (Tokenizer, "model_input_names", Read(r#"["input_ids","attention_mask"]"#)),
    (Tokenizer, "model_kwargs", EMPTY),
    (Tokenizer, "model_max_length", Read("17")),
    (Tokenizer, "model_specific_special_tokens", Read(r#"{"own_token":"no such token"}"#)),
    (Tokenizer, "name_or_path", Harmless),
    (Tokenizer, "never_split", Only(&["[]"])),
    (Tokenizer, "pad_to_multiple_of", Harmless),
    (Tokenizer, "pad_token", NO_TOKEN),
    (Tokenizer, "pad_token_type_id", Harmless),
    (Tokenizer, "padding", Harmless),
    (Tokenizer, "padding_side", Harmless),
    (Tokenizer, "processor_class", Harmless),
    (Tokenizer, "return_token_type_ids", EITHER),
    (Tokenizer, "sep_token", NO_TOKEN),
    (Tokenizer, "sp_model_kwargs", Only(&["{}"])),
    (Tokenizer, "spaces_between_special_tokens", Harmless),
    (Tokenizer, "special_tokens_map_file", Harmless),
    (Tokenizer, "split_special_tokens", NOT),
    (Tokenizer, "stride", Harmless),
    (Tokenizer, "strip_accents", Read("false")),
    (Tokenizer, "tokenize_chinese_chars", Read("false")),
    (Tokenizer, "tokenizer_class", Read(r#""BertJapaneseTokenizer""#)),
    (Tokenizer, "tokenizer_file", Harmless),
    (Tokenizer, "tokenizer_kwargs", EMPTY),
    (Tokenizer, "trim_offsets", Harmless),
    (Tokenizer, "truncation", Harmless),
    (Tokenizer, "truncation_side", Only(&[r#""right""#])),
    (Tokenizer, "truncation_strategy", Harmless),
    (Tokenizer, "trust_remote_code", EITHER),
    (Tokenizer, "unk_token", NO_TOKEN),
    (Tokenizer, "use_default_system_prompt", Harmless),
    (Tokenizer, "use_fast", Harmless),
    (Tokenizer, "vocab_file", Harmless),
    (Tokenizer, "vocab_size", Harmless),
    (Tokenizer, "wordpieces_prefix", Only(&[r###""##""###])),
    (SpecialTokens, "additional_special_tokens", NO_TOKENS),
    (SpecialTokens, "boi_token", Harmless),
    (SpecialTokens, "bos_token", NO_TOKEN),
    (SpecialTokens, "cls_token", NO_TOKEN),
    (SpecialTokens, "eoi_token", Harmless),
    (SpecialTokens, "eos_token", NO_TOKEN),
    (SpecialTokens, "extra_special_tokens", NO_TOKENS),
    (SpecialTokens, "image_token", Harmless),
    (SpecialTokens, "mask_token", NO_TOKEN),
    (SpecialTokens, "pad_token", NO_TOKEN),
    (SpecialTokens, "sep_token", NO_TOKEN),
    (SpecialTokens, "unk_token", NO_TOKEN),
];

/// Refuses keys that are not known, and values that change what is not honoured. `name` is the file's, for the message.
pub(crate) fn check(file: File, name: &str, keys: &Map<String, Value>) -> Result<(), Error> {
    for (key, value) in keys.iter().filter(|(_, value)| !value.is_null()) {
        let row = KEYS.iter().find(|row| row.0 == file && row.1 == key);
        match row.map(|row| row.2) {
            Some(Read(_) | Harmless) => {}
            Some(Parts(parts)) => check_parts(name, key, value, parts)?,
            Some(Only(values)) if values.iter().any(|known| is(value, known)) => {}
            Some(Only(values)) => {
                let expected: Vec<&str> = values.iter().copied().chain(["no such key"]).collect();
                return Err(Error::Model(format!(
                    "{name}: {key} is {}, which would change results and is not supported: expected {}",
                    shortened(value),
                    expected.join(" or ")
                )));
            }
            None => {
                return Err(Error::Model(format!(
                    "{name}: {key} is {}, and this version does not know whether that key changes results: expected known \
                     keys only. If it changes nothing, take it out of {name} in a copy of the folder and pack that",
                    shortened(value)
                )));
            }
        }
    }
    Ok(())
}

/// Refuses what is no object of such keys and values.
fn check_parts(
    name: &str,
    key: &str,
    value: &Value,
    parts: &[(&str, &[&str])],
) -> Result<(), Error> {
    let known = |inner: &str, value: &Value| {
        let part = parts.iter().find(|part| part.0 == inner);
        value.is_null() || part.is_some_and(|part| part.1.iter().any(|known| is(value, known)))
    };
    let object = value.as_object();
    if object.is_some_and(|object| object.iter().all(|(inner, value)| known(inner, value))) {
        return Ok(());
    }
    let expected = parts.iter().map(|(inner, values)| format!("{inner} {}", values.join(" or ")));
    Err(Error::Model(format!(
        "{name}: {key} is {}, which would change results and is not supported: expected at most {}",
        shortened(value),
        expected.collect::<Vec<_>>().join(", ")
    )))
}

/// Whether a value is that JSON, whatever the order of keys.
fn is(value: &Value, json: &str) -> bool {
    serde_json::from_str::<Value>(json).is_ok_and(|known| known == *value)
}

/// Longest value that a message repeats.
const LONGEST: usize = 80;

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests;
