//! Attention in 16-bit integers, whose products all processors with SIMD sum exactly in 32 bits.
//!
//! Queries, keys and values become integers with one scale a vector: of a width of 64, 12 bits and a
//! sign, so that a score's sum stays below 2^30. bf16 would be as fast where it exists, with 8 bits,
//! and differ between processors; f32 is half as fast, or a quarter of what a 512-bit unit can do.
//!
//! ```text
//! t[j] = (q . k[j]) * key scale[j]             exact sum, then f32; m = max over the keys seen
//! e[j] = exp((t[j] - m) * query scale / sqrt(width)),  w[j] = e[j] * value scale[j]
//! p[j] = round(w[j] * S),  S = min(32767 / max w, 2^18 / sum w)
//! out  = (p . v) / (S * sum e)                 exact sum: |p . v| <= 2^18 * 2^12
//! ```
//!
//! `S` spends the 31 bits of the second sum on as many bits of each probability as there is room for.
//! A vector's scale depends on that vector alone, a row's `S` on the keys it sees alone.

use std::cell::RefCell;

use super::pages::{PageMut, Sequence};
use super::softmax::{self, Weights, encode};
use super::{Data, Stretch, Task};
use crate::buffer::Buffer;
use crate::gemm::Context;
use crate::kernel::operands::{COLUMN_STEP, Operands};
use crate::kernel::set::MOST_ROWS;
use crate::kernel::{per_kernel, prefetch};
use crate::layout::PANEL;

/// Largest code of a value; with [`softmax::LARGEST_SUM`] the second product stays below 2^30.
const LARGEST_VALUE: f32 = 4095.0;

/// How many keys ahead vectors are asked for: they lie a row of the input apart, which no processor foresees.
const AHEAD: usize = 8;

/// Largest code of a query or key: `width * code^2` stays below 2^30.
fn largest_code(width: usize) -> f32 {
    ((1 << 30) as f32 / width as f32).sqrt().floor().min(32767.0)
}

/// One thread's memory, kept between tasks and passes.
#[derive(Default)]
struct Scratch {
    /// Pages that only this thread's task reads.
    pages: Buffer<f32>,
    /// Scales of all values of the task's sequence.
    value_scales: Buffer<f32>,
    /// A tile's rows of scores, then of `e * value scale`.
    scores: Buffer<f32>,
    /// A tile's rows of probabilities.
    codes: Buffer<i16>,
    queries: Buffer<i16>,
    sums: Buffer<i32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
    /// A vector or two on their way into a page.
    static ROW: RefCell<Buffer<i16>> = RefCell::default();
}

/// Fills a page.
pub(super) fn write(cx: Context<'_>, data: &Data<'_>, stretch: Stretch, words: &mut [f32]) {
    let mut page = data.form.page_mut(words, stretch.keys);
    page.clear_after(stretch.keys);
    ROW.with_borrow_mut(|row| {
        write_keys(cx, data, stretch, row, &mut page);
        write_values(cx, data, stretch, row, &mut page);
    });
}

fn write_keys(
    cx: Context<'_>,
    data: &Data<'_>,
    stretch: Stretch,
    row: &mut Buffer<i16>,
    page: &mut PageMut<'_, i16>,
) {
    let row = row.slot(data.form.depth());
    row.fill(0);
    let largest = largest_code(data.heads.width);
    for key in 0..stretch.keys {
        prefetch(data.key(stretch, (key + AHEAD).min(stretch.keys - 1)));
        page.key_scales[key] = encode(cx.kernel, data.key(stretch, key), largest, row);
        for (slot, pair) in page.key::<2>(key).zip(row.as_chunks().0) {
            *slot = *pair;
        }
    }
}

fn write_values(
    cx: Context<'_>,
    data: &Data<'_>,
    stretch: Stretch,
    row: &mut Buffer<i16>,
    page: &mut PageMut<'_, i16>,
) {
    let padded = data.form.columns();
    let row = row.slot(2 * padded);
    row.fill(0);
    let (first, second) = row.split_at_mut(padded);
    for key in (0..stretch.keys).step_by(2) {
        for ahead in [key + AHEAD, key + AHEAD + 1] {
            prefetch(data.value(stretch, ahead.min(stretch.keys - 1)));
        }
        page.value_scales[key] = encode(cx.kernel, data.value(stretch, key), LARGEST_VALUE, first);
        if key + 1 < stretch.keys {
            page.value_scales[key + 1] =
                encode(cx.kernel, data.value(stretch, key + 1), LARGEST_VALUE, second);
        } else {
            second.fill(0);
        }
        for start in (0..data.heads.width).step_by(PANEL) {
            interleave(cx.kernel, &first[start..], &second[start..], page.values(key, start));
        }
    }
}

/// Computes one task.
pub(super) fn run(cx: Context<'_>, data: &Data<'_>, task: &Task<'_>) {
    SCRATCH.with_borrow_mut(|scratch| {
        let mut pages = std::mem::take(&mut scratch.pages);
        let sequence = data.sequence(task, &mut pages, |stretch, words| {
            write(cx, data, stretch, words);
        });
        let visible = task.seen(data.heads);
        // The last step's other keys weigh nothing, by scales that are numbers.
        let scales = scratch.value_scales.slot(visible.next_multiple_of(COLUMN_STEP));
        scales[visible..].fill(0.0);
        for page in sequence.pages::<i16>(visible) {
            scales[page.first..][..page.seen].copy_from_slice(&page.value_scales[..page.seen]);
        }
        for query_head in data.heads.query_heads(task.head) {
            for (start, count) in task.tiles(cx.kernel.set().int16.rows) {
                run_tile(cx, data, task, &sequence, [query_head, start, count], scratch);
            }
        }
        scratch.pages = pages;
    });
}

/// The `count` queries from `start` on of a head.
fn run_tile(
    cx: Context<'_>,
    data: &Data<'_>,
    task: &Task<'_>,
    sequence: &Sequence<'_>,
    [query_head, start, count]: [usize; 3],
    scratch: &mut Scratch,
) {
    let (heads, span) = (data.heads, task.span);
    let (width, depth) = (heads.width, data.form.depth());
    let keys = span.seen(heads, start + count - 1);
    // A panel's scores may begin with any key, and go on behind the last.
    let stride = (task.seen(heads) + PANEL).next_multiple_of(COLUMN_STEP);
    let tile_rows = cx.kernel.set().int16.rows;
    let scores = scratch.scores.slot(tile_rows * stride);
    let queries = scratch.queries.slot(tile_rows * depth);
    queries.fill(0);
    let mut query_scales = [0.0f32; MOST_ROWS];
    for (row, query) in queries.chunks_exact_mut(depth).enumerate().take(count) {
        let vector = data.head(span.tokens.start + start + row, query_head);
        query_scales[row] = encode(cx.kernel, vector, largest_code(width), query);
    }
    // The next tile's, while this one's are multiplied.
    for row in start + count..(start + count + tile_rows).min(task.queries.end) {
        prefetch(data.head(span.tokens.start + row, query_head));
    }
    let (sums, _) = scratch.sums.slot(tile_rows * PANEL).as_chunks_mut();
    for page in sequence.pages::<i16>(keys) {
        for first in (0..page.seen).step_by(PANEL) {
            let (panel, columns) = page.key_panel(first);
            cx.kernel.int16_tile(&Operands::new(queries, depth, count, panel, columns), sums);
            let scales = &page.key_scales[first..][..columns];
            for (row, sums) in sums.iter().enumerate().take(count) {
                let scores = &mut scores[row * stride + page.first + first..][..columns];
                softmax::scores(cx.kernel, sums, scales, scores);
            }
        }
    }
    let codes = scratch.codes.slot(tile_rows * stride);
    // The last pair's other key, too.
    let coded = (keys + 1).next_multiple_of(COLUMN_STEP);
    let mut back = [0.0f32; MOST_ROWS];
    for row in 0..count {
        let mut weights = Weights {
            seen: span.seen(heads, start + row),
            factor: query_scales[row] / (width as f32).sqrt(),
            value_scales: &scratch.value_scales,
            back: 0.0,
        };
        let scores = &mut scores[row * stride..][..coded];
        let codes = &mut codes[row * stride..][..coded];
        softmax::int16(cx.kernel, scores, codes, &mut weights);
        back[row] = weights.back;
    }
    for first in (0..width).step_by(PANEL) {
        for page in sequence.pages::<i16>(keys) {
            let end = page.first + page.seen;
            let apart = !page.seen.is_multiple_of(2) && end < keys;
            // The last pair's other key is not the sequence's, while the code in its place is that of the next page.
            let mut next = [0; MOST_ROWS];
            if apart {
                for (row, next) in next.iter_mut().enumerate().take(count) {
                    *next = std::mem::take(&mut codes[row * stride + end]);
                }
            }
            let (values, columns) = page.value_panel(first);
            let operands = Operands::new(&codes[page.first..], stride, count, values, columns);
            cx.kernel.int16_tile(&operands.onto_sums(page.first > 0), sums);
            if apart {
                for (row, next) in next.iter().enumerate().take(count) {
                    codes[row * stride + end] = *next;
                }
            }
        }
        let used = PANEL.min(width - first);
        for (row, (sums, back)) in sums.iter().zip(back).enumerate().take(count) {
            let target = data.target(task, start + row, query_head, first, used);
            softmax::back(cx.kernel, sums, back, target);
        }
    }
}

per_kernel! {
    /// The columns of two rows side by side.
    fn interleave(first: &[i16], second: &[i16], out: &mut [i16]) {
        for ((out, &a), &b) in out.as_chunks_mut::<2>().0.iter_mut().zip(first).zip(second) {
            *out = [a, b];
        }
    }
}
