//! The register tiles: which kernel set runs them, and what it may assume.

use half::bf16;

use super::{Context, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx_vnni, avx2, avx512};
use crate::kernel::{Kernel, Set};
use crate::layout::{INT8_GROUP, PANEL};

/// Rows of a register tile; see [`PANEL`] for the count.
pub(crate) const TILE_ROWS: usize = 6;

/// Sums of one tile.
pub(crate) type Tile<T> = [[T; PANEL]; TILE_ROWS];

/// `sums[r][c] = sum over k of x[r][k] * panel[k][c] - offsets[c]` in i32. Row `r` of `x` starts at
/// `r * stride` and has as many unsigned codes as the panel has inputs: groups of 64 channels by 4.
#[allow(unsafe_code, reason = "calls target_feature kernels that Kernel proves runnable")]
pub(super) fn int8_tile(
    kernel: Kernel,
    x: &[u8],
    stride: usize,
    rows: usize,
    panel: &[i8],
    offsets: &[i32],
    sums: &mut Tile<i32>,
) {
    let groups = panel.len() / (PANEL * INT8_GROUP);
    let k = groups * INT8_GROUP;
    assert!(rows <= TILE_ROWS && (rows == 0 || x.len() >= (rows - 1) * stride + k));
    assert_eq!(offsets.len(), PANEL, "offsets of a panel");
    match kernel.set() {
        // SAFETY: `Kernel` proves the features; the slices were just checked.
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Vnni => unsafe {
            avx512::int8_tile(x, stride, rows, panel, groups, offsets, sums);
        },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::AvxVnni => unsafe {
            avx_vnni::int8_tile(x, stride, rows, panel, groups, offsets, sums);
        },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Set::Avx2 => unsafe { avx2::int8_tile(x, stride, rows, panel, groups, offsets, sums) },
        Set::Portable => portable::int8_tile(x, stride, rows, panel, offsets, sums),
    }
}

/// `sums[r][c] = sum over k of x[r][k] * panel[k][c]` in i32 (which the caller knows to fit), for `c`
/// below `width` (16, 32, 48 or 64). The panel holds pairs of inputs: `width` columns by 2.
#[allow(unsafe_code, reason = "calls target_feature kernels that Kernel proves runnable")]
pub(crate) fn int16_tile(
    kernel: Kernel,
    x: &[i16],
    stride: usize,
    rows: usize,
    panel: &[i16],
    width: usize,
    sums: &mut Tile<i32>,
) {
    let pairs = panel.len() / (2 * width);
    assert!(rows <= TILE_ROWS && (rows == 0 || x.len() >= (rows - 1) * stride + 2 * pairs));
    assert!(width.is_multiple_of(16) && width <= PANEL && panel.len() == pairs * 2 * width);
    match kernel.set() {
        // SAFETY: `Kernel` proves the features; the slices were just checked.
        #[cfg(target_arch = "x86_64")]
        Set::Avx512Vnni => unsafe {
            avx512::int16_tile(x, stride, rows, panel, width, pairs, sums);
        },
        // SAFETY: as above; AVX-VNNI comes with AVX2.
        #[cfg(target_arch = "x86_64")]
        Set::AvxVnni | Set::Avx2 => unsafe {
            avx2::int16_tile(x, stride, rows, panel, width, pairs, sums);
        },
        Set::Portable => portable::int16_tile(x, stride, rows, panel, width, sums),
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
        Set::AvxVnni | Set::Avx2 => unsafe {
            avx2::float_tile(x, stride, rows, panel, width, k, sums);
        },
        Set::Portable => portable::float_tile(x, stride, rows, panel, width, k, sums),
    }
}

/// As [`float_tile`] over a panel of 64 bf16 channels, widened on the way.
#[allow(unsafe_code, reason = "calls target_feature kernels that Kernel proves runnable")]
pub(super) fn bf16_tile(
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
        Set::AvxVnni | Set::Avx2 => unsafe { avx2::bf16_tile(x, stride, rows, panel, k, sums) },
        Set::Portable => portable::bf16_tile(x, stride, rows, panel, k, sums),
    }
}

/// Multiply-adds a second when every thread does nothing but multiply registers; `None` without
/// `VPDPBUSD` on 512 bits.
#[allow(unsafe_code, reason = "calls target_feature kernels that Kernel proves runnable")]
pub(crate) fn peak(cx: Context<'_>) -> Option<f64> {
    /// About 2 ms at 3.5 GHz and two instructions a cycle.
    const ROUNDS: usize = 600_000;
    #[cfg(target_arch = "x86_64")]
    if cx.kernel.set() == Set::Avx512Vnni {
        let begun = std::time::Instant::now();
        let count = cx.threads.count();
        cx.threads.for_each(count, |_| {
            // SAFETY: `Kernel` proves the features.
            std::hint::black_box(unsafe { avx512::multiply_registers(ROUNDS) });
        });
        let work = count * ROUNDS * avx512::MULTIPLIES_A_ROUND;
        return Some(work as f64 / begun.elapsed().as_secs_f64());
    }
    let _ = (cx, ROUNDS);
    None
}
