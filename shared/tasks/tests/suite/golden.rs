//! Scores and token ids equal those of `transformers`, for every family and precision.

use super::common;

use defrost_engine::Kernel;
use defrost_model::{Precision, Tokens};
use defrost_tasks::{Reranker, RerankerOptions, ScoreTask};
use defrost_testing::golden::{self, EMBEDDING_MODELS, Golden, PAIR_MODELS, pearson};

/// The promise on f32 logits.
const TOLERANCE: f32 = 1e-4;

fn request(case: &golden::Case) -> ScoreTask {
    ScoreTask {
        query: case.query.clone(),
        documents: vec![case.document.clone()],
        instruction: case.instruction.clone(),
        ..ScoreTask::default()
    }
}

fn load(model: &str, golden: &Golden, precision: Precision, kernel: Kernel) -> Reranker {
    let options = RerankerOptions {
        max_length: Some(golden.max_length),
        kernel: Some(kernel.name()),
        num_threads: Some(2),
        ..RerankerOptions::default()
    };
    common::reranker(&golden::checkpoint(model), precision, &options)
}

#[test]
fn token_ids_are_those_of_the_reference_pipelines() {
    for model in PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS) {
        let golden = golden::read(model);
        let reranker = load(model, &golden, Precision::F32, Kernel::detect());
        for case in &golden.cases {
            let found = reranker.encode(&request(case)).unwrap();
            let expected = if case.ids.is_empty() {
                vec![&case.query_ids, &case.document_ids]
            } else {
                vec![&case.ids]
            };
            let found_ids: Vec<&Vec<u32>> = found.iter().map(|tokens| &tokens.ids).collect();
            assert_eq!(found_ids, expected, "{model}: {}", case.name);
            if case.type_ids.iter().any(|&kind| kind != 0) {
                assert_eq!(found[0].types, case.type_ids, "{model}: {}", case.name);
            }
        }
    }
}

#[test]
fn f32_scores_are_within_1e_4_of_transformers_on_every_kernel() {
    for model in PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS) {
        let golden = golden::read(model);
        for kernel in Kernel::available() {
            let reranker = load(model, &golden, Precision::F32, kernel);
            let requests: Vec<ScoreTask> = golden.cases.iter().map(request).collect();
            let scores = reranker.score(&requests, &|| false).unwrap();
            let mut worst = 0f32;
            for (case, scores) in golden.cases.iter().zip(&scores) {
                let error = (scores[0].raw - case.raw).abs();
                worst = worst.max(error);
                assert!(
                    error <= TOLERANCE,
                    "{model} on {}: {} scores {}, transformers {}",
                    kernel.name(),
                    case.name,
                    scores[0].raw,
                    case.raw
                );
            }
            println!("{model:<24} {:<12} f32 worst error {worst:.1e}", kernel.name());
        }
    }
}

#[test]
fn long_pairs_agree_in_f32_and_correlate_in_int8() {
    for model in PAIR_MODELS {
        let golden = golden::read(model);
        let pairs: Vec<Tokens> = golden
            .long_pairs
            .iter()
            .map(|pair| Tokens { ids: pair.ids.clone(), types: pair.types() })
            .collect();
        let reference: Vec<f32> = golden.long_pairs.iter().map(|pair| pair.raw).collect();
        assert!(pairs.len() >= 64 && pairs.iter().all(|pair| pair.ids.len() == 512));
        let run = |precision| -> Vec<f32> {
            let reranker = load(model, &golden, precision, Kernel::detect());
            reranker.run_tokens(&pairs).unwrap().into_iter().map(|answer| answer[0]).collect()
        };
        let f32_logits = run(Precision::F32);
        for (found, expected) in f32_logits.iter().zip(&reference) {
            assert!((found - expected).abs() <= TOLERANCE, "{model}: {found} {expected}");
        }
        let (int8, bf16) = (run(Precision::Int8), run(Precision::Bf16));
        let (int8, bf16) = (pearson(&int8, &f32_logits), pearson(&bf16, &f32_logits));
        println!("{model:<24} Pearson against f32: int8 {int8:.5}, bf16 {bf16:.5}");
        assert!(int8 >= 0.99, "{model}: int8 correlates {int8}");
        assert!(bf16 >= 0.999, "{model}: bf16 correlates {bf16}");
    }
}

/// Steps of int8 would turn the last bit of a sum into a difference anyone could see, so there is none.
#[test]
fn scores_are_the_same_to_the_bit_on_every_kernel() {
    for model in PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS) {
        let golden = golden::read(model);
        for precision in [Precision::Int8, Precision::Bf16, Precision::F32] {
            let bits = |kernel: Kernel| -> Vec<u32> {
                let reranker = load(model, &golden, precision, kernel);
                let requests: Vec<ScoreTask> = golden.cases.iter().take(24).map(request).collect();
                let scores = reranker.score(&requests, &|| false).unwrap();
                scores.iter().map(|scores| scores[0].raw.to_bits()).collect()
            };
            let expected = bits(Kernel::detect());
            for kernel in Kernel::available() {
                assert_eq!(bits(kernel), expected, "{model} {precision:?} on {}", kernel.name());
            }
        }
    }
}
