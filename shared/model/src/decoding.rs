//! The seam to a model that continues sequences, a step at a time.
//!
//! ```text
//! open(ids) -> a sequence; how many of its tokens are known already      what other sequences have left behind is reused
//! step([pieces]) -> logits                                               prefill pieces and decode rows, mixed
//! truncate, fork, close
//! ```
//!
//! A *sequence* is a list of tokens whose keys and values are kept between passes. It grows by what [`Decoder::step`] is given
//! for it. A *piece* is the next run of tokens of one sequence: a part of a prompt, one token that was just chosen, or several
//! that are only guessed and may be taken back ([`Decoder::truncate`]).
//!
//! Logits of a position depend on the tokens of its own sequence up to it, and on nothing else: to the bit, not on how the
//! sequence was cut into pieces, on what else was in a step, on the number of threads, or on whether tokens were computed or
//! reused.
//!
//! Memory for keys and values is fixed when the model is loaded. Whoever schedules asks for room before a step
//! ([`Decoder::make_room`]) and decides who waits when there is none.

use std::fmt;

use crate::Error;

/// The number of an open sequence; numbers are never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SequenceId(pub u64);

/// A sequence that has just been opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenedSequence {
    /// The number of the sequence.
    pub id: SequenceId,
    /// How many of its first tokens are there already: a step goes on after them. Always fewer than there are tokens, so that
    /// a step has something to compute logits of.
    pub cached: usize,
}

/// What a step computes for one sequence.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// The sequence that goes on.
    pub sequence: SequenceId,
    /// Its next tokens; not empty.
    pub ids: &'a [u32],
    /// The positions whose logits are wanted.
    pub logits: LogitsOf,
    /// The tokens that may come next: the logits of others are not computed but are negative infinity. `None`: all may.
    pub allowed: Option<&'a TokenMask>,
}

/// Positions of a [`Piece`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogitsOf {
    /// None: a part of a prompt that goes on.
    None,
    /// The last one.
    Last,
    /// All of them, in order: guessed tokens, or the probabilities of a prompt. [`Piece::allowed`] is for the last one; the others
    /// have all logits.
    All,
}

/// What a step says about one piece: a row of [`Decoder::vocab`] logits for every position that was asked for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Logits(pub Vec<Vec<f32>>);

/// Memory of keys and values, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// All that there is.
    pub total: usize,
    /// What open sequences hold; what several share is counted once.
    pub held: usize,
    /// What nobody holds and is kept for sequences that begin alike.
    pub kept: usize,
}

/// Bytes of memory for keys and values where nobody says how much: a context of 32,768 tokens takes 0.4 GB with half a billion
/// parameters (Qwen2.5) and 1 GB with Llama 3.2 of one billion; more would surprise on machines that such models are for.
pub const USUAL_ROOM_BYTES: usize = 1 << 30;

/// A model that continues sequences. Steps of one model run one at a time.
pub trait Decoder: Send + Sync + fmt::Debug {
    /// The number of tokens that there are.
    fn vocab(&self) -> usize;

    /// The most tokens of a sequence.
    fn context(&self) -> usize;

    /// Memory of keys and values.
    fn room(&self) -> Room;

    /// Bytes that the keys and values of [`Room::total`] tokens take; 0 if they are no matter.
    fn room_bytes(&self) -> u64 {
        0
    }

    /// Opens a sequence that is to begin with `ids`, and reuses what is kept of its beginning. The tokens after those are to
    /// be given to [`Decoder::step`].
    ///
    /// # Errors
    /// If there are no ids, more than [`Decoder::context`], or one that is unknown.
    fn open(&self, ids: &[u32]) -> Result<OpenedSequence, Error>;

    /// Opens a sequence that has the same tokens as another one has now; both go on apart.
    ///
    /// # Errors
    /// If there is no such sequence.
    fn fork(&self, sequence: SequenceId) -> Result<SequenceId, Error>;

    /// Makes room for so many more tokens of each of these sequences, for the next step, from what is only kept if it must. `false`:
    /// there is not that much, and nothing has changed.
    ///
    /// # Errors
    /// If there is no such sequence.
    fn make_room(&self, wanted: &[(SequenceId, usize)]) -> Result<bool, Error>;

    /// Computes the next tokens of several sequences, each of which occurs once.
    ///
    /// # Errors
    /// If a sequence is not open, would have more tokens than [`Decoder::context`], or has no room; if a token is unknown; or if the
    /// weights cannot be had. Sequences are then as they were before.
    fn step(&self, pieces: &[Piece<'_>]) -> Result<Vec<Logits>, Error>;

    /// Takes back the tokens after the first `len`.
    ///
    /// # Errors
    /// If there is no such sequence or it has fewer.
    fn truncate(&self, sequence: SequenceId, len: usize) -> Result<(), Error>;

    /// Closes a sequence; what it has computed is kept for others until room is needed. One that is not open is no error.
    fn close(&self, sequence: SequenceId);
}

/// A set of tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
    vocab: usize,
}

impl TokenMask {
    /// No token of a vocabulary of this size.
    pub fn none(vocab: usize) -> Self {
        Self { words: vec![0; vocab.div_ceil(32)], vocab }
    }

    /// Every token.
    pub fn all(vocab: usize) -> Self {
        let mut mask = Self { words: vec![u32::MAX; vocab.div_ceil(32)], vocab };
        mask.clear_tail();
        mask
    }

    /// From words of 32 bits, lowest first; bits beyond the vocabulary are ignored, missing ones are 0.
    pub fn from_words(words: &[u32], vocab: usize) -> Self {
        let mut own = words[..words.len().min(vocab.div_ceil(32))].to_vec();
        own.resize(vocab.div_ceil(32), 0);
        let mut mask = Self { words: own, vocab };
        mask.clear_tail();
        mask
    }

    fn clear_tail(&mut self) {
        let used = self.vocab % 32;
        if let Some(last) = self.words.last_mut().filter(|_| used > 0) {
            *last &= (1 << used) - 1;
        }
    }

    /// Words of 32 bits, lowest first; bits beyond the vocabulary are 0.
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    /// The number of tokens in the vocabulary.
    pub fn vocab(&self) -> usize {
        self.vocab
    }

    /// Allows a token; one that is not in the vocabulary is ignored.
    pub fn allow(&mut self, id: u32) {
        if (id as usize) < self.vocab {
            self.words[id as usize / 32] |= 1 << (id % 32);
        }
    }

    /// Forbids a token.
    pub fn forbid(&mut self, id: u32) {
        if (id as usize) < self.vocab {
            self.words[id as usize / 32] &= !(1 << (id % 32));
        }
    }

    /// Whether a token is allowed.
    pub fn allows(&self, id: u32) -> bool {
        (id as usize) < self.vocab && self.words[id as usize / 32] >> (id % 32) & 1 == 1
    }

    /// The number of allowed tokens.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The allowed tokens, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.iter().enumerate().flat_map(|(at, &word)| {
            let first = u32::try_from(at * 32).unwrap_or(u32::MAX);
            let mut rest = word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(first + bit)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_hold_what_was_allowed() {
        for size in [1u32, 31, 32, 33, 100] {
            let vocab = size as usize;
            let mut mask = TokenMask::none(vocab);
            let mut expected = Vec::new();
            for id in (0..size).step_by(7) {
                mask.allow(id);
                expected.push(id);
            }
            mask.allow(size);
            assert_eq!(mask.iter().collect::<Vec<_>>(), expected);
            assert_eq!(mask.count(), expected.len());
            assert!((0..size + 40).all(|id| mask.allows(id) == expected.contains(&id)));
            mask.forbid(0);
            assert!(!mask.allows(0));
            let all = TokenMask::all(vocab);
            assert_eq!(all.count(), vocab);
            assert_eq!(TokenMask::from_words(&[u32::MAX; 9], vocab), all);
            assert_eq!(TokenMask::from_words(&[], vocab), TokenMask::none(vocab));
        }
    }
}
