//! From a conversation with tools to calls: prompts of templates of each format, their grammars, and replies that come through
//! them, read back.

mod walking;

use std::path::Path;

use defrost_chat::{
    Conversation, Delta, Error, FormatKind, Grammar, GrammarCompiler, Message, Prompt, ReplyForm,
    ResponseFormat, Role, SpecialTexts, Templates, Tool, ToolCall, ToolChoice, parse_reply,
};
use serde_json::{Value, json};
use walking::{Chance, Vocabulary, constraint};

const QWEN: &str = "Qwen-Qwen3-0.6B";
const LLAMA: &str = "meta-llama-Llama-3.2-3B-Instruct";
const NEMO: &str = "mistralai-Mistral-Nemo-Instruct-2407";
const MINISTRAL: &str = "mistralai-Ministral-3-14B-Reasoning-2512";
const GEMMA: &str = "google-gemma-2-2b-it";

fn templates(name: &str) -> Templates {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/chat-templates");
    let source = std::fs::read_to_string(folder.join(format!("{name}.jinja"))).expect("a template");
    let texts = SpecialTexts { bos: "<bos>".to_owned(), eos: "<eos>".to_owned() };
    Templates::new(&source, None, &texts).expect("Jinja")
}

fn tools() -> Vec<Tool> {
    let parameters = json!({
        "type": "object",
        "properties": {"place": {"enum": ["Zürich", "Oslo"]}, "days": {"type": "integer", "maximum": 14, "minimum": 1}},
        "required": ["place"],
        "additionalProperties": false
    });
    vec![
        Tool {
            name: "get_weather".to_owned(),
            description: Some("The weather".to_owned()),
            parameters: Some(parameters),
            strict: true,
        },
        Tool { name: "now".to_owned(), description: None, parameters: None, strict: false },
    ]
}

fn conversation(choice: ToolChoice) -> Conversation {
    Conversation {
        messages: vec![Message::text(Role::User, "What is the weather?")],
        tools: tools(),
        tool_choice: choice,
        ..Conversation::default()
    }
}

fn prompt(name: &str, conversation: &Conversation) -> Prompt {
    templates(name).prompt(conversation).expect("a prompt")
}

struct Reply {
    content: String,
    calls: Vec<(String, Value)>,
}

fn read(form: &ReplyForm, text: &str) -> Reply {
    let (mut content, mut calls) = (String::new(), Vec::<(String, String)>::new());
    for delta in parse_reply(form, 1, text) {
        match delta {
            Delta::Content(text) => content += &text,
            Delta::Reasoning(_) => {}
            Delta::ToolCall { name, .. } => calls.push((name, String::new())),
            Delta::Arguments { fragment, index } => calls[index].1 += &fragment,
        }
    }
    let parsed = |(name, arguments): (String, String)| {
        let value = serde_json::from_str(&arguments);
        (name, value.unwrap_or_else(|error| panic!("{text:?}: {arguments:?}: {error}")))
    };
    Reply { content, calls: calls.into_iter().map(parsed).collect() }
}

fn assert_valid(calls: &[(String, Value)], text: &str) {
    for (name, arguments) in calls {
        let tools = tools();
        let tool = tools.iter().find(|tool| tool.name == *name).expect("a tool that there is");
        let none = json!({"type": "object", "maxProperties": 0});
        let schema = tool.parameters.as_ref().unwrap_or(&none);
        assert!(jsonschema::is_valid(schema, arguments), "{text}");
    }
}

#[test]
fn templates_tell_their_format() {
    for (name, format) in [
        (QWEN, Some(FormatKind::Hermes)),
        ("Qwen-Qwen2.5-7B-Instruct", Some(FormatKind::Hermes)),
        ("Qwen-QwQ-32B", Some(FormatKind::Hermes)),
        ("NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use", Some(FormatKind::Hermes)),
        ("ibm-granite-granite-4.0", Some(FormatKind::Hermes)),
        (LLAMA, Some(FormatKind::Llama3)),
        ("meta-llama-Llama-3.1-8B-Instruct", Some(FormatKind::Llama3)),
        (NEMO, Some(FormatKind::Mistral)),
        (MINISTRAL, Some(FormatKind::MistralNamed)),
        ("Mistral-Small-3.2-24B-Instruct-2506", Some(FormatKind::MistralNamed)),
        ("Qwen3-Coder", None),
        ("Qwen3.5-4B", None),
        ("microsoft-Phi-3.5-mini-instruct", None),
        ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", None),
        (GEMMA, None),
    ] {
        assert_eq!(templates(name).of(false).habits().calls, format, "{name}");
    }
}

#[test]
fn required_calls_come_and_are_valid() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    let mut chance = Chance(4_242);
    for name in [QWEN, LLAMA, NEMO, MINISTRAL, GEMMA] {
        for (choice, several) in [
            (ToolChoice::Required, true),
            (ToolChoice::Required, false),
            (ToolChoice::Named("get_weather".to_owned()), true),
        ] {
            let mut conversation = conversation(choice.clone());
            conversation.parallel_tool_calls = several;
            let prompt = prompt(name, &conversation);
            let grammar = prompt.grammar.as_ref().expect("calls restrict");
            let mut most = 0;
            for _ in 0..50 {
                let text = vocabulary.walk(&mut constraint(&compiler, grammar), &mut chance);
                let text = text.unwrap_or_else(|| panic!("{name}, {choice:?}: no end"));
                let reply = read(&prompt.form, &text);
                assert_eq!(reply.content, "", "{name}: {text}");
                assert!(!reply.calls.is_empty(), "{name}: {text}");
                assert_valid(&reply.calls, &text);
                most = most.max(reply.calls.len());
                if choice != ToolChoice::Required {
                    assert!(reply.calls.iter().all(|(name, _)| name == "get_weather"), "{text}");
                }
            }
            let are_several = several && choice == ToolChoice::Required;
            assert_eq!(most > 1, are_several, "{name}: {choice:?}");
        }
    }
}

/// With `auto`, any text may come; what begins as a call is one.
#[test]
fn free_text_is_free_until_a_call_begins() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    for (name, good, bad) in [
        (
            QWEN,
            vec![
                "",
                "Hello, {\"name\"} <tool_cal> 🙂\n",
                "<think>\nHm.\n</think>\n\nHi.",
                "I look.\n<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Oslo\"}}\n\
                 </tool_call>\n<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>",
            ],
            vec![
                "<tool_call>\n{\"name\": \"other",
                "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Bern",
                "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}",
            ],
        ),
        (
            LLAMA,
            vec![
                "Hello.",
                "{\"age\": 7}",
                "{\"name\": \"get_weather\", \"parameters\": {\"place\": \"Oslo\", \"days\": 2}}",
                "<|python_tag|>{\"name\": \"now\", \"parameters\": {}}",
            ],
            vec!["{\"name\": \"Ada\"}", "{\"name\": \"now\", \"parameters\": {\"a\": 1}}"],
        ),
        (
            NEMO,
            vec![
                "Hello.",
                "[TOOL_CALLS][{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"now\", \"arguments\": {}}]",
            ],
            vec!["[TOOL_CALLS]", "[TOOL_CALLS][]", "[TOOL_CALLS][{\"name\": \"x\""],
        ),
        (
            MINISTRAL,
            vec![
                "Hello.",
                "I look.[TOOL_CALLS]get_weather[ARGS]{\"place\": \"Oslo\"}[TOOL_CALLS]now[ARGS]{}",
            ],
            vec!["[TOOL_CALLS]", "[TOOL_CALLS]x", "[TOOL_CALLS]now[ARGS]"],
        ),
    ] {
        let prompt = prompt(name, &conversation(ToolChoice::Auto));
        let grammar = prompt.grammar.as_ref().expect("calls restrict");
        for (texts, expected) in [(good, true), (bad, false)] {
            for text in texts {
                let mut constraint = constraint(&compiler, grammar);
                let found = vocabulary.accepts(&mut constraint, text);
                assert_eq!(found, expected, "{name}: {text:?}");
                if expected {
                    assert_valid(&read(&prompt.form, text).calls, text);
                }
            }
        }
    }
}

#[test]
fn thoughts_come_before_what_is_restricted() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    let format = ResponseFormat::JsonSchema(json!({"type": "integer"}));
    let accepts = |prompt: &Prompt, text: &str| {
        let grammar = prompt.grammar.as_ref().expect("a form restricts");
        vocabulary.accepts(&mut constraint(&compiler, grammar), text)
    };
    let mut asked = Conversation { response_format: format, ..conversation(ToolChoice::None) };
    asked.tools.clear();
    let free = prompt(QWEN, &asked);
    assert!(accepts(&free, "42") && accepts(&free, "<think>\n6 * 7 is {\n</think>\n\n42"));
    assert!(!accepts(&free, "<think>\nHm") && !accepts(&free, "Hm 42"));
    asked.chat_template_kwargs.insert("enable_thinking".to_owned(), json!(false));
    let without = prompt(QWEN, &asked);
    assert!(accepts(&without, "42") && !accepts(&without, "<think>\n</think>\n\n42"));
    asked.chat_template_kwargs.insert("enable_thinking".to_owned(), json!(true));
    let opened = prompt("Qwen-QwQ-32B", &asked);
    assert!(opened.form.is_thinking);
    assert!(accepts(&opened, "Hm.\n</think>\n\n42") && !accepts(&opened, "42"));
}

#[test]
fn a_form_and_tools_are_one_or_the_other() {
    let vocabulary = Vocabulary::new();
    let compiler = vocabulary.compiler();
    let mut asked = conversation(ToolChoice::Auto);
    asked.response_format = ResponseFormat::Choice(vec!["yes".to_owned(), "no".to_owned()]);
    let prompt = prompt(QWEN, &asked);
    let grammar = prompt.grammar.as_ref().expect("a form restricts");
    for (text, expected) in [
        ("yes", true),
        ("maybe", false),
        ("<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>", true),
    ] {
        let mut constraint = constraint(&compiler, grammar);
        assert_eq!(vocabulary.accepts(&mut constraint, text), expected, "{text}");
    }
}

fn tool(name: &str, parameters: Value, strict: bool) -> Tool {
    Tool { name: name.to_owned(), description: None, parameters: Some(parameters), strict }
}

/// A strict tool whose schema is too much is refused; another takes any object.
#[test]
fn schemas_of_tools_are_enforced_as_far_as_they_ask_for() {
    let vocabulary = Vocabulary::new();
    let compiler: GrammarCompiler = vocabulary.compiler();
    let too_much =
        json!({"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}});
    let lookahead =
        json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=a)"}}});
    for (parameters, named) in [(&too_much, "uniqueItems"), (&lookahead, "look-around")] {
        let mut asked = conversation(ToolChoice::Required);
        asked.tools.push(tool("odd", parameters.clone(), true));
        let found = templates(QWEN)
            .prompt(&asked)
            .and_then(|prompt| compiler.compile(prompt.grammar.as_ref().expect("calls restrict")));
        match found {
            Err(Error::Grammar { field: "tools", message }) => {
                assert!(message.contains(named) && message.contains("\"odd\""), "{message}");
            }
            other => panic!("{other:?}"),
        }
        asked.tools.last_mut().expect("a tool").strict = false;
        let prompt = prompt(QWEN, &asked);
        let grammar: &Grammar = prompt.grammar.as_ref().expect("calls restrict");
        for (text, expected) in [
            ("<tool_call>\n{\"name\": \"odd\", \"arguments\": {\"b\": [1]}}\n</tool_call>", true),
            ("<tool_call>\n{\"name\": \"odd\", \"arguments\": [1]}\n</tool_call>", false),
            ("<tool_call>\n{\"name\": \"now\", \"arguments\": {\"b\": 1}}\n</tool_call>", false),
        ] {
            let mut constraint = constraint(&compiler, grammar);
            assert_eq!(vocabulary.accepts(&mut constraint, text), expected, "{text}");
        }
    }
}

fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.to_owned(), name: name.to_owned(), arguments: arguments.to_owned() }
}

fn with_result(call_id: &str) -> Vec<Message> {
    let asked = Message::text(Role::User, "Weather?");
    let mut made = Message::text(Role::Assistant, "");
    made.content = None;
    made.tool_calls = vec![call(call_id, "get_weather", "{\"place\": \"Oslo\"}")];
    let mut result = Message::text(Role::Tool, "cold");
    result.tool_call_id = Some(call_id.to_owned());
    vec![Message::text(Role::Developer, "Be brief."), asked, made, result]
}

/// Conversations that a template itself would fail on, or leave half of out.
#[test]
fn every_template_takes_a_whole_conversation() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/chat-templates");
    let (mut count, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(folder).expect("the folder") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
        if path.extension().is_none_or(|extension| extension != "jinja") {
            continue;
        }
        count += 1;
        let mut asked = conversation(ToolChoice::Auto);
        asked.messages = with_result("call_0123456789");
        let prompt = match templates(stem).prompt(&asked) {
            Ok(prompt) => prompt.text,
            Err(error) => {
                wrong.push(format!("{stem}: {error}"));
                continue;
            }
        };
        // It shows what the system says with the last message of all, if that is the user's.
        let instructions = if stem.contains("Nemo-Instruct") { "Weather?" } else { "Be brief." };
        for part in [instructions, "Weather?", "get_weather", "Oslo", "cold", "Zürich"] {
            if !prompt.contains(part) {
                wrong.push(format!("{stem}: {part:?} is not in {prompt}"));
            }
        }
        if prompt.contains("None") {
            wrong.push(format!("{stem}: {prompt}"));
        }
    }
    assert!(count >= 25 && wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn what_contradicts_itself_is_refused() {
    let templates = templates(QWEN);
    let asked = || conversation(ToolChoice::Auto);
    let two = Conversation { tools: [tools(), tools()].concat(), ..asked() };
    let none = Conversation { tools: vec![], tool_choice: ToolChoice::Required, ..asked() };
    let stranger = conversation(ToolChoice::Named("other".to_owned()));
    let mut broken = asked();
    broken.messages = with_result("a");
    broken.messages[2].tool_calls[0].arguments = "{\"place\": ".to_owned();
    let mut kwargs = asked();
    kwargs.chat_template_kwargs.insert("messages".to_owned(), json!([]));
    let continued = Conversation { continue_final_message: true, messages: vec![], ..asked() };
    for (conversation, field, expected) in [
        (two, "tools", "two tools named \"get_weather\""),
        (none, "tool_choice", "there is none in \"tools\""),
        (stranger, "tool_choice", "expected the name of one of the tools, found \"other\""),
        (broken, "messages", "expected the text of a JSON object, found \"{\\\"place\\\": \""),
        (kwargs, "chat_template_kwargs", "\"messages\" is what the request's own field says"),
        (continued, "continue_final_message", "expected a last message with text"),
    ] {
        let error = templates.prompt(&conversation).expect_err("a refusal");
        assert!(error.field() == Some(field) && error.to_string().contains(expected), "{error}");
    }
}
