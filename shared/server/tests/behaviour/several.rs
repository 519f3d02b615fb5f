//! Several services in one process: whose a request is, and which model it means.

use std::sync::Arc;

use axum::Router;
#[cfg(feature = "chat")]
use defrost_server::CHAT;
use defrost_server::{
    Config, EMBED, Loaded, NamedModel, Offer, PhaseRecorder, RERANK, router, start,
};
use serde_json::{Value, json};

#[cfg(feature = "chat")]
use super::chat::toy::Echo;
use super::openapi::same_routes;
use super::toy::{FUNCTION, Toy, config, get, post};
use super::wire::Counter;

/// A process with a reranker, two embedders and, where that is built in, a language model, whose
/// names are those of tiers if so wished.
async fn process(tiers: bool, vars: &[(&str, &str)]) -> Router {
    let mut config = config(vars);
    config.tiers = tiers;
    let model = |name: &str, kind| {
        let mut model = NamedModel::new(name, format!("/nowhere/{name}"));
        model.kind = Some(kind);
        model
    };
    config.models = vec![
        model("RERANKER", "rerank"),
        model("EMBEDDING", "embed"),
        model("SECOND", "embed"),
        #[cfg(feature = "chat")]
        model("LIGHT", "chat"),
    ];
    let embeds = |_: &Config, _: &PhaseRecorder| Ok(Loaded::vectorizer(Counter::new()));
    let ranks = |_: &Config, _: &PhaseRecorder| Ok(Loaded::scorer(Toy::new()));
    let offers = vec![
        Offer::new(&RERANK, ranks),
        Offer::new(&EMBED, embeds),
        #[cfg(feature = "chat")]
        Offer::new(&CHAT, |_: &Config, _: &PhaseRecorder| Ok(Loaded::completer(Echo::new()))),
    ];
    let app = start(FUNCTION, config, Arc::new(PhaseRecorder::start()), offers);
    let app = app.expect("threads start");
    app.booted().await;
    router(app)
}

fn texts(model: Option<&str>) -> Value {
    json!({"input": "a b", "model": model})
}

fn ranking(model: Option<&str>) -> Value {
    json!({"query": "a b", "documents": ["a b"], "model": model})
}

#[tokio::test]
async fn a_path_decides_the_service_and_a_name_the_model() {
    let router = process(false, &[]).await;
    for (path, body, model) in [
        ("/v1/embeddings", texts(None), "EMBEDDING"),
        ("/v1/embeddings", texts(Some("SECOND")), "SECOND"),
        ("/v1/rerank", ranking(None), "RERANKER"),
        ("/v1/rerank", ranking(Some("RERANKER")), "RERANKER"),
    ] {
        let answer = post(&router, path, &body).await;
        assert_eq!((answer.status.as_u16(), &answer.json()["model"]), (200, &json!(model)));
    }
    for (path, body, other) in [
        ("/v1/embeddings", texts(Some("RERANKER")), "/v1/rerank"),
        ("/v1/rerank", ranking(Some("SECOND")), "/v1/embeddings"),
    ] {
        let answer = post(&router, path, &body).await;
        let error = &answer.json()["error"];
        assert_eq!((answer.status.as_u16(), &error["code"]), (404, &json!("model_not_found")));
        assert!(answer.text.contains(&format!("but on {other}")), "{}", answer.text);
    }
    // Names are exact where they are no tiers.
    for name in ["embedding", "gpt"] {
        let answer = post(&router, "/v1/embeddings", &texts(Some(name))).await;
        assert_eq!(answer.status, 404, "{name}");
        assert!(answer.text.contains("EMBEDDING, SECOND"), "{}", answer.text);
        assert!(!answer.text.contains("RERANKER"), "{}", answer.text);
    }
}

#[tokio::test]
async fn names_of_tiers_are_read_as_their_clients_write_them() {
    let router = process(true, &[]).await;
    for (name, model) in [
        ("EMBEDDING", "EMBEDDING"),
        ("embedding", "EMBEDDING"),
        ("Second", "SECOND"),
        ("my-second-model", "SECOND"),
        ("toy/counter", "EMBEDDING"),
        ("gpt-4o", "EMBEDDING"),
    ] {
        let answer = post(&router, "/v1/embeddings", &texts(Some(name))).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
        let answered = answer.json()["model"].as_str().expect("a name").to_owned();
        assert!([model, name].contains(&&*answered), "{name}: {answered}");
    }
    let answer = post(&router, "/v1/embeddings", &texts(Some("reranker"))).await;
    assert_eq!(answer.status, 404, "{}", answer.text);
    let strict = process(true, &[("STRICT_MODEL", "true")]).await;
    let status = async |name| post(&strict, "/v1/embeddings", &texts(Some(name))).await.status;
    assert_eq!(status("second").await, 200);
    assert_eq!(status("gpt-4o").await, 404);
}

#[tokio::test]
async fn bodies_say_whose_they_are_where_all_services_answer() {
    let router = process(true, &[]).await;
    for path in ["/", "/invocations"] {
        let answer = post(&router, path, &ranking(None)).await.json();
        assert!(answer["results"].is_array(), "{path}: {answer}");
        let answer = post(&router, path, &texts(None)).await.json();
        assert!(answer["data"][0]["embedding"].is_array(), "{path}: {answer}");
        // The model counts more than the keys.
        let answer = post(&router, path, &texts(Some("reranker"))).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text);
        let answer = post(&router, path, &json!({})).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.text);
        #[cfg(feature = "chat")]
        {
            let body = json!({"messages": [{"role": "user", "content": "hello"}]});
            let answer = post(&router, path, &body).await.json();
            assert_eq!(answer["choices"][0]["message"]["content"], "hello", "{path}: {answer}");
        }
    }
    let body = json!({"instances": [{"inputs": "a"}, {"query": "a", "texts": ["a"]}]});
    let answer = post(&router, "/vertex", &body).await.json();
    assert_eq!(answer["predictions"].as_array().map(Vec::len), Some(2), "{answer}");
}

#[tokio::test]
async fn what_is_told_is_told_of_all() {
    let router = process(true, &[]).await;
    same_routes(&router, "SECOND").await;
    let models = get(&router, "/v1/models").await.json();
    let kinds: Vec<&Value> = models["data"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|model| !model["id"].as_str().is_some_and(|name| name.contains('/')))
        .map(|model| &model["capabilities"][0])
        .collect();
    assert_eq!(kinds[..3], ["rerank", "embed", "embed"]);
    for (name, own) in [("RERANKER", "score_type"), ("SECOND", "pooling")] {
        let info = get(&router, &format!("/info?model={name}")).await.json();
        assert!(info[own].is_string(), "{info}");
        let body = json!({"model": name, "prompt": "a b"});
        let tokens = post(&router, "/tokenize", &body).await.json();
        assert_eq!(tokens["count"], 2, "{tokens}");
    }
    assert_eq!(get(&router, "/nothing").await.status, 404);
}

/// Of what could be served, that which has no model says so on its paths.
#[tokio::test]
async fn a_service_without_a_model_says_so() {
    let load = |_: &Config, _: &PhaseRecorder| Ok(Loaded::scorer(Toy::new()));
    let never = |_: &Config, _: &PhaseRecorder| unreachable!("it has no model");
    let offers = [Offer::new(&RERANK, load), Offer::new(&EMBED, never)];
    let app = start(FUNCTION, config(&[]), Arc::new(PhaseRecorder::start()), offers);
    let app = app.expect("threads start");
    app.booted().await;
    let router = router(app);
    assert_eq!(post(&router, "/v1/rerank", &ranking(None)).await.status, 200);
    let answer = post(&router, "/v1/embeddings", &texts(None)).await;
    assert_eq!(answer.status, 404);
    assert!(answer.text.contains("no model of this process is one to embed"), "{}", answer.text);
    let document = get(&router, "/openapi.json").await.json();
    assert!(document["paths"].get("/v1/embeddings").is_none());
}
