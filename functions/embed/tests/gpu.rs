//! The binary in a build for GPUs, on the emulated device: what it serves is what `transformers` gives, and the processor is
//! one setting away.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "../../../shared/testing/support/running.rs"]
#[allow(dead_code, reason = "what packs for processors is for other tests")]
mod running;

use std::path::Path;
use std::process::Command;

use defrost_model::Precision;
use defrost_testing::golden::{self, EMBEDDING_MODELS};
use serde_json::{Value, json};

use running::{Running, fails, function, portable};

/// The promise on values of vectors in 16 bits.
const TOLERANCE: f32 = 2e-2;

fn command(model: &Path) -> Command {
    let mut command = function(env!("CARGO_BIN_EXE_embed"), model);
    command.env("DEVICE", "emulated");
    command
}

fn vector(function: &Running, text: &str) -> Vec<f32> {
    let body = json!({"input": text, "input_type": "document"}).to_string();
    let (status, answer) = function.ask("POST", "/v1/embeddings", &body);
    assert_eq!(status, 200, "{answer}");
    serde_json::from_value(answer["data"][0]["embedding"].clone()).unwrap()
}

#[test]
fn vectors_over_http_are_those_of_transformers() {
    let dir = tempfile::tempdir().unwrap();
    for model in EMBEDDING_MODELS {
        let function = Running::start(command(&portable(dir.path(), model, Precision::F16)));
        let golden = golden::read(model);
        // Short ones: a thread of the CPU is slow at being a card.
        let cases = golden.cases.iter().filter(|case| case.document.len() < 400);
        let cases = cases.filter_map(|case| Some((case, case.embedding.as_ref()?))).take(2);
        let mut compared = 0;
        for (case, expected) in cases {
            let found = vector(&function, &case.document);
            let errors =
                found.iter().zip(expected).map(|(found, expected)| (found - expected).abs());
            assert!(errors.fold(0.0, f32::max) <= TOLERANCE, "{model} {}", case.name);
            compared += 1;
        }
        assert!(compared > 0, "{model}");
        assert_eq!(function.ask("GET", "/info", "").1["backend"], "gpu", "{model}");
    }
}

#[test]
fn the_processor_is_one_setting_away() {
    let dir = tempfile::tempdir().unwrap();
    let model = portable(dir.path(), "bert-embedding", Precision::F32);
    let (code, line) = fails(command(&model).env("DEVICE", "cpu"));
    assert_eq!(code, Some(2));
    assert!(line.contains("found \"cpu\"; BACKEND=engine computes without a GPU"), "{line}");
    let (code, line) = fails(command(&model).env("DTYPE", "float32"));
    assert_eq!(code, Some(1));
    assert!(line.contains("a GPU computes in bf16 or f16, found DTYPE=f32"), "{line}");
    let mut command = command(&model);
    command.env("BACKEND", "engine").env("DTYPE", "float32").env("CACHE_DIR", dir.path());
    let function = Running::start(command);
    let found = vector(&function, "some text");
    assert!(!found.is_empty());
    let (_, info): (u16, Value) = function.ask("GET", "/info", "");
    assert_eq!(info["backend"], "engine");
}
