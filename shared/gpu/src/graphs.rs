//! Passes that are started as one: a CUDA graph for each shape of small passes.
//!
//! A pass of a 24-layer model is some 250 launches, each a few microseconds of the processor's time: for one question and
//! one document, as long as the card computes. A graph is started at the price of one. It holds the launches with all their
//! parameters, so it serves only passes of the same sizes at the same addresses. Therefore
//!
//! * a pass is filled up to a [`Capacity`]: rows to a multiple of what tiles of products compute anyway, sequences to a power
//!   of two. Rows without a token compute what nobody reads, and change no other row;
//! * everything that differs from pass to pass lies in the numbers, which are written before a start;
//! * graphs are kept by capacity, and as long as workspace and angles stay where they are.
//!
//! Graphs begin once tiles are measured and all weights are there: with `FAST_BOOT=false` before the model is ready,
//! otherwise behind the first answers.

use crate::Address;
use crate::device::Graph;
use crate::forward::Results;

use defrost_model::Batch;

use crate::kernels::attention::{Attention, TILE_QUERIES};
use crate::weights::size;

/// The most rows of a pass that is filled up and started as a graph: from there on the card computes for milliseconds.
pub(crate) const MOST_ROWS: u32 = 2048;

/// Rows are filled up to multiples of this: the rows of a middle tile of products.
const STEP: u32 = 64;

/// Graphs that are kept; a graph takes some tens of kilobytes of the driver's memory.
const MOST_GRAPHS: usize = 64;

/// How much a pass has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) rows: u32,
    pub(crate) sequences: u32,
    /// Tiles of attention.
    pub(crate) tiles: u32,
    pub(crate) answers: u32,
}

impl Capacity {
    /// The largest that graphs are made for, but for more sequences than requests mostly have.
    pub(crate) const LARGEST: Self =
        Self { rows: MOST_ROWS, sequences: 64, tiles: MOST_ROWS / TILE_QUERIES + 64, answers: 64 };

    /// Just what a batch needs.
    pub(crate) fn of(batch: &Batch) -> Self {
        let lens = batch.sequences().iter().map(|sequence| size(sequence.tokens.len()));
        Self {
            rows: size(batch.tokens()),
            sequences: size(batch.sequences().len()),
            tiles: size(Attention::tiles(lens).len()),
            answers: size(batch.len()),
        }
    }

    /// The next larger one that graphs are made for, if a pass is small enough for one.
    pub(crate) fn rounded(self) -> Option<Self> {
        let rows = self.rows.next_multiple_of(STEP);
        let sequences = self.sequences.next_power_of_two();
        // As many as any lengths of so many sequences and rows have.
        let tiles = rows / TILE_QUERIES + sequences;
        (rows <= MOST_ROWS).then_some(Self { rows, sequences, tiles, answers: sequences })
    }
}

/// What a graph holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) capacity: Capacity,
    /// Where the workspace and the angles lie.
    pub(crate) places: (Address, Option<Address>),
}

/// A graph, and where it leaves its answers.
#[derive(Debug)]
struct Kept {
    key: Key,
    graph: Box<dyn Graph>,
    results: Results,
}

/// The graphs of a model, the one that was started last at the end.
#[derive(Debug, Default)]
pub(crate) struct Graphs {
    kept: Vec<Kept>,
    /// Whether there are to be any.
    pub(crate) are_wanted: bool,
}

impl Graphs {
    /// The graph of a key.
    pub(crate) fn find(&mut self, key: &Key) -> Option<(&dyn Graph, Results)> {
        let at = self.kept.iter().position(|kept| kept.key == *key)?;
        let kept = self.kept.remove(at);
        self.kept.push(kept);
        self.kept.last().map(|kept| (&*kept.graph, kept.results))
    }

    /// Keeps one more, in the place of the one that was not started for longest. Those for other places are gone.
    pub(crate) fn keep(&mut self, key: Key, graph: Box<dyn Graph>, results: Results) {
        self.kept.retain(|kept| kept.key.places == key.places);
        if self.kept.len() >= MOST_GRAPHS {
            self.kept.remove(0);
        }
        self.kept.push(Kept { key, graph, results });
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// There is room for the batch, and never for more than a step of rows and twice the sequences.
        #[test]
        fn a_capacity_has_room(lens in prop::collection::vec(1usize..300, 1..40)) {
            let mut batch = Batch::default();
            lens.iter().for_each(|len| batch.push(&vec![1; *len], &[]));
            let needed = Capacity::of(&batch);
            match needed.rounded() {
                None => prop_assert!(needed.rows > MOST_ROWS - STEP),
                Some(room) => {
                    prop_assert!(room.rows >= needed.rows && room.rows < needed.rows + STEP);
                    prop_assert!(room.sequences >= needed.sequences && room.tiles >= needed.tiles);
                    prop_assert!(room.answers >= needed.answers);
                    prop_assert!(room.sequences < 2 * needed.sequences.max(1));
                    prop_assert_eq!(room.rounded(), Some(room));
                }
            }
        }
    }
}
