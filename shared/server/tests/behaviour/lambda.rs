//! The Lambda way in gives the bodies that HTTP gives.
//!
//! A stub of the runtime API hands events to a child process and collects what it posts back. It
//! knows `next`, which waits for an event, `response` and `error` of one, and for `SnapStart`
//! `restore/next`, which answers at once as if a copy had just been started, and the two routes for
//! errors outside of events. What it is asked, and what the child tells of its hooks, is one list.

use std::io::{BufReader, Read as _};
use std::process::{Child, ChildStderr};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Mutex, mpsc};
use tokio::task::{JoinHandle, spawn_blocking};

use super::child::spawn;
use super::toy::{post as post_http, ready};

struct Stub {
    events: Mutex<mpsc::Receiver<Value>>,
    answers: mpsc::Sender<(String, Value)>,
    journal: std::sync::Mutex<Vec<String>>,
}

impl Stub {
    fn note(&self, what: impl Into<String>) {
        self.journal.lock().expect("no panic").push(what.into());
    }

    /// The list up to the first answer or error.
    fn journal(&self) -> Vec<String> {
        let journal = self.journal.lock().expect("no panic");
        let ends = |what: &String| what == "response" || what.ends_with("error");
        let end = journal.iter().position(ends).expect("an answer or an error");
        journal[..=end].to_vec()
    }
}

/// The stub, running.
struct Running {
    stub: Arc<Stub>,
    address: String,
    events: mpsc::Sender<Value>,
    answers: mpsc::Receiver<(String, Value)>,
    serving: JoinHandle<std::io::Result<()>>,
}

async fn start() -> Running {
    let (events, receiver) = mpsc::channel(8);
    let (sender, answers) = mpsc::channel(8);
    let stub = Arc::new(Stub {
        events: Mutex::new(receiver),
        answers: sender,
        journal: std::sync::Mutex::default(),
    });
    let routes = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(answered))
        .route("/2018-06-01/runtime/restore/next", get(restored))
        .route("/2018-06-01/runtime/{phase}/error", post(failed))
        .route("/told/{what}", post(told))
        .with_state(Arc::clone(&stub));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let serving = tokio::spawn(async move { axum::serve(listener, routes).await });
    Running { stub, address, events, answers, serving }
}

impl Running {
    fn spawn(&self, kind: &str, vars: &[(&str, &str)]) -> (Child, BufReader<ChildStderr>) {
        let own = [
            ("AWS_LAMBDA_RUNTIME_API", self.address.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", "toy"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("LOG_LEVEL", "error"),
            ("TELL", &self.address),
        ];
        spawn(kind, &[&own, vars].concat())
    }
}

async fn restored(State(stub): State<Arc<Stub>>) {
    stub.note("restore/next");
}

async fn told(State(stub): State<Arc<Stub>>, Path(what): Path<String>) {
    stub.note(what);
}

async fn failed(
    State(stub): State<Arc<Stub>>,
    Path(phase): Path<String>,
    body: String,
) -> StatusCode {
    stub.note(format!("{phase}/error"));
    let body = serde_json::from_str(&body).expect("json");
    stub.answers.send((phase, body)).await.expect("the test listens");
    StatusCode::ACCEPTED
}

async fn next(State(stub): State<Arc<Stub>>) -> Response {
    stub.note("invocation/next");
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

/// The content type of an answer that is a prelude, eight zeros and the bytes of a body.
const STREAMED: &str = "application/vnd.awslambda.http-integration-response";

async fn answered(
    State(stub): State<Arc<Stub>>,
    Path((_, kind)): Path<(String, String)>,
    headers: HeaderMap,
    body: String,
) -> StatusCode {
    stub.note(kind.as_str());
    let body = if headers.get("content-type").is_some_and(|value| value == STREAMED) {
        assert_eq!(headers["lambda-runtime-function-response-mode"], "streaming");
        assert!(!headers.contains_key("content-length"), "sent in chunks");
        let (prelude, bytes) = body.split_once("\0\0\0\0\0\0\0\0").expect("eight zeros");
        let mut answer: Value = serde_json::from_str(prelude).expect("a prelude");
        answer["streamed"] = bytes.into();
        answer
    } else {
        serde_json::from_str(&body).unwrap_or(Value::String(body))
    };
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
    let running = start().await;
    let (mut child, _stderr) = running.spawn("serves", &[]);
    let Running { events, mut answers, serving, .. } = running;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn response_stream_posts_prelude_and_bytes_to_urls_and_whole_answers_to_others() {
    let running = start().await;
    let (mut child, _stderr) = running.spawn("serves", &[("INVOKE_MODE", "RESPONSE_STREAM")]);
    let Running { events, mut answers, serving, .. } = running;
    let http = ready(&[]).await;
    for (path, body) in [
        ("/v1/rerank", json!({"query": "a b", "documents": ["x", "a b é", "a"]})),
        ("/v1/rerank", json!({"query": "", "documents": ["x"]})),
    ] {
        let expected = post_http(&http, path, &body).await;
        let mut sent = event("POST", path, Some(&body.to_string()));
        events.send(sent.clone()).await.expect("the stub listens");
        let (kind, answer) = answers.recv().await.expect("an answer");
        assert_eq!(
            (kind.as_str(), &answer["statusCode"]),
            ("response", &json!(expected.status.as_u16()))
        );
        assert_eq!(answer["headers"]["content-type"], "application/json", "{answer}");
        assert_eq!(answer["headers"]["x-request-id"], "same-id", "{answer}");
        let found =
            serde_json::from_str(answer["streamed"].as_str().expect("bytes")).expect("json");
        assert_eq!(without_time(found), without_time(expected.json()), "{path}");

        sent["requestContext"].as_object_mut().expect("an object").remove("domainName");
        events.send(sent).await.expect("the stub listens");
        let (_, answer) = answers.recv().await.expect("an answer");
        assert_eq!(answer["statusCode"], expected.status.as_u16());
        let found = serde_json::from_str(answer["body"].as_str().expect("whole")).expect("json");
        assert_eq!(without_time(found), without_time(expected.json()), "{path}");
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    serving.abort();
}

/// A reply is posted as its events where the way in can stream, and as all of them at once where it cannot.
#[cfg(feature = "chat")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replies_are_posted_as_streams_of_events() {
    let body =
        json!({"messages": [{"role": "user", "content": "hé"}], "temperature": 0, "stream": true});
    let sent = event("POST", "/v1/chat/completions", Some(&body.to_string()));
    for (mode, place) in [("RESPONSE_STREAM", "streamed"), ("BUFFERED", "body")] {
        let running = start().await;
        let (mut child, _stderr) = running.spawn("chats", &[("INVOKE_MODE", mode)]);
        let Running { events, mut answers, serving, .. } = running;
        events.send(sent.clone()).await.expect("the stub listens");
        let (kind, answer) = answers.recv().await.expect("an answer");
        assert_eq!((kind.as_str(), &answer["statusCode"]), ("response", &json!(200)), "{answer}");
        assert_eq!(answer["headers"]["content-type"], "text/event-stream", "{answer}");
        let text = answer[place].as_str().expect("events");
        let content = super::chat::joined(&super::chat::events(text), "content");
        assert_eq!(content, "hé", "{mode}: {text}");
        assert!(text.ends_with("data: [DONE]\n\n"), "{mode}: {text}");
        child.kill().expect("killed");
        child.wait().expect("ended");
        serving.abort();
    }
}

/// An event that a gateway or a load balancer sent, as it was recorded.
fn recorded(name: &str) -> Value {
    let path = format!("{}/../../data/cases/lambda-events/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(path).expect("a recorded event")).expect("json")
}

/// The event with these values at these places.
fn changed(mut event: Value, changes: &[(&str, Value)]) -> Value {
    for (place, value) in changes {
        let (object, key) = place.rsplit_once('/').expect("a pointer");
        event.pointer_mut(object).expect("there")[key] = value.clone();
    }
    event
}

/// Requests for `/v1/rerank` from whatever a function can be behind.
fn ways_in() -> Vec<(&'static str, Value)> {
    let prod = "/prod/v1/rerank";
    let url = || recorded("function-url-control");
    let http_api = || recorded("http-api-named-stage");
    let rest = || recorded("rest-api-v1");
    let proxy = json!({"proxy": "v1/rerank"});
    vec![
        ("a function url", url()),
        ("an http api with a named stage", http_api()),
        (
            "one whose stage is called as our routes begin",
            changed(
                http_api(),
                &[("/rawPath", json!("/v1/v1/rerank")), ("/requestContext/stage", json!("v1"))],
            ),
        ),
        (
            "the same under a domain of its own, where paths have no stage",
            changed(
                http_api(),
                &[
                    ("/rawPath", json!("/v1/rerank")),
                    ("/requestContext/stage", json!("v1")),
                    ("/requestContext/domainName", json!("api.example.com")),
                ],
            ),
        ),
        (
            "one under a part of a domain",
            changed(
                http_api(),
                &[
                    ("/rawPath", json!("/models/v1/rerank")),
                    ("/routeKey", json!("ANY /{proxy+}")),
                    ("/pathParameters", proxy.clone()),
                    ("/requestContext/domainName", json!("api.example.com")),
                ],
            ),
        ),
        ("a rest api", rest()),
        ("a rest api with a domain of its own", recorded("rest-api-v1-custom-domain")),
        (
            "a rest api under a part of a domain",
            changed(
                recorded("rest-api-v1-custom-domain"),
                &[("/path", json!("/models/v1/rerank"))],
            ),
        ),
        (
            "a rest api with a resource for each route",
            changed(
                rest(),
                &[("/resource", json!("/v1/rerank")), ("/pathParameters", Value::Null)],
            ),
        ),
        (
            "a rest api whose stage is called as our routes begin",
            changed(rest(), &[("/requestContext/stage", json!("v1"))]),
        ),
        (
            "an http api with events of format 1.0, whose paths have the stage",
            changed(rest(), &[("/version", json!("1.0")), ("/path", json!(prod))]),
        ),
        ("a load balancer", recorded("alb")),
        (
            "a load balancer that sends headers as lists",
            changed(
                recorded("alb"),
                &[
                    ("/headers", Value::Null),
                    (
                        "/multiValueHeaders",
                        json!({"content-type": ["application/json"], "host": ["lb"]}),
                    ),
                ],
            ),
        ),
        (
            "a load balancer that lets any host through",
            changed(recorded("alb"), &[("/headers/host", json!("% ^"))]),
        ),
        (
            "a url with a query that no uri can hold",
            changed(url(), &[("/rawQueryString", json!("a=\"<é b>\"&c"))]),
        ),
    ]
}

/// C16, F13: whatever a function can be behind, the route is the one that was meant, and the answer
/// has its envelope.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_in_finds_its_route() {
    let body = json!({"query": "q", "documents": ["a"]});
    let http = ready(&[]).await;
    let expected = post_http(&http, "/v1/rerank", &body).await;
    let events = ways_in();
    for mode in ["BUFFERED", "RESPONSE_STREAM"] {
        let running = start().await;
        let (mut child, _stderr) = running.spawn("serves", &[("INVOKE_MODE", mode)]);
        let Running { events: send, mut answers, serving, .. } = running;
        for (what, event) in &events {
            send.send(event.clone()).await.expect("the stub listens");
            let (kind, answer) = answers.recv().await.expect("an answer");
            assert_eq!(
                (kind.as_str(), &answer["statusCode"]),
                ("response", &json!(200)),
                "{what}: {answer}"
            );
            let is_balancer = event["requestContext"].get("elb").is_some();
            let streams = mode == "RESPONSE_STREAM" && !is_balancer;
            let text = answer[if streams { "streamed" } else { "body" }].as_str().expect("a body");
            let found = serde_json::from_str(text).expect("json");
            assert_eq!(without_time(found), without_time(expected.json()), "{what}");
            let lists = &answer["multiValueHeaders"]["content-type"];
            if is_balancer {
                assert_eq!(answer["statusDescription"], "200 OK", "{what}");
                assert_eq!(answer["headers"]["content-type"], "application/json", "{what}");
                assert_eq!(lists, &json!(["application/json"]), "{what}");
            } else if !streams && event.get("httpMethod").is_some() {
                assert_eq!(lists, &json!(["application/json"]), "{what}");
            }
        }
        child.kill().expect("killed");
        child.wait().expect("ended");
        serving.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_is_refused_by_name() {
    let running = start().await;
    let (mut child, _stderr) = running.spawn("serves", &[]);
    let Running { events, mut answers, serving, .. } = running;
    let socket = |kind: &str| {
        json!({
            "headers": {"Host": "x.execute-api.eu.amazonaws.com", "Sec-WebSocket-Version": "13"},
            "requestContext": {
                "routeKey": "$connect", "eventType": kind, "connectionId": "L0SM9cOFvHcCIhw=",
                "connectedAt": 1_583_348_638_390_i64, "requestTimeEpoch": 1_583_348_638_390_i64,
                "domainName": "x.execute-api.eu.amazonaws.com", "stage": "prod", "apiId": "x",
            },
            "isBase64Encoded": false,
        })
    };
    for event in [socket("CONNECT"), changed(socket("MESSAGE"), &[("/httpMethod", json!("GET"))])] {
        events.send(event).await.expect("the stub listens");
        let (kind, answer) = answers.recv().await.expect("an answer");
        assert_eq!((kind.as_str(), &answer["statusCode"]), ("response", &json!(400)), "{answer}");
        let body: Value =
            serde_json::from_str(answer["body"].as_str().expect("text")).expect("json");
        let message = body["error"]["message"].as_str().expect("a message");
        assert!(message.contains("WebSocket") && message.contains("function URL"), "{message}");
    }
    for (event, found) in [
        (json!({"Records": [], "b": 1}), "\"Records\", \"b\""),
        (json!({"query": "q", "documents": []}), "\"documents\", \"query\""),
        (json!([1]), "an array"),
        (json!({}), "an empty object"),
    ] {
        events.send(event).await.expect("the stub listens");
        let (kind, answer) = answers.recv().await.expect("an answer");
        assert_eq!(kind, "error", "{answer}");
        let message = answer["errorMessage"].as_str().expect("a message");
        assert!(message.starts_with("expected an event of a function URL"), "{message}");
        assert!(message.contains(found), "{message}");
    }
    // It goes on.
    events.send(event("GET", "/health", None)).await.expect("the stub listens");
    assert_eq!(answers.recv().await.expect("an answer").1["statusCode"], 200);
    child.kill().expect("killed");
    child.wait().expect("ended");
    serving.abort();
}

fn rerank() -> Value {
    event("POST", "/v1/rerank", Some(r#"{"query": "a", "documents": ["x", "a"]}"#))
}

const SNAP_START: (&str, &str) = ("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snap_start_runs_the_hooks_around_the_restore() {
    let mut running = start().await;
    let (mut child, _stderr) = running.spawn("tells", &[SNAP_START]);
    running.events.send(rerank()).await.expect("the stub listens");
    let (kind, answer) = running.answers.recv().await.expect("an answer");
    assert_eq!((kind.as_str(), &answer["statusCode"]), ("response", &json!(200)), "{answer}");
    let timing = answer["headers"]["server-timing"].as_str().expect("times");
    assert!(timing.contains("boot_restored;dur="), "{timing}");
    assert_eq!(
        running.stub.journal(),
        [
            "score",
            "before_snapshot",
            "restore/next",
            "after_restore",
            "invocation/next",
            "score",
            "response"
        ]
    );
    running.events.send(event("GET", "/health", None)).await.expect("the stub listens");
    let (_, answer) = running.answers.recv().await.expect("an answer");
    assert_eq!(answer["statusCode"], 200);
    child.kill().expect("killed");
    child.wait().expect("ended");
    let journal = running.stub.journal.lock().expect("no panic");
    for hook in ["before_snapshot", "restore/next", "after_restore"] {
        assert_eq!(journal.iter().filter(|what| *what == hook).count(), 1, "{hook}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_snap_start_no_hook_runs() {
    for kind in [&[][..], &[("AWS_LAMBDA_INITIALIZATION_TYPE", "provisioned-concurrency")]] {
        let mut running = start().await;
        let (mut child, _stderr) = running.spawn("tells", kind);
        running.events.send(rerank()).await.expect("the stub listens");
        let (_, answer) = running.answers.recv().await.expect("an answer");
        let timing = answer["headers"]["server-timing"].as_str().expect("times");
        assert!(!timing.contains("boot_restored"), "{timing}");
        assert_eq!(running.stub.journal(), ["invocation/next", "score", "response"]);
        child.kill().expect("killed");
        child.wait().expect("ended");
    }
}

/// What the child reports, what was asked until then, and its last words.
async fn failing(kind: &str, vars: &[(&str, &str)]) -> (String, Value, Vec<String>, String) {
    let mut running = start().await;
    let (mut child, mut stderr) = running.spawn(kind, &[&[SNAP_START], vars].concat());
    let (phase, report) = running.answers.recv().await.expect("a report");
    let log = spawn_blocking(move || {
        let mut log = String::new();
        stderr.read_to_string(&mut log).expect("utf-8");
        assert_eq!(child.wait().expect("ended").code(), Some(101));
        log
    });
    (phase, report, running.stub.journal(), log.await.expect("no panic"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failing_hooks_are_reported_where_they_belong() {
    let (phase, report, journal, log) = failing("tells", &[("FAIL", "before_snapshot")]).await;
    let message = "detaching the model before a snapshot failed: is broken";
    assert_eq!((phase.as_str(), &report["errorMessage"]), ("init", &json!(message)));
    assert_eq!(journal, ["score", "before_snapshot", "init/error"]);
    assert!(log.contains(&format!("toy: around the SnapStart snapshot: {message}")), "{log}");

    let (phase, report, journal, log) = failing("tells", &[("FAIL", "after_restore")]).await;
    let message = "renewing the model after a restore failed: is broken";
    assert_eq!((phase.as_str(), &report["errorMessage"]), ("restore", &json!(message)));
    let expected = ["score", "before_snapshot", "restore/next", "after_restore", "restore/error"];
    assert_eq!(journal, expected);
    assert!(log.contains(&format!("toy: around the SnapStart snapshot: {message}")), "{log}");

    let (phase, report, journal, log) = failing("broken", &[]).await;
    let message = "segment 3 of m.snap is truncated";
    assert_eq!((phase.as_str(), &report["errorMessage"]), ("init", &json!(message)));
    assert_eq!(journal, ["init/error"]);
    assert!(log.contains(message), "{log}");
}
