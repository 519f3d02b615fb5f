//! Replies are read the same however their text is cut, nothing of them is lost, and calls that are written come back.

use defrost_chat::{Delta, FormatKind, ReplyForm, ReplyParser, Thinking, parse_reply};
use proptest::prelude::*;
use serde_json::{Value, json};

const THINK: Thinking = Thinking { open: "<think>", close: "</think>" };

const FORMATS: [FormatKind; 5] = [
    FormatKind::Hermes,
    FormatKind::Llama3,
    FormatKind::Mistral,
    FormatKind::MistralNamed,
    FormatKind::Generic,
];

fn form(calls: Option<FormatKind>, thinking: bool, is_thinking: bool) -> ReplyForm {
    ReplyForm {
        calls,
        tools: vec!["get_weather".to_owned(), "now".to_owned()],
        thinking: thinking.then_some(THINK),
        is_thinking: thinking && is_thinking,
        short_ids: false,
    }
}

/// The same with neighbours of one kind joined.
fn joined(deltas: Vec<Delta>) -> Vec<Delta> {
    let mut out: Vec<Delta> = Vec::new();
    for delta in deltas {
        match (out.last_mut(), &delta) {
            (Some(Delta::Content(text)), Delta::Content(more))
            | (Some(Delta::Reasoning(text)), Delta::Reasoning(more)) => text.push_str(more),
            (
                Some(Delta::Arguments { index, fragment }),
                Delta::Arguments { index: next, fragment: more },
            ) if index == next => fragment.push_str(more),
            _ => out.push(delta),
        }
    }
    out
}

fn in_pieces(form: &ReplyForm, pieces: &[&str]) -> Vec<Delta> {
    let mut parser = ReplyParser::new(form, 7);
    let mut deltas: Vec<Delta> = pieces.iter().flat_map(|piece| parser.feed(piece)).collect();
    deltas.extend(parser.finish());
    deltas
}

/// Reasoning, content, and calls as name and arguments.
fn parts(deltas: Vec<Delta>) -> (String, String, Vec<(String, String)>) {
    let (mut reasoning, mut content, mut calls) = (String::new(), String::new(), Vec::new());
    for delta in deltas {
        match delta {
            Delta::Reasoning(text) => reasoning += &text,
            Delta::Content(text) => content += &text,
            Delta::ToolCall { index, name, id } => {
                assert_eq!(index, calls.len());
                assert!(!id.is_empty());
                calls.push((name, String::new()));
            }
            Delta::Arguments { index, fragment } => {
                assert_eq!(index + 1, calls.len());
                calls[index].1 += &fragment;
            }
        }
    }
    (reasoning, content, calls)
}

#[test]
fn replies_of_each_format_are_read() {
    let hermes = Some(FormatKind::Hermes);
    let weather = r#"{"place": "Zürich"}"#;
    for (form, text, reasoning, content, calls) in [
        (form(None, false, false), " Hi <tool_call> ", "", " Hi <tool_call> ", vec![]),
        (form(hermes, true, false), "<think>\nHm.\n</think>\n\nHi.\n", "Hm.", "Hi.\n", vec![]),
        (form(hermes, true, true), "Hm.\n</think>\n\nHi.", "Hm.", "Hi.", vec![]),
        (form(hermes, true, true), "Hm, cut o", "Hm, cut o", "", vec![]),
        (form(hermes, true, false), "  No thoughts <think>", "", "  No thoughts <think>", vec![]),
        (form(hermes, true, false), "<think></think>", "", "", vec![]),
        (
            form(hermes, true, false),
            "<think>\nHm.\n</think>\n\nLet me see.\n\n<tool_call>\n{\"name\": \"get_weather\", \
             \"arguments\": {\"place\": \"Zürich\"}}\n</tool_call>\n<tool_call>\n{\"name\": \"now\", \
             \"arguments\": {}}\n</tool_call>",
            "Hm.",
            "Let me see.",
            vec![("get_weather", weather), ("now", "{}")],
        ),
        (
            form(hermes, false, false),
            "<tool_call>{\"name\": \"other\"}</tool_call> Done. ",
            "",
            "Done. ",
            vec![("other", "{}")],
        ),
        (
            form(hermes, false, false),
            "Write \n<tool_call> like this, or <tool_call>{\"x\": 1}",
            "",
            "Write \n<tool_call> like this, or <tool_call>{\"x\": 1}",
            vec![],
        ),
        (
            form(hermes, false, false),
            "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Zür",
            "",
            "",
            vec![("get_weather", "{\"place\": \"Zür")],
        ),
        (
            form(Some(FormatKind::Llama3), false, false),
            "<|python_tag|>{\"name\": \"get_weather\", \"parameters\": {\"place\": \"Zürich\"}}; \
             {\"name\": \"now\", \"parameters\": {}}\n",
            "",
            "",
            vec![("get_weather", weather), ("now", "{}")],
        ),
        (
            form(Some(FormatKind::Llama3), false, false),
            "\n{\"name\": \"Ada\", \"born\": 1815}",
            "",
            "\n{\"name\": \"Ada\", \"born\": 1815}",
            vec![],
        ),
        (
            form(Some(FormatKind::Llama3), false, false),
            "I say {\"name\": \"now\"}",
            "",
            "I say {\"name\": \"now\"}",
            vec![],
        ),
        (
            form(Some(FormatKind::Mistral), false, false),
            "[TOOL_CALLS] [{\"name\": \"get_weather\", \"arguments\": {\"place\": \"Zürich\"}}, \
             {\"name\": \"now\", \"arguments\": {}, \"id\": \"abcdefghi\"}]",
            "",
            "",
            vec![("get_weather", weather), ("now", "{}")],
        ),
        (
            form(Some(FormatKind::MistralNamed), false, false),
            "I look.[TOOL_CALLS]get_weather[ARGS]{\"place\": \"Zürich\"}\
             [TOOL_CALLS]now[CALL_ID]abcdefghi[ARGS]{}",
            "",
            "I look.",
            vec![("get_weather", weather), ("now", "{}")],
        ),
    ] {
        let found = parts(parse_reply(&form, 7, text));
        let own = |(name, arguments): &(&str, &str)| ((*name).to_owned(), (*arguments).to_owned());
        let calls = calls.iter().map(own).collect();
        assert_eq!(found, (reasoning.to_owned(), content.to_owned(), calls), "{text}");
    }
}

#[test]
fn ids_are_of_the_reply_and_the_call() {
    let two = "<tool_call>{\"name\": \"a\"}</tool_call><tool_call>{\"name\": \"a\"}</tool_call>";
    let ids = |form: &ReplyForm, seed| {
        let ids = parse_reply(form, seed, two).into_iter().filter_map(|delta| match delta {
            Delta::ToolCall { id, .. } => Some(id),
            _ => None,
        });
        ids.collect::<Vec<_>>()
    };
    let long = form(Some(FormatKind::Hermes), false, false);
    let short = ReplyForm { short_ids: true, ..long.clone() };
    assert_eq!(ids(&long, 1), ids(&long, 1));
    let all: std::collections::BTreeSet<String> =
        [ids(&long, 1), ids(&long, 2), ids(&short, 1)].into_iter().flatten().collect();
    assert_eq!(all.len(), 6);
    let is_short = |id: &String| id.len() == 9 && id.chars().all(|it| it.is_ascii_alphanumeric());
    assert!(ids(&short, 1).iter().all(is_short), "{all:?}");
    assert!(ids(&long, 1).iter().all(|id| id.starts_with("call_") && id.len() == 29), "{all:?}");
}

fn any_form() -> impl Strategy<Value = ReplyForm> {
    let formats = proptest::option::of(proptest::sample::select(&FORMATS[..]));
    (formats, any::<bool>(), any::<bool>())
        .prop_map(|(format, thinking, is_thinking)| form(format, thinking, is_thinking))
}

/// What formats are made of, whole and in parts.
const PIECES: &[&str] = &[
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "<|python_tag|>",
    "{\"name\": \"get_weather\", \"arguments\": {\"place\": \"}\\\"<tool_call>\"}}",
    "{\"name\": \"now\", \"parameters\": {}}",
    "{\"parameters\": {\"a\": [1, {}]}, \"name\": \"now\"}",
    "{\"name\": \"stranger\"}",
    "{\"name\": ",
    "now",
    "{",
    "}",
    "[",
    "]",
    ",",
    ";",
    "\"",
    "<",
    "</",
    "tool_call>",
    "\n",
    " ",
    "é",
    "🙂",
    "text",
];

fn any_text() -> impl Strategy<Value = String> {
    proptest::collection::vec(proptest::sample::select(PIECES), 0..12)
        .prop_map(|pieces| pieces.concat())
}

fn any_json(depth: u32) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~é🙂\n\"\\\\{}\\[\\]]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(depth, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z\"<]{1,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn written(format: FormatKind, calls: &[(String, Value)]) -> String {
    let object = |word: &str, (name, arguments): &(String, Value)| {
        json!({"name": name, word: arguments}).to_string()
    };
    let all = |word: &str| calls.iter().map(|call| object(word, call)).collect::<Vec<_>>();
    match format {
        FormatKind::Hermes | FormatKind::Generic => {
            let tagged = all("arguments").into_iter();
            let tagged = tagged.map(|call| format!("<tool_call>\n{call}\n</tool_call>"));
            tagged.collect::<Vec<_>>().join("\n")
        }
        FormatKind::Llama3 => all("parameters").join("; "),
        FormatKind::Mistral => format!("[TOOL_CALLS][{}]", all("arguments").join(", ")),
        FormatKind::MistralNamed => {
            let named = calls.iter().map(|(name, arguments)| format!("{name}[ARGS]{arguments}"));
            format!("[TOOL_CALLS]{}", named.collect::<Vec<_>>().join("[TOOL_CALLS]"))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn how_a_text_is_cut_does_not_matter(
        form in any_form(),
        text in any_text(),
        cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..8),
    ) {
        let whole = joined(parse_reply(&form, 7, &text));
        let letters: Vec<String> = text.chars().map(String::from).collect();
        let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
        prop_assert_eq!(&joined(in_pieces(&form, &letters)), &whole);
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        at.retain(|&at| text.is_char_boundary(at));
        at.extend([0, text.len()]);
        at.sort_unstable();
        let pieces: Vec<&str> = at.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect();
        prop_assert_eq!(&joined(in_pieces(&form, &pieces)), &whole);
        parts(whole);
    }

    #[test]
    fn text_without_marks_is_content(form in any_form(), text in "[a-zé <>\n\"]{0,40}") {
        prop_assume!(!form.is_thinking);
        let (reasoning, content, calls) = parts(parse_reply(&form, 7, &text));
        prop_assert_eq!((reasoning.as_str(), content, calls.len()), ("", text, 0));
    }

    #[test]
    fn calls_that_are_written_come_back(
        format in proptest::sample::select(&FORMATS[..]),
        calls in proptest::collection::vec(
            (proptest::sample::select(&["get_weather", "now"][..]), any_json(3)), 1..4),
    ) {
        let calls: Vec<(String, Value)> = calls
            .into_iter()
            .map(|(name, value)| (name.to_owned(), json!({"a": value})))
            .collect();
        let form = form(Some(format), true, false);
        let text = format!("<think>\nHm\n</think>\n\n{}", written(format, &calls));
        let (reasoning, content, found) = parts(parse_reply(&form, 7, &text));
        prop_assert_eq!((reasoning.as_str(), content.as_str()), ("Hm", ""));
        let found: Vec<(String, Value)> = found
            .into_iter()
            .map(|(name, text)| (name, serde_json::from_str(&text).expect("JSON")))
            .collect();
        prop_assert_eq!(found, calls);
    }
}
