//! Reads the `precompiled_charsmap` of `SentencePiece` normalizers, which the tokenizers of XLM-RoBERTa carry.
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

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A character map in which no walk leads outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CharacterMap {
    bytes: Vec<u8>,
    trie: usize,
}

/// Why a text is no such map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found}")]
pub struct CharacterMapError {
    /// The content that belongs there.
    pub expected: String,
    /// The content that is there.
    pub found: String,
}

fn wrong(expected: impl Into<String>, found: &dyn std::fmt::Display) -> CharacterMapError {
    CharacterMapError { expected: expected.into(), found: found.to_string() }
}

/// Bytes of the trie's length.
const LENGTH: usize = 4;

impl CharacterMap {
    /// Reads and checks the base64 of tokenizer.json.
    pub fn read(text: &str) -> Result<Self, CharacterMapError> {
        let bytes = STANDARD.decode(text).map_err(|error| wrong("base64", &error))?;
        let (len, rest) =
            bytes.split_first_chunk().ok_or_else(|| wrong("4 bytes or more", &bytes.len()))?;
        let trie = u32::from_le_bytes(*len) as usize / 4 * 4;
        let (units, texts) = rest
            .split_at_checked(trie)
            .ok_or_else(|| wrong(format!("a trie of {trie} bytes"), &rest.len()))?;
        let texts =
            std::str::from_utf8(texts).map_err(|error| wrong("replacements in UTF-8", &error))?;
        let (units, _) = units.as_chunks();
        check_trie(units, texts)?;
        Ok(Self { bytes, trie })
    }

    /// All bytes, the trie's length first.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The trie's units, little endian.
    pub fn trie(&self) -> &[u8] {
        &self.bytes[LENGTH..LENGTH + self.trie]
    }

    /// The replacements.
    pub fn texts(&self) -> &[u8] {
        &self.bytes[LENGTH + self.trie..]
    }
}

fn check_trie(units: &[[u8; 4]], texts: &str) -> Result<(), CharacterMapError> {
    let unit = |at: usize| units.get(at).map(|&unit| u32::from_le_bytes(unit));
    if units.is_empty() {
        return Err(wrong("a trie", &"an empty one"));
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
            return Err(wrong(format!("units that lead to {} units", units.len()), &found));
        }
        let has_value = word >> 8 & 1 == 1;
        let value = unit(next).unwrap_or_default() & !(1 << 31);
        if has_value && !texts.is_char_boundary(value as usize) {
            return Err(wrong(
                "values that start a replacement",
                &format!("{value} in unit {next}"),
            ));
        }
    }
    Ok(())
}
