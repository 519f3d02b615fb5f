//! What a stream adds up to, read as clients read it, against the whole answer of the same reply.

use defrost_api::{ChatRoute, Finish, ReplyDelta, ReplyWriter};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::common::{
    Step, call, chat, chat_on, completion_on, content, facts, finish, full_reply, reasoning,
    streamed, streamed_completion, whole, whole_completion, with_message,
};

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn count(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|number| usize::try_from(number).ok())
}

/// Adds up the chunks of a chat completion to its message and its reason.
fn add_up_chat(events: &[(String, Value)]) -> (Value, Value) {
    let (mut said, mut thought, mut calls) = (String::new(), String::new(), Vec::<Value>::new());
    let mut reason = Value::Null;
    for (_, chunk) in events {
        let choice = &chunk["choices"][0];
        said += text(choice, "/delta/content");
        thought += text(choice, "/delta/reasoning_content");
        for delta in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let index = count(&delta["index"]).expect("an index");
            if index == calls.len() {
                calls.push(delta.clone());
                calls[index].as_object_mut().expect("an object").remove("index");
            } else {
                let more = text(&calls[index], "/function/arguments").to_owned()
                    + text(delta, "/function/arguments");
                calls[index]["function"]["arguments"] = more.into();
            }
        }
        if !choice["finish_reason"].is_null() {
            assert!(reason.is_null(), "one reason");
            reason = choice["finish_reason"].clone();
        }
    }
    let mut message = json!({"role": "assistant", "refusal": null});
    message["content"] =
        if said.is_empty() && !calls.is_empty() { Value::Null } else { said.into() };
    if !thought.is_empty() {
        message["reasoning_content"] = thought.into();
    }
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    (message, reason)
}

/// Adds up the events of a message to its blocks and its reason, and checks that blocks are opened
/// and closed in turn.
fn add_up_messages(events: &[(String, Value)]) -> (Vec<Value>, Value) {
    let (mut blocks, mut open, mut partial) = (Vec::<Value>::new(), false, String::new());
    let mut reason = Value::Null;
    for (name, data) in events {
        assert_eq!(text(data, "/type"), name);
        match name.as_str() {
            "content_block_start" => {
                assert!(!open && data["index"] == blocks.len());
                blocks.push(data["content_block"].clone());
                (open, partial) = (true, String::new());
            }
            "content_block_delta" => {
                assert!(open && data["index"] == blocks.len() - 1);
                let block = blocks.last_mut().expect("a block");
                for field in ["text", "thinking"] {
                    let more = text(data, &format!("/delta/{field}"));
                    if !more.is_empty() {
                        block[field] = (text(block, &format!("/{field}")).to_owned() + more).into();
                    }
                }
                partial += text(data, "/delta/partial_json");
            }
            "content_block_stop" => {
                assert!(open && data["index"] == blocks.len() - 1);
                open = false;
                let block = blocks.last_mut().expect("a block");
                if block["type"] == "tool_use" && !partial.is_empty() {
                    block["input"] = serde_json::from_str(&partial).expect("json");
                }
            }
            "message_delta" => reason = data["delta"]["stop_reason"].clone(),
            "message_start" | "message_stop" => {}
            other => panic!("{other}"),
        }
    }
    assert!(!open);
    (blocks, reason)
}

/// Reads the events of a response: numbers count up, items begin and end in turn, and what was said
/// of each adds up to what it is in the end.
fn check_responses(events: &[(String, Value)]) -> Value {
    let mut items: Vec<(String, String, bool)> = Vec::new();
    for (number, (name, data)) in events.iter().enumerate() {
        assert_eq!(
            (text(data, "/type"), &data["sequence_number"]),
            (name.as_str(), &json!(number))
        );
        let at = count(&data["output_index"]);
        match name.as_str() {
            "response.output_item.added" => {
                assert!(items.iter().all(|(_, _, done)| *done), "one after the other");
                assert_eq!(at, Some(items.len()));
                items.push((text(data, "/item/id").to_owned(), String::new(), false));
            }
            "response.output_item.done" => items[at.expect("an index")].2 = true,
            name if name.rsplit('.').next() == Some("delta") => {
                let item = &mut items[at.expect("an index")];
                assert!(item.0 == text(data, "/item_id") && !item.2);
                item.1 += text(data, "/delta");
            }
            name if name.rsplit('.').next() == Some("done") => {
                let item = &items[at.expect("an index")];
                let said = text(data, "/text").to_owned()
                    + text(data, "/arguments")
                    + text(data, "/part/text");
                assert_eq!(item.1, said);
            }
            _ => {}
        }
    }
    let (last, data) = events.last().expect("events");
    assert!(["response.completed", "response.incomplete"].contains(&last.as_str()));
    let output = data["response"]["output"].as_array().expect("items");
    assert_eq!(output.len(), items.len());
    for (item, (id, said, done)) in output.iter().zip(items) {
        assert!(done && text(item, "/id") == id);
        assert_eq!(text(item, "/content/0/text").to_owned() + text(item, "/arguments"), said);
    }
    data["response"].clone()
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![".{1,6}", Just("\u{2028}\u{85}\n".to_owned()), Just("\"}]".to_owned())]
}

/// Any reply: pieces in any order, arguments that are JSON when taken together.
fn any_reply() -> impl Strategy<Value = Vec<Step>> {
    let piece = prop_oneof![
        any_text().prop_map(|text| vec![content(&text)]),
        any_text().prop_map(|text| vec![reasoning(&text)]),
        (any_text(), any_text(), 0_usize..9).prop_map(|(id, value, cut)| {
            let arguments = json!({"a": value}).to_string();
            let cut = arguments.floor_char_boundary(cut);
            let fragments = [&arguments[..cut], &arguments[cut..]];
            let fragment = |text: &&str| super::common::arguments(0, text);
            let mut steps = vec![call(0, &id, "f")];
            steps.extend(fragments.iter().filter(|text| !text.is_empty()).map(fragment));
            steps
        }),
    ];
    let ends = prop_oneof![
        Just(Finish::Stop),
        Just(Finish::Length),
        Just(Finish::StopString("x".to_owned()))
    ];
    (prop::collection::vec(piece, 0..8), ends).prop_map(|(pieces, end)| {
        let mut calls = 0;
        let mut steps: Vec<Step> = pieces.into_iter().flatten().collect();
        for step in &mut steps {
            if let Step::Delta(_, delta, _) = step {
                match delta {
                    ReplyDelta::ToolCall { index, .. } => {
                        *index = calls;
                        calls += 1;
                    }
                    ReplyDelta::Arguments { index, .. } => *index = calls - 1,
                    ReplyDelta::Content(_) | ReplyDelta::Reasoning(_) => {}
                }
            }
        }
        steps.push(finish(end));
        steps
    })
}

proptest! {
    #[test]
    fn a_stream_adds_up_to_the_whole_answer(steps in any_reply()) {
        let stream = json!({"stream": true, "stream_options": {"include_usage": true}});
        let expected = whole(&chat(&json!({})), &steps);
        let events = streamed(&chat(&stream), &steps);
        let (message, reason) = add_up_chat(&events);
        prop_assert_eq!(&message, &expected["choices"][0]["message"]);
        prop_assert_eq!(&reason, &expected["choices"][0]["finish_reason"]);

        let expected = whole(&chat_on(ChatRoute::Responses, &json!({"input": "a"})), &steps);
        let request = chat_on(ChatRoute::Responses, &json!({"input": "a", "stream": true}));
        prop_assert_eq!(check_responses(&streamed(&request, &steps)), expected);

        let expected = whole(&chat_on(ChatRoute::Messages, &with_message(&json!({}))), &steps);
        let request = chat_on(ChatRoute::Messages, &with_message(&stream));
        let (blocks, reason) = add_up_messages(&streamed(&request, &steps));
        prop_assert_eq!(&reason, &expected["stop_reason"]);
        // A whole message has one block of thoughts and one of text; both say all of it.
        let said = |blocks: &[Value], field: &str| -> String {
            blocks.iter().map(|block| text(block, &format!("/{field}"))).collect()
        };
        let expected = expected["content"].as_array().expect("blocks");
        for field in ["text", "thinking"] {
            prop_assert_eq!(said(&blocks, field), said(expected, field));
        }
        let tools = |blocks: &[Value]| -> Vec<Value> {
            blocks.iter().filter(|block| block["type"] == "tool_use").cloned().collect()
        };
        prop_assert_eq!(tools(&blocks), tools(expected));
    }

    #[test]
    fn texts_are_continued_alike(steps in any_reply()) {
        let says = |step: &Step| !matches!(step, Step::Delta(_, ReplyDelta::Content(_), _) | Step::Finish(..));
        let steps: Vec<Step> = steps.into_iter().filter(|step| !says(step)).collect();
        for route in [ChatRoute::Completions, ChatRoute::LlamaCompletion] {
            let expected = whole_completion(&completion_on(route, &json!({"prompt": "a"})), &steps);
            let request = completion_on(route, &json!({"prompt": "a", "stream": true}));
            let events = streamed_completion(&request, &steps);
            let field = if route == ChatRoute::Completions { "/choices/0/text" } else { "/content" };
            let said: String = events.iter().map(|(_, event)| text(event, field)).collect();
            prop_assert_eq!(said, text(&expected, field));
        }
    }
}

#[test]
fn the_order_of_a_chat_stream() {
    let stream = json!({"stream": true, "stream_options": {"include_usage": true}});
    let events = streamed(&chat(&stream), &full_reply());
    let chunks: Vec<&Value> = events.iter().map(|(_, chunk)| chunk).collect();
    assert_eq!(
        chunks[0]["choices"],
        json!([{"index": 0, "delta": {"role": "assistant", "content": null}, "logprobs": null, "finish_reason": null}])
    );
    let end = chunks.len();
    assert!(chunks[1..end - 1].iter().all(|chunk| chunk["choices"][0]["delta"]["role"].is_null()));
    let last = &chunks[end - 3]["choices"][0];
    assert_eq!((&last["delta"], &last["finish_reason"]), (&json!({}), &json!("tool_calls")));
    let usage = chunks[end - 2];
    assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(21)));
    assert_eq!(usage["usage"]["prompt_tokens_details"]["cached_tokens"], 5);
    assert_eq!(usage["timings"]["predicted_per_second"], 100.0);
    assert_eq!(chunks[end - 1], "[DONE]");
    let same = |chunk: &&Value| (chunk["id"].clone(), chunk["created"].clone());
    assert!(chunks[..end - 1].iter().all(|chunk| same(chunk) == (json!("chatcmpl-1"), json!(7))));
    assert!(chunks[..end - 2].iter().all(|chunk| chunk.get("usage") == Some(&Value::Null)));
    let without = streamed(&chat(&json!({"stream": true})), &full_reply());
    assert!(without.iter().all(|(_, chunk)| chunk.get("usage").is_none()));
    assert_eq!(without.len(), end - 1);
}

#[test]
fn thoughts_are_left_out_where_they_are_not_wanted() {
    for stream in [false, true] {
        let request = chat(&json!({"include_reasoning": false, "stream": stream}));
        let (mut writer, mut out) = (ReplyWriter::chat(&request, facts()), Vec::new());
        writer.begin(&super::common::USAGE, &mut out);
        writer.delta(0, &ReplyDelta::Reasoning("secret".to_owned()), &[], &mut out);
        writer.delta(0, &ReplyDelta::Content("said".to_owned()), &[], &mut out);
        writer.finish(0, &Finish::Stop, &[], &mut out);
        writer.end(&super::common::USAGE, None, &mut out);
        let sent = String::from_utf8(out).expect("text");
        assert!(sent.contains("said") && !sent.contains("secret"), "{sent}");
    }
}

#[test]
fn what_is_sent_while_nothing_is_to_be_said() {
    let wait = |route, body: Value, begun: bool| {
        let mut writer = ReplyWriter::chat(&chat_on(route, &body), facts());
        if begun {
            writer.begin(&super::common::USAGE, &mut Vec::new());
        }
        writer.keep_alive()
    };
    let stream = with_message(&json!({"stream": true}));
    assert_eq!(wait(ChatRoute::Chat, stream.clone(), true), b": keep-alive\n\n");
    assert_eq!(wait(ChatRoute::Messages, stream.clone(), false), b": keep-alive\n\n");
    assert_eq!(
        wait(ChatRoute::Messages, stream, true),
        b"event: ping\ndata: {\"type\":\"ping\"}\n\n"
    );
    assert_eq!(wait(ChatRoute::Chat, with_message(&json!({})), true), b"");
}
