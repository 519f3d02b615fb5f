//! Pieces of text that do not depend on letters and numbers: words between white space, and what starts with `▁`.

use crate::classes::{Classes, bert};
use crate::normalize::Text;

/// What stands for a blank in unigram vocabularies.
pub(crate) const BLANK: char = '\u{2581}';
const BLANK_LEN: usize = BLANK.len_utf8();

/// Calls `each` with the first byte and end of every word: white space separates them, punctuation is a word each.
pub(crate) fn bert_words(text: &str, classes: Classes<'_>, mut each: impl FnMut(usize, usize)) {
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let class = classes.of(c);
        if class & (bert::SPACE | bert::PUNCTUATION) == 0 {
            continue;
        }
        if start < at {
            each(start, at);
        }
        start = at + c.len_utf8();
        // White space is taken first: what is both separates.
        if class & bert::SPACE == 0 {
            each(at, start);
        }
    }
    if start < text.len() {
        each(start, text.len());
    }
}

/// Puts [`BLANK`] in the place of every blank, and, if `prefix`, before a text that does not start with one.
pub(crate) fn mark_blanks(text: &mut Text<'_>, prefix: bool) {
    let old = &text.chars;
    let mut chars = String::with_capacity(old.len() + old.len() / 4 + BLANK_LEN);
    let mut places = Vec::new();
    if prefix && !old.is_empty() && !old.starts_with([' ', BLANK]) {
        chars.push(BLANK);
        // It has the span of the character it stands before.
        places.extend([0; BLANK_LEN]);
    }
    let mut done = 0;
    for (at, _) in old.match_indices(' ') {
        chars.push_str(&old[done..at]);
        chars.push(BLANK);
        if text.is_tracked() {
            places.extend(done..at);
            places.extend([at; BLANK_LEN]);
        }
        done = at + 1;
    }
    chars.push_str(&old[done..]);
    if text.is_tracked() {
        places.extend(done..old.len());
    }
    text.replace(chars, &places);
}

/// Drops white space and puts [`BLANK`] before every word that does not start with one.
pub(crate) fn mark_words(text: &mut Text<'_>) {
    let mut chars = String::with_capacity(text.chars.len() + BLANK_LEN);
    let mut places = Vec::new();
    let mut is_start = true;
    for (at, c) in text.chars.char_indices() {
        if c.is_whitespace() {
            is_start = true;
            continue;
        }
        if is_start && c != BLANK {
            chars.push(BLANK);
            places.extend([at; BLANK_LEN]);
        }
        is_start = false;
        chars.push(c);
        places.extend(at..at + c.len_utf8());
    }
    text.replace(chars, &places);
}

/// Calls `each` with the first byte and end of every piece: each [`BLANK`] starts one.
pub(crate) fn marked_pieces(text: &str, mut each: impl FnMut(usize, usize)) {
    let mut start = 0;
    for (at, _) in text.match_indices(BLANK) {
        if start < at {
            each(start, at);
        }
        start = at;
    }
    if start < text.len() {
        each(start, text.len());
    }
}
