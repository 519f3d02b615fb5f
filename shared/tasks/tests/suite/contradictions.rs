//! What a checkpoint's files say twice, or say and cannot mean: refused with file, key and what to do. And what they say
//! that changes nothing: packed to the same bytes.

use std::path::Path;

use defrost_model::Precision;
use defrost_pack::{ModelKind, SpecOptions};
use serde_json::{Value, json};

use super::cases::{copied, packed, refused};
use super::checkpoints::edit;

const BERT: &str = "golden/bert-embedding";
const CROSS: &str = "golden/bert-classifier";
const QWEN3: &str = "golden/qwen3-embedding";

fn none() -> SpecOptions {
    SpecOptions::default()
}

fn root(dir: &Path) -> String {
    packed(dir, Precision::F32, none()).unwrap().0.root.to_string()
}

fn told(dir: &Path, spec: SpecOptions) -> String {
    let told = packed(dir, Precision::F32, spec).unwrap().0.told;
    told.iter().map(|told| format!("{} {told}", told.what)).collect::<Vec<_>>().join("\n")
}

#[test]
fn what_two_keys_say_differently_is_refused() {
    let tanh = "torch.nn.modules.activation.Tanh";
    for (folder, file, keys, part) in [
        (
            CROSS,
            "config.json",
            json!({"num_labels": 2, "id2label": null}),
            "num_labels is 2, expected 1",
        ),
        (
            CROSS,
            "config.json",
            json!({"id2label": {"0": "no", "1": "yes"}}),
            "id2label is a map of 2 labels",
        ),
        (
            QWEN3,
            "config.json",
            json!({"layer_types": ["full_attention"]}),
            "layer_types is a list of 1 layers, expected one of the 3",
        ),
        (
            BERT,
            "config.json",
            json!({"embedding_size": 16}),
            "embedding_size is 16, expected the 32 of hidden_size",
        ),
        (
            BERT,
            "1_Pooling/config.json",
            json!({"word_embedding_dimension": 384}),
            "1_Pooling/config.json: word_embedding_dimension is 384, expected the 32",
        ),
        (
            BERT,
            "1_Pooling/config.json",
            json!({"embedding_dimension": 16}),
            "embedding_dimension is 16, expected the 32",
        ),
        (
            BERT,
            "config.json",
            json!({"matryoshka_dims": [16, 64]}),
            "16,64, expected at most the 32 dimensions",
        ),
        (BERT, "config.json", json!({"matryoshka_dims": [0, 16]}), "has a 0"),
        (
            "cases/F1b-logit-score",
            "1_LogitScore/config.json",
            json!({"true_token_id": 279, "false_token_id": 279}),
            "are both 279",
        ),
        (
            CROSS,
            "config.json",
            json!({"sbert_ce_default_activation_function": tanh}),
            "sbert_ce_default_activation_function is \"torch.nn.modules.activation.Tanh\"",
        ),
        (
            CROSS,
            "config.json",
            json!({"sentence_transformers": {"activation_fn": tanh}}),
            "sentence_transformers.activation_fn is",
        ),
        (
            CROSS,
            "config_sentence_transformers.json",
            json!({"activation_fn": "own.Sigmoid"}),
            "config_sentence_transformers.json: activation_fn is \"own.Sigmoid\"",
        ),
    ] {
        let dir = copied(folder);
        edit(dir.path(), file, keys.clone());
        let error = refused(dir.path(), none());
        assert!(error.contains(part), "{keys}: {error}");
    }
    let dir = copied("cases/G1-dense-module");
    let dense = r#"[{"type":"sentence_transformers.models.Transformer"},{"type":"sentence_transformers.models.Pooling","path":"1_Pooling"},{"type":"sentence_transformers.models.Dense","path":"2_Dense"}]"#;
    std::fs::write(dir.path().join("modules.json"), dense).unwrap();
    let path = dir.path().join("2_Dense/config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut keys: Value = serde_json::from_str(&text).unwrap();
    keys["activation_function"] = Value::Null;
    std::fs::write(&path, keys.to_string()).unwrap();
    assert!(refused(dir.path(), none()).contains("activation_function is null"));
}

#[test]
fn an_activation_that_can_be_served_is_told() {
    for (file, keys, part) in [
        (
            "config.json",
            json!({"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}),
            "activation Identity",
        ),
        (
            "config.json",
            json!({"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "4"}}),
            "NORMALIZATION=sigmoid",
        ),
        (
            "config_sentence_transformers.json",
            json!({"activation_fn": "torch.nn.modules.linear.Identity"}),
            "NORMALIZATION=raw",
        ),
    ] {
        let dir = copied(CROSS);
        edit(dir.path(), file, keys.clone());
        assert_eq!(root(dir.path()), root(copied(CROSS).path()));
        let told = told(dir.path(), none());
        assert!(told.contains(part), "{keys}: {told}");
    }
    // An embedder has no scores.
    let dir = copied(BERT);
    edit(dir.path(), "config_sentence_transformers.json", json!({"activation_fn": "own.Code"}));
    root(dir.path());
}

#[test]
fn lengths_and_cuts_that_the_model_does_not_have_are_refused() {
    let length = |max_length| SpecOptions { max_length: Some(max_length), ..none() };
    for (folder, spec, part) in [
        (BERT, length(257), "--max-length is 257, expected 1 to the 256 positions"),
        (BERT, length(0), "--max-length is 0"),
        (CROSS, length(100_000), "--max-length is 100000"),
    ] {
        let error = refused(copied(folder).path(), spec);
        assert!(error.contains(part), "{error}");
    }
    let dir = copied(BERT);
    edit(dir.path(), "sentence_bert_config.json", json!({"max_seq_length": 128}));
    let over = told(dir.path(), length(256));
    assert!(over.contains("--max-length, over the 128 of sentence_bert_config.json"), "{over}");
    assert!(!told(dir.path(), length(64)).contains("over the"));
    edit(dir.path(), "sentence_bert_config.json", json!({"max_seq_length": 4096}));
    let cut = told(dir.path(), none());
    assert!(cut.contains("256 tokens (the model's positions, as sentence_bert_config.json: max_seq_length is 4096)"), "{cut}");
    for (text, fits) in [
        ("999", false),
        ("16,33", false),
        ("33..", false),
        ("32", true),
        ("16..", true),
        ("none", true),
    ] {
        let spec = SpecOptions { matryoshka: Some(text.parse().unwrap()), ..none() };
        let found = packed(copied(BERT).path(), Precision::F32, spec).map(|_| ());
        assert_eq!(found.is_ok(), fits, "{text}: {found:?}");
        if let Err(error) = found {
            assert!(error.contains(&format!("--matryoshka is {text}")), "{error}");
        }
    }
}

/// Every name that sentence-transformers has had for the file, and an empty one is as good as none.
#[test]
fn the_transformers_file_goes_by_seven_names() {
    for family in ["bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet"] {
        let dir = copied(BERT);
        std::fs::write(dir.path().join("sentence_bert_config.json"), "{}").unwrap();
        let name = format!("sentence_{family}_config.json");
        std::fs::write(dir.path().join(&name), r#"{"max_seq_length":77,"do_lower_case":null}"#)
            .unwrap();
        let (packed, _) = packed(dir.path(), Precision::F32, none()).unwrap();
        assert_eq!(packed.spec.max_length, 77, "{name}");
        assert!(packed.told.iter().all(|told| told.what != "texts"), "{name}");
    }
}

/// What sentence-transformers makes of a folder without modules.json: vectors as they are.
#[test]
fn without_modules_vectors_are_not_normalised_and_it_is_said() {
    let plain = r#"[{"type":"sentence_transformers.models.Transformer"},{"type":"sentence_transformers.models.Pooling","path":"1_Pooling"}]"#;
    let listed = copied(BERT);
    std::fs::write(listed.path().join("modules.json"), plain).unwrap();
    assert!(!told(listed.path(), none()).contains("not normalised"));
    for alone in [false, true] {
        let dir = copied(BERT);
        std::fs::remove_file(dir.path().join("modules.json")).unwrap();
        if alone {
            std::fs::remove_dir_all(dir.path().join("1_Pooling")).unwrap();
        }
        let spec = SpecOptions { pooling: Some("mean".into()), ..none() };
        let (packed, _) = packed(dir.path(), Precision::F32, spec).unwrap();
        assert_eq!(packed.root.to_string(), root(listed.path()), "alone: {alone}");
        let told: Vec<String> = packed.told.iter().map(ToString::to_string).collect();
        let told = told.join("\n");
        assert!(told.contains("not normalised (no modules.json"), "{told}");
        assert!(!told.contains("(modules.json: Pooling)"), "{told}");
    }
}

/// sentence-transformers reads none of these without modules.json, so whether they count is asked.
#[test]
fn files_that_are_not_read_without_modules_are_asked_for() {
    let lower = json!({"do_lower_case": true, "max_seq_length": null});
    let prompts = json!({"prompts": {"query": "query: "}});
    let pooling = || SpecOptions { pooling: Some("mean".into()), ..none() };
    let kind = SpecOptions { kind: Some(ModelKind::Embedder), ..none() };
    for (keep, file, keys, part) in [
        (true, "config.json", json!({}), "1_Pooling/config.json"),
        (false, "sentence_bert_config.json", json!({"max_seq_length": 16}), "max_seq_length"),
        (false, "sentence_bert_config.json", lower, "sentence_bert_config.json: do_lower_case"),
        (false, "config_sentence_transformers.json", prompts, ": prompts"),
    ] {
        let dir = copied(BERT);
        std::fs::remove_file(dir.path().join("modules.json")).unwrap();
        std::fs::remove_file(dir.path().join("sentence_bert_config.json")).unwrap();
        if !keep {
            std::fs::remove_dir_all(dir.path().join("1_Pooling")).unwrap();
        }
        edit(dir.path(), file, keys);
        for spec in [none(), kind.clone()] {
            let error = refused(dir.path(), spec);
            for part in [part, "no modules.json", "--pooling", "take that out"] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
        let told = told(dir.path(), pooling());
        assert_eq!(told.contains("files read, though"), !keep, "{told}");
    }
    // Of a cross-encoder the length is said by the user, or taken out.
    let dir = copied(CROSS);
    edit(dir.path(), "sentence_bert_config.json", json!({"max_seq_length": 64}));
    let error = refused(dir.path(), none());
    assert!(error.contains("sentence_bert_config.json: max_seq_length"), "{error}");
    let length = SpecOptions { max_length: Some(64), ..none() };
    assert_eq!(packed(dir.path(), Precision::F32, length).unwrap().0.spec.max_length, 64);
}

/// A `model_type` of the other kind than the other files have is refused; the user's word settles it.
#[test]
fn a_model_type_of_the_other_kind_is_refused() {
    const FILE: &str = "config_sentence_transformers.json";
    for (folder, kind, own, other) in [
        (BERT, ModelKind::Embedder, "SentenceTransformer", "CrossEncoder"),
        (QWEN3, ModelKind::Embedder, "SentenceTransformer", "CrossEncoder"),
        (CROSS, ModelKind::Reranker, "CrossEncoder", "SentenceTransformer"),
        ("golden/qwen3-reranker", ModelKind::Reranker, "CrossEncoder", "SentenceTransformer"),
        ("golden/qwen2-mxbai", ModelKind::Reranker, "CrossEncoder", "SentenceTransformer"),
        ("cases/F1b-logit-score", ModelKind::Reranker, "CrossEncoder", "SentenceTransformer"),
    ] {
        let dir = copied(folder);
        let expected = root(dir.path());
        edit(dir.path(), FILE, json!({"model_type": own}));
        assert_eq!(root(dir.path()), expected, "{folder}");
        edit(dir.path(), FILE, json!({"model_type": other}));
        let error = refused(dir.path(), none());
        for part in [FILE, "model_type", "--kind embedder", "--kind reranker"] {
            assert!(error.contains(part), "{folder}: {error}");
        }
        let said = SpecOptions { kind: Some(kind), ..none() };
        assert_eq!(packed(dir.path(), Precision::F32, said).unwrap().0.root.to_string(), expected);
    }
}

#[test]
fn keys_and_paths_that_change_nothing_change_nothing() {
    let paths = |pooling: &str, first: &str| {
        json!([
            {"type": "sentence_transformers.models.Transformer", "path": first},
            {"type": "sentence_transformers.models.Pooling", "path": pooling},
            {"type": "sentence_transformers.models.Normalize", "path": "./2_Normalize//"}
        ])
    };
    let expected = root(copied(BERT).path());
    for (pooling, first) in [("./1_Pooling", "./"), ("1_Pooling/", "."), (".//1_Pooling/./", "")] {
        let dir = copied(BERT);
        std::fs::write(dir.path().join("modules.json"), paths(pooling, first).to_string()).unwrap();
        assert_eq!(root(dir.path()), expected, "{pooling}");
    }
    for outside in ["/etc", "../1_Pooling", "./../1_Pooling"] {
        let dir = copied(BERT);
        std::fs::write(dir.path().join("modules.json"), paths(outside, "").to_string()).unwrap();
        assert!(refused(dir.path(), none()).contains("leads out"), "{outside}");
    }
    let dir = copied(BERT);
    edit(dir.path(), "config.json", json!({"embedding_size": 32, "num_labels": 7}));
    edit(
        dir.path(),
        "1_Pooling/config.json",
        json!({"include_prompt": false, "embedding_dimension": 32.0}),
    );
    assert_eq!(root(dir.path()), expected);
    edit(dir.path(), "config_sentence_transformers.json", json!({"prompts": {"query": "q: "}}));
    let error = refused(dir.path(), none());
    assert!(error.contains("include_prompt is false") && error.contains("mean pooling"), "{error}");
}

/// Writes an element of an f32 tensor.
fn spoil(dir: &Path, tensor: &str, at: usize, value: f32) {
    let path = dir.join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let len = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    let start = header[tensor]["data_offsets"][0].as_u64().unwrap();
    let start = 8 + len + usize::try_from(start).unwrap() + at * 4;
    bytes[start..start + 4].copy_from_slice(&value.to_le_bytes());
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_damaged_tensor_that_is_not_used_is_told() {
    let expected = root(copied(BERT).path());
    for (value, part) in [(f32::NAN, "NaN at [1, 2]"), (f32::INFINITY, "inf at [1, 2]")] {
        let dir = copied(BERT);
        spoil(dir.path(), "pooler.dense.weight", 34, value);
        let told = told(dir.path(), none());
        assert!(
            told.contains("warning tensor \"pooler.dense.weight\"") && told.contains(part),
            "{told}"
        );
        assert_eq!(root(dir.path()), expected);
    }
    assert!(!told(copied(BERT).path(), none()).contains("warning"));
}

#[test]
fn a_weight_that_its_precision_would_make_infinite_is_refused() {
    for (tensor, at, place) in [
        ("embeddings.word_embeddings.weight", 33, "[1, 1]"),
        ("encoder.layer.1.attention.self.key.weight", 65, "[2, 1]"),
        ("encoder.layer.2.output.dense.weight", 64, "[1, 0]"),
    ] {
        for precision in [Precision::Int8, Precision::Bf16] {
            for value in [f32::MAX, -3.4e38] {
                let dir = copied(BERT);
                spoil(dir.path(), tensor, at, value);
                let error = packed(dir.path(), precision, none()).map(|_| ()).unwrap_err();
                for part in
                    [tensor, place, &format!("has {value:e}"), "makes infinite", "--precision f32"]
                {
                    assert!(error.contains(part), "{part}: {error}");
                }
            }
        }
        let dir = copied(BERT);
        spoil(dir.path(), tensor, at, 3.38e38);
        packed(dir.path(), Precision::Bf16, none()).unwrap();
        spoil(dir.path(), tensor, at, f32::MAX);
        root(dir.path());
    }
}
