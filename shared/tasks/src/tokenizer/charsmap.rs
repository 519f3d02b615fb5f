//! Checks the character maps of `SentencePiece` normalizers before the `tokenizers` crate walks them unchecked.

use defrost_tokenizer::{CharacterMap, CharacterMapError};
use serde_json::Value;

use crate::Error;

const KEY: &str = "precompiled_charsmap";

/// Checks every table in a normalizer, wherever it is.
pub(super) fn check_all(normalizer: &Value) -> Result<(), Error> {
    match normalizer {
        Value::Object(map) => {
            // The crate takes a table for one by its type; without the field it fails as badly as with a wrong one.
            if map.get("type").is_some_and(|kind| kind == "Precompiled") || map.contains_key(KEY) {
                check(map.get(KEY).and_then(Value::as_str))?;
            }
            map.values().try_for_each(check_all)
        }
        Value::Array(list) => list.iter().try_for_each(check_all),
        _ => Ok(()),
    }
}

fn damaged(fault: &CharacterMapError) -> Error {
    Error::Tokenizer(format!("tokenizer.json: {KEY} is damaged: {fault}; get the file again"))
}

fn check(text: Option<&str>) -> Result<(), Error> {
    let missing = || CharacterMapError { expected: "a text".to_owned(), found: "none".to_owned() };
    let text = text.ok_or_else(missing);
    text.and_then(CharacterMap::read).map(drop).map_err(|fault| damaged(&fault))
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    use super::*;

    fn normalizer(table: &str) -> Value {
        json!({"type": "Sequence", "normalizers": [{"type": "Precompiled", KEY: table}]})
    }

    /// A trie of one block in which nothing matches, with `edits`, and a replacement.
    fn table(edits: &[(usize, u32)]) -> String {
        let mut units = [0u32; 256];
        for &(at, unit) in edits {
            units[at] = unit;
        }
        let trie = units.iter().flat_map(|unit| unit.to_le_bytes());
        let bytes: Vec<u8> =
            1024u32.to_le_bytes().into_iter().chain(trie).chain(*b"\xc3\xbc\0").collect();
        STANDARD.encode(bytes)
    }

    #[test]
    fn tables_that_stay_inside_are_accepted() {
        check_all(&normalizer(&table(&[]))).unwrap();
        check_all(&normalizer(&table(&[(0, 1 << 8 | 5 << 10), (5, 1 << 31 | 2)]))).unwrap();
        // A value may be any number where no walk leads.
        check_all(&normalizer(&table(&[(9, u32::MAX)]))).unwrap();
        check_all(&json!({"type": "NFC"})).unwrap();
    }

    #[test]
    fn tables_that_lead_outside_are_refused() {
        for (text, part) in [
            ("", "expected 4 bytes or more, found 0"),
            ("a", "expected base64"),
            ("ab==", "expected base64"),
            ("====", "expected base64"),
            ("AA==AAAA", "expected base64"),
            ("AAAA", "expected 4 bytes or more, found 3"),
            ("AAAAAA==", "an empty one"),
            ("/////w==", "a trie of 4294967292 bytes"),
            (&table(&[(0, 1 << 10 << 8)]), "unit 0 leading to 256"),
            (&table(&[(7, 1 << 9 | 1 << 10)]), "unit 7 leading to 263"),
            (&table(&[(0, 1 << 8 | 5 << 10), (5, 1)]), "found 1 in unit 5"),
            (&table(&[(0, 1 << 8 | 5 << 10), (5, 4)]), "found 4 in unit 5"),
        ] {
            let error = check_all(&normalizer(text)).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(check_all(&json!({"type": "Precompiled"})).is_err());
        assert!(check_all(&json!([{KEY: 1}])).is_err());
    }
}
