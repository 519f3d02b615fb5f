//! Tiles for AVX2 with FMA.
//!
//! `VPMADDUBSW`, the usual int8 instruction here, saturates its 16-bit sums. So codes and weights
//! are widened to 16 bits and multiplied with `VPMADDWD`, whose 32-bit sums are exact.
#![allow(unsafe_code, reason = "vector loads and stores through pointers that callers checked")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores are used")]
#![allow(clippy::needless_range_loop, reason = "as in the AVX-512 tiles: constant ranges unroll")]

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadu_si128, _mm_set1_epi32, _mm256_add_epi32, _mm256_castsi256_ps,
    _mm256_cvtepi8_epi16, _mm256_cvtepu8_epi16, _mm256_cvtepu16_epi32, _mm256_fmadd_ps,
    _mm256_hadd_epi32, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_permute4x64_epi64, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_storeu_si256,
    _mm256_sub_epi32,
};

use super::Tile;
use crate::layout::{INT8_GROUP, PANEL};

/// Channels that one pass over the panel sums: two registers a row, 12 of the 16 at six rows.
const INT8_CHANNELS: usize = 8;
/// Columns of one int16 pass: two registers a row.
const INT16_COLUMNS: usize = 16;
/// Channels of one f32 pass: two registers a row.
const FLOAT_CHANNELS: usize = 16;

/// # Safety
/// The processor has the features; `x` holds `rows` rows of `4 * groups` bytes at `stride`, `panel` `groups * 256`
/// and `offsets` 64.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn int8_tile(
    x: &[u8],
    stride: usize,
    rows: usize,
    panel: &[i8],
    groups: usize,
    offsets: &[i32],
    sums: &mut Tile<i32>,
) {
    let (x, panel) = (x.as_ptr(), panel.as_ptr());
    for first in (0..PANEL).step_by(INT8_CHANNELS) {
        // SAFETY: passed on from the caller.
        unsafe {
            with_rows!(rows, int8_rows; x, stride, panel, groups, offsets, first, sums);
        }
    }
}

/// # Safety
/// As [`int8_tile`]; `first` is the first of the eight channels.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn int8_rows<const ROWS: usize>(
    x: *const u8,
    stride: usize,
    panel: *const i8,
    groups: usize,
    offsets: &[i32],
    first: usize,
    sums: &mut Tile<i32>,
) {
    // Each register: four channels by two partial sums (inputs 0+1 and 2+3 of every group).
    let mut acc = [[_mm256_setzero_si256(); 2]; ROWS];
    for group in 0..groups {
        // SAFETY: 32 bytes of row `group` of the panel, inside by the caller's promise.
        let weights = unsafe {
            let at = panel.add((group * PANEL + first) * INT8_GROUP);
            [
                _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast())),
                _mm256_cvtepi8_epi16(_mm_loadu_si128(at.add(16).cast())),
            ]
        };
        for row in 0..ROWS {
            // SAFETY: four codes of row `row`, inside by the caller's promise; read unaligned.
            let codes =
                unsafe { x.add(row * stride + group * INT8_GROUP).cast::<i32>().read_unaligned() };
            let codes = _mm256_cvtepu8_epi16(_mm_set1_epi32(codes));
            for part in 0..2 {
                let products = _mm256_madd_epi16(codes, weights[part]);
                acc[row][part] = _mm256_add_epi32(acc[row][part], products);
            }
        }
    }
    for row in 0..ROWS {
        // Horizontal adds work within 128-bit halves; the permutation puts channels in order.
        let pairs = _mm256_hadd_epi32(acc[row][0], acc[row][1]);
        let channels = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
        let offsets = &offsets[first..][..INT8_CHANNELS];
        // SAFETY: eight i32.
        let offsets = unsafe { _mm256_loadu_si256(offsets.as_ptr().cast::<__m256i>()) };
        let channels = _mm256_sub_epi32(channels, offsets);
        let target = &mut sums[row][first..][..INT8_CHANNELS];
        // SAFETY: eight i32.
        unsafe { _mm256_storeu_si256(target.as_mut_ptr().cast::<__m256i>(), channels) }
    }
}

/// # Safety
/// The processor has the features; `x` holds `rows` rows of `2 * pairs` at `stride`, `panel` `pairs * 2 * width`.
#[target_feature(enable = "avx2,fma")]
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
    for first in (0..width).step_by(INT16_COLUMNS) {
        // SAFETY: passed on from the caller; `width` is a multiple of 16.
        unsafe {
            with_rows!(rows, int16_rows; x, stride, panel, width, pairs, first, sums);
        }
    }
}

/// # Safety
/// As [`int16_tile`]; `first` is the first of the sixteen columns.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn int16_rows<const ROWS: usize>(
    x: *const i16,
    stride: usize,
    panel: *const i16,
    width: usize,
    pairs: usize,
    first: usize,
    sums: &mut Tile<i32>,
) {
    let mut acc = [[_mm256_setzero_si256(); 2]; ROWS];
    for pair in 0..pairs {
        // SAFETY: 64 bytes of row `pair` of the panel, inside by the caller's promise.
        let columns = unsafe {
            let at = panel.add((pair * width + first) * 2).cast::<__m256i>();
            [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))]
        };
        for row in 0..ROWS {
            // SAFETY: two values of row `row`, inside by the caller's promise; read unaligned.
            let values = unsafe { x.add(row * stride + 2 * pair).cast::<i32>().read_unaligned() };
            let values = _mm256_set1_epi32(values);
            for part in 0..2 {
                let products = _mm256_madd_epi16(values, columns[part]);
                acc[row][part] = _mm256_add_epi32(acc[row][part], products);
            }
        }
    }
    for row in 0..ROWS {
        let target = &mut sums[row][first..][..INT16_COLUMNS];
        // SAFETY: sixteen i32.
        unsafe {
            let target = target.as_mut_ptr().cast::<__m256i>();
            _mm256_storeu_si256(target, acc[row][0]);
            _mm256_storeu_si256(target.add(1), acc[row][1]);
        }
    }
}

macro_rules! float_tiles {
    ($tile:ident, $rows:ident, $element:ty, $load:ident) => {
        /// # Safety
        /// The processor has the features; `x` holds `rows` rows of `k` at `stride`, `panel` `k`
        /// rows of `width`.
        #[target_feature(enable = "avx2,fma")]
        unsafe fn $tile(
            x: *const f32,
            stride: usize,
            rows: usize,
            panel: *const $element,
            width: usize,
            k: usize,
            sums: &mut Tile<f32>,
        ) {
            for first in (0..width).step_by(FLOAT_CHANNELS) {
                // SAFETY: passed on from the caller; `width` is a multiple of 16.
                unsafe {
                    let panel = panel.add(first);
                    with_rows!(rows, $rows; x, stride, panel, width, k, first, sums);
                }
            }
        }

        /// # Safety
        /// As the tile; `panel` points at the first of 16 channels.
        #[target_feature(enable = "avx2,fma")]
        #[inline]
        unsafe fn $rows<const ROWS: usize>(
            x: *const f32,
            stride: usize,
            panel: *const $element,
            width: usize,
            k: usize,
            first: usize,
            sums: &mut Tile<f32>,
        ) {
            let mut acc = [[_mm256_setzero_ps(); 2]; ROWS];
            for input in 0..k {
                // SAFETY: 16 channels of row `input`, inside by the caller's promise.
                let weights = unsafe {
                    [$load(panel.add(input * width)), $load(panel.add(input * width + 8))]
                };
                for row in 0..ROWS {
                    // SAFETY: value `input` of row `row`, inside by the caller's promise.
                    let value = _mm256_set1_ps(unsafe { *x.add(row * stride + input) });
                    for part in 0..2 {
                        acc[row][part] = _mm256_fmadd_ps(value, weights[part], acc[row][part]);
                    }
                }
            }
            for row in 0..ROWS {
                let target = &mut sums[row][first..][..FLOAT_CHANNELS];
                // SAFETY: sixteen f32.
                unsafe {
                    _mm256_storeu_ps(target.as_mut_ptr(), acc[row][0]);
                    _mm256_storeu_ps(target.as_mut_ptr().add(8), acc[row][1]);
                }
            }
        }
    };
}

float_tiles!(f32_panel, f32_rows, f32, _mm256_loadu_ps);
float_tiles!(bf16_panel, bf16_rows, u16, load_bf16);

/// # Safety
/// As [`f32_panel`].
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn float_tile(
    x: &[f32],
    stride: usize,
    rows: usize,
    panel: &[f32],
    width: usize,
    k: usize,
    sums: &mut Tile<f32>,
) {
    // SAFETY: passed on from the caller.
    unsafe { f32_panel(x.as_ptr(), stride, rows, panel.as_ptr(), width, k, sums) }
}

/// # Safety
/// As [`f32_panel`] with a panel of 64 channels.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn bf16_tile(
    x: &[f32],
    stride: usize,
    rows: usize,
    panel: &[u16],
    k: usize,
    sums: &mut Tile<f32>,
) {
    // SAFETY: passed on from the caller.
    unsafe { bf16_panel(x.as_ptr(), stride, rows, panel.as_ptr(), PANEL, k, sums) }
}

/// # Safety
/// `from` points at 8 readable bf16.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load_bf16(from: *const u16) -> __m256 {
    // SAFETY: 16 bytes by the caller's promise.
    let halves = unsafe { _mm_loadu_si128(from.cast()) };
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
}
