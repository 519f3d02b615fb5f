//! Several matrices in one parallel step: queries, keys and values, or gate and up, each as its file has it.
//!
//! ```text
//! x  ->  runs of 32, quantised once         (only where there are blocks)
//!    ->  [ matrix 0 | matrix 1 | ... ]      panels of all of them are the tasks of one step
//!    ->  out: channels of all side by side, or silu(0) * 1
//! ```
//!
//! One row streams through memory what it has to read and no more; several rows share what they read in tiles. A
//! value is the same to the bit either way: see `kernel::portable::blocks` for blocks, and `gemm` for floats.
//!
//! Of a vocabulary, only the panels that somebody asks for need to be multiplied ([`Segments::only`]).

use std::ops::Range;

use defrost_model::BlockKind;
use half::bf16;

use super::{Context, Epilogue, SUMS, SharedOut, TASK_BYTES, TASK_ROWS, Target, epilogue};
use crate::blocks::{QuantizedRuns, form};
use crate::kernel::operands::{BlockOperands, Channels, Operands, RowOf};
use crate::kernel::set::MOST_ROWS;
use crate::layout::PANEL;

/// A matrix of a list.
#[derive(Clone, Copy)]
pub(crate) struct Segment<'a> {
    /// Its channels.
    pub(crate) n: usize,
    /// Its weights.
    pub(crate) panels: SegmentPanels<'a>,
}

/// Weights in whole panels.
#[derive(Clone, Copy)]
pub(crate) enum SegmentPanels<'a> {
    Blocks(BlockKind, &'a [u8]),
    Bf16(&'a [bf16]),
    F32(&'a [f32]),
}

/// Whether some of these rows need a panel.
pub(crate) type Needed<'a> = &'a (dyn Fn(usize, Range<usize>) -> bool + Sync);

/// Matrices of `k` inputs and the rows that they are multiplied with.
#[derive(Clone, Copy)]
pub(crate) struct Segments<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) k: usize,
    /// The same rows, quantised, if a matrix is in blocks.
    pub(crate) quantized: &'a QuantizedRuns,
    pub(crate) matrices: &'a [Segment<'a>],
    /// Panels to multiply, by their number and rows: tiles that are not needed leave the output as it is. All, if there is
    /// nothing to ask.
    pub(crate) only: Option<Needed<'a>>,
}

impl Segment<'_> {
    fn panels(&self) -> usize {
        self.n.div_ceil(PANEL)
    }

    fn tile_rows(&self, cx: Context<'_>) -> usize {
        match self.panels {
            SegmentPanels::Blocks(..) => cx.kernel.set().blocks.rows,
            SegmentPanels::Bf16(_) => cx.kernel.set().bf16.rows,
            SegmentPanels::F32(_) => cx.kernel.set().float.rows,
        }
    }

    /// The products of a panel with some rows.
    fn multiply(
        &self,
        cx: Context<'_>,
        of: &Segments<'_>,
        panel: usize,
        rows: &Range<usize>,
        sums: &mut [RowOf<f32>],
    ) {
        let k = of.k;
        let x = &of.x[rows.start * k..rows.end * k];
        match self.panels {
            SegmentPanels::Blocks(kind, panels) => {
                let len = form(kind).panel_bytes(k);
                let panel = &panels[panel * len..][..len];
                let operands =
                    BlockOperands::new(of.quantized, rows.start, rows.len(), kind, panel);
                cx.kernel.block_tile(&operands, sums);
            }
            SegmentPanels::Bf16(panels) => {
                let panel = &panels[panel * PANEL * k..][..PANEL * k];
                cx.kernel.bf16_tile(&Operands::new(x, k, rows.len(), panel, PANEL), sums);
            }
            SegmentPanels::F32(panels) => {
                let panel = &panels[panel * PANEL * k..][..PANEL * k];
                cx.kernel.float_tile(&Operands::new(x, k, rows.len(), panel, PANEL), sums);
            }
        }
    }
}

/// `out` from rows against all channels of the matrices, or for gates from two matrices of as many channels each.
pub(crate) fn segments(
    cx: Context<'_>,
    of: &Segments<'_>,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let gated = epilogue.activation.is_gated();
    let matrices = of.matrices;
    assert!(!gated || matches!(matrices, [gate, up] if gate.n == up.n), "a gate and an up");
    // The panels that are tasks: those of the gate stand for both.
    let tasks = if gated { &matrices[..1] } else { matrices };
    let n: usize = tasks.iter().map(|matrix| matrix.n).sum();
    let (rows, panels) = (of.x.len() / of.k, tasks.iter().map(Segment::panels).sum::<usize>());
    assert_eq!((of.x.len(), out.len()), (rows * of.k, rows * n), "rows of inputs and outputs");
    let out = SharedOut::new(out);
    let most = matrices.iter().map(|matrix| matrix.tile_rows(cx)).max().unwrap_or(1);
    let task_rows = (TASK_BYTES / (2 * of.k)).clamp(*TASK_ROWS.start(), *TASK_ROWS.end());
    let task_rows = task_rows / most * most;
    cx.for_each(panels * rows.div_ceil(task_rows), |task| {
        let (chunk, mut panel) = (task / panels, task % panels);
        let (mut first, mut matrix) = (0, &tasks[0]);
        for next in &tasks[1..] {
            if panel < matrix.panels() {
                break;
            }
            panel -= matrix.panels();
            first += matrix.n;
            matrix = next;
        }
        let width = PANEL.min(matrix.n - panel * PANEL);
        let column = first + panel * PANEL;
        let end = rows.min((chunk + 1) * task_rows);
        let bias = |column: usize| of_channels(epilogue.bias, column, width);
        let biases = [bias(column), if gated { bias(n + column) } else { [0.0; PANEL] }];
        let channels = [0, 1].map(|at| Channels { scales: &[1.0; PANEL], bias: &biases[at] });
        SUMS.with_borrow_mut(|sums| {
            let sums: &mut [f32] = bytemuck::cast_slice_mut(sums.slot(2 * most * PANEL));
            let (first, second) = sums.as_chunks_mut().0.split_at_mut(most);
            let tile_rows = if gated {
                matrices[0].tile_rows(cx).min(matrices[1].tile_rows(cx))
            } else {
                matrix.tile_rows(cx)
            };
            for start in (chunk * task_rows..end).step_by(tile_rows) {
                let tile = start..end.min(start + tile_rows);
                if of.only.is_some_and(|needed| !needed(panel, tile.clone())) {
                    continue;
                }
                let mut target = Target { out: &out, first: start * n + column, stride: n, width };
                let ones = &[1.0; MOST_ROWS][..tile.len()];
                matrix.multiply(cx, of, panel, &tile, first);
                if gated {
                    matrices[1].multiply(cx, of, panel, &tile, second);
                    let gate = epilogue.activation;
                    epilogue::float_gated(
                        cx.kernel,
                        first,
                        second,
                        ones,
                        channels,
                        gate,
                        &mut target,
                    );
                } else {
                    let [channels, _] = channels;
                    epilogue::float(cx.kernel, first, ones, channels, epilogue, &mut target);
                }
            }
        });
    });
}

/// The biases of channels that need not begin with a panel.
fn of_channels(bias: Option<&[f32]>, column: usize, width: usize) -> RowOf<f32> {
    let mut own = [0.0; PANEL];
    if let Some(bias) = bias {
        own[..width].copy_from_slice(&bias[column..][..width]);
    }
    own
}

#[cfg(test)]
mod tests;
