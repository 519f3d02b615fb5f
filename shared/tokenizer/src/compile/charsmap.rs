//! Takes over the character map of `SentencePiece` models, once it is known that no walk in it leads outside.

use crate::character_map::CharacterMap;
use crate::error::CompileError;
use crate::image::{Section, Writer};
use tokenizers::normalizers::precompiled::Precompiled;

pub(super) fn compile(base64: &str, writer: &mut Writer) -> Result<(), CompileError> {
    let wrong = |fault: &dyn std::fmt::Display| {
        CompileError::unsupported(format!("a precompiled_charsmap that is damaged: {fault}"))
    };
    let table = CharacterMap::read(base64).map_err(|fault| wrong(&fault))?;
    let map = Precompiled::from(table.bytes()).map_err(|fault| wrong(&fault))?;
    for code in 0..128u8 {
        // A carriage return may be one grapheme with what follows.
        let text = char::from(code).to_string();
        if code != b'\r' && map.transform(&text).is_none() {
            writer.settings.plain[usize::from(code / 8)] |= 1 << (code % 8);
        }
    }
    writer.set(Section::Charsmap, table.trie().to_vec());
    writer.set(Section::MapTexts, table.texts().to_vec());
    Ok(())
}
