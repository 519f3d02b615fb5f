//! rerank --in: the cases of a file, against rerank --cases-file.

use std::path::Path;

use serde_json::{Value, json};

use super::support::{pack, run, run_with_input};

fn with_snapshot(model: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), model, "int8", "model.snap");
    dir
}

fn args<'a>(more: &[&'a str]) -> Vec<&'a str> {
    ["rerank", "--model", "model.snap", "--json"].into_iter().chain(more.iter().copied()).collect()
}

fn rows(dir: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn cases() -> Vec<Value> {
    let document =
        |at: usize| format!("a document about the number {at} and {}", "snow ".repeat(at % 40));
    (0..30)
        .map(|at| {
            let documents: Vec<String> = (0..=at % 5).map(|more| document(at * 5 + more)).collect();
            json!({"id": at, "query": format!("what about {}?", at % 20), "documents": documents})
        })
        .collect()
}

#[test]
fn scores_are_those_of_a_cases_file() {
    for model in ["bert-classifier", "qwen2-mxbai", "bert-embedding"] {
        let dir = with_snapshot(model);
        let lines: Vec<String> = cases().iter().map(Value::to_string).collect();
        std::fs::write(dir.path().join("cases.jsonl"), lines.join("\n")).unwrap();
        std::fs::write(dir.path().join("cases.json"), json!(cases()).to_string()).unwrap();
        for more in [&[][..], &["--top-k", "2"], &["--normalization", "raw"]] {
            let base = args(&["--max-length", "40"]);
            let base: Vec<&str> = base.iter().chain(more).copied().collect();
            let expected =
                run(dir.path(), &[&base[..], &["--cases-file", "cases.json"]].concat()).json();
            let files = ["--in", "cases.jsonl", "--out", "scores.jsonl"];
            let report = run(dir.path(), &[&base[..], &files].concat()).json();
            assert_eq!(report["rows"], 30);
            assert_eq!(report["computed"], if more.is_empty() { 30 } else { 0 }, "{more:?}");
            let found = rows(dir.path(), "scores.jsonl");
            for ((at, found), expected) in
                found.iter().enumerate().zip(expected.as_array().unwrap())
            {
                let results = expected["results"].as_array().unwrap();
                let all =
                    |name: &str| results.iter().map(|one| one[name].clone()).collect::<Value>();
                assert_eq!(found["id"], at);
                assert_eq!(found["score_type"], expected["score_type"]);
                assert_eq!(
                    (&found["indices"], &found["scores"]),
                    (&all("index"), &all("score")),
                    "{model} {more:?}"
                );
                for result in results {
                    let cut = found["truncated"].as_array().unwrap().contains(&result["index"]);
                    assert_eq!(result["truncated"], cut, "{model}");
                }
            }
        }
    }
}

#[test]
fn equal_cases_are_scored_once_and_documents_may_have_titles() {
    let dir = with_snapshot("bert-classifier");
    let lines = [
        json!({"_id": "a", "q": "snow", "hits": ["Rivers of snow", "two"]}),
        json!({"q": "snow", "hits": [{"title": "Rivers", "text": "of snow", "id": 3}, {"text": "two"}]}),
    ];
    let input = lines.map(|line| format!("{line}\n")).concat();
    let fields =
        ["--query-field", "q", "--documents-field", "hits", "--in", "-", "--out", "s.jsonl"];
    let report = run_with_input(dir.path(), &args(&fields), &input).json();
    assert_eq!((&report["rows"], &report["computed"]), (&json!(2), &json!(1)));
    let found = rows(dir.path(), "s.jsonl");
    assert_eq!((&found[0]["id"], &found[1]["id"]), (&json!("a"), &json!(2)));
    assert_eq!(found[0]["scores"], found[1]["scores"]);
}

#[test]
fn cases_that_are_none_are_told() {
    let dir = with_snapshot("bert-classifier");
    for (row, says) in [
        (json!({"documents": ["a"]}), "there is no \"query\", expected a string"),
        (json!({"query": " ", "documents": ["a"]}), "\"query\" is empty"),
        (json!({"query": "q"}), "there is no \"documents\", expected a list of texts"),
        (json!({"query": "q", "documents": []}), "\"documents\" is empty"),
        (
            json!({"query": "q", "documents": "a"}),
            "\"documents\" must be a list of texts, found a string",
        ),
        (
            json!({"query": "q", "documents": ["a", 1]}),
            "\"documents\" number 1: expected a string or an object",
        ),
        (
            json!({"query": "q", "documents": [{"txt": "a"}]}),
            "\"documents\" number 0: there is no \"text\"",
        ),
    ] {
        let args = args(&["--in", "-", "--out", "s.jsonl"]);
        let done = run_with_input(dir.path(), &args, &row.to_string());
        assert!(done.failure().starts_with(&format!("stdin:1: {says}")), "{done:?}");
    }
}
