//! Tiles for AVX-512 with VNNI: up to 6 rows by 4 registers of 16 channels.
#![allow(unsafe_code, reason = "vector loads and stores through pointers that callers checked")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores are used")]
#![allow(
    clippy::needless_range_loop,
    reason = "constant ranges unroll and keep the accumulators in registers; zipped iterators were \
              measured to spill them, at a fifth of the speed"
)]

use std::arch::x86_64::{
    __m512, __m512i, _mm256_loadu_si256, _mm512_add_epi32, _mm512_castsi512_ps,
    _mm512_cvtepu16_epi32, _mm512_dpbusd_epi32, _mm512_dpwssd_epi32, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_reduce_add_epi32, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_storeu_ps,
    _mm512_storeu_si512, _mm512_sub_epi32,
};

use super::Tile;
use crate::layout::{INT8_GROUP, PANEL};

/// f32 or i32 lanes of one register.
const LANES: usize = 16;
/// Registers across a panel.
const REGISTERS: usize = PANEL / LANES;

/// The sums of a tile, in registers: a macro, because a function would hand them over through memory.
///
/// To be used in an unsafe block, under the promises of [`int8_tile`].
macro_rules! int8_sums {
    ($rows:ident, $x:expr, $stride:expr, $panel:expr, $groups:expr, $offsets:expr) => {{
        let (x, stride, panel, offsets): (*const u8, usize, *const i8, &[i32]) =
            ($x, $stride, $panel, $offsets);
        let mut acc = [[_mm512_setzero_si512(); REGISTERS]; $rows];
        for part in 0..REGISTERS {
            let offsets = &offsets[part * LANES..][..LANES];
            let offsets = _mm512_loadu_si512(offsets.as_ptr().cast());
            for row in 0..$rows {
                acc[row][part] = _mm512_sub_epi32(acc[row][part], offsets);
            }
        }
        for group in 0..$groups {
            let mut weights = [_mm512_setzero_si512(); REGISTERS];
            for part in 0..REGISTERS {
                let at = panel.add((group * PANEL + part * LANES) * INT8_GROUP);
                weights[part] = _mm512_loadu_si512(at.cast::<__m512i>());
            }
            for row in 0..$rows {
                let at = x.add(row * stride + group * INT8_GROUP).cast::<i32>();
                let codes = _mm512_set1_epi32(at.read_unaligned());
                for part in 0..REGISTERS {
                    acc[row][part] = _mm512_dpbusd_epi32(acc[row][part], codes, weights[part]);
                }
            }
        }
        acc
    }};
}

pub(super) mod fused;
pub(crate) mod vector_math;

/// # Safety
/// The processor has the features; `x` holds `rows` rows of `4 * groups` bytes at `stride`, `panel` `groups * 256`
/// and `offsets` 64.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn int8_tile(
    x: &[u8],
    stride: usize,
    rows: usize,
    panel: &[i8],
    groups: usize,
    offsets: &[i32],
    sums: &mut Tile<i32>,
) {
    // SAFETY: passed on from the caller.
    unsafe {
        with_rows!(rows, int8_rows; x.as_ptr(), stride, panel.as_ptr(), groups, offsets, sums);
    }
}

/// # Safety
/// As [`int8_tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn int8_rows<const ROWS: usize>(
    x: *const u8,
    stride: usize,
    panel: *const i8,
    groups: usize,
    offsets: &[i32],
    sums: &mut Tile<i32>,
) {
    // SAFETY: passed on from the caller.
    let acc = unsafe { int8_sums!(ROWS, x, stride, panel, groups, offsets) };
    for row in 0..ROWS {
        for part in 0..REGISTERS {
            let target = &mut sums[row][part * LANES..][..LANES];
            // SAFETY: 16 i32.
            unsafe { _mm512_storeu_si512(target.as_mut_ptr().cast(), acc[row][part]) }
        }
    }
}

/// # Safety
/// The processor has the features; `x` holds `rows` rows of `2 * pairs` at `stride`, `panel` `pairs * 2 * width`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn int16_tile(
    x: &[i16],
    stride: usize,
    rows: usize,
    panel: &[i16],
    width: usize,
    pairs: usize,
    sums: &mut Tile<i32>,
) {
    let (x, panel) = (x.as_ptr(), panel.as_ptr());
    // SAFETY: passed on from the caller; the panel's rows are `width` = 16 * registers wide.
    unsafe {
        match width / LANES {
            1 => with_rows!(rows, int16_16; x, stride, panel, pairs, sums),
            2 => with_rows!(rows, int16_32; x, stride, panel, pairs, sums),
            3 => with_rows!(rows, int16_48; x, stride, panel, pairs, sums),
            _ => with_rows!(rows, int16_64; x, stride, panel, pairs, sums),
        }
    }
}

macro_rules! int16_rows {
    ($name:ident, $registers:literal) => {
        /// # Safety
        /// As [`int16_tile`].
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
        #[inline]
        unsafe fn $name<const ROWS: usize>(
            x: *const i16,
            stride: usize,
            panel: *const i16,
            pairs: usize,
            sums: &mut Tile<i32>,
        ) {
            let mut acc = [[_mm512_setzero_si512(); $registers]; ROWS];
            for pair in 0..pairs {
                let mut columns = [_mm512_setzero_si512(); $registers];
                for part in 0..$registers {
                    let at = panel.wrapping_add((pair * $registers + part) * 2 * LANES);
                    // SAFETY: row `pair` of the panel is inside by the caller's promise.
                    columns[part] = unsafe { _mm512_loadu_si512(at.cast::<__m512i>()) };
                }
                for row in 0..ROWS {
                    let at = x.wrapping_add(row * stride + 2 * pair).cast::<i32>();
                    // SAFETY: two values of row `row`, inside by the caller's promise.
                    let values = unsafe { at.read_unaligned() };
                    let values = _mm512_set1_epi32(values);
                    for part in 0..$registers {
                        acc[row][part] = _mm512_dpwssd_epi32(acc[row][part], values, columns[part]);
                    }
                }
            }
            for row in 0..ROWS {
                for part in 0..$registers {
                    let target = &mut sums[row][part * LANES..][..LANES];
                    // SAFETY: 16 i32.
                    unsafe { _mm512_storeu_si512(target.as_mut_ptr().cast(), acc[row][part]) }
                }
            }
        }
    };
}

int16_rows!(int16_16, 1);
int16_rows!(int16_32, 2);
int16_rows!(int16_48, 3);
int16_rows!(int16_64, 4);

/// Independent sums of [`multiply_registers`]: enough to hide the multiplier's latency.
const CHAINS: usize = 16;
/// Multiply-adds of one of its rounds: every lane takes four.
pub(super) const MULTIPLIES_A_ROUND: usize = CHAINS * LANES * INT8_GROUP;

/// Does nothing but multiply: what no product can exceed.
///
/// # Safety
/// The processor has the features.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn multiply_registers(rounds: usize) -> i32 {
    let mut acc = [_mm512_setzero_si512(); CHAINS];
    let codes = _mm512_set1_epi32(0x0102_0304);
    for round in 0..rounds {
        // Changes with the round, so that no product can be moved out of the loop.
        let weights = _mm512_set1_epi32(round as i32);
        for chain in 0..CHAINS {
            acc[chain] = _mm512_dpbusd_epi32(acc[chain], codes, weights);
        }
    }
    let mut sum = acc[0];
    for chain in 1..CHAINS {
        sum = _mm512_add_epi32(sum, acc[chain]);
    }
    _mm512_reduce_add_epi32(sum)
}

/// # Safety
/// The processor has the features; `x` holds `rows` rows of `k` at `stride`, `panel` `k * width`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn float_tile(
    x: &[f32],
    stride: usize,
    rows: usize,
    panel: &[f32],
    width: usize,
    k: usize,
    sums: &mut Tile<f32>,
) {
    let (x, panel) = (x.as_ptr(), panel.as_ptr());
    // SAFETY: passed on from the caller; the panel's rows are `width` = 16 * registers wide.
    unsafe {
        match width / LANES {
            1 => with_rows!(rows, float_16; x, stride, panel, k, sums),
            2 => with_rows!(rows, float_32; x, stride, panel, k, sums),
            3 => with_rows!(rows, float_48; x, stride, panel, k, sums),
            _ => with_rows!(rows, float_64; x, stride, panel, k, sums),
        }
    }
}

/// # Safety
/// The processor has the features; `x` holds `rows` rows of `k` at `stride`, `panel` `k * 64`.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn bf16_tile(
    x: &[f32],
    stride: usize,
    rows: usize,
    panel: &[u16],
    k: usize,
    sums: &mut Tile<f32>,
) {
    // SAFETY: passed on from the caller.
    unsafe { with_rows!(rows, bf16_64; x.as_ptr(), stride, panel.as_ptr(), k, sums) }
}

macro_rules! float_rows {
    ($name:ident, $element:ty, $registers:literal, $load:ident) => {
        /// # Safety
        /// As the tile function that calls it.
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        #[inline]
        unsafe fn $name<const ROWS: usize>(
            x: *const f32,
            stride: usize,
            panel: *const $element,
            k: usize,
            sums: &mut Tile<f32>,
        ) {
            let mut acc = [[_mm512_setzero_ps(); $registers]; ROWS];
            for input in 0..k {
                let mut weights = [_mm512_setzero_ps(); $registers];
                for part in 0..$registers {
                    let at = panel.wrapping_add((input * $registers + part) * LANES);
                    // SAFETY: row `input` of the panel is inside by the caller's promise.
                    weights[part] = unsafe { $load(at) };
                }
                for row in 0..ROWS {
                    // SAFETY: value `input` of row `row`, inside by the caller's promise.
                    let value = _mm512_set1_ps(unsafe { *x.add(row * stride + input) });
                    for part in 0..$registers {
                        acc[row][part] = _mm512_fmadd_ps(value, weights[part], acc[row][part]);
                    }
                }
            }
            for row in 0..ROWS {
                for part in 0..$registers {
                    let target = &mut sums[row][part * LANES..][..LANES];
                    // SAFETY: 16 f32.
                    unsafe { _mm512_storeu_ps(target.as_mut_ptr(), acc[row][part]) }
                }
            }
        }
    };
}

float_rows!(float_16, f32, 1, _mm512_loadu_ps);
float_rows!(float_32, f32, 2, _mm512_loadu_ps);
float_rows!(float_48, f32, 3, _mm512_loadu_ps);
float_rows!(float_64, f32, 4, _mm512_loadu_ps);
float_rows!(bf16_64, u16, 4, load_bf16);

/// # Safety
/// `from` points at 16 readable bf16.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load_bf16(from: *const u16) -> __m512 {
    // SAFETY: 32 bytes by the caller's promise.
    let halves = unsafe { _mm256_loadu_si256(from.cast()) };
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
}
