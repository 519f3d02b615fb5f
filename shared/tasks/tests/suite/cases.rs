//! Checkpoints as users have them, each with the answer it must give: those of `data/cases`, and variants that
//! sentence-transformers computed (`scripts/golden/golden_cases.py`).

use std::path::{Path, PathBuf};

use defrost_engine::Kernel;
use defrost_loader::Snapshot;
use defrost_model::{Precision, isa};
use defrost_pack::{ModelKind, Outliers, PackOptions, Packed, SpecOptions, open_checkpoint, pack};
use defrost_tasks::{
    EmbedTask, EmbedTruncation, Embedder, EmbedderOptions, ModelOptions, Overflow, Reranker,
    RerankerOptions, RestoreOptions, ScoreTask, restore,
};
use defrost_testing::cases::Variants;
pub(crate) use defrost_testing::cases::copied;
use defrost_testing::golden::repository;
use serde_json::Value;

use super::common::LINKED;

/// The promise on f32 numbers; the expected ones are rounded to 5e-7.
const TOLERANCE: f32 = 1e-4;

fn case(name: &str) -> PathBuf {
    repository("data/cases").join(name)
}

fn expected(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(case(name).join("expected.json")).unwrap()).unwrap()
}

pub(crate) fn packed(
    dir: &Path,
    precision: Precision,
    spec: SpecOptions,
) -> Result<(Packed, Snapshot), String> {
    let options = PackOptions {
        spec,
        precision,
        isa: isa::NATIVE.to_owned(),
        outliers: Outliers::Auto,
        store_prefix: true,
    };
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("out.snap");
    let checkpoint = open_checkpoint(dir).map_err(|error| error.to_string())?;
    let packed =
        pack(&checkpoint, &options, &file, &mut |_, _| {}).map_err(|error| error.to_string())?;
    let snapshot = restore(LINKED, &file.as_path().into(), &RestoreOptions::default()).unwrap();
    Ok((packed, snapshot))
}

fn f32_of(dir: &Path, spec: SpecOptions) -> (Packed, Snapshot) {
    packed(dir, Precision::F32, spec).unwrap_or_else(|error| panic!("{}: {error}", dir.display()))
}

pub(crate) fn refused(dir: &Path, spec: SpecOptions) -> String {
    packed(dir, Precision::F32, spec).map(|(packed, _)| packed).unwrap_err()
}

fn embedder(snapshot: &Snapshot, kernel: Kernel) -> Embedder {
    let model = ModelOptions {
        kernel: Some(kernel.name()),
        num_threads: Some(2),
        ..ModelOptions::default()
    };
    let options = EmbedderOptions { model, ..EmbedderOptions::default() };
    Embedder::load(LINKED, snapshot, &options).unwrap()
}

fn vectors(embedder: &Embedder, texts: &[String]) -> Vec<Vec<f32>> {
    let request = EmbedTask {
        inputs: texts.iter().map(|text| text.as_str().into()).collect(),
        truncation: EmbedTruncation { overflow: Overflow::CutEnd, limit: None },
        ..EmbedTask::default()
    };
    let found = embedder.embed(&[request], &|| false).unwrap().remove(0);
    found.into_iter().map(|embedding| embedding.dense).collect()
}

#[track_caller]
fn compare(found: &[Vec<f32>], expected: &[Vec<f32>], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len(), "{what}");
        let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst <= TOLERANCE, "{what}: {worst}");
    }
}

/// Every case that has vectors gives them, on every kernel.
#[test]
fn embedders_give_the_expected_vectors() {
    for name in [
        "F1-pooling-mode",
        "F2-is-causal-false",
        "F3-do-lower-case",
        "F4-model-max-length",
        "F5-gamma-beta",
        "G1-dense-module",
    ] {
        let expected = expected(name);
        let texts: Vec<String> = serde_json::from_value(expected["input"].clone()).unwrap();
        let numbers: Vec<Vec<f32>> = serde_json::from_value(expected["vectors"].clone()).unwrap();
        let (_, snapshot) = f32_of(&case(name), SpecOptions::default());
        for kernel in Kernel::available() {
            let found = vectors(&embedder(&snapshot, kernel), &texts);
            compare(&found, &numbers, &format!("{name} on {}", kernel.name()));
        }
    }
}

#[test]
fn variants_give_the_vectors_of_sentence_transformers() {
    let Variants { texts, cases } = Variants::of_sentence_transformers();
    assert!(cases.len() > 50, "only {} variants", cases.len());
    for variant in cases {
        let dir = variant.checkpoint();
        let (_, snapshot) = f32_of(dir.path(), SpecOptions::default());
        let found = vectors(&embedder(&snapshot, Kernel::detect()), &texts);
        compare(&found, &variant.vectors, &variant.name);
    }
}

/// The second text has the type 1 in the tokenizer, and the model one type.
#[test]
fn a_pair_template_of_two_types_serves_a_model_of_one() {
    let expected = expected("F8-pair-types");
    let (_, snapshot) = f32_of(&case("F8-pair-types"), SpecOptions::default());
    let reranker = Reranker::load(LINKED, &snapshot, &RerankerOptions::default()).unwrap();
    let request = ScoreTask {
        query: expected["query"].as_str().unwrap().to_owned(),
        documents: serde_json::from_value(expected["documents"].clone()).unwrap(),
        ..ScoreTask::default()
    };
    let ids: Vec<u32> = serde_json::from_value(expected["ids"].clone()).unwrap();
    let tokens = reranker.encode(&request).unwrap();
    assert_eq!(tokens[0].ids, ids);
    assert!(tokens[0].types.iter().all(|&kind| kind == 0));
    let score = reranker.score(&[request], &|| false).unwrap()[0][0].raw;
    let raw: f32 = serde_json::from_value(expected["raw_score"].clone()).unwrap();
    assert!((score - raw).abs() <= TOLERANCE, "{score}, expected {raw}");
}

/// The module's ids are those of the template's words, so it scores what the same weights score without modules.
#[test]
fn a_reranker_of_sentence_transformers_scores_as_one_without_its_files() {
    let dir = copied("cases/F1b-logit-score");
    let score = |dir: &Path| {
        let (packed, snapshot) = f32_of(dir, SpecOptions::default());
        let reranker = Reranker::load(LINKED, &snapshot, &RerankerOptions::default()).unwrap();
        let request = ScoreTask {
            query: "who wrote it?".into(),
            documents: vec!["Harper Lee".into()],
            ..ScoreTask::default()
        };
        let told: Vec<String> = packed.told.iter().map(ToString::to_string).collect();
        (reranker.score(&[request], &|| false).unwrap()[0][0].raw, told.join("; "))
    };
    let (with, told) = score(dir.path());
    assert!(told.contains("reranker (modules.json: LogitScore"), "{told}");
    let path = dir.path().join("1_LogitScore/config.json");
    let swapped =
        r#"{"true_token_id":279,"false_token_id":307,"module_input_name":"causal_logits"}"#;
    std::fs::write(&path, swapped).unwrap();
    assert!((score(dir.path()).0 + with).abs() < 1e-6, "the ids in the file count");
    std::fs::write(&path, r#"{"true_token_id":307}"#).unwrap();
    assert!(refused(dir.path(), SpecOptions::default()).contains("false_token_id is not set"));
    std::fs::remove_file(dir.path().join("modules.json")).unwrap();
    let (without, told) = score(dir.path());
    assert_eq!(with.to_bits(), without.to_bits());
    assert!(told.contains("reranker (config.json: Qwen3ForCausalLM)"), "{told}");
}

/// Whatever it is packed to, and whichever number it is.
#[test]
fn a_weight_that_is_no_number_is_refused_by_name() {
    for precision in Precision::ALL {
        let error = packed(&case("F6-nan-weight"), precision, SpecOptions::default()).unwrap_err();
        assert!(
            error.contains("tensor \"") && error.contains("expected finite numbers"),
            "{error}"
        );
    }
}

#[test]
fn what_cannot_be_told_is_asked() {
    let bare = case("F10-bare-qwen3-model");
    let error = refused(&bare, SpecOptions::default());
    for part in ["cannot be told", "--pooling", "lasttoken", "--kind reranker", "--template"] {
        assert!(error.contains(part), "{error}");
    }
    for (kind, pooling) in [(None, "lasttoken"), (Some(ModelKind::Embedder), "mean")] {
        let options = SpecOptions { kind, pooling: Some(pooling.into()), ..SpecOptions::default() };
        let (packed, snapshot) = f32_of(&bare, options);
        assert_eq!(embedder(&snapshot, Kernel::detect()).info().pooling, pooling);
        assert!(
            packed.told.iter().any(|told| told.to_string() == format!("{pooling} (--pooling)"))
        );
    }
    let reranker = SpecOptions { kind: Some(ModelKind::Reranker), ..SpecOptions::default() };
    let (packed, _) = f32_of(&bare, reranker);
    assert_eq!(packed.spec.template.name(), "qwen3-reranker");
}
