//! Dense, sparse and `ColBERT` vectors equal those of `transformers` with `FlagEmbedding`'s formulas, for every family and
//! kernel; int8 and bf16 are near.

use super::common;

use defrost_engine::Kernel;
use defrost_model::Precision;
use defrost_tasks::{
    EmbedTask, EmbedTruncation, Embedder, EmbedderOptions, Embedding, ModelOptions, Outputs,
    Overflow, PromptChoice,
};
use defrost_testing::golden::{
    self, EMBEDDING_MODELS, EmbeddingCase, Embeddings, TOKEN_HEADS_MODEL,
};

/// The promise on f32 vectors; the golden numbers themselves are rounded to 5e-7.
const TOLERANCE: f32 = 1e-4;

fn load(model: &str, precision: Precision, kernel: Kernel) -> Embedder {
    let options = EmbedderOptions {
        model: ModelOptions {
            kernel: Some(kernel.name()),
            num_threads: Some(2),
            max_length: Some(golden::embeddings(model).max_length),
            ..ModelOptions::default()
        },
        any_dimensions: true,
    };
    common::embedder(&golden::checkpoint(model), precision, &options)
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

fn all(embedder: &Embedder, golden: &Embeddings, outputs: Outputs) -> Vec<Embedding> {
    let requests: Vec<_> = golden.cases.iter().map(|case| request(golden, case, outputs)).collect();
    embedder.embed(&requests, &|| false).unwrap().into_iter().flatten().collect()
}

#[track_caller]
fn distance(found: &[f32], expected: &[f32], what: &str) -> f32 {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= TOLERANCE, "{what}: {worst}");
    worst
}

#[test]
fn dense_vectors_are_those_of_transformers_on_every_kernel() {
    for model in EMBEDDING_MODELS {
        let golden = golden::embeddings(model);
        for kernel in Kernel::available() {
            let embedder = load(model, Precision::F32, kernel);
            let mut worst = 0f32;
            let found = all(&embedder, &golden, Outputs::default());
            assert_eq!(found.len(), golden.cases.len());
            for (case, found) in golden.cases.iter().zip(found) {
                let what = format!("{model} {}", case.name);
                assert_eq!(found.token_count, case.ids.len(), "{what}");
                assert_eq!(found.truncated, case.name == "long-cut", "{what}");
                worst = worst.max(distance(&found.dense, &case.dense, &what));
                let cut = EmbedTask {
                    dimensions: Some(golden.short_dimensions),
                    ..request(&golden, case, Outputs::default())
                };
                let short = embedder.embed(&[cut], &|| false).unwrap().remove(0).remove(0).dense;
                worst = worst.max(distance(&short, &case.short, &what));
            }
            println!("{model:<16} {:<12} f32 worst error {worst:.1e}", kernel.name());
        }
    }
}

#[test]
fn late_chunks_are_means_over_the_hidden_states_of_transformers() {
    let mut compared = 0;
    for model in EMBEDDING_MODELS {
        let golden = golden::embeddings(model);
        for kernel in Kernel::available() {
            let embedder = load(model, Precision::F32, kernel);
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
                assert_eq!(found.len(), case.dense.len());
                let tokens: usize = found.iter().map(|one| one.token_count).sum();
                assert_eq!(tokens, case.ids.len(), "{model}");
                for (found, expected) in found.iter().zip(&case.dense) {
                    distance(&found.dense, expected, model);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared >= 10, "only {compared} vectors were compared");
}

#[test]
fn sparse_and_colbert_vectors_are_those_of_flag_embedding() {
    let model = TOKEN_HEADS_MODEL;
    let golden = golden::embeddings(model);
    let outputs = Outputs { sparse: true, colbert: true, ..Outputs::default() };
    for kernel in Kernel::available() {
        let embedder = load(model, Precision::F32, kernel);
        let (mut worst, mut weights) = (0f32, 0);
        for (case, found) in golden.cases.iter().zip(all(&embedder, &golden, outputs)) {
            distance(&found.dense, &case.dense, &case.name);
            let ids = |pairs: &[(u32, f32)]| pairs.iter().map(|pair| pair.0).collect::<Vec<_>>();
            let numbers =
                |pairs: &[(u32, f32)]| pairs.iter().map(|pair| pair.1).collect::<Vec<_>>();
            // A weight that rounds to nothing may be there or not.
            let kept = |pairs: &[(u32, f32)]| -> Vec<(u32, f32)> {
                pairs.iter().copied().filter(|pair| pair.1 > TOLERANCE).collect()
            };
            let (sparse, expected) = (kept(&found.sparse), kept(&case.sparse));
            assert_eq!(ids(&sparse), ids(&expected), "{}", case.name);
            worst = worst.max(distance(&numbers(&sparse), &numbers(&expected), &case.name));
            weights += sparse.len();

            let width = found.colbert_width;
            assert_eq!(found.colbert.len(), (case.ids.len() - 1) * width, "{}", case.name);
            let rows: Vec<&[f32]> = found.colbert.chunks_exact(width).collect();
            let whole = rows.len() == case.colbert.len();
            let some = [&rows[..2.min(rows.len())], &rows[rows.len().saturating_sub(2)..]].concat();
            for (found, expected) in if whole { &rows } else { &some }.iter().zip(&case.colbert) {
                worst = worst.max(distance(found, expected, &case.name));
            }
            assert!(whole || case.colbert.len() == some.len(), "{}", case.name);
        }
        assert!(weights > 200, "only {weights} weights were compared");
        println!("{model:<16} {:<12} f32 worst error {worst:.1e}", kernel.name());
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The floors are what these tiny models allow: 32 random dimensions lose more to eight bits than a thousand trained ones.
#[test]
fn int8_and_bf16_vectors_are_near_those_of_f32() {
    for model in EMBEDDING_MODELS {
        let golden = golden::embeddings(model);
        let heads = model == TOKEN_HEADS_MODEL;
        let outputs = Outputs { sparse: heads, colbert: heads, ..Outputs::default() };
        for (precision, floor) in [(Precision::Int8, 0.995), (Precision::Bf16, 0.9998)] {
            let embedder = load(model, precision, Kernel::detect());
            let (mut dense, mut colbert, mut sparse) = (1f64, 1f64, 0f32);
            let exact = all(&load(model, Precision::F32, Kernel::detect()), &golden, outputs);
            for (near, exact) in all(&embedder, &golden, outputs).iter().zip(&exact) {
                dense = dense.min(cosine(&near.dense, &exact.dense));
                if heads {
                    colbert = colbert.min(cosine(&near.colbert, &exact.colbert));
                    for &(id, weight) in &exact.sparse {
                        let found =
                            near.sparse.iter().find(|pair| pair.0 == id).map_or(0.0, |pair| pair.1);
                        sparse = sparse.max((found - weight).abs());
                    }
                }
            }
            println!("{model:<16} {:<5} smallest cosine: dense {dense:.5}", precision.name());
            if heads {
                println!("  ColBERT {colbert:.5}; largest difference of weights {sparse:.3}");
            }
            assert!(dense >= floor, "{model} {precision:?}: {dense}");
            assert!(colbert >= floor, "{model} {precision:?}: {colbert}");
            assert!(sparse <= 0.15, "{model} {precision:?}: {sparse}");
        }
    }
}
