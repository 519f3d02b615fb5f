//! `y = x W^T + b`: row tiles of activations against panels of weights.
//!
//! A task is one panel (64 channels) by a run of rows. Inside a task, tiles of as many rows as the kernel set's have
//! keep their sums in registers over the whole inner dimension, then the *epilogue*
//! turns sums into outputs while they are still in the first-level cache: scales and the offset of
//! the unsigned code (int8), bias, activation, residual. A SwiGLU layer multiplies a tile with the
//! panel of its gate and with the one of its up projection and writes their product only.
//!
//! Every output is one sum over `k` in ascending order, whatever tile, task or thread it falls in.
//! That is why a text's score never depends on the batch around it. Integer sums are exact, and f32
//! sums are fused multiply-adds in the same order in all kernel sets, so these agree bit for bit.

mod epilogue;
mod finished;
mod segments;
mod shared_out;

use std::cell::RefCell;
use std::ops::Range;

pub(crate) use epilogue::{Activation, Epilogue};
use half::bf16;
pub(crate) use segments::{Segment, SegmentPanels, Segments, segments};
pub(crate) use shared_out::SharedOut;

use crate::buffer::Buffer;
use crate::kernel::Kernel;
use crate::kernel::operands::{Operands, OutRows, RowOf, Scaled};
use crate::kernel::set::MOST_ROWS;
use crate::layout::PANEL;
use crate::quantize::QuantizedRows;
use crate::threads::Threads;

/// Bytes of activations that a task reads again for every panel: they stay in the second-level cache (1 to 2 MB on
/// servers with AVX-512), with room for a panel that streams past.
const TASK_BYTES: usize = 512 << 10;
/// Rows of a task, about: enough to read a panel from the third-level cache once for many tiles, few enough to share
/// the work.
const TASK_ROWS: std::ops::RangeInclusive<usize> = 96..=192;

/// Where to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) threads: &'a Threads,
}

impl Context<'_> {
    /// Runs `work(0..tasks)`, which may call the kernel set's tiles.
    pub(crate) fn for_each(&self, tasks: usize, work: impl Fn(usize) + Send + Sync) {
        self.threads.for_each_with(self.kernel, tasks, work);
    }
}

/// One int8 product: rows of activations against all panels.
pub(crate) struct Int8Product<'a> {
    pub(crate) x: &'a QuantizedRows,
    /// Panels, in groups of four inputs.
    pub(crate) panels: &'a [i8],
    /// Scale of each channel, padded to whole panels.
    pub(crate) scales: &'a [f32],
    /// `128 * sum(w)` of each channel, padded.
    pub(crate) offsets: &'a [i32],
    /// The number of inputs of a channel.
    pub(crate) k: usize,
}

/// Elements that float panels may hold.
#[derive(Clone, Copy)]
pub(crate) enum FloatPanels<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

/// `out` from quantised rows against `n` channels: a value a channel, or one of two for `SwiGLU` and `GeGLU`.
pub(crate) fn int8(
    cx: Context<'_>,
    product: &Int8Product<'_>,
    n: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let (x, stride) = (product.x.data(), product.x.stride());
    let depth = product.k.next_multiple_of(cx.kernel.set().layout.int8_group);
    assert!(depth <= stride && x.len() == product.x.rows() * stride, "activation rows");
    assert_eq!(product.panels.len(), n.next_multiple_of(PANEL) * depth, "weight panels");
    assert_eq!(product.x.rows() * epilogue.outputs(n), out.len(), "output rows");
    let scaled = |panel: usize, rows: &Range<usize>| {
        let weights = &product.panels[panel * PANEL * depth..][..PANEL * depth];
        let x = &x[rows.start * stride..rows.end * stride];
        Scaled {
            operands: Operands::new(x, stride, rows.len(), weights, PANEL),
            offsets: of_panel(product.offsets, panel),
            row_scales: &product.x.scales()[rows.clone()],
            channels: epilogue.channels(panel, Some(product.scales)),
        }
    };
    let multiply = |scaled: &Scaled<'_>, sums: &mut [RowOf<i32>]| {
        cx.kernel.int8_tile(&scaled.operands, scaled.offsets, sums);
    };
    let tile_rows = cx.kernel.set().int8.rows;
    for_each_tile(
        cx,
        tile_rows,
        n,
        stride,
        epilogue,
        out,
        |panel, rows, [first, second], target| {
            let scaled_rows = scaled(panel, &rows);
            let up = epilogue.activation.is_gated().then(|| scaled(panel + n / 2 / PANEL, &rows));
            if finished::runs(cx.kernel, epilogue) {
                let scratch = [bytemuck::cast_slice_mut(first), bytemuck::cast_slice_mut(second)];
                finished::int8(cx.kernel, &scaled_rows, up.as_ref(), epilogue, scratch, target);
                return;
            }
            let Scaled { row_scales, channels, .. } = scaled_rows;
            multiply(&scaled_rows, first);
            if let Some(up) = up {
                multiply(&up, second);
                let channels = [channels, up.channels];
                let gate = epilogue.activation;
                epilogue::int8_gated(cx.kernel, first, second, row_scales, channels, gate, target);
            } else {
                epilogue::int8(cx.kernel, first, row_scales, channels, epilogue, target);
            }
        },
    );
}

/// A panel's values of a vector of channels, padded to whole panels.
fn of_panel<T>(values: &[T], panel: usize) -> &RowOf<T> {
    &values.as_chunks().0[panel]
}

/// Computes what [`int8`] does, from f32 rows of `k`.
pub(crate) fn float(
    cx: Context<'_>,
    x: &[f32],
    k: usize,
    panels: FloatPanels<'_>,
    n: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    assert_eq!(x.len() / k * epilogue.outputs(n), out.len(), "output rows");
    let multiply = |panel: usize, rows: &Range<usize>, sums: &mut [RowOf<f32>]| {
        let x = &x[rows.start * k..rows.end * k];
        match panels {
            FloatPanels::F32(panels) => {
                let weights = &panels[panel * PANEL * k..][..PANEL * k];
                cx.kernel.float_tile(&Operands::new(x, k, rows.len(), weights, PANEL), sums);
            }
            FloatPanels::Bf16(panels) => {
                let weights = &panels[panel * PANEL * k..][..PANEL * k];
                cx.kernel.bf16_tile(&Operands::new(x, k, rows.len(), weights, PANEL), sums);
            }
        }
    };
    let channels = |panel: usize| epilogue.channels(panel, None);
    let tile_rows = match panels {
        FloatPanels::F32(_) => cx.kernel.set().float.rows,
        FloatPanels::Bf16(_) => cx.kernel.set().bf16.rows,
    };
    for_each_tile(
        cx,
        tile_rows,
        n,
        4 * k,
        epilogue,
        out,
        |panel, rows, [first, second], target| {
            let first = bytemuck::cast_slice_mut(first);
            multiply(panel, &rows, first);
            let ones = &[1.0; MOST_ROWS][..rows.len()];
            if epilogue.activation.is_gated() {
                let up = panel + n / 2 / PANEL;
                let second = bytemuck::cast_slice_mut(second);
                multiply(up, &rows, second);
                let channels = [channels(panel), channels(up)];
                let gate = epilogue.activation;
                epilogue::float_gated(cx.kernel, first, second, ones, channels, gate, target);
            } else {
                epilogue::float(cx.kernel, first, ones, channels(panel), epilogue, target);
            }
        },
    );
}

/// The output runs of one tile: `rows` runs of the panel's valid channels.
pub(crate) struct Target<'a> {
    out: &'a SharedOut<'a, f32>,
    first: usize,
    stride: usize,
    width: usize,
}

impl Target<'_> {
    #[allow(unsafe_code, reason = "see the safety comment")]
    fn row(&mut self, row: usize) -> &mut [f32] {
        // SAFETY: `for_each_tile` gives each (row, panel) to exactly one target, and the borrow of
        // that target keeps its rows apart.
        unsafe { self.out.run(self.first + row * self.stride, self.width) }
    }

    /// The first `rows` rows, of whole panels.
    #[allow(unsafe_code, reason = "see the safety comment")]
    fn whole(&mut self, rows: usize) -> OutRows<'_> {
        assert_eq!(self.width, PANEL, "a whole panel");
        // SAFETY: as above.
        unsafe { self.out.rows(self.first, self.stride, rows) }
    }
}

thread_local! {
    /// The sums of two tiles, kept between tasks: to clear them for each would take longer than the least task has.
    static SUMS: RefCell<Buffer<i32>> = RefCell::default();
}

/// Hands out every tile of the output, of `tile_rows` rows, with its panel and rows, and memory for two tiles of sums.
/// A row of activations is `row_bytes` long.
fn for_each_tile(
    cx: Context<'_>,
    tile_rows: usize,
    n: usize,
    row_bytes: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
    tile: impl Fn(usize, Range<usize>, [&mut [RowOf<i32>]; 2], &mut Target<'_>) + Send + Sync,
) {
    let n = epilogue.outputs(n);
    let rows = out.len() / n;
    let out = SharedOut::new(out);
    let panels = n.div_ceil(PANEL);
    let task_rows = (TASK_BYTES / row_bytes).clamp(*TASK_ROWS.start(), *TASK_ROWS.end());
    let task_rows = task_rows / tile_rows * tile_rows;
    cx.for_each(panels * rows.div_ceil(task_rows), |task| {
        let (block, panel) = (task / panels, task % panels);
        let end = rows.min((block + 1) * task_rows);
        SUMS.with_borrow_mut(|sums| {
            let (sums, _) = sums.slot(2 * tile_rows * PANEL).as_chunks_mut();
            let (first, second) = sums.split_at_mut(tile_rows);
            for start in (block * task_rows..end).step_by(tile_rows) {
                let stop = end.min(start + tile_rows);
                let mut target = Target {
                    out: &out,
                    first: start * n + panel * PANEL,
                    stride: n,
                    width: PANEL.min(n - panel * PANEL),
                };
                tile(panel, start..stop, [&mut *first, &mut *second], &mut target);
            }
        });
    });
}

#[cfg(test)]
mod tests;
