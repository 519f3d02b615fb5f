//! embed --url: against a function that is made of the same embedder and answers as `embed` does.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use defrost_tasks::{
    EmbedTask, EmbedTruncation, Embedder, EmbedderOptions, Error, Input, ModelOptions, Outputs,
    Overflow, PromptChoice, RestoreOptions, restore,
};
use defrost_testing::golden::TOKEN_HEADS_MODEL;
use serde_json::{Map, Value, json};

use super::embed::{corpus, rows, with_snapshot};
use super::server::{Answer, Request, Server};
use super::support::{Done, command, finish, run};

const KEY: &str = "sk-secret";
const MAX_LENGTH: usize = 32;

fn function(dir: &Path) -> Server {
    let options = RestoreOptions::default();
    let snapshot =
        restore(&[&defrost_engine::RUNTIME], &dir.join("model.snap").as_path().into(), &options)
            .unwrap();
    let model = ModelOptions { max_length: Some(MAX_LENGTH), ..ModelOptions::default() };
    let embedder = Embedder::load(
        &[&defrost_engine::RUNTIME],
        &snapshot,
        &EmbedderOptions { model, any_dimensions: true },
    );
    let embedder = std::sync::Mutex::new(embedder.unwrap());
    Server::start(move |request| {
        let embedder = embedder.lock().unwrap();
        if request.header("authorization") != Some(&format!("Bearer {KEY}")) {
            return Answer::new(401, r#"{"message": "no key"}"#);
        }
        match request.path.as_str() {
            "/info" => Answer::new(200, info(&embedder).to_string()),
            "/v1/embeddings" => embeddings(&embedder, request),
            _ => Answer::new(404, ""),
        }
    })
}

fn info(embedder: &Embedder) -> Value {
    let info = embedder.info();
    json!({
        "snapshot": info.snapshot, "max_input_length": info.max_length, "dimensions": info.hidden,
        "normalizes": info.normalizes, "takes_instruction": info.takes_instruction,
        "max_client_batch_size": 2048, "service": "embed",
    })
}

fn embeddings(embedder: &Embedder, request: &Request) -> Answer {
    let body: Value = serde_json::from_str(&request.body).unwrap();
    let has = |kind: &str| body["embedding_type"].as_array().unwrap().contains(&json!(kind));
    let prompt = match (body["input_type"].as_str(), body["prompt"].as_str()) {
        (Some("query"), _) => PromptChoice::Query,
        (_, Some("")) => PromptChoice::None,
        (_, Some(text)) => PromptChoice::Prefix(text.to_owned()),
        _ => PromptChoice::Default,
    };
    let inputs = body["input"].as_array().unwrap();
    let asked = EmbedTask {
        inputs: inputs.iter().map(|text| Input::from(text.as_str().unwrap())).collect(),
        prompt,
        outputs: Outputs {
            dense: has("dense"),
            sparse: has("sparse"),
            colbert: has("colbert"),
            tokens: false,
        },
        dimensions: body["dimensions"].as_u64().map(|width| usize::try_from(width).unwrap()),
        normalize: body["normalize"].as_bool(),
        truncation: EmbedTruncation {
            overflow: match body["truncate"].as_str() {
                Some("END") => Overflow::CutEnd,
                Some("START") => Overflow::CutStart,
                _ => Overflow::Refuse,
            },
            limit: None,
        },
        late_chunking: false,
    };
    let all = match embedder.embed(&[asked], &|| false) {
        Ok(mut all) => all.remove(0),
        Err(Error::InputTooLong { index, .. }) => {
            let param = format!("input[{index}]");
            let error = json!({"param": param, "message": format!("{param}: is too long")});
            return Answer::new(400, json!({ "error": error }).to_string());
        }
        Err(error) => {
            let error = json!({"param": null, "message": error.to_string()});
            return Answer::new(400, json!({ "error": error }).to_string());
        }
    };
    let entry = |(index, one): (usize, &defrost_tasks::Embedding)| {
        let bytes: Vec<u8> = one.dense.iter().flat_map(|number| number.to_le_bytes()).collect();
        let mut entry = json!({"object": "embedding", "index": index});
        if has("dense") {
            entry["embedding"] = json!(STANDARD.encode(bytes));
        }
        if has("sparse") {
            let weights = one.sparse.iter().map(|(id, weight)| (id.to_string(), json!(weight)));
            entry["sparse_embedding"] = Value::Object(weights.collect::<Map<_, _>>());
        }
        if has("colbert") {
            entry["colbert_embedding"] =
                one.colbert.chunks(one.colbert_width.max(1)).map(|row| json!(row)).collect();
        }
        entry
    };
    let data: Vec<Value> = all.iter().enumerate().map(entry).collect();
    let tokens: usize = all.iter().map(|one| one.token_count).sum();
    let cut = all.iter().filter(|one| one.truncated).count();
    let mut answer =
        json!({"data": data, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}});
    if cut > 0 {
        answer["warnings"] =
            json!([format!("{cut} of {} inputs were truncated to fit", all.len())]);
    }
    let mut answer = Answer::new(200, answer.to_string());
    if cut > 0 {
        answer.headers.push(("x-truncated-inputs", cut.to_string()));
    }
    answer
}

fn embed(dir: &Path, url: &str, more: &[&str]) -> Done {
    let args = ["embed", "--url", url, "--in", "in.jsonl", "--json"];
    let mut command = command(dir, &[&args[..], more].concat());
    command.env("DEFROST_API_KEY", KEY);
    finish(command)
}

fn texts() -> Vec<String> {
    (0..150).map(|at| format!("snow on {} bridges {at}", "wooden ".repeat(at % 40))).collect()
}

#[test]
fn vectors_are_those_of_the_model_itself() {
    let dir = with_snapshot(TOKEN_HEADS_MODEL, "f32");
    std::fs::write(dir.path().join("in.jsonl"), corpus(texts())).unwrap();
    let server = function(dir.path());
    let url = server.url();
    for (at, more) in [
        &[][..],
        &["--kind", "dense,sparse,colbert"],
        &["--kind", "sparse"],
        &["--input-type", "query"],
        &["--input-type", "none", "--truncate", "start"],
        &["--prompt", "find: "],
        &["--normalize", "false", "--output-dtype", "ubinary"],
        &["--dimensions", "16"],
    ]
    .into_iter()
    .enumerate()
    {
        let (here, there) = (format!("here{at}.jsonl"), format!("there{at}.jsonl"));
        let length = MAX_LENGTH.to_string();
        let base = ["embed", "--model", "model.snap", "--in", "in.jsonl", "--out", &here];
        let own = ["--max-length", &length, "--allow-non-mrl", "--json"];
        let expected = run(dir.path(), &[&base[..], &own, more].concat()).json();
        let report = embed(dir.path(), &url, &[&["--out", &there][..], more].concat()).json();
        for name in ["rows", "computed", "tokens", "truncated"] {
            assert_eq!(report[name], expected[name], "{more:?} {name}");
        }
        assert!(expected["truncated"].as_u64() > Some(0), "{expected}");
        for (mut expected, mut found) in
            rows(dir.path(), &here).into_iter().zip(rows(dir.path(), &there))
        {
            let expected = expected.as_object_mut().unwrap();
            for name in ["key", "tokens", "truncated"] {
                expected.remove(name);
            }
            found.as_object_mut().unwrap().remove("key");
            assert_eq!(Value::Object(expected.clone()), found, "{more:?}");
        }
    }
}

#[test]
fn a_later_run_asks_for_what_is_new_and_never_takes_another_model() {
    let dir = with_snapshot("bert-embedding", "f32");
    let server = function(dir.path());
    let all = texts();
    let write = |count: usize| {
        std::fs::write(dir.path().join("in.jsonl"), corpus(all[..count].to_vec())).unwrap();
    };
    write(100);
    let out = ["--out", "v.jsonl"];
    assert_eq!(embed(dir.path(), &server.url(), &out).json()["computed"], 100);
    let asked: Vec<usize> = server
        .seen()
        .iter()
        .filter(|seen| seen.path == "/v1/embeddings")
        .map(|seen| {
            serde_json::from_str::<Value>(&seen.body).unwrap()["input"].as_array().unwrap().len()
        })
        .collect();
    assert_eq!(asked, [1, 64, 36]);
    write(150);
    let report = embed(dir.path(), &server.url(), &out).json();
    assert_eq!((&report["computed"], &report["reused"]), (&json!(50), &json!(100)));
    let other = with_snapshot("bert-embedding", "int8");
    let server = function(other.path());
    let done = embed(dir.path(), &server.url(), &out);
    assert!(done.err.contains("belong to another run and are not used: model is "), "{done:?}");
    assert_eq!(done.json()["computed"], 150);
}

#[test]
fn a_text_that_is_refused_is_a_row_that_is() {
    let dir = with_snapshot("bert-embedding", "f32");
    let server = function(dir.path());
    let mut all = texts()[..70].to_vec();
    for text in &mut all {
        text.truncate(10);
    }
    all[66] = "word ".repeat(100);
    std::fs::write(dir.path().join("in.jsonl"), corpus(all)).unwrap();
    let more = ["--out", "v.jsonl", "--truncate", "refuse"];
    let done = embed(dir.path(), &server.url(), &more);
    assert!(done.failure().starts_with("in.jsonl:67: is too long; --skip-bad"), "{done:?}");
    let report = embed(dir.path(), &server.url(), &[&more[..], &["--skip-bad"]].concat()).json();
    assert_eq!((&report["rows"], &report["left_out"]), (&json!(69), &json!(1)));
}

#[test]
fn what_a_function_cannot_do_is_1_and_one_line() {
    let dir = with_snapshot("bert-embedding", "f32");
    std::fs::write(dir.path().join("in.jsonl"), corpus(texts())).unwrap();
    let server = function(dir.path());
    let url = server.url();
    let out = ["--out", "v.jsonl"];
    for (more, says) in [
        (&["--instruction", "x"][..], "takes no instruction, leave it out"),
        (&["--kind", "sparse"], "answered 400"),
    ] {
        let done = embed(dir.path(), &url, &[&out[..], more].concat());
        assert!(done.failure().contains(says), "{done:?}");
    }
    let args = ["embed", "--url", &url, "--in", "in.jsonl", "--out", "v.jsonl"];
    assert!(run(dir.path(), &args).failure().contains("--api-key or DEFROST_API_KEY"));
    for (status, body, says) in [
        (503, "loading", "/info answered 503"),
        (200, "{}", "is `embed` at this address?"),
        (200, "<html>", "is `embed` at this address?"),
    ] {
        let server = Server::start(move |_| Answer::new(status, body));
        let done = embed(dir.path(), &server.url(), &out);
        assert!(done.failure().contains(says), "{done:?}");
    }
    let known = json!({
        "snapshot": "s", "max_input_length": 9, "dimensions": 2, "normalizes": true,
        "takes_instruction": false, "max_client_batch_size": 9,
    });
    let short = json!({"data": [], "usage": {"prompt_tokens": 1}}).to_string();
    let usage = json!({"prompt_tokens": 1});
    let told = json!({"data": [{"index": 0, "embedding": ""}], "usage": usage, "warnings": ["no"]});
    for (body, says) in [
        (short, "did not embed each of 1 texts once"),
        (told.to_string(), "would not do all that is asked: no"),
        ("[]".to_owned(), "did not answer in the shape"),
    ] {
        let known = known.to_string();
        let server = Server::start(move |request| match request.method.as_str() {
            "GET" => Answer::new(200, known.clone()),
            _ => Answer::new(200, body.clone()),
        });
        let done = embed(dir.path(), &server.url(), &out);
        assert!(done.failure().contains(says), "{done:?}");
    }
    assert!(!dir.path().join("v.jsonl").exists());
}
