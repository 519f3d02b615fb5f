//! `y = x W^T + b`: row tiles of activations against panels of weights.
//!
//! A task is one panel (64 channels) by a run of rows. Inside a task, tiles of up to [`TILE_ROWS`]
//! rows keep their 6 x 64 sums in registers over the whole inner dimension, then the *epilogue*
//! turns sums into outputs while they are still in the first-level cache: scales and the offset of
//! the unsigned code (int8), bias, activation, residual.
//!
//! Every output is one sum over `k` in ascending order, whatever tile, task or thread it falls in.
//! That is why a text's score never depends on the batch around it. Integer sums are equal in all
//! kernel sets bit for bit; f32 sums use fused multiply-add where the processor has it.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod epilogue;
mod portable;

pub(crate) use epilogue::{Activation, Epilogue};
use half::bf16;

use crate::kernel::{Kernel, Set};
use crate::layout::{INT8_GROUP, PANEL};
use crate::quantize::QuantizedRows;
use crate::threads::Threads;

/// Rows of a register tile; see [`PANEL`] for the count.
pub(crate) const TILE_ROWS: usize = 6;

/// Rows of a task. 192 rows of 4864 int8 inputs are 0.9 MB: they stay in the second-level cache
/// (1 to 2 MB on servers with AVX-512) while panels stream past.
const TASK_ROWS: usize = 192;

/// Sums of one tile.
pub(crate) type Tile<T> = [[T; PANEL]; TILE_ROWS];

/// Where to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) kernel: Kernel,
    pub(crate) threads: &'a Threads,
}

/// A mutable slice whose elements are written by several threads, each its own.
pub(crate) struct SharedOut<'a, T> {
    start: *mut T,
    len: usize,
    life: std::marker::PhantomData<&'a mut [T]>,
}

#[allow(unsafe_code, reason = "disjoint strided writes from worker threads")]
mod shared_out {
    use super::SharedOut;

    // SAFETY: the pointer comes from an exclusive borrow that outlives this value, and the two
    // methods below are the only access; T is plain data sent between threads.
    unsafe impl<T: Send> Sync for SharedOut<'_, T> {}
    // SAFETY: as above.
    unsafe impl<T: Send> Send for SharedOut<'_, T> {}

    impl<'a, T: Copy> SharedOut<'a, T> {
        pub(crate) fn new(out: &'a mut [T]) -> Self {
            Self { start: out.as_mut_ptr(), len: out.len(), life: std::marker::PhantomData }
        }

        /// Writes one element.
        ///
        /// # Safety
        /// No other task may write or hold the same element at the same time.
        pub(crate) unsafe fn write(&self, index: usize, value: T) {
            assert!(index < self.len, "write outside of the output");
            // SAFETY: in bounds of the exclusive borrow; alone by the caller's promise.
            unsafe { self.start.add(index).write(value) }
        }

        /// A run of elements.
        ///
        /// # Safety
        /// While the slice lives, no other task may hold a run that overlaps it.
        #[allow(clippy::mut_from_ref, reason = "exclusive by the contract above")]
        pub(crate) unsafe fn run(&self, start: usize, len: usize) -> &mut [T] {
            assert!(start.checked_add(len).is_some_and(|end| end <= self.len), "run outside");
            // SAFETY: in bounds of the exclusive borrow; disjoint by the caller's promise.
            unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
        }
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
}

/// Elements that float panels may hold.
#[derive(Clone, Copy)]
pub(crate) enum FloatPanels<'a> {
    F32(&'a [f32]),
    Bf16(&'a [bf16]),
}

/// `out[rows x n]` from quantised rows.
pub(crate) fn int8(
    cx: Context<'_>,
    product: &Int8Product<'_>,
    n: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let stride = product.x.stride();
    let rows = out.len() / n;
    assert_eq!(product.x.data().len(), rows * stride, "activation rows");
    assert_eq!(product.panels.len(), n.next_multiple_of(PANEL) * stride, "weight panels");
    for_each_tile(cx.threads, rows, n, out, |panel, tile_rows, target| {
        let weights = &product.panels[panel * PANEL * stride..][..PANEL * stride];
        let x = &product.x.data()[tile_rows.start * stride..tile_rows.end * stride];
        let count = tile_rows.len();
        let mut sums: Tile<i32> = [[0; PANEL]; TILE_ROWS];
        int8_tile(cx.kernel, x, count, weights, stride / INT8_GROUP, &mut sums);
        epilogue::int8(
            cx.kernel,
            &sums,
            &product.x.scales()[tile_rows],
            &product.scales[panel * PANEL..][..PANEL],
            &product.offsets[panel * PANEL..][..PANEL],
            epilogue,
            panel * PANEL,
            target,
        );
    });
}

/// `out[rows x n]` from f32 rows of `k`.
pub(crate) fn float(
    cx: Context<'_>,
    x: &[f32],
    k: usize,
    panels: FloatPanels<'_>,
    n: usize,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
) {
    let rows = out.len() / n;
    assert_eq!(x.len(), rows * k, "activation rows");
    for_each_tile(cx.threads, rows, n, out, |panel, tile_rows, target| {
        let x = &x[tile_rows.start * k..tile_rows.end * k];
        let mut sums: Tile<f32> = [[0.0; PANEL]; TILE_ROWS];
        let count = tile_rows.len();
        match panels {
            FloatPanels::F32(panels) => {
                let weights = &panels[panel * PANEL * k..][..PANEL * k];
                float_tile(cx.kernel, x, k, count, weights, PANEL, &mut sums);
            }
            FloatPanels::Bf16(panels) => {
                let weights = &panels[panel * PANEL * k..][..PANEL * k];
                bf16_tile(cx.kernel, x, k, count, weights, &mut sums);
            }
        }
        epilogue::float(cx.kernel, &sums, count, epilogue, panel * PANEL, target);
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
}

fn for_each_tile(
    threads: &Threads,
    rows: usize,
    n: usize,
    out: &mut [f32],
    tile: impl Fn(usize, std::ops::Range<usize>, &mut Target<'_>) + Send + Sync,
) {
    let out = SharedOut::new(out);
    let panels = n.div_ceil(PANEL);
    threads.for_each(panels * rows.div_ceil(TASK_ROWS), |task| {
        let (block, panel) = (task / panels, task % panels);
        let end = rows.min((block + 1) * TASK_ROWS);
        let mut start = block * TASK_ROWS;
        while start < end {
            let stop = end.min(start + TILE_ROWS);
            let mut target = Target {
                out: &out,
                first: start * n + panel * PANEL,
                stride: n,
                width: PANEL.min(n - panel * PANEL),
            };
            tile(panel, start..stop, &mut target);
            start = stop;
        }
    });
}

/// `sums[r][c] = sum over k of x[r][k] * panel[k][c]` in i32. `x` holds `rows` rows of `4 * groups`
/// unsigned codes; `panel` holds `groups` rows of 64 channels by 4.
#[allow(unsafe_code, reason = "calls target_feature kernels that Kernel proves runnable")]
fn int8_tile(
    kernel: Kernel,
    x: &[u8],
    rows: usize,
    panel: &[i8],
    groups: usize,
    sums: &mut Tile<i32>,
) {
    assert!(rows <= TILE_ROWS && x.len() >= rows * groups * 4 && panel.len() >= groups * PANEL * 4);
    match kernel.set() {
        // SAFETY: `Kernel` proves the features; the slices were just checked.
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Vnni => unsafe { avx512::int8_tile(x, rows, panel, groups, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { avx2::int8_tile(x, rows, panel, groups, sums) },
        Set::Portable => portable::int8_tile(x, rows, panel, groups, sums),
    }
}

/// `sums[r][c] = sum over k of x[r][k] * panel[k][c]` in f32, for `c` below `width` (16, 32, 48 or
/// 64). Row `r` of `x` starts at `r * stride` and has as many values as `panel` has rows.
#[allow(unsafe_code, reason = "calls target_feature kernels that Kernel proves runnable")]
pub(crate) fn float_tile(
    kernel: Kernel,
    x: &[f32],
    stride: usize,
    rows: usize,
    panel: &[f32],
    width: usize,
    sums: &mut Tile<f32>,
) {
    let k = panel.len() / width;
    assert!(rows <= TILE_ROWS && (rows == 0 || x.len() >= (rows - 1) * stride + k));
    assert!(width.is_multiple_of(16) && width <= PANEL && panel.len() == k * width);
    match kernel.set() {
        // SAFETY: `Kernel` proves the features; the slices were just checked.
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Vnni => unsafe { avx512::float_tile(x, stride, rows, panel, width, k, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { avx2::float_tile(x, stride, rows, panel, width, k, sums) },
        Set::Portable => portable::float_tile(x, stride, rows, panel, width, k, sums),
    }
}

/// As [`float_tile`] over a panel of 64 bf16 channels, widened on the way.
#[allow(unsafe_code, reason = "calls target_feature kernels that Kernel proves runnable")]
fn bf16_tile(
    kernel: Kernel,
    x: &[f32],
    stride: usize,
    rows: usize,
    panel: &[bf16],
    sums: &mut Tile<f32>,
) {
    let k = panel.len() / PANEL;
    assert!(rows <= TILE_ROWS && (rows == 0 || x.len() >= (rows - 1) * stride + k));
    let panel: &[u16] = bytemuck::cast_slice(panel);
    match kernel.set() {
        // SAFETY: `Kernel` proves the features; the slices were just checked.
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Vnni => unsafe { avx512::bf16_tile(x, stride, rows, panel, k, sums) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { avx2::bf16_tile(x, stride, rows, panel, k, sums) },
        Set::Portable => portable::bf16_tile(x, stride, rows, panel, k, sums),
    }
}

#[cfg(test)]
mod tests;
