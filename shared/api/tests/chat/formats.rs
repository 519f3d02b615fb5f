//! Forms of the answer, under every name that a server has for them.

use defrost_api::{ChatRoute, OutputFormat};
use serde_json::{Value, json};

use super::common::{body, chat_on, completion_on, refused_chat};

#[test]
fn forms_of_the_answer_under_every_name() {
    let schema = json!({"type": "object", "properties": {"b": {}, "a": {}}});
    let of = |route: ChatRoute, fields: &Value| match route {
        ChatRoute::Completions => completion_on(route, &body(route, fields)).generation.format,
        _ => chat_on(route, &body(route, fields)).generation.format,
    };
    let with_schema = |field| OutputFormat::JsonSchema { field, schema: schema.clone() };
    let named = json!({"type": "json_schema", "name": "n", "schema": schema, "strict": true});
    for (route, fields, expected) in [
        (ChatRoute::Chat, json!({"response_format": {"type": "text"}}), OutputFormat::Text),
        (
            ChatRoute::Chat,
            json!({"response_format": {"type": "json_object"}}),
            OutputFormat::JsonObject,
        ),
        (
            ChatRoute::Chat,
            json!({"response_format": {"type": "json_object", "schema": schema}}),
            with_schema("response_format"),
        ),
        (
            ChatRoute::Chat,
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}}}),
            with_schema("response_format"),
        ),
        (ChatRoute::Chat, json!({"response_format": named}), with_schema("response_format")),
        (
            ChatRoute::Chat,
            json!({"response_format": {"type": "json_schema", "json_schema": schema}}),
            with_schema("response_format"),
        ),
        (
            ChatRoute::Responses,
            json!({"text": {"format": named, "verbosity": "low"}}),
            with_schema("text.format"),
        ),
        (ChatRoute::Responses, json!({"text": {"format": {"type": "text"}}}), OutputFormat::Text),
        (
            ChatRoute::Messages,
            json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}}),
            with_schema("output_config.format"),
        ),
        (
            ChatRoute::Messages,
            json!({"output_format": {"type": "json_schema", "schema": schema}}),
            with_schema("output_format"),
        ),
        (ChatRoute::Chat, json!({"json_schema": schema}), with_schema("json_schema")),
        (ChatRoute::Chat, json!({"guided_json": schema}), with_schema("guided_json")),
        (ChatRoute::Chat, json!({"guided_json": schema.to_string()}), with_schema("guided_json")),
        (
            ChatRoute::Completions,
            json!({"structured_outputs": {"json": schema}}),
            with_schema("structured_outputs.json"),
        ),
        (
            ChatRoute::Chat,
            json!({"structured_outputs": {"json_object": true}}),
            OutputFormat::JsonObject,
        ),
        (
            ChatRoute::Chat,
            json!({"guided_regex": "a+"}),
            OutputFormat::Regex { field: "guided_regex", pattern: "a+".to_owned() },
        ),
        (
            ChatRoute::Chat,
            json!({"response_format": {"type": "regex", "regex": "a+"}}),
            OutputFormat::Regex { field: "response_format", pattern: "a+".to_owned() },
        ),
        (
            ChatRoute::Chat,
            json!({"response_format": {"type": "regex", "pattern": "a+"}}),
            OutputFormat::Regex { field: "response_format", pattern: "a+".to_owned() },
        ),
        (
            ChatRoute::Chat,
            json!({"response_format": {"type": "regex", "value": "a+"}}),
            OutputFormat::Regex { field: "response_format", pattern: "a+".to_owned() },
        ),
        (
            ChatRoute::Chat,
            json!({"response_format": {"type": "gbnf_grammar", "grammar": "root ::= \"a\""}}),
            OutputFormat::Grammar { field: "response_format", text: "root ::= \"a\"".to_owned() },
        ),
        (
            ChatRoute::Chat,
            json!({"grammar": "root ::= \"a\""}),
            OutputFormat::Grammar { field: "grammar", text: "root ::= \"a\"".to_owned() },
        ),
        (ChatRoute::Chat, json!({"grammar": ""}), OutputFormat::Text),
        (
            ChatRoute::Chat,
            json!({"guided_grammar": "start: \"a\""}),
            OutputFormat::Grammar { field: "guided_grammar", text: "start: \"a\"".to_owned() },
        ),
        (
            ChatRoute::Chat,
            json!({"guided_choice": ["a", "b"]}),
            OutputFormat::Choice {
                field: "guided_choice",
                texts: vec!["a".to_owned(), "b".to_owned()],
            },
        ),
        // What does not ask for anything does not contradict.
        (
            ChatRoute::Chat,
            json!({"response_format": {"type": "text"}, "guided_regex": "a+"}),
            OutputFormat::Regex { field: "guided_regex", pattern: "a+".to_owned() },
        ),
    ] {
        assert_eq!(of(route, &fields), expected, "{fields}");
    }
    for (fields, param) in [
        (json!({"response_format": {}}), "response_format"),
        (json!({"response_format": "json"}), "response_format"),
        (json!({"response_format": {"type": "yaml"}}), "response_format.type"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema.schema"),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}}),
            "response_format.json_schema.schema",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"schema": 3}}}),
            "response_format",
        ),
        (json!({"response_format": {"type": "regex"}}), "response_format.regex"),
        (json!({"response_format": {"type": "gbnf_grammar"}}), "response_format.grammar"),
        (json!({"guided_json": "{"}), "guided_json"),
        (json!({"guided_json": []}), "guided_json"),
        (json!({"guided_choice": []}), "guided_choice"),
        (json!({"guided_grammar": " "}), "guided_grammar"),
        (json!({"guided_regex": "a", "guided_choice": ["a"]}), "guided_choice"),
        (
            json!({"response_format": {"type": "json_object"}, "grammar": "root ::= \"a\""}),
            "grammar",
        ),
        (
            json!({"structured_outputs": {"structural_tag": {}}}),
            "structured_outputs.structural_tag",
        ),
        (
            json!({"structured_outputs": {"regex": "a", "grammar": "b"}}),
            "structured_outputs.grammar",
        ),
        (json!({"json_schema": {"a": "x".repeat(300_000)}}), "json_schema.a"),
    ] {
        assert_eq!(
            refused_chat(&fields).param.as_deref(),
            Some(param),
            "{}",
            fields.to_string().chars().take(99).collect::<String>()
        );
    }
}
