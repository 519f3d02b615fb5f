//! The binary as its users run it: a process, a snapshot, a socket, and the shapes of six services.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

#[path = "../../../shared/testing/support/running.rs"]
mod running;

use std::path::Path;

use defrost_model::Precision;
use defrost_testing::cases::{Variant, Variants, copied};
use defrost_testing::golden::{self, EMBEDDING_MODELS, EmbeddingCase, TOKEN_HEADS_MODEL};
use serde_json::{Value, json};

use running::{Running, fails, function, packed, snapshot};

const BINARY: &str = env!("CARGO_BIN_EXE_embed");

fn start(dir: &Path, model: &str, settings: &[(&str, &str)]) -> Running {
    let mut command = function(BINARY, snapshot(dir, model, Precision::F32));
    command.env("MAX_LENGTH", golden::embeddings(model).max_length.to_string());
    command.envs(settings.iter().copied());
    Running::start(command)
}

fn ask(function: &Running, path: &str, body: &Value) -> Value {
    let (status, answer) = function.ask("POST", path, &body.to_string());
    assert_eq!(status, 200, "{path} {body}: {answer}");
    answer
}

fn vector(value: &Value) -> Vec<f32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[track_caller]
fn near(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= 1e-4, "{what}: {worst}");
}

/// The body, asking for the case's prompt.
fn with_prompt(case: &EmbeddingCase, task: &str, mut body: Value) -> Value {
    match case.prompt.as_str() {
        "query" | "document" => body["input_type"] = case.prompt.clone().into(),
        "instruct" => body["instruction"] = task.into(),
        _ => body["prompt"] = "".into(),
    }
    body
}

/// C12 to C16, D20, N1: dense, shortened, sparse and `ColBERT` vectors are those of `transformers`
/// and `FlagEmbedding`.
#[test]
fn vectors_over_http_are_those_of_transformers() {
    for model in EMBEDDING_MODELS {
        let dir = tempfile::tempdir().unwrap();
        let settings =
            [("ALLOW_EMPTY_INPUT", "true"), ("AUTO_TRUNCATE", "true"), ("ALLOW_NON_MRL", "true")];
        let function = start(dir.path(), model, &settings);
        let golden = golden::embeddings(model);
        for case in &golden.cases {
            let what = format!("{model} {}", case.name);
            let body = with_prompt(case, &golden.task, json!({"input": case.text, "model": "any"}));
            let answer = ask(&function, "/v1/embeddings", &body);
            near(&vector(&answer["data"][0]["embedding"]), &case.dense, &what);
            assert_eq!(answer["usage"]["prompt_tokens"], case.ids.len(), "{what}");
            let mut short = body.clone();
            short["dimensions"] = golden.short_dimensions.into();
            let answer = ask(&function, "/v1/embeddings", &short);
            near(&vector(&answer["data"][0]["embedding"]), &case.short, &what);
            if model == TOKEN_HEADS_MODEL {
                let mut all = body.clone();
                all["embedding_type"] = json!(["dense", "sparse", "colbert"]);
                let answer = ask(&function, "/v1/embeddings", &all);
                let one = &answer["data"][0];
                near(&vector(&one["embedding"]), &case.dense, &what);
                for (id, weight) in &case.sparse {
                    let found = one["sparse_embedding"][id.to_string()].as_f64().unwrap();
                    assert!((found - f64::from(*weight)).abs() < 1e-4, "{what} {id}");
                }
                assert_eq!(one["sparse_embedding"].as_object().unwrap().len(), case.sparse.len());
                let rows = one["colbert_embedding"].as_array().unwrap();
                assert_eq!(rows.len(), case.ids.len() - 1, "{what}");
                for (row, expected) in rows.iter().zip(case.colbert.iter().take(2)) {
                    near(&vector(row), expected, &what);
                }
            }
        }
    }
}

/// Whatever the model's files say of pooling, dense layers, length and case: what is served is what
/// sentence-transformers gives, normalised or not.
#[test]
fn vectors_over_http_are_those_of_sentence_transformers() {
    let dir = tempfile::tempdir().unwrap();
    let Variants { texts, cases } = Variants::of_sentence_transformers();
    let snapshot = |(at, variant): (usize, &Variant)| {
        let checkpoint = variant.checkpoint();
        let name = format!("m{at}");
        let path = packed(dir.path(), &name, checkpoint.path(), Precision::F32);
        format!("{name}={}", path.display())
    };
    let models: Vec<String> = cases.iter().enumerate().map(snapshot).collect();
    let mut command = function(BINARY, "");
    command.env_remove("MODEL").env("MODELS", models.join(",")).env("LAZY_LOAD", "true");
    let function = Running::start(command);
    let mut lengths = Vec::new();
    for (at, Variant { name, vectors, .. }) in cases.iter().enumerate() {
        let body = json!({"model": format!("m{at}"), "input": texts, "truncation": true});
        let answer = ask(&function, "/v1/embeddings", &body);
        for (one, expected) in answer["data"].as_array().unwrap().iter().zip(vectors) {
            near(&vector(&one["embedding"]), expected, name);
            lengths.push(expected.iter().map(|number| number * number).sum::<f32>().sqrt());
        }
        // TEI's route scales all vectors unless told otherwise.
        let tei = ask(&function, "/embed", &json!({"model": format!("m{at}"), "inputs": texts}));
        let first = vector(&tei[0]);
        let length = first.iter().map(|number| number * number).sum::<f32>().sqrt();
        assert!((length - 1.0).abs() < 1e-5, "{name}: {length}");
    }
    let is_unit = |length: &f32| (length - 1.0).abs() < 1e-3;
    assert!(lengths.iter().any(is_unit) && !lengths.iter().all(is_unit));
}

/// An input that is not called a query goes into a database; what is for something else gets the prompt for
/// that, or none.
#[test]
fn prompts_are_those_of_what_inputs_are_for() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = copied("golden/bert-embedding");
    let prompts = json!({"prompts": {"query": "query: ", "document": "passage: ", "clustering": "cluster: "}});
    let file = checkpoint.path().join("config_sentence_transformers.json");
    std::fs::write(file, prompts.to_string()).unwrap();
    let snapshot = packed(dir.path(), "prompts", checkpoint.path(), Precision::F32);
    let function = Running::start(function(BINARY, snapshot));
    let of = |extra: Value| {
        let mut body = json!({"input": "rain"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        vector(&ask(&function, "/v1/embeddings", &body)["data"][0]["embedding"])
    };
    for (extra, prompt) in [
        (json!({}), "passage: "),
        (json!({"input_type": null}), "passage: "),
        (json!({"input_type": "query"}), "query: "),
        (json!({"input_type": "none"}), ""),
        (json!({"task": "none"}), ""),
        (json!({"input_type": "clustering"}), "cluster: "),
        (json!({"input_type": "classification"}), ""),
        (json!({"task": "text-matching"}), ""),
        (json!({"input_type": "search_query"}), "query: "),
    ] {
        assert_eq!(of(extra.clone()), of(json!({"prompt": prompt})), "{extra}");
    }
}

/// Models name their prompts in the words of many services.
#[test]
fn prompts_are_found_under_the_requests_own_word_or_one_that_means_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let rows = [
        (
            json!({"search_query": "q: ", "search_document": "d: "}),
            json!({"input_type": "search_query"}),
            "q: ",
        ),
        (
            json!({"search_query": "q: ", "search_document": "d: "}),
            json!({"input_type": "query"}),
            "q: ",
        ),
        (json!({"search_query": "q: ", "search_document": "d: "}), json!({}), "d: "),
        (json!({"retrieval.query": "q: "}), json!({"task": "retrieval.query"}), "q: "),
        (
            json!({"retrieval.query": "q: ", "retrieval.passage": "d: "}),
            json!({"input_type": "passage"}),
            "d: ",
        ),
        (json!({"nl2code_query": "q: ", "query": "x: "}), json!({"task": "nl2code.query"}), "q: "),
        (json!({"document": "d: ", "passage": "p: "}), json!({"input_type": "passage"}), "p: "),
        (json!({"Query": "q: ", "Document": "d: "}), json!({"input_type": "query"}), "q: "),
        (json!({"s2p_query": "q: "}), json!({"input_type": "query"}), "q: "),
    ];
    for (at, (prompts, extra, prompt)) in rows.into_iter().enumerate() {
        let checkpoint = copied("golden/bert-embedding");
        let file = checkpoint.path().join("config_sentence_transformers.json");
        std::fs::write(file, json!({"prompts": prompts}).to_string()).unwrap();
        let snapshot = packed(dir.path(), &format!("m{at}"), checkpoint.path(), Precision::F32);
        let function = Running::start(function(BINARY, &snapshot));
        let of = |extra: &Value| {
            let mut body = json!({"input": "rain"});
            body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
            vector(&ask(&function, "/v1/embeddings", &body)["data"][0]["embedding"])
        };
        assert_eq!(of(&extra), of(&json!({"prompt": prompt})), "{prompts} {extra}");
    }
}

/// B22, D2, D3, C5 and TEI's and Cohere's routes: one vector, whichever shape asks for it.
#[test]
fn every_shape_holds_the_same_vector() {
    let dir = tempfile::tempdir().unwrap();
    let function = start(dir.path(), TOKEN_HEADS_MODEL, &[]);
    let text = "Harper Lee wrote it.";
    let reference = ask(&function, "/v1/embeddings", &json!({"input": text, "model": "m"}));
    let expected = vector(&reference["data"][0]["embedding"]);
    let cohere = json!({"texts": [text], "input_type": "search_document", "model": "m"});
    let mut by_type = cohere.clone();
    by_type["embedding_types"] = json!(["float", "int8"]);
    for (path, body, place) in [
        ("/embeddings", json!({"input": [text]}), "/data/0/embedding"),
        ("/invocations", json!({"input": [text]}), "/data/0/embedding"),
        ("/", json!({"inputs": text}), "/0"),
        ("/embed", json!({"inputs": [text]}), "/0"),
        ("/embed", json!({"texts": [text]}), "/embeddings/0"),
        ("/embed", json!({"text": text}), "/embedding"),
        ("/embed_batch", json!({"texts": [text]}), "/embeddings/0"),
        ("/v1/embed", cohere, "/embeddings/0"),
        ("/v2/embed", by_type, "/embeddings/float/0"),
    ] {
        let answer = ask(&function, path, &body);
        let found = answer.pointer(place).unwrap_or_else(|| panic!("no {place} in {answer}"));
        assert_eq!(vector(found), expected, "{path} {body}");
    }
    let batch = ask(&function, "/embed_batch", &json!({"texts": [text, "other"]}));
    assert_eq!((&batch["count"], &batch["dim"]), (&json!(2), &json!(expected.len())));
    let all = ask(&function, "/embed_all", &json!({"inputs": text}));
    let tokens = ask(&function, "/tokenize", &json!({"inputs": text}));
    assert_eq!(all[0].as_array().unwrap().len(), tokens[0].as_array().unwrap().len());
    let sparse = ask(&function, "/embed_sparse", &json!({"inputs": text}));
    assert!(sparse[0][0]["value"].as_f64().unwrap() > 0.0);
    let body = json!({"inputs": {"source_sentence": text, "sentences": [text, "rain"]}});
    let similar = vector(&ask(&function, "/similarity", &body));
    assert!((similar[0] - 1.0).abs() < 1e-5 && similar[1] < similar[0], "{similar:?}");
    // Ids are as good as the text.
    let ids: Vec<&Value> = tokens[0].as_array().unwrap().iter().map(|token| &token["id"]).collect();
    let by_ids = ask(&function, "/v1/embeddings", &json!({"input": [ids]}));
    assert_eq!(vector(&by_ids["data"][0]["embedding"]), expected);
    let vllm = ask(&function, "/tokenize", &json!({"prompt": text}));
    assert_eq!((&vllm["count"], &vllm["tokens"]), (&json!(ids.len()), &json!(ids)));
}

/// D11, C23: equal questions get the vectors that were given.
#[test]
fn answers_are_kept_on_request() {
    let dir = tempfile::tempdir().unwrap();
    let function = start(dir.path(), "bert-embedding", &[("ENABLE_CACHE", "true")]);
    // The first may come while the model loads, and is not kept then.
    ask(&function, "/v1/embeddings", &json!({"input": "warm"}));
    let first = ask(&function, "/v1/embeddings", &json!({"input": "Harper Lee"}));
    assert_eq!(
        ask(&function, "/v1/embeddings", &json!({"input": "Harper Lee"})),
        first,
        "id included"
    );
    let (_, metrics) = function.ask("GET", "/metrics?format=json", "");
    assert_eq!(metrics["defrost_inference_duration_seconds_count"][0]["value"], 2.0);
}

/// N6, N10 and api.md 4.3: what does not fit or is not there is refused in words, or cut and said.
#[test]
fn what_cannot_be_embedded_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let function = start(dir.path(), "bert-embedding", &[]);
    let refused = |path: &str, body: &Value| function.ask("POST", path, &body.to_string());
    let long = "word ".repeat(5000);
    let (status, answer) = refused("/v1/embeddings", &json!({"input": ["a", long]}));
    let error = &answer["error"];
    assert_eq!((status, &error["code"]), (400, &json!("context_length_exceeded")), "{answer}");
    assert_eq!(error["param"], "input[1]");
    let message = error["message"].as_str().unwrap();
    for phrase in ["maximum context length is", "Please reduce the length of the input prompt"] {
        assert!(message.contains(phrase), "{message}");
    }
    for truncate in [json!(true), json!("START"), json!("END")] {
        let body = json!({"input": long, "truncate": truncate});
        let answer = ask(&function, "/v1/embeddings", &body);
        assert!(answer["warnings"][0].as_str().unwrap().contains("truncated"), "{answer}");
    }
    let few =
        ask(&function, "/v1/embeddings", &json!({"input": "a b c", "truncate_prompt_tokens": 1}));
    let warnings = few["warnings"].to_string();
    assert!(warnings.contains("1 token was asked for and 3 are read"), "{warnings}");
    for (body, param) in [
        (json!({"input": ""}), "input"),
        (json!({"input": []}), "input"),
        (json!({"input": "a", "embedding_type": "sparse"}), "embedding_type"),
        (json!({"input": [[999_999]]}), "input"),
        (json!({"input": "a", "prompt_name": "poem"}), "prompt_name"),
    ] {
        let (status, answer) = refused("/v1/embeddings", &body);
        assert_eq!((status, &answer["error"]["param"]), (400, &json!(param)), "{body}: {answer}");
    }
    for body in [json!({"texts": []}), json!({"text": " "})] {
        let (status, answer) = refused("/embed", &body);
        assert_eq!(status, 422, "{answer}");
    }
    let (status, answer) = refused("/embed", &json!({"inputs": [""]}));
    assert_eq!((status, &answer["error_type"]), (400, &json!("Empty")), "{answer}");
    assert_eq!(refused("/v1/rerank", &json!({"query": "a", "documents": ["a"]})).0, 404);
}

/// N23 and the probes: what the function is, and a snapshot that is none of its kind.
#[test]
fn the_function_says_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let function = start(dir.path(), "qwen3-embedding", &[]);
    let tokens = ask(&function, "/tokenize", &json!({"prompt": "Who wrote it?"}));
    let ids = &tokens["tokens"];
    let body = json!({"ids": ids, "skip_special_tokens": true});
    // Its tokenizer.json has no decoder, which would join the pieces.
    let letters = |text: &Value| text.as_str().unwrap().replace([' ', '\u{120}'], "");
    assert_eq!(letters(&ask(&function, "/decode", &body)[0]), "Whowroteit?");
    let back = ask(&function, "/detokenize", &json!({"tokens": ids}));
    assert_eq!(letters(&back["prompt"]), "Whowroteit?<|endoftext|>");
    let (_, info) = function.ask("GET", "/info", "");
    assert_eq!(info["pooling"], "lasttoken");
    for limit in [
        "max_inputs",
        "max_input_length",
        "max_client_batch_size",
        "max_body_bytes",
        "max_batch_tokens",
    ] {
        assert!(info[limit].is_u64(), "N14, {limit}: {info}");
    }
    assert_eq!(info["model_type"]["embedding"]["pooling"], "lasttoken");
    assert!(info["prompts"]["query"].as_str().unwrap().starts_with("Instruct: "), "{info}");
    let (_, models) = function.ask("GET", "/v1/models", "");
    assert_eq!(models["data"][0]["capabilities"], json!(["embed"]));
    let (_, root) = function.ask("GET", "/", "");
    assert!(root["endpoints"]["embed"].as_array().unwrap().contains(&json!("/v1/embeddings")));
    let (_, health) = function.ask("GET", "/health", "");
    assert_eq!((&health["status"], &health["embedding_dim"]), (&json!("ok"), &info["hidden_size"]));
    drop(function);
    let reranker = snapshot(dir.path(), "bert-classifier", Precision::Int8);
    let (code, line) = fails(&mut running::function(BINARY, reranker));
    assert_eq!(code, Some(1));
    assert!(line.contains("no embedding model"), "{line}");
}

/// N13: the bytes of the vectors that JSON has as numbers, and where each lies.
#[test]
fn n13_vectors_come_as_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let function = start(dir.path(), "bert-embedding", &[]);
    let mut body = json!({"input": ["rain", "sun"]});
    let answer = ask(&function, "/v1/embeddings", &body);
    let numbers: Vec<u8> = answer["data"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|one| vector(&one["embedding"]))
        .flat_map(f32::to_le_bytes)
        .collect();
    body["encoding_format"] = "bytes".into();
    let (head, bytes) = function.ask_bytes("/v1/embeddings", &body.to_string());
    assert_eq!(bytes, numbers);
    assert!(head.contains("content-type: application/octet-stream"), "{head}");
    let metadata = head.lines().find_map(|line| line.strip_prefix("metadata: ")).unwrap();
    let metadata: Value = serde_json::from_str(metadata).unwrap();
    assert_eq!(metadata["data"][1]["end"], numbers.len());
    assert_eq!(metadata["usage"], answer["usage"]);
    body["encoding_format"] = "bytes_only".into();
    let (head, bytes) = function.ask_bytes("/v1/embeddings", &body.to_string());
    assert!(bytes == numbers && !head.contains("metadata"), "{head}");
}

/// D8, D10, D18: several models under short and full names, one at a time in memory, each with its
/// own vectors and width.
#[test]
fn several_models_share_the_memory_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let models = ["bert-embedding", "xlmr-embedding", "qwen3-embedding"];
    let places: Vec<_> =
        models.iter().map(|model| snapshot(dir.path(), model, Precision::F32)).collect();
    let alone: Vec<Vec<f32>> = places
        .iter()
        .map(|place| {
            let function = Running::start(function(BINARY, place));
            vector(&ask(&function, "/embed", &json!({"text": "rain"}))["embedding"])
        })
        .collect();
    let named = |name: &str, at: usize| format!("{name}={}", places[at].display());
    let list = [named("small", 0), named("medium", 1), named("large", 2)].join(",");
    let mut command = function(BINARY, "");
    command.env_remove("MODEL").env("MODELS", list);
    command.envs([("MODEL_ALIASES", "0.6b=small,default=small"), ("MODELS_MEMORY", "1")]);
    let function = Running::start(command);
    for round in 0..2 {
        for (name, at) in
            [("medium", 1), ("tiny/qwen3-embedding", 2), ("0.6b", 0), ("large", 2), ("default", 0)]
        {
            let what = format!("{name} in round {round}");
            let answer = ask(&function, "/embed", &json!({"text": "rain", "model": name}));
            assert_eq!(vector(&answer["embedding"]), alone[at], "{what}: the same bits");
            assert_eq!(
                (&answer["model"], &answer["dim"]),
                (&json!(name), &json!(alone[at].len())),
                "{what}"
            );
            let (_, listed) = function.ask("GET", "/models", "");
            let loaded = listed["loaded_models"].as_array().unwrap();
            assert!(loaded.contains(&json!(format!("tiny/{}", models[at]))), "{what}: {loaded:?}");
            assert!(listed["data"].as_array().unwrap().len() >= 3, "{what}");
        }
    }
    let (status, refused) = function.ask("POST", "/embed", r#"{"text": "rain", "model": "huge"}"#);
    assert_eq!((status, &refused["error"]["code"]), (404, &json!("model_not_found")));
    let (_, listed) = function.ask("GET", "/models", "");
    assert_eq!(listed["default_model"], "small");
}

/// N11: with `late_chunking` the same words differ by what stands beside them; a model without
/// means refuses.
#[test]
fn n11_chunks_know_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let place = snapshot(dir.path(), "bert-embedding", Precision::F32);
    let running = Running::start(function(BINARY, &place));
    let body =
        |first: &str, late: bool| json!({"input": [first, "the city"], "late_chunking": late});
    let second = |first: &str, late: bool| {
        let answer = ask(&running, "/v1/embeddings", &body(first, late));
        assert_eq!(answer["data"].as_array().unwrap().len(), 2);
        vector(&answer["data"][1]["embedding"])
    };
    assert_eq!(second("Berlin", false), second("Paris", false));
    assert_ne!(second("Berlin", true), second("Paris", true));
    let count = |late| {
        ask(&running, "/v1/embeddings", &body("Berlin", late))["usage"]["total_tokens"].as_u64()
    };
    assert_eq!(count(true).unwrap() + 2, count(false).unwrap(), "special tokens once");

    let place = snapshot(dir.path(), "qwen3-embedding", Precision::F32);
    let running = Running::start(function(BINARY, &place));
    let (status, refused) =
        running.ask("POST", "/v1/embeddings", &body("Berlin", true).to_string());
    assert_eq!((status, &refused["error"]["param"]), (400, &json!("late_chunking")), "{refused}");
}
