//! Asks the code that the `tokenizers` crate uses about every code point, and makes tables of the answers.

use std::collections::HashMap;

use tokenizers::utils::SysRegex;
use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::char::{canonical_combining_class, decompose_canonical};
use unicode_normalization_alignments::{IsNormalized, is_nfc_quick};

use crate::classes::{BLOCK, BLOCKS, bert, split};
use crate::error::CompileError;
use crate::image::{Section, Writer, splitter};

/// The flags of all code points; surrogates, which are no characters, have none.
type Flags = Vec<u8>;

fn flags(of: impl Fn(char) -> u8) -> Flags {
    (0..0x11_0000).map(|code| char::from_u32(code).map_or(0, &of)).collect()
}

/// Stores the classes for the patterns of byte-level tokenizers.
pub(super) fn for_splitting(writer: &mut Writer) -> Result<(), CompileError> {
    let by_digits = writer.settings.splitter & splitter::DIGITS != 0;
    let mut flags = flags(|c| {
        let stays = canonical_combining_class(c) == 0
            && is_nfc_quick(std::iter::once(c)) == IsNormalized::Yes;
        let is_digit = by_digits && c.is_numeric();
        (if stays { split::COMPOSED } else { 0 }) | (if is_digit { split::DIGIT } else { 0 })
    });
    let all: String = (0..0x11_0000).filter_map(char::from_u32).collect();
    let classes = [
        (r"\p{L}", split::LETTER),
        (r"\p{N}", split::NUMBER),
        (r"\s", split::SPACE),
        (r"[\r\n]", split::BREAK),
    ];
    for (pattern, flag) in classes {
        let regex = SysRegex::new(pattern)
            .map_err(|error| CompileError::Refused(format!("{pattern}: {error}")))?;
        for (start, _) in regex.find_iter(&all) {
            if let Some(c) = all[start..].chars().next() {
                flags[c as usize] |= flag;
            }
        }
    }
    store(&flags, writer);
    Ok(())
}

/// Stores the classes for BERT's normalizer and splitter.
pub(super) fn for_bert(writer: &mut Writer) {
    store(&flags(bert_flags), writer);
}

fn bert_flags(c: char) -> u8 {
    let is_line = matches!(c, '\t' | '\n' | '\r');
    let is_chinese = matches!(u32::from(c),
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x2_0000..=0x2_a6df | 0x2_a700..=0x2_b73f
        | 0x2_b740..=0x2_b81f | 0x2_b920..=0x2_ceaf | 0xf900..=0xfaff | 0x2_f800..=0x2_fa1f);
    let mut parts = 0;
    let mut is_same = true;
    decompose_canonical(c, |part| {
        parts += 1;
        is_same &= part == c;
    });
    let decomposes = parts != 1 || !is_same;
    let answers = [
        (bert::CONTROL, c == '\0' || c == '\u{fffd}' || !is_line && c.is_other()),
        (bert::BLANK, is_line || c.is_whitespace()),
        (bert::CHINESE, is_chinese),
        (bert::MARK, c.is_mark_nonspacing()),
        (bert::PUNCTUATION, c.is_ascii_punctuation() || c.is_punctuation()),
        (bert::SPACE, c.is_whitespace()),
        (bert::CHANGES, decomposes || !c.to_lowercase().eq([c])),
        (bert::MOVES, canonical_combining_class(c) != 0),
    ];
    answers.iter().filter(|(_, holds)| *holds).fold(0, |flags, (flag, _)| flags | flag)
}

/// Stores blocks in the order in which they first appear.
fn store(flags: &[u8], writer: &mut Writer) {
    writer.settings.ascii.copy_from_slice(&flags[..128]);
    let mut places: HashMap<&[u8], u16> = HashMap::new();
    let mut index = Vec::with_capacity(BLOCKS * size_of::<u16>());
    let mut blocks = Vec::new();
    for block in flags.chunks(BLOCK) {
        let next = u16::try_from(blocks.len() / BLOCK).unwrap_or_default();
        let place = *places.entry(block).or_insert(next);
        if place == next {
            blocks.extend(block);
        }
        index.extend(place.to_le_bytes());
    }
    writer.set(Section::ClassIndex, index);
    writer.set(Section::Classes, blocks);
}
