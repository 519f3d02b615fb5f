//! What clients of other systems send, word for word, and what they read of the answer.

use std::io::Write as _;

use axum::body::Body;
use axum::http::Request;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::toy::{get, post, post_request, ready, send};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

fn gzipped(path: &str, encoding: &str, body: Vec<u8>) -> Request<Body> {
    let mut request = post_request(path, body);
    request.headers_mut().insert("content-encoding", encoding.parse().expect("a value"));
    request
}

#[tokio::test]
async fn compressed_bodies_are_read_within_the_limit_of_what_they_become() {
    let router = ready(&[("MAX_BODY_BYTES", "100000")]).await;
    let body = json!({"query": "a", "documents": ["x", "a"]}).to_string();
    for encoding in ["gzip", "GZIP", "x-gzip"] {
        let request = gzipped("/v1/rerank", encoding, gzip(body.as_bytes()));
        let answer = send(&router, request).await;
        assert_eq!(answer.status, 200, "{encoding}: {}", answer.text);
        assert_eq!(answer.json()["results"][0]["index"], 1);
    }
    // 50 MB in 50 KB: refused when the bound is reached, not when it is all there.
    let bomb = gzip(&vec![b' '; 50 << 20]);
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let answer = send(&router, gzipped("/v1/rerank", "gzip", bomb)).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["code"]),
        (413, &json!("payload_too_large"))
    );
    for (encoding, status) in [("gzip", 400), ("br", 415), ("zstd", 415), ("gzip, br", 415)] {
        let request = gzipped("/v1/rerank", encoding, body.clone().into_bytes());
        let answer = send(&router, request).await;
        assert_eq!(answer.status.as_u16(), status, "{encoding}: {}", answer.text);
        assert!(answer.text.contains("gzip"), "{}", answer.text);
    }
}

#[tokio::test]
async fn paths_may_have_slashes_too_many() {
    let router = ready(&[]).await;
    let body = json!({"query": "a", "documents": ["x", "a"]});
    for path in ["/v1/rerank/", "//v1/rerank", "/v1//rerank//", "//"] {
        let answer = post(&router, path, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    }
    for path in ["/health/", "//health", "/v1/models/", "/info/?model=toy"] {
        assert_eq!(get(&router, path).await.status, 200, "{path}");
    }
    assert_eq!(get(&router, "/nowhere//").await.status, 404);
    // The routes of metrics are those that the requests meant.
    let metrics = get(&router, "/metrics").await.text;
    assert!(metrics.contains(r#"route="/v1/rerank""#) && !metrics.contains("//"), "{metrics}");
}

#[tokio::test]
async fn one_model_is_told_under_each_of_its_names() {
    let router = ready(&[("SERVED_MODEL_NAME", "one, org/two")]).await;
    for name in ["one", "org/two", "toy/words"] {
        let answer = get(&router, &format!("/v1/models/{name}")).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
        let model = answer.json();
        assert_eq!((&model["id"], &model["object"]), (&json!(name), &json!("model")));
        assert_eq!(model["root"], "toy/words");
    }
    let answer = get(&router, "/v1/models/three").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["code"]),
        (404, &json!("model_not_found"))
    );

    let models = get(&router, "/models").await.json();
    let one = &models["models"]["one"];
    assert_eq!(
        (&one["status"], &one["embedding_dim"], &one["aliases"]),
        (&json!("ready"), &json!(16), &json!(["org/two"]))
    );
    assert!(one["load_time"].is_f64() && one["description"].is_string(), "{one}");
    assert_eq!(models["data"][1]["aliases"], json!(["one"]));
}

#[tokio::test]
async fn llama_cpps_clients_find_health_and_props() {
    let router = ready(&[("API_KEYS", "k")]).await;
    assert_eq!(get(&router, "/v1/health").await.json()["status"], "ok", "without a key");
    assert_eq!(get(&router, "/props").await.status, 401);
    // Azure's clients send their key in a header of this name.
    for header in ["api-key", "x-api-key", "authorization"] {
        let request = Request::get("/props").header(header, "k").body(Body::empty());
        let answer = send(&router, request.expect("a request")).await;
        assert_eq!(answer.status, 200, "{header}");
        assert_eq!(answer.json()["default_generation_settings"]["n_ctx"], 8);
    }
}

#[tokio::test]
async fn rerankers_tell_their_tokens() {
    let router = ready(&[]).await;
    let tei = post(&router, "/tokenize", &json!({"inputs": ["It rained."]})).await.json();
    assert_eq!(
        tei,
        json!([[
            {"id": 0, "text": "It", "special": false, "start": 0, "stop": 2},
            {"id": 1, "text": "rained.", "special": false, "start": 3, "stop": 10},
        ]])
    );
    let vllm = post(&router, "/tokenize", &json!({"model": "m", "prompt": "It rained."})).await;
    assert_eq!(vllm.json(), json!({"count": 2, "max_model_len": 8, "tokens": [0, 1]}));
    let llama = post(&router, "/tokenize", &json!({"content": "It rained."})).await.json();
    assert_eq!(llama, json!({"tokens": [0, 1]}));
    let text = post(&router, "/detokenize", &json!({"tokens": [0, 1]})).await.json();
    assert_eq!(text["content"], "0 1");
    let texts = post(&router, "/decode", &json!({"ids": [[0, 1], [2]]})).await.json();
    assert_eq!(texts, json!(["0 1", "2"]));
    let named = json!({"inputs": "a", "prompt_name": "query"});
    assert_eq!(
        post(&router, "/tokenize", &named).await.status,
        413,
        "TEI's status of a broken rule"
    );
}

#[tokio::test]
async fn who_asks_the_wrong_function_is_told_the_right_one() {
    let router = ready(&[]).await;
    for path in ["/v1/embeddings", "/embed", "/openai/deployments/m/embeddings", "/v1/embeddings/"]
    {
        let answer = post(&router, path, &json!({"input": "a"})).await;
        assert_eq!(answer.status, 404, "{path}");
        let message = answer.json()["message"].as_str().map(str::to_owned).unwrap_or_default();
        assert!(message.contains("the function embed"), "{path}: {message}");
    }
    let other = post(&router, "/v1/nothing", &Value::Null).await;
    assert!(other.text.contains("GET / lists the routes"), "{}", other.text);
}
