//! From an input to the token ids that the model runs.
//!
//! A prompt and a text are tokenised as one string, as sentence-transformers does: `Query:` and `who` may have other
//! tokens together than apart. To cut off the beginning of the text the prompt's share of the tokens must be known; it is
//! what the whole has in common with the prompt tokenised alone. Token ids cannot be joined as strings, so a prompt's ids
//! go before them.

use std::ops::Range;

use defrost_model::Tokens;

use super::{EmbedTruncation, Input, Overflow};
use crate::Error;
use crate::tokenizer::TextTokenizer;

/// How many times the limit of tokens an over-long text is counted up to, for the message that refuses it.
const COUNTED: usize = 8;

/// One input, ready to run.
#[derive(Debug, Clone)]
pub(super) struct Sequence {
    pub(super) tokens: Tokens,
    pub(super) truncated: bool,
}

/// What the inputs of a request have in common: they all begin with the same prompt and have the same room.
#[derive(Debug)]
pub(super) struct Common {
    prompt: String,
    /// The prompt alone.
    prompt_ids: Vec<u32>,
    overflow: Overflow,
    /// The most tokens of a sequence, special ones included.
    limit: usize,
    vocab: usize,
}

/// Encodes one input of a request after another.
#[derive(Debug)]
pub(super) struct Encoder<'a> {
    pub(super) tokenizer: &'a TextTokenizer,
    pub(super) special: &'a Special,
    pub(super) common: &'a Common,
}

/// The special tokens that the tokenizer puts around a text.
#[derive(Debug, Default)]
pub(crate) struct Special {
    pub(crate) before: Vec<u32>,
    pub(crate) after: Vec<u32>,
}

impl Special {
    /// Found by asking the tokenizer to finish a text of one id that is none of them.
    pub(crate) fn of(tokenizer: &TextTokenizer) -> Result<Self, Error> {
        let bare = tokenizer.single(&[])?.ids;
        let id = (0..=u32::MAX).find(|id| !bare.contains(id)).unwrap_or_default();
        let whole = tokenizer.single(&[id])?.ids;
        let at = whole.iter().position(|&found| found == id).unwrap_or(whole.len());
        let after = whole.get(at + 1..).unwrap_or_default().to_vec();
        Ok(Self { before: whole[..at].to_vec(), after })
    }

    fn count(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// The ids of the text itself.
    fn strip<'a>(&self, ids: &'a [u32]) -> &'a [u32] {
        let inner = ids.strip_prefix(self.before.as_slice());
        inner.and_then(|ids| ids.strip_suffix(self.after.as_slice())).unwrap_or(ids)
    }
}

impl Common {
    pub(super) fn new(
        tokenizer: &TextTokenizer,
        special: &Special,
        prompt: String,
        truncation: EmbedTruncation,
        max_length: usize,
        vocab: usize,
    ) -> Result<Self, Error> {
        let prompt_ids = tokenizer.ids(&prompt, max_length)?;
        let least = special.count() + prompt_ids.len() + 1;
        if max_length < least {
            let found = prompt_ids.len();
            return Err(Error::InvalidInput {
                param: "prompt",
                message: format!(
                    "the prompt has at least {found} tokens, of {max_length} that the model reads; that leaves no room for a \
                     text: send a shorter prompt"
                ),
            });
        }
        // Beside what stays whatever is cut there must be room for something.
        let kept = if truncation.overflow == Overflow::CutStart { prompt_ids.len() } else { 0 };
        let least = special.count() + kept + 1;
        let limit = truncation.limit.unwrap_or(max_length).clamp(least, max_length);
        let overflow = truncation.overflow;
        Ok(Self { prompt, prompt_ids, overflow, limit, vocab })
    }

    /// Bytes that go before every text.
    pub(super) fn repeated_bytes(&self) -> usize {
        self.prompt.len()
    }
}

impl Encoder<'_> {
    /// The sequence of the input at `(request, index)`.
    pub(super) fn encode(
        &self,
        input: &Input,
        (request, index): (usize, usize),
    ) -> Result<Sequence, Error> {
        let room = self.common.limit - self.special.count();
        let (ids, found) = match input {
            Input::Text(text) => self.text(text, room)?,
            Input::Tokens(ids) => {
                let ids = self.special.strip(self.checked(ids)?);
                let whole = [self.common.prompt_ids.as_slice(), ids].concat();
                let found = whole.len();
                (self.cut(whole, self.common.prompt_ids.len(), room), found)
            }
        };
        if found > room && self.common.overflow == Overflow::Refuse {
            let found = found + self.special.count();
            return Err(Error::InputTooLong { limit: self.common.limit, found, request, index });
        }
        Ok(Sequence { tokens: self.tokenizer.single(&ids)?, truncated: found > room })
    }

    /// The inputs one after another as one sequence, and where in it each lies.
    pub(super) fn chunks(&self, inputs: &[Input]) -> Result<(Tokens, Vec<Range<usize>>), Error> {
        let mut ids = self.common.prompt_ids.clone();
        let mut spans = Vec::with_capacity(inputs.len());
        for input in inputs {
            let start = ids.len() + self.special.before.len();
            match input {
                Input::Text(text) => ids.extend(self.tokenizer.ids(text, self.common.limit)?),
                Input::Tokens(given) => ids.extend(self.special.strip(self.checked(given)?)),
            }
            spans.push(start..ids.len() + self.special.before.len());
            let found = ids.len() + self.special.count();
            if found > self.common.limit {
                return Err(Error::InvalidInput {
                    param: "late_chunking",
                    message: format!(
                        "late_chunking reads all inputs at once: they have at least {found} tokens, of {} that are read; \
                         send fewer chunks in a request",
                        self.common.limit
                    ),
                });
            }
        }
        Ok((self.tokenizer.single(&ids)?, spans))
    }

    fn checked<'i>(&self, ids: &'i [u32]) -> Result<&'i [u32], Error> {
        match ids.iter().find(|&&id| id as usize >= self.common.vocab) {
            None => Ok(ids),
            Some(id) => Err(Error::InvalidInput {
                param: "input",
                message: format!(
                    "token id {id} is not in the model's vocabulary, which has ids below {}",
                    self.common.vocab
                ),
            }),
        }
    }

    /// The ids of prompt and text, cut to `room`, and how many there are at least.
    fn text(&self, text: &str, room: usize) -> Result<(Vec<u32>, usize), Error> {
        let whole = format!("{}{text}", self.common.prompt);
        let ids = self.tokenizer.ids(&whole, room)?;
        if ids.len() <= room {
            let found = ids.len();
            return Ok((ids, found));
        }
        let found = match self.common.overflow {
            Overflow::Refuse => self.tokenizer.ids(&whole, room.saturating_mul(COUNTED))?.len(),
            Overflow::CutEnd | Overflow::CutStart => ids.len(),
        };
        if self.common.overflow != Overflow::CutStart {
            return Ok((self.cut(ids, 0, room), found));
        }
        let common = self.common.prompt_ids.iter().zip(&ids).take_while(|(a, b)| a == b).count();
        let mut last = self.tokenizer.last_ids(&whole, room - common)?;
        let kept = [&ids[..common], &last.split_off(last.len() - (room - common))].concat();
        Ok((kept, found))
    }

    /// At most `room` of the ids, of which the first `prompt` are not the text's.
    fn cut(&self, mut ids: Vec<u32>, prompt: usize, room: usize) -> Vec<u32> {
        let extra = ids.len().saturating_sub(room);
        match self.common.overflow {
            Overflow::CutStart => drop(ids.drain(prompt..prompt + extra)),
            Overflow::CutEnd | Overflow::Refuse => ids.truncate(room),
        }
        ids
    }
}
