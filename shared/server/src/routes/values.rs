//! How many bytes a JSON body will take in memory, before it is parsed.
//!
//! `{"a":0}` is seven bytes and more than half a kilobyte as a map, `""` two and fifty as a string.
//! So the values of a body are counted, which takes a millisecond a megabyte, and what they will
//! take is held from the budget of all requests ([`crate::edge::budget`]) or refused.

use crate::error::ApiError;

/// Bytes of an object: a map's first node, and a copy of it where documents are given back.
const OBJECT_BYTES: usize = 1024;

/// Bytes of a list or of a text beside its own.
const LIST_BYTES: usize = 64;

/// Bytes of any other value, or of a place in a list.
const VALUE_BYTES: usize = 16;

/// Times as many bytes as the largest body may have, that a body may take when it is parsed: texts
/// of one byte each, and a quarter of a million of token ids or ten thousand documents with fields,
/// are within.
const MOST_BODIES: usize = 16;

/// Bytes that the values of a body take beside its own, about and at least.
fn parsed_bytes(body: &[u8]) -> usize {
    let (mut bytes, mut in_text, mut escaped) = (0usize, false, false);
    for &byte in body {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'{' => bytes += OBJECT_BYTES,
            b'[' => bytes += LIST_BYTES,
            b'"' => {
                bytes += LIST_BYTES;
                in_text = true;
            }
            b',' => bytes += VALUE_BYTES,
            _ => {}
        }
    }
    bytes
}

/// Bytes to hold for a body once it is parsed, its own among them, where at most `largest` are
/// allowed of one.
pub(super) fn held_for(body: &[u8], largest: usize, most: usize) -> Result<usize, ApiError> {
    let parsed = parsed_bytes(body);
    // Small bodies are within, whatever the settings say of large ones.
    let allowed = largest.max(64 << 10).saturating_mul(MOST_BODIES);
    let all = parsed.saturating_add(body.len());
    if parsed > allowed || all > most {
        return Err(ApiError::too_many_values(parsed, allowed.min(most)));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST: usize = 10 << 20;

    fn held(body: &str) -> Result<usize, ApiError> {
        held_for(body.as_bytes(), LARGEST, 192 << 20)
    }

    #[test]
    fn values_are_counted_and_what_looks_like_them_in_texts_is_not() {
        assert_eq!(parsed_bytes(br#"{"a": [1, 2]}"#), OBJECT_BYTES + 2 * LIST_BYTES + VALUE_BYTES);
        let text = r#""[{,\"[{,""#;
        assert_eq!(parsed_bytes(text.as_bytes()), LIST_BYTES);
        assert_eq!(parsed_bytes(b"\"\\\\\"[]"), 2 * LIST_BYTES);
    }

    #[test]
    fn bodies_that_would_be_many_times_as_large_are_refused() {
        for hostile in [
            r#"{"a":0},"#.repeat(1_250_000),
            r#"{"inputs":"a"},"#.repeat(690_000),
            r#""","#.repeat(3_300_000),
            "[],".repeat(3_300_000),
            "[1],".repeat(2_600_000),
        ] {
            let error = held(&hostile).unwrap_err();
            assert!(error.to_string().contains("values of the body"), "{error}");
        }
        for usual in [
            r#"{"text":"a","title":"b"},"#.repeat(10_000),
            format!("[{}],", "12345,".repeat(512)).repeat(2048),
            r#""a text of some words","#.repeat(100_000),
            format!("\"{}\"", "x".repeat(10_000_000)),
        ] {
            assert!(held(&usual).is_ok(), "{} bytes", usual.len());
        }
    }
}
