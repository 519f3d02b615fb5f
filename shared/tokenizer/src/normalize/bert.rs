//! BERT's normalizer: drop control characters, part Chinese characters, strip accents, lower case.
//!
//! Where only ids are wanted, one pass over the characters does all of it. That is right as long as no character
//! outlives the stripping of accents that decomposition may move past its neighbours; texts with one take the steps one
//! by one.

use std::borrow::Cow;

use unicode_normalization_alignments::UnicodeNormalization;
use unicode_normalization_alignments::char::decompose_canonical;

use super::{Edits, Step, Text};
use crate::classes::{Classes, bert};
use crate::image::step::{ACCENTS, CHINESE, CLEAN, LOWER};

/// The normalizer with its settings, flags of [`crate::image::step`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bert<'a> {
    pub(crate) classes: Classes<'a>,
    pub(crate) flags: u8,
}

impl Bert<'_> {
    pub(crate) fn apply(self, text: &mut Text<'_>) {
        if !text.is_tracked()
            && let Some(chars) = self.at_once(&text.chars)
        {
            text.chars = Cow::Owned(chars);
            return;
        }
        let Self { classes, flags } = self;
        if flags & CLEAN != 0 {
            text.apply(&Clean(classes));
        }
        if flags & CHINESE != 0 {
            text.apply(&Part(classes));
        }
        if flags & ACCENTS != 0 {
            text.apply(&Decompose);
            text.apply(&Strip(classes));
        }
        if flags & LOWER != 0 {
            text.apply(&Lower);
        }
    }

    /// All steps in one pass; `None` if the order of its characters may change.
    fn at_once(self, text: &str) -> Option<String> {
        let mut out = String::with_capacity(text.len() + text.len() / 8);
        for c in text.chars() {
            let class = self.classes.of(c);
            if self.flags & CLEAN != 0 && class & (bert::CONTROL | bert::BLANK) != 0 {
                if class & bert::CONTROL == 0 {
                    out.push(' ');
                }
                continue;
            }
            let is_parted = self.flags & CHINESE != 0 && class & bert::CHINESE != 0;
            if is_parted {
                out.push(' ');
            }
            if class & (bert::CHANGES | bert::MARK | bert::MOVES) == 0 {
                out.push(c);
            } else {
                self.one(c, &mut out)?;
            }
            if is_parted {
                out.push(' ');
            }
        }
        Some(out)
    }

    fn one(self, c: char, out: &mut String) -> Option<()> {
        let lower = |c: char, out: &mut String| {
            if self.flags & LOWER == 0 {
                out.push(c);
            } else {
                out.extend(c.to_lowercase());
            }
        };
        if self.flags & ACCENTS == 0 {
            lower(c, out);
            return Some(());
        }
        let mut stays_in_place = true;
        decompose_canonical(c, |part| {
            let class = self.classes.of(part);
            if class & bert::MARK == 0 {
                stays_in_place &= class & bert::MOVES == 0;
                lower(part, out);
            }
        });
        stays_in_place.then_some(())
    }
}

/// Keeps the characters that `keep` gives, and drops those for which it gives `None`.
fn filter<E: Edits>(text: &str, edits: &mut E, keep: impl Fn(char) -> Option<char>) -> usize {
    let mut at_start = 0;
    let mut is_first = true;
    for c in text.chars() {
        if let Some(c) = keep(c) {
            edits.put(c, 0);
            is_first = false;
        } else if is_first {
            at_start += 1;
        } else {
            edits.drop_after_last(1);
        }
    }
    at_start
}

struct Clean<'a>(Classes<'a>);

impl Step for Clean<'_> {
    fn edit<E: Edits>(&self, text: &str, edits: &mut E) -> usize {
        filter(text, edits, |c| match self.0.of(c) {
            class if class & bert::CONTROL != 0 => None,
            class if class & bert::BLANK != 0 => Some(' '),
            _ => Some(c),
        })
    }
}

struct Part<'a>(Classes<'a>);

impl Step for Part<'_> {
    fn edit<E: Edits>(&self, text: &str, edits: &mut E) -> usize {
        for c in text.chars() {
            if self.0.of(c) & bert::CHINESE == 0 {
                edits.put(c, 0);
            } else {
                edits.put(' ', 0);
                edits.put(c, 1);
                edits.put(' ', 1);
            }
        }
        0
    }
}

struct Decompose;

impl Step for Decompose {
    fn edit<E: Edits>(&self, text: &str, edits: &mut E) -> usize {
        text.nfd().for_each(|(c, change)| edits.put(c, change));
        0
    }
}

struct Strip<'a>(Classes<'a>);

impl Step for Strip<'_> {
    fn edit<E: Edits>(&self, text: &str, edits: &mut E) -> usize {
        filter(text, edits, |c| (self.0.of(c) & bert::MARK == 0).then_some(c))
    }
}

struct Lower;

impl Step for Lower {
    fn edit<E: Edits>(&self, text: &str, edits: &mut E) -> usize {
        for c in text.chars() {
            for (index, c) in c.to_lowercase().enumerate() {
                edits.put(c, isize::from(index > 0));
            }
        }
        0
    }
}
