//! Random models: they pack, they score, and a seed decides them.

use std::path::Path;

use super::support::{Done, run};

const DIMS: &str = "layers=1,hidden=64,heads=2,kv_heads=2,head_dim=32,intermediate=96,vocab=400";

fn synth(dir: &Path, model: &str, out: &str, more: &[&str]) -> Done {
    let args: Vec<&str> = ["synth", model, "--out", out].iter().chain(more).copied().collect();
    run(dir, &args)
}

#[test]
fn every_family_packs_and_scores() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("docs"), "first\nsecond one\n").unwrap();
    let presets = ["all-minilm-l6-v2", "bge-m3", "mxbai-rerank-base-v2", "qwen3-reranker-0.6b"];
    for model in ["bert", "xlm-roberta", "qwen2", "qwen3"].into_iter().chain(presets) {
        synth(dir.path(), model, model, &["--dims", DIMS]).text();
        for precision in ["int8", "bf16", "f32"] {
            run(dir.path(), &["pack", model, "--precision", precision]).text();
            let snapshot = format!("{model}-{precision}.snap");
            let rank = ["rerank", "--query", "q", "--docs-file", "docs", "--json", "--model"];
            let args: Vec<&str> = rank.into_iter().chain([snapshot.as_str()]).collect();
            let answer = run(dir.path(), &args).json();
            let results = answer["results"].as_array().unwrap();
            assert_eq!(results.len(), 2, "{snapshot}");
            for result in results {
                let score = result["score"].as_f64().unwrap();
                assert!((0.0..=1.0).contains(&score), "{snapshot}: {result}");
            }
        }
    }
}

#[test]
fn a_seed_decides_every_weight() {
    let dir = tempfile::tempdir().unwrap();
    for (out, seed) in [("a", "1"), ("b", "1"), ("c", "2")] {
        synth(dir.path(), "qwen2", out, &["--dims", DIMS, "--seed", seed]).text();
    }
    let read = |name: &str, file: &str| std::fs::read(dir.path().join(name).join(file)).unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer.json"] {
        assert!(read("a", file) == read("b", file), "the same seed gave another {file}");
    }
    assert!(read("a", "model.safetensors") != read("c", "model.safetensors"));
    assert!(read("a", "config.json") == read("c", "config.json"));
}

#[test]
fn a_tokenizer_is_taken_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let own = defrost_testing::golden::checkpoint("bert-classifier").join("tokenizer.json");
    let more = ["--dims", "layers=1,vocab=480", "--tokenizer", own.to_str().unwrap()];
    synth(dir.path(), "bert", "m", &more).text();
    let written = std::fs::read(dir.path().join("m/tokenizer.json")).unwrap();
    assert!(written == std::fs::read(own).unwrap());
}

#[test]
fn impossible_models_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for (model, more, says) in [
        ("gpt-9", &[][..], "unknown model \"gpt-9\", expected one of "),
        ("bert", &["--dims", "depth=2"], "unknown dimension \"depth\", expected hidden, "),
        ("bert", &["--dims", "layers"], "--dims: \"layers\" is not NAME=SIZE"),
        ("bert", &["--dims", "layers=two"], "--dims: \"two\" is not a size"),
        ("bert", &["--dims", "layers=-1"], "--dims: \"-1\" is not a size"),
        ("bert", &["--dims", "layers="], "--dims: \"\" is not a size"),
        ("bert", &["--tokenizer", "missing"], "cannot read missing: "),
        ("bert", &["--dims", "layers=0"], "model configuration: layers is 0"),
        ("bert", &["--dims", "hidden=65"], "model configuration: an encoder's 12 heads"),
        ("qwen2", &["--dims", "kv_heads=5"], "model configuration: "),
        ("qwen2", &["--dims", "hidden=99999999999"], "model configuration: hidden is "),
    ] {
        let done = synth(dir.path(), model, "m", more);
        assert_eq!((done.code, done.out.as_str()), (Some(1), ""), "{model} {more:?}: {done:?}");
        // The line before it, where there is one, says what was about to be written.
        let last = done.err.lines().last().unwrap();
        assert!(last.starts_with(&format!("defrost: {says}")), "{model} {more:?}: {last}");
        assert!(done.err.lines().count() <= 2, "{done:?}");
        assert!(!dir.path().join("m").exists(), "{model} {more:?} left a directory");
    }
}

#[test]
fn a_vocabulary_too_small_for_bytes_needs_a_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let done = synth(dir.path(), "bert", "m", &["--dims", "layers=1,vocab=3"]);
    assert_eq!(done.code, Some(1));
    let last = done.err.lines().last().unwrap();
    assert!(last.ends_with("the model has 3; give a tokenizer.json"), "{last}");
}
