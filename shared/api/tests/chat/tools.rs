//! Tools of every API, and which of them may or must be called.

use defrost_api::{ChatApi, ToolChoice};
use serde_json::{Value, json};

use super::common::{chat, refused_chat, with};

#[test]
fn choices_of_tools() {
    let function = |name: &str| json!({"type": "function", "function": {"name": name}});
    let tools = json!([function("f"), function("g")]);
    let flat = |name: &str| json!({"type": "function", "name": name});
    for (choice, expected) in [
        (json!(null), ToolChoice::Auto),
        (json!("auto"), ToolChoice::Auto),
        (json!("none"), ToolChoice::None),
        (json!("required"), ToolChoice::Required),
        (json!("any"), ToolChoice::Required),
        (json!({"type": "any"}), ToolChoice::Required),
        (json!({"type": "auto"}), ToolChoice::Auto),
        (function("g"), ToolChoice::Named("g".to_owned())),
        (flat("g"), ToolChoice::Named("g".to_owned())),
        (
            json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [function("g")]}}),
            ToolChoice::Allowed { names: vec!["g".to_owned()], required: true },
        ),
        (
            json!({"type": "allowed_tools", "mode": "auto", "tools": [flat("f"), flat("g")]}),
            ToolChoice::Allowed { names: vec!["f".to_owned(), "g".to_owned()], required: false },
        ),
    ] {
        let request = chat(&json!({"tools": tools, "tool_choice": choice}));
        assert_eq!(request.conversation.tool_choice, expected, "{choice}");
    }
    for (tools, choice) in [
        (json!([]), json!("required")),
        (json!(null), function("f")),
        (tools.clone(), function("h")),
        (tools.clone(), json!("sometimes")),
        (tools.clone(), json!({"type": "function"})),
        (tools.clone(), json!({"type": "allowed_tools", "mode": "auto", "tools": []})),
        (tools.clone(), json!({"type": "allowed_tools", "mode": "auto", "tools": [flat("h")]})),
        (tools, json!(7)),
    ] {
        let invalid = refused_chat(&json!({"tools": tools, "tool_choice": choice}));
        assert_eq!(invalid.param.as_deref(), Some("tool_choice"), "{choice}");
    }
}

#[test]
fn functions_are_tools_of_an_older_name() {
    let fields = json!({"functions": [{"name": "f", "parameters": {"type": "object"}}], "function_call": {"name": "f"}});
    let request = chat(&fields);
    assert_eq!(request.api, ChatApi::ChatFunctions);
    assert_eq!(request.conversation.tools[0].name, "f");
    assert_eq!(request.conversation.tool_choice, ToolChoice::Named("f".to_owned()));
    assert!(!request.conversation.parallel_tool_calls, "a message has room for one");
    let both = with(&fields, &json!({"tools": []}));
    assert_eq!(refused_chat(&both).param.as_deref(), Some("functions"));
}

#[test]
fn tools_that_cannot_be() {
    let tool = |function: Value| json!({"tools": [{"type": "function", "function": function}]});
    for (fields, param) in [
        (tool(json!({"description": "d"})), "tools[0].name"),
        (tool(json!({"name": ""})), "tools[0].name"),
        (tool(json!({"name": "f", "parameters": []})), "tools[0]"),
        (tool(json!([])), "tools[0].function"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "custom", "custom": {"name": "f"}}]}), "tools[0].type"),
        (json!({"tools": [3]}), "tools[0]"),
        (json!({"tools": {}}), "tools"),
        (json!({"functions": [{"name": "f"}, {"name": "f"}]}), "tools"),
        (
            tool(json!({"name": "f", "parameters": {"a": "x".repeat(300_000)}})),
            "tools[0].function.parameters.a",
        ),
    ] {
        assert_eq!(
            refused_chat(&fields).param.as_deref(),
            Some(param),
            "{}",
            fields.to_string().split_at(60).0
        );
    }
    let many: Vec<Value> = (0..3).map(|at| json!({"type": "function", "function": {"name": format!("f{at}"), "parameters": {"a": "x".repeat(200_000)}}})).collect();
    assert_eq!(refused_chat(&json!({"tools": many})).param.as_deref(), Some("tools"));
}
