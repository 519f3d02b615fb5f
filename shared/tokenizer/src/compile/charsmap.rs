//! Takes over the character map of `SentencePiece` models, once it is known that no walk in it leads outside.

use crate::error::CompileError;
use crate::image::{Section, Writer};
use tokenizers::normalizers::precompiled::Precompiled;

const VALUE: u32 = 1 << 31;

pub(super) fn compile(base64: &str, writer: &mut Writer) -> Result<(), CompileError> {
    let wrong = || CompileError::unsupported("a precompiled_charsmap that is damaged");
    let table = decode(base64).ok_or_else(wrong)?;
    let (len, rest) = table.split_first_chunk().ok_or_else(wrong)?;
    let len = u32::from_le_bytes(*len) as usize / 4 * 4;
    let (units, texts) = rest.split_at_checked(len).ok_or_else(wrong)?;
    check(units, std::str::from_utf8(texts).map_err(|_| wrong())?).ok_or_else(wrong)?;
    let map = Precompiled::from(&table).map_err(|_| wrong())?;
    for code in 0..128u8 {
        // A carriage return may be one grapheme with what follows.
        let text = char::from(code).to_string();
        if code != b'\r' && map.transform(&text).is_none() {
            writer.settings.plain[usize::from(code / 8)] |= 1 << (code % 8);
        }
    }
    writer.set(Section::Charsmap, units.to_vec());
    writer.set(Section::MapTexts, texts.to_vec());
    Ok(())
}

/// `None` if some unit leads outside, or some value to the middle of a character: the crate would panic there.
fn check(units: &[u8], texts: &str) -> Option<()> {
    let (units, _) = units.as_chunks();
    let unit = |at: usize| units.get(at).map(|&unit| u32::from_le_bytes(unit));
    for at in 0..units.len().max(1) {
        let word = unit(at)?;
        if word & VALUE != 0 && at != 0 {
            continue;
        }
        let next = at ^ ((word as usize >> 10) << ((word & 1 << 9) >> 6));
        unit(next | 0xff)?;
        if word >> 8 & 1 == 1 {
            let value = (unit(next)? & !VALUE) as usize;
            texts.is_char_boundary(value).then_some(())?;
        }
    }
    Some(())
}

/// The bytes of padded base64.
fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').bytes();
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count & 0xff) as u8);
        }
    }
    // The crate reads the same text, more strictly; what is not quite base64 is refused there.
    text.len().is_multiple_of(4).then_some(out)
}
