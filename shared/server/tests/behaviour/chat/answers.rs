//! Whole answers: what is said, how it ends, what it cost, and what is refused.

use serde_json::{Value, json};

use super::toy::{CONTEXT, Echo, ready, ready_with};
use super::{CHAT, refused, say, say_with, stream, together};
use crate::behaviour::toy::post;

#[tokio::test]
async fn a_reply_says_what_its_clients_read() {
    let router = ready(&[]).await;
    let answer = post(&router, CHAT, &say("hello")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    assert_eq!((&body["object"], &body["model"]), (&json!("chat.completion"), &json!("toy/echo")));
    assert!(body["id"].as_str().is_some_and(|id| id.starts_with("chatcmpl-")), "{body}");
    let choice = &body["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["message"]["content"], "hello");
    assert_eq!((&choice["finish_reason"], &choice["index"]), (&json!("stop"), &json!(0)));
    // The marks of user, end and assistant, and the one that ends the turn.
    let usage = &body["usage"];
    assert_eq!(usage["prompt_tokens"], 5 + 3, "{usage}");
    assert_eq!(usage["completion_tokens"], 5 + 1, "{usage}");
    assert_eq!(usage["total_tokens"], 5 + 3 + 5 + 1, "{usage}");
    assert!(answer.header("server-timing").contains("inference;dur="), "{:?}", answer.headers);
}

#[tokio::test]
async fn completions_end_where_they_are_told_to() {
    let router = ready(&[]).await;
    for (text, fields, content, finish) in [
        ("hello world", json!({"max_tokens": 4}), "hell", "length"),
        ("hello world", json!({"max_completion_tokens": 4}), "hell", "length"),
        ("hello world", json!({"stop": " w"}), "hello", "stop"),
        ("hello world", json!({"stop": ["xyz", "lo wo"]}), "hel", "stop"),
        ("hello world", json!({"stop": "nowhere"}), "hello world", "stop"),
        ("héllo 🌍!", json!({}), "héllo 🌍!", "stop"),
        // Half of a character is one that stands for it, never bytes that are no text.
        ("🌍", json!({"max_tokens": 2}), "\u{fffd}", "length"),
        ("", json!({}), "", "stop"),
    ] {
        let body = say_with(text, fields.clone());
        let answer = post(&router, CHAT, &body).await.json();
        let choice = &answer["choices"][0];
        assert_eq!(choice["message"]["content"].as_str().unwrap_or(""), content, "{body} {answer}");
        assert_eq!(choice["finish_reason"], finish, "{body}");
    }
}

#[tokio::test]
async fn several_replies_are_each_whole() {
    let router = ready(&[]).await;
    let answer = post(&router, CHAT, &say_with("abc", json!({"n": 3}))).await.json();
    let choices = answer["choices"].as_array().expect("choices");
    for (at, choice) in choices.iter().enumerate() {
        assert_eq!((&choice["index"], &choice["message"]["content"]), (&json!(at), &json!("abc")));
    }
    assert_eq!((choices.len(), &answer["usage"]["completion_tokens"]), (3, &json!(12)));
    assert_eq!(answer["usage"]["prompt_tokens"], 6);
}

#[tokio::test]
async fn log_probabilities_are_those_of_the_tokens() {
    let router = ready(&[]).await;
    let body = say_with("hé", json!({"logprobs": true, "top_logprobs": 2}));
    let answer = post(&router, CHAT, &body).await.json();
    let content = answer["choices"][0]["logprobs"]["content"].as_array().expect("logprobs");
    let bytes: Vec<Value> = content.iter().map(|token| token["bytes"].clone()).collect();
    assert_eq!(bytes[..3], [json!([104]), json!([195]), json!([169])], "{answer}");
    for token in content {
        assert_eq!(token["top_logprobs"].as_array().map(Vec::len), Some(2), "{token}");
        assert!(token["logprob"].as_f64().is_some_and(|logprob| logprob <= 0.0), "{token}");
    }
}

/// C4: a text, several, token ids; sixteen tokens unless more are asked for.
#[tokio::test]
async fn texts_are_continued() {
    let router = ready(&[]).await;
    let ask = async |body: Value| post(&router, "/v1/completions", &body).await.json();
    let answer = ask(json!({"prompt": "ab", "temperature": 0})).await;
    assert_eq!(answer["object"], "text_completion");
    let choice = &answer["choices"][0];
    assert_eq!(
        (&choice["text"], &choice["finish_reason"]),
        (&json!("ab".repeat(8)), &json!("length"))
    );
    let answer =
        ask(json!({"prompt": ["ab", "cd"], "max_tokens": 2, "n": 2, "temperature": 0})).await;
    let texts: Vec<&Value> =
        answer["choices"].as_array().expect("choices").iter().map(|one| &one["text"]).collect();
    assert_eq!(texts, ["ab", "ab", "cd", "cd"]);
    let indices: Vec<&Value> =
        answer["choices"].as_array().expect("choices").iter().map(|one| &one["index"]).collect();
    assert_eq!(indices, [&json!(0), &json!(1), &json!(2), &json!(3)]);
    assert_eq!(answer["usage"]["prompt_tokens"], 4);
    let answer = ask(json!({"prompt": [97, 98], "max_tokens": 3, "temperature": 0})).await;
    assert_eq!(answer["choices"][0]["text"], "aba");
    let answer = ask(
        json!({"prompt": "ab", "max_tokens": 2, "temperature": 0, "echo": true, "logprobs": 1}),
    )
    .await;
    let choice = &answer["choices"][0];
    assert_eq!(choice["text"], "abab", "{answer}");
    let logprobs = &choice["logprobs"];
    assert_eq!(logprobs["tokens"], json!(["a", "b", "a", "b"]), "{logprobs}");
    assert_eq!(logprobs["token_logprobs"][0], Value::Null);
    assert!(logprobs["token_logprobs"][3].is_f64(), "{logprobs}");
}

/// 4.3 and 4.4: a conversation that is too long is refused with numbers and in the words that clients look for,
/// before a stream begins too.
#[tokio::test]
async fn what_does_not_fit_is_refused_with_numbers() {
    let router = ready(&[]).await;
    let long = "x".repeat(CONTEXT + 10);
    let wide = say_with("hi", json!({"max_tokens": CONTEXT}));
    for body in [say(&long), wide.clone(), say(&"x".repeat(100_000))] {
        let streamed = stream(&router, CHAT, &body).await;
        let (status, error) = refused(&router, CHAT, &body).await;
        assert_eq!((status, streamed.status.as_u16()), (400, 400), "{error}");
        assert_eq!(error, streamed.json()["error"]);
        assert_eq!(error["code"], "context_length_exceeded");
        let message = error["message"].as_str().expect("a message");
        for phrase in [
            "input is too large",
            "This model's maximum context length is 2048 tokens",
            "Please reduce the length of the input prompt",
        ] {
            assert!(message.contains(phrase), "{phrase} in {message}");
        }
    }
    let (_, error) = refused(&router, CHAT, &wide).await;
    assert!(
        error["message"].as_str().is_some_and(|text| text.contains("the prompt has 5")),
        "{error}"
    );
    // A default is no wish.
    let router = ready(&[("MAX_TOKENS", "100000")]).await;
    let answer = post(&router, CHAT, &say("hi")).await.json();
    assert_eq!(answer["choices"][0]["message"]["content"], "hi", "{answer}");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_told_by_its_field() {
    let router = ready(&[]).await;
    for (body, param, part) in [
        (json!({"messages": []}), "messages", "messages"),
        (json!({"messages": [{"role": "pope", "content": "x"}]}), "messages[0].role", "pope"),
        (
            json!({"messages": [{"role": "system", "content": "refuse"}]}),
            "messages",
            "this conversation is refused",
        ),
        (say_with("a", json!({"temperature": -1})), "temperature", "temperature"),
        (say_with("a", json!({"logit_bias": {"9999": 1}})), "logit_bias", "9999"),
        (say_with("a", json!({"stop_token_ids": [9999]})), "stop_token_ids", "9999"),
    ] {
        let (status, error) = refused(&router, CHAT, &body).await;
        assert_eq!(status, 400, "{body} {error}");
        assert_eq!(error["param"], param, "{body} {error}");
        assert!(
            error["message"].as_str().is_some_and(|text| text.contains(part)),
            "{body} {error}"
        );
    }
}

/// C23: what is drawn at random is not kept, unless it is drawn alike.
#[tokio::test]
async fn answers_are_kept_that_would_be_the_same() {
    let router = ready(&[("ENABLE_CACHE", "true")]).await;
    let at = |temperature: f64| say_with("abc", json!({"temperature": temperature}));
    let seeded = say_with("abc", json!({"temperature": 1, "seed": 5}));
    for (body, kept) in [(at(0.0), true), (at(1.0), false), (seeded, true)] {
        let first = post(&router, CHAT, &body).await;
        let second = post(&router, CHAT, &body).await;
        let expected = if kept { ["miss", "hit"] } else { ["", ""] };
        assert_eq!([first.header("x-cache"), second.header("x-cache")], expected, "{body}");
        assert_eq!(first.text == second.text, kept, "{body}");
    }
    for _ in 0..2 {
        let streamed = stream(&router, CHAT, &at(0.0)).await;
        assert_eq!(streamed.header("x-cache"), "");
    }
    let router = ready(&[("ENABLE_CACHE", "true"), ("TEMPERATURE", "0")]).await;
    let body = json!({"messages": [{"role": "user", "content": "abc"}]});
    post(&router, CHAT, &body).await;
    assert_eq!(post(&router, CHAT, &body).await.header("x-cache"), "hit");
}

/// With memory for one conversation, many are answered all the same, one after the other.
#[tokio::test]
async fn requests_share_little_memory() {
    let router = ready_with(&[], Echo::new().with_room(200)).await;
    let texts: Vec<String> =
        (0..12).map(|at| format!("message number {at} {}", "x".repeat(60))).collect();
    let bodies: Vec<Value> = texts.iter().map(|text| say(text)).collect();
    let asks = bodies.iter().map(|body| post(&router, CHAT, body));
    let answers = together(asks).await;
    for (answer, text) in answers.iter().zip(&texts) {
        assert_eq!(answer.json()["choices"][0]["message"]["content"], **text, "{}", answer.text);
    }
}
