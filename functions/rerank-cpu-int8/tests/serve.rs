//! The binary as its users run it: a process, a snapshot, a socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "../../../shared/testing/support/running.rs"]
mod running;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use defrost_model::Precision;
use defrost_testing::golden::{self, PAIR_MODELS};
use serde_json::{Value, json};

use running::{Running, fails, function, snapshot};

fn command(model: impl AsRef<OsStr>) -> Command {
    function(env!("CARGO_BIN_EXE_rerank-cpu-int8"), model)
}

#[test]
fn scores_over_http_are_those_of_transformers() {
    let dir = tempfile::tempdir().unwrap();
    for model in PAIR_MODELS {
        let golden = golden::read(model);
        let mut command = command(snapshot(dir.path(), model, Precision::F32));
        command.env("MAX_LENGTH", golden.max_length.to_string());
        let function = Running::start(command);
        for case in golden.cases.iter().filter(|case| !case.query.trim().is_empty()) {
            let body = json!({
                "query": case.query, "documents": [case.document],
                "instruction": case.instruction, "raw_scores": true,
            });
            // The first request arrives while the model loads and is answered all the same.
            let (status, answer) = function.ask("POST", "/v1/rerank", &body.to_string());
            assert_eq!(status, 200, "{model} {}: {answer}", case.name);
            let score = answer["results"][0]["relevance_score"].as_f64().unwrap();
            let error = (score - f64::from(case.raw)).abs();
            assert!(error <= 1e-4, "{model} {}: {score} for {}", case.name, case.raw);
            assert_eq!(answer["score_type"], "logit");
            assert_eq!(answer["usage"]["total_tokens"], case.ids.len());
        }
        let (status, health) = function.ask("GET", "/health", "");
        assert_eq!((status, &health["status"]), (200, &json!("ok")));
    }
}

#[test]
fn int8_ranks_and_reports_its_boot() {
    let dir = tempfile::tempdir().unwrap();
    let function = Running::start(command(snapshot(dir.path(), "qwen2-mxbai", Precision::Int8)));
    let documents = ["Harper Lee", "Herman Melville", "中文 😀", ""];
    let body = json!({"query": "who?", "documents": documents, "return_documents": true});
    let (status, answer) = function.ask("POST", "/v1/rerank", &body.to_string());
    assert_eq!(status, 200, "{answer}");
    let results = answer["results"].as_array().unwrap();
    assert_eq!(results.len(), 4);
    let scores: Vec<f64> =
        results.iter().map(|result| result["relevance_score"].as_f64().unwrap()).collect();
    assert!(scores.is_sorted_by(|a, b| a >= b) && scores.iter().all(|s| (0.0..=1.0).contains(s)));
    for result in results {
        let index = usize::try_from(result["index"].as_u64().unwrap()).unwrap();
        assert_eq!(result["document"]["text"], documents[index]);
    }
    let (_, health) = function.ask("GET", "/health", "");
    for phase in ["exec", "config", "restore", "tokenizer", "engine", "first_score"] {
        let seconds = &health["boot"]["phases"][phase];
        assert!(seconds.as_f64().is_some(), "{phase} is missing from {health}");
    }
    let before = health["boot"]["phases"].as_object().unwrap().iter();
    let before = before.filter(|(phase, _)| *phase != "first_score");
    let sum: f64 = before.map(|(_, seconds)| seconds.as_f64().unwrap()).sum();
    let ready = health["boot"]["ready_seconds"].as_f64().unwrap();
    assert!((sum - ready).abs() < 1e-6, "phases add up to {sum}, ready after {ready}: {health}");
    let (_, models) = function.ask("GET", "/v1/models", "");
    assert_eq!(models["data"][0]["id"], "tiny/qwen2-mxbai");
}

#[test]
fn what_was_cut_or_ignored_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let function =
        Running::start(command(snapshot(dir.path(), "bert-classifier", Precision::Int8)));
    let ask = |body: Value| function.ask("POST", "/v1/rerank", &body.to_string());
    // Longer than anything the model reads: only its beginning is tokenised.
    let long = "word ".repeat(1_500_000);
    let (status, answer) = ask(json!({"query": "q", "documents": [long, "short"]}));
    assert_eq!(status, 200);
    assert_eq!(answer["warnings"], json!(["1 of 2 documents were truncated to fit"]));
    let (_, answer) = ask(json!({"query": long, "documents": ["short"], "instruction": "judge"}));
    let expected =
        ["instruction is ignored: this model takes none", "the query was truncated to fit"];
    assert_eq!(answer["warnings"], json!(expected));
    for (query, document, param) in [(long.as_str(), "a", "query"), ("q", &long, "documents")] {
        let (status, answer) =
            ask(json!({"query": query, "documents": [document], "truncation": false}));
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{answer}");
        assert_eq!(answer["error"]["code"], "context_length_exceeded");
    }
    let (status, answer) = ask(json!({"query": "q", "documents": ["a"], "normalization": "mxbai"}));
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("normalization")), "{answer}");
    let (status, answer) = ask(json!({"query": "q", "documents": ["a", ""], "top_n": 1e30}));
    assert_eq!((status, answer["results"].as_array().unwrap().len()), (200, 2), "{answer}");
}

/// A function that has scored and was then made ready for a memory snapshot, and its answer.
fn quiesced(model: &Path) -> (Running, Value) {
    let mut command = command(model);
    command.env("SNAPSHOT_HOOKS", "true");
    let function = Running::start(command);
    let (status, answer) = function.ask("POST", "/v1/rerank", BODY);
    assert_eq!(status, 200, "{answer}");
    let (status, hooks) = function.ask("POST", "/sleep?level=1", "");
    assert_eq!((status, &hooks["state"]), (200, &json!("quiesced")), "{hooks}");
    (function, answer["results"].clone())
}

const BODY: &str = r#"{"query": "who?", "documents": ["Harper Lee", "Herman Melville"]}"#;

#[test]
fn scores_after_a_memory_snapshot_need_no_file_and_are_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let model = snapshot(dir.path(), "qwen2-mxbai", Precision::Int8);
    let (function, before) = quiesced(&model);
    std::fs::remove_file(&model).unwrap();
    let (status, health) = function.ask("GET", "/health", "");
    assert_eq!((status, &health["status"]), (503, &json!("quiesced")));
    let (status, hooks) = function.ask("POST", "/wake_up", "");
    assert_eq!((status, &hooks["state"]), (200, &json!("ok")), "{hooks}");
    let (_, after) = function.ask("POST", "/v1/rerank", BODY);
    assert_eq!(after["results"], before);
    let (_, health) = function.ask("GET", "/health", "");
    assert!(health["boot"]["phases"]["restored"].is_f64(), "{health}");
}

#[test]
fn a_quiesced_process_has_let_go_of_its_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let model = snapshot(dir.path(), "qwen2-mxbai", Precision::Int8);
    let (function, before) = quiesced(&model);
    let process = PathBuf::from(format!("/proc/{}", function.child.id()));
    let maps = std::fs::read_to_string(process.join("maps")).unwrap();
    assert!(!maps.contains("qwen2-mxbai.snap"), "{maps}");
    for open in std::fs::read_dir(process.join("fd")).unwrap() {
        let target = std::fs::read_link(open.unwrap().path()).unwrap_or_default();
        assert!(!target.starts_with(dir.path()), "{} is open", target.display());
    }
    // In a mapped file the pages would be gone.
    std::fs::File::create(&model).unwrap();
    function.ask("POST", "/wake_up", "");
    assert_eq!(function.ask("POST", "/v1/rerank", BODY).1["results"], before);
}

#[test]
fn what_is_missing_or_broken_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nothing.snap");
    let (code, line) = fails(&mut command(&missing));
    assert_eq!(code, Some(1));
    assert!(line.contains("nothing.snap"), "{line}");

    let good = snapshot(dir.path(), "bert-classifier", Precision::Int8);
    let mut bytes = std::fs::read(&good).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&good, &bytes).unwrap();
    let (code, line) = fails(&mut command(&good));
    assert_eq!(code, Some(1));
    assert!(line.contains("bert-classifier.snap"), "{line}");

    std::fs::write(&good, &bytes[..middle]).unwrap();
    assert_eq!(fails(&mut command(&good)).0, Some(1));
    std::fs::write(&good, b"not a snapshot at all").unwrap();
    assert_eq!(fails(&mut command(&good)).0, Some(1));

    let bert = snapshot(dir.path(), "bert-classifier", Precision::Int8);
    let (code, line) = fails(command(&bert).env("NORMALIZATION", "mxbai"));
    assert_eq!(code, Some(1));
    assert!(line.contains("mxbai-rerank-v2 models only"), "{line}");

    let (code, line) = fails(command(&bert).env("DTYPE", "f32"));
    assert_eq!(code, Some(1));
    assert!(line.contains("is packed in int8; pack the model with --precision f32"), "{line}");

    let (code, line) = fails(command(&missing).env("VERIFY", "never"));
    assert_eq!(code, Some(2));
    assert!(line.contains("VERIFY"), "{line}");
}

/// A7: the process ends, as over a shortened file, before it gives away an answer of other bytes.
#[test]
fn a_snapshot_copied_over_the_served_one_ends_the_function() {
    use std::os::unix::fs::MetadataExt as _;

    let dir = tempfile::tempdir().unwrap();
    let model = snapshot(dir.path(), "qwen2-mxbai", Precision::Int8);
    let mut function = Running::start(command(&model));
    let (status, before) = function.ask("POST", "/v1/rerank", BODY);
    assert_eq!(status, 200, "{before}");
    // Another model of the same shape.
    let mut bytes = std::fs::read(&model).unwrap();
    let (_, manifest) = defrost_loader::inspect(&model).unwrap();
    let data = usize::try_from(manifest.data_offset).unwrap();
    let end = bytes.len() - 4096;
    for byte in &mut bytes[data..end] {
        *byte ^= 1;
    }
    let changed = || model.metadata().map(|stat| (stat.ctime(), stat.ctime_nsec())).unwrap();
    let then = changed();
    // The times of a file advance in ticks.
    while changed() == then {
        std::fs::write(&model, &bytes).unwrap();
    }
    let (status, answer) = function.ask("POST", "/v1/rerank", BODY);
    assert!(status >= 500, "{status} {answer}");
    assert_eq!(function.child.wait().unwrap().code(), Some(1));
}

/// A7: one line and exit 1, or an answer; never a panic.
#[test]
fn few_threads_are_enough_or_told() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;

    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let model = snapshot(dir.path(), "bert-classifier", Precision::Int8);
    let owner = std::os::unix::fs::MetadataExt::uid(&model.metadata().unwrap());
    let mut served = Vec::new();
    for limit in [1, 2, 5, 12] {
        let mut command = Command::new("sh");
        // Of two shells, each has its own letter for it.
        let set = format!("ulimit -u {limit} 2>/dev/null || ulimit -p {limit}; exec \"$0\"");
        command.args(["-c", &set, env!("CARGO_BIN_EXE_rerank-cpu-int8")]).env_clear();
        command.envs([("PORT", "0"), ("NUM_THREADS", "4")]).env("MODEL", &model);
        command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::piped());
        if owner == 0 {
            // The limit is one of users, and not of this one. No process but the child runs as this user.
            command.uid(54_322);
        }
        let mut child = command.spawn().unwrap();
        let mut log = std::io::BufReader::new(child.stderr.take().unwrap());
        let mut seen = String::new();
        while std::io::BufRead::read_line(&mut log, &mut seen).unwrap() > 0 {
            if seen.contains("ready ") {
                served.push(limit);
                child.kill().unwrap();
                break;
            }
        }
        std::io::Read::read_to_string(&mut log, &mut seen).unwrap();
        let status = child.wait().unwrap();
        assert!(!seen.contains("panicked"), "{limit}: {seen}");
        if served.last() != Some(&limit) {
            assert_eq!(status.code(), Some(1), "{limit}: {seen}");
            let last = seen.lines().last().unwrap_or_default();
            assert!(last.starts_with("rerank-cpu-int8: ") && last.contains("ulimit -u"), "{seen}");
        }
    }
    if owner == 0 {
        assert_eq!(served, [5, 12]);
    }
}
