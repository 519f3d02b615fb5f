//! Pages for one layer at a time, for what runs a language model's layers one after the other: the same bits as in a step.

use super::attention::{Paged, PieceAt};
use super::memory::{Memory, Shape};
use super::pages::{PAGE_TOKENS, PageId};
use crate::buffer::Buffer;
use crate::{Error, ModelConfig};

/// Keys and values of whole sequences, those of each layer in the place of the last one's.
#[derive(Debug)]
pub(crate) struct OneLayer {
    memory: Memory,
    partials: Buffer<f32>,
    pages: Vec<PageId>,
    /// The first page of each sequence.
    firsts: Vec<usize>,
}

impl OneLayer {
    /// For sequences of these lengths; in f32, or f16.
    ///
    /// # Errors
    /// If there is no memory for them.
    pub(crate) fn new(config: &ModelConfig, lengths: &[usize], f32: bool) -> Result<Self, Error> {
        let mut count = 0;
        let firsts = lengths
            .iter()
            .map(|len| {
                count += len.div_ceil(PAGE_TOKENS);
                count - len.div_ceil(PAGE_TOKENS)
            })
            .collect();
        let memory = Memory::new(Shape::of(config, 1), f32, count)?;
        let pages = (0..).take(count).collect();
        Ok(Self { memory, partials: Buffer::default(), pages, firsts })
    }

    /// Lends the pages for a layer.
    pub(crate) fn with<R>(&mut self, work: impl FnOnce(Paged<'_>) -> R) -> R {
        let Self { memory, partials, pages, firsts } = self;
        let piece = |&first: &usize| PieceAt { pages: &pages[first..], start: 0 };
        let pieces: Vec<PieceAt<'_>> = firsts.iter().map(piece).collect();
        work(Paged { memory, partials, pieces: &pieces })
    }
}
