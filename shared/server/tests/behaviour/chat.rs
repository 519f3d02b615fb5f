//! Chat and completions, with a model that repeats what it is told in place of one that thinks.

mod answers;
mod service;
mod streams;
mod structure;
pub(crate) mod toy;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};

use super::toy::{Answer, post, post_request, send};

pub(crate) const CHAT: &str = "/v1/chat/completions";

/// A conversation of one message, which the model repeats.
pub(crate) fn say(text: &str) -> Value {
    json!({"messages": [{"role": "user", "content": text}], "temperature": 0})
}

/// The same, with more fields.
pub(crate) fn say_with(text: &str, fields: Value) -> Value {
    let mut body = say(text);
    if let (Value::Object(body), Value::Object(fields)) = (&mut body, fields) {
        body.extend(fields);
    }
    body
}

pub(crate) fn stream_request(path: &str, body: &Value) -> Request<Body> {
    let mut body = body.clone();
    body["stream"] = true.into();
    post_request(path, body.to_string())
}

/// The answer as a stream, read to its end.
pub(crate) async fn stream(router: &Router, path: &str, body: &Value) -> Answer {
    send(router, stream_request(path, body)).await
}

/// The events of a stream: what each says, and `[DONE]` as text.
pub(crate) fn events(text: &str) -> Vec<Value> {
    let data = |event: &str| {
        let mut lines = event.lines().filter_map(|line| line.strip_prefix("data: "));
        let data = lines.next()?;
        assert_eq!(lines.next(), None, "one line of data an event: {event}");
        Some(serde_json::from_str(data).unwrap_or_else(|_| Value::from(data)))
    };
    assert!(text.ends_with("\n\n"), "the last event is whole: {text:?}");
    text.split("\n\n").filter_map(data).collect()
}

/// The texts of this kind in a chat's chunks, joined.
pub(crate) fn joined(events: &[Value], kind: &str) -> String {
    let delta = |event: &Value| event["choices"][0]["delta"][kind].as_str().map(str::to_owned);
    events.iter().filter_map(delta).collect()
}

/// The error that this body has for an answer.
pub(crate) async fn refused(router: &Router, path: &str, body: &Value) -> (u16, Value) {
    let answer = post(router, path, body).await;
    (answer.status.as_u16(), answer.json()["error"].clone())
}

/// The results of futures that run beside each other.
pub(crate) async fn together<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut done: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (future, slot) in futures.iter_mut().zip(&mut done) {
            if slot.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(cx)
            {
                *slot = Some(output);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}
