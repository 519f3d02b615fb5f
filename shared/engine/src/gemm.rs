//! `y = x W^T + b`: row tiles of activations against panels of weights.
//!
//! A task is one panel (64 channels) by a run of rows. Inside a task, tiles of up to [`TILE_ROWS`]
//! rows keep their 6 x 64 sums in registers over the whole inner dimension, then the *epilogue*
//! turns sums into outputs while they are still in the first-level cache: scales and the offset of
//! the unsigned code (int8), bias, activation, residual. A SwiGLU layer multiplies a tile with the
//! panel of its gate and with the one of its up projection and writes their product only.
//!
//! Every output is one sum over `k` in ascending order, whatever tile, task or thread it falls in.
//! That is why a text's score never depends on the batch around it. Integer sums are exact, and f32
//! sums are fused multiply-adds in the same order in all kernel sets, so these agree bit for bit.

/// Calls `$tile::<ROWS>` with the row count of a tile as a constant.
#[cfg(target_arch = "x86_64")]
macro_rules! with_rows {
    ($rows:expr, $tile:ident; $($arg:expr),*) => {
        match $rows {
            0 => {}
            1 => $tile::<1>($($arg),*),
            2 => $tile::<2>($($arg),*),
            3 => $tile::<3>($($arg),*),
            4 => $tile::<4>($($arg),*),
            5 => $tile::<5>($($arg),*),
            _ => $tile::<6>($($arg),*),
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx_vnni;
mod epilogue;
#[cfg(target_arch = "x86_64")]
mod fused;
mod portable;
mod shared_out;
mod tile;

use std::ops::Range;

use half::bf16;
use tile::{bf16_tile, int8_tile};

use crate::kernel::Kernel;
use crate::layout::{INT8_GROUP, PANEL};
use crate::quantize::QuantizedRows;
use crate::threads::Threads;

pub(crate) use epilogue::{Activation, Epilogue};
pub(crate) use shared_out::SharedOut;
pub(crate) use tile::{TILE_ROWS, Tile, float_tile, int16_tile, peak};

/// Bytes of activations that a task reads again for every panel: they stay in the second-level cache (1 to 2 MB on
/// servers with AVX-512), with room for a panel that streams past.
const TASK_BYTES: usize = 512 << 10;
/// Rows of a task: enough to read a panel from the third-level cache once for many tiles, few enough to share the work.
const TASK_TILES: std::ops::RangeInclusive<usize> = 16..=32;

/// Where to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) threads: &'a Threads,
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
    /// Inputs of a channel.
    pub(crate) k: usize,
}

/// Elements that float panels may hold.
#[derive(Clone, Copy)]
pub(crate) enum FloatPanels<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

/// `out` from quantised rows against `n` channels: a value a channel, or one of two for SwiGLU.
pub(crate) fn int8(
    cx: Context<'_>,
    product: &Int8Product<'_>,
    n: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let (x, stride) = (product.x.data(), product.x.stride());
    let depth = product.k.next_multiple_of(INT8_GROUP);
    assert!(depth <= stride && x.len() == product.x.rows() * stride, "activation rows");
    assert_eq!(product.panels.len(), n.next_multiple_of(PANEL) * depth, "weight panels");
    assert_eq!(product.x.rows() * epilogue.outputs(n), out.len(), "output rows");
    let multiply = |panel: usize, rows: &Range<usize>, sums: &mut Tile<i32>| {
        let weights = &product.panels[panel * PANEL * depth..][..PANEL * depth];
        let offsets = &product.offsets[panel * PANEL..][..PANEL];
        let x = &x[rows.start * stride..rows.end * stride];
        int8_tile(cx.kernel, x, stride, rows.len(), weights, offsets, sums);
    };
    let channels = |panel: usize| epilogue.channels(panel, Some(product.scales));
    for_each_tile(cx.threads, n, stride, epilogue, out, |panel, rows, [first, second], target| {
        let scales = &product.x.scales()[rows.clone()];
        #[cfg(target_arch = "x86_64")]
        if fused::runs(cx.kernel, epilogue) {
            let operands = |panel: usize| fused::Operands {
                x: &x[rows.start * stride..rows.end * stride],
                stride,
                panel: &product.panels[panel * PANEL * depth..][..PANEL * depth],
                offsets: &product.offsets[panel * PANEL..][..PANEL],
                row_scales: scales,
                channels: channels(panel),
            };
            let up = (epilogue.activation == Activation::SwiGlu)
                .then(|| operands(panel + n / 2 / PANEL));
            let scratch = [bytemuck::cast_mut(first), bytemuck::cast_mut(second)];
            fused::int8(&operands(panel), up.as_ref(), epilogue, scratch, target);
            return;
        }
        multiply(panel, &rows, first);
        if epilogue.activation == Activation::SwiGlu {
            let up = panel + n / 2 / PANEL;
            multiply(up, &rows, second);
            epilogue::int8_gated(
                cx.kernel,
                first,
                second,
                scales,
                channels(panel),
                channels(up),
                target,
            );
        } else {
            epilogue::int8(cx.kernel, first, scales, channels(panel), epilogue, target);
        }
    });
}

/// As [`int8`] from f32 rows of `k`.
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
    let multiply = |panel: usize, rows: &Range<usize>, sums: &mut Tile<f32>| {
        let x = &x[rows.start * k..rows.end * k];
        match panels {
            FloatPanels::F32(panels) => {
                let weights = &panels[panel * PANEL * k..][..PANEL * k];
                float_tile(cx.kernel, x, k, rows.len(), weights, PANEL, sums);
            }
            FloatPanels::Bf16(panels) => {
                let weights = &panels[panel * PANEL * k..][..PANEL * k];
                bf16_tile(cx.kernel, x, k, rows.len(), weights, sums);
            }
        }
    };
    let channels = |panel: usize| epilogue.channels(panel, None);
    for_each_tile(cx.threads, n, 4 * k, epilogue, out, |panel, rows, [first, second], target| {
        let (first, second) = (bytemuck::cast_mut(first), bytemuck::cast_mut(second));
        multiply(panel, &rows, first);
        let ones = &[1.0; TILE_ROWS][..rows.len()];
        if epilogue.activation == Activation::SwiGlu {
            let up = panel + n / 2 / PANEL;
            multiply(up, &rows, second);
            epilogue::float_gated(
                cx.kernel,
                first,
                second,
                ones,
                channels(panel),
                channels(up),
                target,
            );
        } else {
            epilogue::float(cx.kernel, first, ones, channels(panel), epilogue, target);
        }
    });
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

    /// The first row's first value, for so many rows.
    fn rows(&mut self, rows: usize) -> *mut f32 {
        // The last one's bounds are those of all.
        let _ = self.row(rows.saturating_sub(1));
        self.row(0).as_mut_ptr()
    }
}

/// Hands out every tile of the output with its panel and rows, and memory for two tiles of sums. A row of activations
/// is `row_bytes` long.
fn for_each_tile(
    threads: &Threads,
    n: usize,
    row_bytes: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
    tile: impl Fn(usize, Range<usize>, &mut [Tile<i32>; 2], &mut Target<'_>) + Send + Sync,
) {
    let n = epilogue.outputs(n);
    let rows = out.len() / n;
    let out = SharedOut::new(out);
    let panels = n.div_ceil(PANEL);
    let tiles = (TASK_BYTES / row_bytes / TILE_ROWS).clamp(*TASK_TILES.start(), *TASK_TILES.end());
    let task_rows = tiles * TILE_ROWS;
    threads.for_each(panels * rows.div_ceil(task_rows), |task| {
        let (block, panel) = (task / panels, task % panels);
        let end = rows.min((block + 1) * task_rows);
        let mut sums = [[[0; PANEL]; TILE_ROWS]; 2];
        for start in (block * task_rows..end).step_by(TILE_ROWS) {
            let stop = end.min(start + TILE_ROWS);
            let mut target = Target {
                out: &out,
                first: start * n + panel * PANEL,
                stride: n,
                width: PANEL.min(n - panel * PANEL),
            };
            tile(panel, start..stop, &mut sums, &mut target);
        }
    });
}

#[cfg(test)]
mod tests;
