//! The routes around a memory snapshot: which callers they take, and what becomes of connections.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use defrost_server::router;
use defrost_tasks::Error;

use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tower::ServiceExt as _;

use super::sockets::{BODY, chunked, exchange, read_answer, server};
use super::toy::{Answer, Toy, get, ready, send, start_with};

const ON: (&str, &str) = ("SNAPSHOT_HOOKS", "true");
const BEFORE: [&str; 3] = ["/admin/before_snapshot", "/admin/quiesce", "/sleep?level=1"];
const AFTER: [&str; 2] = ["/admin/after_restore", "/wake_up"];

/// A request as it comes from `peer`, the rest being as of a local caller.
fn call(path: &str, peer: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let peer: SocketAddr = peer.parse().expect("an address");
    let mut request =
        Request::post(path).header("host", "localhost:8000").extension(ConnectInfo(peer));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::empty()).expect("a request")
}

async fn local(router: &Router, path: &str) -> Answer {
    send(router, call(path, "127.0.0.1:9", &[])).await
}

#[tokio::test]
async fn off_there_are_no_such_routes() {
    let router = ready(&[]).await;
    for path in BEFORE.into_iter().chain(AFTER) {
        let answer = local(&router, path).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.json()["error"]["code"]),
            (404, &json!("not_found"))
        );
    }
    assert_eq!(get(&router, "/ready").await.status, 200);
}

#[tokio::test]
async fn every_name_works_and_may_be_repeated() {
    let router = ready(&[ON]).await;
    for before in BEFORE {
        for after in AFTER {
            for (path, state) in
                [(before, "quiesced"), (before, "quiesced"), (after, "ok"), (after, "ok")]
            {
                let answer = local(&router, path).await;
                assert_eq!(answer.status, 200, "{path}: {}", answer.text);
                assert_eq!(answer.json()["state"], state, "{path}");
                assert!(answer.json()["took_ms"].is_f64(), "{path}");
            }
        }
    }
    let answer =
        send(&router, Request::get("/sleep").body(Body::empty()).expect("a request")).await;
    assert_eq!(answer.status, 405);
}

#[tokio::test]
async fn strangers_are_refused() {
    let router = ready(&[ON]).await;
    let no_peer = Request::post("/sleep").header("host", "localhost").body(Body::empty());
    for request in [
        call("/sleep", "10.0.0.1:9", &[]),
        call("/sleep", "127.0.0.1:9", &[("x-forwarded-for", "1.2.3.4")]),
        call("/sleep", "127.0.0.1:9", &[("origin", "https://a.example")]),
        call("/sleep", "10.0.0.1:9", &[("authorization", "Bearer any")]),
        no_peer.expect("a request"),
        // The target's host is the one that is meant, whatever the header says.
        call("http://evil.example/sleep", "127.0.0.1:9", &[]),
    ] {
        let answer = send(&router, request).await;
        assert_eq!(answer.status, 403, "{}", answer.text);
        assert_eq!(answer.json()["error"]["type"], "permission_error");
    }
    assert_eq!(get(&router, "/ready").await.status, 200);
}

#[tokio::test]
async fn with_keys_a_key_is_needed_and_enough() {
    let router = ready(&[ON, ("API_KEYS", "k")]).await;
    assert_eq!(local(&router, "/sleep").await.status, 401);
    let wrong = call("/sleep", "127.0.0.1:9", &[("x-api-key", "other")]);
    assert_eq!(send(&router, wrong).await.status, 401);
    for (path, state) in [("/sleep", "quiesced"), ("/wake_up", "ok")] {
        let request =
            call(path, "10.0.0.1:9", &[("authorization", "Bearer k"), ("via", "1.1 proxy")]);
        assert_eq!(send(&router, request).await.json()["state"], state);
    }
}

#[tokio::test]
async fn failures_are_told_without_their_reason() {
    let toy = Toy::new().with_snapshot_hook(|_| Err(Error::Model("/secret/path".into())));
    let app = start_with(&[ON], move || Ok(toy));
    let router = router(app);
    let answer = local(&router, "/sleep").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["code"]),
        (500, &json!("internal_error"))
    );
    assert!(!answer.text.contains("secret"), "{}", answer.text);
    assert_eq!(get(&router, "/ready").await.status, 200);
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_nothing() {
    let (started, starts) = channel();
    let (release, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let toy = Toy::new().with_snapshot_hook(move |_| {
        let _ = started.send(());
        let _ = gate.lock().map(|gate| gate.recv());
        Ok(())
    });
    let app = start_with(&[ON], move || Ok(toy));
    app.booted().await;
    let router = router(app.clone());
    let gone = tokio::spawn(router.clone().oneshot(call("/sleep", "127.0.0.1:9", &[])));
    spawn_blocking(move || starts.recv().expect("the hook starts")).await.expect("no panic");
    gone.abort();
    assert!(gone.await.is_err_and(|error| error.is_cancelled()));
    drop(release);
    app.before_snapshot().await.expect("stands behind the first, and finds its work done");
    assert_eq!(get(&router, "/ready").await.json()["status"], "quiesced");
}

fn head(method: &str, path: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_closed_and_requests_are_answered_after_waking() {
    let server = server(&[ON], || Ok(Toy::new())).await;
    let address = server.address;
    let idle = spawn_blocking(move || {
        let unused = TcpStream::connect(address).expect("connected");
        let mut used = TcpStream::connect(address).expect("connected");
        used.write_all(head("GET", "/live").as_bytes()).expect("sent");
        let (status, head, _) = read_answer(&mut BufReader::new(&mut used));
        assert_eq!(status, 200);
        assert!(!head.contains("connection: close"), "kept: {head}");
        [unused, used]
    })
    .await
    .expect("no panic");

    // A request that never comes in full holds up nothing.
    let half = spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.write_all(b"POST /v1/rerank HTTP/1.1\r\n").expect("sent");
        stream
    })
    .await
    .expect("no panic");

    let (status, answer, body) = exchange(address, head("POST", "/sleep")).await;
    assert_eq!(status, 200, "{body}");
    assert!(answer.contains("connection: close"), "{answer}");
    spawn_blocking(move || {
        for mut stream in idle {
            assert_eq!(stream.read(&mut [0]).expect("closed in order"), 0);
        }
    })
    .await
    .expect("no panic");

    // Sent in full before the server wakes up; what it waits for is the gate.
    let mut waiting = spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.write_all(chunked(BODY).as_bytes()).expect("sent");
        stream
    })
    .await
    .expect("no panic");
    let (status, answer, _) = exchange(address, head("GET", "/ready")).await;
    assert_eq!(status, 503);
    assert!(answer.contains("connection: close"), "{answer}");
    let (status, _, body) = exchange(address, head("POST", "/wake_up")).await;
    let json: Value = serde_json::from_str(&body).expect("json");
    assert_eq!((status.as_u16(), &json["state"]), (200, &json!("ok")));
    let status = spawn_blocking(move || read_answer(&mut BufReader::new(&mut waiting)).0);
    assert_eq!(status.await.expect("no panic"), 200);
    let (_, answer, _) = exchange(address, head("GET", "/live")).await;
    assert!(!answer.contains("connection: close"), "kept again: {answer}");
    drop(half);
    server.stop.send(()).expect("the server runs");
    assert!(server.ended.await.expect("no panic"), "all connections are closed");
}
