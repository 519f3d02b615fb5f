//! Normalized text, and which bytes of the original text each of its bytes stands for.
//!
//! Where only ids are wanted, spans are not kept and a step is a walk over characters into a new string. Where offsets
//! are wanted, a step gives the list of its edits, in the form in which the `tokenizers` crate describes them, because
//! offsets must come out as there, odd cases included: each character comes with a change, which is
//!
//! * 0 if it stands in the place of the next character of the text before,
//! * 1 if it is inserted: it shares the span of the byte before the current place,
//! * -n if it stands in the place of the next character and n more are dropped after it.

pub(crate) mod bert;
pub(crate) mod charsmap;

use std::borrow::Cow;

use unicode_normalization_alignments::UnicodeNormalization;

/// First byte and end of a stretch of the original text.
pub(crate) type Span = (usize, usize);

/// Takes the characters that a step gives.
pub(crate) trait Edits {
    /// A character and its change.
    fn put(&mut self, c: char, change: isize);
    /// Drops `count` characters after the last one put. Those dropped before any is put are lost: what follows then
    /// takes their place, as in the `tokenizers` crate.
    fn drop_after_last(&mut self, count: usize);
    /// Characters that stay as they are.
    fn keep(&mut self, text: &str);
}

impl Edits for String {
    fn put(&mut self, c: char, _: isize) {
        self.push(c);
    }

    fn drop_after_last(&mut self, _: usize) {}

    fn keep(&mut self, text: &str) {
        self.push_str(text);
    }
}

impl Edits for Vec<(char, isize)> {
    fn put(&mut self, c: char, change: isize) {
        self.push((c, change));
    }

    fn drop_after_last(&mut self, count: usize) {
        if let Some((_, change)) = self.last_mut() {
            *change -= signed(count);
        }
    }

    fn keep(&mut self, text: &str) {
        self.extend(text.chars().map(|c| (c, 0)));
    }
}

fn signed(count: usize) -> isize {
    isize::try_from(count).unwrap_or(isize::MAX)
}

/// One step of normalization.
pub(crate) trait Step {
    /// Gives the edits that turn `text` into its normalized form, and how many characters are dropped before the first.
    fn edit<E: Edits>(&self, text: &str, edits: &mut E) -> usize;
}

/// A text on its way through the steps.
#[derive(Debug)]
pub(crate) struct Text<'t> {
    pub(crate) chars: Cow<'t, str>,
    /// One span for each byte of `chars`. `None`: the text is the original, or the caller asks for no spans.
    spans: Option<Vec<Span>>,
    tracked: bool,
}

impl<'t> Text<'t> {
    pub(crate) fn new(original: &'t str, tracked: bool) -> Self {
        Self { chars: Cow::Borrowed(original), spans: None, tracked }
    }

    /// The stretch of the original text that `start..end` of this one stands for; all zero if spans are not kept.
    pub(crate) fn span(&self, start: usize, end: usize) -> Span {
        match &self.spans {
            _ if !self.tracked => (0, 0),
            Some(spans) => {
                let first = spans.get(start).map_or(0, |span| span.0);
                (
                    first,
                    end.checked_sub(1)
                        .and_then(|last| spans.get(last))
                        .map_or(first, |span| span.1),
                )
            }
            None => (floor(&self.chars, start), ceil(&self.chars, end)),
        }
    }

    pub(crate) fn is_tracked(&self) -> bool {
        self.tracked
    }

    pub(crate) fn apply(&mut self, step: &impl Step) {
        if !self.tracked {
            let mut out = String::with_capacity(self.chars.len());
            step.edit(&self.chars, &mut out);
            self.chars = Cow::Owned(out);
            return;
        }
        let mut edits: Vec<(char, isize)> = Vec::with_capacity(self.chars.len());
        let dropped = step.edit(&self.chars, &mut edits);
        self.follow(&edits, dropped);
    }

    /// Carries out edits, `dropped` characters after the start.
    fn follow(&mut self, edits: &[(char, isize)], dropped: usize) {
        let before = self.spans.take().unwrap_or_else(|| identity(&self.chars));
        let mut old = self.chars.chars();
        let mut at: usize = old.by_ref().take(dropped).map(char::len_utf8).sum();
        let mut chars = String::with_capacity(self.chars.len());
        let mut spans = Vec::with_capacity(before.len());
        for &(c, change) in edits {
            let here = if change > 0 { at.checked_sub(1) } else { Some(at) };
            let span = here.and_then(|here| before.get(here)).copied().unwrap_or_default();
            spans.extend(std::iter::repeat_n(span, c.len_utf8()));
            chars.push(c);
            if change <= 0 {
                let taken = change.unsigned_abs().saturating_add(1);
                at += old.by_ref().take(taken).map(char::len_utf8).sum::<usize>();
            }
        }
        self.chars = Cow::Owned(chars);
        self.spans = Some(spans);
    }

    /// Puts other characters in the place of some: `chars` comes with, for each byte of it, the place of the byte before
    /// whose span it has.
    pub(crate) fn replace(&mut self, chars: String, places: &[usize]) {
        if self.tracked {
            let before = self.spans.take().unwrap_or_else(|| identity(&self.chars));
            let span = |&place: &usize| before.get(place).copied().unwrap_or_default();
            self.spans = Some(places.iter().map(span).collect());
        }
        self.chars = Cow::Owned(chars);
    }

    /// Puts `mark` before a text that is not empty. It has the span of the character it stands before.
    pub(crate) fn prepend(&mut self, mark: char) {
        if self.chars.is_empty() {
            return;
        }
        let mut chars = String::with_capacity(self.chars.len() + mark.len_utf8());
        chars.push(mark);
        chars.push_str(&self.chars);
        let mut places = Vec::new();
        if self.tracked {
            places.resize(mark.len_utf8(), 0);
            places.extend(0..self.chars.len());
        }
        self.replace(chars, &places);
    }

    /// Takes white space away from the end.
    pub(crate) fn trim_end(&mut self) {
        let len = self.chars.trim_end().len();
        if len < self.chars.len() {
            let places: Vec<usize> = if self.tracked { (0..len).collect() } else { Vec::new() };
            self.replace(self.chars[..len].to_owned(), &places);
        }
    }

    /// Makes one blank of each run of them.
    pub(crate) fn collapse_blanks(&mut self) {
        if !self.chars.contains("  ") {
            return;
        }
        let mut chars = String::with_capacity(self.chars.len());
        let mut places = Vec::new();
        for (at, c) in self.chars.char_indices() {
            // The last of a run stays, with its span.
            if c == ' ' && self.chars.as_bytes().get(at + 1) == Some(&b' ') {
                continue;
            }
            chars.push(c);
            if self.tracked {
                places.extend(at..at + c.len_utf8());
            }
        }
        self.replace(chars, &places);
    }
}

fn identity(text: &str) -> Vec<Span> {
    let span = |(at, c): (usize, char)| std::iter::repeat_n((at, at + c.len_utf8()), c.len_utf8());
    text.char_indices().flat_map(span).collect()
}

/// The start of the character that `at` is in.
fn floor(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The end of the character that the byte before `at` is in.
fn ceil(text: &str, mut at: usize) -> usize {
    while at < text.len() && !text.is_char_boundary(at) {
        at += 1;
    }
    at
}

/// Canonical composition.
#[derive(Debug)]
pub(crate) struct Composed;

impl Step for Composed {
    fn edit<E: Edits>(&self, text: &str, edits: &mut E) -> usize {
        text.nfc().for_each(|(c, change)| edits.put(c, change));
        0
    }
}

/// Compatibility composition.
#[derive(Debug)]
pub(crate) struct Compatible;

impl Step for Compatible {
    fn edit<E: Edits>(&self, text: &str, edits: &mut E) -> usize {
        text.nfkc().for_each(|(c, change)| edits.put(c, change));
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_follow_composition() {
        let mut text = Text::new("ae\u{301}b", true);
        text.apply(&Composed);
        assert_eq!(text.chars, "a\u{e9}b");
        assert_eq!((text.span(0, 1), text.span(1, 3), text.span(3, 4)), ((0, 1), (1, 2), (4, 5)));
    }

    #[test]
    fn a_run_of_blanks_keeps_the_span_of_its_last() {
        let mut text = Text::new("a   b c", true);
        text.collapse_blanks();
        assert_eq!(text.chars, "a b c");
        assert_eq!((text.span(1, 2), text.span(2, 3), text.span(4, 5)), ((3, 4), (4, 5), (6, 7)));
    }
}
