//! Scaled dot-product attention over packed sequences.
//!
//! The rows of a batch lie one sequence after the other, without padding; each row of the input is
//! `[q heads | k heads | v heads]`. A task is one sequence, one key-value head and a run of query
//! rows. It packs that head's keys and values into the panel layout of the f32 kernel, once for all
//! query heads that share them, then walks tiles of six query rows: scores against all visible keys,
//! softmax, product with the values. Only six rows of scores exist at a time, so memory grows with
//! the length of a sequence, not with its square.
//!
//! Softmax subtracts the row's maximum and divides after the second product. Masked keys get the
//! probability 0, which adds exactly nothing, so a row's result depends on its visible keys alone.

use std::ops::Range;

use crate::gemm::{Context, SharedOut, TILE_ROWS, Tile, float_tile};
use crate::kernel::per_kernel;
use crate::layout::PANEL;
use crate::math;

/// Query rows per task: 16 tiles. Packing the keys again for each task costs 1/96 of the products.
const TASK_ROWS: usize = 16 * TILE_ROWS;

/// Columns of a panel of values come in whole 512-bit registers.
const COLUMN_STEP: usize = 16;

/// The shape of one attention layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) queries: usize,
    pub(crate) key_values: usize,
    pub(crate) width: usize,
    pub(crate) causal: bool,
}

impl Heads {
    /// Values per row of the input.
    pub(crate) fn row(self) -> usize {
        (self.queries + 2 * self.key_values) * self.width
    }
}

/// One sequence and the query rows wanted of it.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// Rows of the batch.
    pub(crate) tokens: Range<usize>,
    /// Query positions inside the sequence.
    pub(crate) queries: Range<usize>,
    /// Row of the output that the first query goes to.
    pub(crate) out: usize,
}

/// Fills `out` (rows of `queries * width`) for every span.
pub(crate) fn attention(
    cx: Context<'_>,
    heads: Heads,
    qkv: &[f32],
    spans: &[Span],
    out: &mut [f32],
) {
    let tasks: Vec<(usize, usize, Range<usize>)> = spans
        .iter()
        .enumerate()
        .flat_map(|(at, span)| {
            (0..heads.key_values).flat_map(move |head| {
                span.queries
                    .clone()
                    .step_by(TASK_ROWS)
                    .map(move |start| (at, head, start..span.queries.end.min(start + TASK_ROWS)))
            })
        })
        .collect();
    let out = SharedOut::new(out);
    cx.threads.for_each(tasks.len(), |task| {
        let (span, head, rows) = &tasks[task];
        run_task(cx, heads, qkv, &spans[*span], *head, rows.clone(), &out);
    });
}

/// Keys and values of one head, packed for the f32 kernel.
struct Packed {
    /// Panels of 64 keys, `width` rows each.
    keys: Vec<f32>,
    /// For each run of up to 64 value columns: its padded width and one row per key.
    values: Vec<(usize, Vec<f32>)>,
}

fn pack(heads: Heads, qkv: &[f32], first: usize, visible: usize, head: usize) -> Packed {
    let (row, width) = (heads.row(), heads.width);
    let key_at = (heads.queries + head) * width;
    let value_at = key_at + heads.key_values * width;
    let mut keys = vec![0.0; visible.next_multiple_of(PANEL) * width];
    for token in 0..visible {
        let key = &qkv[(first + token) * row + key_at..][..width];
        let panel = &mut keys[token / PANEL * PANEL * width..][..PANEL * width];
        for (slot, &value) in panel[token % PANEL..].iter_mut().step_by(PANEL).zip(key) {
            *slot = value;
        }
    }
    let values = (0..width)
        .step_by(PANEL)
        .map(|start| {
            let used = PANEL.min(width - start);
            let padded = used.next_multiple_of(COLUMN_STEP);
            let mut columns = vec![0.0; visible * padded];
            for (token, slot) in columns.chunks_exact_mut(padded).enumerate() {
                let at = (first + token) * row + value_at + start;
                slot[..used].copy_from_slice(&qkv[at..][..used]);
            }
            (padded, columns)
        })
        .collect();
    Packed { keys, values }
}

#[allow(unsafe_code, reason = "writes rows of the output that belong to this task")]
fn run_task(
    cx: Context<'_>,
    heads: Heads,
    qkv: &[f32],
    span: &Span,
    head: usize,
    rows: Range<usize>,
    out: &SharedOut<'_, f32>,
) {
    let (row_len, width) = (heads.row(), heads.width);
    let visible = if heads.causal { rows.end } else { span.tokens.len() };
    let packed = pack(heads, qkv, span.tokens.start, visible, head);
    let stride = visible.next_multiple_of(PANEL);
    let scale = 1.0 / (width as f32).sqrt();
    let mut scores = vec![0.0f32; TILE_ROWS * stride];
    let mut sums: Tile<f32> = [[0.0; PANEL]; TILE_ROWS];
    let shared = heads.queries / heads.key_values;
    for query_head in head * shared..(head + 1) * shared {
        for start in rows.clone().step_by(TILE_ROWS) {
            let count = TILE_ROWS.min(rows.end - start);
            let keys = if heads.causal { start + count } else { visible };
            let first = (span.tokens.start + start) * row_len + query_head * width;
            for (panel, keys) in
                packed.keys.chunks_exact(PANEL * width).take(keys.div_ceil(PANEL)).enumerate()
            {
                float_tile(cx.kernel, &qkv[first..], row_len, count, keys, PANEL, &mut sums);
                for (row, sums) in sums.iter().enumerate().take(count) {
                    scores[row * stride + panel * PANEL..][..PANEL].copy_from_slice(sums);
                }
            }
            let mut totals = [0.0f32; TILE_ROWS];
            for (row, total) in totals.iter_mut().enumerate().take(count) {
                let seen = if heads.causal { start + row + 1 } else { visible };
                let scores = &mut scores[row * stride..][..keys];
                softmax(cx.kernel, scores, seen, scale, total);
            }
            for (part, (padded, columns)) in packed.values.iter().enumerate() {
                let columns = &columns[..keys * padded];
                float_tile(cx.kernel, &scores, stride, count, columns, *padded, &mut sums);
                let used = PANEL.min(width - part * PANEL);
                for (row, (sums, total)) in sums.iter().zip(totals).enumerate().take(count) {
                    let out_row = span.out + start - span.queries.start + row;
                    let at = (out_row * heads.queries + query_head) * width + part * PANEL;
                    // SAFETY: each (span, head group, row) belongs to one task, and `query_head` is
                    // in this task's group only.
                    let target = unsafe { out.run(at, used) };
                    for (target, &sum) in target.iter_mut().zip(sums) {
                        *target = sum / total;
                    }
                }
            }
        }
    }
}

per_kernel! {
    /// `scores[..seen] = exp((score - max) * scale)`, the rest 0; `total` is their sum.
    fn softmax(scores: &mut [f32], seen: usize, scale: f32, total: &mut f32) {
        let (seen, masked) = scores.split_at_mut(seen);
        let max = math::max(seen);
        for score in seen.iter_mut() {
            *score = math::exp((*score - max) * scale);
        }
        *total = math::sum(seen, |x| x);
        masked.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernel::Kernel;
    use crate::threads::Threads;

    /// The definition, in f64.
    fn reference(
        heads: Heads,
        qkv: &[f32],
        tokens: Range<usize>,
        query: usize,
        head: usize,
    ) -> Vec<f64> {
        let (row, width) = (heads.row(), heads.width);
        let kv = head / (heads.queries / heads.key_values);
        let at = |token: usize, slot: usize| {
            &qkv[(tokens.start + token) * row + slot * width..][..width]
        };
        let seen = if heads.causal { query + 1 } else { tokens.len() };
        let dot = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
        };
        let scores: Vec<f64> = (0..seen)
            .map(|token| {
                dot(at(query, head), at(token, heads.queries + kv)) / (width as f64).sqrt()
            })
            .collect();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = scores.iter().map(|score| (score - max).exp()).collect();
        let total: f64 = weights.iter().sum();
        (0..width)
            .map(|column| {
                weights
                    .iter()
                    .enumerate()
                    .map(|(token, weight)| {
                        weight / total
                            * f64::from(at(token, heads.queries + heads.key_values + kv)[column])
                    })
                    .sum()
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn equals_the_definition_alone_and_in_a_batch(
            lengths in prop::collection::vec(1usize..150, 1..4),
            (queries, key_values) in prop_oneof![Just((4usize, 4usize)), Just((4, 2)), Just((3, 1))],
            width in prop_oneof![Just(8usize), Just(16), Just(32), Just(72)],
            causal: bool,
            seed in 1u32..1000,
        ) {
            let heads = Heads { queries, key_values, width, causal };
            let total: usize = lengths.iter().sum();
            let mut state = seed;
            let qkv: Vec<f32> = (0..total * heads.row()).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            }).collect();
            let mut spans = Vec::new();
            let mut start = 0;
            for &length in &lengths {
                spans.push(Span { tokens: start..start + length, queries: 0..length, out: start });
                start += length;
            }
            for kernel in Kernel::available() {
                let threads = Threads::new(Some(2)).unwrap();
                let cx = Context { kernel, threads: &threads };
                let mut out = vec![f32::NAN; total * queries * width];
                attention(cx, heads, &qkv, &spans, &mut out);
                for span in &spans {
                    for query in [0, span.tokens.len() / 2, span.tokens.len() - 1] {
                        for head in 0..queries {
                            let found = &out[((span.tokens.start + query) * queries + head) * width..][..width];
                            for (found, expected) in found.iter().zip(reference(heads, &qkv, span.tokens.clone(), query, head)) {
                                prop_assert!((f64::from(*found) - expected).abs() < 1e-5);
                            }
                        }
                    }
                    let one = Threads::new(Some(1)).unwrap();
                    let alone = Span { tokens: 0..span.tokens.len(), queries: span.queries.clone(), out: 0 };
                    let own = &qkv[span.tokens.start * heads.row()..span.tokens.end * heads.row()];
                    let mut single = vec![f32::NAN; span.tokens.len() * queries * width];
                    attention(Context { kernel, threads: &one }, heads, own, &[alone], &mut single);
                    let batch = &out[span.tokens.start * queries * width..][..single.len()];
                    prop_assert!(single.iter().zip(batch).all(|(a, b)| a.to_bits() == b.to_bits()));
                }
            }
        }
    }
}
