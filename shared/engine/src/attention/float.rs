//! Attention in f32: keys and values in the panel layout of the f32 tiles.

use super::{Data, Task, softmax};
use crate::gemm::Context;
use crate::kernel::operands::{COLUMN_STEP, Operands, RowOf};
use crate::kernel::set::MOST_ROWS;
use crate::layout::PANEL;

/// Keys and values of one head, packed.
struct Packed {
    /// Panels of 64 keys, `width` rows each.
    keys: Vec<f32>,
    /// For each run of up to 64 value columns: its padded width and one row per key.
    values: Vec<(usize, Vec<f32>)>,
}

fn pack(data: &Data<'_>, task: &Task<'_>, visible: usize) -> Packed {
    let width = data.heads.width;
    let mut keys = vec![0.0; visible.next_multiple_of(PANEL) * width];
    for token in 0..visible {
        let key = data.key(task.span, token, task.head);
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
                let value = data.value(task.span, token, task.head);
                slot[..used].copy_from_slice(&value[start..][..used]);
            }
            (padded, columns)
        })
        .collect();
    Packed { keys, values }
}

/// Computes one task.
pub(super) fn run(cx: Context<'_>, data: &Data<'_>, task: &Task<'_>) {
    let (heads, span) = (data.heads, task.span);
    let (row_len, width) = (heads.row(), heads.width);
    let visible = task.seen(heads);
    let packed = pack(data, task, visible);
    let stride = visible.next_multiple_of(PANEL);
    let scale = 1.0 / (width as f32).sqrt();
    let tile_rows = cx.kernel.set().float.rows;
    let mut scores = vec![0.0f32; tile_rows * stride];
    let mut sums: Vec<RowOf<f32>> = vec![[0.0; PANEL]; tile_rows];
    for query_head in task.head * heads.shared()..(task.head + 1) * heads.shared() {
        for (start, count) in task.tiles(tile_rows) {
            let keys = span.seen(heads, start + count - 1);
            let first = (span.tokens.start + start) * row_len + query_head * width;
            for (panel, keys) in
                packed.keys.chunks_exact(PANEL * width).take(keys.div_ceil(PANEL)).enumerate()
            {
                let queries = &data.qkv[first..];
                let operands = Operands::new(queries, row_len, count, keys, PANEL);
                cx.kernel.float_tile(&operands, &mut sums);
                for (row, sums) in sums.iter().enumerate().take(count) {
                    scores[row * stride + panel * PANEL..][..PANEL].copy_from_slice(sums);
                }
            }
            let mut totals = [0.0f32; MOST_ROWS];
            for (row, total) in totals.iter_mut().enumerate().take(count) {
                let seen = span.seen(heads, start + row);
                let scores = &mut scores[row * stride..][..keys];
                softmax::float(cx.kernel, scores, seen, scale, total);
            }
            for (part, (padded, columns)) in packed.values.iter().enumerate() {
                let columns = &columns[..keys * padded];
                let operands = Operands::new(&scores, stride, count, columns, *padded);
                cx.kernel.float_tile(&operands, &mut sums);
                let used = PANEL.min(width - part * PANEL);
                for (row, (sums, total)) in sums.iter().zip(totals).enumerate().take(count) {
                    let target = data.target(task, start + row, query_head, part * PANEL, used);
                    for (target, &sum) in target.iter_mut().zip(sums) {
                        *target = sum / total;
                    }
                }
            }
        }
    }
}
