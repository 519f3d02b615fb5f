//! The character map of `SentencePiece` models, read as the file holds it: a double array whose values are places in a
//! text of replacements, each ended by a zero byte.
//!
//! A unit holds a label (bits 0-7; bit 31 marks a value), a flag that a value follows (bit 8) and an offset (bits 10-30,
//! times 256 if bit 9 is set) that leads to the next unit, `place ^ offset ^ byte`.
//!
//! The map is asked for each grapheme of less than 6 bytes, then for its characters one by one; the *shortest* entry
//! that the text asked for starts with gives the replacement for all of it. That is odd, but it is what the
//! `tokenizers` crate does and what models were evaluated with.

use unicode_segmentation::UnicodeSegmentation;

use super::{Edits, Step};
use crate::view::Words;

/// Graphemes of this many bytes and more are looked up by character only.
const LONG_GRAPHEME: usize = 6;
const VALUE: u32 = 1 << 31;

/// The map of an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Charsmap<'a> {
    pub(crate) units: Words<'a>,
    pub(crate) texts: &'a [u8],
    /// ASCII characters that it keeps, a bit each.
    pub(crate) plain: &'a [u8; 16],
}

impl<'a> Charsmap<'a> {
    /// The replacement for `text`, `None` to keep it.
    pub(crate) fn find(self, text: &str) -> Option<&'a str> {
        let rest = self.texts.get(self.shortest(text.as_bytes())?..)?;
        let len = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
        std::str::from_utf8(&rest[..len]).ok()
    }

    fn shortest(self, key: &[u8]) -> Option<usize> {
        let mut unit = self.units.at(0)?;
        let mut place = offset(unit);
        for &byte in key.iter().take_while(|&&byte| byte != 0) {
            place ^= usize::from(byte);
            unit = self.units.at(place)?;
            if unit & (VALUE | 0xff) != u32::from(byte) {
                return None;
            }
            place ^= offset(unit);
            if unit >> 8 & 1 == 1 {
                return self.units.at(place).map(|unit| (unit & !VALUE) as usize);
            }
        }
        None
    }

    fn is_plain(self, byte: u8) -> bool {
        let bits = self.plain.get(usize::from(byte / 8)).copied().unwrap_or_default();
        bits >> (byte % 8) & 1 == 1
    }

    /// Plain ASCII up to a character that may belong to a grapheme with the next.
    fn plain_run(self, bytes: &[u8]) -> usize {
        let stays = |pair: &[u8]| self.is_plain(pair[0]) && pair[1].is_ascii();
        let run = bytes.windows(2).take_while(|pair| stays(pair)).count();
        let is_last = run + 1 == bytes.len() && self.is_plain(bytes[run]);
        run + usize::from(is_last)
    }
}

fn offset(unit: u32) -> usize {
    (unit as usize >> 10) << ((unit & 1 << 9) >> 6)
}

impl Step for Charsmap<'_> {
    fn edit<E: Edits>(&self, text: &str, edits: &mut E) -> usize {
        let mut rest = text;
        while !rest.is_empty() {
            let (plain, other) = rest.split_at(self.plain_run(rest.as_bytes()));
            edits.keep(plain);
            rest = other;
            for grapheme in other.graphemes(true) {
                let short = grapheme.len() < LONG_GRAPHEME;
                match if short { self.find(grapheme) } else { None } {
                    Some(new) => put(grapheme, new, edits),
                    None => self.each_char(grapheme, edits),
                }
                rest = &rest[grapheme.len()..];
                if self.plain_run(&rest.as_bytes()[..rest.len().min(2)]) > 0 {
                    break;
                }
            }
        }
        0
    }
}

impl Charsmap<'_> {
    fn each_char<E: Edits>(self, grapheme: &str, edits: &mut E) {
        for (at, c) in grapheme.char_indices() {
            let part = &grapheme[at..at + c.len_utf8()];
            match self.find(part) {
                Some(new) => put(part, new, edits),
                None => edits.put(c, 0),
            }
        }
    }
}

/// Puts `new` in the place of `old`: what is more is inserted at its end, what is less dropped there.
fn put<E: Edits>(old: &str, new: &str, edits: &mut E) {
    let (before, after) = (old.chars().count(), new.chars().count());
    for (index, c) in new.chars().enumerate() {
        edits.put(c, isize::from(index >= before));
    }
    if after < before {
        edits.drop_after_last(before - after);
    }
}
