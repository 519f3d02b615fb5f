//! `defrost serve`: every kind of model behind one port.
//!
//! The tool runs as its users run it, with an `.env` beside it. What is waited for is a line of its log or the end of the
//! process, never a time.

mod client;
mod running;

use std::fs;
use std::path::{Path, PathBuf};

use defrost_testing::golden;
use serde_json::{Value, json};

use self::client::Client;
use self::running::Serving;
use super::support::{command, finish, pack};

/// The language model that this repository trains on its own pages.
fn tiny_chat() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../data/tiny-chat/model.gguf")
        .canonicalize()
        .unwrap()
}

/// A folder to serve from, with these lines as `.env`, on a free port and with its cache inside.
fn folder(env: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let usual = ["PORT=0", "CACHE_DIR=cache", "NUM_THREADS=1", "KV_TOKENS=2048"];
    fs::write(dir.path().join(".env"), [&usual, env].concat().join("\n")).unwrap();
    dir
}

/// Models of all kinds: a GGUF file, a snapshot and a checkpoint's folder.
fn of_all_kinds(more: &[&str]) -> tempfile::TempDir {
    let light = format!("LIGHT_MODEL_PATH={}", tiny_chat().display());
    let reranker =
        format!("RERANKER_MODEL_PATH={}", golden::checkpoint("bert-classifier").display());
    let lines = [&light, "EMBEDDING_MODEL_PATH=embedder.snap", &reranker];
    let dir = folder(&[&lines, more].concat());
    pack(dir.path(), "bert-embedding", "f32", "embedder.snap");
    dir
}

fn say(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "What is a snapshot?"}], "max_tokens": 8, "ignore_eos": true, "temperature": 0})
}

fn loaded(serving: &Serving) -> Vec<String> {
    let models = serving.get("/v1/models").json();
    models["loaded_models"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn c18_c20_all_kinds_answer_behind_one_port() {
    let dir = of_all_kinds(&["API_KEYS=secret"]);
    let serving = Serving::start(command(dir.path(), &["serve"])).with_key("secret");
    assert_eq!(loaded(&serving), [""; 0], "nothing is loaded before it is asked for");

    let chat = serving.post("/v1/chat/completions", &say("LIGHT")).json();
    assert!(
        chat["choices"][0]["message"]["content"].as_str().is_some_and(|text| !text.is_empty()),
        "{chat}"
    );
    assert_eq!(chat["model"], "LIGHT");
    assert_eq!(chat["usage"]["completion_tokens"], 8);
    let vectors = serving.post("/v1/embeddings", &json!({"input": ["a", "b"]})).json();
    assert_eq!(vectors["data"].as_array().map(Vec::len), Some(2), "{vectors}");
    assert_eq!(vectors["model"], "EMBEDDING");
    let ranking = json!({"query": "q", "documents": ["a", "b"], "top_n": 1, "model": "reranker"});
    let ranking = serving.post("/v1/rerank", &ranking).json();
    assert_eq!(ranking["data"].as_array().map(Vec::len), Some(1), "{ranking}");
    // C31: tokens, not words.
    assert!(ranking["usage"]["total_tokens"].as_u64().is_some_and(|count| count > 6), "{ranking}");

    // Any case, as a part, and whatever clients were written with.
    for (name, answered) in
        [("light", "LIGHT"), ("my-light-model", "LIGHT"), ("gpt-4o", "LIGHT"), ("model", "LIGHT")]
    {
        let answer = serving.post("/v1/chat/completions", &say(name)).json();
        assert_eq!(answer["model"], answered, "{name}: {answer}");
    }
    // Each path has its own models, and says who has the others.
    let answer = serving.post("/v1/chat/completions", &say("EMBEDDING"));
    assert_eq!(answer.status, 404, "{}", answer.text);
    assert!(
        answer.text.contains("/v1/embeddings") && answer.text.contains("LIGHT"),
        "{}",
        answer.text
    );
    let answer =
        serving.post("/v1/rerank", &json!({"query": "q", "documents": ["a"], "model": "light"}));
    assert!(
        answer.status == 404 && answer.text.contains("/v1/chat/completions"),
        "{}",
        answer.text
    );

    // C2
    let models = serving.get("/v1/models").json();
    let owners: Vec<(&str, &str, &str)> = models["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| {
            (
                model["id"].as_str().unwrap(),
                model["owned_by"].as_str().unwrap(),
                model["capabilities"][0].as_str().unwrap(),
            )
        })
        .filter(|(name, ..)| name.chars().all(|letter| letter.is_ascii_uppercase()))
        .collect();
    assert_eq!(
        owners,
        [
            ("LIGHT", "llmservice-light", "chat"),
            ("EMBEDDING", "llmservice-embedding", "embed"),
            ("RERANKER", "llmservice-reranker", "rerank"),
        ]
    );
    for model in models["data"].as_array().unwrap() {
        assert!(
            model["permission"].is_array()
                && model["parent"].is_null()
                && model["root"].is_string(),
            "{model}"
        );
    }
    assert_eq!(serving.get("/v1/models/RERANKER").json()["capabilities"], json!(["rerank"]));

    // Streams, and the port for those who look for it.
    let mut stream = say("LIGHT");
    stream["stream"] = json!(true);
    let text = serving.post("/v1/chat/completions", &stream).text;
    assert!(text.starts_with("data: ") && text.trim_end().ends_with("data: [DONE]"), "{text}");
    let port = fs::read_to_string(dir.path().join(".port")).unwrap();
    assert_eq!(port.trim(), serving.address.port().to_string());
    assert_eq!(serving.get("/nothing").status, 404);
}

#[test]
fn paths_of_all_services_go_by_the_model_then_by_the_body() {
    let dir = of_all_kinds(&["API_KEYS=secret"]);
    let serving = Serving::start(command(dir.path(), &["serve"])).with_key("secret");
    for path in ["/", "/invocations"] {
        let chat = serving
            .post(path, &json!({"messages": [{"role": "user", "content": "a"}], "max_tokens": 2}))
            .json();
        assert!(chat["choices"].is_array(), "{path}: {chat}");
        let vectors = serving.post(path, &json!({"input": "a"})).json();
        assert!(vectors["data"][0]["embedding"].is_array(), "{path}: {vectors}");
        let ranking = serving.post(path, &json!({"query": "q", "texts": ["a"]})).json();
        assert!(ranking[0]["score"].is_number(), "{path}: {ranking}");
    }
    let predictions = serving
        .post("/vertex", &json!({"instances": [{"inputs": "a"}, {"query": "q", "texts": ["a"]}]}))
        .json();
    assert!(
        predictions["predictions"][0][0].is_array()
            && predictions["predictions"][1][0]["score"].is_number(),
        "{predictions}"
    );
    for model in ["LIGHT", "EMBEDDING", "RERANKER"] {
        let tokens = serving.post("/tokenize", &json!({"model": model, "prompt": "a b"})).json();
        assert!(tokens["count"].as_u64().is_some_and(|count| count > 0), "{model}: {tokens}");
        assert!(serving.get(&format!("/info?model={model}")).json()["model_type"].is_object());
    }
    let root = serving.get("/").json();
    for kind in ["chat", "embed", "rerank"] {
        assert!(root["endpoints"][kind].is_array(), "{root}");
    }
    document_is_whole(&serving.get("/openapi.json").json());
}

/// Every path of every kind, every reference leads somewhere.
fn document_is_whole(document: &Value) {
    let paths = document["paths"].as_object().unwrap();
    for path in [
        "/v1/chat/completions",
        "/v1/embeddings",
        "/v1/rerank",
        "/tokenize",
        "/vertex",
        "/slots",
        "/health",
    ] {
        assert!(paths.contains_key(path), "{path}");
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).filter_map(|rest| rest.split('"').next()) {
        assert!(document.pointer(reference).is_some(), "{reference}");
    }
    let invocations = &paths["/invocations"]["post"]["requestBody"]["content"]["application/json"]
        ["schema"]["anyOf"];
    assert!(invocations.as_array().is_some_and(|forms| forms.len() >= 6), "{invocations}");
    let tags: Vec<&str> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|tag| tag["name"].as_str())
        .collect();
    assert_eq!(tags[..3], ["chat", "embed", "rerank"]);
}

/// C28: the calls of the service's client library, by their bodies and what it reads of answers.
#[test]
fn c28_the_client_of_such_services_is_answered() {
    let dir = of_all_kinds(&[]);
    let serving = Serving::start(command(dir.path(), &["serve"]));
    let client = Client::discover(dir.path());
    assert_eq!(client.health_check(), "ok");
    assert!(client.list_models().contains(&"LIGHT".to_owned()));
    let reply = client.chat("light");
    assert!(!reply.is_empty());
    assert_eq!(client.chat_stream("light"), reply, "the pieces are the whole");
    let structured = client.structured_chat("light");
    assert!(structured["done"].is_boolean(), "{structured}");
    assert!(!client.complete("light").is_empty());
    assert_eq!(client.embed("embedding").len(), 2);
    let ranking = client.rerank("reranker");
    assert_eq!(ranking.len(), 2);
    assert!(ranking[0].1 >= ranking[1].1);
    drop(serving);
}

#[test]
fn c19_each_tier_has_settings_of_its_own() {
    let dir = of_all_kinds(&[
        "HEAVY_MODEL_PATH=heavy.gguf",
        "HEAVY_MAX_TOKENS=3",
        "HEAVY_N_CTX=128",
        "HEAVY_TEMPERATURE=0",
        "HEAVY_TOP_K=7",
        "HEAVY_TOP_P=0.5",
        "HEAVY_REPEAT_PENALTY=1.5",
        "HEAVY_N_THREADS=2",
        "HEAVY_USE_MMAP=true",
        "HEAVY_N_GPU_LAYERS=-1",
        "EMBEDDING_EMBEDDING_DIMENSION=4",
        "EMBEDDING_N_CTX=16",
        "EMBEDDING_EMBEDDING_MODE=true",
        "ALLOW_NON_MRL=true",
    ]);
    fs::copy(tiny_chat(), dir.path().join("heavy.gguf")).unwrap();
    let serving = Serving::start(command(dir.path(), &["serve"]));
    let mut body = say("HEAVY");
    let Value::Object(fields) = &mut body else { unreachable!() };
    fields.remove("max_tokens");
    fields.remove("temperature");
    let replies = [0, 1].map(|_| serving.post("/v1/chat/completions", &body).json());
    assert_eq!(replies[0]["usage"]["completion_tokens"], 3, "{}", replies[0]);
    assert_eq!(
        replies[0]["choices"][0]["message"], replies[1]["choices"][0]["message"],
        "the likeliest tokens"
    );
    let heavy = serving.get("/info?model=HEAVY").json();
    assert_eq!(
        (&heavy["context_length"], &heavy["threads"], &heavy["max_tokens"]),
        (&json!(128), &json!(2), &json!(3))
    );
    let light = serving.get("/info?model=LIGHT").json();
    assert_eq!((&light["threads"], &light["max_tokens"]), (&json!(1), &Value::Null));
    assert_ne!(light["context_length"], 128);
    let vectors = serving.post("/v1/embeddings", &json!({"input": "a"})).json();
    assert_eq!(vectors["data"][0]["embedding"].as_array().map(Vec::len), Some(4), "{vectors}");
    assert_eq!(serving.get("/info?model=EMBEDDING").json()["max_input_length"], 16);
    let log = serving.end();
    assert!(log.contains("HEAVY_N_GPU_LAYERS=-1 is ignored: models run on the CPU"), "{log}");
    assert!(!log.contains("USE_MMAP"), "{log}");
}

#[test]
fn what_the_environment_says_counts_more_than_the_file() {
    let dir = of_all_kinds(&["LIGHT_MAX_TOKENS=3", "PORT_FILE=none"]);
    let mut command = command(dir.path(), &["serve", "light"]);
    command.env("LIGHT_MAX_TOKENS", "2");
    let serving = Serving::start(command);
    let info = serving.get("/info").json();
    assert_eq!(info["max_tokens"], 2, "{info}");
    // One tier was asked for: the others are no models here, and their paths say so.
    assert_eq!(serving.get("/v1/models").json()["default_model"], "LIGHT");
    let answer = serving.post("/v1/embeddings", &json!({"input": "a"}));
    assert_eq!(answer.status, 404);
    assert!(answer.text.contains("no model of this process is one to embed"), "{}", answer.text);
    assert!(!dir.path().join(".port").exists());
}

#[test]
fn c21_models_come_when_they_are_asked_for_and_go_for_others() {
    // The language model has 2.7 MB and 2.6 MB for 2,048 tokens of conversations, each of the others 0.3 MB: without keys and
    // values all three would fit.
    let dir = of_all_kinds(&["MODELS_MEMORY=5500000"]);
    let serving = Serving::start(command(dir.path(), &["serve"]));
    let has = |name: &str| loaded(&serving).iter().any(|loaded| loaded == name);
    serving.post("/v1/chat/completions", &say("LIGHT")).json();
    assert!(has("LIGHT"));
    serving.post("/v1/embeddings", &json!({"input": "a"})).json();
    assert!(has("EMBEDDING") && !has("LIGHT"), "{:?}", loaded(&serving));
    serving.post("/v1/rerank", &json!({"query": "q", "documents": ["a"]})).json();
    assert!(has("EMBEDDING") && has("RERANKER"), "two small ones fit: {:?}", loaded(&serving));
    serving.post("/v1/chat/completions", &say("LIGHT")).json();
    assert!(has("LIGHT") && !has("EMBEDDING") && !has("RERANKER"), "{:?}", loaded(&serving));
}

#[test]
fn all_are_loaded_at_start_where_that_is_wished() {
    let dir = of_all_kinds(&["LAZY_LOAD=false"]);
    let mut serving = Serving::start(command(dir.path(), &["serve"]));
    for _ in 0..3 {
        serving.read_until("INFO ready ");
    }
    assert_eq!(
        loaded(&serving).iter().filter(|name| name.chars().all(char::is_uppercase)).count(),
        3
    );
}

fn packed(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join("cache/packed")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "snap")).collect()
}

#[test]
fn a_gguf_file_is_packed_once_and_again_when_it_changes() {
    let dir = folder(&["LIGHT_MODEL_PATH=light.gguf"]);
    let file = dir.path().join("light.gguf");
    fs::copy(tiny_chat(), &file).unwrap();
    let ask = || {
        let serving = Serving::start(command(dir.path(), &["serve"]));
        serving.post("/v1/chat/completions", &say("LIGHT")).json();
        serving.end().matches("once").count()
    };
    assert_eq!((ask(), packed(dir.path()).len()), (1, 1));
    assert_eq!((ask(), packed(dir.path()).len()), (0, 1), "its stamp is known");
    // Another file of the same bytes and name is the same model.
    fs::remove_file(&file).unwrap();
    fs::copy(tiny_chat(), &file).unwrap();
    assert_eq!((ask(), packed(dir.path()).len()), (0, 1), "its bytes are known");
    let renamed = dir.path().join("other.gguf");
    fs::rename(&file, &renamed).unwrap();
    let env = fs::read_to_string(dir.path().join(".env")).unwrap();
    fs::write(dir.path().join(".env"), env.replace("light.gguf", "other.gguf")).unwrap();
    assert_eq!((ask(), packed(dir.path()).len()), (1, 2), "a model's name is part of its snapshot");
}

#[test]
fn two_processes_at_once_pack_a_file_once() {
    let dir = of_all_kinds(&["LAZY_LOAD=false", "PORT_FILE=none"]);
    let mut both = [0, 1].map(|_| Serving::start(command(dir.path(), &["serve", "LIGHT"])));
    for serving in &mut both {
        serving.read_until("INFO ready ");
    }
    let replies = both.each_ref().map(|serving| {
        serving.post("/v1/chat/completions", &say("LIGHT")).json()["choices"].clone()
    });
    assert_eq!(replies[0], replies[1]);
    let logs = both.map(Serving::end).concat();
    assert_eq!(logs.matches("once").count(), 1, "{logs}");
    assert_eq!(packed(dir.path()).len(), 1);
}

#[test]
fn models_are_named_on_the_command_line_without_any_file() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "f32", "mine.snap");
    let chat = format!("talk={}", tiny_chat().display());
    let ranks = format!("ranks={}", golden::checkpoint("bert-classifier").display());
    let args = [
        "serve",
        "--port",
        "0",
        "--cache-dir",
        "cache",
        "--kv-tokens",
        "1024",
        &chat,
        "mine",
        &ranks,
    ];
    let serving = Serving::start(command(dir.path(), &args));
    assert_eq!(serving.post("/v1/chat/completions", &say("talk")).json()["model"], "talk");
    assert_eq!(
        serving.post("/v1/embeddings", &json!({"input": "a", "model": "MINE"})).json()["data"][0]["index"],
        0
    );
    let ranking = json!({"query": "q", "documents": ["a"], "model": "ranks"});
    assert_eq!(serving.post("/v1/rerank", &ranking).json()["model"], "ranks");
    let models = serving.get("/v1/models").json();
    assert!(
        models["data"].as_array().unwrap().iter().all(|model| model["owned_by"] == "infinity"),
        "{models}"
    );
    // What was packed is found by its model's name afterwards.
    drop(serving);
    let args = ["serve", "--port", "0", "--cache-dir", "cache", "model"];
    let serving = Serving::start(command(dir.path(), &args));
    assert_eq!(serving.get("/v1/models").json()["data"][0]["capabilities"], json!(["chat"]));
}

#[test]
fn c22_c24_idleness_ends_it_and_takes_the_port_file_away() {
    let dir = of_all_kinds(&["SHUTDOWN_TIMEOUT=0.05"]);
    let serving = Serving::start(command(dir.path(), &["serve"]));
    let (code, log) = serving.wait();
    assert_eq!(code, Some(0), "{log}");
    assert!(log.contains("SHUTDOWN_TIMEOUT"), "{log}");
    assert!(!dir.path().join(".port").exists());
}

#[test]
fn every_mistake_is_told_at_once() {
    let dir = folder(&[
        "LIGHT_MODEL_PATH=nothing.gguf",
        "LIGHT_TEMPERATURE=hot",
        "MEDIUM_MODEL_PATH=embedder.snap",
        "HEAVY_MODEL_PATH=heavy.gguf",
        "HEAVY_BACKEND=mlx",
        "HEAVY_TEMPRATURE=1",
        "HEAVY_TOP_P=2",
        "MAX_QUEUE=none",
    ]);
    fs::copy(tiny_chat(), dir.path().join("heavy.gguf")).unwrap();
    let gguf = format!("EMBEDDING_MODEL_PATH={}", tiny_chat().display());
    let env = fs::read_to_string(dir.path().join(".env")).unwrap() + "\n" + &gguf;
    fs::write(dir.path().join(".env"), env).unwrap();
    pack(dir.path(), "bert-embedding", "f32", "embedder.snap");
    let done = finish(command(dir.path(), &["serve"]));
    let told = done.usage();
    for expected in [
        "LIGHT_MODEL_PATH: there is nothing at nothing.gguf: expected a snapshot",
        "MEDIUM_MODEL_PATH: expected a model of the kind chat, found embedder.snap, which is one of the kind embedder; name it as EMBEDDING_MODEL_PATH",
        "a GGUF file is packed for chat only",
        "LIGHT_TEMPERATURE: expected a number from 0 to 100, found \"hot\"",
        "HEAVY_BACKEND: expected engine",
        "HEAVY_TOP_P: expected a number above 0 to 1, found \"2\"",
        "HEAVY_TEMPRATURE: HEAVY has no setting TEMPRATURE",
        "MAX_QUEUE: expected a whole number",
    ] {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert!(told.lines().all(|line| line.starts_with("defrost: ")), "{told}");
}

#[test]
fn wrong_usage_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    pack(dir.path(), "bert-embedding", "f32", "a.snap");
    for (args, expected) in [
        (&["serve"][..], "nothing to serve: expected models on the command line"),
        (&["serve", "LIGHT"], "LIGHT: expected LIGHT_MODEL_PATH in the environment or in .env"),
        (
            &["serve", "unknown"],
            "unknown: expected a tier (LIGHT, MEDIUM, HEAVY, EMBEDDING, RERANKER), a place, NAME=PLACE",
        ),
        (&["serve", "x="], "x=: expected NAME=PLACE"),
        (&["serve", "x=a.snap", "X=a.snap"], "two models are called x"),
        (&["serve", "--env-file", "none.env"], "none.env: there is no such file"),
        (&["serve", "a", "--max-queue", "0"], "MAX_QUEUE: expected a whole number"),
    ] {
        let done = finish(command(dir.path(), args));
        assert!(done.usage().contains(expected), "{args:?}: {done:?}");
    }
    fs::write(dir.path().join("bad.env"), "LIGHT_MODEL_PATH=a b\n").unwrap();
    let done = finish(command(dir.path(), &["serve", "--env-file", "bad.env"]));
    assert!(done.usage().contains("bad.env: expected NAME=value"), "{done:?}");
    let help = finish(command(dir.path(), &["serve", "--help"])).text();
    for expected in [
        "NAME=PLACE",
        "--env-file",
        "LIGHT (chat)",
        "EMBEDDING_DIMENSION",
        "--models-memory",
        "[default: true] [env: LAZY_LOAD]",
        "[default: .port]",
    ] {
        assert!(help.contains(expected), "{expected}: {help}");
    }
}
