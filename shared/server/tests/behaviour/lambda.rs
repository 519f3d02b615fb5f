//! The Lambda way in gives the bodies that HTTP gives.
//!
//! A stub of the runtime API hands events to a child process and collects what it posts back. It
//! knows three routes: `next`, which waits for an event, and `response` and `error` of one.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};

use super::child::spawn;
use super::toy::{post as post_http, ready};

struct Stub {
    events: Mutex<mpsc::Receiver<Value>>,
    answers: mpsc::Sender<(String, Value)>,
}

async fn next(State(stub): State<Arc<Stub>>) -> Response {
    let Some(event) = stub.events.lock().await.recv().await else {
        return std::future::pending().await;
    };
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd"),
        ("lambda-runtime-deadline-ms", "99999999999999"),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:123456789012:function:toy",
        ),
        (
            "lambda-runtime-trace-id",
            "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
        ),
    ] {
        headers.insert(name, value.parse().expect("a value"));
    }
    (headers, event.to_string()).into_response()
}

async fn answered(
    State(stub): State<Arc<Stub>>,
    Path((_, kind)): Path<(String, String)>,
    body: String,
) -> StatusCode {
    let body = serde_json::from_str(&body).unwrap_or(Value::String(body));
    stub.answers.send((kind, body)).await.expect("the test listens");
    StatusCode::ACCEPTED
}

/// A function URL event, format 2.0.
fn event(method: &str, path: &str, body: Option<&str>) -> Value {
    json!({
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {
            "content-type": "application/json",
            "x-request-id": "same-id",
            "host": "abc.lambda-url.us-east-1.on.aws",
        },
        "requestContext": {
            "accountId": "anonymous",
            "apiId": "abc",
            "domainName": "abc.lambda-url.us-east-1.on.aws",
            "domainPrefix": "abc",
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "1.2.3.4", "userAgent": "t"},
            "requestId": "id",
            "routeKey": "$default",
            "stage": "$default",
            "time": "12/Mar/2020:19:03:58 +0000",
            "timeEpoch": 1_583_348_638_390_i64,
        },
        "body": body,
        "isBase64Encoded": false,
    })
}

fn without_time(mut body: Value) -> Value {
    if let Some(body) = body.as_object_mut() {
        body.remove("created");
        if body.get("id").is_some() {
            body.insert("id".into(), "-".into());
        }
    }
    body
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_bodies_as_http() {
    let (events, receiver) = mpsc::channel(8);
    let (sender, mut answers) = mpsc::channel(8);
    let stub = Arc::new(Stub { events: Mutex::new(receiver), answers: sender });
    let routes = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(answered))
        .with_state(stub);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    let (mut child, _stderr) = spawn(
        "serves",
        &[
            ("AWS_LAMBDA_RUNTIME_API", &address),
            ("AWS_LAMBDA_FUNCTION_NAME", "toy"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("LOG_LEVEL", "error"),
        ],
    );
    let http = ready(&[]).await;
    for (path, body) in [
        (
            "/v1/rerank",
            json!({"query": "a b", "documents": ["x", "a b é", "a"], "return_documents": true}),
        ),
        ("/rerank", json!({"query": "a", "texts": ["x", "a"]})),
        ("/rerank/batch", json!({"pairs": [{"query": "a", "passage": "a"}]})),
        ("/v1/rerank", json!({"query": "", "documents": ["x"]})),
        ("/nowhere", json!({})),
    ] {
        events.send(event("POST", path, Some(&body.to_string()))).await.expect("the stub listens");
        let (kind, answer) = answers.recv().await.expect("an answer");
        assert_eq!(kind, "response", "{answer}");
        let expected = post_http(&http, path, &body).await;
        assert_eq!(answer["statusCode"], expected.status.as_u16(), "{path}");
        assert_eq!(answer["isBase64Encoded"], false, "{path}");
        assert_eq!(answer["headers"]["x-request-id"], "same-id", "{path}");
        let found: Value =
            serde_json::from_str(answer["body"].as_str().expect("text")).expect("json");
        assert_eq!(without_time(found), without_time(expected.json()), "{path}");
    }
    events.send(event("GET", "/health", None)).await.expect("the stub listens");
    let (_, answer) = answers.recv().await.expect("an answer");
    assert_eq!(answer["statusCode"], 200);
    child.kill().expect("killed");
    child.wait().expect("ended");
    serving.abort();
}
