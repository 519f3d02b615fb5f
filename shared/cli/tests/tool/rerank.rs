//! rerank in this process: where texts come from, what is printed, how near to `transformers`.

use std::path::Path;

use defrost_testing::golden::{self, EMBEDDING_MODELS, PAIR_MODELS};
use serde_json::{Value, json};

use super::support::{command, finish, pack, run, run_with_input};

/// The promise on f32 logits.
const TOLERANCE: f64 = 1e-4;

/// A directory with a snapshot, `model.snap`.
fn with_snapshot(model: &str, precision: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), model, precision, "model.snap");
    dir
}

fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["rerank", "--model", "model.snap"].into_iter().chain(more.iter().copied()).collect()
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

#[test]
fn raw_f32_scores_are_those_of_transformers() {
    for model in PAIR_MODELS.into_iter().chain(EMBEDDING_MODELS) {
        let dir = with_snapshot(model, "f32");
        let golden = golden::read(model);
        let mut instructions: Vec<&Option<String>> =
            golden.cases.iter().map(|case| &case.instruction).collect();
        instructions.sort();
        instructions.dedup();
        for instruction in instructions {
            let cases: Vec<&golden::Case> =
                golden.cases.iter().filter(|case| case.instruction == *instruction).collect();
            let texts: Vec<Value> = cases
                .iter()
                .map(|case| json!({"query": case.query, "documents": [case.document]}))
                .collect();
            write(dir.path(), "cases.json", &json!(texts).to_string());
            let length = golden.max_length.to_string();
            let mut args = args(&["--cases-file", "cases.json", "--normalization", "raw"]);
            args.extend(["--json", "--max-length", &length]);
            if let Some(instruction) = instruction {
                args.extend(["--instruction", instruction]);
            }
            let answer = run(dir.path(), &args).json();
            let answer = answer.as_array().unwrap();
            assert_eq!(answer.len(), cases.len());
            for (case, ranked) in cases.iter().zip(answer) {
                assert_eq!(ranked["query"], case.query);
                let word = if case.ids.is_empty() { "cosine" } else { "logit" };
                assert_eq!(ranked["score_type"], word, "{model}");
                let found = ranked["results"][0]["score"].as_f64().unwrap();
                let error = (found - f64::from(case.raw)).abs();
                assert!(error <= TOLERANCE, "{model}: {}: {found} for {}", case.name, case.raw);
            }
        }
    }
}

#[test]
fn documents_come_from_json_lines_or_stdin() {
    let dir = with_snapshot("bert-classifier", "int8");
    let (query, documents) = ("who wrote it?", ["Harper Lee.", "A cat sat.", "novels"]);
    let object = json!({"query": query, "documents": documents}).to_string();
    let list = json!(documents).to_string();
    let lines = format!("{}\n\n  \n", documents.join("\r\n"));
    write(dir.path(), "object.json", &object);
    write(dir.path(), "list.json", &list);
    write(dir.path(), "lines.txt", &lines);

    let expected = run(dir.path(), &args(&["--docs-file", "object.json", "--json"])).json();
    assert_eq!(expected["query"], query);
    let results = expected["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for pair in results.windows(2) {
        assert!(pair[0]["score"].as_f64() >= pair[1]["score"].as_f64(), "{expected}");
    }
    for result in results {
        let index = usize::try_from(result["index"].as_u64().unwrap()).unwrap();
        assert_eq!(result["document"], documents[index]);
        assert_eq!(result["truncated"], false);
    }
    for (file, input) in [("list.json", ""), ("lines.txt", ""), ("-", &*list), ("-", &*lines)] {
        let args = args(&["--docs-file", file, "--query", query, "--json"]);
        assert_eq!(run_with_input(dir.path(), &args, input).json(), expected, "{file} {input}");
    }
    let from_stdin = run_with_input(dir.path(), &args(&["--docs-file", "-", "--json"]), &object);
    assert_eq!(from_stdin.json(), expected);

    let same = args(&["--docs-file", "object.json", "--query", query, "--json"]);
    assert_eq!(run(dir.path(), &same).json(), expected);
    let other = args(&["--docs-file", "object.json", "--query", "other", "--json"]);
    let other = run(dir.path(), &other);
    assert!(other.failure().starts_with("--query is \"other\" and the file has"), "{other:?}");
}

#[test]
fn top_k_cuts_every_case() {
    let dir = with_snapshot("bert-classifier", "int8");
    let cases = json!([
        {"query": "q", "documents": ["one", "two"]},
        {"query": "r", "documents": ["a", "b", "c"]},
    ]);
    write(dir.path(), "cases.json", &cases.to_string());
    let sizes = |more: &[&str]| -> Vec<usize> {
        let base = args(&["--cases-file", "cases.json", "--json"]);
        let args: Vec<&str> = base.iter().chain(more).copied().collect();
        let answer = run(dir.path(), &args).json();
        let sizes = answer.as_array().unwrap().iter().map(|case| case["results"].as_array());
        sizes.map(|results| results.unwrap().len()).collect()
    };
    assert_eq!(sizes(&[]), [2, 3]);
    assert_eq!(sizes(&["--top-k", "0"]), [2, 3]);
    assert_eq!(sizes(&["--top-k", "1"]), [1, 1]);
    assert_eq!(sizes(&["--top-k", "9"]), [2, 3]);

    let text = run(dir.path(), &args(&["--cases-file", "cases.json", "--top-k", "1"])).text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[2]), (4, "q  (sigmoid)", "r  (sigmoid)"), "{text}");
}

#[test]
fn long_documents_are_cut_on_screen_and_marked_where_the_model_cut_them() {
    let dir = with_snapshot("bert-classifier", "int8");
    let long = "word  \t ".repeat(200);
    write(dir.path(), "docs.json", &json!([long, "brief"]).to_string());
    let base = ["--query", "q", "--docs-file", "docs.json", "--max-length", "16"];
    let text = run(dir.path(), &args(&base)).text();
    let line = text.lines().find(|line| line.contains("word")).unwrap();
    assert!(line.ends_with("…  [truncated]") && line.chars().count() < 140, "{line}");
    let line = text.lines().find(|line| line.contains("brief")).unwrap();
    assert!(line.ends_with("brief"), "{line}");

    let json: Vec<&str> = base.into_iter().chain(["--json"]).collect();
    let answer = run(dir.path(), &args(&json)).json();
    for result in answer["results"].as_array().unwrap() {
        assert_eq!(result["truncated"], result["document"] == long);
    }
}

#[test]
fn every_way_to_restore_gives_the_same_scores() {
    let dir = with_snapshot("xlm-roberta-classifier", "int8");
    let source = golden::checkpoint("xlm-roberta-classifier");
    let portable = ["pack", source.to_str().unwrap(), "--isa", "portable", "--out", "p.snap"];
    run(dir.path(), &portable).text();
    write(dir.path(), "docs", "eins\nzwei\ndrei vier\n");
    let base = ["rerank", "--query", "q", "--docs-file", "docs", "--json"];
    let score = |more: &[&str]| {
        let args: Vec<&str> = base.iter().chain(more).copied().collect();
        run(dir.path(), &args).json()
    };
    let expected = score(&["--model", "model.snap"]);
    for verify in ["stamped", "on-the-fly", "eager"] {
        assert_eq!(score(&["--model", "model.snap", "--verify", verify]), expected, "{verify}");
    }
    assert_eq!(score(&["--model", "model.snap", "--num-threads", "1"]), expected);
    // Packed at the first start, found packed at the second.
    for _ in 0..2 {
        assert_eq!(score(&["--model", "p.snap", "--cache-dir", "cache"]), expected);
        assert!(std::fs::read_dir(dir.path().join("cache")).unwrap().count() > 0);
    }

    let mut by_environment = command(dir.path(), &base);
    by_environment.env("MODEL", "model.snap").env("NUM_THREADS", "1").env("VERIFY", "eager");
    assert_eq!(finish(by_environment).json(), expected);
}

#[test]
fn normalizations_map_the_same_logits() {
    let dir = with_snapshot("qwen2-mxbai", "f32");
    write(dir.path(), "docs", "one\ntwo words\n");
    let score = |normalization: &str| {
        let more = ["--query", "q", "--docs-file", "docs", "--normalization", normalization];
        let args: Vec<&str> = args(&more).into_iter().chain(["--json"]).collect();
        let answer = run(dir.path(), &args).json();
        let kind = answer["score_type"].as_str().unwrap().to_owned();
        let scores = answer["results"].as_array().unwrap().iter().map(|one| one["score"].as_f64());
        (kind, scores.collect::<Option<Vec<f64>>>().unwrap())
    };
    let (kind, raw) = score("raw");
    assert_eq!(kind, "logit");
    let (kind, sigmoid) = score("sigmoid");
    assert_eq!(kind, "sigmoid");
    for (raw, sigmoid) in raw.iter().zip(&sigmoid) {
        assert!((1.0 / (1.0 + (-raw).exp()) - sigmoid).abs() < 1e-9);
    }
    let (kind, mxbai) = score("mxbai");
    assert_eq!(kind, "mxbai_sigmoid");
    assert!(mxbai.iter().all(|score| (0.0..=1.0).contains(score)) && mxbai[0] > mxbai[1]);
}

#[test]
fn what_cannot_be_scored_is_1_and_one_line() {
    let dir = with_snapshot("bert-classifier", "int8");
    for (name, text) in [
        ("docs", "one\n"),
        ("empty", ""),
        ("blank", " \n\n\t\n"),
        ("none.json", "[]"),
        ("half.json", r#"{"query":"q","documents":["#),
        ("mixed.json", r#"["a", 3]"#),
        ("bare.json", r#"{"query":"q"}"#),
        ("queryless.json", r#"[{"query":"q","documents":["a"]},{"documents":["b"]}]"#),
        ("blank-query.json", r#"{"query":"  ","documents":["a"]}"#),
        ("object.json", r#"{"query":"q","documents":["a"]}"#),
    ] {
        write(dir.path(), name, text);
    }
    std::fs::write(dir.path().join("latin1"), b"caf\xe9\n").unwrap();
    for (more, says) in [
        (&["--docs-file", "docs"][..], "case 0 has no query: give --query"),
        (&["--docs-file", "docs", "--query", " "], "case 0 has no query: give --query"),
        (&["--docs-file", "blank-query.json"], "case 0 has no query: give --query"),
        (&["--cases-file", "queryless.json"], "case 1 has no query"),
        (&["--docs-file", "empty", "--query", "q"], "case 0 has no documents"),
        (&["--docs-file", "blank", "--query", "q"], "case 0 has no documents"),
        (&["--docs-file", "none.json", "--query", "q"], "case 0 has no documents"),
        (&["--docs-file", "-", "--query", "q"], "case 0 has no documents"),
        (&["--docs-file", "missing", "--query", "q"], "cannot read missing: "),
        (&["--docs-file", "latin1", "--query", "q"], "cannot read latin1: "),
        (&["--docs-file", "half.json"], "half.json: expected a JSON object"),
        (&["--docs-file", "bare.json"], "bare.json: expected a JSON object"),
        (&["--docs-file", "mixed.json", "--query", "q"], "mixed.json: expected a JSON list"),
        (&["--cases-file", "object.json"], "object.json: expected a JSON list of {"),
        (&["--docs-file", "object.json", "--max-length", "4"], "a maximum length of 4 tokens"),
    ] {
        let done = run(dir.path(), &args(more));
        assert!(done.failure().starts_with(says), "{more:?}: {done:?}");
    }
    let done = run(dir.path(), &["rerank", "--model", "missing", "--docs-file", "object.json"]);
    assert!(done.failure().starts_with("missing: cannot open the snapshot"), "{done:?}");
}

#[test]
fn a_damaged_snapshot_is_never_scored_with() {
    let dir = with_snapshot("bert-classifier", "int8");
    write(dir.path(), "docs.json", r#"{"query":"q","documents":["a"]}"#);
    let path = dir.path().join("model.snap");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    for verify in ["stamped", "on-the-fly", "eager"] {
        let done = run(dir.path(), &args(&["--docs-file", "docs.json", "--verify", verify]));
        assert!(done.failure().starts_with("model.snap: chunk "), "{verify}: {done:?}");
    }
}

#[test]
fn wrong_usage_is_2() {
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["rerank"][..],
        &["rerank", "--model", "m"],
        &["rerank", "--docs-file", "d"],
        &["rerank", "--model", "m", "--docs-file", "d", "--nonsense"],
        &["rerank", "--model", "m", "--docs-file", "d", "--cases-file", "c"],
        &["rerank", "--model", "m", "--cases-file", "c", "--query", "q"],
        &["rerank", "--model", "m", "--docs-file", "d", "--normalization", "softmax"],
        &["rerank", "--model", "m", "--docs-file", "d", "--verify", "never"],
        &["rerank", "--model", "m", "--docs-file", "d", "--top-k", "-1"],
        &["rerank", "--model", "m", "--docs-file", "d", "--num-threads", "0"],
        &["rerank", "--model", "m", "--docs-file", "d", "--num-threads", "100000"],
        &["embed", "--model", "m", "--in", "i", "--out", "o.jsonl", "--num-threads", "100000"],
        &["rerank", "--model", "m", "--docs-file", "d", "--top-k", "many"],
    ] {
        assert!(!run(dir.path(), args).usage().is_empty(), "{args:?}");
    }
}
