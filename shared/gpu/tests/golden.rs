//! The golden models on the emulated device: every kernel together, within 2e-2 of `transformers` in bf16, in the same order.

#![allow(clippy::print_stdout, reason = "tests print their figures")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::path::Path;

use defrost_loader::Snapshot;
use defrost_model::{Precision, Runtime, isa};
use defrost_pack::{Checkpoint, Outliers, PackOptions, SpecOptions, pack};
use defrost_tasks::{
    EmbedTask, EmbedTruncation, Embedder, EmbedderOptions, Embedding, ModelOptions, Outputs,
    Overflow, PromptChoice, Reranker, RestoreOptions, ScoreTask, restore,
};
use defrost_testing::golden::{
    self, Case, EMBEDDING_MODELS, EmbeddingCase, Embeddings, PAIR_MODELS, TOKEN_HEADS_MODEL,
};

const LINKED: &[&dyn Runtime] = &[&defrost_gpu::RUNTIME];

/// The promise on scores in bf16.
const TOLERANCE: f32 = 2e-2;

/// A checkpoint as a snapshot; its file may be removed once it is mapped.
fn packed(checkpoint: &Path, precision: Precision) -> Snapshot {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.snap");
    let options = PackOptions {
        spec: SpecOptions { name: "tiny".into(), ..SpecOptions::default() },
        precision,
        isa: isa::PORTABLE.to_owned(),
        outliers: Outliers::Auto,
        store_prefix: true,
    };
    pack(&Checkpoint::open(checkpoint).unwrap(), &options, &path, &mut |_, _| {}).unwrap();
    restore(LINKED, &path.as_path().into(), &RestoreOptions::default()).unwrap()
}

fn options(max_length: Option<usize>, compute: Option<Precision>) -> ModelOptions {
    let device = Some("emulated".to_owned());
    ModelOptions { max_length, device, compute, ..ModelOptions::default() }
}

fn scores(reranker: &Reranker, cases: &[Case]) -> Vec<f32> {
    let request = |case: &Case| ScoreTask {
        query: case.query.clone(),
        documents: vec![case.document.clone()],
        instruction: case.instruction.clone(),
        ..ScoreTask::default()
    };
    let requests: Vec<ScoreTask> = cases.iter().map(request).collect();
    let scores = reranker.score(&requests, &|| false).unwrap();
    scores.iter().map(|scores| scores[0].raw).collect()
}

fn sigmoid(raw: f32) -> f32 {
    1.0 / (1.0 + (-raw).exp())
}

/// Cases further apart than twice the tolerance are in the same order.
fn same_ranking(found: &[f32], cases: &[Case], tolerance: f32) {
    for (a, one) in cases.iter().enumerate() {
        for (b, other) in cases.iter().enumerate() {
            if sigmoid(one.raw) - sigmoid(other.raw) > 2.0 * tolerance {
                assert!(found[a] > found[b], "{} before {}", one.document, other.document);
            }
        }
    }
}

#[test]
fn scores_are_those_of_transformers() {
    for model in PAIR_MODELS {
        let golden = golden::read(model);
        for (precision, compute) in [
            (Precision::F32, Precision::Bf16),
            (Precision::F32, Precision::F16),
            (Precision::Bf16, Precision::Bf16),
            (Precision::Int8, Precision::F16),
        ] {
            let snapshot = packed(&golden::checkpoint(model), precision);
            let options = options(Some(golden.max_length), Some(compute));
            let reranker = Reranker::load(LINKED, &snapshot, &options).unwrap();
            // Passes on the emulator take a fifth of a second each, so a part of the cases.
            let step =
                if (precision, compute) == (Precision::F32, Precision::F16) { 5 } else { 12 };
            let cases: Vec<Case> = golden.cases.iter().step_by(step).cloned().collect();
            let found = scores(&reranker, &cases);
            let scores = cases.iter().zip(&found);
            let errors = scores.map(|(case, raw)| (sigmoid(*raw) - sigmoid(case.raw)).abs());
            let worst = errors.fold(0.0, f32::max);
            let (stored, computed) = (precision.name(), compute.name());
            println!("{model:<24} {stored:>4} computed in {computed}: worst error {worst:.1e}");
            // Tiny random models lose more in int8 than real ones.
            let tolerance = if precision == Precision::Int8 { 0.08 } else { TOLERANCE };
            assert!(worst <= tolerance, "{model} {stored} {computed}: {worst}");
            same_ranking(&found, &cases, tolerance);
        }
    }
}

/// Whatever else is in a batch, and whether documents share what they begin with, a score has the same bits.
#[test]
fn a_score_depends_on_its_pair_alone() {
    for (model, precision) in
        [("bert-classifier", Precision::Int8), ("qwen2-mxbai", Precision::Bf16)]
    {
        let golden = golden::read(model);
        let snapshot = packed(&golden::checkpoint(model), precision);
        let options = options(Some(golden.max_length), None);
        let reranker = Reranker::load(LINKED, &snapshot, &options).unwrap();
        let documents: Vec<String> =
            golden.cases.iter().take(12).map(|case| case.document.clone()).collect();
        let score = |documents: &[String]| {
            let task = ScoreTask {
                query: golden.cases[0].query.clone(),
                documents: documents.to_vec(),
                ..ScoreTask::default()
            };
            let scores = reranker.score(&[task], &|| false).unwrap().remove(0);
            scores.iter().map(|score| score.raw.to_bits()).collect::<Vec<_>>()
        };
        let together = score(&documents);
        for (document, together) in documents.iter().zip(together) {
            assert_eq!(score(std::slice::from_ref(document)), [together], "{model}: {document}");
        }
    }
}

/// `FAST_BOOT=false`: tiles are measured, kept for the next start, and change no bit.
#[test]
fn measured_tiles_are_kept_and_change_no_bit() {
    let golden = golden::read("qwen3-reranker");
    let snapshot = packed(&golden::checkpoint("qwen3-reranker"), Precision::Bf16);
    let cache = tempfile::tempdir().unwrap();
    let score = |compile: bool| {
        let options = ModelOptions {
            compile,
            cache_dir: Some(cache.path().to_owned()),
            ..options(Some(golden.max_length), None)
        };
        let reranker = Reranker::load(LINKED, &snapshot, &options).unwrap();
        scores(&reranker, &golden.cases[..3]).into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    let kept = || {
        let files = std::fs::read_dir(cache.path()).unwrap().map(|file| file.unwrap().path());
        files.map(|file| std::fs::read_to_string(file).unwrap()).collect::<Vec<_>>()
    };
    let eager = score(false);
    assert!(kept().is_empty());
    assert_eq!(score(true), eager);
    let measured = kept();
    // Queries, keys and values; out; gate and up; down.
    assert_eq!(measured.len(), 1);
    assert_eq!(measured[0].lines().count(), 4, "{}", measured[0]);
    // Not measured again: the times of an emulator would not be the same.
    let wrong = measured[0].replace("bf16", "f16").replace('\n', " \n");
    std::fs::write(
        std::fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path(),
        &wrong,
    )
    .unwrap();
    assert_eq!(score(true), eager);
    assert_eq!(kept()[0].lines().count(), 8, "what others kept stays");
    let all = kept();
    assert_eq!(score(true), eager);
    assert_eq!(kept(), all);
}

fn request(golden: &Embeddings, case: &EmbeddingCase, outputs: Outputs) -> EmbedTask {
    EmbedTask {
        inputs: vec![case.text.as_str().into()],
        prompt: match case.prompt.as_str() {
            "query" => PromptChoice::Query,
            "document" => PromptChoice::Document,
            "instruct" => PromptChoice::Instruction(golden.task.clone()),
            _ => PromptChoice::None,
        },
        outputs,
        truncation: EmbedTruncation { overflow: Overflow::CutEnd, limit: None },
        ..EmbedTask::default()
    }
}

#[track_caller]
fn near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= TOLERANCE, "{what}: {found}, expected {expected}");
    }
}

#[test]
fn vectors_are_those_of_transformers() {
    for model in EMBEDDING_MODELS {
        let golden = golden::embeddings(model);
        let snapshot = packed(&golden::checkpoint(model), Precision::F32);
        let model_options = options(Some(golden.max_length), Some(Precision::F16));
        let options = EmbedderOptions { model: model_options, any_dimensions: true };
        let embedder = Embedder::load(LINKED, &snapshot, &options).unwrap();
        let heads = model == TOKEN_HEADS_MODEL;
        let outputs = Outputs { sparse: heads, colbert: heads, ..Outputs::default() };
        let requests: Vec<EmbedTask> =
            golden.cases.iter().map(|case| request(&golden, case, outputs)).collect();
        let found = embedder.embed(&requests, &|| false).unwrap();
        for (case, found) in golden.cases.iter().zip(found.iter().flatten()) {
            let what = format!("{model} {}", case.name);
            near(&found.dense, &case.dense, &what);
            if heads {
                sparse_and_colbert_are_near(found, case, &what);
            }
        }
    }
}

fn sparse_and_colbert_are_near(found: &Embedding, case: &EmbeddingCase, what: &str) {
    let weight = |weights: &[(u32, f32)], id: u32| {
        weights.iter().find(|weight| weight.0 == id).map_or(0.0, |weight| weight.1)
    };
    for &(id, expected) in &case.sparse {
        near(&[weight(&found.sparse, id)], &[expected], what);
    }
    for &(id, found) in &found.sparse {
        near(&[found], &[weight(&case.sparse, id)], what);
    }
    let rows: Vec<&[f32]> = found.colbert.chunks_exact(found.colbert_width).collect();
    let some = [&rows[..2.min(rows.len())], &rows[rows.len().saturating_sub(2)..]].concat();
    let compared = if rows.len() == case.colbert.len() { &rows } else { &some };
    assert_eq!(compared.len(), case.colbert.len(), "{what}");
    for (found, expected) in compared.iter().zip(&case.colbert) {
        near(found, expected, what);
    }
}
