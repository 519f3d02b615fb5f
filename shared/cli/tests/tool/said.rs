//! rerank: what a case says beside its texts is honoured, refused or told, in files of every kind.

use std::path::Path;

use serde_json::{Value, json};

use super::server::{Answer, Server};
use super::support::{Done, pack, run};

fn with_snapshot(model: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), model, "int8", "model.snap");
    dir
}

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

/// Scores the cases of a file in one go.
fn cases(dir: &Path, cases: &[Value], more: &[&str]) -> Done {
    write(dir, "cases.json", &json!(cases).to_string());
    let args = ["rerank", "--model", "model.snap", "--cases-file", "cases.json", "--json"];
    run(dir, &[&args[..], more].concat())
}

/// Scores them as the rows of a file; the rows that were written, and what was said on stderr.
fn rows(dir: &Path, cases: &[Value], more: &[&str]) -> (Done, Vec<Value>) {
    let lines: Vec<String> = cases.iter().map(Value::to_string).collect();
    write(dir, "in.jsonl", &lines.join("\n"));
    let args = ["rerank", "--model", "model.snap", "--in", "in.jsonl", "--out", "out.jsonl"];
    let done = run(dir, &[&args[..], more].concat());
    let text = std::fs::read_to_string(dir.join("out.jsonl")).unwrap_or_default();
    (done, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
}

fn scores(case: &Value) -> Vec<f64> {
    let results = case["results"].as_array().unwrap();
    results.iter().map(|one| one["score"].as_f64().unwrap()).collect()
}

const DOCUMENTS: [&str; 3] = ["snow on wooden bridges", "a river", "the number 7"];

#[test]
fn an_instruction_for_a_model_that_takes_none_is_refused() {
    let dir = with_snapshot("bert-classifier");
    let case = json!({"query": "q", "documents": DOCUMENTS});
    let more = ["--instruction", "find"];
    let says = "--instruction: bert-classifier takes no instruction, leave it out";
    assert_eq!(cases(dir.path(), std::slice::from_ref(&case), &more).failure(), says);
    let (done, _) = rows(dir.path(), &[case], &more);
    assert_eq!(done.failure(), says);

    // A file may be meant for several models: told, as a function tells it.
    let case = json!({"query": "q", "documents": DOCUMENTS, "instruction": "find"});
    let says = "defrost: the instruction of 2 cases is ignored: bert-classifier takes none\n";
    let both = [case.clone(), case];
    assert_eq!(cases(dir.path(), &both, &[]).err, says);
    assert_eq!(rows(dir.path(), &both, &[]).0.err, says);
}

#[test]
fn what_a_case_says_is_honoured_in_every_file() {
    let dir = with_snapshot("qwen2-mxbai");
    let plain = json!({"query": "q", "documents": DOCUMENTS});
    let with = |field: &str, value: Value| {
        let mut case = plain.clone();
        case[field] = value;
        case
    };
    let all = [
        plain.clone(),
        with("top_n", json!(1)),
        with("top_k", json!(2)),
        with("instruction", json!("find snow")),
        with("raw_scores", json!(true)),
        with("normalization", json!("mxbai")),
        with("max_tokens_per_doc", json!(1)),
    ];
    let done = cases(dir.path(), &all, &[]).json();
    let done: Vec<&Value> = done.as_array().unwrap().iter().collect();
    let sizes: Vec<usize> = done.iter().map(|case| scores(case).len()).collect();
    assert_eq!(sizes, [3, 1, 2, 3, 3, 3, 3]);
    assert_eq!(scores(done[1]), scores(done[0])[..1]);
    assert_ne!(scores(done[3]), scores(done[0]), "the instruction is read");
    assert_ne!(scores(done[6]), scores(done[0]), "documents are cut");
    let kinds: Vec<&str> = done.iter().map(|case| case["score_type"].as_str().unwrap()).collect();
    assert_eq!(kinds[3..], ["sigmoid", "logit", "mxbai_sigmoid", "sigmoid"]);

    // The same from rows, and the instruction of a row is the same as that of a run.
    let (report, found) = rows(dir.path(), &all, &["--json"]);
    assert_eq!(report.json()["computed"], 3, "one case in three ways to be read");
    for (found, expected) in found.iter().zip(&done) {
        let all = |name: &str| {
            let results = expected["results"].as_array().unwrap();
            results.iter().map(|one| one[name].clone()).collect::<Value>()
        };
        assert_eq!((&found["indices"], &found["scores"]), (&all("index"), &all("score")));
        assert_eq!(found["score_type"], expected["score_type"]);
    }
    let more = ["--instruction", "find snow", "--json"];
    let (_, again) = rows(dir.path(), std::slice::from_ref(&plain), &more);
    assert_eq!(again[0]["key"], found[3]["key"]);
}

#[test]
fn contradictions_with_the_command_line_are_refused() {
    let dir = with_snapshot("qwen2-mxbai");
    for (said, more, says) in [
        (("top_n", json!(1)), ["--top-k", "2"], "\"top_n\" is 1 and --top-k is 2"),
        (("instruction", json!("a")), ["--instruction", "b"], "\"instruction\" is a and --instru"),
        (("normalize", json!("raw")), ["--normalization", "mxbai"], "asks for raw scores and"),
        (("rank_fields", json!(["a"])), ["--top-k", "2"], "\"rank_fields\" is not read in files"),
        (("top_n", json!("many")), ["--top-k", "2"], "top_n"),
        (("top_n", json!(-1)), ["--top-k", "2"], "top_n"),
    ] {
        let mut case = json!({"query": "q", "documents": DOCUMENTS});
        case[said.0] = said.1;
        let done = cases(dir.path(), std::slice::from_ref(&case), &more);
        assert!(done.failure().starts_with("case 0: ") && done.err.contains(says), "{done:?}");
        let (done, _) = rows(dir.path(), &[case], &more);
        assert!(done.failure().starts_with("in.jsonl:1: ") && done.err.contains(says), "{done:?}");
    }
}

#[test]
fn a_mapping_of_another_model_is_refused_as_a_function_refuses_it() {
    let dir = with_snapshot("bert-classifier");
    let case = json!({"query": "q", "documents": DOCUMENTS});
    let more = ["--normalization", "mxbai"];
    let says = "normalization: mxbai is made for mxbai-rerank-v2 models only";
    assert!(cases(dir.path(), std::slice::from_ref(&case), &more).failure().contains(says));
    assert!(rows(dir.path(), &[case], &more).0.failure().contains(says));
}

#[test]
fn a_text_that_must_not_be_cut_is_a_row_that_cannot_be_scored() {
    let dir = with_snapshot("bert-classifier");
    let long = "word ".repeat(100);
    let all = [
        json!({"query": "q", "documents": [long, "brief"]}),
        json!({"query": "q", "documents": ["brief"], "truncation": false}),
        json!({"query": "q", "documents": [long, "other"], "truncate": "NONE"}),
    ];
    let more = ["--max-length", "24", "--skip-bad"];
    let (done, found) = rows(dir.path(), &all, &more);
    assert!(done.err.starts_with("defrost: left out in.jsonl:3: documents: input is too large"));
    assert_eq!((done.code, found.len()), (Some(0), 2), "{done:?}");
}

#[test]
fn fields_that_nothing_reads_are_told_once_with_their_number() {
    let dir = with_snapshot("bert-classifier");
    let case = |at: usize| json!({"id": at, "query": "q", "documents": DOCUMENTS, "topn": 3, "metadata": {}, "x": null});
    let all: Vec<Value> = (0..5).map(case).collect();
    let says = "fields that are not read: \"topn\" (5 rows)\n";
    let (done, _) = rows(dir.path(), &all, &[]);
    assert_eq!(done.err, format!("defrost: in.jsonl: {says}"));
    let done = cases(dir.path(), &all, &[]);
    assert_eq!(done.err, "defrost: cases.json: fields that are not read: \"topn\" (5 rows)\n");

    write(dir.path(), "in.jsonl", "{\"text\": \"a\", \"titel\": \"b\"}\n");
    pack(dir.path(), "bert-embedding", "int8", "embed.snap");
    let embed = ["embed", "--model", "embed.snap", "--in", "in.jsonl", "--out", "v.jsonl"];
    let done = run(dir.path(), &embed);
    assert_eq!(done.err, "defrost: in.jsonl: fields that are not read: \"titel\" (1 rows)\n");
}

#[test]
fn a_function_is_asked_what_the_case_says_and_its_warnings_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(|request| {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let all = 0..body["documents"].as_array().unwrap().len();
        let results: Vec<Value> =
            all.map(|index| json!({"index": index, "relevance_score": 0.5})).collect();
        let warnings = ["instruction is ignored: this model takes none"];
        let answer = json!({"score_type": "raw", "results": results, "warnings": warnings});
        Answer::new(200, answer.to_string())
    });
    let all = json!([
        {"query": "q", "documents": DOCUMENTS, "top_n": 1, "instruct": "find", "raw_scores": true},
        {"query": "q", "documents": DOCUMENTS, "max_tokens_per_doc": 9},
    ]);
    write(dir.path(), "cases.json", &all.to_string());
    let url = server.url();
    let args = ["rerank", "--url", &url, "--cases-file", "cases.json", "--json"];
    let done = run(dir.path(), &args);
    let told = format!("defrost: {url}: instruction is ignored: this model takes none\n");
    assert_eq!(done.err, told, "once");
    let answer = done.json();
    assert_eq!(answer[0]["results"].as_array().unwrap().len(), 1);
    assert_eq!(answer[1]["results"].as_array().unwrap().len(), 3);
    let bodies: Vec<Value> =
        server.seen().iter().map(|seen| serde_json::from_str(&seen.body).unwrap()).collect();
    let expected = [
        json!({"query": "q", "documents": DOCUMENTS, "top_n": 0, "instruction": "find", "raw_scores": true}),
        json!({"query": "q", "documents": DOCUMENTS, "top_n": 0, "instruction": null,
               "max_tokens_per_doc": 9, "normalization": "sigmoid"}),
    ];
    assert_eq!(bodies, expected);
}
