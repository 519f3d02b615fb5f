//! Prompts under the real Qwen tokenizers, against the ids published for them.
//!
//! The tokenizers (5 MB each) are not in the repository: the tests read the reference data that lies
//! beside a development checkout and say so where it is absent. The tiny golden models cover the
//! same code everywhere.

use std::path::PathBuf;

use defrost_model::Precision;
use defrost_pack::{Shape, synthesize};
use defrost_tasks::{Reranker, RerankerOptions, ScoreTask};
use defrost_testing::golden::repository;

use super::common;

/// A one-layer model with the full vocabulary around a real tokenizer.
fn reranker(preset: &str, tokenizer: &str) -> Option<Reranker> {
    let path: PathBuf =
        repository("../shared/data/tokenizers").join(tokenizer).join("tokenizer.json");
    let Ok(json) = std::fs::read(&path) else {
        println!("not run: {tokenizer}'s tokenizer.json is not beside this checkout");
        return None;
    };
    let mut shape = Shape::preset(preset).unwrap();
    for (dimension, size) in [("layers", 1), ("hidden", 16), ("heads", 2), ("kv_heads", 1)] {
        shape.set(dimension, size).unwrap();
    }
    shape.set("head_dim", 8).unwrap();
    shape.set("intermediate", 32).unwrap();
    let dir = tempfile::tempdir().unwrap();
    synthesize(&shape, Some(&json), 1, dir.path()).unwrap();
    Some(common::reranker(dir.path(), Precision::Int8, &RerankerOptions::default()))
}

fn ids(reranker: &Reranker, query: &str, document: &str) -> Vec<u32> {
    let request =
        ScoreTask { query: query.into(), documents: vec![document.into()], ..ScoreTask::default() };
    reranker.encode(&request).unwrap().remove(0).ids
}

#[test]
fn mxbai_prompts_are_joined_from_segments() {
    let Some(reranker) = reranker("mxbai-rerank-base-v2", "qwen2.5") else { return };
    let ids = ids(
        &reranker,
        "Who wrote 'To Kill a Mockingbird'?",
        "'To Kill a Mockingbird' is a novel by Harper Lee published in 1960.",
    );
    let prefix = [
        151_644, 8948, 198, 2610, 525, 1207, 16948, 11, 3465, 553, 54364, 14817, 13, 1446, 525,
        264, 10950, 17847, 13, 151_645, 198, 151_644, 872, 198,
    ];
    let task_and_suffix = [
        2610, 525, 264, 2711, 40861, 6203, 879, 66249, 1246, 1632, 9293, 2432, 2711, 19556, 13,
        1752, 1817, 3239, 82233, 6716, 11, 15516, 23643, 279, 41733, 5025, 1948, 1105, 11, 1221,
        3410, 697, 7868, 40861, 19407, 320, 15, 369, 537, 9760, 11, 220, 16, 369, 9760, 4292, 693,
        32094, 25, 151_645, 198, 151_644, 77091, 198,
    ];
    assert_eq!(ids.len(), 116, "the whole string would give 115");
    assert_eq!(ids[..24], prefix);
    assert_eq!(ids[ids.len() - 54..], task_and_suffix);
    // The query ends in `'?` as one token; then the separator, then "document".
    assert!(ids.windows(3).any(|window| window == [69990, 198, 6062]), "{ids:?}");
}

#[test]
fn qwen3_prompts_close_the_thinking() {
    let Some(reranker) = reranker("qwen3-reranker-0.6b", "qwen3") else { return };
    let ids = ids(&reranker, "What is the capital of China?", "The capital of China is Beijing.");
    assert_eq!(
        ids[ids.len() - 9..],
        [151_645, 198, 151_644, 77091, 198, 151_667, 271, 151_668, 271]
    );
    // 39 tokens of prefix: the system message, and the head of the user's.
    assert_eq!((ids[0], &ids[36..39]), (151_644, &[151_644, 872, 198][..]));
}
