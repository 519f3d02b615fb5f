//! pack, inspect and verify; usage.

use std::path::Path;

use defrost_testing::golden::{self, EMBEDDING_MODELS, PAIR_MODELS};
use serde_json::Value;

use super::support::{pack, root, run};

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value}"))
}

fn inspect(dir: &Path, snapshot: &str) -> Value {
    run(dir, &["inspect", snapshot, "--json"]).json()
}

#[test]
fn every_model_packs_in_every_precision_under_its_default_name() {
    let dir = tempfile::tempdir().unwrap();
    for model in PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS) {
        for precision in ["int8", "bf16", "f16", "f32"] {
            let source = golden::checkpoint(model);
            let args = ["pack", source.to_str().unwrap(), "--precision", precision];
            let report = run(dir.path(), &args).text();
            let name = format!("{model}-{precision}.snap");
            assert_eq!(report.lines().next(), Some(name.as_str()));

            let manifest = inspect(dir.path(), &name);
            assert_eq!(manifest["root"], root(&report));
            assert_eq!(manifest["meta"]["model.name"], model);
            assert_eq!(manifest["meta"]["precision"], precision);
            assert_eq!(manifest["isa"] == "portable", precision == "f16");
            let verified = run(dir.path(), &["verify", &name]).text();
            assert!(verified.starts_with(&format!("{}  ok", root(&report))), "{verified}");
        }
    }
}

#[test]
fn int8_is_the_default_and_packing_is_reproducible() {
    let dir = tempfile::tempdir().unwrap();
    let source = golden::checkpoint("qwen2-mxbai");
    run(dir.path(), &["pack", source.to_str().unwrap()]).text();
    pack(dir.path(), "qwen2-mxbai", "int8", "again.snap");
    let read = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    assert!(
        read("qwen2-mxbai-int8.snap") == read("again.snap"),
        "packed twice, packed differently"
    );
}

#[test]
fn out_may_lie_in_a_directory_that_is_created_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let source = golden::checkpoint("bert-classifier");
    let pack = ["pack", source.to_str().unwrap(), "--force", "--out"];
    run(dir.path(), &[&pack[..], &["new/and/deeper/model.snap"]].concat()).text();
    assert!(dir.path().join("new/and/deeper/model.snap").is_file());

    std::fs::write(dir.path().join("file"), "").unwrap();
    let done = run(dir.path(), &[&pack[..], &["file/model.snap"]].concat());
    assert!(done.failure().starts_with("file is no folder"), "{done:?}");
}

#[test]
fn what_was_meant_otherwise_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let source = golden::checkpoint("bert-classifier");
    let source = source.to_str().unwrap();
    std::fs::write(dir.path().join("docs"), "one\n").unwrap();
    let done = run(dir.path(), &["pack", "org/name"]);
    assert!(done.failure().ends_with("is hf://org/name"), "{done:?}");
    let rerank = ["rerank", "--query", "q", "--docs-file", "docs", "--model"];
    let done = run(dir.path(), &[&rerank[..], &["org/name"]].concat());
    assert!(done.failure().contains("`defrost pack hf://org/name`"), "{done:?}");
    let of_the_function = ["--url", "http://127.0.0.1:9", "--max-length", "8"];
    let done = run(dir.path(), &[&rerank[..5], &of_the_function[..]].concat());
    assert!(done.usage().contains("start it with MAX_LENGTH"), "{done:?}");
    for command in [&rerank[..], &["verify"], &["inspect"]] {
        let done = run(dir.path(), &[command, &[source]].concat());
        assert!(done.failure().contains(&format!("`defrost pack {source}`")), "{done:?}");
    }
}

#[test]
fn a_checkpoint_in_the_current_directory_has_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("here.snap");
    let args = ["pack", ".", "--out", out.to_str().unwrap()];
    run(&golden::checkpoint("bert-embedding"), &args).text();
    assert_eq!(inspect(dir.path(), "here.snap")["meta"]["model.name"], "bert-embedding");
}

#[test]
fn name_template_and_maximum_length_are_the_callers_choice() {
    let dir = tempfile::tempdir().unwrap();
    let source = golden::checkpoint("qwen3-reranker");
    let source = source.to_str().unwrap();
    let choice = ["--name", "house/own", "--max-length", "99", "--template", "qwen3-reranker"];
    let args: Vec<&str> = ["pack", source, "--out", "own.snap"].into_iter().chain(choice).collect();
    run(dir.path(), &args).text();
    let meta = inspect(dir.path(), "own.snap")["meta"].take();
    assert_eq!(meta["model.name"], "house/own");
    assert_eq!(meta["reranker.max_length"], "99");
    assert_eq!(meta["reranker.template"], "qwen3-reranker");
}

#[test]
fn portable_snapshots_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let source = golden::checkpoint("bert-classifier");
    let args = ["pack", source.to_str().unwrap(), "--isa", "portable", "--out", "p.snap"];
    run(dir.path(), &args).text();
    assert_eq!(inspect(dir.path(), "p.snap")["isa"], "portable");
    run(dir.path(), &["verify", "p.snap"]).text();
}

#[test]
fn inspect_lists_segments_in_execution_order_and_every_byte_of_the_tensors() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "qwen2-mxbai", "f32", "model.snap");
    let manifest = inspect(dir.path(), "model.snap");
    let segments = manifest["segments"].as_array().unwrap();
    let names: Vec<&str> =
        segments.iter().map(|segment| segment["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["files", "layer.0", "layer.1", "layer.2", "head", "embedding"]);

    let mut end = 0;
    for segment in segments {
        let offset = number(&segment["offset"]);
        assert!(offset >= end && offset.is_multiple_of(4096), "{segment}");
        end = offset + number(&segment["bytes"]);
    }
    assert!(end <= std::fs::metadata(dir.path().join("model.snap")).unwrap().len());

    let tensors = manifest["tensors"].as_array().unwrap();
    for (at, segment) in segments.iter().enumerate() {
        let mut end = number(&segment["offset"]);
        let of_segment = tensors.iter().filter(|tensor| tensor["segment"] == at);
        for tensor in of_segment {
            assert!(number(&tensor["offset"]) >= end, "{tensor} overlaps");
            end = number(&tensor["offset"]) + number(&tensor["bytes"]);
        }
        assert!(end <= number(&segment["offset"]) + number(&segment["bytes"]), "{segment}");
    }
    // The tokenizer as it is, and each bf16 weight of the checkpoint at least once as f32.
    let checkpoint = golden::checkpoint("qwen2-mxbai");
    let size = |name: &str| std::fs::metadata(checkpoint.join(name)).unwrap().len();
    let header = std::fs::read(checkpoint.join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(header[..8].try_into().unwrap());
    let sum = |of: &dyn Fn(&Value) -> bool| -> u64 {
        tensors.iter().filter(|tensor| of(tensor)).map(|tensor| number(&tensor["bytes"])).sum()
    };
    assert_eq!(sum(&|tensor| tensor["layout"] == "file"), size("tokenizer.json"));
    assert!(sum(&|tensor| tensor["dtype"] == "f32") >= 2 * (size("model.safetensors") - header));

    let text = run(dir.path(), &["inspect", "model.snap"]).text();
    assert!(text.contains(&format!("root    {}\n", manifest["root"].as_str().unwrap())), "{text}");
    let total = sum(&|_| true) as f64 / 1e3;
    let last = format!("{} tensors, {total:.1} kB", tensors.len());
    assert_eq!(text.lines().last(), Some(last.as_str()));
    let long = run(dir.path(), &["inspect", "model.snap", "--tensors"]).text();
    assert_eq!(long.lines().count(), text.lines().count() + tensors.len());
    for tensor in tensors {
        assert!(long.contains(tensor["name"].as_str().unwrap()), "{tensor}");
    }
}

#[test]
fn verify_finds_a_flipped_bit_anywhere_and_says_where() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-classifier", "int8", "good.snap");
    let manifest = inspect(dir.path(), "good.snap");
    let chunk = number(&manifest["chunk_bytes"]);
    let data = number(&manifest["segments"][0]["offset"]);
    let good = std::fs::read(dir.path().join("good.snap")).unwrap();
    let bad = dir.path().join("bad.snap");
    for part in 0..32 {
        let at = part * (good.len() - 1) / 31;
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&bad, bytes).unwrap();
        let done = run(dir.path(), &["verify", "bad.snap"]);
        let line = done.failure();
        assert!(line.starts_with("bad.snap: "), "{line}");
        let at = at as u64;
        if at >= data {
            let named = line.split_once(" at byte ").and_then(|(_, rest)| rest.split_once(':'));
            let named: u64 = named.unwrap_or_else(|| panic!("{at}: {line}")).0.parse().unwrap();
            assert!(named <= at && at < named + chunk, "{at}: {line}");
        }
    }
    std::fs::write(&bad, &good[..good.len() - 1]).unwrap();
    let done = run(dir.path(), &["verify", "bad.snap"]);
    assert!(done.failure().starts_with("bad.snap: "), "{done:?}");
}

#[test]
fn what_is_no_snapshot_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("text"), "x".repeat(20_000)).unwrap();
    std::fs::write(dir.path().join("empty"), "").unwrap();
    for command in ["inspect", "verify"] {
        for name in ["text", "empty", ".", "missing"] {
            let done = run(dir.path(), &[command, name]);
            assert!(done.failure().starts_with(&format!("{name}: ")), "{done:?}");
        }
    }
}

#[test]
fn what_cannot_be_packed_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let source = golden::checkpoint("bert-classifier");
    let source = source.to_str().unwrap();
    for (args, says) in [
        (&["missing"][..], "missing: no weights"),
        (&["."], ".: no weights"),
        (&[source, "--isa", "z80"], "cannot pack for isa \"z80\" here"),
        (&[source, "--template", "sonnet"], "unknown template \"sonnet\""),
        (&["s3://bucket/model"], "unknown source \"s3://bucket/model\""),
        (&["ftp://host/model"], "unknown source \"ftp://host/model\""),
    ] {
        let args: Vec<&str> = ["pack"].iter().chain(args).copied().collect();
        let done = run(dir.path(), &args);
        assert!(done.failure().starts_with(says), "{done:?}");
    }
    for id in ["", "name", "org/", "/name", "org/name@", "org/name/more", "@main"] {
        let done = run(dir.path(), &["pack", &format!("hf://{id}")]);
        assert!(done.failure().starts_with(&format!("hf://{id}: ")), "{done:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_maximum_length_of_nothing_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let source = golden::checkpoint("bert-classifier");
    let done = run(dir.path(), &["pack", source.to_str().unwrap(), "--max-length", "0"]);
    assert!(done.usage().contains("--max-length"), "{done:?}");
}

#[test]
fn wrong_usage_is_2() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &[][..],
        &["thaw"],
        &["pack"],
        &["pack", "dir", "--nonsense"],
        &["pack", "dir", "--precision", "int4"],
        &["inspect"],
        &["verify", "a", "b"],
        &["bench"],
    ] {
        assert!(!run(dir.path(), args).usage().is_empty(), "{args:?}");
    }
}

#[test]
fn help_and_version_are_answers() {
    let dir = tempfile::tempdir().unwrap();
    let help = run(dir.path(), &["--help"]).text();
    for command in ["pack", "inspect", "verify", "rerank", "synth", "health", "bench"] {
        assert!(help.contains(&format!("\n  {command} ")), "{help}");
        assert!(run(dir.path(), &[command, "--help"]).text().contains("Usage: defrost "));
    }
    assert!(run(dir.path(), &["--version"]).text().starts_with("defrost "));
}
