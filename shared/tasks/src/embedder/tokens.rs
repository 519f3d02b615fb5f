//! Texts as an embedder's tokens and back.

use super::Embedder;
use crate::Error;
use crate::text_tokens::{TextToken, Words};

impl Embedder {
    /// The tokens of a text, `add_special` ones around it included, without a prompt and however many they are.
    ///
    /// The first call of this or of [`Embedder::detokenize`] reads the vocabulary, which takes up to a second.
    pub fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<TextToken>, Error> {
        self.words().tokenize(text, add_special)
    }

    /// How many tokens a text has without special ones; some number above `most` if it has more.
    pub fn count_tokens(&self, text: &str, most: usize) -> Result<usize, Error> {
        self.words().count(text, most)
    }

    /// The text that token ids stand for, special tokens left out if `skip_special`. Only what the tokenizer keeps comes
    /// back: lower case from an uncased one, for instance.
    ///
    /// Fails with [`Error::InvalidInput`] if an id is not in the vocabulary.
    pub fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        self.words().detokenize(ids, skip_special)
    }

    fn words(&self) -> Words<'_> {
        let Self { tokenizer, special, vocabulary, vocab, snapshot, .. } = self;
        Words { tokenizer, special, vocabulary, vocab: *vocab, snapshot }
    }
}
