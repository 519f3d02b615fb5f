//! The texts of SciFact, and of `XQuAD` in four languages, under every real tokenizer: all if `TOKENIZER_THOROUGH` is set, else some.

use serde_json::Value;

use super::common::{data, is_thorough, real_tokenizers};

/// All strings under these keys, wherever they are.
fn strings(value: &Value, keys: &[&str], out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if keys.contains(&key.as_str()) => out.push(text.clone()),
                    _ => strings(value, keys, out),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| strings(value, keys, out)),
        _ => {}
    }
}

/// The texts that are there.
pub(super) fn texts() -> Vec<String> {
    let mut out = Vec::new();
    for file in ["corpus", "queries"] {
        let Some(path) = data(&format!("ir/scifact/{file}.jsonl")) else { continue };
        for line in std::fs::read_to_string(path).unwrap().lines() {
            strings(&serde_json::from_str(line).unwrap(), &["title", "text"], &mut out);
        }
    }
    for language in ["en", "de", "zh", "ar"] {
        let Some(path) = data(&format!("ir/xquad/xquad.{language}.json")) else { continue };
        let file = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        strings(&file, &["context", "question", "text"], &mut out);
    }
    out
}

#[test]
fn real_texts_give_the_same_tokens() {
    let texts = texts();
    let step = if is_thorough() { 1 } else { 29 };
    for both in real_tokenizers() {
        for text in texts.iter().step_by(step) {
            both.assert_same(text);
        }
        // All of a document in one text: what one piece leaves behind may not reach the next.
        for some in texts.chunks(50).step_by(20 * step) {
            both.assert_same(&some.join("\n\n"));
        }
        println!("{}: {} texts", both.name, texts.len().div_ceil(step));
    }
}
