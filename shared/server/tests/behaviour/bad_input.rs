//! Bad input gets the right status, the right field and the one error body.

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::toy::{Answer, get, post, post_request, ready, send};

fn code(answer: &Answer) -> (u16, String) {
    let body = answer.json();
    assert_eq!(body["message"], body["error"]["message"], "{body}");
    assert!(body["detail"].is_string() && body["error"]["type"].is_string(), "{body}");
    (answer.status.as_u16(), body["error"]["code"].as_str().expect("a code").to_owned())
}

#[tokio::test]
async fn invalid_requests() {
    let router = ready(&[("MAX_DOCUMENTS", "2")]).await;
    for (body, param) in [
        (r#"{"query":"","documents":["a"]}"#, json!("query")),
        (r#"{"query":" ","documents":["a"]}"#, json!("query")),
        (r#"{"query":"q","documents":[]}"#, json!("documents")),
        (r#"{"query":"q","documents":null}"#, json!("documents")),
        (r#"{"query":"q","documents":123}"#, json!("documents")),
        (r#"{"query":"q","documents":[1,2,3]}"#, json!("documents[0]")),
        (r#"{"query":"q","documents":["a","b","c"]}"#, json!("documents")),
        (r#"{"query":"q","documents":["a"],"texts":["b"]}"#, json!("documents")),
        (r#"{"query":"q","documents":["a"],"top_n":-1}"#, json!("top_n")),
        ("[]", Value::Null),
        ("{", Value::Null),
        ("", Value::Null),
        (r#"{"query":"q","documents":["a"]} x"#, Value::Null),
    ] {
        let answer = send(&router, post_request("/v1/rerank", body)).await;
        if body.contains("texts") {
            assert_eq!(answer.status, 413);
            assert!(answer.json()["error"].is_string(), "TEI's own error shape");
            continue;
        }
        assert_eq!(code(&answer), (400, "invalid_request".into()), "{body}");
        assert_eq!(answer.json()["error"]["param"], param, "{body}");
    }
    let answer = send(&router, post_request("/v1/rerank", &b"{\"query\":\"\xff\"}"[..])).await;
    assert_eq!(code(&answer), (400, "invalid_request".into()));
}

#[tokio::test]
async fn tei_and_baai_errors_have_their_own_shape() {
    let router = ready(&[]).await;
    for (body, status) in [
        (r#"{"query": "", "texts": ["a"]}"#, 413),
        (r#"{"query": "q", "texts": ["a b c d e f g h i"], "truncate": false}"#, 413),
        (r#"{"texts": ["a"]}"#, 422),
        (r#"{"query": "q", "texts": 3}"#, 422),
    ] {
        let answer = send(&router, post_request("/rerank", body)).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        assert_eq!(answer.json()["error_type"], "Validation");
        assert!(answer.json()["error"].is_string());
    }
    let empty = post(&router, "/rerank", &json!({"query": "q", "texts": []})).await;
    assert_eq!((empty.status.as_u16(), &empty.json()["error_type"]), (400, &json!("Empty")));
    for (path, body, location) in [
        ("/rerank", json!({"query": " ", "passage": "p"}), json!(["body", "query"])),
        ("/rerank/batch", json!({"pairs": []}), json!(["body", "pairs"])),
        (
            "/rerank/batch",
            json!({"pairs": [{"query": "q"}]}),
            json!(["body", "pairs", 0, "passage"]),
        ),
        ("/rerank/query", json!({"query": "q", "passages": [3]}), json!(["body", "passages", 0])),
    ] {
        let answer = post(&router, path, &body).await;
        assert_eq!(answer.status, 422, "{body}");
        assert_eq!(answer.json()["detail"][0]["loc"], location, "{body}");
    }
}

#[tokio::test]
async fn the_code_says_what_is_wrong() {
    let router = ready(&[]).await;
    for (path, body, code) in [
        ("/rerank/batch", json!({"pairs": []}), "empty_input"),
        ("/rerank", json!({"query": " ", "passage": "p"}), "empty_input"),
        ("/v1/score", json!({"queries": "q", "documents": []}), "empty_input"),
        ("/v1/score", json!({"queries": "q"}), "invalid_request"),
    ] {
        let answer = post(&router, path, &body).await;
        assert_eq!(answer.json()["error"]["code"], code, "{body}");
    }
}

#[tokio::test]
async fn faults_of_the_model() {
    let router = ready(&[]).await;
    for (document, expected) in [
        ("NAN", (500, "non_finite_score")),
        ("RAW-NAN", (500, "non_finite_score")),
        ("BROKEN", (500, "internal_error")),
        ("REFUSED", (400, "invalid_request")),
    ] {
        let answer =
            post(&router, "/v1/rerank", &json!({"query": "q", "documents": [document]})).await;
        assert_eq!(code(&answer), (expected.0, expected.1.to_owned()));
        assert!(!answer.text.contains("secret") && !answer.text.contains("NaN"), "{}", answer.text);
    }
    let long = json!({"query": "q", "documents": ["a b c d e f g h i"], "truncation": false});
    let answer = post(&router, "/v1/rerank", &long).await;
    assert_eq!(code(&answer), (400, "context_length_exceeded".into()));
    for phrase in [
        "input is too large",
        "This model's maximum context length is 8 tokens",
        "Please reduce the length of the input prompt",
    ] {
        // Clients and tests of other servers look for exactly these letters.
        assert!(answer.text.contains(phrase), "{phrase} in {}", answer.text);
    }
}

#[tokio::test]
async fn routes_methods_and_types() {
    let router = ready(&[]).await;
    assert_eq!(code(&get(&router, "/nowhere").await), (404, "not_found".into()));
    let answer = get(&router, "/v1/rerank").await;
    assert_eq!(code(&answer), (405, "method_not_allowed".into()));
    assert_eq!(answer.header("allow"), "POST");
    let typed = async |content_type: Option<&str>| {
        let mut request = Request::post("/v1/rerank");
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let body = json!({"query": "q", "documents": ["a"]}).to_string();
        send(&router, request.body(Body::from(body)).expect("a request")).await
    };
    for good in [
        None,
        Some("application/json"),
        Some("Application/JSON; charset=utf-8"),
        Some("application/vnd.api+json"),
    ] {
        assert_eq!(typed(good).await.status, 200, "{good:?}");
    }
    for bad in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx"] {
        assert_eq!(code(&typed(Some(bad)).await), (415, "unsupported_media_type".into()), "{bad}");
    }
    let mut request = post_request("/v1/rerank", "x");
    request.headers_mut().insert("content-encoding", "br".parse().expect("a value"));
    assert_eq!(code(&send(&router, request).await), (415, "unsupported_media_type".into()));
}

/// Two headers of one name mean what one with both values means.
#[tokio::test]
async fn every_encoding_is_looked_at() {
    let router = ready(&[]).await;
    let body = json!({"query": "q", "documents": ["a"]}).to_string();
    for (encodings, status) in [
        (&["identity", "br"][..], 415),
        (&["br", "identity"], 415),
        (&["identity, br"], 415),
        (&["identity", "Identity"], 200),
        (&[" identity "], 200),
        (&[""], 200),
    ] {
        let mut request = post_request("/v1/rerank", body.clone());
        for encoding in encodings {
            request.headers_mut().append("content-encoding", encoding.parse().expect("a value"));
        }
        let answer = send(&router, request).await;
        assert_eq!(answer.status, status, "{encodings:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn bodies_up_to_the_limit() {
    let body = json!({"query": "q", "documents": ["aaaa"]}).to_string();
    let exact = body.len().to_string();
    let router = ready(&[("MAX_BODY_BYTES", &exact)]).await;
    assert_eq!(send(&router, post_request("/v1/rerank", body.clone())).await.status, 200);
    let longer = format!("{body} ");
    let answer = send(&router, post_request("/v1/rerank", longer.clone())).await;
    assert_eq!(code(&answer), (413, "payload_too_large".into()));
    let mut request = post_request("/v1/rerank", longer.clone());
    request.headers_mut().insert("content-length", longer.len().into());
    assert_eq!(send(&router, request).await.status, 413);
}

#[tokio::test]
async fn strict_servers_refuse_other_models() {
    let router = ready(&[("STRICT_MODEL", "true")]).await;
    let ask = |model: Value| json!({"query": "q", "documents": ["a"], "model": model});
    assert_eq!(post(&router, "/v1/rerank", &ask(json!("toy/words"))).await.status, 200);
    assert_eq!(post(&router, "/v1/rerank", &ask(Value::Null)).await.status, 200);
    let answer = post(&router, "/v1/rerank", &ask(json!("other"))).await;
    assert_eq!(code(&answer), (404, "model_not_found".into()));
}
