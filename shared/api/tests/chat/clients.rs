//! Bodies as real clients send them, caught on loopback, with second turns after calls of tools and
//! forms of answers: openai 3.57, anthropic 2.14, langchain-openai 1.7 (chat and responses),
//! langchain-anthropic 1.7, pydantic-ai 2.68, litellm 1.110, ai 6.0 with its openai 3.0,
//! openai-compatible 2.0 and anthropic 3.0 (2026-11-30).

use defrost_api::{ChatApi, ChatCall, ChatLimits, ChatRoute, OutputFormat, Role, ToolChoice};
use serde_json::{Value, json};

use super::common::refused;

const BODIES: &str = include_str!("clients.jsonl");

fn calls() -> impl Iterator<Item = (Value, ChatCall)> {
    BODIES.lines().map(|line| {
        let sent: Value = serde_json::from_str(line).expect("a line is json");
        let path = sent["path"].as_str().expect("a path");
        let (_, route) =
            ChatRoute::PATHS.into_iter().find(|(known, _)| *known == path).expect("a route");
        let body = sent["body"].clone();
        let read = route.parse(body.to_string().as_bytes(), &ChatLimits::default());
        let call = read.unwrap_or_else(|invalid| panic!("{body}: {invalid}"));
        (body, call)
    })
}

#[test]
fn everything_that_clients_send_is_read_without_a_word() {
    let mut seen = 0;
    for (body, call) in calls() {
        seen += 1;
        let ChatCall::Chat(request) = call else {
            assert!(matches!(call, ChatCall::Completion(_)), "{body}");
            continue;
        };
        assert_eq!(request.warnings, [""; 0], "{body}");
        let conversation = request.conversation;
        assert_eq!(conversation.tools.len(), body["tools"].as_array().map_or(0, Vec::len));
        assert_eq!(request.generation.stream.is_some(), body["stream"] == true, "{body}");
        let asks = [&body["response_format"], &body["text"], &body["output_config"]];
        let asks = asks.iter().any(|form| form.is_object());
        assert_eq!(request.generation.format != OutputFormat::Text, asks, "{body}");
        // Every call of a second turn has its result, which knows whose it is.
        let called: Vec<_> = conversation.messages.iter().flat_map(|one| &one.tool_calls).collect();
        let results: Vec<_> =
            conversation.messages.iter().filter(|one| one.role == Role::Tool).collect();
        for result in &results {
            assert!(called.iter().any(|call| {
                Some(&call.id) == result.tool_call_id.as_ref()
                    && Some(&call.name) == result.name.as_ref()
            }));
        }
        if !results.is_empty() {
            assert_eq!(called[0].name, "weather", "{body}");
            let arguments: Value = serde_json::from_str(&called[0].arguments).expect("json");
            assert_eq!(arguments, json!({"place": "Bern"}));
        }
    }
    assert!(seen > 30);
}

#[test]
fn every_api_has_a_second_turn_and_a_tool_that_must_be_called() {
    let requests: Vec<_> = calls()
        .filter_map(|(_, call)| match call {
            ChatCall::Chat(request) => Some(request),
            _ => None,
        })
        .collect();
    for api in [ChatApi::Chat, ChatApi::Responses, ChatApi::Messages] {
        let of_api = || requests.iter().filter(|request| request.api == api);
        let is_second = |messages: &[defrost_api::ChatMessage]| {
            messages.iter().any(|message| message.role == Role::Tool)
        };
        assert!(of_api().any(|request| is_second(&request.conversation.messages)), "{api:?}");
    }
    let choices: Vec<_> =
        requests.iter().map(|request| &request.conversation.tool_choice).collect();
    assert!(choices.contains(&&ToolChoice::Required));
    assert!(choices.contains(&&ToolChoice::Named("weather".to_owned())));
}

/// The AI SDK's responses do so unless they are told `store: false`.
#[test]
fn what_refers_to_a_stored_item_is_told_that_nothing_is_stored() {
    let input =
        json!([{"role": "user", "content": "a"}, {"type": "item_reference", "id": "msg_1"}]);
    let invalid = refused(ChatRoute::Responses, &json!({"input": input}));
    assert_eq!(invalid.param.as_deref(), Some("input[1].type"));
    assert!(invalid.message.contains("store: false"), "{}", invalid.message);
}

/// `prompt` of `OpenAI`'s responses names a prompt that is stored with them; in completions it is the text.
#[test]
fn a_stored_prompt_is_told_that_nothing_is_stored() {
    let stored = json!({"id": "pmpt_1", "version": "2", "variables": {"city": "Bern"}});
    for body in [json!({"prompt": stored}), json!({"prompt": stored, "input": "hi"})] {
        let invalid = refused(ChatRoute::Responses, &body);
        assert_eq!(invalid.param.as_deref(), Some("prompt"));
        assert!(invalid.message.contains("no prompt is stored"), "{}", invalid.message);
        assert!(invalid.message.contains("instructions"), "{}", invalid.message);
    }
    let text = refused(ChatRoute::Responses, &json!({"prompt": "hi"}));
    assert!(text.message.contains("/v1/completions"), "{}", text.message);
    let elsewhere = refused(ChatRoute::Completions, &json!({"prompt": stored}));
    assert!(!elsewhere.message.contains("stored"), "{}", elsewhere.message);
}
