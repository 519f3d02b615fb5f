//! ONNX models under the real ONNX Runtime: scores, batching, compiled graphs.
//!
//! Needs the library: `ORT_DYLIB_PATH`, or what `scripts/ops/fetch_onnxruntime` fetched into `models/onnxruntime`.

#![allow(clippy::print_stdout, reason = "tests print their figures")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::path::{Path, PathBuf};

use defrost_loader::Snapshot;
use defrost_model::{Precision, isa};
use defrost_pack::{Checkpoint, OnnxSource, Outliers, PackOptions, SpecOptions, pack, pack_onnx};
use defrost_tasks::{
    EmbedTask, Embedder, EmbedderOptions, Reranker, RerankerOptions, RestoreOptions, ScoreTask,
    restore,
};
use defrost_testing::golden::{Case, Golden, repository};

/// What runs the models here.
const LINKED: &[&dyn defrost_model::Runtime] = &[&defrost_engine::RUNTIME, &defrost_ort::RUNTIME];

/// The promise on f32 scores.
const TOLERANCE: f32 = 1e-4;
const MODELS: [&str; 2] = ["classifier", "embedding"];

fn library() -> PathBuf {
    let library = std::env::var_os("ORT_DYLIB_PATH")
        .map_or_else(|| repository("models/onnxruntime"), PathBuf::from);
    assert!(
        library.exists(),
        "{} is not there: run scripts/ops/fetch_onnxruntime, or set ORT_DYLIB_PATH",
        library.display()
    );
    library
}

fn golden(model: &str) -> Golden {
    let text = std::fs::read(repository("data/onnx").join(model).join("golden.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// The ONNX file `file` of a tiny model as a snapshot in `dir`.
fn packed(model: &str, file: &str, dir: &Path) -> Snapshot {
    let source = OnnxSource::find(&repository("data/onnx").join(model).join(file)).unwrap();
    let out = dir.join("onnx.snap");
    let options = SpecOptions { name: "tiny".into(), ..SpecOptions::default() };
    pack_onnx(&source, &options, &out, &mut |_, _| {}).unwrap();
    restore(LINKED, &out.as_path().into(), &RestoreOptions::default()).unwrap()
}

fn options(cache: &Path, compile: bool) -> RerankerOptions {
    RerankerOptions {
        max_length: Some(160),
        num_threads: Some(2),
        library: Some(library()),
        compile,
        cache_dir: Some(cache.to_path_buf()),
        ..RerankerOptions::default()
    }
}

fn request(case: &Case) -> ScoreTask {
    ScoreTask {
        query: case.query.clone(),
        documents: vec![case.document.clone()],
        ..ScoreTask::default()
    }
}

fn scores(reranker: &Reranker, cases: &[Case]) -> Vec<f32> {
    let requests: Vec<ScoreTask> = cases.iter().map(request).collect();
    let scores = reranker.score(&requests, &|| false).unwrap();
    scores.iter().flatten().map(|score| score.raw).collect()
}

#[test]
fn f32_scores_are_those_of_transformers_and_of_the_engine() {
    for model in MODELS {
        let dir = tempfile::tempdir().unwrap();
        let golden = golden(model);
        let onnx = packed(model, "model.onnx", dir.path());
        let ort = Reranker::load(LINKED, &onnx, &options(dir.path(), false)).unwrap();
        assert_eq!((ort.info().kernel, ort.info().precision.as_str()), ("onnxruntime", "f32"));
        let checkpoint = Checkpoint::open(&repository("data/onnx").join(model)).unwrap();
        let path = dir.path().join("engine.snap");
        let pack_options = PackOptions {
            spec: SpecOptions { name: "tiny".into(), ..SpecOptions::default() },
            precision: Precision::F32,
            isa: isa::NATIVE.to_owned(),
            outliers: Outliers::Auto,
            store_prefix: true,
        };
        pack(&checkpoint, &pack_options, &path, &mut |_, _| {}).unwrap();
        let snapshot = restore(LINKED, &path.as_path().into(), &RestoreOptions::default()).unwrap();
        let engine = Reranker::load(LINKED, &snapshot, &options(dir.path(), false)).unwrap();
        let (ort, engine) = (scores(&ort, &golden.cases), scores(&engine, &golden.cases));
        let mut worst = [0f32; 2];
        for ((case, ort), engine) in golden.cases.iter().zip(&ort).zip(&engine) {
            worst = [worst[0].max((ort - case.raw).abs()), worst[1].max((ort - engine).abs())];
            assert!(worst.iter().all(|&error| error <= TOLERANCE), "{model}: {}", case.name);
        }
        println!(
            "{model:<12} from transformers {:.1e}, from the engine {:.1e}",
            worst[0], worst[1]
        );
    }
}

#[test]
fn embeddings_are_those_of_transformers() {
    let dir = tempfile::tempdir().unwrap();
    let golden = golden("embedding");
    let onnx = packed("embedding", "model.onnx", dir.path());
    let model = options(dir.path(), false);
    let embedder =
        Embedder::load(LINKED, &onnx, &EmbedderOptions { model, ..EmbedderOptions::default() });
    let embedder = embedder.unwrap();
    assert!(!embedder.info().has_tokens && embedder.info().normalizes);
    for case in golden.cases.iter().filter(|case| case.embedding.is_some()) {
        let inputs = vec![case.document.as_str().into()];
        let request = EmbedTask { inputs, ..EmbedTask::default() };
        let found = embedder.embed(&[request], &|| false).unwrap().remove(0).remove(0).dense;
        let expected = case.embedding.as_ref().unwrap();
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() <= TOLERANCE, "{}", case.name);
        }
    }
}

/// Whatever is scored beside it, a pair has the score that it has alone: to rounding in f32, to the bit in int8, where
/// one scale for all activations of a run would break it.
#[test]
fn scores_do_not_depend_on_the_batch() {
    let golden = golden("classifier");
    for (file, tolerance) in [("model.onnx", 1e-5), ("model_int8.onnx", 0.0)] {
        let dir = tempfile::tempdir().unwrap();
        let onnx = packed("classifier", file, dir.path());
        let reranker = Reranker::load(LINKED, &onnx, &options(dir.path(), false)).unwrap();
        let together = scores(&reranker, &golden.cases);
        for (case, &together) in golden.cases.iter().zip(&together) {
            let alone = scores(&reranker, std::slice::from_ref(case))[0];
            assert!(
                (alone - together).abs() <= tolerance,
                "{file}: {} {alone} {together}",
                case.name
            );
        }
    }
}

#[test]
fn int8_scores_correlate_with_f32() {
    let dir = tempfile::tempdir().unwrap();
    let golden = golden("classifier");
    let onnx = packed("classifier", "model_int8.onnx", dir.path());
    let reranker = Reranker::load(LINKED, &onnx, &options(dir.path(), false)).unwrap();
    assert_eq!(reranker.info().precision, "int8");
    let reference: Vec<f32> = golden.cases.iter().map(|case| case.raw).collect();
    let pearson = defrost_testing::golden::pearson(&scores(&reranker, &golden.cases), &reference);
    println!("Pearson of int8 by ONNX Runtime against f32: {pearson:.4}");
    assert!(pearson >= 0.95, "{pearson}");
}

#[test]
fn a_compiled_graph_is_stored_once_and_used_by_every_later_start() {
    for (model, file) in [
        ("classifier", "model.onnx"),
        ("classifier", "model_int8.onnx"),
        ("embedding", "model.onnx"),
    ] {
        let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let golden = golden(model);
        let onnx = packed(model, file, dir.path());
        let load =
            |compile| Reranker::load(LINKED, &onnx, &options(cache.path(), compile)).unwrap();
        let noted = |reranker: &Reranker, text: &str| {
            assert!(
                reranker.notes().iter().any(|note| note.contains(text)),
                "{:?}",
                reranker.notes()
            );
        };
        let compiling = load(true);
        noted(&compiling, "graph compiled and stored");
        let expected = scores(&compiling, &golden.cases);
        for compile in [false, true] {
            let compiled = load(compile);
            noted(&compiled, "compiled graph ");
            assert_eq!(scores(&compiled, &golden.cases), expected, "{model} {file}");
            compiled.prepare_for_snapshot().unwrap();
            assert_eq!(scores(&compiled, &golden.cases), expected, "{model} {file}, detached");
        }
        let copies: Vec<PathBuf> = std::fs::read_dir(cache.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.to_string_lossy().contains(".ort-"))
            .collect();
        assert_eq!(copies.len(), 1, "{copies:?}: nothing else is left");

        // A damaged one is as good as none.
        let mut bytes = std::fs::read(&copies[0]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::remove_file(&copies[0]).unwrap();
        std::fs::write(&copies[0], bytes).unwrap();
        let eager = load(false);
        assert!(!eager.notes().iter().any(|note| note.starts_with("compiled graph")));
        assert!(
            scores(&eager, &golden.cases).iter().zip(&expected).all(|(a, b)| (a - b).abs() < 0.1)
        );
    }
}

#[test]
fn a_place_that_cannot_be_written_costs_only_the_copy() {
    let dir = tempfile::tempdir().unwrap();
    let golden = golden("classifier");
    let onnx = packed("classifier", "model.onnx", dir.path());
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let reranker = Reranker::load(LINKED, &onnx, &options(&file.join("cache"), true)).unwrap();
    assert!(reranker.notes().iter().any(|note| note.contains("cannot be stored")));
    let worst = scores(&reranker, &golden.cases)
        .iter()
        .zip(&golden.cases)
        .fold(0f32, |worst, (score, case)| worst.max((score - case.raw).abs()));
    assert!(worst <= TOLERANCE, "{worst}");
}

#[test]
fn the_snapshot_decides_what_runs_it() {
    let dir = tempfile::tempdir().unwrap();
    let onnx = packed("classifier", "model.onnx", dir.path());
    for (backend, expected) in [("engine", "is made for ort"), ("candle", "candle is not built in")]
    {
        let options = RerankerOptions { backend: Some(backend), ..options(dir.path(), false) };
        let error = Reranker::load(LINKED, &onnx, &options).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let insisting = RerankerOptions { backend: Some("ort"), ..options(dir.path(), false) };
    assert!(Reranker::load(LINKED, &onnx, &insisting).is_ok());
}

#[test]
fn a_request_can_be_cancelled_between_runs() {
    let dir = tempfile::tempdir().unwrap();
    let golden = golden("classifier");
    let onnx = packed("classifier", "model_int8.onnx", dir.path());
    // Each sequence in a micro-batch of its own.
    let options = RerankerOptions { max_batch_tokens: 1, ..options(dir.path(), false) };
    let reranker = Reranker::load(LINKED, &onnx, &options).unwrap();
    let asked = std::sync::atomic::AtomicUsize::new(0);
    let cancelled = || asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 1;
    let error = reranker.score(&[request(&golden.cases[0]), request(&golden.cases[1])], &cancelled);
    assert!(matches!(error, Err(defrost_tasks::Error::Cancelled)), "{error:?}");
}
