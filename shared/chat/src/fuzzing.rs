//! What the fuzz targets in `fuzz/` run, and the tests over the committed inputs.
//!
//! Each function takes bytes from anywhere. To refuse them is always right, and nothing else may go wrong: no panic, no end
//! of the stack, no work without an end.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use defrost_model::Constraint;
use serde_json::{Map, Value, json};

use crate::template::Context;
use crate::{
    Conversation, Error, Grammar, GrammarCompiler, Message, ResponseFormat, Role, SpecialTexts,
    Template, Templates, Tool, ToolCall, ToolChoice, VocabularyToken,
};

/// A hundredth of what a rendering may cost, so that a fuzzer sees a hundred times as many.
const FUEL: u32 = 100_000;
/// No more text than that pays for comes out, with what the instructions themselves write.
const LONGEST: usize = 64 * 2 * FUEL as usize;
/// Tokens of a walk through a grammar.
const STEPS: usize = 24;

const WORD_COUNT: u32 = 16;
/// Words that make the masks of a grammar differ from those of its bytes.
const WORDS: [&str; WORD_COUNT as usize] = [
    "{\"", "\": ", "\", \"", "\"}", "true", "null", "12", "-1", ".5", "e+", "ab", "é", "日本",
    "2024-", "\n\n", " the",
];
const SPECIALS: [&str; 5] = ["<|end|>", "<tool_call>", "</tool_call>", "<think>", "</think>"];

/// A template, and perhaps a zero byte and what it is rendered with: `{"messages": […], "tools": […]}` and more variables.
///
/// # Panics
/// If a promise is broken.
pub fn template(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (source, variables) = text.split_once('\0').unwrap_or((text, ""));
    let texts = SpecialTexts { bos: "<s>".to_owned(), eos: "</s>".to_owned() };
    let Ok(template) = Template::with_fuel(source, texts.clone(), FUEL.into()) else { return };
    let mut kwargs: Map<String, Value> = serde_json::from_str(variables).unwrap_or_default();
    let list = |value: Option<Value>| match value {
        Some(Value::Array(items)) => Some(items),
        _ => None,
    };
    let messages = list(kwargs.remove("messages"));
    let context = Context {
        messages: messages.unwrap_or_else(|| vec![json!({"role": "user", "content": "Grüße"})]),
        tools: list(kwargs.remove("tools")).unwrap_or_default(),
        add_generation_prompt: true,
        continue_final_message: kwargs.remove("continue_final_message").is_some(),
        kwargs,
        now: 1_700_000_000,
    };
    let first = template.render(&context);
    assert!(first.as_ref().is_ok_and(|text| text.len() <= LONGEST) || first.is_err());
    assert_eq!(first, template.render(&context), "the same conversation, another prompt");
    let _ = Templates::of_one(template).prompt(&conversation());
}

/// One of everything.
fn conversation() -> Conversation {
    let call = ToolCall {
        id: "call_1".to_owned(),
        name: "weather".to_owned(),
        arguments: "{\"place\": \"Bern\"}".to_owned(),
    };
    let mut calling = Message::text(Role::Assistant, "");
    calling.tool_calls.push(call);
    let mut result = Message::text(Role::Tool, "7");
    result.tool_call_id = Some("call_1".to_owned());
    let mut messages: Vec<Message> = [Role::System, Role::Developer, Role::User]
        .map(|role| Message::text(role, "Hello."))
        .into();
    messages.extend([calling, result]);
    Conversation {
        messages,
        tools: vec![tool(json!({"type": "object", "properties": {"place": {"type": "string"}}}))],
        tool_choice: ToolChoice::Required,
        ..Conversation::default()
    }
}

fn tool(parameters: Value) -> Tool {
    Tool {
        name: "weather".to_owned(),
        description: None,
        parameters: Some(parameters),
        strict: true,
    }
}

/// A letter that says what follows: a JSON schema (`j`), the same for the arguments of a tool (`t`) or loosely (`u`), a
/// regular expression (`r`), GBNF (`g`), Lark (`l`), or choices by lines (`c`). What compiles is walked through by chance.
///
/// # Panics
/// If a promise is broken.
pub fn grammar(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some((kind, text)) = text.split_at_checked(1) else { return };
    let seed =
        input.iter().fold(input.len() as u64, |hash, &byte| crate::mix(hash ^ u64::from(byte)));
    let Some(Ok(Some(grammar))) = grammar_of(kind, text) else { return };
    let Ok(mut constraint) = COMPILER.compile(&grammar) else { return };
    let mut number = seed;
    for _ in 0..STEPS {
        if constraint.is_done() {
            return;
        }
        let forced = constraint.forced();
        let Ok(Some(mask)) = constraint.mask() else { return };
        if let Some(&id) = forced.first() {
            assert!(mask.allows(id), "forced, and forbidden");
        }
        let ids: Vec<u32> = mask.iter().collect();
        assert!(!ids.is_empty(), "nothing can follow, and it is not over");
        number = crate::mix(number);
        let id = ids[usize::try_from(number % ids.len() as u64).unwrap_or(0)];
        if id == END {
            assert!(constraint.may_end(), "the end is allowed where it may not end");
            return;
        }
        // Too much work is an error, and the end of the walk.
        if constraint.accept(id).is_err() {
            return;
        }
    }
}

/// `None`: the bytes are no input.
fn grammar_of(kind: &str, text: &str) -> Option<Result<Option<Grammar>, Error>> {
    let schema = || serde_json::from_str::<Value>(text).ok();
    let format = match kind {
        "j" => ResponseFormat::JsonSchema(schema()?),
        "r" => ResponseFormat::Regex(text.to_owned()),
        "g" => ResponseFormat::Gbnf(text.to_owned()),
        "l" => ResponseFormat::Lark(text.to_owned()),
        "c" => ResponseFormat::Choice(text.lines().map(str::to_owned).collect()),
        "t" | "u" => {
            let tool = Tool { strict: kind == "t", ..tool(schema()?) };
            let conversation = Conversation {
                messages: vec![Message::text(Role::User, "Hello.")],
                tools: vec![tool],
                tool_choice: ToolChoice::Required,
                ..Conversation::default()
            };
            return Some(TEMPLATES.prompt(&conversation).map(|prompt| prompt.grammar));
        }
        _ => return None,
    };
    Some(Grammar::of_format(&format))
}

const END: u32 = 256 + WORD_COUNT;

static TEMPLATES: LazyLock<Templates> = LazyLock::new(|| {
    let plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    Templates::new(plain, None, &SpecialTexts::default()).expect("Jinja")
});

static COMPILER: LazyLock<GrammarCompiler> = LazyLock::new(|| {
    let bytes: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
    let tokens: Vec<VocabularyToken<'_>> = bytes
        .iter()
        .map(|byte| VocabularyToken::Bytes(byte))
        .chain(WORDS.iter().map(|word| VocabularyToken::Bytes(word.as_bytes())))
        .chain(SPECIALS.iter().map(|name| VocabularyToken::Special(name)))
        .collect();
    let ids: HashMap<&str, u32> = WORDS.iter().copied().zip(256..).collect();
    let tokenize = move |text: &str| {
        let (mut rest, mut found) = (text, Vec::new());
        while let Some(first) = rest.bytes().next() {
            let word =
                WORDS.iter().filter(|word| rest.starts_with(**word)).max_by_key(|word| word.len());
            match word {
                Some(word) => {
                    found.push(ids[word]);
                    rest = &rest[word.len()..];
                }
                None if first.is_ascii() => {
                    found.push(u32::from(first));
                    rest = &rest[1..];
                }
                None => {
                    let letter = rest.chars().next().map_or(1, char::len_utf8);
                    found.extend(rest.as_bytes()[..letter].iter().map(|&byte| u32::from(byte)));
                    rest = &rest[letter..];
                }
            }
        }
        found
    };
    GrammarCompiler::new(&tokens, &[END], Some(Arc::new(tokenize))).expect("a vocabulary")
});
