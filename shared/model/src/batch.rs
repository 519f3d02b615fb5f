//! Token sequences packed one after the other, without padding.
//!
//! Sequences of a causal model that begin alike need their common beginning only once: it is pushed as
//! a *prefix*, which has no answer of its own, and each of the others goes on after it. What all
//! sequences of a template begin with need not be computed at all: its keys and values may be stored
//! with the weights (`defrost_engine::PrefixPass`), and any beginning of that is a prefix too. Answers are those
//! of the whole sequences, to the bit.

use std::ops::Range;

use crate::{Error, ModelConfig, Planned, Tokens};

/// The input of one forward pass.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    ids: Vec<u32>,
    types: Vec<u32>,
    sequences: Vec<Sequence>,
}

/// Where a sequence's tokens lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// The number of tokens of the stored prefix that the sequence begins with.
    pub stored: usize,
    /// The rows of the shared beginning that follows those tokens; empty if there is none.
    pub prefix: Range<usize>,
    /// The rows of the sequence's own tokens.
    pub tokens: Range<usize>,
    /// Whether the sequence has an answer; prefixes have none.
    pub answered: bool,
}

impl Sequence {
    /// Tokens of the whole sequence.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a sequence has a token, or its batch is refused"
    )]
    pub fn len(&self) -> usize {
        self.start() + self.tokens.len()
    }

    /// Position of its first own token.
    pub fn start(&self) -> usize {
        self.stored + self.prefix.len()
    }
}

/// What sequences of a [`Batch`] may go on after.
#[derive(Debug, Clone, Default)]
pub struct Prefix {
    stored: usize,
    rows: Range<usize>,
}

impl Prefix {
    /// The first `tokens` of the model's stored prefix ([`ModelConfig::stored_prefix`]).
    pub fn stored(tokens: usize) -> Self {
        Self { stored: tokens, rows: 0..0 }
    }
}

impl Batch {
    /// The sequences of a micro-batch packed one after the other, and before those of a run what they begin with.
    pub fn of(sequences: &[Planned<'_>]) -> Self {
        let mut batch = Self::default();
        for run in sequences.chunk_by(|_, next| next.share.joins) {
            let share = run[0].share;
            let stored = Prefix::stored(share.stored);
            let rest = |tokens: &Tokens| share.stored..tokens.ids.len();
            match run {
                [one] if share.stored == 0 => batch.push(&one.tokens.ids, &one.tokens.types),
                [one] => batch.push_after(&stored, &one.tokens.ids[rest(one.tokens)]),
                [first, ..] => {
                    let shared = share.stored + share.prefix;
                    let own = &first.tokens.ids[share.stored..shared];
                    let prefix = batch.push_prefix(&stored, own);
                    for member in run {
                        batch.push_after(&prefix, &member.tokens.ids[shared..]);
                    }
                }
                [] => {}
            }
        }
        batch
    }

    /// Appends a sequence. `types` are token types, empty for all zero.
    pub fn push(&mut self, ids: &[u32], types: &[u32]) {
        self.append(ids, types, Prefix::default(), true);
    }

    /// Appends the common beginning of sequences that follow; it may itself go on after a stored one. Only for causal
    /// models.
    pub fn push_prefix(&mut self, stored: &Prefix, ids: &[u32]) -> Prefix {
        let rows = self.append(ids, &[], Prefix::stored(stored.stored), false);
        Prefix { stored: stored.stored, rows }
    }

    /// Appends the rest of a sequence that begins with `prefix`, a stored one or one of this batch.
    pub fn push_after(&mut self, prefix: &Prefix, ids: &[u32]) {
        self.append(ids, &[], prefix.clone(), true);
    }

    fn append(
        &mut self,
        ids: &[u32],
        types: &[u32],
        prefix: Prefix,
        answered: bool,
    ) -> Range<usize> {
        let start = self.ids.len();
        self.ids.extend_from_slice(ids);
        self.types.extend_from_slice(types);
        self.types.resize(self.ids.len(), 0);
        let tokens = start..self.ids.len();
        let Prefix { stored, rows: prefix } = prefix;
        self.sequences.push(Sequence { stored, prefix, tokens: tokens.clone(), answered });
        tokens
    }

    /// Tokens that a pass computes: those of prefixes once, those of a stored one not at all.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Number of answers.
    pub fn len(&self) -> usize {
        self.sequences.iter().filter(|sequence| sequence.answered).count()
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.sequences.is_empty()
    }

    /// The ids of all tokens, one sequence after the other.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Their token types.
    pub fn types(&self) -> &[u32] {
        &self.types
    }

    /// Each sequence, prefixes before those that go on after them.
    pub fn sequences(&self) -> &[Sequence] {
        &self.sequences
    }

    /// Tokens of the longest whole sequence.
    pub fn longest(&self) -> usize {
        self.sequences.iter().map(Sequence::len).max().unwrap_or(0)
    }

    /// Refuses what the model has no row for, before any memory is read.
    pub fn check(&self, config: &ModelConfig) -> Result<(), Error> {
        for (at, sequence) in self.sequences.iter().enumerate() {
            if sequence.tokens.is_empty() || sequence.len() > config.max_positions {
                return Err(Error::Batch(format!(
                    "sequence {at} has {} tokens, expected 1 to {}",
                    sequence.len(),
                    config.max_positions
                )));
            }
            if sequence.stored > config.stored_prefix {
                return Err(Error::Batch(format!(
                    "sequence {at} begins with {} stored tokens, the model stores {}",
                    sequence.stored, config.stored_prefix
                )));
            }
            let shared = !sequence.answered || !sequence.prefix.is_empty();
            if shared && !config.shares_prefixes() {
                return Err(Error::Batch(format!(
                    "sequence {at} shares a prefix, which only causal models can that read their last position"
                )));
            }
        }
        let vocab = config.vocab;
        if let Some(id) = self.ids.iter().find(|&&id| id as usize >= vocab) {
            return Err(Error::Batch(format!(
                "token id {id} is outside of the {vocab} known ones"
            )));
        }
        let types = config.type_vocab.max(1);
        if let Some(id) = self.types.iter().find(|&&id| id as usize >= types) {
            return Err(Error::Batch(format!(
                "token type {id} is outside of the {types} known ones"
            )));
        }
        Ok(())
    }
}
