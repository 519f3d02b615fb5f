//! health and rerank --url against a stand-in for a function.

use std::path::Path;

use serde_json::{Value, json};

use super::server::{Answer, Server, nowhere};
use super::support::{Done, run};

/// As a function on a CPU answers `/health`.
fn health_body(status: &str) -> Value {
    json!({
        "status": status, "model_loaded": true, "model_status": "ready",
        "model_name": "tiny/model", "device": "cpu", "version": "0.1.0",
        "boot": {
            "phases": {
                "first_score": 0.004, "restore": 0.002, "config": 0.0005, "tokenizer": 0.003,
                "exec": 0.001, "engine": 0.00025, "other": 0.00005,
            },
            "ready_seconds": 0.0068, "first_score_seconds": 0.012,
        },
    })
}

fn health(url: &str) -> Done {
    run(Path::new("."), &["health", "--url", url])
}

#[test]
fn health_shows_phases_in_the_order_they_happen() {
    let server = Server::start(|_| Answer::new(200, health_body("ok").to_string()));
    // With and without a slash at the end.
    for url in [server.url(), server.url() + "/"] {
        let text = health(&url).text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "ok (200)  tiny/model");
        let names: Vec<&str> = lines[1..].iter().map(|line| line[2..22].trim_end()).collect();
        let order = ["exec", "config", "restore", "tokenizer", "engine", "other", "first_score"];
        assert_eq!(names[..7], order, "{text}");
        assert_eq!(names[7..], ["exec -> ready", "exec -> first score"], "{text}");
        assert_eq!(lines[3].split_whitespace().collect::<Vec<_>>(), ["restore", "2.00", "ms"]);
        assert_eq!(lines[9].split_whitespace().nth(4), Some("12.00"), "{text}");
    }
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert!(seen.iter().all(|request| (&*request.method, &*request.path) == ("GET", "/health")));
}

#[test]
fn health_of_a_function_that_boots_is_an_answer() {
    let body = json!({
        "status": "loading", "model_loaded": false, "model_name": null,
        "boot": {"phases": {}, "ready_seconds": null, "first_score_seconds": null},
        "detail": "not ready: loading",
    });
    let server = Server::start(move |_| Answer::new(503, body.to_string()));
    assert_eq!(health(&server.url()).text(), "loading (503)  ?\n");
}

#[test]
fn health_of_something_else_is_1() {
    for (status, body) in [
        (404, r#"{"detail":"Not Found"}"#),
        (404, "<html>\n<h1>Not\nFound</h1>\n</html>\n"),
        (200, "[]"),
        (200, ""),
    ] {
        let server = Server::start(move |_| Answer::new(status, body));
        let done = health(&server.url());
        assert!(done.failure().contains("/health"), "{body}: {done:?}");
    }
    let url = nowhere();
    let done = health(&url);
    assert!(done.failure().starts_with(&format!("no answer from {url}: ")), "{done:?}");
    for url in ["ftp://localhost", "localhost:8000", "http://", "http://127.0.0.1:port"] {
        let done = health(url);
        assert!(done.failure().contains("expected http://HOST:PORT"), "{done:?}");
    }
}

/// A directory with two cases, of three documents and of one.
fn with_cases() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let cases = json!([
        {"query": "wer?", "documents": ["ä \"b\"\nc", "two", "three"]},
        {"query": "q2", "documents": ["one"]},
    ]);
    std::fs::write(dir.path().join("cases.json"), cases.to_string()).unwrap();
    dir
}

fn rerank(dir: &Path, url: &str, more: &[&str]) -> Done {
    let args = ["rerank", "--url", url, "--cases-file", "cases.json"];
    let args: Vec<&str> = args.iter().chain(more).copied().collect();
    run(dir, &args)
}

/// As a function answers `/v1/rerank`: the last document first.
fn canonical(documents: usize) -> String {
    let results: Vec<Value> = (0..documents)
        .rev()
        .map(|index| json!({"index": index, "relevance_score": index as f64 / 4.0 + 0.25}))
        .collect();
    json!({
        "id": "rerank-1", "object": "rerank", "created": 1, "model": "tiny/model",
        "results": results, "score_type": "sigmoid",
        "meta": {"api_version": {"version": "2"}}, "usage": {"total_tokens": 9}, "warnings": [],
    })
    .to_string()
}

fn documents(body: &str) -> usize {
    let body: Value = serde_json::from_str(body).unwrap();
    body["documents"].as_array().unwrap().len()
}

#[test]
fn rerank_asks_the_function_and_keeps_its_order() {
    let server = Server::start(|request| Answer::new(200, canonical(documents(&request.body))));
    let dir = with_cases();
    let more = ["--json", "--instruction", "find", "--normalization", "raw"];
    let answer = rerank(dir.path(), &server.url(), &more).json();
    assert_eq!(answer[0]["query"], "wer?");
    assert_eq!(answer[0]["score_type"], "sigmoid", "what the function said, not what was asked");
    let expected = json!([
        {"index": 2, "score": 0.75, "document": "three"},
        {"index": 1, "score": 0.5, "document": "two"},
        {"index": 0, "score": 0.25, "document": "ä \"b\"\nc"},
    ]);
    assert_eq!(answer[0]["results"], expected);
    assert_eq!(answer[1]["results"].as_array().unwrap().len(), 1);

    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!((&*seen[0].method, &*seen[0].path), ("POST", "/v1/rerank"));
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    assert_eq!(seen[0].header("host"), server.url().strip_prefix("http://"));
    let body: Value = serde_json::from_str(&seen[0].body).unwrap();
    let expected = json!({
        "query": "wer?", "documents": ["ä \"b\"\nc", "two", "three"],
        "instruction": "find", "normalization": "raw", "top_n": 0,
    });
    assert_eq!(body, expected);

    let text = rerank(dir.path(), &server.url(), &["--top-k", "2"]).text();
    assert_eq!(
        text,
        "wer?  (sigmoid)\n   0.750000    2  three\n   0.500000    1  two\n\
         q2  (sigmoid)\n   0.250000    0  one\n"
    );
}

#[test]
fn a_function_that_refuses_is_1_and_one_line() {
    let dir = with_cases();
    for (status, body, says) in [
        (400, r#"{"message":"query: expected a string"}"#, "query: expected a string"),
        (401, r#"{"message":"no key"}"#, "no key"),
        (429, "", "answered 429"),
        (503, "{\n  \"detail\": \"not ready: loading\"\n}\n", "not ready: loading"),
        (502, "<html>\r\n<h1>Bad\r\nGateway</h1>\r\n</html>\r\n", "Bad Gateway"),
    ] {
        let server = Server::start(move |_| Answer::new(status, body));
        let done = rerank(dir.path(), &server.url(), &["--json"]);
        let line = done.failure();
        assert!(line.starts_with(&format!("{} answered {status}", server.url())), "{line}");
        assert!(line.contains(says), "{line}");
        assert_eq!(server.seen().len(), 1, "asked again after {status}");
    }
}

#[test]
fn a_function_that_answers_something_else_is_1_and_one_line() {
    let dir = with_cases();
    let short = json!({"score_type": "sigmoid", "results": []}).to_string();
    for body in ["", "{}", "[0.5, 0.25]", "ok\nok\n", &canonical(4), &short] {
        let answer = body.to_owned();
        let server = Server::start(move |_| Answer::new(200, answer.clone()));
        let done = rerank(dir.path(), &server.url(), &[]);
        assert!(done.failure().starts_with(&server.url()), "{body}: {done:?}");
    }
    let server = Server::start(|_| Answer::new(200, b"\xff\xfe".to_vec()));
    let done = rerank(dir.path(), &server.url(), &[]);
    assert!(done.failure().contains("not UTF-8"), "{done:?}");
}

#[test]
fn no_function_is_1_and_one_line() {
    let dir = with_cases();
    let url = nowhere();
    let done = rerank(dir.path(), &url, &[]);
    assert!(done.failure().starts_with(&format!("no answer from {url}: ")), "{done:?}");
    let done = rerank(dir.path(), "https://localhost", &[]);
    assert!(done.failure().starts_with("no answer from https://localhost: "), "{done:?}");
    for url in ["ftp://localhost", "localhost:8000", "http://", "http://a b"] {
        let done = rerank(dir.path(), url, &[]);
        assert!(done.failure().contains("expected http://HOST:PORT or https://HOST"), "{done:?}");
    }
}
