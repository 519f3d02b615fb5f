//! What only a real connection shows: framing, continuation, draining.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::channel;

use axum::http::StatusCode;
use defrost_server::{BootError, serve};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_blocking};

use super::toy::{Toy, start_with};

pub(crate) const BODY: &str = r#"{"query":"a","documents":["x","a"]}"#;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) stop: oneshot::Sender<()>,
    pub(crate) ended: JoinHandle<bool>,
}

pub(crate) async fn server(
    vars: &[(&str, &str)],
    load: impl FnOnce() -> Result<Toy, BootError> + Send + 'static,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let app = start_with(vars, load);
    let (stop, stopped) = oneshot::channel::<()>();
    let ended = tokio::spawn(serve(listener, app, async {
        let _ = stopped.await;
    }));
    Server { address, stop, ended }
}

/// Reads one answer: status, header lines, body by its Content-Length.
pub(crate) fn read_answer(reader: &mut impl std::io::BufRead) -> (StatusCode, String, String) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).expect("a line"), 0, "closed after {head:?}");
    }
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let lower = head.to_ascii_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map_or(0, |length| length.trim().parse::<usize>().expect("a length"));
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    (status, lower, String::from_utf8(body).expect("utf-8"))
}

pub(crate) async fn exchange(address: SocketAddr, request: String) -> (StatusCode, String, String) {
    spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.write_all(request.as_bytes()).expect("sent");
        read_answer(&mut BufReader::new(stream))
    })
    .await
    .expect("no panic")
}

pub(crate) fn chunked(body: &str) -> String {
    let (a, b) = body.split_at(body.len() / 2);
    format!(
        "POST /v1/rerank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n\
         {:x}\r\n{a}\r\n{:x}\r\n{b}\r\n0\r\n\r\n",
        a.len(),
        b.len()
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunked_bodies() {
    let limit = BODY.len().to_string();
    let server = server(&[("MAX_BODY_BYTES", &limit)], || Ok(Toy::new())).await;
    let (status, _, body) = exchange(server.address, chunked(BODY)).await;
    assert_eq!(status, 200, "{body}");
    let json: Value = serde_json::from_str(&body).expect("json");
    assert_eq!(json["results"][0]["index"], 1);
    let (status, _, body) = exchange(server.address, chunked(&format!("{BODY} "))).await;
    assert_eq!(status, 413, "{body}");
    let megabytes = chunked(&format!("{BODY}{}", " ".repeat(8 << 20)));
    let (status, _, body) = exchange(server.address, megabytes).await;
    assert_eq!(status, 413, "a client that sends on still reads its answer: {body}");
}

/// A body that breaks the rules of chunks is not one that ended early: its client has something
/// else to mend.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_chunks_are_told_apart_from_missing_ones() {
    let server = server(&[], || Ok(Toy::new())).await;
    let head = "POST /v1/rerank HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    for (chunks, told) in [
        ("zz\r\n{}\r\n0\r\n\r\n", "chunks"),
        ("2\r\n{}x\r\n0\r\n\r\n", "chunks"),
        ("fffffffffffffffff\r\n{}\r\n0\r\n\r\n", "chunks"),
        ("2\r\n{}\r\n5\r\nab", "ended before it was complete"),
        ("2", "ended before it was complete"),
    ] {
        let request = format!("{head}{chunks}");
        let address = server.address;
        let (status, _, body) = spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).expect("connected");
            stream.write_all(request.as_bytes()).expect("sent");
            stream.shutdown(std::net::Shutdown::Write).expect("no more");
            read_answer(&mut BufReader::new(stream))
        })
        .await
        .expect("no panic");
        assert_eq!(status, 400, "{body}");
        let json: Value = serde_json::from_str(&body).expect("json");
        let message = json["error"]["message"].as_str().expect("a message");
        assert!(message.contains(told), "{chunks:?}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expect_continue() {
    let limit = BODY.len().to_string();
    let server = server(&[("MAX_BODY_BYTES", &limit)], || Ok(Toy::new())).await;
    let head = |length: usize| {
        format!(
            "POST /v1/rerank HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let (small, large) = (head(BODY.len()), head(BODY.len() + 1));
    spawn_blocking(move || {
        let mut stream = TcpStream::connect(server.address).expect("connected");
        stream.write_all(small.as_bytes()).expect("sent");
        let mut reader = BufReader::new(stream.try_clone().expect("cloned"));
        assert_eq!(read_answer(&mut reader).0, 100);
        stream.write_all(BODY.as_bytes()).expect("sent");
        assert_eq!(read_answer(&mut reader).0, 200);

        let mut stream = TcpStream::connect(server.address).expect("connected");
        stream.write_all(large.as_bytes()).expect("sent");
        assert_eq!(
            read_answer(&mut BufReader::new(stream)).0,
            413,
            "refused before the body is sent"
        );
    })
    .await
    .expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_before_ready_are_answered() {
    let (release, gate) = channel::<()>();
    let server = server(&[], move || {
        let _ = gate.recv();
        Ok(Toy::new())
    })
    .await;
    let address = server.address;
    // The request is sent in full before the model may load.
    let mut stream = spawn_blocking(move || {
        let mut stream = TcpStream::connect(address).expect("connected");
        stream.write_all(chunked(BODY).as_bytes()).expect("sent");
        stream
    })
    .await
    .expect("no panic");
    let get = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n".to_owned();
    assert_eq!(exchange(address, get).await.0, 503);
    release.send(()).expect("the loader waits");
    let status = spawn_blocking(move || read_answer(&mut BufReader::new(&mut stream)).0)
        .await
        .expect("no panic");
    assert_eq!(status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_finishes_what_runs() {
    let (started, starts) = channel();
    let (release, gate) = channel::<()>();
    let gate = Mutex::new(gate);
    let toy = Toy::with_hook(move || {
        let _ = started.send(());
        let _ = gate.lock().map(|gate| gate.recv());
        Ok(())
    });
    let server = server(&[], move || Ok(toy)).await;
    let running = tokio::spawn(exchange(server.address, chunked(BODY)));
    spawn_blocking(move || starts.recv().expect("scoring starts")).await.expect("no panic");
    server.stop.send(()).expect("the server runs");
    release.send(()).expect("the scorer waits");
    assert_eq!(running.await.expect("no panic").0, 200);
    assert!(server.ended.await.expect("no panic"), "all requests were finished");
    assert!(TcpStream::connect(server.address).is_err(), "no longer listening");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_not_http() {
    let server = server(&[], || Ok(Toy::new())).await;
    let (status, ..) = exchange(server.address, "\u{1}\u{2}garbage\r\n\r\n".to_owned()).await;
    assert_eq!(status, 400);
    let fine = "GET /live HTTP/1.1\r\nhost: x\r\n\r\n".to_owned();
    assert_eq!(exchange(server.address, fine).await.0, 200);
    let mut nothing = TcpStream::connect(server.address).expect("connected");
    nothing.shutdown(std::net::Shutdown::Write).expect("closed");
    let mut rest = Vec::new();
    spawn_blocking(move || nothing.read_to_end(&mut rest).expect("closed by the server"))
        .await
        .expect("no panic");
}

/// The kernel accepts connections before the process does; closing the listener then would reset
/// them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_wait_to_be_accepted_at_the_end_are_served() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let mut stream = std::net::TcpStream::connect(address).expect("the kernel accepts");
            stream
                .write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n")
                .expect("the kernel takes it");
            stream
        })
        .collect();
    let app = start_with(&[], || Ok(Toy::new()));
    app.booted().await;
    assert!(serve(listener, app, std::future::ready(())).await, "all are closed");
    for mut stream in clients {
        assert_eq!(read_answer(&mut BufReader::new(&mut stream)).0, 200);
    }
}
