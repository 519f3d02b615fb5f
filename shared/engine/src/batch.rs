//! Token sequences packed one after the other, without padding.

use std::ops::Range;

use crate::{Error, ModelConfig};

/// The input of one forward pass.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    ids: Vec<u32>,
    types: Vec<u32>,
    ends: Vec<usize>,
}

impl Batch {
    /// Appends a sequence. `types` are token types, empty for all zero.
    pub fn push(&mut self, ids: &[u32], types: &[u32]) {
        self.ids.extend_from_slice(ids);
        self.types.extend_from_slice(types);
        self.types.resize(self.ids.len(), 0);
        self.ends.push(self.ids.len());
    }

    /// Tokens of all sequences.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no sequence.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(crate) fn ids(&self) -> &[u32] {
        &self.ids
    }

    pub(crate) fn types(&self) -> &[u32] {
        &self.types
    }

    /// The rows of each sequence.
    pub(crate) fn sequences(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.ends.iter().scan(0, |start, &end| Some(std::mem::replace(start, end)..end))
    }

    /// Refuses what the model has no row for, before any memory is read.
    pub(crate) fn check(&self, config: &ModelConfig) -> Result<(), Error> {
        for (at, rows) in self.sequences().enumerate() {
            if rows.is_empty() || rows.len() > config.max_positions {
                return Err(Error::Batch(format!(
                    "sequence {at} has {} tokens, expected 1 to {}",
                    rows.len(),
                    config.max_positions
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
