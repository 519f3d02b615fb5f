//! Properties of code points, a byte of flags each, in two levels: 128 code points share a block, and equal blocks are
//! stored once. What the flags mean depends on the tokenizer.

use crate::view::Halves;

/// Code points of a block: 7 bits, which makes ASCII one block and the tables smallest.
pub(crate) const BLOCK: usize = 128;
/// Entries of the first level.
pub(crate) const BLOCKS: usize = 0x11_0000 / BLOCK;

/// Flags for splitting as Qwen and GPT-2 do.
pub(crate) mod split {
    /// `\p{L}`
    pub(crate) const LETTER: u8 = 1;
    /// `\p{N}`
    pub(crate) const NUMBER: u8 = 2;
    /// `\s`
    pub(crate) const SPACE: u8 = 4;
    /// `[\r\n]`
    pub(crate) const BREAK: u8 = 8;
    /// Stays as it is under NFC whatever is beside it, unless that is a character without this flag.
    pub(crate) const COMPOSED: u8 = 16;
    /// What `char::is_numeric` says, where digits are cut by that.
    pub(crate) const DIGIT: u8 = 32;
}

/// Flags for BERT's normalizer and splitter.
pub(crate) mod bert {
    /// Dropped when text is cleaned.
    pub(crate) const CONTROL: u8 = 1;
    /// Becomes a blank when text is cleaned.
    pub(crate) const BLANK: u8 = 2;
    /// Gets blanks around it.
    pub(crate) const CHINESE: u8 = 4;
    /// A mark that goes when accents are stripped.
    pub(crate) const MARK: u8 = 8;
    /// A word of its own.
    pub(crate) const PUNCTUATION: u8 = 16;
    /// Separates words.
    pub(crate) const SPACE: u8 = 32;
    /// Decomposed or lower-cased to something else.
    pub(crate) const CHANGES: u8 = 64;
    /// May change its place among its neighbours when text is decomposed.
    pub(crate) const MOVES: u8 = 128;
}

/// A table inside an image.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Classes<'a> {
    ascii: &'a [u8; 128],
    index: Halves<'a>,
    blocks: &'a [u8],
}

impl<'a> Classes<'a> {
    pub(crate) fn new(ascii: &'a [u8; 128], index: &'a [u8], blocks: &'a [u8]) -> Self {
        Self { ascii, index: Halves::new(index), blocks }
    }

    /// The flags of a character.
    #[inline]
    pub(crate) fn of(self, c: char) -> u8 {
        let code = c as usize;
        self.ascii.get(code).copied().unwrap_or_else(|| self.beyond_ascii(code))
    }

    /// The flags of a byte, if it is a whole character.
    #[inline]
    pub(crate) fn of_ascii(self, byte: u8) -> Option<u8> {
        self.ascii.get(usize::from(byte)).copied()
    }

    #[inline]
    fn beyond_ascii(self, code: usize) -> u8 {
        let block = self.index.at(code / BLOCK).unwrap_or_default();
        let at = usize::from(block) * BLOCK + code % BLOCK;
        self.blocks.get(at).copied().unwrap_or_default()
    }
}
