//! Replies with a form: thoughts, calls of tools, grammars.

use serde_json::{Value, json};

use super::toy::ready;
use super::{CHAT, events, joined, refused, say_with, stream};
use crate::behaviour::toy::post;

const CALL: &str =
    "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"place\": \"Bern\"}}\n</tool_call>";

fn tools() -> Value {
    json!([{"type": "function", "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]},
    }}])
}

/// C10: a call is told apart from text, whole and in pieces.
#[tokio::test]
async fn calls_of_tools_are_found() {
    let router = ready(&[]).await;
    let body = say_with(CALL, json!({"tools": tools()}));
    let answer = post(&router, CHAT, &body).await.json();
    let choice = &answer["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["type"], &call["function"]["name"]), (&json!("function"), &json!("weather")));
    let arguments = call["function"]["arguments"].as_str().expect("text");
    assert_eq!(serde_json::from_str::<Value>(arguments).expect("json"), json!({"place": "Bern"}));
    let events = events(&stream(&router, CHAT, &body).await.text);
    let pieces =
        events.iter().filter_map(|event| event["choices"][0]["delta"]["tool_calls"][0].as_object());
    let arguments: String =
        pieces.filter_map(|piece| piece["function"]["arguments"].as_str()).collect();
    assert_eq!(serde_json::from_str::<Value>(&arguments).expect("json"), json!({"place": "Bern"}));
    assert_eq!(joined(&events, "content"), "");
}

#[tokio::test]
async fn without_tools_a_call_is_text() {
    let router = ready(&[]).await;
    for fields in [json!({}), json!({"tools": tools(), "tool_choice": "none"})] {
        let answer = post(&router, CHAT, &say_with(CALL, fields)).await.json();
        assert_eq!(answer["choices"][0]["message"]["content"], CALL, "{answer}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
}

/// A model that would say something else is held to a call.
#[tokio::test]
async fn a_call_that_must_come_comes() {
    let router = ready(&[]).await;
    let named = json!({"type": "function", "function": {"name": "weather"}});
    for choice in [json!("required"), named] {
        let fields = json!({"tools": tools(), "tool_choice": choice, "max_tokens": 400});
        let answer = post(&router, CHAT, &say_with(CALL, fields)).await.json();
        let call = &answer["choices"][0]["message"]["tool_calls"][0];
        assert_eq!(call["function"]["name"], "weather", "{answer}");
    }
    let fields = json!({"tools": tools(), "tool_choice": {"type": "function", "function": {"name": "wether"}}});
    let (status, error) = refused(&router, CHAT, &say_with("a", fields)).await;
    assert_eq!(status, 400);
    assert!(error["message"].as_str().is_some_and(|text| text.contains("wether")), "{error}");
}

#[tokio::test]
async fn thoughts_come_apart_from_the_answer() {
    let router = ready(&[]).await;
    let thinking = json!({"chat_template_kwargs": {"enable_thinking": true}});
    let body = say_with("hm, well</think>yes", thinking);
    let answer = post(&router, CHAT, &body).await.json();
    let message = &answer["choices"][0]["message"];
    assert_eq!(message["reasoning_content"], "hm, well", "{answer}");
    assert_eq!(message["content"], "yes", "{answer}");
    let events = events(&stream(&router, CHAT, &body).await.text);
    assert_eq!(joined(&events, "reasoning_content"), "hm, well");
    assert_eq!(joined(&events, "content"), "yes");
}

#[tokio::test]
async fn an_answer_has_the_form_that_was_asked_for() {
    let router = ready(&[]).await;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": false});
    let of_schema = json!({"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": true}});
    for (text, fields, expected) in [
        ("{\"n\": 12}", json!({"response_format": of_schema.clone()}), "{\"n\": 12}"),
        (
            "{\"any\": [1, true]}",
            json!({"response_format": {"type": "json_object"}}),
            "{\"any\": [1, true]}",
        ),
        ("no", json!({"grammar": "root ::= \"yes\" | \"no\""}), "no"),
        ("12-34", json!({"guided_regex": "[0-9]+-[0-9]+"}), "12-34"),
        ("blue", json!({"guided_choice": ["red", "blue"]}), "blue"),
    ] {
        let body = say_with(text, fields);
        let answer = post(&router, CHAT, &body).await.json();
        assert_eq!(answer["choices"][0]["message"]["content"], expected, "{body} {answer}");
    }
    // What the model would say is not what it may say.
    let body = say_with("maybe", json!({"grammar": "root ::= \"yes\" | \"no\""}));
    let answer = post(&router, CHAT, &body).await.json();
    let said = answer["choices"][0]["message"]["content"].as_str().expect("text");
    assert!(["yes", "no"].contains(&said), "{answer}");
    let events = events(&stream(&router, CHAT, &body).await.text);
    assert_eq!(joined(&events, "content"), said);
}

/// 4.5: never a schema that is silently ignored.
#[tokio::test]
async fn what_cannot_be_enforced_is_refused_by_its_name() {
    let router = ready(&[]).await;
    let of = |schema: Value| json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}});
    for (fields, field, part) in [
        (
            of(json!({"type": "object", "unevaluatedProperties": false})),
            "response_format",
            "unevaluatedProperties",
        ),
        (of(json!({"type": "nothing"})), "response_format", "nothing"),
        (json!({"grammar": "root ::= missing"}), "grammar", "missing"),
        (json!({"guided_regex": "(unclosed"}), "guided_regex", ""),
    ] {
        let body = say_with("a", fields);
        let (status, error) = refused(&router, CHAT, &body).await;
        assert_eq!((status, &error["param"]), (400, &json!(field)), "{body} {error}");
        assert!(
            error["message"].as_str().is_some_and(|text| text.contains(part)),
            "{body} {error}"
        );
    }
}
