//! The other APIs, the routes beside replies, and what the function tells of itself.

use serde_json::json;

use super::toy::ready;
use super::{CHAT, events, say, stream};
use crate::behaviour::toy::{get, post};

#[tokio::test]
async fn responses_are_answered() {
    let router = ready(&[]).await;
    let body = json!({"input": "hello", "temperature": 0});
    let answer = post(&router, "/v1/responses", &body).await.json();
    assert_eq!((&answer["object"], &answer["status"]), (&json!("response"), &json!("completed")));
    let output = answer["output"].as_array().expect("output");
    let message = output.iter().find(|item| item["type"] == "message").expect("a message");
    assert_eq!(message["content"][0]["text"], "hello", "{answer}");
    let events = events(&stream(&router, "/v1/responses", &body).await.text);
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(kinds.first(), Some(&"response.created"));
    assert_eq!(kinds.last(), Some(&"response.completed"));
    let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta");
    let text: String = deltas.filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn messages_are_answered() {
    let router = ready(&[]).await;
    let body = json!({"max_tokens": 20, "messages": [{"role": "user", "content": "hello"}], "temperature": 0});
    let answer = post(&router, "/v1/messages", &body).await.json();
    assert_eq!((&answer["type"], &answer["stop_reason"]), (&json!("message"), &json!("end_turn")));
    assert_eq!(answer["content"][0]["text"], "hello", "{answer}");
    assert_eq!(answer["usage"]["input_tokens"], 8);
    let events = events(&stream(&router, "/v1/messages", &body).await.text);
    let kinds: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!((kinds.first(), kinds.last()), (Some(&"message_start"), Some(&"message_stop")));
    let counted = post(&router, "/v1/messages/count_tokens", &body).await.json();
    assert_eq!(counted["input_tokens"], 8, "{counted}");
    let refused = post(&router, "/v1/messages", &json!({"messages": []})).await;
    assert_eq!(refused.status, 400);
    let error = refused.json();
    assert_eq!(
        (&error["type"], &error["error"]["type"]),
        (&json!("error"), &json!("invalid_request_error"))
    );
}

#[tokio::test]
async fn llama_cpp_is_answered() {
    let router = ready(&[]).await;
    let body = json!({"prompt": "ab", "n_predict": 4, "temperature": 0});
    let answer = post(&router, "/completion", &body).await.json();
    assert_eq!((&answer["content"], &answer["stop"]), (&json!("abab"), &json!(true)), "{answer}");
    let messages = json!([{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}]);
    let applied = post(&router, "/apply-template", &json!({"messages": messages})).await.json();
    assert_eq!(applied["prompt"], "<|system|>be<|end|><|user|>hi<|end|><|assistant|>");
    let tokens = post(&router, "/tokenize", &json!({"messages": messages})).await.json();
    assert_eq!(tokens["count"], 2 + 2 + 5, "{tokens}");
    let props = get(&router, "/props").await.json();
    assert_eq!(props["default_generation_settings"]["n_ctx"], 2048, "{props}");
    assert!(props["chat_template"].as_str().is_some_and(|template| template.contains("<|end|>")));
    assert_eq!(props["eos_token"], "<|end|>");
    let slots = get(&router, "/slots").await.json();
    assert_eq!(slots.as_array().map(Vec::len), Some(32));
    assert_eq!((&slots[0]["is_processing"], &slots[0]["n_ctx"]), (&json!(false), &json!(2048)));
}

/// The paths of Azure name the model; that of `SageMaker` says by its keys whose request it is.
#[tokio::test]
async fn other_paths_lead_to_the_same() {
    let router = ready(&[]).await;
    for path in [
        "/chat/completions",
        "/openai/v1/chat/completions",
        "/openai/deployments/gpt/chat/completions?api-version=1",
        "/invocations",
        "/",
    ] {
        let answer = post(&router, path, &say("hello")).await.json();
        assert_eq!(answer["choices"][0]["message"]["content"], "hello", "{path}: {answer}");
    }
    let strict = ready(&[("STRICT_MODEL", "true")]).await;
    let answer = post(&strict, "/openai/deployments/gpt/chat/completions", &say("hello")).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.json()["error"]["code"]),
        (404, &json!("model_not_found"))
    );
    for (path, function) in [("/v1/embeddings", "embed"), ("/v1/rerank", "rerank-cpu-int8")] {
        let answer = post(&router, path, &json!({})).await;
        assert_eq!(answer.status, 404);
        assert!(answer.text.contains(&format!("the function {function}")), "{}", answer.text);
    }
}

#[tokio::test]
async fn the_function_says_what_it_is() {
    let router = ready(&[("MAX_TOKENS", "77")]).await;
    let models = get(&router, "/v1/models").await.json();
    assert_eq!(models["data"][0]["capabilities"], json!(["chat"]));
    let info = get(&router, "/info").await.json();
    assert_eq!(
        (&info["context_length"], &info["max_tokens"]),
        (&json!(2048), &json!(77)),
        "{info}"
    );
    assert_eq!((&info["tool_calls"], &info["has_template"]), (&json!("hermes"), &json!(true)));
    let root = get(&router, "/").await.json();
    assert!(root["endpoints"]["chat"].as_array().is_some_and(|paths| paths.contains(&json!(CHAT))));
}

/// Nothing is told of generation that the page does not explain.
#[tokio::test]
async fn every_metric_of_generation_is_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let page = std::fs::read_to_string(path).expect("the page");
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let names = rows.flat_map(|row| row.split('|').nth(1).unwrap_or_default().split(", "));
    let documented: Vec<&str> = names.map(|name| name.trim().trim_matches('`')).collect();
    let router = ready(&[]).await;
    post(&router, CHAT, &say("hello")).await;
    let text = get(&router, "/metrics").await.text;
    let found: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| !name.starts_with("te_"))
        .collect();
    for name in &found {
        assert!(documented.contains(name), "{name}");
    }
    for name in
        ["time_to_first_token_seconds", "time_per_output_token_seconds", "kv_tokens", "generations"]
    {
        assert!(found.contains(&&*format!("defrost_{name}")), "{name} in {found:?}");
    }
    for line in [
        r#"defrost_tokens_total{model="toy/echo",kind="prompt"} 8"#,
        r#"defrost_tokens_total{model="toy/echo",kind="completion"} 6"#,
        r#"defrost_generations{model="toy/echo",state="running"} 0"#,
        r#"defrost_kv_tokens{model="toy/echo",state="held"} 0"#,
        r#"defrost_time_to_first_token_seconds_count{model="toy/echo"} 1"#,
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
