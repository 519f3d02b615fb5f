//! What `pack` takes a model for: printed with the file that says so, decided by options where no file does.

use std::path::Path;

use defrost_testing::golden::{self, repository};

use super::support::run;

fn pack(dir: &Path, source: &Path, options: &[&str]) -> super::support::Done {
    let source = source.to_str().unwrap();
    let args = ["pack", source, "--precision", "f32", "--out", "model.snap"];
    let args: Vec<&str> = args.into_iter().chain(options.iter().copied()).collect();
    let done = run(dir, &args);
    let _ = std::fs::remove_file(dir.join("model.snap"));
    done
}

#[test]
fn the_report_says_what_was_decided_and_by_which_file() {
    let dir = tempfile::tempdir().unwrap();
    let case = |name: &str| repository("data/cases").join(name);
    for (source, lines) in [
        (
            golden::checkpoint("bert-embedding"),
            &[
                "  kind  embedder (modules.json: Pooling)",
                "  pooling  mean (1_Pooling/config.json)",
            ][..],
        ),
        (
            golden::checkpoint("qwen2-mxbai"),
            &[
                "  kind  reranker (config.json: Qwen2ForCausalLM)",
                "  prompt  mxbai-rerank-v2 (config.json: Qwen2ForCausalLM)",
            ],
        ),
        (
            case("F1b-logit-score"),
            &[
                "  kind  reranker (modules.json: LogitScore, of a qwen3 model without a chat template, whose prompt is taken to be \
                 that of qwen3-reranker; --template names another)",
            ],
        ),
        (case("F2-is-causal-false"), &["  attention  bidirectional (config.json: is_causal)"]),
        (
            case("F3-do-lower-case"),
            &["  texts  in lower case (sentence_bert_config.json: do_lower_case)"],
        ),
        (
            case("F4-model-max-length"),
            &["  length  32 tokens (tokenizer_config.json: model_max_length)"],
        ),
        (
            case("G1-dense-module"),
            &[
                "  modules  the Normalize called \"2\" in place of the Dense of that name (modules.json)",
            ],
        ),
    ] {
        let report = pack(dir.path(), &source, &[]).text();
        for line in lines {
            assert!(report.lines().any(|found| found == *line), "{line}\n{report}");
        }
    }
}

#[test]
fn options_decide_what_no_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let bare = repository("data/cases/F10-bare-qwen3-model");
    let done = pack(dir.path(), &bare, &[]);
    for part in ["cannot be told", "--pooling", "--kind reranker", "--template"] {
        assert!(done.failure().contains(part), "{done:?}");
    }
    for (options, line) in [
        (&["--pooling", "lasttoken"][..], "  pooling  lasttoken (--pooling)"),
        (&["--kind", "embedder", "--pooling", "mean"], "  kind  embedder (--kind)"),
        (&["--kind", "reranker"], "  kind  reranker (--kind)"),
        (&["--template", "qwen3-reranker"], "  kind  reranker (--template)"),
        (
            &["--pooling", "mean", "--attention", "bidirectional"],
            "  attention  bidirectional (--attention)",
        ),
    ] {
        let report = pack(dir.path(), &bare, options).text();
        assert!(report.lines().any(|found| found == line), "{line}\n{report}");
    }
    for options in [&["--kind", "poem"][..], &["--pooling", "median"], &["--attention", "half"]] {
        assert!(pack(dir.path(), &bare, options).usage().contains(options[0]), "{options:?}");
    }
}

/// A slip of the hand is not taken for a wish.
#[test]
fn options_that_no_model_can_follow_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let source = golden::checkpoint("bert-embedding");
    for (options, part) in [
        (&["--name", ""][..], "expected a name"),
        (&["--name", "  "], "expected a name"),
        (&["--max-length", "0"], "--max-length"),
        (&["--matryoshka", "0"], "from 1"),
        (&["--matryoshka", "8,16,8"], "twice"),
    ] {
        let done = pack(dir.path(), &source, options);
        assert!(done.usage().contains(part), "{options:?}: {done:?}");
    }
    for (options, part) in [
        (&["--matryoshka", "999"][..], "expected at most the 32 dimensions"),
        (&["--max-length", "9999"], "expected 1 to the 256 positions"),
    ] {
        let done = pack(dir.path(), &source, options);
        assert!(done.failure().contains(part), "{options:?}: {done:?}");
    }
    let report = pack(dir.path(), &source, &["--name", "org/model"]).text();
    assert!(report.contains("kind  embedder"), "{report}");
}

/// Old checkpoints of sentence-transformers keep the transformer in a folder; an adapter is no model.
#[test]
fn folders_are_looked_into_and_adapters_refused() {
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    let inner = model.join("0_Transformer");
    std::fs::create_dir_all(&inner).unwrap();
    std::fs::create_dir(model.join("1_Pooling")).unwrap();
    let source = golden::checkpoint("bert-embedding");
    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        std::fs::copy(source.join(file), inner.join(file)).unwrap();
    }
    std::fs::copy(source.join("1_Pooling/config.json"), model.join("1_Pooling/config.json"))
        .unwrap();
    let modules = std::fs::read_to_string(source.join("modules.json")).unwrap();
    let modules = modules.replacen(r#""path": """#, r#""path": "0_Transformer""#, 1);
    std::fs::write(model.join("modules.json"), modules).unwrap();
    pack(dir.path(), &model, &[]).text();
    std::fs::write(model.join("adapter_config.json"), r#"{"peft_type": "LORA"}"#).unwrap();
    let done = pack(dir.path(), &model, &[]);
    assert!(done.failure().contains("merge_and_unload"), "{done:?}");
}
