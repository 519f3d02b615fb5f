//! Files that are not compiled, each for the component that is not reproduced.

use defrost_tokenizer::{CompileError, compile};
use serde_json::{Value, json};

use super::common::edited;

#[test]
fn what_is_not_reproduced_is_refused_by_name() {
    let (bert, qwen, xlm) = ("bert-classifier", "qwen2-mxbai", "xlm-roberta-classifier");
    let roberta = "roberta-classifier";
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true});
    let trimming = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
                          "trim_offsets": true, "add_prefix_space": false});
    let twice = json!({"type": "Sequence", "processors": [byte_level, trimming]});
    let late = |content: &str| {
        json!({"id": 3, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": true, "special": true})
    };
    for (model, pointer, value, part) in [
        (bert, "/version", json!("2.0"), "version"),
        (bert, "/normalizer", json!({"type": "NFD"}), "NFD"),
        (bert, "/normalizer", Value::Null, "another kind"),
        (bert, "/pre_tokenizer", json!({"type": "Whitespace"}), "Whitespace"),
        (bert, "/pre_tokenizer", Value::Null, "without pre-tokenizer"),
        (bert, "/post_processor", byte_level.clone(), "trim_offsets"),
        (xlm, "/post_processor", trimming.clone(), "trim_offsets"),
        (roberta, "/post_processor", twice, "trim_offsets"),
        (roberta, "/added_tokens/3", late("k><"), "k><"),
        (roberta, "/added_tokens/3", late(" <unk>"), "<unk>"),
        (roberta, "/added_tokens/4/normalized", json!(true), "<mask>"),
        (qwen, "/added_tokens/0/normalized", json!(true), "added token"),
        (bert, "/added_tokens/0/normalized", json!(true), "[PAD]"),
        (bert, "/added_tokens/0/single_word", json!(true), "[PAD]"),
        (bert, "/model/unk_token", json!("[NONE]"), "unk_token"),
        (bert, "/model/type", json!("WordLevel"), "type"),
        (bert, "/post_processor/single", json!([]), "each text once"),
        (bert, "/post_processor/single/0/SpecialToken/id", json!("[NONE]"), "id"),
        (qwen, "/pre_tokenizer", byte_level, "add_prefix_space"),
        (qwen, "/pre_tokenizer/pretokenizers/0/pattern/Regex", json!("\\w+"), "pattern"),
        (qwen, "/pre_tokenizer/pretokenizers/0/behavior", json!("Removed"), "pattern"),
        (qwen, "/model/dropout", json!(0.5), "dropout"),
        (qwen, "/model/ignore_merges", json!("yes"), "ignore_merges"),
        (qwen, "/model/continuing_subword_prefix", json!("##"), "continuing_subword_prefix"),
        (qwen, "/model/merges/0", json!(["never", "there"]), "do not exist"),
        (qwen, "/model/vocab/!", json!(1), "one id"),
        (xlm, "/model/byte_fallback", json!(true), "byte_fallback"),
        (xlm, "/model/unk_id", Value::Null, "unk_id"),
        (xlm, "/pre_tokenizer/prepend_scheme", json!("first"), "prepend_scheme"),
        (xlm, "/pre_tokenizer/replacement", json!("_"), "replacement"),
        (xlm, "/normalizer/normalizers/1/content", json!("-"), "content"),
        (
            xlm,
            "/normalizer/normalizers/0",
            json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            "charsmap",
        ),
    ] {
        let error = compile(&edited(model, pointer, value)).unwrap_err();
        assert!(matches!(error, CompileError::Unsupported(_)), "{pointer}: {error}");
        assert!(error.to_string().contains(part), "{pointer}: {error}");
    }
}

#[test]
fn no_file_is_no_reason_to_panic() {
    for text in ["", "[]", "{}", "{\"model\":{}}", "null"] {
        assert!(compile(text.as_bytes()).is_err(), "{text}");
    }
}
