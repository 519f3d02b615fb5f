//! Attention in f32: keys and values in the panel layout of the f32 tiles.

use std::cell::RefCell;

use super::pages::Sequence;
use super::{Data, Stretch, Task, softmax};
use crate::buffer::Buffer;
use crate::gemm::Context;
use crate::kernel::operands::{COLUMN_STEP, Operands};
use crate::kernel::set::MOST_ROWS;
use crate::layout::PANEL;

/// One thread's memory, kept between tasks and passes.
#[derive(Default)]
struct Scratch {
    /// Pages that only this thread's task reads.
    pages: Buffer<f32>,
    /// A tile's rows of scores, then of exponentials.
    scores: Buffer<f32>,
    sums: Buffer<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Fills a page.
pub(super) fn write(data: &Data<'_>, stretch: Stretch, words: &mut [f32]) {
    let width = data.heads.width;
    let mut page = data.form.page_mut(words, stretch.keys);
    page.clear_after(stretch.keys);
    for key in 0..stretch.keys {
        for (slot, &input) in page.key(key).zip(data.key(stretch, key)) {
            *slot = [input];
        }
        let value = data.value(stretch, key);
        for start in (0..width).step_by(PANEL) {
            let used = PANEL.min(width - start);
            let (columns, padding) = page.values(key, start).split_at_mut(used);
            columns.copy_from_slice(&value[start..][..used]);
            padding.fill(0.0);
        }
    }
}

/// Computes one task.
pub(super) fn run(cx: Context<'_>, data: &Data<'_>, task: &Task<'_>) {
    SCRATCH.with_borrow_mut(|scratch| {
        let Scratch { pages, scores, sums } = scratch;
        let sequence = data.sequence(task, pages, |stretch, words| write(data, stretch, words));
        let tile_rows = cx.kernel.set().float.rows;
        // A panel's scores may begin with any key, and go on behind the last.
        let stride = (task.seen(data.heads) + PANEL).next_multiple_of(COLUMN_STEP);
        let mut memory = Memory {
            stride,
            scores: scores.slot(tile_rows * stride),
            sums: sums.slot(tile_rows * PANEL).as_chunks_mut().0,
        };
        for query_head in data.heads.query_heads(task.head) {
            for (start, count) in task.tiles(tile_rows) {
                run_tile(cx, data, task, &sequence, [query_head, start, count], &mut memory);
            }
        }
    });
}

/// The memory that a tile needs.
struct Memory<'a> {
    /// The distance from a row of scores to the next.
    stride: usize,
    scores: &'a mut [f32],
    sums: &'a mut [[f32; PANEL]],
}

/// The `count` queries from `start` on of a head.
fn run_tile(
    cx: Context<'_>,
    data: &Data<'_>,
    task: &Task<'_>,
    sequence: &Sequence<'_>,
    [query_head, start, count]: [usize; 3],
    memory: &mut Memory<'_>,
) {
    let (heads, span) = (data.heads, task.span);
    let (row_len, width) = (heads.row(), heads.width);
    let Memory { stride, scores, sums } = memory;
    let (stride, scale) = (*stride, 1.0 / (width as f32).sqrt());
    let keys = span.seen(heads, start + count - 1);
    let queries = &data.qkv[(span.tokens.start + start) * row_len + query_head * width..];
    for page in sequence.pages::<f32>(keys) {
        for first in (0..page.seen).step_by(PANEL) {
            let (panel, columns) = page.key_panel(first);
            cx.kernel.float_tile(&Operands::new(queries, row_len, count, panel, columns), sums);
            for (row, sums) in sums.iter().enumerate().take(count) {
                let scores = &mut scores[row * stride + page.first + first..][..columns];
                scores.copy_from_slice(&sums[..columns]);
            }
        }
    }
    let mut totals = [0.0f32; MOST_ROWS];
    for (row, total) in totals.iter_mut().enumerate().take(count) {
        let seen = span.seen(heads, start + row);
        let scores = &mut scores[row * stride..][..keys];
        softmax::float(cx.kernel, scores, seen, scale, total);
    }
    for first in (0..width).step_by(PANEL) {
        for page in sequence.pages::<f32>(keys) {
            let (values, columns) = page.value_panel(first);
            let operands = Operands::new(&scores[page.first..], stride, count, values, columns);
            cx.kernel.float_tile(&operands.onto_sums(page.first > 0), sums);
        }
        let used = PANEL.min(width - first);
        for (row, (sums, total)) in sums.iter().zip(totals).enumerate().take(count) {
            let target = data.target(task, start + row, query_head, first, used);
            for (target, &sum) in target.iter_mut().zip(sums) {
                *target = sum / total;
            }
        }
    }
}
