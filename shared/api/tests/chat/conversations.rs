//! Conversations of three APIs become one.

use defrost_api::{
    ChatApi, ChatCall, ChatMessage, ChatRoute, ReasoningOutput, Role, Tool, ToolCall, ToolChoice,
};
use serde_json::{Value, json};

use super::common::{chat, chat_on, parse, refused, refused_chat, with};

const PARAMETERS: &str =
    r#"{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"integer"}}}"#;

fn parameters() -> Value {
    serde_json::from_str(PARAMETERS).expect("json")
}

fn openai(messages: &Value) -> Vec<ChatMessage> {
    chat_on(ChatRoute::Chat, &json!({"messages": messages})).conversation.messages
}

fn plain(role: Role, text: &str) -> ChatMessage {
    ChatMessage::text(role, text)
}

fn called(calls: &[(&str, &str, &str)]) -> ChatMessage {
    let call = |&(id, name, arguments): &(&str, &str, &str)| ToolCall {
        id: id.to_owned(),
        name: name.to_owned(),
        arguments: arguments.to_owned(),
    };
    let mut message = plain(Role::Assistant, "");
    message.content = None;
    message.tool_calls = calls.iter().map(call).collect();
    message
}

fn result(id: &str, name: &str, text: &str) -> ChatMessage {
    let mut message = plain(Role::Tool, text);
    message.tool_call_id = Some(id.to_owned());
    message.name = Some(name.to_owned());
    message
}

#[test]
fn roles_and_contents_of_openai() {
    for (role, expected) in [
        ("system", Role::System),
        ("developer", Role::Developer),
        ("user", Role::User),
        ("assistant", Role::Assistant),
        ("tool", Role::Tool),
        ("function", Role::Tool),
    ] {
        assert_eq!(openai(&json!([{"role": role, "content": "a"}])), [plain(expected, "a")]);
    }
    let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
    assert_eq!(openai(&json!([{"role": "user", "content": parts}])), [plain(Role::User, "a\nb")]);
    // What a client makes of its own answer of nothing.
    assert_eq!(
        openai(&json!([{"role": "assistant", "content": null}])),
        [plain(Role::Assistant, "")]
    );
    let refusal = json!([{"role": "assistant", "content": null, "refusal": "no"}]);
    assert_eq!(openai(&refusal), [plain(Role::Assistant, "no")]);
    let mut thoughtful = plain(Role::Assistant, "a");
    thoughtful.reasoning = Some("t".to_owned());
    for field in ["reasoning_content", "reasoning"] {
        assert_eq!(
            openai(&json!([{"role": "assistant", "content": "a", field: "t"}])),
            [thoughtful.clone()]
        );
    }
    let mut named = plain(Role::User, "a");
    named.name = Some("n".to_owned());
    assert_eq!(openai(&json!([{"role": "user", "content": "a", "name": "n"}])), [named]);
}

#[test]
fn calls_and_results_of_openai() {
    let call = |id: &str, name: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": "{\"b\": 1}"}});
    let messages = json!([
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": null, "tool_calls": [call("1", "f"), call("2", "g")]},
        {"role": "tool", "tool_call_id": "2", "content": "x"},
        {"role": "tool", "tool_call_id": "1", "content": "y"},
    ]);
    assert_eq!(
        openai(&messages),
        [
            plain(Role::User, "q"),
            called(&[("1", "f", "{\"b\": 1}"), ("2", "g", "{\"b\": 1}")]),
            result("2", "g", "x"),
            result("1", "f", "y"),
        ]
    );
    // Arguments as an object, as Ollama's clients send them, and the older form.
    let messages = json!([
        {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {"b": 1, "a": 2}}}]},
        {"role": "assistant", "function_call": {"name": "g", "arguments": "{}"}},
        {"role": "function", "name": "g", "content": "x"},
    ]);
    let mut older = result("", "g", "x");
    older.tool_call_id = None;
    assert_eq!(
        openai(&messages),
        [
            called(&[("call_0_0", "f", r#"{"b":1,"a":2}"#)]),
            called(&[("call_1_0", "g", "{}")]),
            older
        ]
    );
}

#[test]
fn the_three_apis_say_the_same() {
    let expected = [
        plain(Role::System, "Be brief."),
        plain(Role::User, "Weather?"),
        {
            let mut message = called(&[("c1", "weather", r#"{"z":"Bern"}"#)]);
            message.content = Some("Looking.".to_owned());
            message.reasoning = Some("hm".to_owned());
            message
        },
        result("c1", "weather", "rain"),
        plain(Role::User, "Thanks."),
    ];
    let tool = Tool {
        name: "weather".to_owned(),
        description: Some("The weather.".to_owned()),
        parameters: Some(parameters()),
        strict: false,
    };
    let function =
        json!({"name": "weather", "description": "The weather.", "parameters": parameters()});
    let openai = json!({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "Looking.", "reasoning_content": "hm", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{\"z\":\"Bern\"}"}},
            ]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            {"role": "user", "content": "Thanks."},
        ],
        "tools": [{"type": "function", "function": function}],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": false,
    });
    let responses = json!({
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
             "content": [{"type": "output_text", "text": "Looking.", "annotations": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "weather", "arguments": "{\"z\":\"Bern\"}"},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {"role": "user", "content": "Thanks."},
        ],
        "tools": [with(&json!({"type": "function"}), &function)],
        "tool_choice": {"type": "function", "name": "weather"},
        "parallel_tool_calls": false,
    });
    let anthropic = json!({
        "max_tokens": 9,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "c1", "name": "weather", "input": {"z": "Bern"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "rain"}]},
                {"type": "text", "text": "Thanks."},
            ]},
        ],
        "tools": [{"name": "weather", "description": "The weather.", "input_schema": parameters()}],
        "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": true},
    });
    for (route, api, body) in [
        (ChatRoute::Chat, ChatApi::Chat, openai),
        (ChatRoute::Responses, ChatApi::Responses, responses),
        (ChatRoute::Messages, ChatApi::Messages, anthropic),
    ] {
        let request = chat_on(route, &body);
        assert_eq!(request.api, api);
        let conversation = request.conversation;
        assert_eq!(conversation.messages, expected, "{route:?}");
        assert_eq!(conversation.tools, std::slice::from_ref(&tool), "{route:?}");
        assert_eq!(conversation.tool_choice, ToolChoice::Named("weather".to_owned()));
        assert!(!conversation.parallel_tool_calls && conversation.add_generation_prompt);
        assert!(!conversation.continue_final_message);
        assert_eq!(request.warnings, [""; 0], "{route:?}");
        // The model reads the keys of a schema in the order of the request.
        let schema = conversation.tools[0].parameters.as_ref().map(ToString::to_string);
        assert_eq!(schema.as_deref(), Some(PARAMETERS));
    }
}

#[test]
fn turns_of_one_role_are_one_message_to_anthropic() {
    let body = json!({"messages": [
        {"role": "user", "content": "a"},
        {"role": "user", "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]},
        {"role": "assistant", "content": "The answer is ("},
    ]});
    let conversation = chat_on(ChatRoute::Messages, &body).conversation;
    assert_eq!(
        conversation.messages,
        [plain(Role::User, "a\nb\nc"), plain(Role::Assistant, "The answer is (")]
    );
    // The assistant's last words are the beginning of its answer.
    assert!(conversation.continue_final_message && !conversation.add_generation_prompt);
}

#[test]
fn a_message_may_be_continued() {
    let messages = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    let mut prefix = messages.clone();
    prefix[1]["prefix"] = true.into();
    for (body, continued, begins) in [
        (json!({"messages": messages}), false, true),
        (json!({"messages": messages, "continue_final_message": "true"}), true, false),
        (
            json!({"messages": messages, "continue_final_message": true, "add_generation_prompt": false}),
            true,
            false,
        ),
        (json!({"messages": messages, "add_generation_prompt": false}), false, false),
        (json!({"messages": prefix}), true, false),
    ] {
        let conversation = chat_on(ChatRoute::Chat, &body).conversation;
        assert_eq!(conversation.continue_final_message, continued, "{body}");
        assert_eq!(conversation.add_generation_prompt, begins, "{body}");
    }
    let both = json!({"messages": messages, "continue_final_message": true, "add_generation_prompt": true});
    assert_eq!(refused(ChatRoute::Chat, &both).param.as_deref(), Some("continue_final_message"));
    let of_user = refused_chat(&json!({"continue_final_message": true}));
    assert_eq!(of_user.param.as_deref(), Some("continue_final_message"));
}

#[test]
fn what_is_no_text_is_refused_where_it_stands() {
    let part = |kind: &str| json!([{"type": "text", "text": "a"}, {"type": kind, kind: {}}]);
    for kind in ["image_url", "input_audio", "file", "video_url"] {
        let body = json!({"messages": [{"role": "user", "content": part(kind)}]});
        let invalid = refused(ChatRoute::Chat, &body);
        assert_eq!(invalid.param.as_deref(), Some("messages[0].content[1]"));
        assert!(invalid.message.contains(&format!("{kind:?}")), "{}", invalid.message);
    }
    let body = json!({"input": [{"role": "user", "content": part("input_image")}]});
    assert_eq!(refused(ChatRoute::Responses, &body).param.as_deref(), Some("input[0].content[1]"));
    for kind in ["image", "document", "search_result", "server_tool_use"] {
        let body = json!({"messages": [{"role": "user", "content": part(kind)}]});
        let invalid = refused(ChatRoute::Messages, &body);
        assert_eq!(invalid.param.as_deref(), Some("messages[0].content[1]"));
        assert!(invalid.message.contains(kind));
        let body = serde_json::to_value(invalid.error_body()).expect("json");
        assert_eq!(
            (&body["type"], &body["error"]["type"]),
            (&json!("error"), &json!("invalid_request_error"))
        );
    }
}

#[test]
fn messages_that_cannot_be() {
    let one = |message: Value| json!({"messages": [{"role": "user", "content": "a"}, message]});
    for (body, param) in [
        (json!({"messages": []}), "messages"),
        (json!({"messages": "a"}), "messages"),
        (json!({}), "messages"),
        (json!({"messages": [[]]}), "messages[0]"),
        (one(json!({"content": "a"})), "messages[1]"),
        (one(json!({"role": "king", "content": "a"})), "messages[1].role"),
        (one(json!({"role": "user"})), "messages[1].content"),
        (one(json!({"role": "tool", "content": null})), "messages[1].content"),
        (one(json!({"role": "user", "content": 3})), "messages[1].content"),
        (one(json!({"role": "user", "content": ["a"]})), "messages[1].content[0]"),
        (one(json!({"role": "user", "content": [{"type": "text"}]})), "messages[1].content[0]"),
        (
            one(
                json!({"role": "user", "content": "a", "tool_calls": [{"function": {"name": "f"}}]}),
            ),
            "messages[1].tool_calls",
        ),
        (
            one(json!({"role": "assistant", "tool_calls": [{"id": "1"}]})),
            "messages[1].tool_calls[0]",
        ),
        (
            one(
                json!({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": 3}}]}),
            ),
            "messages[1].tool_calls[0].function.arguments",
        ),
        (
            one(json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1"}]})),
            "messages[1].content[0]",
        ),
        (json!({"messages": [{"role": "user", "content": "a"}], "prompt": "b"}), "prompt"),
        (json!({"prompt": "b"}), "prompt"),
    ] {
        assert_eq!(refused(ChatRoute::Chat, &body).param.as_deref(), Some(param), "{body}");
    }
    for (body, param) in [
        (one(json!({"role": "user", "content": []})), "messages[1].content"),
        (
            one(json!({"role": "user", "content": [{"type": "tool_use", "id": "1", "name": "f"}]})),
            "messages[1].content[0]",
        ),
        (
            one(json!({"role": "user", "content": [{"type": "thinking", "thinking": "t"}]})),
            "messages[1].content[0]",
        ),
        (
            one(
                json!({"role": "assistant", "content": [{"type": "tool_result", "tool_use_id": "1"}]}),
            ),
            "messages[1].content[0]",
        ),
        (
            one(
                json!({"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": []}]}),
            ),
            "messages[1].content[0].input",
        ),
        (one(json!({"role": "tool", "content": "a"})), "messages[1].role"),
    ] {
        assert_eq!(refused(ChatRoute::Messages, &body).param.as_deref(), Some(param), "{body}");
    }
    for (input, param) in [
        (json!([]), "input"),
        (json!([{"type": "message", "content": "a"}]), "input[0].role"),
        (json!([{"content": "a"}]), "input[0].role"),
        (json!([{"role": "user"}]), "input[0].content"),
        (json!([{"type": "item_reference", "id": "1"}]), "input[0].type"),
        (json!([{"type": "web_search_call"}]), "input[0].type"),
        (json!([{"type": "function_call", "name": "f"}]), "input[0].call_id"),
        (json!([{"type": "function_call", "call_id": "1"}]), "input[0].name"),
        (json!([{"type": "function_call_output", "call_id": "1"}]), "input[0].output"),
        (
            json!([{"type": "function_call_output", "call_id": "1", "output": [{"type": "input_image"}]}]),
            "input[0].output[0]",
        ),
        (json!(7), "input"),
    ] {
        let invalid = refused(ChatRoute::Responses, &json!({"input": input}));
        assert_eq!(invalid.param.as_deref(), Some(param), "{input}");
    }
}

#[test]
fn parallel_calls_of_responses_are_one_message() {
    let call =
        |id: &str| json!({"type": "function_call", "call_id": id, "name": "f", "arguments": ""});
    let output = |id: &str| json!({"type": "function_call_output", "call_id": id, "output": [{"type": "input_text", "text": id}]});
    let input = json!([
        {"role": "user", "content": "q"}, call("1"), call("2"), output("1"), output("2"),
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "t"}]}, call("3"),
    ]);
    let messages = chat_on(ChatRoute::Responses, &json!({"input": input})).conversation.messages;
    let mut last = called(&[("3", "f", "")]);
    last.reasoning = Some("t".to_owned());
    assert_eq!(
        messages,
        [
            plain(Role::User, "q"),
            called(&[("1", "f", ""), ("2", "f", "")]),
            result("1", "f", "1"),
            result("2", "f", "2"),
            last,
        ]
    );
    let text = chat_on(ChatRoute::Responses, &json!({"input": "hi"})).conversation.messages;
    assert_eq!(text, [plain(Role::User, "hi")]);
}

#[test]
fn thinking_is_a_variable_of_the_template() {
    let thinks = json!({"enable_thinking": true});
    let does_not = json!({"enable_thinking": false});
    for (fields, expected) in [
        (json!({}), json!({})),
        (
            json!({"chat_template_kwargs": {"enable_thinking": false, "x": [1]}}),
            json!({"enable_thinking": false, "x": [1]}),
        ),
        (json!({"enable_thinking": true}), thinks.clone()),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 1024}}), thinks),
        (json!({"thinking": {"type": "disabled"}}), does_not.clone()),
        (json!({"reasoning_effort": "low"}), json!({"reasoning_effort": "low"})),
        (
            json!({"reasoning_effort": "none"}),
            with(&does_not, &json!({"reasoning_effort": "none"})),
        ),
        (
            json!({"reasoning_effort": "none", "enable_thinking": true}),
            json!({"enable_thinking": true, "reasoning_effort": "none"}),
        ),
        (json!({"documents": [{"title": "t"}]}), json!({"documents": [{"title": "t"}]})),
    ] {
        let variables = Value::Object(chat(&fields).conversation.template_kwargs);
        assert_eq!(variables, expected, "{fields}");
    }
    for (fields, param) in [
        (json!({"chat_template_kwargs": []}), "chat_template_kwargs"),
        (json!({"chat_template_kwargs": {"messages": []}}), "chat_template_kwargs.messages"),
        (
            json!({"chat_template_kwargs": {"enable_thinking": false}, "enable_thinking": true}),
            "enable_thinking",
        ),
        (json!({"enable_thinking": true, "thinking": {"type": "disabled"}}), "thinking"),
        (json!({"thinking": {"type": "deeply"}}), "thinking.type"),
        (json!({"reasoning_effort": "some"}), "reasoning_effort"),
        (json!({"chat_template_kwargs": {"x": "y".repeat(70_000)}}), "chat_template_kwargs"),
    ] {
        assert_eq!(refused_chat(&fields).param.as_deref(), Some(param));
    }
    for (fields, expected) in [
        (json!({}), ReasoningOutput::Separate),
        (json!({"reasoning_format": "auto"}), ReasoningOutput::Separate),
        (json!({"reasoning_format": "none"}), ReasoningOutput::Inline),
        (json!({"include_reasoning": false}), ReasoningOutput::Hidden),
        (json!({"reasoning_format": "hidden"}), ReasoningOutput::Hidden),
        (json!({"thinking": {"type": "adaptive", "display": "omitted"}}), ReasoningOutput::Hidden),
    ] {
        assert_eq!(chat(&fields).reasoning, expected, "{fields}");
    }
    let both = json!({"reasoning_format": "none", "include_reasoning": false});
    assert_eq!(refused_chat(&both).param.as_deref(), Some("include_reasoning"));
}

#[test]
fn one_path_takes_any_api_by_its_key() {
    let message = json!([{"role": "user", "content": "a"}]);
    let on = |body: Value| parse(ChatRoute::Invocations, &body);
    assert!(
        matches!(on(json!({"messages": message})), Ok(ChatCall::Chat(request)) if request.api == ChatApi::Chat)
    );
    assert!(
        matches!(on(json!({"input": "a"})), Ok(ChatCall::Chat(request)) if request.api == ChatApi::Responses)
    );
    assert!(matches!(on(json!({"prompt": "a"})), Ok(ChatCall::Completion(_))));
    assert_eq!(on(json!({})).expect_err("nothing to answer").param, None);
    assert!(on(json!({"messages": message, "input": "a"})).is_err());
    for (route, body, elsewhere) in [
        (ChatRoute::Chat, json!({"prompt": "a"}), "/v1/completions"),
        (ChatRoute::Completions, json!({"messages": message}), "/v1/chat/completions"),
        (ChatRoute::LlamaCompletion, json!({"messages": message}), "/v1/chat/completions"),
        (ChatRoute::Chat, json!({"input": "a"}), "/v1/responses"),
    ] {
        let message = refused(route, &body).message;
        assert!(message.contains(elsewhere), "{message}");
    }
}

#[test]
fn prompts_alone() {
    let messages = json!([{"role": "user", "content": "a"}]);
    let body = json!({"messages": messages, "model": "m", "system": "s"});
    let Ok(ChatCall::CountTokens { model, conversation }) = parse(ChatRoute::CountTokens, &body)
    else {
        panic!("tokens are counted");
    };
    assert_eq!((model.as_deref(), conversation.messages.len()), (Some("m"), 2));
    let body = json!({"messages": messages, "enable_thinking": false});
    let Ok(ChatCall::ApplyTemplate { conversation, .. }) = parse(ChatRoute::ApplyTemplate, &body)
    else {
        panic!("the template is applied");
    };
    assert_eq!(conversation.template_kwargs["enable_thinking"], false);
}
