//! What the decoders of a tokenizer.json make of one token.

use serde_json::Value;

use crate::Error;

/// The steps from a word of the vocabulary to bytes.
#[derive(Debug)]
pub(super) struct Decoder(Vec<Step>);

#[derive(Debug)]
enum Step {
    /// Another text in place of each.
    Replace(String, String),
    /// `<0x0A>` is a byte.
    ByteFallback,
    /// Every character stands for a byte.
    ByteLevel,
}

impl Decoder {
    /// Those of the file.
    pub(super) fn of(decoder: Option<&Value>, is_byte_level: bool) -> Result<Self, Error> {
        let mut steps = Vec::new();
        match decoder {
            Some(decoder) => read(decoder, &mut steps)?,
            None if is_byte_level => steps.push(Step::ByteLevel),
            None => return Err(wrong("there is none")),
        }
        Ok(Self(steps))
    }

    /// The bytes of a word.
    pub(super) fn bytes(&self, text: &str, is_added: bool) -> Vec<u8> {
        let mut text = text.to_owned();
        for step in &self.0 {
            match step {
                Step::Replace(from, to) => text = text.replace(from.as_str(), to),
                Step::ByteFallback => {
                    if let Some(byte) = fallback(&text).filter(|_| !is_added) {
                        return vec![byte];
                    }
                }
                Step::ByteLevel => {
                    let bytes: Option<Vec<u8>> = text.chars().map(byte_of).collect();
                    if let Some(bytes) = bytes.filter(|_| !is_added) {
                        return bytes;
                    }
                }
            }
        }
        text.into_bytes()
    }
}

fn wrong(found: &str) -> Error {
    Error::Tokenizer(format!(
        "tokenizer.json: decoder: expected ByteLevel, Metaspace, BPEDecoder, or a Sequence of Replace, ByteFallback, Fuse and \
         Strip, of which each token becomes bytes by itself; found: {found}"
    ))
}

fn read(decoder: &Value, steps: &mut Vec<Step>) -> Result<(), Error> {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let missing = |field: &str| wrong(&format!("{decoder}, without a text as {field}"));
    match decoder.get("type").and_then(Value::as_str) {
        Some("Sequence") => {
            let list = decoder.get("decoders").and_then(Value::as_array);
            list.ok_or_else(|| missing("decoders"))?
                .iter()
                .try_for_each(|inner| read(inner, steps))?;
        }
        Some("ByteLevel") => steps.push(Step::ByteLevel),
        Some("ByteFallback") => steps.push(Step::ByteFallback),
        Some("Replace") => {
            let from = text(decoder.get("pattern").and_then(|pattern| pattern.get("String")));
            let from =
                from.filter(|from| !from.is_empty()).ok_or_else(|| missing("pattern.String"))?;
            let to = text(decoder.get("content")).ok_or_else(|| missing("content"))?;
            steps.push(Step::Replace(from, to));
        }
        Some("Metaspace") => {
            let from = text(decoder.get("replacement")).filter(|from| !from.is_empty());
            steps.push(Step::Replace(from.ok_or_else(|| missing("replacement"))?, " ".to_owned()));
        }
        Some("BPEDecoder") => {
            let from = text(decoder.get("suffix")).filter(|from| !from.is_empty());
            steps.push(Step::Replace(from.ok_or_else(|| missing("suffix"))?, " ".to_owned()));
        }
        // They join tokens, or see to the ends of the whole text.
        Some("Fuse" | "Strip") => {}
        _ => return Err(wrong(&decoder.to_string())),
    }
    Ok(())
}

/// The byte of `<0x0A>`.
fn fallback(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    let is_hex = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| is_hex)
}

/// The byte that a character of GPT-2's alphabet stands for: bytes that print are themselves, the others follow from U+0100.
fn byte_of(character: char) -> Option<u8> {
    let code = u32::from(character);
    match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => u8::try_from(code).ok(),
        0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        0x121..=0x142 => u8::try_from(code - 0x121 + 0x7f).ok(),
        0x143 => Some(0xad),
        _ => None,
    }
}
