//! Texts in lower case, for models whose files say that every text is put in lower case before it is tokenised.
//!
//! That is `do_lower_case` in `sentence_bert_config.json`, which means Python's `str.lower` over prompt and text, whatever
//! tokenizer.json does afterwards. Some letters change their length ("İ" has two bytes in UTF-8, "i̇" three), so places in
//! the lowered text are led back to the text as it came.

use std::borrow::Cow;

/// A text as it is tokenised.
#[derive(Debug)]
pub(super) struct Lowered<'a> {
    pub(super) text: Cow<'a, str>,
    /// Places in the lowered text and in the one that came, ascending, at every character from the first one on that
    /// changes its length; empty where none does.
    places: Vec<(usize, usize)>,
}

impl<'a> Lowered<'a> {
    /// The text as it came.
    pub(super) fn unchanged(text: &'a str) -> Self {
        Self { text: Cow::Borrowed(text), places: Vec::new() }
    }

    /// The text in lower case.
    pub(super) fn of(text: &'a str) -> Self {
        let lowered = text.to_lowercase();
        if lowered == text {
            return Self::unchanged(text);
        }
        let mut places = Vec::new();
        let mut low = 0;
        for (place, character) in text.char_indices() {
            let len: usize = character.to_lowercase().map(char::len_utf8).sum();
            if len != character.len_utf8() || !places.is_empty() {
                places.push((low, place));
            }
            low += len;
        }
        if !places.is_empty() {
            places.push((low, text.len()));
        }
        Self { text: Cow::Owned(lowered), places }
    }

    /// Where a place in the lowered text lies in the one that came; inside of what one character became, its start.
    pub(super) fn origin(&self, place: usize) -> usize {
        match self.places.partition_point(|&(low, _)| low <= place).checked_sub(1) {
            None => place,
            Some(at) => self.places[at].1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lead_back_to_the_character_they_came_from() {
        for text in ["", "plain", "The RED Fox", "İstanbul, ΣΑΣ ẞ K", "ÀÉ İİ x", "中文 ABC"]
        {
            let lowered = Lowered::of(text);
            assert_eq!(lowered.text, text.to_lowercase());
            let mut low = 0;
            for (place, character) in text.char_indices() {
                assert_eq!(lowered.origin(low), place, "{text:?} {character:?}");
                low += character.to_lowercase().map(char::len_utf8).sum::<usize>();
            }
            assert_eq!((low, lowered.origin(low)), (lowered.text.len(), text.len()), "{text:?}");
        }
        assert!(matches!(Lowered::of("as it is").text, Cow::Borrowed(_)));
    }
}
