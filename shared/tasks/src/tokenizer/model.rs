//! Reads the `model` of a tokenizer.json.
//!
//! The crate buffers this part twice before it builds the model of its type; here it is buffered once, and the merges
//! of byte-pair models are checked before they are built. The crate writes each merged token into a buffer as long as
//! the longest word without asking whether it fits, and takes what follows the prefix for UTF-8 without asking whether
//! the prefix is there.

use serde_json::{Map, Value};
use tokenizers::ModelWrapper;
use tokenizers::models::bpe::BPE;
use tokenizers::models::unigram::Unigram;
use tokenizers::models::wordlevel::WordLevel;
use tokenizers::models::wordpiece::WordPiece;

use crate::Error;

/// The model of this description.
pub(super) fn read(model: Value) -> Result<ModelWrapper, Error> {
    let Value::Object(mut map) = model else {
        return Err(wrong("expected an object"));
    };
    check_merges(&map)?;
    let kind = map.remove("type");
    let rest = Value::Object(map);
    let found = match kind.as_ref().and_then(Value::as_str) {
        Some("BPE") => serde_json::from_value::<BPE>(rest).map(ModelWrapper::from),
        Some("WordPiece") => serde_json::from_value::<WordPiece>(rest).map(ModelWrapper::from),
        Some("WordLevel") => serde_json::from_value::<WordLevel>(rest).map(ModelWrapper::from),
        Some("Unigram") => serde_json::from_value::<Unigram>(rest).map(ModelWrapper::from),
        // Old files do not say, and the crate tries one after the other.
        None if kind.is_none() => serde_json::from_value(rest),
        _ => {
            return Err(wrong("expected type BPE, WordPiece, WordLevel or Unigram"));
        }
    };
    found.map_err(|error| wrong(&error.to_string()))
}

fn wrong(what: &str) -> Error {
    Error::Tokenizer(format!("tokenizer.json: model: {what}"))
}

/// Checks that every merge gives at most the longest word and that its second half has the prefix's length.
fn check_merges(map: &Map<String, Value>) -> Result<(), Error> {
    let (Some(merges), Some(vocab)) =
        (map.get("merges").and_then(Value::as_array), map.get("vocab").and_then(Value::as_object))
    else {
        return Ok(());
    };
    let longest = vocab.keys().map(String::len).max().unwrap_or(0);
    let prefix = map.get("continuing_subword_prefix").and_then(Value::as_str).map_or(0, str::len);
    for merge in merges {
        // Of any other form the crate says itself what is wrong.
        let Some((first, second)) = halves(merge) else {
            continue;
        };
        let fits = second.is_char_boundary(prefix)
            && first.len() + second.len() <= longest.saturating_add(prefix);
        if !fits {
            return Err(wrong(&format!(
                "the merge of {first:?} and {second:?} is damaged: expected a word of at most \
                 {longest} bytes after a prefix of {prefix}"
            )));
        }
    }
    Ok(())
}

/// `["a", "b"]`, in old files `"a b"`.
fn halves(merge: &Value) -> Option<(&str, &str)> {
    match merge {
        Value::String(text) => text.split_once(' '),
        Value::Array(list) => match list.as_slice() {
            [first, second] => first.as_str().zip(second.as_str()),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bpe(prefix: &str, vocab: &[&str], merges: &Value) -> Value {
        let vocab: Map<String, Value> =
            vocab.iter().enumerate().map(|(id, word)| ((*word).to_owned(), json!(id))).collect();
        json!({"type": "BPE", "continuing_subword_prefix": prefix, "vocab": vocab, "merges": merges})
    }

    #[test]
    fn merges_are_read_in_both_forms() {
        for merges in [json!([["a", "b"]]), json!(["a b"])] {
            read(bpe("", &["a", "b", "ab"], &merges)).unwrap();
        }
        read(bpe("##", &["a", "##b", "ab"], &json!([["a", "##b"]]))).unwrap();
        let mut old = bpe("", &["a", "b", "ab"], &json!(["a b"]));
        old.as_object_mut().unwrap().remove("type");
        read(old).unwrap();
    }

    /// The prefix was found by fuzzing, the rest by reading: the crate panics, or takes half a character for text.
    #[test]
    fn merges_that_do_not_fit_are_refused() {
        for merges in [json!([["a", "b"]]), json!(["a b"])] {
            let error = read(bpe("", &["a", "b"], &merges)).unwrap_err().to_string();
            assert!(error.contains("at most 1 bytes after a prefix of 0"), "{error}");
            assert!(read(bpe("##", &["a", "b", "ab"], &merges)).is_err());
        }
        assert!(read(bpe("#", &["a", "ü", "aüü"], &json!([["a", "ü"]]))).is_err());
        for wrong in [json!(null), json!([]), json!({"type": "GPT"}), json!({"type": 1}), json!({})]
        {
            assert!(read(wrong).is_err());
        }
    }
}
