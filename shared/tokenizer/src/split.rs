//! Cuts text into the pieces inside which byte pairs are merged, as the regular expressions of Qwen, Llama 3 and GPT-2 do.
//!
//! Llama 3's is Qwen's but for numbers. All match at every character, so a piece starts where the last one ends. At each place the first
//! alternative that matches decides:
//!
//! | Qwen                               | GPT-2               | here                                                 |
//! |------------------------------------|---------------------|------------------------------------------------------|
//! | `(?i:'s\|'t\|'re\|'ve\|'m\|'ll\|'d)` | the same, lower case | [`contraction`]                                      |
//! | `[^\r\n\p{L}\p{N}]?\p{L}+`         | ` ?\p{L}+`          | a letter, or one other character before a letter     |
//! | `\p{N}`, Llama 3: `\p{N}{1,3}`      | ` ?\p{N}+`          | a number                                             |
//! | ` ?[^\s\p{L}\p{N}]+[\r\n]*`        | ` ?[^\s\p{L}\p{N}]+` | anything but letters, numbers and white space        |
//! | `\s*[\r\n]+`                       |                     | white space up to the last line break in it          |
//! | `\s+(?!\S)`                        | the same            | white space but for its last character, if more come |
//! | `\s+`                              | the same            | a single white space                                 |

use crate::classes::{Classes, split};

const WORD: u8 = split::LETTER | split::NUMBER;
const NO_SYMBOL: u8 = split::LETTER | split::NUMBER | split::SPACE;
/// Numbers of a piece, where the pattern says `{1,3}`.
const LLAMA3_NUMBERS: usize = 3;

/// The ways to split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pattern {
    Qwen,
    Llama3,
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
            Pattern::Qwen | Pattern::Llama3 => class & (split::BREAK | split::NUMBER) == 0,
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
                Pattern::Llama3 => self.numbers(next, LLAMA3_NUMBERS - 1),
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
            Pattern::Qwen | Pattern::Llama3 => self.skip(end, split::BREAK, split::BREAK),
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
            Some(end) if self.pattern != Pattern::Gpt2 => end,
            _ if at == self.text.len() || last == start => at.max(start + 1),
            _ => last,
        }
    }

    /// Past numbers, `most` at most.
    fn numbers(self, mut at: usize, most: usize) -> usize {
        for _ in 0..most {
            match self.class_at(at) {
                Some((class, len)) if class & split::NUMBER != 0 => at += len,
                _ => break,
            }
        }
        at
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

/// Calls `each` with the first byte and end of every part: what is a digit is one by itself, and what is between two is
/// split as a text of its own.
pub(crate) fn digits(text: &str, classes: Classes<'_>, mut each: impl FnMut(usize, usize)) {
    let mut start = 0;
    for (at, c) in text.char_indices() {
        if classes.of(c) & split::DIGIT == 0 {
            continue;
        }
        if start < at {
            each(start, at);
        }
        start = at + c.len_utf8();
        each(at, start);
    }
    if start < text.len() {
        each(start, text.len());
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
