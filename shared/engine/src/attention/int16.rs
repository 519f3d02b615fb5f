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

use super::softmax::{self, Weights, encode};
use super::{Data, Task};
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
    /// Panels of up to 64 keys: for each pair of a key's values, the keys by 2.
    keys: Buffer<i16>,
    key_scales: Buffer<f32>,
    /// Panels of up to 64 columns: for each pair of keys, the columns by 2.
    values: Buffer<i16>,
    value_scales: Buffer<f32>,
    /// A tile's rows of scores, then of `e * value scale`.
    scores: Buffer<f32>,
    /// A tile's rows of probabilities.
    codes: Buffer<i16>,
    queries: Buffer<i16>,
    sums: Buffer<i32>,
    /// A vector or two on their way.
    row: Buffer<i16>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Computes one task.
pub(super) fn run(cx: Context<'_>, data: &Data<'_>, task: &Task<'_>) {
    SCRATCH.with_borrow_mut(|scratch| {
        let visible = task.seen(data.heads);
        pack_keys(cx, data, task, visible, scratch);
        pack_values(cx, data, task, visible, scratch);
        let heads = data.heads;
        for query_head in task.head * heads.shared()..(task.head + 1) * heads.shared() {
            for (start, count) in task.tiles(cx.kernel.set().int16.rows) {
                run_tile(cx, data, task, query_head, start, count, scratch);
            }
        }
    });
}

fn pack_keys(
    cx: Context<'_>,
    data: &Data<'_>,
    task: &Task<'_>,
    visible: usize,
    scratch: &mut Scratch,
) {
    let width = data.heads.width;
    let pairs = width.div_ceil(2);
    let padded = visible.next_multiple_of(COLUMN_STEP);
    let scales = scratch.key_scales.slot(padded);
    scales[visible..].fill(0.0);
    let keys = scratch.keys.slot(padded * pairs * 2);
    // The last panel's other columns, which are multiplied though nobody sees them, must not be another model's.
    keys[visible / PANEL * PANEL * pairs * 2..].fill(0);
    let row = scratch.row.slot(2 * pairs);
    row.fill(0);
    let largest = largest_code(width);
    for (key, scale) in scales.iter_mut().enumerate().take(visible) {
        prefetch(data.key(task.span, (key + AHEAD).min(visible - 1), task.head));
        let vector = data.key(task.span, key, task.head);
        *scale = encode(cx.kernel, vector, largest, row);
        let first = key / PANEL * PANEL;
        let columns = columns(visible, first);
        let panel = &mut keys[first * pairs * 2..][..columns * pairs * 2];
        let slots = panel.chunks_exact_mut(2).skip(key - first).step_by(columns);
        for (slot, pair) in slots.zip(row.chunks_exact(2)) {
            slot.copy_from_slice(pair);
        }
    }
}

/// Padded columns of the panel that starts with the `first` of `all`: a short sequence fills one register of keys, not
/// four.
fn columns(all: usize, first: usize) -> usize {
    PANEL.min(all - first).next_multiple_of(COLUMN_STEP)
}

fn pack_values(
    cx: Context<'_>,
    data: &Data<'_>,
    task: &Task<'_>,
    visible: usize,
    scratch: &mut Scratch,
) {
    let width = data.heads.width;
    let padded = width.next_multiple_of(COLUMN_STEP);
    let even = visible.next_multiple_of(2);
    let scales = scratch.value_scales.slot(visible.next_multiple_of(PANEL));
    scales[visible..].fill(0.0);
    let values = scratch.values.slot(even * padded);
    let row = scratch.row.slot(2 * padded);
    row.fill(0);
    for key in (0..visible).step_by(2) {
        for ahead in [key + AHEAD, key + AHEAD + 1] {
            prefetch(data.value(task.span, ahead.min(visible - 1), task.head));
        }
        let (first, second) = row.split_at_mut(padded);
        scales[key] =
            encode(cx.kernel, data.value(task.span, key, task.head), LARGEST_VALUE, first);
        if key + 1 < visible {
            let vector = data.value(task.span, key + 1, task.head);
            scales[key + 1] = encode(cx.kernel, vector, LARGEST_VALUE, second);
        } else {
            second.fill(0);
        }
        for start in (0..width).step_by(PANEL) {
            let columns = columns(width, start);
            let at = start * even + key * columns;
            interleave(
                cx.kernel,
                &first[start..],
                &second[start..],
                &mut values[at..][..2 * columns],
            );
        }
    }
}

#[allow(clippy::too_many_arguments, reason = "one tile of one head of one task")]
fn run_tile(
    cx: Context<'_>,
    data: &Data<'_>,
    task: &Task<'_>,
    query_head: usize,
    start: usize,
    count: usize,
    scratch: &mut Scratch,
) {
    let (heads, span) = (data.heads, task.span);
    let width = heads.width;
    let pairs = width.div_ceil(2);
    let visible = task.seen(heads);
    let keys = span.seen(heads, start + count - 1);
    let stride = visible.next_multiple_of(COLUMN_STEP);
    let tile_rows = cx.kernel.set().int16.rows;
    let scores = scratch.scores.slot(tile_rows * stride);
    let queries = scratch.queries.slot(tile_rows * 2 * pairs);
    queries.fill(0);
    let mut query_scales = [0.0f32; MOST_ROWS];
    for (row, query) in queries.chunks_exact_mut(2 * pairs).enumerate().take(count) {
        let vector = data.head(span.tokens.start + start + row, query_head);
        query_scales[row] = encode(cx.kernel, vector, largest_code(width), query);
    }
    // The next tile's, while this one's are multiplied.
    for row in start + count..(start + count + tile_rows).min(task.queries.end) {
        prefetch(data.head(span.tokens.start + row, query_head));
    }
    let (sums, _) = scratch.sums.slot(tile_rows * PANEL).as_chunks_mut();
    for first in (0..keys).step_by(PANEL) {
        let columns = columns(visible, first);
        let panel = &scratch.keys[first * pairs * 2..][..columns * pairs * 2];
        cx.kernel.int16_tile(&Operands::new(queries, 2 * pairs, count, panel, columns), sums);
        let scales = &scratch.key_scales[first..][..columns];
        for (row, sums) in sums.iter().enumerate().take(count) {
            let scores = &mut scores[row * stride + first..][..columns];
            softmax::scores(cx.kernel, sums, scales, scores);
        }
    }
    let codes = scratch.codes.slot(tile_rows * stride);
    let mut back = [0.0f32; MOST_ROWS];
    for row in 0..count {
        let mut weights = Weights {
            seen: span.seen(heads, start + row),
            factor: query_scales[row] / (width as f32).sqrt(),
            value_scales: &scratch.value_scales,
            back: 0.0,
        };
        let scores = &mut scores[row * stride..][..stride];
        let codes = &mut codes[row * stride..][..stride];
        softmax::int16(cx.kernel, scores, codes, &mut weights);
        back[row] = weights.back;
    }
    let even = visible.next_multiple_of(2);
    for first in (0..width).step_by(PANEL) {
        let columns = columns(width, first);
        let values = &scratch.values[first * even..][..keys.next_multiple_of(2) * columns];
        cx.kernel.int16_tile(&Operands::new(codes, stride, count, values, columns), sums);
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
