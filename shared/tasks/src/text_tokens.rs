//! Texts as tokens and back, for callers that count, show or cut them.

use std::ops::Range;

use defrost_loader::Snapshot;

use crate::Error;
use crate::embedder::Special;
use crate::tokenizer::{TextTokenizer, Vocabulary};

/// One token of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextToken {
    /// The id of the token.
    pub id: u32,
    /// The token's text in the vocabulary, such as `##ing` or `▁the`.
    pub piece: String,
    /// The bytes of the text that the token stands for; `None` for tokens that are put around a text.
    pub bytes: Option<Range<usize>>,
    /// The characters of the text that the token stands for.
    pub chars: Option<Range<usize>>,
    /// Whether the token is one of the tokenizer's special ones, which stand for no text.
    pub special: bool,
}

/// What a model knows of its tokens.
#[derive(Debug)]
pub(crate) struct Words<'a> {
    pub(crate) tokenizer: &'a TextTokenizer,
    pub(crate) special: &'a Special,
    pub(crate) vocabulary: &'a Vocabulary,
    /// Ids from this one on have no meaning.
    pub(crate) vocab: usize,
    pub(crate) snapshot: &'a Snapshot,
}

impl Words<'_> {
    /// How many tokens a text has without special ones; some number above `most` if it has more.
    pub(crate) fn count(&self, text: &str, most: usize) -> Result<usize, Error> {
        self.checked(self.tokenizer.ids(text, most).map(|ids| ids.len()))
    }

    pub(crate) fn tokenize(&self, text: &str, add_special: bool) -> Result<Vec<TextToken>, Error> {
        self.checked(self.tokens(text, add_special))
    }

    /// What the tokenizer says, unless the file that it was read from has been edited since.
    fn checked<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        self.snapshot.intact()?;
        result
    }

    fn tokens(&self, text: &str, add_special: bool) -> Result<Vec<TextToken>, Error> {
        let mut chars = CharCount::new(text);
        let around = |id: &u32| (*id, None);
        let inner = self.tokenizer.spans(text)?.into_iter().map(|(id, range)| (id, Some(range)));
        let (before, after) = (self.special.before.iter(), self.special.after.iter());
        let before = before.filter(|_| add_special).map(around);
        let after = after.filter(|_| add_special).map(around);
        before
            .chain(inner)
            .chain(after)
            .map(|(id, bytes)| {
                Ok(TextToken {
                    id,
                    piece: self.vocabulary.piece(id)?,
                    chars: bytes.clone().map(|Range { start, end }| chars.at(start)..chars.at(end)),
                    bytes,
                    special: self.vocabulary.is_special(id)?,
                })
            })
            .collect()
    }

    pub(crate) fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String, Error> {
        if let Some(id) = ids.iter().find(|&&id| id as usize >= self.vocab) {
            return Err(Error::InvalidInput {
                param: "tokens",
                message: format!(
                    "token id {id} is not in the model's vocabulary, which has ids below {}",
                    self.vocab
                ),
            });
        }
        self.checked(self.vocabulary.decode(ids, skip_special))
    }
}

/// Counts the characters before places that mostly ascend.
struct CharCount<'a> {
    text: &'a str,
    /// A place, and the characters before it.
    known: (usize, usize),
}

impl<'a> CharCount<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, known: (0, 0) }
    }

    fn at(&mut self, byte: usize) -> usize {
        let (place, count) = self.known;
        let chars = if byte >= place {
            count + self.text[place..byte].chars().count()
        } else {
            count - self.text[byte..place].chars().count()
        };
        self.known = (byte, chars);
        chars
    }
}
