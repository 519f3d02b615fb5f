//! Replies as they are made: what is sent, when, and what becomes of it when somebody goes away.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use defrost_server::router;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tower::ServiceExt as _;

use super::toy::{Echo, ready, ready_with, start_with};
use super::{CHAT, events, joined, say, say_with, stream, stream_request, together};
use crate::behaviour::toy::{get, post};

#[tokio::test]
async fn a_stream_says_what_the_whole_answer_does() {
    let router = ready(&[]).await;
    for text in ["hello", "héllo 🌍 und мир!\n\u{2028}\"quoted\"", "", "data: [DONE]\n\ndata: x"]
    {
        let whole = post(&router, CHAT, &say(text)).await.json();
        let body = say_with(text, json!({"stream_options": {"include_usage": true}}));
        let answer = stream(&router, CHAT, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(answer.header("content-type").starts_with("text/event-stream"));
        assert_eq!(answer.header("cache-control"), "no-cache");
        let events = events(&answer.text);
        assert_eq!(joined(&events, "content"), text);
        assert_eq!(events.last(), Some(&json!("[DONE]")));
        assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
        let roles = events.iter().filter(|event| event["choices"][0]["delta"]["role"].is_string());
        assert_eq!(roles.count(), 1, "the role is said once");
        let usage = &events[events.len() - 2];
        assert_eq!(
            (&usage["choices"], &usage["usage"]["total_tokens"]),
            (&json!([]), &whole["usage"]["total_tokens"])
        );
        let finish = &events[events.len() - 3];
        assert_eq!(finish["choices"][0]["finish_reason"], "stop");
        let ids: Vec<&Value> =
            events[..events.len() - 1].iter().map(|event| &event["id"]).collect();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    }
}

#[tokio::test]
async fn stop_texts_never_show_in_a_stream() {
    let router = ready(&[]).await;
    let answer = stream(&router, CHAT, &say_with("hello world", json!({"stop": "o w"}))).await;
    assert_eq!(joined(&events(&answer.text), "content"), "hell");
}

#[tokio::test]
async fn texts_are_continued_as_they_are_made() {
    let router = ready(&[]).await;
    let body = json!({"prompt": ["ab", "cd"], "max_tokens": 4, "temperature": 0});
    let events = events(&stream(&router, "/v1/completions", &body).await.text);
    let text = |choice: usize| -> String {
        let choices = events.iter().filter_map(|event| event["choices"][0].as_object());
        let own = choices.filter(|one| one["index"] == choice);
        own.filter_map(|one| one["text"].as_str()).collect()
    };
    assert_eq!((text(0), text(1)), ("abab".into(), "cdcd".into()));
}

/// A model each of whose steps says that it begins and then waits for a permit; without the sender of permits, none
/// waits.
fn gated() -> (Echo, mpsc::Sender<()>, UnboundedReceiver<()>) {
    let (permit, permits) = mpsc::channel();
    let permits = std::sync::Mutex::new(permits);
    let (say, begins) = unbounded_channel();
    let model = Echo::with_hook(move |_| {
        let _ = say.send(());
        let _ = permits.lock().expect("no panic").recv();
        Ok(())
    });
    (model, permit, begins)
}

async fn begin(router: &Router, body: &Value) -> Body {
    let answer = router.clone().oneshot(stream_request(CHAT, body)).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

async fn frame(body: &mut Body) -> Option<String> {
    let frame = body.frame().await?.expect("a frame");
    let data = frame.into_data().expect("data");
    Some(String::from_utf8(data.to_vec()).expect("utf-8"))
}

/// Comments come by the server's own clock, which the test stops: while it waits, time goes to the next timer.
#[tokio::test(start_paused = true)]
async fn a_stream_that_waits_is_kept_alive() {
    let (model, permit, mut begins) = gated();
    let router = ready_with(&[("KEEP_ALIVE", "10")], model).await;
    let mut body = begin(&router, &say("ab")).await;
    begins.recv().await.expect("a step");
    assert!(frame(&mut body).await.is_some_and(|first| first.contains("assistant")));
    let begun = tokio::time::Instant::now();
    for round in 1..=3 {
        assert!(frame(&mut body).await.is_some_and(|comment| comment.starts_with(':')));
        assert_eq!(begun.elapsed(), Duration::from_secs(10) * round);
    }
    drop(permit);
    let rest = body.collect().await.expect("whole").to_bytes();
    let text = String::from_utf8(rest.to_vec()).expect("utf-8");
    assert_eq!(joined(&events(&text), "content"), "ab");
}

/// The first token goes out before the second is made.
#[tokio::test]
async fn tokens_are_sent_when_they_are_made() {
    let (model, permit, mut begins) = gated();
    let router = ready_with(&[("KEEP_ALIVE", "0")], model).await;
    let mut body = begin(&router, &say("abc")).await;
    permit.send(()).expect("a step waits");
    let mut seen = String::new();
    while !seen.contains("\"content\":\"a\"") {
        seen += &frame(&mut body).await.expect("more");
    }
    begins.recv().await.expect("the prompt's step");
    begins.recv().await.expect("one that waits");
    assert!(begins.try_recv().is_err(), "no other");
    drop(permit);
    let rest = body.collect().await.expect("whole").to_bytes();
    assert!(String::from_utf8_lossy(&rest).contains("[DONE]"));
}

/// N15: what a client that has gone asked for is gone before the next step, with its memory, and nobody else notices.
#[tokio::test]
async fn a_client_that_goes_away_frees_its_place_within_a_step() {
    let (model, permit, mut begins) = gated();
    let held = model.held();
    let app = start_with(&[("KEEP_ALIVE", "0")], || Ok(model));
    app.booted().await;
    let router = router(app);
    let mut gone = begin(&router, &say(&"x".repeat(500))).await;
    permit.send(()).expect("a step waits");
    for _ in 0..2 {
        begins.recv().await.expect("a step");
    }
    assert!(frame(&mut gone).await.is_some());
    // The second step waits; it is the last.
    drop(gone);
    drop(permit);
    let answer = post(&router, CHAT, &say("next")).await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "next");
    let mut later = 0;
    while begins.try_recv().is_ok() {
        later += 1;
    }
    assert!(later <= 5, "{later} steps: those of the next request alone");
    assert_eq!(held(), 0, "nothing is held for either");
    let metrics = get(&router, "/metrics").await.text;
    assert!(metrics.contains("defrost_cancelled_total 1"), "{metrics}");
    assert!(metrics.contains("defrost_inflight 1"), "but for the scrape itself: {metrics}");
}

/// A request is in flight until its last byte is taken.
#[tokio::test]
async fn a_stream_counts_until_its_last_byte() {
    let router = ready(&[]).await;
    let body = begin(&router, &say("abc")).await;
    assert!(get(&router, "/metrics").await.text.contains("defrost_inflight 2"));
    body.collect().await.expect("whole");
    assert!(get(&router, "/metrics").await.text.contains("defrost_inflight 1"));
}

#[tokio::test]
async fn what_fails_after_the_first_byte_is_an_event() {
    let count = AtomicUsize::new(0);
    let model = Echo::with_hook(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        2 => Err(defrost_model::Error::Model("/secret/path is broken".into())),
        _ => Ok(()),
    });
    let router = ready_with(&[], model).await;
    let answer = stream(&router, CHAT, &say("hello hello")).await;
    assert_eq!(answer.status, 200);
    let events = events(&answer.text);
    let error = events.iter().find(|event| event["error"].is_object()).expect("an error");
    assert_eq!(error["error"]["code"], "internal_error", "{error}");
    assert!(!answer.text.contains("secret"), "{}", answer.text);
    // Whatever failed, others are answered.
    let answer = post(&router, CHAT, &say("next")).await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "next");
}

/// The client is told in the words of its API, and what it asked for is gone with that.
#[tokio::test]
async fn a_stream_ends_with_the_time_of_its_request() {
    for (path, words, last) in [
        (CHAT, "\"error\":{", "data: [DONE]\n\n"),
        ("/v1/completions", "\"error\":{", "data: [DONE]\n\n"),
        ("/v1/responses", "event: response.failed", ""),
        ("/v1/messages", "event: error", ""),
        ("/completion", "\"error\":{", ""),
    ] {
        let (model, permit, mut begins) = gated();
        let held = model.held();
        let settings = [("KEEP_ALIVE", "0"), ("REQUEST_TIMEOUT", "3")];
        let router = ready_with(&settings, model).await;
        // From here on time goes to the next timer whenever all else waits.
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        let message = json!([{"role": "user", "content": "abab"}]);
        let asked = json!({"messages": message, "max_tokens": 4, "temperature": 0});
        let body = match path {
            "/v1/completions" | "/completion" => json!({"prompt": "abab", "max_tokens": 4}),
            "/v1/responses" => json!({"input": "abab"}),
            _ => asked,
        };
        let answer = router.clone().oneshot(stream_request(path, &body)).await.expect("an answer");
        assert_eq!(answer.status(), 200, "{path}");
        begins.recv().await.expect("a step");
        let rest = answer.into_body().collect().await.expect("it ends as it should").to_bytes();
        assert_eq!(begun.elapsed().as_secs(), 3, "{path}");
        let text = String::from_utf8(rest.to_vec()).expect("utf-8");
        assert!(text.contains(words) && text.ends_with(last), "{path}: {text}");
        assert!(text.contains("not complete within 3 s"), "{path}: {text}");
        tokio::time::resume();
        // The step that waits is the last one.
        drop(permit);
        let next = post(&router, CHAT, &say("next")).await.json();
        assert_eq!(next["choices"][0]["message"]["content"], "next", "{path}");
        assert_eq!(held(), 0, "{path}");
    }
}

/// What was complete in time is whole, however late its last bytes are asked for.
#[tokio::test]
async fn a_stream_that_was_made_in_time_is_whole() {
    let router = ready_with(&[("KEEP_ALIVE", "0"), ("REQUEST_TIMEOUT", "3")], Echo::new()).await;
    let body = begin(&router, &say("abc")).await;
    // Behind it, so that all of it lies there.
    post(&router, CHAT, &say("next")).await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(10)).await;
    let rest = body.collect().await.expect("whole").to_bytes();
    let text = String::from_utf8(rest.to_vec()).expect("utf-8");
    assert_eq!(joined(&events(&text), "content"), "abc");
    assert!(!text.contains("error"), "{text}");
}

/// Those who watch see what runs in which slot, how far it is, and when none is free.
#[tokio::test]
async fn slots_tell_what_runs() {
    let (model, permit, mut begins) = gated();
    let router = ready_with(&[("KEEP_ALIVE", "0"), ("MAX_RUNNING", "2")], model).await;
    let slots = get(&router, "/slots?fail_on_no_slot=1").await.json();
    let idle =
        |id: usize| json!({"id": id, "n_ctx": 2048, "speculative": true, "is_processing": false});
    assert_eq!(slots, json!([idle(0), idle(1)]));

    let fields = json!({"max_tokens": 9, "seed": 7, "top_k": 5});
    let first = begin(&router, &say_with("abcdef", fields)).await;
    permit.send(()).expect("a step waits");
    for _ in 0..2 {
        begins.recv().await.expect("a step");
    }
    let slots = get(&router, "/slots").await.json();
    let next =
        json!([{"has_next_token": true, "has_new_line": false, "n_remain": 8, "n_decoded": 1}]);
    let slot = &slots[0];
    assert_eq!((&slot["is_processing"], &slot["next_token"]), (&json!(true), &next), "{slots}");
    assert_eq!((&slot["id_task"], &slot["n_prompt_tokens"]), (&json!(0), &json!(9)), "{slots}");
    let params = &slot["params"];
    assert_eq!((&params["max_tokens"], &params["seed"]), (&json!(9), &json!(7)), "{slots}");
    assert_eq!((&params["top_k"], &params["temperature"]), (&json!(5), &json!(0.0)), "{slots}");
    assert_eq!(slots[1], idle(1));
    assert_eq!(get(&router, "/slots?fail_on_no_slot=1").await.status, 200);

    let second = begin(&router, &say(&"x".repeat(100))).await;
    for _ in 0..2 {
        permit.send(()).expect("a step waits");
        begins.recv().await.expect("a step");
    }
    let slots = get(&router, "/slots").await.json();
    let runs = |slots: &Value| [0, 1].map(|at| slots[at]["is_processing"] == true);
    assert_eq!(runs(&slots), [true, true], "{slots}");
    assert_eq!(slots[1]["id_task"], 1);
    let refused = get(&router, "/slots?fail_on_no_slot=1").await;
    assert_eq!(
        (refused.status.as_u16(), refused.json()["error"]["code"].as_str()),
        (503, Some("no_slot"))
    );

    drop(permit);
    for body in [first, second] {
        body.collect().await.expect("whole");
    }
    let slots = get(&router, "/slots").await.json();
    assert_eq!(runs(&slots), [false, false], "{slots}");
    assert_eq!(slots[0]["next_token"][0]["has_next_token"], false, "{slots}");
    assert!(slots[0]["next_token"][0]["n_decoded"].as_u64() >= Some(6), "{slots}");
}

/// Two streams go on together: each has an event before the other has its last.
#[tokio::test]
async fn streams_run_beside_each_other() {
    let (model, permit, _) = gated();
    let router = ready_with(&[("KEEP_ALIVE", "0")], model).await;
    let mut first = begin(&router, &say(&"a".repeat(40))).await;
    let mut second = begin(&router, &say(&"b".repeat(40))).await;
    for _ in 0..4 {
        permit.send(()).expect("a step waits");
    }
    assert!(frame(&mut first).await.is_some_and(|frame| !frame.contains("[DONE]")));
    assert!(frame(&mut second).await.is_some_and(|frame| !frame.contains("[DONE]")));
    drop(permit);
    for (body, text) in [(first, "a"), (second, "b")] {
        let rest = body.collect().await.expect("whole").to_bytes();
        let events = events(&String::from_utf8_lossy(&rest));
        assert!(joined(&events, "content").chars().all(|letter| text.starts_with(letter)));
    }
}

/// Clients that read a part of a stream, all of it or nothing and go away, beside others that stay, with memory for a
/// few of them: all that stay are answered, and nothing of the others is left.
#[tokio::test]
async fn whatever_clients_do_nothing_is_left_of_it() {
    let model = Echo::new().with_room(900);
    let held = model.held();
    let app = start_with(&[("MAX_QUEUE", "1000")], || Ok(model));
    app.booted().await;
    let router = router(app);
    let clients = (0..150usize).map(|at| {
        // Lengths, fates and numbers of choices that have no common period.
        let (text, reads) = (format!("{at} ").repeat(1 + at * 7 % 40), at * 5 % 23);
        let body = say_with(&text, json!({"n": 1 + at % 3}));
        let router = &router;
        async move {
            if at % 4 == 0 {
                let answer = post(router, CHAT, &body).await;
                let choices = answer.json()["choices"].as_array().cloned().expect("choices");
                assert!(choices.iter().all(|one| one["message"]["content"] == *text), "{at}");
                return;
            }
            let mut stream = begin(router, &body).await;
            for _ in 0..reads {
                if frame(&mut stream).await.is_none() {
                    break;
                }
            }
        }
    });
    together(clients).await;
    // Behind all of them.
    let answer = post(&router, CHAT, &say("last")).await;
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "last");
    let metrics = get(&router, "/metrics").await.text;
    for line in [
        "defrost_inflight 1",
        "defrost_queue_depth 0",
        "defrost_bytes_in_flight 0",
        r#"defrost_generations{model="toy/echo",state="running"} 0"#,
        r#"defrost_generations{model="toy/echo",state="waiting"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    assert_eq!(held(), 0, "memory of the model");
}

/// One request runs, one waits, and a third is told to come again.
#[tokio::test]
async fn requests_wait_within_bounds() {
    let (model, permit, mut begins) = gated();
    let router = ready_with(&[("KEEP_ALIVE", "0"), ("MAX_QUEUE", "1")], model).await;
    let runs = begin(&router, &say("one")).await;
    begins.recv().await.expect("a step");
    let waits = begin(&router, &say("two")).await;
    let refused = post(&router, CHAT, &say("three")).await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, "1"));
    assert_eq!(refused.json()["error"]["code"], "queue_full");
    drop(permit);
    for (body, text) in [(runs, "one"), (waits, "two")] {
        let body = body.collect().await.expect("whole").to_bytes();
        assert_eq!(joined(&events(&String::from_utf8_lossy(&body)), "content"), text);
    }
}
