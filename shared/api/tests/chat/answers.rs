//! Answers as they are sent, byte for byte: `data/golden/chat-wire` holds them, and
//! `scripts/check/check_chat_wire` reads the same files with the types of the clients' libraries.

use std::fs;
use std::path::PathBuf;

use defrost_api::{
    ChatLimits, ChatRoute, ErrorBody, ErrorStyle, Finish, ReplyDelta, ReplyWriter, TokenLogprob,
    Usage,
};
use serde_json::{Value, json};

use super::common::{
    Step, USAGE, chat, chat_on, completion_on, content, facts, finish, full_reply, logprob, play,
    with_message,
};

/// Compares with the file of this name; `WRITE_GOLDEN=1` writes it instead.
fn golden(name: &str, found: &str) {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/chat-wire");
    let path = folder.join(name);
    if std::env::var_os("WRITE_GOLDEN").is_some() {
        fs::write(&path, found).expect("the golden file is written");
        return;
    }
    let expected = fs::read_to_string(&path).expect("the golden file is there");
    assert_eq!(found, expected, "{name}");
}

fn chat_golden(name: &str, route: ChatRoute, body: &Value, steps: &[Step]) {
    let request = chat_on(route, body);
    golden(name, &play(ReplyWriter::chat(&request, facts()), steps, None));
}

fn completion_golden(name: &str, route: ChatRoute, body: &Value, steps: &[Step]) {
    let request = completion_on(route, body);
    let writer = ReplyWriter::completion(&request, facts(), vec!["Once".to_owned()]);
    golden(name, &play(writer, steps, Some(&super::common::TIMINGS)));
}

fn input() -> Value {
    json!({
        "input": "Weather?", "instructions": "Be brief.", "metadata": {"a": "b"}, "temperature": 0.5,
        "tools": [{"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}],
        "tool_choice": "auto", "max_output_tokens": 64,
    })
}

fn with_stream(body: &Value, options: &Value) -> Value {
    super::common::with(body, &super::common::with(&json!({"stream": true}), options))
}

/// Two tokens with their probabilities, the first half of a character in one of them.
fn probable() -> Vec<Step> {
    let half = TokenLogprob {
        id: 3,
        text: "\u{fffd}".to_owned(),
        bytes: vec![0xC3],
        logprob: Some(-0.5),
        top: vec![],
    };
    let rest = TokenLogprob { id: 4, bytes: vec![0xBC], ..half.clone() };
    let top = [("Gr", -0.25), ("No", f32::NEG_INFINITY)];
    vec![
        Step::Delta(0, ReplyDelta::Content("Gr".to_owned()), vec![logprob("Gr", -0.25, &top)]),
        Step::Delta(0, ReplyDelta::Content("ü".to_owned()), vec![half, rest]),
        Step::Delta(
            0,
            ReplyDelta::Content("n".to_owned()),
            vec![logprob("n", -1.5, &[("m", -0.5)])],
        ),
        finish(Finish::StopString("END".to_owned())),
    ]
}

#[test]
fn chat_completions() {
    let whole = with_message(&json!({}));
    chat_golden("chat.json", ChatRoute::Chat, &whole, &full_reply());
    let usage = json!({"stream_options": {"include_usage": true}});
    chat_golden("chat.sse", ChatRoute::Chat, &with_stream(&whole, &usage), &full_reply());
    chat_golden("chat-empty.json", ChatRoute::Chat, &whole, &[finish(Finish::Length)]);
    let warned = with_message(&json!({"temprature": 1}));
    chat_golden(
        "chat-warned.json",
        ChatRoute::Chat,
        &warned,
        &[content("a"), finish(Finish::Stop)],
    );
}

#[test]
fn log_probabilities_of_chat_completions() {
    let body = with_message(&json!({"logprobs": true, "top_logprobs": 2}));
    chat_golden("chat-logprobs.json", ChatRoute::Chat, &body, &probable());
    let stream = with_stream(&body, &json!({}));
    chat_golden("chat-logprobs.sse", ChatRoute::Chat, &stream, &probable());
}

#[test]
fn two_replies() {
    let said =
        |choice, text: &str| Step::Delta(choice, ReplyDelta::Content(text.to_owned()), vec![]);
    let steps = [
        said(1, "no"),
        said(0, "y"),
        said(0, "es"),
        Step::Finish(1, Finish::Length),
        Step::Finish(0, Finish::Stop),
    ];
    let body = with_message(&json!({"n": 2}));
    chat_golden("chat-two.json", ChatRoute::Chat, &body, &steps);
    chat_golden("chat-two.sse", ChatRoute::Chat, &with_stream(&body, &json!({})), &steps);
}

#[test]
fn functions_of_older_clients() {
    let body = with_message(&json!({"functions": [{"name": "weather"}]}));
    let steps = [
        super::common::call(0, "call_a", "weather"),
        super::common::arguments(0, "{}"),
        finish(Finish::Stop),
    ];
    chat_golden("chat-functions.json", ChatRoute::Chat, &body, &steps);
    chat_golden("chat-functions.sse", ChatRoute::Chat, &with_stream(&body, &json!({})), &steps);
}

#[test]
fn completions() {
    let body = json!({"prompt": "Once", "echo": true, "logprobs": 2});
    let first = TokenLogprob { logprob: None, ..logprob("Once", 0.0, &[]) };
    let mut steps = vec![Step::Delta(0, ReplyDelta::Content("Once".to_owned()), vec![first])];
    steps.extend(probable());
    completion_golden("completion.json", ChatRoute::Completions, &body, &steps);
    let usage = json!({"stream_options": {"include_usage": true}});
    completion_golden(
        "completion.sse",
        ChatRoute::Completions,
        &with_stream(&body, &usage),
        &steps,
    );
    let body = json!({"prompt": ["a", "b"], "logprobs": 0});
    let steps = [
        Step::Delta(1, ReplyDelta::Content("2".to_owned()), vec![logprob("2", -1.0, &[])]),
        Step::Finish(1, Finish::Stop),
        Step::Finish(0, Finish::Length),
    ];
    completion_golden("completion-two.json", ChatRoute::Completions, &body, &steps);
}

#[test]
fn completions_of_llama_cpp() {
    let body = json!({"prompt": "Once", "n_predict": 8, "n_probs": 1, "temperature": 0.5, "logit_bias": [[7, false]]});
    completion_golden("llama.json", ChatRoute::LlamaCompletion, &body, &probable());
    let body = json!({"prompt": "Once"});
    let stream = with_stream(&body, &json!({}));
    completion_golden("llama.sse", ChatRoute::LlamaCompletion, &stream, &probable());
    let two = json!({"prompt": ["Once"], "n": 2});
    let steps = [content("a\n"), finish(Finish::Length), Step::Finish(1, Finish::Stop)];
    completion_golden("llama-two.json", ChatRoute::LlamaCompletion, &two, &steps);
}

#[test]
fn responses() {
    chat_golden("responses.json", ChatRoute::Responses, &input(), &full_reply());
    let stream = with_stream(&input(), &json!({}));
    chat_golden("responses.sse", ChatRoute::Responses, &stream, &full_reply());
    let cut = [content("Let"), finish(Finish::Length)];
    let named = json!({
        "input": "a", "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        "tools": [{"type": "function", "name": "f"}],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
    });
    chat_golden("responses-cut.json", ChatRoute::Responses, &named, &cut);
    chat_golden("responses-cut.sse", ChatRoute::Responses, &with_stream(&named, &json!({})), &cut);
    let probable_body =
        json!({"input": "a", "include": ["message.output_text.logprobs"], "top_logprobs": 2});
    chat_golden("responses-logprobs.json", ChatRoute::Responses, &probable_body, &probable());
    let stream = with_stream(&probable_body, &json!({}));
    chat_golden("responses-logprobs.sse", ChatRoute::Responses, &stream, &probable());
    let nothing = [finish(Finish::Stop)];
    chat_golden("responses-empty.json", ChatRoute::Responses, &json!({"input": "a"}), &nothing);
}

#[test]
fn messages_of_anthropic() {
    let body = with_message(&json!({"max_tokens": 64}));
    chat_golden("messages.json", ChatRoute::Messages, &body, &full_reply());
    let stream = with_stream(&body, &json!({}));
    chat_golden("messages.sse", ChatRoute::Messages, &stream, &full_reply());
    let stopped = [content("a"), finish(Finish::StopString("END".to_owned()))];
    chat_golden("messages-stopped.json", ChatRoute::Messages, &body, &stopped);
    chat_golden("messages-stopped.sse", ChatRoute::Messages, &stream, &stopped);
    let cut = [
        super::common::call(0, "call_a", "weather"),
        super::common::arguments(0, "{\"pla"),
        finish(Finish::Length),
    ];
    chat_golden("messages-cut.json", ChatRoute::Messages, &body, &cut);
}

#[test]
fn failures_after_the_first_byte() {
    for (name, route, body) in [
        ("chat-failed.sse", ChatRoute::Chat, with_message(&json!({}))),
        ("responses-failed.sse", ChatRoute::Responses, json!({"input": "a"})),
        ("messages-failed.sse", ChatRoute::Messages, with_message(&json!({}))),
    ] {
        let request = chat_on(route, &with_stream(&body, &json!({})));
        let mut writer = ReplyWriter::chat(&request, facts());
        let mut out = Vec::new();
        writer.begin(&Usage { completion_tokens: 0, ..USAGE }, &mut out);
        writer.delta(0, &ReplyDelta::Content("Let".to_owned()), &[], &mut out);
        writer.fail(504, "deadline", "the request's time is over", &mut out);
        golden(name, &String::from_utf8(out).expect("text"));
    }
    for (name, route) in [
        ("completion-failed.sse", ChatRoute::Completions),
        ("llama-failed.sse", ChatRoute::LlamaCompletion),
    ] {
        let request = completion_on(route, &json!({"prompt": "a", "stream": true}));
        let mut writer = ReplyWriter::completion(&request, facts(), vec!["a".to_owned()]);
        let mut out = Vec::new();
        writer.begin(&Usage { completion_tokens: 0, ..USAGE }, &mut out);
        writer.fail(503, "stopping", "the server is stopping", &mut out);
        golden(name, &String::from_utf8(out).expect("text"));
    }
    let request = chat(&json!({}));
    let (mut writer, mut out) = (ReplyWriter::chat(&request, facts()), Vec::new());
    writer.begin(&USAGE, &mut out);
    writer.fail(504, "deadline", "the request's time is over", &mut out);
    assert!(out.is_empty(), "a whole answer has not begun; its error has a status");
}

#[test]
fn errors() {
    for (name, style) in
        [("error.json", ErrorStyle::OpenAi), ("error-anthropic.json", ErrorStyle::Anthropic)]
    {
        let body = ErrorBody::new(style, 400, "invalid_request", Some("top_p"), "top_p: too high");
        golden(name, &serde_json::to_string(&body).expect("json"));
    }
    let kind = |status| {
        let body = ErrorBody::new(ErrorStyle::Anthropic, status, "c", None, "m");
        serde_json::to_value(body).expect("json")["error"]["type"].clone()
    };
    for (status, expected) in [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ] {
        assert_eq!(kind(status), expected);
    }
    let broken = ChatRoute::Messages.parse(b"{", &ChatLimits::default()).expect_err("no json");
    assert_eq!(broken.style, ErrorStyle::Anthropic);
}
