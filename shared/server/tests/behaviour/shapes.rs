//! Every rerank route answers in the shape of its request.

use serde_json::json;

use super::toy::{get, post, ready};

#[tokio::test]
async fn canonical_on_every_path() {
    let router = ready(&[]).await;
    let body = json!({"query": "a b", "documents": ["x", "a b", "a"], "return_documents": true});
    for path in
        ["/v1/rerank", "/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/invocations", "/"]
    {
        let answer = post(&router, path, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let json = answer.json();
        assert_eq!(json["results"][0]["index"], 1);
        assert_eq!(json["results"][0]["document"], json!({"text": "a b"}));
        assert_eq!(json["results"][2]["index"], 0);
        assert_eq!(json["model"], "toy/words");
        assert_eq!(json["score_type"], "sigmoid");
        assert_eq!(json["usage"]["total_tokens"], 10);
        assert!(json.get("data").is_none() && json.get("warnings").is_none());
        let best = json["results"][0]["relevance_score"].as_f64().expect("a number");
        assert!((best - 1.0 / (1.0 + (-1.0f64).exp())).abs() < 1e-12);
    }
}

#[tokio::test]
async fn other_shapes() {
    let router = ready(&[]).await;
    let tei =
        post(&router, "/rerank", &json!({"query": "a", "texts": ["x", "a"], "return_text": true}))
            .await
            .json();
    assert_eq!((&tei[0]["index"], &tei[0]["text"]), (&json!(1), &json!("a")));
    let single = post(&router, "/rerank", &json!({"query": "a b", "passage": "a bé"})).await.json();
    assert_eq!(
        single,
        json!({"score": 0.5, "normalized": true, "query_length": 3, "passage_length": 4})
    );
    let pairs = json!({"pairs": [
        {"query": "a", "passage": "x"}, {"query": "b", "passage": "b"}, {"query": "a", "passage": "a"},
    ]});
    let batch = post(&router, "/rerank/batch", &pairs).await.json();
    let low = 1.0 / (1.0 + 1f64.exp());
    assert_eq!(batch, json!({"scores": [low, 0.5, 0.5], "normalized": true, "pairs_count": 3}));
    let query =
        post(&router, "/rerank/query", &json!({"query": "a", "passages": ["x", "a"]})).await.json();
    assert_eq!(query["re_ranked"][0], json!({"passage": "a", "score": 0.5}));
    let mixedbread =
        json!({"model": "m", "query": "a", "input": ["x", "a"], "top_k": 1, "return_input": true});
    let mixedbread = post(&router, "/v1/reranking", &mixedbread).await.json();
    assert_eq!(
        mixedbread["data"],
        json!([{"index": 1, "score": 0.5, "input": "a", "object": "rank_result"}])
    );
    let voyage =
        json!({"query": "a", "documents": ["a"], "model": "m", "top_k": null, "truncation": true});
    let voyage = post(&router, "/v1/rerank", &voyage).await.json();
    assert_eq!(voyage["data"][0]["relevance_score"], 0.5);
}

#[tokio::test]
async fn scores_are_mapped_as_asked() {
    let score = async |router: &axum::Router, extra: serde_json::Value| {
        let mut body = json!({"query": "a b", "documents": ["a b"]});
        body.as_object_mut()
            .expect("an object")
            .extend(extra.as_object().expect("an object").clone());
        let json = post(router, "/v1/rerank", &body).await.json();
        (
            json["results"][0]["relevance_score"].as_f64().expect("a number"),
            json["score_type"].as_str().expect("a string").to_owned(),
        )
    };
    let router = ready(&[]).await;
    assert_eq!(score(&router, json!({"raw_scores": true})).await, (1.0, "logit".to_owned()));
    assert_eq!(score(&router, json!({})).await.1, "sigmoid");
    let (value, kind) = score(&router, json!({"normalize": "mxbai"})).await;
    assert!((value - 1.0 / (1.0 + 3.5f64.exp())).abs() < 1e-12);
    assert_eq!(kind, "mxbai_sigmoid");
    let router = ready(&[("NORMALIZATION", "raw")]).await;
    assert_eq!(score(&router, json!({})).await, (1.0, "logit".to_owned()));
    assert_eq!(score(&router, json!({"normalize": true})).await.1, "sigmoid");
}

/// On all three routes of the BAAI service: in [0, 1] by default, and as the setting says.
#[tokio::test]
async fn b6_normalize_is_the_settings_unless_the_request_says() {
    let asked = [
        ("/rerank", json!({"query": "a b", "passage": "a b"}), "/score"),
        ("/rerank/batch", json!({"pairs": [{"query": "a b", "passage": "a b"}]}), "/scores/0"),
        ("/rerank/query", json!({"query": "a b", "passages": ["a b"]}), "/re_ranked/0/score"),
    ];
    let sigmoid = 1.0 / (1.0 + (-1.0f64).exp());
    for (setting, normalize, expected) in [
        (None, None, sigmoid),
        (None, Some(false), 1.0),
        (None, Some(true), sigmoid),
        (Some("raw"), None, 1.0),
        (Some("raw"), Some(true), sigmoid),
        (Some("sigmoid"), None, sigmoid),
    ] {
        let vars: Vec<_> = setting.map(|value| ("NORMALIZATION", value)).into_iter().collect();
        let router = ready(&vars).await;
        for (path, body, score) in &asked {
            let mut body = body.clone();
            if let Some(normalize) = normalize {
                body["normalize"] = normalize.into();
            }
            let answer = post(&router, path, &body).await.json();
            let found = answer.pointer(score).and_then(serde_json::Value::as_f64);
            assert!(
                found.is_some_and(|found| (found - expected).abs() < 1e-12),
                "{path} {setting:?} {body}: {answer}"
            );
            if let Some(normalized) = answer.get("normalized") {
                assert_eq!(normalized, (expected < 1.0), "{path} {setting:?} {body}");
            }
        }
    }
}

/// Shapes without a place for warnings have them in a header.
#[tokio::test]
async fn fields_that_nothing_reads_are_told() {
    let router = ready(&[]).await;
    let told = "topn is not read here and was ignored: did you mean top_n?";
    for (path, body) in [
        ("/v1/rerank", json!({"query": "a", "documents": ["a"], "topn": 1})),
        ("/rerank", json!({"query": "a", "texts": ["a"], "topn": 1})),
        ("/rerank", json!({"query": "a", "passage": "a", "topn": 1})),
    ] {
        let answer = post(&router, path, &body).await;
        assert_eq!(answer.header("x-warnings"), told, "{body}");
        if path == "/v1/rerank" {
            assert_eq!(answer.json()["warnings"], json!([told]));
        }
    }
    let score = json!({"text_1": "a", "text_2": "a", "truncat": true});
    assert!(post(&router, "/score", &score).await.header("x-warnings").contains("truncate"));
}

#[tokio::test]
async fn documents_come_back_as_they_came() {
    let router = ready(&[]).await;
    let document = json!({"text": "a", "id": 7, "url": "https://a.example/1"});
    let body = json!({"query": "a", "documents": [document, "b"], "return_documents": true});
    let answer = post(&router, "/v1/rerank", &body).await.json();
    assert_eq!(answer["results"][0]["document"], document);
    assert_eq!(answer["results"][1]["document"], json!({"text": "b"}));
}

#[tokio::test]
async fn sglang_reads_a_list() {
    let router = ready(&[]).await;
    let body = json!({"model": "m", "query": "a", "documents": ["x", "a"], "instruct": "find"});
    let answer = post(&router, "/v1/rerank", &body).await;
    let list = answer.json();
    assert_eq!(
        (&list[0]["index"], &list[0]["document"], &list[0]["score"]),
        (&json!(1), &json!("a"), &json!(0.5)),
        "{list}"
    );
    assert!(answer.header("x-warnings").contains("instruction is ignored"));
}

#[tokio::test]
async fn settings_change_answers() {
    let router = ready(&[
        ("DEFAULT_TOP_N", "1"),
        ("RETURN_DATA", "always"),
        ("SERVED_MODEL_NAME", "one, two"),
    ])
    .await;
    let body = json!({"model": "two", "query": "a", "documents": ["x", "a"]});
    let json = post(&router, "/rerank", &body).await.json();
    assert_eq!(json["results"].as_array().map(Vec::len), Some(1));
    assert_eq!(json["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(json["model"], "two");
    let all = json!({"model": "else", "query": "a", "documents": ["x", "a"], "top_n": 0});
    let json = post(&router, "/rerank", &all).await.json();
    assert_eq!(json["results"].as_array().map(Vec::len), Some(2));
    assert_eq!(json["model"], "one");
    let tei = post(&router, "/rerank", &json!({"query": "a", "texts": ["x", "a"]})).await.json();
    assert_eq!(tei.as_array().map(Vec::len), Some(2), "TEI's clients need every document");
    let models = get(&router, "/v1/models").await.json();
    assert_eq!(
        (&models["data"][0]["id"], &models["data"][1]["id"]),
        (&json!("one"), &json!("two"))
    );
}

#[tokio::test]
async fn a2_results_as_an_older_service_gave_them() {
    let router = ready(&[("LEGACY_RESULTS", "true"), ("DEFAULT_TOP_N", "1")]).await;
    let body = json!({"query": "a b", "documents": ["x", "a b"]});
    let answer = post(&router, "/rerank", &body).await.json();
    let best = json!({"index": 1, "relevance_score": 1.0, "score": 1.0, "document": "a b"});
    assert_eq!((&answer["results"], &answer["score_type"]), (&json!([best]), &json!("logit")));
    assert_eq!(get(&router, "/info").await.json()["score_type"], "logit");
    let plain = post(&ready(&[]).await, "/rerank", &body).await.json();
    assert_eq!(plain["results"][0].as_object().map(serde_json::Map::len), Some(2), "{plain}");
}

#[tokio::test]
async fn truncation_is_told() {
    let router = ready(&[]).await;
    let body = json!({"query": "a", "documents": ["a", "a b c d e f g h i"]});
    let answer = post(&router, "/v1/rerank", &body).await;
    assert_eq!(answer.header("x-truncated-documents"), "1");
    assert_eq!(answer.json()["warnings"], json!(["1 of 2 documents were truncated to fit"]));
    let body = json!({"query": "a", "documents": ["a"]});
    assert_eq!(post(&router, "/v1/rerank", &body).await.header("x-truncated-documents"), "");
}

#[tokio::test]
async fn an_empty_document_is_scored() {
    let router = ready(&[]).await;
    let json =
        post(&router, "/v1/rerank", &json!({"query": "a", "documents": ["", "a"]})).await.json();
    assert_eq!(json["results"][1]["index"], 0);
}

#[tokio::test]
async fn pairs_are_scored_in_input_order() {
    let router = ready(&[("DEFAULT_TOP_N", "1")]).await;
    let body = json!({"queries": ["a", "b", "a"], "documents": ["x", "b", "a"]});
    for path in ["/v1/score", "/score"] {
        let answer = post(&router, path, &body).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let json = answer.json();
        assert!(json["id"].as_str().is_some_and(|id| id.starts_with("score-")), "{json}");
        let scores: Vec<_> = (0..3).map(|index| json["data"][index]["score"].as_f64()).collect();
        let no_match = 1.0 / (1.0 + 1f64.exp());
        assert_eq!(scores, [Some(no_match), Some(0.5), Some(0.5)]);
        assert_eq!(
            json["usage"],
            json!({"prompt_tokens": 6, "total_tokens": 6}),
            "one word on either side of three pairs"
        );
    }
    let raw = json!({"text_1": "a b", "text_2": ["a b", "x"], "use_activation": false});
    let json = post(&router, "/score", &raw).await.json();
    assert_eq!((&json["data"][0]["score"], &json["data"][1]["score"]), (&json!(1.0), &json!(-1.0)));
    assert_eq!(json["score_type"], "logit");
    let answer = post(&router, "/score", &json!({"queries": ["a", "b"], "items": ["x"]})).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["param"]),
        (400, &json!("queries"))
    );
}
