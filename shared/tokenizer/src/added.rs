//! Tokens that are cut out of a text before anything else happens to it.
//!
//! Matches are the leftmost, and of those that start together the longest; they do not overlap. Few bytes can start
//! one, so the text between is passed over byte by byte.

use std::ops::Range;

use crate::trie::Trie;
use crate::view::Words;

/// The token takes the white space before it.
pub(crate) const STRIPS_LEFT: u32 = 1;
/// The token takes the white space after it.
pub(crate) const STRIPS_RIGHT: u32 = 2;

/// The added tokens of an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Added<'a> {
    pub(crate) heads: &'a [u8; 32],
    pub(crate) trie: Trie<'a>,
    pub(crate) tokens: Words<'a>,
}

/// A part of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Text(Range<usize>),
    Token(u32, Range<usize>),
}

impl Added<'_> {
    /// Calls `each` with the parts of `text` in order. No part is empty.
    pub(crate) fn split(self, text: &str, mut each: impl FnMut(Part)) {
        let bytes = text.as_bytes();
        let mut done = 0;
        let mut at = 0;
        while let Some(start) = bytes[at..].iter().position(|&byte| self.may_start(byte)) {
            let start = at + start;
            let found = self.trie.longest(self.trie.root(), &bytes[start..]);
            // A damaged table may match inside a character.
            let whole = |&(len, _): &(usize, u32)| {
                text.is_char_boundary(start) && text.is_char_boundary(start + len)
            };
            let Some((len, index)) = found.filter(whole) else {
                at = start + 1;
                continue;
            };
            at = start + len;
            let index = index as usize * 2;
            let id = self.tokens.at(index).unwrap_or_default();
            let flags = self.tokens.at(index + 1).unwrap_or_default();
            let mut span = start..at;
            if flags & STRIPS_LEFT != 0 {
                span.start = done.max(text[..start].trim_end().len());
            }
            if flags & STRIPS_RIGHT != 0 {
                span.end = text.len() - text[at..].trim_start().len();
            }
            if done < span.start {
                each(Part::Text(done..span.start));
            }
            done = span.end;
            each(Part::Token(id, span));
            // No token starts with white space where one strips it, so nothing before `done` can match.
            at = at.max(done);
        }
        if done < text.len() {
            each(Part::Text(done..text.len()));
        }
    }

    #[inline]
    fn may_start(self, byte: u8) -> bool {
        self.heads[usize::from(byte / 8)] >> (byte % 8) & 1 == 1
    }
}
