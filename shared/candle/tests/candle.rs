//! candle's second opinion: on the golden models its answers are those of `transformers` within 1e-4, and its hidden states
//! those of the engine.

#![allow(clippy::print_stdout, reason = "tests print their figures")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::path::Path;
use std::sync::OnceLock;

use defrost_loader::Snapshot;
use defrost_model::spec::Description;
use defrost_model::{
    LoadOptions, Planned, Precision, Runner, Runtime, Share, Tokens, Wanted, isa, stored,
};
use defrost_pack::{Checkpoint, Outliers, PackOptions, SpecOptions, pack};
use defrost_tasks::{
    EmbedTask, EmbedTruncation, Embedder, EmbedderOptions, Embedding, ModelOptions, Outputs,
    Overflow, PromptChoice, Reranker, RerankerOptions, RestoreOptions, ScoreTask, restore,
};
use defrost_testing::cases::Variants;
use defrost_testing::golden::{
    self, Case, EMBEDDING_MODELS, EmbeddingCase, Embeddings, PAIR_MODELS, TOKEN_HEADS_MODEL,
};
use proptest::prelude::*;

const LINKED: &[&dyn Runtime] = &[&defrost_engine::RUNTIME, &defrost_candle::RUNTIME];

/// The promise on f32 scores and vectors.
const TOLERANCE: f32 = 1e-4;

/// That on scores in f16 and in bf16, as a part of the largest. Candle keeps all of a layer's values in 16 bits, the residual
/// stream too, and bf16 has 8 bits of each: measured are at most 8.5e-3 and 2.8e-2.
const TOLERANCES_16: [f32; 2] = [2e-2, 5e-2];

/// Builds for cards run all of this on one.
const KERNEL: &str = if cfg!(feature = "cuda") { "candle-cuda" } else { "candle" };

/// The tiny models whose checkpoints are in bf16: packing them to bf16 changes nothing.
const BF16_MODELS: [&str; 4] =
    ["xlm-roberta-classifier", "camembert-classifier", "qwen2-mxbai", "qwen3-reranker"];

/// Those whose checkpoints are in f16.
const F16_MODELS: [&str; 3] = ["bert-classifier", "roberta-classifier", "distilbert-classifier"];

fn models() -> impl Iterator<Item = &'static str> {
    PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS)
}

/// A checkpoint as a snapshot; its file may be removed once it is mapped.
fn packed(checkpoint: &Path, precision: Precision, isa: &str) -> Snapshot {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tiny.snap");
    let options = PackOptions {
        spec: SpecOptions { name: "tiny".into(), ..SpecOptions::default() },
        precision,
        isa: isa.to_owned(),
        outliers: Outliers::Auto,
        store_prefix: true,
    };
    pack(&Checkpoint::open(checkpoint).unwrap(), &options, &path, &mut |_, _| {}).unwrap();
    let wanted = RestoreOptions { backend: Some("candle"), ..RestoreOptions::default() };
    restore(LINKED, &path.as_path().into(), &wanted).unwrap()
}

fn options(max_length: Option<usize>) -> ModelOptions {
    ModelOptions {
        max_length,
        num_threads: Some(2),
        backend: Some("candle"),
        ..ModelOptions::default()
    }
}

fn reranker(snapshot: &Snapshot, max_length: usize) -> Reranker {
    computing(snapshot, max_length, None).unwrap()
}

fn computing(
    snapshot: &Snapshot,
    max_length: usize,
    compute: Option<Precision>,
) -> Result<Reranker, defrost_tasks::Error> {
    let options = RerankerOptions { compute, ..options(Some(max_length)) };
    let reranker = Reranker::load(LINKED, snapshot, &options)?;
    assert_eq!((reranker.info().backend, reranker.info().kernel), ("candle", KERNEL));
    Ok(reranker)
}

fn embedder(snapshot: &Snapshot, max_length: Option<usize>) -> Embedder {
    let options = EmbedderOptions { model: options(max_length), any_dimensions: true };
    Embedder::load(LINKED, snapshot, &options).unwrap()
}

/// The largest distance of these scores from those of the cases.
fn worst(reranker: &Reranker, cases: &[Case]) -> f32 {
    let request = |case: &Case| ScoreTask {
        query: case.query.clone(),
        documents: vec![case.document.clone()],
        instruction: case.instruction.clone(),
        ..ScoreTask::default()
    };
    let requests: Vec<ScoreTask> = cases.iter().map(request).collect();
    let scores = reranker.score(&requests, &|| false).unwrap();
    let errors = cases.iter().zip(&scores).map(|(case, scores)| (scores[0].raw - case.raw).abs());
    errors.fold(0.0, f32::max)
}

#[test]
fn f32_scores_are_those_of_transformers_in_either_layout() {
    for model in models() {
        let golden = golden::read(model);
        for isa in [isa::NATIVE, isa::PORTABLE] {
            let snapshot = packed(&golden::checkpoint(model), Precision::F32, isa);
            assert_eq!(snapshot.isa(), isa, "what candle runs is not laid out anew");
            let worst = worst(&reranker(&snapshot, golden.max_length), &golden.cases);
            println!("{model:<24} {isa:<9} f32 worst error {worst:.1e}");
            assert!(worst <= TOLERANCE, "{model} {isa}: {worst}");
        }
    }
}

#[test]
fn weights_in_bf16_are_multiplied_in_f32() {
    for model in BF16_MODELS {
        let golden = golden::read(model);
        let snapshot = packed(&golden::checkpoint(model), Precision::Bf16, isa::NATIVE);
        let reranker = reranker(&snapshot, golden.max_length);
        assert_eq!(reranker.info().precision, "bf16");
        let worst = worst(&reranker, &golden.cases);
        assert!(worst <= TOLERANCE, "{model}: {worst}");
    }
}

#[test]
fn weights_in_f16_are_multiplied_in_f32() {
    for model in F16_MODELS {
        let golden = golden::read(model);
        let snapshot = packed(&golden::checkpoint(model), Precision::F16, isa::PORTABLE);
        let reranker = reranker(&snapshot, golden.max_length);
        assert_eq!(reranker.info().precision, "f16");
        let worst = worst(&reranker, &golden.cases);
        assert!(worst <= TOLERANCE, "{model}: {worst}");
    }
}

/// In 16 bits the models are run that candle has right in them, and scores move as little as they must.
#[test]
fn what_candle_computes_in_16_bits_is_near_and_the_rest_is_refused_with_why() {
    use Precision::{Bf16, F16};
    let mut ran = Vec::new();
    for model in models() {
        let golden = golden::read(model);
        let snapshot = packed(&golden::checkpoint(model), Precision::F32, isa::PORTABLE);
        for (compute, tolerance) in [F16, Bf16].into_iter().zip(TOLERANCES_16) {
            let what = format!("{model} {}", compute.name());
            match computing(&snapshot, golden.max_length, Some(compute)) {
                Ok(reranker) => {
                    let largest =
                        golden.cases.iter().fold(1.0_f32, |most, case| most.max(case.raw.abs()));
                    let worst = worst(&reranker, &golden.cases) / largest;
                    println!("{what:<32} worst error {worst:.1e} of {largest}");
                    assert!(worst > TOLERANCE, "{what}: {worst} is that of f32");
                    assert!(worst <= tolerance, "{what}: {worst}");
                    ran.push(what);
                }
                Err(error) => {
                    let error = error.to_string();
                    for part in [&*format!("DTYPE={}: ", compute.name()), "Expected DTYPE=f32"] {
                        assert!(error.contains(part), "{what}: {error}");
                    }
                    let why = ["would be no numbers", "counts positions", "makes rotary angles"];
                    assert!(why.iter().any(|why| error.contains(why)), "{what}: {error}");
                }
            }
        }
    }
    for model in ["qwen3-reranker bf16", "qwen3-reranker f16", "xlm-roberta-classifier f16"] {
        assert!(ran.iter().any(|what| what == model), "{model} is not in {ran:?}");
    }
    for part in ["bert-classifier", "qwen2"] {
        assert!(!ran.iter().any(|what| what.starts_with(part)), "{part} is in {ran:?}");
    }
}

/// A device that this build does not have is told before anything is loaded.
#[test]
fn a_device_that_there_is_not_is_refused_with_what_there_is() {
    let prepare = |device: &str| {
        let options = LoadOptions { device: Some(device.to_owned()), ..LoadOptions::default() };
        defrost_candle::RUNTIME.prepare(&options).map_err(|error| error.to_string())
    };
    let error = prepare("mps").unwrap_err();
    assert!(error.contains("expected auto") && error.contains("found \"mps\""), "{error}");
    if !cfg!(feature = "cuda") {
        assert_eq!(prepare("auto"), Ok(()));
        let error = prepare("cuda:1").unwrap_err();
        assert!(error.starts_with("candle: DEVICE=cuda:1: "), "{error}");
        assert!(error.contains("candle-cuda") && error.contains("leave DEVICE unset"), "{error}");
    }
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
        let snapshot = packed(&golden::checkpoint(model), Precision::F32, isa::NATIVE);
        let embedder = embedder(&snapshot, Some(golden.max_length));
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
    // A weight that rounds to nothing may be there or not.
    let kept = |weights: &[(u32, f32)]| -> (Vec<u32>, Vec<f32>) {
        weights.iter().copied().filter(|weight| weight.1 > TOLERANCE).unzip()
    };
    let (found_sparse, expected) = (kept(&found.sparse), kept(&case.sparse));
    assert_eq!(found_sparse.0, expected.0, "{what}");
    near(&found_sparse.1, &expected.1, what);
    let rows: Vec<&[f32]> = found.colbert.chunks_exact(found.colbert_width).collect();
    let some = [&rows[..2.min(rows.len())], &rows[rows.len().saturating_sub(2)..]].concat();
    let compared = if rows.len() == case.colbert.len() { &rows } else { &some };
    assert_eq!(compared.len(), case.colbert.len(), "{what}");
    for (found, expected) in compared.iter().zip(&case.colbert) {
        near(found, expected, what);
    }
}

#[test]
fn late_chunks_are_those_of_transformers() {
    let mut compared = 0;
    for model in EMBEDDING_MODELS {
        let golden = golden::embeddings(model);
        let snapshot = packed(&golden::checkpoint(model), Precision::F32, isa::NATIVE);
        let embedder = embedder(&snapshot, Some(golden.max_length));
        for case in &golden.chunks {
            let request = EmbedTask {
                inputs: case.texts.iter().map(|text| text.as_str().into()).collect(),
                prompt: match case.prompt.as_str() {
                    "query" => PromptChoice::Query,
                    _ => PromptChoice::None,
                },
                late_chunking: true,
                ..EmbedTask::default()
            };
            let found = embedder.embed(&[request], &|| false).unwrap().remove(0);
            for (found, expected) in found.iter().zip(&case.dense) {
                near(&found.dense, expected, model);
                compared += 1;
            }
        }
    }
    assert!(compared >= 6, "only {compared} vectors were compared");
}

/// Poolings, layers after them, and models without the causal mask.
#[test]
fn variants_give_the_vectors_of_sentence_transformers_or_are_refused() {
    let Variants { texts, cases } = Variants::of_sentence_transformers();
    let (mut compared, mut refused) = (0, 0);
    for variant in cases {
        let dir = variant.checkpoint();
        let snapshot = packed(dir.path(), Precision::F32, isa::NATIVE);
        let wanted = EmbedderOptions { model: options(None), any_dimensions: true };
        let embedder = match Embedder::load(LINKED, &snapshot, &wanted) {
            Ok(embedder) => embedder,
            Err(error) => {
                let error = error.to_string();
                assert!(error.contains("with the causal mask only"), "{}: {error}", variant.name);
                assert!(error.contains("Leave BACKEND unset"), "{}: {error}", variant.name);
                refused += 1;
                continue;
            }
        };
        let request = EmbedTask {
            inputs: texts.iter().map(|text| text.as_str().into()).collect(),
            truncation: EmbedTruncation { overflow: Overflow::CutEnd, limit: None },
            ..EmbedTask::default()
        };
        let found = embedder.embed(&[request], &|| false).unwrap().remove(0);
        for (found, expected) in found.iter().zip(&variant.vectors) {
            near(&found.dense, expected, &variant.name);
            compared += 1;
        }
    }
    assert!(compared > 100, "only {compared} vectors were compared");
    assert_eq!(refused, 6, "Qwen3 without its mask, in each pooling");
}

#[test]
fn an_int8_snapshot_is_refused_with_what_to_do() {
    let snapshot = packed(&golden::checkpoint("bert-classifier"), Precision::Int8, isa::NATIVE);
    assert_eq!(snapshot.meta(stored::PRECISION), Some("int8"));
    let error = Reranker::load(LINKED, &snapshot, &options(None)).unwrap_err().to_string();
    for part in ["is int8", "expected f32 or bf16", "--precision f32", "BACKEND"] {
        assert!(error.contains(part), "{error}");
    }
}

/// The engine's and candle's model of one snapshot.
struct Both {
    vocab: u32,
    types: u32,
    runners: [Box<dyn Runner>; 2],
}

/// Each golden model.
fn both() -> &'static [Both] {
    static BOTH: OnceLock<Vec<Both>> = OnceLock::new();
    BOTH.get_or_init(|| {
        let load = |model| {
            let snapshot = packed(&golden::checkpoint(model), Precision::F32, isa::NATIVE);
            let description = Description::of(&snapshot).unwrap();
            let Description::Parts(spec) = &description else { panic!("{model} is in parts") };
            let size = |size: usize| u32::try_from(size).unwrap();
            let options = LoadOptions { threads: Some(2), ..LoadOptions::default() };
            Both {
                vocab: size(spec.config.vocab),
                types: size(spec.config.type_vocab.max(1)),
                runners: [LINKED[0], LINKED[1]]
                    .map(|runtime| runtime.load(&snapshot, description.clone(), &options).unwrap()),
            }
        };
        models().map(load).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn hidden_states_are_those_of_the_engine(
        model in any::<prop::sample::Index>(),
        tokens in prop::collection::vec((any::<u32>(), any::<u32>()), 1..60),
    ) {
        let both = model.get(both());
        let tokens = Tokens {
            ids: tokens.iter().map(|token| token.0 % both.vocab).collect(),
            types: tokens.iter().map(|token| token.1 % both.types).collect(),
        };
        let planned = [Planned { tokens: &tokens, share: Share::default() }];
        let wanted = Wanted { hidden: true, ..Wanted::default() };
        let [engine, candle] =
            both.runners.each_ref().map(|runner| runner.run(&planned, wanted).unwrap().remove(0));
        prop_assert_eq!(engine.hidden.len(), candle.hidden.len());
        for (engine, candle) in engine.hidden.iter().zip(&candle.hidden) {
            prop_assert!((engine - candle).abs() <= TOLERANCE, "{engine} {candle}");
        }
        for (engine, candle) in engine.pooled.iter().zip(&candle.pooled) {
            prop_assert!((engine - candle).abs() <= TOLERANCE, "{engine} {candle}");
        }
    }
}

/// What a request asks too much of is told, and the model goes on.
#[test]
fn a_sequence_that_the_model_has_no_row_for_is_refused() {
    for both in both() {
        let candle = &both.runners[1];
        let run = |ids: &[u32]| {
            let tokens = Tokens { ids: ids.to_vec(), types: Vec::new() };
            candle.run(&[Planned { tokens: &tokens, share: Share::default() }], Wanted::default())
        };
        let error = run(&[5, both.vocab]).unwrap_err().to_string();
        assert!(error.contains("outside of the"), "{error}");
        let error = run(&vec![5; 10_000]).unwrap_err().to_string();
        assert!(error.contains("has 10000 tokens, expected 1 to"), "{error}");
        assert_eq!(run(&[5]).unwrap()[0].pooled.len(), candle.outputs());
    }
}

#[test]
fn what_a_model_has_no_head_for_is_refused() {
    let tokens = Tokens { ids: vec![5, 6], types: Vec::new() };
    let planned = [Planned { tokens: &tokens, share: Share::default() }];
    let candle = &both()[0].runners[1];
    let error = candle.run(&planned, Wanted { sparse: true, ..Wanted::default() }).unwrap_err();
    assert!(error.to_string().contains("the model has no sparse head"), "{error}");
}
