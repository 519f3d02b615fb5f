//! ONNX models become snapshots in every build; what cannot be run later is refused while packing.

use std::path::Path;

use bytes::Bytes;
use defrost_loader::Root;
use defrost_pack::{OnnxData, OnnxModel, OnnxSource, Placement, SpecOptions, pack_onnx};
use defrost_tasks::{Reranker, RerankerOptions, RestoreOptions, restore};
use defrost_testing::golden::repository;
use serde_json::json;

use super::checkpoints::edit;
use super::common::LINKED;

/// A folder with the tiny cross-encoder's files, but its safetensors.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for name in ["config.json", "tokenizer.json", "model.onnx"] {
        let from = repository("data/onnx/classifier").join(name);
        std::fs::copy(from, dir.path().join(name)).unwrap();
    }
    dir
}

fn pack(source: &OnnxSource, out: &Path) -> Result<Root, String> {
    let options = SpecOptions { name: "tiny".into(), ..SpecOptions::default() };
    let packed = pack_onnx(source, &options, out, &mut |_, _| {});
    packed.map(|packed| packed.root).map_err(|error| error.to_string())
}

#[test]
fn packing_twice_gives_the_same_root_wherever_the_weights_lie() {
    let dir = folder();
    let out = dir.path().join("out.snap");
    let source = OnnxSource::find(dir.path()).unwrap();
    let root = pack(&source, &out).unwrap();
    assert_eq!(pack(&source, &out).unwrap(), root);

    // The same model with its larger weights in files beside it, as exporters write those beyond 2 GB.
    let file = Bytes::from(std::fs::read(&source.model).unwrap());
    let mut files = Vec::new();
    let spread = OnnxModel::rewrite::<defrost_loader::Error>(&file, |tensor| {
        let OnnxData::Raw(data) = &tensor.data else { return Ok(Placement::Keep) };
        if data.len() < 1024 {
            return Ok(Placement::Keep);
        }
        files.push(data.clone());
        let location = format!("data-{}", files.len());
        Ok(Placement::External { location, len: data.len() as u64 })
    })
    .unwrap();
    assert!(files.len() > 10);
    for (data, number) in files.iter().zip(1..) {
        std::fs::write(dir.path().join(format!("data-{number}")), data).unwrap();
    }
    std::fs::write(&source.model, spread).unwrap();
    assert_eq!(pack(&source, &out).unwrap(), root);

    std::fs::write(dir.path().join("data-1"), b"too short").unwrap();
    let error = pack(&source, &out).unwrap_err();
    assert!(error.contains("data-1, which has only 9"), "{error}");
}

#[test]
fn models_are_found_where_exporters_and_the_hub_put_them() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    assert_eq!(OnnxSource::find(dir.path()).unwrap().model, at("model.onnx"));
    std::fs::create_dir(at("onnx")).unwrap();
    std::fs::rename(at("model.onnx"), at("onnx/model_quantized.onnx")).unwrap();
    let source = OnnxSource::find(dir.path()).unwrap();
    assert_eq!(source.model, at("onnx/model_quantized.onnx"));
    assert!(source.dir.join("config.json").is_file());
    pack(&source, &at("out.snap")).unwrap();
    assert_eq!(OnnxSource::find(&at("onnx/model_quantized.onnx")), Some(source));
    // Where there are safetensors, the engine has them.
    std::fs::write(at("model.safetensors"), b"").unwrap();
    assert_eq!(OnnxSource::find(dir.path()), None);
    assert_eq!(OnnxSource::find(&at("config.json")), None);
}

#[test]
fn what_is_missing_is_named() {
    let dir = folder();
    let source = OnnxSource::find(dir.path()).unwrap();
    let out = dir.path().join("out.snap");
    std::fs::remove_file(dir.path().join("tokenizer.json")).unwrap();
    let error = pack(&source, &out).unwrap_err();
    assert!(error.contains("has no tokenizer.json"), "{error}");
    std::fs::write(&source.model, b"no model").unwrap();
    assert!(pack(&source, &out).is_err());
    assert!(!out.exists());
}

#[test]
fn a_build_without_ort_says_what_it_lacks() {
    let dir = folder();
    let out = dir.path().join("out.snap");
    pack(&OnnxSource::find(dir.path()).unwrap(), &out).unwrap();
    let snapshot = restore(LINKED, &out.as_path().into(), &RestoreOptions::default()).unwrap();
    let error = Reranker::load(LINKED, &snapshot, &RerankerOptions::default()).unwrap_err();
    assert!(error.to_string().contains("cargo build --features ort"), "{error}");
}

/// The files beside an ONNX model are read as those beside any other.
#[test]
fn what_its_files_say_and_cannot_be_done_is_refused() {
    let tanh = json!("torch.nn.modules.activation.Tanh");
    let ours = SpecOptions { max_length: Some(100_000), ..SpecOptions::default() };
    for (file, keys, options, part) in [
        (
            "config.json",
            json!({"sbert_ce_default_activation_function": tanh}),
            SpecOptions::default(),
            "sbert_ce_default_activation_function is",
        ),
        (
            "config_sentence_transformers.json",
            json!({"activation_fn": tanh}),
            SpecOptions::default(),
            "activation_fn is",
        ),
        ("tokenizer_config.json", json!({"max_len": 64}), ours, "--max-length is 100000"),
        (
            "tokenizer_config.json",
            json!({"pad_token": "no such token"}),
            SpecOptions::default(),
            "tokenizer_config.json: pad_token",
        ),
        (
            "tokenizer_config.json",
            json!({"fix_mistral_regex": true, "tokenizer_class": "PreTrainedTokenizerFast"}),
            SpecOptions::default(),
            "fix_mistral_regex is true",
        ),
    ] {
        let dir = folder();
        edit(dir.path(), file, keys);
        if part.starts_with("fix") {
            // Of BERT's family it changes nothing.
            let source = OnnxSource::find(dir.path()).unwrap();
            pack(&source, &dir.path().join("out.snap")).unwrap();
            edit(dir.path(), "config.json", json!({"model_type": "mistral"}));
        }
        let source = OnnxSource::find(dir.path()).unwrap();
        let out = dir.path().join("refused.snap");
        let error = pack_onnx(&source, &options, &out, &mut |_, _| {}).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}
