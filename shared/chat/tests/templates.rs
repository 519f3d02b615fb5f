//! Prompts are those of `transformers`, for the templates of public models and conversations of all kinds
//! (`data/golden/chat-templates`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use defrost_chat::template::Context;
use defrost_chat::{Error, SpecialTexts, Template};
use proptest::prelude::*;
use serde_json::{Map, Value};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/golden/chat-templates")
}

fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(folder().join(name)).expect("a golden file");
    serde_json::from_str(&text).expect("JSON")
}

/// Each template by its name, with what is expected of it by case.
fn templates() -> BTreeMap<String, (Template, Map<String, Value>)> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder()).expect("the folder") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "jinja") {
            let name = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
            let source = std::fs::read_to_string(&path).expect("a template");
            let texts = SpecialTexts { bos: "<bos>".to_owned(), eos: "<eos>".to_owned() };
            let template = Template::new(&source, texts).expect("a template that is Jinja");
            let Value::Object(expected) = json(&format!("{name}.json")) else { panic!("{name}") };
            found.insert(name, (template, expected));
        }
    }
    found
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

fn context(case: &Value, now: i64, arguments_as_text: bool) -> Context {
    let mut messages = list(&case["messages"]);
    for message in &mut messages {
        let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
        for call in calls.into_iter().flatten().filter(|_| arguments_as_text) {
            let arguments = &mut call["function"]["arguments"];
            *arguments = Value::String(as_python_writes(arguments));
        }
    }
    Context {
        messages,
        tools: list(&case["tools"]),
        add_generation_prompt: case["add_generation_prompt"].as_bool().unwrap_or(true),
        continue_final_message: case["continue_final_message"].as_bool().unwrap_or(false),
        kwargs: case["kwargs"].as_object().cloned().unwrap_or_default(),
        now,
    }
}

/// With spaces after commas and colons; no text of the cases has any of these.
fn as_python_writes(value: &Value) -> String {
    value.to_string().replace(':', ": ").replace(',', ", ")
}

#[test]
fn prompts_are_those_of_transformers() {
    let cases = json("cases.json");
    let now = cases["now"].as_i64().expect("a time");
    let cases = cases["cases"].as_object().expect("cases");
    let templates = templates();
    assert!(templates.len() >= 25 && cases.len() >= 14);
    let mut wrong = Vec::new();
    for (name, (template, expected)) in &templates {
        for (label, case) in cases {
            let expected = &expected[label];
            let context = context(case, now, expected["arguments"] == "text");
            let found = template.render(&context);
            let is_right = match (&found, expected) {
                // It goes through tools that are not there, which is an error in Python.
                (Ok(_), expected) if expected["fails"] == true => name.ends_with("tool_use"),
                (Ok(found), expected) => expected["prompt"].as_str() == Some(found),
                (Err(Error::Refused(words)), expected) => expected["refused"] == words.as_str(),
                (Err(Error::Render { line, .. }), expected) => {
                    expected["fails"] == true && *line > 0
                }
                _ => false,
            };
            if !is_right {
                wrong.push(format!("{name}, {label}: expected {expected}\nfound {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} are wrong\n{}", wrong.len(), wrong.join("\n\n"));
}

/// The work that a template may do is enough for long conversations: some go through all messages at each.
#[test]
fn long_conversations_are_within_the_work_that_is_allowed() {
    let cases = json("cases.json");
    let turns = list(&cases["cases"]["two-results"]["messages"]);
    let tools = list(&cases["cases"]["two-results"]["tools"]);
    let long: Vec<Value> = std::iter::repeat_n(turns[1..6].to_vec(), 60).flatten().collect();
    for (name, (template, expected)) in &templates() {
        if expected["two-results"]["prompt"].is_null()
            || expected["two-results"]["arguments"] == "text"
        {
            continue;
        }
        let context =
            Context { messages: long.clone(), tools: tools.clone(), ..Context::default() };
        let prompt = template.render(&context).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(prompt.len() > 5_000, "{name}");
    }
}

#[test]
fn templates_that_do_not_end_are_stopped() {
    let endless =
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    let template = Template::new(endless, SpecialTexts::default()).expect("Jinja");
    let error = template.render(&Context::default()).expect_err("an end");
    assert!(error.to_string().contains("does not come to an end"), "{error}");
    let broken = Template::new("a\n{% if %}", SpecialTexts::default()).expect_err("an error");
    assert!(broken.to_string().contains("line 2"), "{broken}");
}

/// What templates are made of, right and wrong.
const PIECES: &[&str] = &[
    "{% for m in messages %}",
    "{% endfor %}",
    "{%- if m.role == 'user' -%}",
    "{% else %}",
    "{% endif %}",
    "{{ m.content }}",
    "{{ messages[-1]['content'][1:] | trim }}",
    "{{ messages | tojson(indent=2) }}",
    "{{ tools | tojson(separators=(',', ':')) }}",
    "{{ raise_exception('no') }}",
    "{{ strftime_now('%d %b %Y') }}",
    "{% set x = 'é' * 100000 %}",
    "{{ x * 100000 }}",
    "{% macro f(a) %}{{ f(a) }}{% endmacro %}",
    "{{ f(1) }}",
    "{% generation %}",
    "{% endgeneration %}",
    "{% break %}",
    "{# a comment #}",
    "{{ ''.join(messages) }}",
    "{{ 'ab'.split('b')[7] }}",
    "{{ (1 / 0) ~ (2 ** 99) }}",
    "{{ range(100000) | list }}",
    "{%",
    "}}",
    "text\n",
    "{{ m.content.removeprefix('a').rstrip('é') }}",
    "{{ namespace(a=1).a }}",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a snapshot brings as its template: it is run, or what is wrong is said.
    #[test]
    fn no_template_makes_anything_panic(
        pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..12),
    ) {
        let source = pieces.concat();
        let Ok(template) = Template::new(&source, SpecialTexts::default()) else { return Ok(()) };
        let messages = vec![serde_json::json!({"role": "user", "content": "äbc"})];
        if let Ok(text) = template.render(&Context { messages, ..Context::default() }) {
            prop_assert!(text.len() < 1 << 30);
        }
    }
}
