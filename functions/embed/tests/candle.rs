//! The binary with `BACKEND=candle`: what it serves is what `transformers` gives, and what it cannot run it says.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "../../../shared/testing/support/running.rs"]
mod running;

use defrost_model::Precision;
use defrost_testing::golden::{self, EMBEDDING_MODELS};
use serde_json::json;

use running::{Running, fails, function, snapshot};

const BINARY: &str = env!("CARGO_BIN_EXE_embed");

#[test]
fn vectors_over_http_are_those_of_transformers() {
    for model in EMBEDDING_MODELS {
        let dir = tempfile::tempdir().unwrap();
        let mut command = function(BINARY, snapshot(dir.path(), model, Precision::F32));
        command.env("BACKEND", "candle");
        let function = Running::start(command);
        let golden = golden::read(model);
        let mut compared = 0;
        for case in &golden.cases {
            let Some(expected) = &case.embedding else { continue };
            let body = json!({"input": case.document, "input_type": "document"}).to_string();
            let (status, answer) = function.ask("POST", "/v1/embeddings", &body);
            assert_eq!(status, 200, "{model} {}: {answer}", case.name);
            let found: Vec<f32> =
                serde_json::from_value(answer["data"][0]["embedding"].clone()).unwrap();
            let errors =
                found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
            assert!(errors.fold(0.0, f32::max) <= 1e-4, "{model} {}", case.name);
            compared += 1;
        }
        assert_eq!(function.ask("GET", "/info", "").1["backend"], "candle", "{model}");
        assert!(compared >= 2, "{model} has only {compared} vectors");
    }
}

#[test]
fn an_int8_snapshot_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = function(BINARY, snapshot(dir.path(), "bert-embedding", Precision::Int8));
    let (code, line) = fails(command.env("BACKEND", "candle"));
    assert!(code.is_some_and(|code| code != 0), "{line}");
    assert!(line.contains("is int8") && line.contains("--precision f32"), "{line}");
}
