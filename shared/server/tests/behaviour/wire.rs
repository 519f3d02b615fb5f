//! What clients of other systems send, word for word, and what they read of the answer.

use std::io::Write as _;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use defrost_model::{Answers, Grouping, Matryoshka, Planned, Tokens, Wanted};
use defrost_server::{
    Config, EMBED, Function, Info, Loaded, Offer, PhaseRecorder, Pipeline, Vectorizer, router,
    start,
};
use defrost_tasks::{EmbedTask, EmbedderInfo, Embedding, Error, Input, Prepared, TextToken};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::toy::{FUNCTION, config, get, post, post_request, ready, send};

/// Longest input in words.
const MAX_WORDS: usize = 8;

/// Embeds a text as its number of words, 3 and 4.
pub(super) struct Counter {
    info: EmbedderInfo,
}

impl Counter {
    pub(super) fn new() -> Self {
        let info = EmbedderInfo {
            name: "toy/counter".into(),
            family: "bert".into(),
            pooling: "mean",
            hidden: 3,
            layers: 2,
            matryoshka: Matryoshka::No,
            normalizes: true,
            prompts: std::collections::BTreeMap::new(),
            default_prompt: None,
            takes_instruction: false,
            max_length: MAX_WORDS,
            vocab: 1000,
            has_sparse: false,
            has_colbert: false,
            has_tokens: false,
            precision: "f32".into(),
            backend: "engine",
            kernel: "portable",
            threads: 1,
            snapshot: "00ff".into(),
            bytes: 100,
        };
        Self { info }
    }
}

impl Vectorizer for Counter {
    fn facts(&self) -> &EmbedderInfo {
        &self.info
    }

    fn prepare(&self, request: &EmbedTask) -> Result<Prepared<Vec<Embedding>>, Error> {
        let request = request.clone();
        let ids = |input: &Input| match input {
            Input::Text(text) => vec![1; text.split_whitespace().count().max(1)],
            Input::Tokens(ids) => ids.clone(),
        };
        let found: Vec<usize> = request.inputs.iter().map(|input| ids(input).len()).collect();
        let sequences = request.inputs.iter().map(|input| {
            let mut ids = ids(input);
            ids.truncate(MAX_WORDS);
            Tokens { ids, types: Vec::new() }
        });
        let sequences = sequences.collect();
        Ok(Prepared::new(sequences, Grouping::AsTheyCome, Wanted::default(), move |said| {
            let embedding = |(one, &found): (&defrost_tasks::Said<'_>, &usize)| {
                let mut dense = one.map_or(Vec::new(), |(_, answer)| answer.pooled.clone());
                dense.truncate(request.dimensions.unwrap_or(3));
                if request.normalize == Some(true) {
                    let length = dense.iter().map(|value| value * value).sum::<f32>().sqrt();
                    for value in &mut dense {
                        *value /= length;
                    }
                }
                let truncated = found > MAX_WORDS;
                let token_count = found.min(MAX_WORDS);
                Embedding { dense, token_count, truncated, ..Embedding::default() }
            };
            Ok(said.iter().zip(&found).map(embedding).collect())
        }))
    }
}

impl Pipeline for Counter {
    fn info(&self) -> Info {
        (&self.info).into()
    }

    #[allow(clippy::cast_precision_loss, reason = "a handful of words")]
    fn run(&self, sequences: &[Planned<'_>], _: Wanted) -> Result<Vec<Answers>, Error> {
        let answer = |Planned { tokens, .. }: &Planned<'_>| Answers {
            pooled: vec![tokens.ids.len() as f32, 3.0, 4.0],
            ..Answers::default()
        };
        Ok(sequences.iter().map(answer).collect())
    }

    fn sample(&self) -> Result<Prepared<()>, Error> {
        let inputs = vec!["a".into()];
        let request = EmbedTask { inputs, ..EmbedTask::default() };
        Ok(self.prepare(&request)?.map(drop))
    }

    fn tokenize(&self, text: &str, _: bool) -> Result<Vec<TextToken>, Error> {
        let token =
            |_| TextToken { id: 1, piece: String::new(), bytes: None, chars: None, special: false };
        Ok(text.split_whitespace().map(token).collect())
    }
}

async fn embedder() -> Router {
    let function = Function { name: "counter", ..FUNCTION };
    let load = |_: &Config, _: &PhaseRecorder| Ok(Loaded::vectorizer(Counter::new()));
    let offers = [Offer::new(&EMBED, load)];
    let app = start(function, config(&[]), Arc::new(PhaseRecorder::start()), offers);
    let app = app.expect("a thread starts");
    app.booted().await;
    router(app)
}

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
    // Bytes that are no text are no name.
    assert_eq!(get(&router, "/v1/models/%FF").await.json()["error"]["code"], "model_not_found");
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

/// What is no text is no model's name, and must not be taken for none.
#[tokio::test]
async fn an_address_that_names_no_text_has_no_model() {
    let router = embedder().await;
    let answer = post(&router, "/openai/deployments/%ff/embeddings", &json!({"input": "a"})).await;
    assert_eq!(answer.status, 404, "{}", answer.text);
}

#[tokio::test]
async fn llama_cpps_own_embeddings() {
    let router = embedder().await;
    let plain = json!({"content": ["a b", {"prompt_string": "c"}], "embd_normalize": -1});
    let answer = post(&router, "/embedding", &plain).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(
        answer.json(),
        json!([
            {"index": 0, "embedding": [[2.0, 3.0, 4.0]]},
            {"index": 1, "embedding": [[1.0, 3.0, 4.0]]},
        ])
    );
    for (embd_normalize, expected) in [
        (0, json!([16380.0, 24570.0, 32760.0])),
        (1, json!([0.222_222_22, 0.333_333_34, 0.444_444_45])),
    ] {
        let body = json!({"content": "a b", "embd_normalize": embd_normalize});
        let answer = post(&router, "/embeddings", &body).await.json();
        assert_eq!(answer[0]["embedding"][0], expected, "{embd_normalize}");
    }
    // One input of ids and words: five of them.
    let mixed = json!({"content": [12, 34, "a b", 56], "embd_normalize": -1});
    let answer = post(&router, "/embedding", &mixed).await.json();
    assert_eq!(answer, json!([{"index": 0, "embedding": [[5.0, 3.0, 4.0]]}]));
}

#[tokio::test]
async fn azures_addresses_and_vllms_pooling() {
    let router = embedder().await;
    let body = json!({"input": "a b", "use_activation": false});
    for path in [
        "/openai/deployments/text-embedding-3-small/embeddings?api-version=2024-02-01",
        "/openai/v1/embeddings",
        "/v1/embeddings",
    ] {
        let answer = post(&router, path, &body).await.json();
        assert_eq!(answer["data"][0]["embedding"], json!([2.0, 3.0, 4.0]), "{path}");
    }
    let answer = post(&router, "/pooling", &body).await.json();
    assert_eq!(answer["data"], json!([{"index": 0, "object": "pooling", "data": [2.0, 3.0, 4.0]}]));
    let other = post(&router, "/v1/rerank", &json!({"query": "a", "documents": ["a"]})).await;
    assert_eq!(other.status, 404);
    assert!(other.text.contains("rerank-cpu-int8"), "{}", other.text);
}

#[tokio::test]
async fn dimensions_are_fitted_and_it_is_said() {
    let router = embedder().await;
    let ask = async |dimensions: usize| {
        let body = json!({"input": "a", "dimensions": dimensions, "use_activation": false});
        let answer = post(&router, "/v1/embeddings", &body).await.json();
        (answer["data"][0]["embedding"].clone(), answer["warnings"][0].clone())
    };
    let (vector, warning) = ask(2).await;
    assert_eq!(vector, json!([1.0, 3.0]));
    assert!(warning.as_str().is_some_and(|text| text.contains("not trained")), "{warning}");
    let (vector, warning) = ask(1024).await;
    assert_eq!(vector, json!([1.0, 3.0, 4.0]));
    assert!(
        warning.as_str().is_some_and(|text| text.contains("dimensions is ignored")),
        "{warning}"
    );
    assert_eq!(ask(3).await.1, Value::Null);
}

/// TEI cuts by default, and its answers have no place for a warning but a header.
#[tokio::test]
async fn tei_cuts_by_default_with_its_own_statuses_and_headers() {
    let router = embedder().await;
    let long = "a b c d e f g h i";
    let answer =
        post(&router, "/embed", &json!({"inputs": [long, "é b"], "normalize": false})).await;
    assert_eq!(answer.json()[0], json!([8.0, 3.0, 4.0]));
    assert_eq!(answer.header("x-warnings"), "1 of 2 inputs were truncated to fit");
    assert_eq!(answer.header("x-compute-type"), "cpu");
    assert_eq!(answer.header("x-compute-characters"), "20");
    assert_eq!(answer.header("x-compute-tokens"), "10");
    for name in [
        "x-compute-time",
        "x-total-time",
        "x-tokenization-time",
        "x-queue-time",
        "x-inference-time",
    ] {
        assert!(answer.header(name).parse::<u64>().is_ok(), "{name}: {}", answer.header(name));
    }
    for (body, status) in [
        (r#"{"inputs": ""}"#, 400),
        (r#"{"inputs": "a", "prompt_name": "query", "prompt": "q"}"#, 413),
        (r#"{"inputs": 3}"#, 422),
        (r#"{"inputs": "#, 422),
    ] {
        let answer = send(&router, post_request("/embed", body)).await;
        assert_eq!(answer.status.as_u16(), status, "{body}: {}", answer.text);
    }
    let metrics = get(&router, "/metrics").await.text;
    for line in [
        r#"te_request_count{method="batch"} 1"#,
        r#"te_request_success{method="batch"} 1"#,
        r#"te_request_failure{err="validation"} 4"#,
        "te_embed_count 2",
        "te_embed_success 2",
        "te_request_inference_duration_count 1",
        "te_request_input_length_count 2",
        "te_queue_size 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    assert_eq!(metrics.matches("# EOF").count(), 1);
}

#[tokio::test]
async fn pairs_are_predicted_and_classified() {
    let router = ready(&[]).await;
    let one = post(&router, "/predict", &json!({"inputs": ["a", "a"]})).await;
    assert_eq!(one.json(), json!([{"score": 0.5, "label": "LABEL_0"}]), "{}", one.text);
    let raw = json!({"inputs": [["a b", "a b"], ["a", "x"]], "raw_scores": true});
    assert_eq!(
        post(&router, "/predict", &raw).await.json(),
        json!([[{"score": 1.0, "label": "LABEL_0"}], [{"score": -1.0, "label": "LABEL_0"}]])
    );
    let classes = post(&router, "/classify", &json!({"model": "m", "input": [["a", "a"]]})).await;
    assert_eq!(
        classes.json()["data"],
        json!([{"index": 0, "label": "LABEL_0", "probs": [0.5], "num_classes": 1}])
    );
    let alone = post(&router, "/predict", &json!({"inputs": "a text alone"})).await;
    assert_eq!(alone.status, 422);
    assert!(alone.text.contains("this model scores pairs"), "{}", alone.text);
}

#[tokio::test]
async fn vertex_instances_are_answered_one_by_one() {
    let router = ready(&[]).await;
    let body = json!({"instances": [
        {"query": "a", "texts": ["x", "a"], "raw_scores": true},
        {"inputs": ["a", "a"]},
    ]});
    let answer = post(&router, "/vertex", &body).await;
    assert_eq!(
        answer.json(),
        json!({"predictions": [
            [{"index": 1, "score": 0.0}, {"index": 0, "score": -1.0}],
            [{"score": 0.5, "label": "LABEL_0"}],
        ]}),
        "{}",
        answer.text
    );
    assert_eq!(answer.header("x-compute-characters"), "5", "a, x and a, and a pair of a and a");
    let bad =
        json!({"instances": [{"query": "a", "texts": ["a"]}, {"query": " ", "texts": ["a"]}]});
    let answer = post(&router, "/vertex", &bad).await;
    assert_eq!(answer.status, 413);
    assert!(answer.text.contains("instances[1]: query"), "{}", answer.text);
    assert_eq!(answer.json()["error_type"], "Validation");
    // Whatever is wrong, and wherever.
    for body in [json!({"instances": []}), json!({"instances": [{"inputs": 3}]}), json!([])] {
        let answer = post(&router, "/vertex", &body).await;
        assert!(answer.json()["error_type"].is_string(), "{}", answer.text);
    }

    let long = "w ".repeat(MAX_WORDS + 1);
    let answer = post(
        &embedder().await,
        "/vertex",
        &json!({"instances": [{"inputs": [long, "a"]}, {"inputs": "a", "foo": 1}, {"inputs": long}], "parameters": 1}),
    )
    .await;
    assert_eq!(answer.header("x-truncated-inputs"), "2");
    let warnings = answer.header("x-warnings");
    for part in [
        "parameters is not read",
        "instances[0]: 1 of 2 inputs",
        "instances[1]: foo is",
        "instances[2]: 1 of 1",
    ] {
        assert!(warnings.contains(part), "{warnings}");
    }

    let router = embedder().await;
    let body = json!({"instances": [{"inputs": "a b", "normalize": false}, {"inputs": ["a"], "normalize": false}]});
    let answer = post(&router, "/vertex", &body).await.json();
    assert_eq!(answer, json!({"predictions": [[[2.0, 3.0, 4.0]], [[1.0, 3.0, 4.0]]]}));
}
