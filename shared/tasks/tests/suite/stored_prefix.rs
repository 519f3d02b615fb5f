//! What prompts begin with is stored in the snapshot, saves its computation, and changes no score by a bit.

use super::common::{self, LINKED};

use std::path::Path;

use defrost_model::{ModelSpec, Precision, Tokens, isa};
use defrost_pack::{Checkpoint, PackOptions, pack};
use defrost_tasks::{Reranker, RerankerOptions, RestoreOptions, ScoreTask, restore};
use defrost_testing::golden;

fn packed(model: &str, options: &PackOptions, out: &Path) -> (ModelSpec, Reranker) {
    let checkpoint = Checkpoint::open(&golden::checkpoint(model)).unwrap();
    pack(&checkpoint, options, out, &mut |_, _| {}).unwrap();
    let cache = out.parent().unwrap().join("cache");
    let restore_options = RestoreOptions { cache_dir: Some(cache), ..RestoreOptions::default() };
    let snapshot = restore(LINKED, &out.into(), &restore_options).unwrap();
    let reranker = Reranker::load(LINKED, &snapshot, &RerankerOptions::default()).unwrap();
    (ModelSpec::from_snapshot(&snapshot).unwrap(), reranker)
}

fn requests(model: &str) -> Vec<ScoreTask> {
    let cases = golden::read(model).cases;
    let texts = cases.iter().filter(|case| case.document.len() < 600);
    let mut requests: Vec<ScoreTask> = texts
        .map(|case| ScoreTask {
            query: case.query.clone(),
            documents: vec![case.document.clone(), String::new(), "other".into()],
            ..ScoreTask::default()
        })
        .collect();
    for (request, instruction) in requests.iter_mut().zip(["judge", "Given a web search query, no"])
    {
        request.instruction = Some(instruction.into());
    }
    requests
}

fn scores(reranker: &Reranker, requests: &[ScoreTask]) -> Vec<u32> {
    let scores = reranker.score(requests, &|| false).unwrap();
    scores.iter().flatten().map(|score| score.raw.to_bits()).collect()
}

#[test]
fn no_score_changes_by_a_bit() {
    for model in ["qwen2-mxbai", "qwen3-reranker", "qwen3-embedding"] {
        let requests = requests(model);
        for precision in [Precision::Int8, Precision::Bf16, Precision::F32] {
            for isa in [isa::NATIVE, isa::PORTABLE] {
                let dir = tempfile::tempdir().unwrap();
                let with = common::options(precision, isa);
                let without = PackOptions { store_prefix: false, ..with.clone() };
                let (plain, computed) = packed(model, &without, &dir.path().join("without.snap"));
                let (spec, stored) = packed(model, &with, &dir.path().join("with.snap"));
                assert!(plain.stored_prefix.is_empty());
                assert_eq!(spec.stored_prefix.len(), spec.config.stored_prefix);
                let expected = scores(&computed, &requests);
                assert_eq!(scores(&stored, &requests), expected, "{model} {}", precision.name());
                // Sequences that begin with all of it, a part of it, nothing of it, or are a part of it.
                let ids = &spec.stored_prefix;
                let sequences: Vec<Tokens> = [
                    [&ids[..], &[5]].concat(),
                    [&ids[..3], &[7, 8, 9]].concat(),
                    vec![4, 4],
                    ids[..2].to_vec(),
                ]
                .into_iter()
                .map(|ids| Tokens { ids, types: Vec::new() })
                .collect();
                assert_eq!(
                    stored.run_tokens(&sequences).unwrap(),
                    computed.run_tokens(&sequences).unwrap()
                );
            }
        }
    }
}

/// Every prompt begins with it, the default instruction included; queries of embedding models do.
#[test]
fn it_is_all_that_prompts_have_in_common() {
    for model in ["qwen2-mxbai", "qwen3-reranker", "qwen3-embedding"] {
        let dir = tempfile::tempdir().unwrap();
        let options = common::options(Precision::F32, isa::NATIVE);
        let (spec, reranker) = packed(model, &options, &dir.path().join("tiny.snap"));
        let encode = |query: &str, document: &str| {
            let request = ScoreTask {
                query: query.into(),
                documents: vec![document.into()],
                ..ScoreTask::default()
            };
            reranker.encode(&request).unwrap().swap_remove(0).ids
        };
        let stored = &spec.stored_prefix;
        assert!(stored.len() >= 10, "{model}: {stored:?}");
        let (one, other) = (encode("word", "text"), encode("99 + 1", "-"));
        assert!(one.starts_with(stored) && other.starts_with(stored), "{model}");
    }
}

/// Encoders read to both sides: nothing is a constant of the model.
#[test]
fn encoders_have_none() {
    for model in ["bert-classifier", "xlm-roberta-classifier", "bert-embedding"] {
        let dir = tempfile::tempdir().unwrap();
        let options = common::options(Precision::F32, isa::NATIVE);
        let (spec, _) = packed(model, &options, &dir.path().join("tiny.snap"));
        assert!(spec.stored_prefix.is_empty(), "{model}");
    }
}
