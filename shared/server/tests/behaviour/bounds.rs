//! What clients can make the server hold: bodies that never end, answers that they do not read.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use serde_json::json;
use tower::ServiceExt as _;

use super::sockets::{read_answer, server};
use super::toy::{Toy, post, post_request, ready, send};

const BODY_BYTES: usize = 1 << 20;

/// The least that may be set: three large bodies at once, and small ones beside them.
const VARS: [(&str, &str); 2] = [("MAX_BODY_BYTES", "1048576"), ("MAX_BYTES_IN_FLIGHT", "4194304")];

fn head(length: usize) -> String {
    format!(
        "POST /v1/rerank HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

fn half_sent(address: SocketAddr, bytes: usize) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(head(bytes + 1).as_bytes()).expect("sent");
    stream.write_all(&vec![b' '; bytes]).expect("sent");
    stream
}

fn asked(address: SocketAddr, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream.write_all(format!("{}{body}", head(body.len())).as_bytes()).expect("sent");
    let (status, _, body) = read_answer(&mut BufReader::new(stream));
    (status.as_u16(), body)
}

fn held(address: SocketAddr) -> usize {
    let mut stream = TcpStream::connect(address).expect("connected");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .expect("sent");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("metrics");
    let line = text.lines().find_map(|line| line.strip_prefix("defrost_bytes_in_flight "));
    line.expect("the gauge is there").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_sent_bodies_hold_no_more_than_the_budget() {
    let server = server(&VARS, || Ok(Toy::new())).await;
    let address = server.address;
    let clients = move || {
        let half_sent: Vec<TcpStream> =
            (0..3).map(|_| half_sent(address, BODY_BYTES - 1)).collect();
        while held(address) < 3 * (BODY_BYTES - 1) {
            std::thread::yield_now();
        }
        let filler = "x".repeat(BODY_BYTES / 2);
        let large = format!(r#"{{"query":"a","documents":["{filler}"]}}"#);
        let (status, answer) = asked(address, &large);
        assert_eq!(status, 503, "{answer}");
        assert!(answer.contains("too_many_bytes") && answer.contains("MAX_BYTES_IN_FLIGHT"));
        assert!(held(address) <= 3 * BODY_BYTES, "what was refused is let go of");
        let (status, answer) = asked(address, r#"{"query":"a","documents":["x"]}"#);
        assert_eq!(status, 200, "small ones are answered: {answer}");
        drop(half_sent);
        while held(address) > 0 {
            std::thread::yield_now();
        }
        assert_eq!(asked(address, &large).0, 200);
    };
    tokio::task::spawn_blocking(clients).await.expect("no panic");
    server.stop.send(()).expect("it runs");
    assert!(server.ended.await.expect("no panic"));
}

/// Answers count until they are taken, whatever the size of the request.
#[tokio::test]
async fn answers_that_nobody_reads_hold_no_more_than_the_budget() {
    let router = ready(&VARS).await;
    let documents = vec!["a".repeat(900); 1000];
    let body = json!({"query": "a", "documents": documents, "return_documents": true}).to_string();
    let mut unread = Vec::new();
    let refused = loop {
        let request = post_request("/v1/rerank", body.clone());
        let response = router.clone().oneshot(request).await.expect("a router does not fail");
        if response.status() != 200 {
            break response;
        }
        unread.push(response);
    };
    assert_eq!(
        (refused.status().as_u16(), unread.len()),
        (503, 2),
        "about a megabyte each, of three"
    );
    let small = json!({"query": "a", "documents": ["a"]});
    assert_eq!(post(&router, "/v1/rerank", &small).await.status, 200);
    unread.pop();
    let again = send(&router, post_request("/v1/rerank", body)).await;
    assert_eq!(again.status, 200, "what is gone is free again");
}

/// Objects of seven bytes take half a kilobyte each once they are parsed, wherever in a document
/// they are.
#[tokio::test]
async fn bodies_of_very_many_values_are_refused_unparsed() {
    let router = ready(&VARS).await;
    let nested = format!(
        r#"{{"query":"a","return_documents":true,"documents":[{{"text":"a","x":[{}1]}}]}}"#,
        r#"{"a":0},"#.repeat(120_000)
    );
    let answer = send(&router, post_request("/v1/rerank", nested)).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert!(answer.text.contains("values of the body"), "{}", answer.text);
    let instances = format!(r#"{{"instances":[{}1]}}"#, r#"{"inputs":"a"},"#.repeat(60_000));
    let answer = send(&router, post_request("/vertex", instances)).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
}

/// A token takes a few bytes to ask about and hundreds to answer about.
#[tokio::test]
async fn tokens_are_counted_before_they_are_written_down() {
    let router = ready(&VARS).await;
    let ask = |words: usize| json!({"inputs": "a ".repeat(words)});
    let answer = post(&router, "/tokenize", &ask(9_000)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = post(&router, "/tokenize", &ask(10_000)).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert!(answer.text.contains("more than 9830 tokens"), "{}", answer.text);
    let answer = post(&router, "/detokenize", &json!({"ids": vec![1; 10_000]})).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
}

/// One word of many letters is few tokens, and reading it to its end takes a hundred times its
/// bytes.
#[tokio::test]
async fn a_long_text_is_held_while_it_is_read() {
    let router = ready(&VARS).await;
    let ask = |letters: usize| json!({"inputs": "x".repeat(letters)});
    let answer = post(&router, "/tokenize", &ask(80_000)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let answer = post(&router, "/tokenize", &ask(100_000)).await;
    assert_eq!(answer.status, 413, "{}", answer.text);
    assert!(answer.text.contains("MAX_BYTES_IN_FLIGHT"), "{}", answer.text);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_given_up() {
    let router = ready(&[]).await;
    let drips = dripping(Duration::from_secs(1));
    let answer = send(&router, post_request("/v1/rerank", drips)).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["error"]["code"]), (408, &json!("timeout")));
    assert!(answer.text.contains("of the body 3"), "{}", answer.text);
}

/// A byte every so often, for ever.
fn dripping(pause: Duration) -> Body {
    struct Drips(std::pin::Pin<Box<tokio::time::Sleep>>, Duration);
    impl hyper::body::Body for Drips {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
            std::task::ready!(self.0.as_mut().poll(cx));
            let next = tokio::time::Instant::now() + self.1;
            self.0.as_mut().reset(next);
            std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(Bytes::from_static(b" ")))))
        }
    }
    Body::new(Drips(Box::pin(tokio::time::sleep(pause)), pause))
}
