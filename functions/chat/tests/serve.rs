//! The binary as its users run it: a process, a snapshot of a tiny language model, a socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "../../../shared/testing/support/running.rs"]
mod running;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use defrost_model::{Precision, isa};
use defrost_pack::{ModelKind, Outliers, PackOptions, SpecOptions, open_checkpoint, pack};
use defrost_testing::golden;
use serde::Deserialize;
use serde_json::{Value, json};

use running::{Running, fails, function, snapshot};

const BINARY: &str = env!("CARGO_BIN_EXE_chat");

/// What `scripts/golden/golden_generation.py` writes.
#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    ids: Vec<u32>,
    tokens: Vec<u32>,
}

fn read(model: &str) -> Golden {
    let file = golden::checkpoint(model).join("golden.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// Packs a golden model that generates.
fn packed(dir: &Path, model: &str) -> PathBuf {
    let out = dir.join(format!("{model}.snap"));
    let options = PackOptions {
        spec: SpecOptions {
            name: format!("tiny/{model}"),
            kind: Some(ModelKind::Chat),
            ..SpecOptions::default()
        },
        precision: Precision::F32,
        isa: isa::NATIVE.to_owned(),
        outliers: Outliers::Auto,
        store_prefix: true,
    };
    let checkpoint = open_checkpoint(&golden::checkpoint(model)).unwrap();
    pack(&checkpoint, &options, &out, &mut |_, _| {}).unwrap();
    out
}

fn ask(function: &Running, path: &str, body: &Value) -> Value {
    let (status, answer) = function.ask("POST", path, &body.to_string());
    assert_eq!(status, 200, "{path} {body}: {answer}");
    answer
}

/// The tokens of `transformers`, which take the likeliest one each time.
#[test]
fn completions_over_http_are_those_of_transformers() {
    let dir = tempfile::tempdir().unwrap();
    for model in ["generate-llama", "generate-qwen3"] {
        let function = Running::start(function(BINARY, packed(dir.path(), model)));
        for case in read(model).cases {
            let what = format!("{model} {}", case.name);
            let most = case.tokens.len();
            let body = json!({
                "prompt": case.ids, "n_predict": most, "temperature": 0, "ignore_eos": true,
                "repeat_penalty": 1, "n_probs": 1,
            });
            let answer = ask(&function, "/completion", &body);
            let tokens = answer["completion_probabilities"].as_array().unwrap();
            let id = |token: &Value| u32::try_from(token["id"].as_u64().unwrap()).unwrap();
            let ids: Vec<u32> = tokens.iter().map(id).collect();
            assert_eq!(ids, case.tokens, "{what}");
            // The same again, of which the beginning is known by now.
            let body = json!({
                "prompt": case.ids, "max_tokens": most, "temperature": 0, "ignore_eos": true,
                "repetition_penalty": 1,
            });
            let again = ask(&function, "/v1/completions", &body);
            assert_eq!(again["choices"][0]["text"], answer["content"], "{what}");
            assert_eq!(again["usage"]["completion_tokens"], most, "{what}");
            let cached = again["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
            assert!(cached > 0 || case.ids.len() < 34, "{what}: {again}");
        }
    }
}

/// What is sent over a socket as it is made is what is answered at once.
#[test]
fn a_stream_over_a_socket_is_the_whole_answer_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let function = Running::start(function(BINARY, packed(dir.path(), "generate-qwen3")));
    let mut body = json!({
        "messages": [{"role": "user", "content": "rain in the city"}], "max_tokens": 40, "temperature": 0,
        "ignore_eos": true, "repetition_penalty": 1,
    });
    let whole = ask(&function, "/v1/chat/completions", &body);
    let message = &whole["choices"][0]["message"];
    let said = |value: &Value, kind: &str| value[kind].as_str().unwrap_or_default().to_owned();
    body["stream"] = true.into();
    let mut stream = TcpStream::connect(function.address).unwrap();
    let text = body.to_string();
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{text}",
        text.len()
    )
    .unwrap();
    let (mut content, mut reasoning, mut chunks, mut is_done) =
        (String::new(), String::new(), 0, false);
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        let Some(data) = line.strip_prefix("data: ") else { continue };
        if data == "[DONE]" {
            is_done = true;
            continue;
        }
        let chunk: Value = serde_json::from_str(data).unwrap();
        let delta = &chunk["choices"][0]["delta"];
        content += &said(delta, "content");
        reasoning += &said(delta, "reasoning_content");
        chunks += 1;
    }
    assert!(is_done && chunks > 3, "{chunks} chunks");
    assert_eq!(
        (content, reasoning),
        (said(message, "content"), said(message, "reasoning_content"))
    );
}

/// Clients that go away in the middle of a reply leave nothing behind.
#[test]
fn clients_that_go_away_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let function = Running::start(function(BINARY, packed(dir.path(), "generate-llama")));
    let body = json!({
        "prompt": [5, 6, 7, 8], "max_tokens": 400, "temperature": 0, "ignore_eos": true, "stream": true,
    });
    let text = body.to_string();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(function.address).unwrap();
        write!(
            stream,
            "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        )
        .unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        assert!(line.contains("200"), "{line}");
    }
    // One that stays is answered, and what is counted after it has no others.
    let answer = ask(
        &function,
        "/v1/completions",
        &json!({"prompt": [5, 6, 7], "max_tokens": 3, "temperature": 0}),
    );
    assert_eq!(answer["usage"]["completion_tokens"], 3);
    let (_, info) = function.ask("GET", "/info", "");
    assert!(info["kv_tokens"].as_u64().unwrap() > 0, "{info}");
}

#[test]
fn settings_bound_a_conversation() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = function(BINARY, packed(dir.path(), "generate-llama"));
    command.envs([
        ("N_CTX", "64"),
        ("KV_TOKENS", "256"),
        ("MAX_TOKENS", "5"),
        ("TEMPERATURE", "0"),
    ]);
    command.env("FAST_BOOT", "false");
    let function = Running::start(command);
    let answer =
        ask(&function, "/v1/completions", &json!({"prompt": [5, 6, 7], "ignore_eos": true}));
    assert_eq!(answer["usage"]["completion_tokens"], 5, "{answer}");
    let (_, props) = function.ask("GET", "/props", "");
    assert_eq!(props["default_generation_settings"]["n_ctx"], 64, "{props}");
    let (status, refused) =
        function.ask("POST", "/v1/completions", &json!({"prompt": vec![5; 65]}).to_string());
    assert_eq!((status, &refused["error"]["code"]), (400, &json!("context_length_exceeded")));
}

/// A snapshot that is none of its kind is told at start.
#[test]
fn another_functions_snapshot_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let reranker = snapshot(dir.path(), "bert-classifier", Precision::Int8);
    let (code, line) = fails(&mut running::function(BINARY, reranker));
    assert_eq!(code, Some(1));
    assert!(line.contains("expected a language model"), "{line}");
}
