//! Spans without the blanks at the ends of their tokens, which RoBERTa's post-processor asks for by `trim_offsets`.
//!
//! A byte-level token takes the blank before a word as its own first byte. Trimming leaves that out of the token's span
//! and its id as it is. The `tokenizers` crate counts the blanks in the token's text, and moves an end of the span by one
//! byte for each:
//!
//! * The text of a token of the vocabulary is its bytes, of which only 0x20 is a blank (`\u{120}` in the vocabulary's
//!   spelling): line ends and other white space are spelled as letters there, and stay in the span.
//! * The text of an added token is what it takes of the original text, the white space that it strips included. There
//!   all white space counts, and so does `\u{120}` itself; each character for one byte, also where it has more, so that
//!   an end may come to lie inside a character.
//!
//! Where the tokenizer is said to put a blank before a text (`add_prefix_space`), a single blank that starts the first
//! token, or any token at byte 0, is taken for that one and not left out.

use crate::image::splitter;
use crate::normalize::Span;

/// How spans are trimmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trim {
    /// A single blank that starts a text stays in the span.
    keeps_prefix: bool,
}

/// How many blanks a token's text starts and ends with. One of blanks only starts and ends with all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    leading: usize,
    trailing: usize,
}

impl Ends {
    /// The ends of a token of the vocabulary.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        let is_blank = |&&byte: &&u8| byte == b' ';
        Self {
            leading: bytes.iter().take_while(is_blank).count(),
            trailing: bytes.iter().rev().take_while(is_blank).count(),
        }
    }

    /// The ends of an added token.
    pub(crate) fn of_text(text: &str) -> Self {
        let is_blank = |c: &char| *c == '\u{120}' || c.is_whitespace();
        Self {
            leading: text.chars().take_while(is_blank).count(),
            trailing: text.chars().rev().take_while(is_blank).count(),
        }
    }
}

impl Trim {
    /// What the flags beside a splitter say.
    pub(crate) fn of(splitter: u32) -> Option<Self> {
        let keeps_prefix = splitter & splitter::TRIMMED_PREFIX != 0;
        (splitter & splitter::TRIMMED != 0).then_some(Self { keeps_prefix })
    }

    /// The span of a token with such ends; `is_first` says whether it is the first of the text.
    pub(crate) fn apply(self, (start, end): Span, ends: Ends, is_first: bool) -> Span {
        let is_prefix = ends.leading == 1 && (is_first || start == 0);
        let leading = if self.keeps_prefix && is_prefix { 0 } else { ends.leading };
        let start = end.min(start + leading);
        (start, end.checked_sub(ends.trailing).map_or(end, |end| end.max(start)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_at_both_ends_are_left_out() {
        let [all, but_prefix] = [false, true].map(|keeps_prefix| Trim { keeps_prefix });
        for (trim, span, text, is_first, expected) in [
            (all, (0, 2), " a", true, (1, 2)),
            (all, (4, 9), "  a  ", false, (6, 7)),
            (all, (4, 7), "   ", false, (7, 7)),
            (all, (4, 6), "\na", false, (4, 6)),
            (but_prefix, (0, 2), " a", true, (0, 2)),
            (but_prefix, (0, 3), "  a", true, (2, 3)),
            (but_prefix, (0, 1), " ", true, (0, 0)),
            (but_prefix, (0, 2), " a", false, (0, 2)),
            (but_prefix, (3, 5), " a", true, (3, 5)),
            (but_prefix, (3, 5), " a", false, (4, 5)),
        ] {
            let found = trim.apply(span, Ends::of_bytes(text.as_bytes()), is_first);
            assert_eq!(found, expected, "{text:?} at {span:?}");
        }
    }

    #[test]
    fn all_white_space_beside_added_tokens_is_blank() {
        let ends = |leading, trailing| Ends { leading, trailing };
        assert_eq!(Ends::of_text("\u{3000}\t<mask>\n"), ends(2, 1));
        assert_eq!(Ends::of_text("\u{120}x"), ends(1, 0));
        assert_eq!(Ends::of_bytes("\u{3000}x\n".as_bytes()), ends(0, 0));
    }
}
