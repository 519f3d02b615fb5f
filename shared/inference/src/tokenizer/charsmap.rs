//! Checks the `precompiled_charsmap` of `SentencePiece` normalizers, which the tokenizers of XLM-RoBERTa carry.
//!
//! ```text
//! u32  bytes of the trie
//! trie u32 units: a double array, walked byte by byte from unit 0
//! rest the replacements, UTF-8, each ended by a zero byte
//! ```
//!
//! A unit holds a label (bits 0-7; bit 31 marks a value, which no label equals), a flag that a value follows (bit 8)
//! and an offset (bits 10-30, times 256 if bit 9 is set). From unit `p` the walk goes to `q = p ^ offset`, where the
//! value is if there is one, and on to `q ^ byte`. The code that walks it checks nothing, so all it can reach must lie
//! inside: `q | 255` for every unit with a label, and every value at the start of a character of the replacements.

use serde_json::Value;

use crate::Error;

const KEY: &str = "precompiled_charsmap";

/// Checks every table in a normalizer, wherever it is.
pub(super) fn check_all(normalizer: &Value) -> Result<(), Error> {
    match normalizer {
        Value::Object(map) => {
            // The crate takes a table for one by its type; without the field it fails as badly as with a wrong one.
            if map.get("type").is_some_and(|kind| kind == "Precompiled") || map.contains_key(KEY) {
                let text = map.get(KEY).and_then(Value::as_str);
                check(text.ok_or_else(|| wrong("a text", "none"))?)?;
            }
            map.values().try_for_each(check_all)
        }
        Value::Array(list) => list.iter().try_for_each(check_all),
        _ => Ok(()),
    }
}

fn wrong(expected: &str, found: impl std::fmt::Display) -> Error {
    Error::Tokenizer(format!(
        "tokenizer.json: {KEY} is damaged: expected {expected}, found {found}; get the file again"
    ))
}

fn check(text: &str) -> Result<(), Error> {
    let table = base64(text).ok_or_else(|| wrong("base64", "other text"))?;
    let (len, rest) =
        table.split_first_chunk().ok_or_else(|| wrong("4 bytes or more", table.len()))?;
    let len = u32::from_le_bytes(*len) as usize / 4 * 4;
    let (trie, texts) = rest
        .split_at_checked(len)
        .ok_or_else(|| wrong(&format!("a trie of {len} bytes"), rest.len()))?;
    let texts =
        std::str::from_utf8(texts).map_err(|error| wrong("replacements in UTF-8", error))?;
    let (units, _) = trie.as_chunks();
    check_trie(units, texts)
}

fn check_trie(units: &[[u8; 4]], texts: &str) -> Result<(), Error> {
    let unit = |at: usize| units.get(at).map(|&unit| u32::from_le_bytes(unit));
    if units.is_empty() {
        return Err(wrong("a trie", "an empty one"));
    }
    for at in 0..units.len() {
        let word = unit(at).unwrap_or_default();
        // The walk starts at unit 0 whatever its label is.
        if word >> 31 == 1 && at != 0 {
            continue;
        }
        let offset = (word as usize >> 10) << ((word as usize & 1 << 9) >> 6);
        let next = at ^ offset;
        if next | 0xff >= units.len() {
            let found = format!("unit {at} leading to {next}");
            return Err(wrong(&format!("units that lead to {} units", units.len()), found));
        }
        let has_value = word >> 8 & 1 == 1;
        let value = unit(next).unwrap_or_default() & !(1 << 31);
        if has_value && !texts.is_char_boundary(value as usize) {
            return Err(wrong(
                "values that start a replacement",
                format!("{value} in unit {next}"),
            ));
        }
    }
    Ok(())
}

/// The bytes of standard, padded base64; `None` if it is not in its one form.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let (groups, []) = digits.as_chunks::<4>() else {
        return None;
    };
    let mut out = Vec::with_capacity(groups.len() * 3);
    for (at, group) in groups.iter().enumerate() {
        let padding = group.iter().rev().take_while(|&&digit| digit == b'=').count();
        if padding > 2 || (padding > 0 && at + 1 < groups.len()) {
            return None;
        }
        let bits = group[..4 - padding]
            .iter()
            .try_fold(0, |bits, &digit| Some(bits << 6 | six_bits(digit)?))?
            << (6 * padding);
        let [_, bytes @ ..] = u32::to_be_bytes(bits);
        let (kept, unused) = bytes.split_at(3 - padding);
        if unused.iter().any(|&byte| byte != 0) {
            return None;
        }
        out.extend_from_slice(kept);
    }
    Some(out)
}

fn six_bits(digit: u8) -> Option<u32> {
    let value = match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

#[cfg(test)]
mod tests {
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
        encode(&bytes)
    }

    fn encode(bytes: &[u8]) -> String {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = String::new();
        for group in bytes.chunks(3) {
            let bits = group.iter().fold(0, |bits, &byte| bits << 8 | usize::from(byte));
            let bits = bits << (8 * (3 - group.len()));
            for digit in 0..4 {
                let index = bits >> (18 - 6 * digit) & 63;
                out.push(if digit > group.len() { '=' } else { char::from(DIGITS[index]) });
            }
        }
        out
    }

    #[test]
    fn tables_that_stay_inside_are_accepted() {
        for bytes in [&b""[..], b"a", b"ab", b"abc", b"\xff\xfe\xfd\xfc"] {
            assert_eq!(base64(&encode(bytes)).unwrap(), bytes);
        }
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
