//! What cannot be computed rightly is refused, with a message that says what to do.

use super::common::{self, LINKED};

use std::path::Path;

use defrost_model::{Precision, isa};
use defrost_pack::{Checkpoint, Outliers, PackOptions, SpecOptions, pack};
use defrost_tasks::{
    Error, Reranker, RerankerOptions, RestoreOptions, ScoreTask, Truncation, restore,
};
use defrost_testing::golden;

/// A copy of a tiny checkpoint whose files may be changed.
fn copy(model: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden::checkpoint(model)).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
    }
    dir
}

fn try_pack(dir: &Path, options: SpecOptions) -> Result<(), String> {
    let checkpoint = Checkpoint::open(dir).map_err(|err| err.to_string())?;
    let options = PackOptions {
        spec: options,
        precision: Precision::Int8,
        isa: isa::NATIVE.to_owned(),
        outliers: Outliers::Auto,
        store_prefix: true,
    };
    let out = dir.join("out.snap");
    let result = pack(&checkpoint, &options, &out, &mut |_, _| {}).map(|_| ());
    assert_eq!(out.exists(), result.is_ok(), "a failed pack leaves no snapshot behind");
    result.map_err(|err| err.to_string())
}

fn with_config(model: &str, key: &str, value: serde_json::Value) -> Result<(), String> {
    let dir = copy(model);
    let path = dir.path().join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    std::fs::write(&path, config.to_string()).unwrap();
    try_pack(dir.path(), SpecOptions::default())
}

#[test]
fn variants_that_would_be_computed_wrongly_are_refused() {
    let cases = [
        ("bert-classifier", "hidden_act", "relu".into(), "hidden_act is relu, expected gelu"),
        ("bert-classifier", "model_type", "t5".into(), "model_type is \"t5\", expected one of"),
        (
            "bert-classifier",
            "position_embedding_type",
            "relative_key".into(),
            "expected \"absolute\"",
        ),
        ("qwen2-mxbai", "use_sliding_window", true.into(), "use_sliding_window"),
        ("qwen3-reranker", "attention_bias", true.into(), "attention_bias is true"),
        ("bert-classifier", "is_decoder", true.into(), "is_decoder is true"),
        ("bert-classifier", "num_hidden_layers", 2.into(), "layer.2"),
        ("qwen2-mxbai", "num_key_value_heads", 3.into(), "evenly"),
        ("qwen2-mxbai", "hidden_size", 32.into(), "expected"),
        ("qwen3-reranker", "num_hidden_layers", 4.into(), "layers.3"),
        ("xlm-roberta-classifier", "vocab_size", 10.into(), "different models"),
        ("qwen2-mxbai", "vocab_size", 5.into(), "5 words"),
    ];
    for (model, key, value, message) in cases {
        let found = with_config(model, key, value).unwrap_err();
        assert!(found.contains(message), "{model} {key}: {found}");
    }
}

#[test]
fn incomplete_checkpoints_are_refused() {
    for (file, message) in [
        ("config.json", "no config.json"),
        ("tokenizer.json", "no tokenizer.json"),
        ("model.safetensors", "model.safetensors"),
    ] {
        let dir = copy("bert-classifier");
        std::fs::remove_file(dir.path().join(file)).unwrap();
        let found = try_pack(dir.path(), SpecOptions::default()).unwrap_err();
        assert!(found.contains(message), "{file}: {found}");
    }
    let dir = copy("bert-classifier");
    let wrong = SpecOptions { template: Some("qwen3-reranker".into()), ..SpecOptions::default() };
    assert!(try_pack(dir.path(), wrong).unwrap_err().contains("does not fit a bert model"));
    let wrong = SpecOptions { template: Some("poem".into()), ..SpecOptions::default() };
    assert!(try_pack(dir.path(), wrong).unwrap_err().contains("unknown template \"poem\""));
    let short = SpecOptions { max_length: Some(4), ..SpecOptions::default() };
    assert!(try_pack(dir.path(), short).unwrap_err().contains("a maximum length of 4 tokens"));
}

/// A copy of an embedding checkpoint with one of its sentence-transformers files replaced.
fn with_file(file: &str, content: &str) -> Result<(), String> {
    let dir = copy("bert-embedding");
    std::fs::create_dir(dir.path().join("1_Pooling")).unwrap();
    let pooling = golden::checkpoint("bert-embedding").join("1_Pooling/config.json");
    std::fs::copy(pooling, dir.path().join("1_Pooling/config.json")).unwrap();
    std::fs::write(dir.path().join(file), content).unwrap();
    try_pack(dir.path(), SpecOptions::default())
}

#[test]
fn embedders_of_another_make_are_refused() {
    let pooling = "1_Pooling/config.json";
    for content in [
        r#"{"pooling_mode_cls_token": true}"#,
        r#"{"pooling_mode": "max"}"#,
        r#"{"pooling_mode": ["weightedmean"]}"#,
        r#"{"pooling_mode_lasttoken": true, "include_prompt": false}"#,
        // There are no prompts to leave out.
        r#"{"pooling_mode_mean_tokens": true, "include_prompt": false}"#,
        "{}",
    ] {
        assert_eq!(with_file(pooling, content), Ok(()), "{content}");
    }
    let steps = |named: &[&str]| {
        let modules = named.iter().map(|name| {
            let path = if *name == "Pooling" { "1_Pooling" } else { "" };
            format!(r#"{{"type": "sentence_transformers.models.{name}", "path": "{path}"}}"#)
        });
        format!("[{}]", modules.collect::<Vec<_>>().join(","))
    };
    let all = ["Transformer", "Pooling", "Dropout", "Normalize"];
    assert_eq!(with_file("modules.json", &steps(&all)), Ok(()));
    for (named, message) in [
        (&["Transformer", "Pooling", "LSTM"][..], "module 2, \"LSTM\", is not supported"),
        (&["Transformer", "Pooling", "Normalize", "Dense"], "\"Dense\", comes after Normalize"),
        (&["Transformer", "Dense", "Pooling"], "\"Dense\", comes before the pooling"),
        (&["Transformer", "Pooling", "Pooling"], "\"Pooling\", is not supported there"),
        (&["Pooling", "Normalize"], "\"Pooling\", is out of place"),
        (&["StaticEmbedding", "Normalize"], "\"StaticEmbedding\", is out of place"),
        (&["Transformer", "WeightedLayerPooling", "Pooling"], "\"WeightedLayerPooling\", is not"),
        (&["Transformer", "SpladePooling"], "\"SpladePooling\", is not supported"),
    ] {
        let found = with_file("modules.json", &steps(named)).unwrap_err();
        assert!(found.contains(message), "{named:?}: {found}");
    }
    let own = r#"[{"type": "custom_st.Transformer"}]"#;
    for (file, content, message) in [
        ("modules.json", own, "is code of its own (\"custom_st.Transformer\")"),
        (
            pooling,
            r#"{"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": true}"#,
            "[\"max_tokens\", \"mean_tokens\"] are set",
        ),
        (pooling, r#"{"pooling_mode": ["mean", "cls"]}"#, "[\"mean\", \"cls\"] are set"),
        (pooling, r#"{"pooling_mode": "median"}"#, "pooling mode \"median\" is not known"),
        (pooling, r#"{"pooling_mode": 7}"#, "pooling mode \"7\" is not known"),
        (pooling, r#"{"pooling_mode_mean_tokens": false}"#, "[] are set"),
        (pooling, "nonsense", "1_Pooling/config.json"),
    ] {
        let found = with_file(file, content).unwrap_err();
        assert!(found.contains(message), "{file} {content}: {found}");
    }
}

fn request(document: &str, truncation: Truncation) -> ScoreTask {
    ScoreTask {
        query: "who wrote it?".into(),
        documents: vec![document.to_owned()],
        instruction: None,
        truncation,
    }
}

#[test]
fn truncation_is_reported_limited_and_refused_on_request() {
    for model in golden::PAIR_MODELS.into_iter().chain(golden::EMBEDDING_MODELS) {
        let options = RerankerOptions { max_length: Some(160), ..RerankerOptions::default() };
        let reranker = common::reranker(&golden::checkpoint(model), Precision::Int8, &options);
        let score = |document: &str, truncation| {
            reranker.score(&[request(document, truncation)], &|| false).map(|scores| scores[0][0])
        };
        let long = "Harper Lee wrote it in 1960. ".repeat(60);
        let fits = score("Harper Lee", Truncation::default()).unwrap();
        assert!(!fits.truncated, "{model}");
        let cut = score(&long, Truncation::default()).unwrap();
        assert!(cut.truncated && cut.tokens > fits.tokens, "{model}");
        let forbidden = Truncation { forbidden: true, ..Truncation::default() };
        assert!(score("Harper Lee", forbidden.clone()).is_ok(), "{model}");
        assert!(matches!(score(&long, forbidden), Err(Error::TooLong { .. })), "{model}");
        let two = Truncation { max_tokens_per_doc: Some(2), ..Truncation::default() };
        let limited = score(&long, two).unwrap();
        assert!(limited.truncated && limited.tokens < cut.tokens, "{model}");
    }
}

#[test]
fn a_client_that_has_gone_stops_the_work() {
    let reranker = common::reranker(
        &golden::checkpoint("bert-classifier"),
        Precision::Int8,
        &RerankerOptions::default(),
    );
    let result = reranker.score(&[request("text", Truncation::default())], &|| true);
    assert!(matches!(result, Err(Error::Cancelled)));
}

#[test]
fn sums_that_are_not_finite_never_become_a_score() {
    // Finite each, and their sums are not.
    let dir = super::cases::copied("golden/bert-embedding");
    let path = dir.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    for value in bytes[8 + header..].chunks_exact_mut(4) {
        value.copy_from_slice(&3e38f32.to_le_bytes());
    }
    std::fs::write(&path, bytes).unwrap();
    for precision in Precision::ALL {
        let reranker = common::reranker(dir.path(), precision, &RerankerOptions::default());
        let result = reranker.score(&[request("text", Truncation::default())], &|| false);
        assert!(
            matches!(result, Err(Error::NonFinite { request: 0, index: 0 })),
            "{precision:?}: {result:?}"
        );
    }
}

#[test]
fn a_maximum_length_without_room_for_text_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.snap");
    common::pack_to(&golden::checkpoint("qwen3-reranker"), Precision::F32, isa::NATIVE, &path);
    let snapshot = restore(LINKED, &path.as_path().into(), &RestoreOptions::default()).unwrap();
    let options = RerankerOptions { max_length: Some(10), ..RerankerOptions::default() };
    let message = Reranker::load(LINKED, &snapshot, &options).unwrap_err().to_string();
    assert!(message.contains("a maximum length of 10 tokens leaves"), "{message}");
}
