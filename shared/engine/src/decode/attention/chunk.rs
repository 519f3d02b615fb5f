//! One chunk of positions for the rows of a task: scores, weights, weighted values; and how chunks come together.
//!
//! A row's record of a chunk is its weighted sum of values, the largest score, and the sum of weights. Tiles of rows that
//! see nothing of a panel are left out: what they would add is zero.

use std::ops::Range;

use super::super::memory::{Stored, run_len, split};
use super::super::pages::PAGE_TOKENS;
use super::{CHUNK, Rows, Scratch, Task};
use crate::gemm::Context;
use crate::kernel::operands::Operands;
use crate::kernel::{per_kernel, prefetch};
use crate::layout::PANEL;
use crate::math;

impl Rows<'_> {
    /// Leaves in `scratch.chunk` what the chunk gives each row of the task.
    pub(super) fn chunk<T: Stored>(
        &self,
        cx: Context<'_>,
        memory: &[T],
        task: &Task,
        chunk: usize,
        scratch: &mut Scratch,
    ) {
        let (shape, record) = (self.shape, self.record());
        let Scratch { queries, panel, scores, sums, chunk: given, .. } = scratch;
        let tile_rows = cx.kernel.set().float.rows;
        let rows = task.queries.len() * self.group;
        let first = chunk * CHUNK;
        // What a row sees of the chunk.
        let seen = |row: usize| {
            let seen = self.seen(task.piece, task.queries.start + row / self.group);
            let of_chunk = |at: usize| at.clamp(first, first + CHUNK) - first;
            of_chunk(seen.start)..of_chunk(seen.end)
        };
        let tiles = || (0..rows).step_by(tile_rows).map(|start| start..rows.min(start + tile_rows));
        // Positions that a tile sees any of.
        let reach = |tile: &Range<usize>| seen(tile.start).start..seen(tile.end - 1).end;
        let all = reach(&(0..rows));
        let pages = &self.pieces[task.piece].pages[first / PAGE_TOKENS..];
        let run = |page: usize| {
            let at = shape.run_at(pages[page], self.layer, task.head);
            split(shape, &memory[at..at + run_len(shape)])
        };
        // Up to two pages at a time: 64 lanes of scores.
        let steps = || (all.start / PANEL * PANEL..all.end).step_by(PANEL);
        let pages_of =
            |at: usize| at / PAGE_TOKENS..(at + PANEL).min(all.end).div_ceil(PAGE_TOKENS);
        // Runs lie far apart, where the processor does not look ahead.
        let soon = |at: usize, values: bool| {
            for page in pages_of(at.min(all.end)) {
                let (keys, columns) = run(page);
                prefetch(bytemuck::cast_slice(if values { columns } else { keys }));
            }
        };

        let scores = scores.slot(rows * CHUNK);
        let (sums, _) =
            sums.slot(rows.next_multiple_of(tile_rows) * PANEL).as_chunks_mut::<PANEL>();
        for at in steps() {
            let last = at + PANEL >= all.end;
            soon(if last { all.start / PANEL * PANEL } else { at + PANEL }, last);
            let columns = pages_of(at).len() * PAGE_TOKENS;
            let panel = panel.slot(shape.width * columns);
            for (lane, page) in pages_of(at).enumerate() {
                let (keys, _) = run(page);
                T::widen_rows(cx.kernel, keys, &mut panel[lane * PAGE_TOKENS..], columns);
            }
            for tile in tiles() {
                let reach = reach(&tile);
                if reach.start >= at + columns || reach.end <= at {
                    continue;
                }
                let x = &queries[tile.start * shape.width..];
                let operands = Operands::new(x, shape.width, tile.len(), panel, columns);
                cx.kernel.float_tile(&operands, sums);
                for (row, sums) in tile.zip(&*sums) {
                    scores[row * CHUNK + at..][..columns].copy_from_slice(&sums[..columns]);
                }
            }
        }
        let given = given.slot(rows * record);
        for (row, scores) in scores.chunks_exact_mut(CHUNK).enumerate() {
            let found = &mut given[row * record + shape.columns()..][..2];
            weigh(cx.kernel, scores, seen(row), self.scale, found);
        }
        for column in (0..shape.columns()).step_by(PANEL) {
            let (columns, panel_at) = shape.panel(column);
            sums.as_flattened_mut().fill(0.0);
            for at in steps() {
                if column == 0 && at + PANEL < all.end {
                    soon(at + PANEL, true);
                }
                let positions = (at + PANEL).min(all.end) - at;
                let panel = panel.slot(pages_of(at).len() * PAGE_TOKENS * columns);
                for (page, panel) in pages_of(at).zip(panel.chunks_exact_mut(PAGE_TOKENS * columns))
                {
                    let (_, values) = run(page);
                    T::widen(cx.kernel, &values[panel_at..][..PAGE_TOKENS * columns], panel);
                }
                let panel = &panel[..positions * columns];
                for tile in tiles() {
                    let reach = reach(&tile);
                    if reach.start >= at + positions || reach.end <= at {
                        continue;
                    }
                    let x = &scores[tile.start * CHUNK + at..];
                    let operands = Operands::new(x, CHUNK, tile.len(), panel, columns);
                    cx.kernel.float_tile(&operands.onto_sums(true), &mut sums[tile]);
                }
            }
            for (sums, given) in sums.iter().zip(given.chunks_exact_mut(record)) {
                given[column..column + columns].copy_from_slice(&sums[..columns]);
            }
        }
    }
}

per_kernel! {
    /// Replaces scores by weights, `exp((score - max) * scale)` of those that are seen, 0 of others; `found` is the largest score and
    /// the sum of weights, 0 where none is seen.
    fn weigh(scores: &mut [f32], seen: Range<usize>, scale: f32, found: &mut [f32]) {
        let (before, rest) = scores.split_at_mut(seen.start);
        let (scores, after) = rest.split_at_mut(seen.end - seen.start);
        let max = math::max(scores);
        for score in scores.iter_mut() {
            *score = math::exp((*score - max) * scale);
        }
        found.copy_from_slice(&[max, math::sum(scores, |x| x)]);
        before.fill(0.0);
        after.fill(0.0);
    }
}

per_kernel! {
    /// Adds a chunk's record to that of all before it.
    pub(super) fn add(state: &mut [f32], chunk: &[f32], scale: f32) {
        let (state, [max, sum]) = parts_mut(state);
        let (chunk, [own_max, own_sum]) = parts(chunk);
        if *own_sum == 0.0 {
            return;
        }
        if *sum == 0.0 {
            state.copy_from_slice(chunk);
            (*max, *sum) = (*own_max, *own_sum);
            return;
        }
        let larger = if *own_max > *max { *own_max } else { *max };
        let (before, now) =
            (math::exp((*max - larger) * scale), math::exp((*own_max - larger) * scale));
        for (state, &chunk) in state.iter_mut().zip(chunk) {
            *state = state.mul_add(before, chunk * now);
        }
        (*max, *sum) = (larger, sum.mul_add(before, own_sum * now));
    }
}

per_kernel! {
    /// The weighted mean of values.
    pub(super) fn finish(state: &[f32], out: &mut [f32]) {
        let (columns, [_, sum]) = parts(state);
        for (out, &column) in out.iter_mut().zip(columns) {
            *out = column / sum;
        }
    }
}

#[inline(always)]
fn parts(record: &[f32]) -> (&[f32], &[f32; 2]) {
    record.split_last_chunk().expect("columns, largest score and sum")
}

#[inline(always)]
fn parts_mut(record: &mut [f32]) -> (&mut [f32], &mut [f32; 2]) {
    record.split_last_chunk_mut().expect("columns, largest score and sum")
}
