//! What a pass needs to know of its batch, as numbers on the device: one block of them, written at once.
//!
//! ```text
//! ids | types | position rows | places | sequences | tiles | tiles of the last layer | rows that the head reads
//! ```

use defrost_model::{Batch, Head, ModelConfig, Sequence};

use crate::Address;
use crate::graphs::Capacity;
use crate::kernels::attention::{Attention, SequenceRow, TILE_QUERIES};
use crate::weights::size;

/// A part of the block: its place in words of 4 bytes, and how many entries it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    at: usize,
    /// Entries.
    pub(crate) count: u32,
}

impl Part {
    /// Where it lies in a block that begins there.
    pub(crate) fn of(self, block: Address) -> Address {
        block.plus(4 * self.at)
    }
}

/// The numbers of a batch.
#[derive(Debug)]
pub(crate) struct Pass {
    /// All of them, to be written to the device.
    pub(crate) words: Vec<u32>,
    /// Rows of hidden states, those of a capacity that no token has among them.
    pub(crate) rows: u32,
    /// Answers, those of sequences that fill a capacity among them.
    pub(crate) answers: u32,
    /// Answers that were asked for, the first ones.
    pub(crate) asked: u32,
    /// Tokens of the longest sequence.
    pub(crate) longest: usize,
    pub(crate) ids: Part,
    pub(crate) types: Part,
    /// Rows of the table of positions.
    pub(crate) positions: Part,
    /// The place of each row in its sequence.
    pub(crate) places: Part,
    pub(crate) sequences: Part,
    pub(crate) tiles: Part,
    /// Tiles with the rows that the head reads, and those rows; as many as there are answers. Empty if it reads all.
    pub(crate) last_tiles: Part,
    pub(crate) read: Part,
}

impl Pass {
    /// The numbers of a batch that has been checked, with room for as much as `capacity` says: rows that belong to no
    /// sequence, sequences that nobody asked for, and tiles that compute nothing.
    pub(crate) fn new(batch: &Batch, config: &ModelConfig, capacity: Capacity) -> Self {
        let Capacity { rows: all_rows, sequences: all_sequences, tiles: all_tiles, answers } =
            capacity;
        let mut words = Vec::with_capacity(5 * all_rows as usize);
        let ids = push(&mut words, filled(batch.ids().iter().copied(), 0, all_rows), 1);
        let types = push(&mut words, filled(batch.types().iter().copied(), 0, all_rows), 1);
        let sequences = batch.sequences();
        let learned = config.family.blueprint.positions.are_learned();
        let rows = sequences.iter().filter(|_| learned).flat_map(|sequence| {
            let own = &batch.ids()[sequence.tokens.clone()];
            let rows = config.family.blueprint.positions.rows(config.pad_id, own);
            let last = config.position_rows() - 1;
            rows.map(move |row| size((sequence.start() + row).min(last)))
        });
        let positions = push(&mut words, filled(rows, 0, if learned { all_rows } else { 0 }), 1);
        let places = sequences.iter().flat_map(|one| (one.start()..one.len()).map(size));
        let places = push(&mut words, filled(places, 0, all_rows), 1);
        let filling = SequenceRow { len: 1, ..SequenceRow::default() };
        let of_sequences = filled(sequences.iter().map(row), filling, all_sequences);
        let of_sequences = of_sequences.flat_map(|row| {
            let SequenceRow { start, len, prefix_start, prefix_len, stored, unused: [a, b, c] } =
                row;
            [start, len, prefix_start, prefix_len, stored, a, b, c]
        });
        // Rows of 32 bytes lie at multiples of 16.
        words.resize(words.len().next_multiple_of(4), 0);
        let of_sequences = push(&mut words, of_sequences, 8);
        let lens = sequences.iter().map(|sequence| size(sequence.tokens.len()));
        let tiles = filled(Attention::tiles(lens).into_iter(), NO_TILE, all_tiles);
        let tiles = push(&mut words, tiles.flatten(), 2);
        let read: Vec<(usize, u32, u32)> = read(sequences, config.head).collect();
        let read_rows = if read.is_empty() { 0 } else { answers };
        let last_tiles = read
            .iter()
            .map(|&(sequence, row, _)| [size(sequence), row / TILE_QUERIES * TILE_QUERIES]);
        let last_tiles = filled(last_tiles, NO_TILE, read_rows);
        let last_tiles = push(&mut words, last_tiles.flatten(), 2);
        let read = filled(read.iter().map(|&(_, _, row)| row), 0, read_rows);
        let read = push(&mut words, read, 1);
        Self {
            rows: all_rows,
            answers,
            asked: size(batch.len()),
            longest: batch.longest(),
            ids,
            types,
            positions,
            places,
            sequences: of_sequences,
            tiles,
            last_tiles,
            read,
            words,
        }
    }
}

/// The one row that the head reads of each sequence with an answer: the sequence, the row among its own, and among all.
fn read(sequences: &[Sequence], head: Head) -> impl Iterator<Item = (usize, u32, u32)> + '_ {
    let answered = sequences.iter().enumerate().filter(|(_, sequence)| sequence.answered);
    answered.filter_map(move |(at, sequence)| {
        let row = head.reads(sequence.tokens.len())?;
        Some((at, size(row), size(sequence.tokens.start + row)))
    })
}

fn row(sequence: &Sequence) -> SequenceRow {
    SequenceRow {
        start: size(sequence.tokens.start),
        len: size(sequence.tokens.len()),
        prefix_start: size(sequence.prefix.start),
        prefix_len: size(sequence.prefix.len()),
        stored: size(sequence.stored),
        unused: [0; 3],
    }
}

/// A tile without queries, of the first sequence.
const NO_TILE: [u32; 2] = [0, u32::MAX];

/// The values, and after them others up to so many in all.
fn filled<T: Copy>(
    values: impl Iterator<Item = T>,
    filling: T,
    all: u32,
) -> impl Iterator<Item = T> {
    values.chain(std::iter::repeat(filling)).take(all as usize)
}

/// Appends entries of so many words.
fn push(words: &mut Vec<u32>, values: impl IntoIterator<Item = u32>, width: usize) -> Part {
    let at = words.len();
    words.extend(values);
    Part { at, count: size((words.len() - at) / width) }
}
