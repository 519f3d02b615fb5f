//! The `tokenizers` crate behind the few calls that prompts need.

use tokenizers::{Encoding, PostProcessor, Tokenizer};

use crate::Error;

/// A tokenizer whose own truncation and padding are off: prompts decide both.
#[derive(Debug)]
pub struct TextTokenizer {
    inner: Tokenizer,
}

/// Token ids and types as the model takes them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Token types; empty for all zero.
    pub types: Vec<u32>,
}

impl TextTokenizer {
    /// Reads the bytes of a tokenizer.json.
    pub fn from_json(json: &[u8]) -> Result<Self, Error> {
        let mut inner = Tokenizer::from_bytes(json).map_err(fault)?;
        inner.with_truncation(None).map_err(fault)?;
        inner.with_padding(None);
        Ok(Self { inner })
    }

    /// The ids of a text, without special tokens.
    pub(crate) fn ids(&self, text: &str) -> Result<Vec<u32>, Error> {
        Ok(self.encode(text)?.get_ids().to_vec())
    }

    /// The one id of a text that must be one token.
    pub(crate) fn single_token(&self, text: &str) -> Result<u32, Error> {
        match self.ids(text)?.as_slice() {
            [id] => Ok(*id),
            ids => Err(Error::Tokenizer(format!(
                "{text:?} must be one token for this template, it is {ids:?}"
            ))),
        }
    }

    /// The largest id it can give.
    pub(crate) fn largest_id(&self) -> u32 {
        self.inner.get_vocab(true).into_values().max().unwrap_or(0)
    }

    /// A text without special tokens, to be put together by [`TextTokenizer::single`] or
    /// [`TextTokenizer::pair`].
    pub(crate) fn encode(&self, text: &str) -> Result<Encoding, Error> {
        self.inner.encode_fast(text, false).map_err(fault)
    }

    /// Special tokens that [`TextTokenizer::single`] (or `pair`) adds.
    pub(crate) fn added(&self, pair: bool) -> usize {
        self.inner.get_post_processor().map_or(0, |processor| processor.added_tokens(pair))
    }

    /// One text with the special tokens around it.
    pub(crate) fn single(&self, text: Encoding) -> Result<Tokens, Error> {
        self.finish(text, None)
    }

    /// Two texts with the special tokens around and between them.
    pub(crate) fn pair(&self, first: Encoding, second: Encoding) -> Result<Tokens, Error> {
        self.finish(first, Some(second))
    }

    fn finish(&self, first: Encoding, second: Option<Encoding>) -> Result<Tokens, Error> {
        let whole = self.inner.post_process(first, second, true).map_err(fault)?;
        Ok(Tokens { ids: whole.get_ids().to_vec(), types: whole.get_type_ids().to_vec() })
    }

    /// The longest prefix of `text` that is made of its first `limit` tokens, and whether that cut
    /// anything. Never cuts inside a character.
    pub(crate) fn cut<'a>(&self, text: &'a str, limit: usize) -> Result<(&'a str, bool), Error> {
        let encoding = self.inner.encode(text, false).map_err(fault)?;
        let Some(&(start, _)) = encoding.get_offsets().get(limit) else {
            return Ok((text, false));
        };
        let mut end = start.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Ok((&text[..end], true))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "the shape map_err wants")]
fn fault(err: tokenizers::Error) -> Error {
    Error::Tokenizer(err.to_string())
}
