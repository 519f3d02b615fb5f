//! Cuts text into the pieces inside which byte pairs are merged, as the regular expressions of Qwen and GPT-2 do.
//!
//! Both expressions match at every character, so a piece starts where the last one ends. At each place the first
//! alternative that matches decides:
//!
//! | Qwen                               | GPT-2               | here                                                 |
//! |------------------------------------|---------------------|------------------------------------------------------|
//! | `(?i:'s\|'t\|'re\|'ve\|'m\|'ll\|'d)` | the same, lower case | [`contraction`]                                      |
//! | `[^\r\n\p{L}\p{N}]?\p{L}+`         | ` ?\p{L}+`          | a letter, or one other character before a letter     |
//! | `\p{N}`                            | ` ?\p{N}+`          | a number                                             |
//! | ` ?[^\s\p{L}\p{N}]+[\r\n]*`        | ` ?[^\s\p{L}\p{N}]+` | anything but letters, numbers and white space        |
//! | `\s*[\r\n]+`                       |                     | white space up to the last line break in it          |
//! | `\s+(?!\S)`                        | the same            | white space but for its last character, if more come |
//! | `\s+`                              | the same            | a single white space                                 |

use crate::classes::{Classes, split};

const WORD: u8 = split::LETTER | split::NUMBER;
const NO_SYMBOL: u8 = split::LETTER | split::NUMBER | split::SPACE;

/// The two ways to split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    Qwen,
    Gpt2,
}

/// A text with the properties of its characters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scanner<'a> {
    pub(crate) text: &'a str,
    pub(crate) classes: Classes<'a>,
    pub(crate) pattern: Pattern,
}

impl Scanner<'_> {
    /// Where the piece ends that starts at the character at `at`, which is inside the text.
    pub(crate) fn piece_end(self, at: usize) -> usize {
        let bytes = self.text.as_bytes();
        if bytes.get(at) == Some(&b'\'')
            && let Some(len) = contraction(&self.text[at + 1..], self.pattern)
        {
            return at + 1 + len;
        }
        let Some((class, len)) = self.class_at(at) else { return self.text.len() };
        let next = at + len;
        let is_blank = bytes[at] == b' ';
        if class & split::LETTER != 0 {
            return self.skip(next, split::LETTER, split::LETTER);
        }
        let after = self.class_at(next);
        let may_lead = match self.pattern {
            Pattern::Qwen => class & (split::BREAK | split::NUMBER) == 0,
            Pattern::Gpt2 => is_blank,
        };
        if let Some((class, len)) = after
            && may_lead
            && class & split::LETTER != 0
        {
            return self.skip(next + len, split::LETTER, split::LETTER);
        }
        if class & split::NUMBER != 0 {
            return match self.pattern {
                Pattern::Qwen => next,
                Pattern::Gpt2 => self.skip(next, split::NUMBER, split::NUMBER),
            };
        }
        if class & NO_SYMBOL == 0 {
            return self.symbols(next);
        }
        if let Some((class, len)) = after
            && is_blank
        {
            if class & NO_SYMBOL == 0 {
                return self.symbols(next + len);
            }
            if self.pattern == Pattern::Gpt2 && class & WORD == split::NUMBER {
                return self.skip(next + len, split::NUMBER, split::NUMBER);
            }
        }
        self.white_space(at)
    }

    fn symbols(self, at: usize) -> usize {
        let end = self.skip(at, NO_SYMBOL, 0);
        match self.pattern {
            Pattern::Qwen => self.skip(end, split::BREAK, split::BREAK),
            Pattern::Gpt2 => end,
        }
    }

    fn white_space(self, start: usize) -> usize {
        let (mut at, mut last, mut after_break) = (start, start, None);
        while let Some((class, len)) = self.class_at(at)
            && class & split::SPACE != 0
        {
            last = at;
            at += len;
            if class & split::BREAK != 0 {
                after_break = Some(at);
            }
        }
        match after_break {
            Some(end) if self.pattern == Pattern::Qwen => end,
            _ if at == self.text.len() || last == start => at.max(start + 1),
            _ => last,
        }
    }

    /// Past the characters whose flags in `mask` are `wanted`.
    fn skip(self, mut at: usize, mask: u8, wanted: u8) -> usize {
        while let Some((class, len)) = self.class_at(at)
            && class & mask == wanted
        {
            at += len;
        }
        at
    }

    /// The flags of the character at `at`, and its length in bytes.
    #[inline]
    fn class_at(self, at: usize) -> Option<(u8, usize)> {
        let byte = *self.text.as_bytes().get(at)?;
        if let Some(class) = self.classes.of_ascii(byte) {
            return Some((class, 1));
        }
        let c = self.text.get(at..)?.chars().next()?;
        Some((self.classes.of(c), c.len_utf8()))
    }
}

/// Bytes of the contraction that `text`, which follows an apostrophe, starts with.
fn contraction(text: &str, pattern: Pattern) -> Option<usize> {
    let mut chars = text.chars();
    let first = chars.next()?;
    let fold = |c: char| match c {
        _ if pattern == Pattern::Gpt2 => c,
        // The one letter beyond ASCII that folds to one of those here, which compiling checks.
        '\u{17f}' => 's',
        _ => c.to_ascii_lowercase(),
    };
    let second = match fold(first) {
        's' | 't' | 'm' | 'd' => return Some(first.len_utf8()),
        'r' | 'v' => 'e',
        'l' => 'l',
        _ => return None,
    };
    let next = chars.next().filter(|&c| fold(c) == second)?;
    Some(first.len_utf8() + next.len_utf8())
}
