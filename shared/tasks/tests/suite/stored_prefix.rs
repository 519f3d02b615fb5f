//! What prompts begin with is stored in the snapshot, saves its computation, and changes no score by a bit.

use super::common::{self, LINKED};

use std::path::Path;

use defrost_engine::Kernel;
use defrost_model::{Decoder, LogitsOf, ModelSpec, Piece, Precision, Tokens, isa};
use defrost_pack::{
    Checkpoint, ModelKind, PackOptions, SpecOptions, open_checkpoint, pack, usual_precision,
};
use defrost_tasks::{
    Generator, GeneratorOptions, ModelOptions, Reranker, RerankerOptions, RestoreOptions,
    ScoreTask, restore,
};
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

/// A language model, packed with what its template's conversations begin with, or without; a run for each kernel set.
fn generators(
    source: &Path,
    precision: Option<Precision>,
    store_prefix: bool,
    out: &Path,
) -> (ModelSpec, Vec<Generator>) {
    let checkpoint = open_checkpoint(source).unwrap();
    let precision = precision.unwrap_or_else(|| usual_precision(&checkpoint));
    let spec =
        SpecOptions { name: "m".into(), kind: Some(ModelKind::Chat), ..SpecOptions::default() };
    let options = PackOptions { spec, store_prefix, ..common::options(precision, isa::NATIVE) };
    let first = pack(&checkpoint, &options, out, &mut |_, _| {}).unwrap();
    let again = out.with_extension("again");
    assert_eq!(pack(&checkpoint, &options, &again, &mut |_, _| {}).unwrap().root, first.root);
    let cache = out.parent().unwrap().join("cache");
    let restoring = RestoreOptions { cache_dir: Some(cache), ..RestoreOptions::default() };
    let snapshot = restore(LINKED, &out.into(), &restoring).unwrap();
    let load = |kernel: Kernel| {
        let kernel = Some(kernel.name());
        let model = ModelOptions {
            kernel,
            num_threads: Some(2),
            kv_tokens: Some(256),
            ..ModelOptions::default()
        };
        let options = GeneratorOptions { model, ..GeneratorOptions::default() };
        Generator::load(LINKED, &snapshot, &options).unwrap()
    };
    let all = Kernel::available().into_iter().map(load).collect();
    (ModelSpec::from_snapshot(&snapshot).unwrap(), all)
}

/// How many of the tokens need not be computed, and the logits after the last one.
fn after(decoder: &dyn Decoder, ids: &[u32]) -> (usize, Vec<u32>) {
    let opened = decoder.open(ids).unwrap();
    let piece = Piece {
        sequence: opened.id,
        ids: &ids[opened.cached..],
        logits: LogitsOf::Last,
        allowed: None,
    };
    let logits = decoder.step(&[piece]).unwrap();
    decoder.close(opened.id);
    (opened.cached, logits[0].0[0].iter().map(|logit| logit.to_bits()).collect())
}

/// What conversations begin with is stored for every precision and kind of block, and no logit changes by a bit.
#[test]
fn conversations_begin_with_what_is_stored() {
    let folders = ["golden/generate-gemma3", "golden/generate-qwen3", "golden/generate-llama"];
    let files = [
        "golden/gguf-models/qwen2-q8_0.gguf",
        "golden/gguf-models/wide-q4_k_m.gguf",
        "tiny-chat/model.gguf",
    ];
    let floats = [Precision::F32, Precision::Bf16, Precision::Int8].map(Some);
    let of_folders = folders.iter().flat_map(|folder| floats.map(|precision| (*folder, precision)));
    let mut tried = 0;
    for (source, precision) in of_folders.chain(files.map(|file| (file, None))) {
        let source_dir = golden::repository("data").join(source);
        let dir = tempfile::tempdir().unwrap();
        let (spec, with) = generators(&source_dir, precision, true, &dir.path().join("with.snap"));
        if spec.chat.is_some_and(|chat| chat.template.is_none()) {
            assert!(spec.stored_prefix.is_empty(), "{source}");
            continue;
        }
        tried += 1;
        let (plain, without) =
            generators(&source_dir, precision, false, &dir.path().join("without.snap"));
        let stored = &spec.stored_prefix;
        assert!(!stored.is_empty() && plain.stored_prefix.is_empty(), "{source}");
        let half = stored.len() / 2;
        let more = [&stored[..], &[7, 8, 9, 10]].concat();
        let prompts =
            [more, stored.clone(), [&stored[..half], &[5, 6]].concat(), vec![stored[0] ^ 1, 3]];
        for (with, without) in with.iter().zip(&without) {
            for ids in &prompts {
                // Computed by a decoder that has never seen any of it, and by one that has it in its pages.
                let same = ids.iter().zip(stored).take_while(|(one, two)| one == two).count();
                let (cached, found) = after(with.decoder().unwrap(), ids);
                assert!(cached >= same.min(ids.len() - 1), "{source}: {cached} of {ids:?}");
                let (_, expected) = after(without.decoder().unwrap(), ids);
                assert_eq!(found, expected, "{source} {precision:?}: {ids:?}");
            }
        }
    }
    assert!(tried >= 4, "{tried} models have templates");
}
