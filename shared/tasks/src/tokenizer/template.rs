//! Checks the templates of a post-processor: `[CLS] $A [SEP] $B [SEP]` and the like.
//!
//! The crate looks up their special tokens and texts when a text comes, and panics if there are none of that name.

use serde_json::{Map, Value};

use crate::Error;

/// Checks every template in a post-processor, wherever it is.
pub(super) fn check_all(processor: &Value) -> Result<(), Error> {
    match count(processor)? {
        0 | 1 => Ok(()),
        // The second would get the pieces of the first, for which the crate has no rule.
        more => Err(wrong(&format!("expected one template, found {more}"))),
    }
}

fn count(part: &Value) -> Result<usize, Error> {
    let inner: Box<dyn Iterator<Item = &Value>> = match part {
        Value::Object(map) if map.contains_key("special_tokens") => {
            check(map)?;
            return Ok(1);
        }
        Value::Object(map) => Box::new(map.values()),
        Value::Array(list) => Box::new(list.iter()),
        _ => return Ok(0),
    };
    inner.map(count).sum()
}

fn wrong(what: &str) -> Error {
    Error::Tokenizer(format!("tokenizer.json: post_processor: {what}"))
}

/// What has another form than expected here is refused by the crate itself.
fn check(template: &Map<String, Value>) -> Result<(), Error> {
    let tokens = template.get("special_tokens").and_then(Value::as_object);
    let tokens = tokens.ok_or_else(|| wrong("special_tokens is no object"))?;
    for (name, token) in tokens {
        let len = |key: &str| token.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        if len("ids") != len("tokens") {
            return Err(wrong(&format!(
                "special token {name:?} has {} ids, expected {} as it has texts",
                len("ids"),
                len("tokens")
            )));
        }
    }
    for (key, texts) in [("single", &["A"][..]), ("pair", &["A", "B"])] {
        for piece in template.get(key).and_then(Value::as_array).into_iter().flatten() {
            let id = |kind: &str| piece.get(kind).and_then(|piece| piece.get("id")?.as_str());
            if let Some(id) = id("SpecialToken").filter(|&id| !tokens.contains_key(id)) {
                return Err(wrong(&format!("{key} has {id:?}, which is no special token")));
            }
            if let Some(id) = id("Sequence").filter(|id| !texts.contains(id)) {
                return Err(wrong(&format!("{key} has text {id:?}, expected one of {texts:?}")));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template() -> Value {
        let special = json!({"SpecialToken": {"id": "[SEP]", "type_id": 0}});
        let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
        json!({
            "type": "TemplateProcessing",
            "single": [text("A"), special],
            "pair": [text("A"), special, text("B")],
            "special_tokens": {"[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}},
        })
    }

    #[test]
    fn one_whole_template_is_accepted() {
        check_all(&template()).unwrap();
        let byte_level = json!({"type": "ByteLevel"});
        check_all(&byte_level).unwrap();
        check_all(&json!({"type": "Sequence", "processors": [byte_level, template()]})).unwrap();
    }

    /// The first was found by fuzzing; at each the crate panics at the first text, or answers with tokens without texts.
    #[test]
    fn templates_that_refer_to_nothing_are_refused() {
        let edited = |pointer: &str, value: Value| {
            let mut template = template();
            *template.pointer_mut(pointer).unwrap() = value;
            template
        };
        for (processor, part) in [
            (edited("/pair/1/SpecialToken/id", json!("[EOS]")), "pair has \"[EOS]\""),
            (edited("/single/0/Sequence/id", json!("B")), "single has text \"B\""),
            (edited("/special_tokens/[SEP]/ids", json!([])), "has 0 ids, expected 1"),
            (edited("/special_tokens", json!([])), "no object"),
            (json!([template(), template()]), "expected one template, found 2"),
        ] {
            let error = check_all(&processor).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
