//! Kernels for AVX2 with FMA.
//!
//! `VPMADDUBSW`, the usual int8 instruction here, saturates its 16-bit sums. So codes and weights
//! are widened to 16 bits and multiplied with `VPMADDWD`, whose 32-bit sums are exact.
#![allow(unsafe_code, reason = "vector loads and stores through pointers that operands check")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores are used")]
#![allow(clippy::needless_range_loop, reason = "as in the AVX-512 tiles: constant ranges unroll")]

pub(super) mod blocks;

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadu_si128, _mm_set1_epi32, _mm256_add_epi32, _mm256_castsi256_ps,
    _mm256_cvtepi8_epi16, _mm256_cvtepu8_epi16, _mm256_cvtepu16_epi32, _mm256_fmadd_ps,
    _mm256_hadd_epi32, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_permute4x64_epi64, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_storeu_si256,
    _mm256_sub_epi32,
};

use half::bf16;

use super::operands::{Bf16Operands, FloatOperands, Int8Operands, Int16Operands, Operands, RowOf};
use super::set::{KernelSet, Tile, Vectors};
use crate::layout::{INT8_GROUP, PANEL, PANELS_OF_64};

/// Rows of a tile; with two registers a row, 12 of the 16 hold sums.
pub(super) const ROWS: usize = 6;

/// Channels that one pass over an int8 panel sums.
const INT8_CHANNELS: usize = 8;
/// Rows of a tile of blocks: six times as many as the registers hold sums for, which share a run that is taken apart.
pub(super) const BLOCK_ROWS: usize = 24;
/// Columns of one int16 pass.
const INT16_COLUMNS: usize = 16;
/// Channels of one f32 pass.
const FLOAT_CHANNELS: usize = 16;

pub(super) const SET: KernelSet = KernelSet {
    name: "avx2",
    runs_here: || {
        // Every processor with AVX2 has the conversion of f16 as well.
        is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
    },
    vectors: Vectors::Avx2,
    layout: &PANELS_OF_64,
    int8: Tile { rows: ROWS, run: int8_tile },
    int16: Tile { rows: ROWS, run: int16_tile },
    float: Tile { rows: ROWS, run: float_tile },
    bf16: Tile { rows: ROWS, run: bf16_tile },
    blocks: Tile { rows: BLOCK_ROWS, run: blocks::tile },
    finished_int8: None,
    quantize: None,
    softmax: None,
    thread: None,
    peak: None,
};

#[target_feature(enable = "avx2,fma")]
fn int8_tile(operands: &Int8Operands<'_>, offsets: &RowOf<i32>, sums: &mut [RowOf<i32>]) {
    for first in (0..PANEL).step_by(INT8_CHANNELS) {
        with_rows!(operands.rows(), int8_rows; operands, offsets, first, sums);
    }
}

/// The channels from `first` on.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn int8_rows<const ROWS: usize>(
    operands: &Int8Operands<'_>,
    offsets: &RowOf<i32>,
    first: usize,
    sums: &mut [RowOf<i32>],
) {
    let offsets = &offsets[first..][..INT8_CHANNELS];
    let (x, stride) = (operands.first::<ROWS>(), operands.stride());
    let panel = operands.panel().as_ptr();
    // Each register: four channels by two partial sums (inputs 0+1 and 2+3 of every group).
    let mut acc = [[_mm256_setzero_si256(); 2]; ROWS];
    for group in 0..operands.groups() {
        // SAFETY: 32 bytes of the panel's group, which is 256 long.
        let weights = unsafe {
            let at = panel.add((group * PANEL + first) * INT8_GROUP);
            [
                _mm256_cvtepi8_epi16(_mm_loadu_si128(at.cast())),
                _mm256_cvtepi8_epi16(_mm_loadu_si128(at.add(16).cast())),
            ]
        };
        for row in 0..ROWS {
            // SAFETY: four codes of row `row`, which has as many groups as the panel; read unaligned.
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
        let target = &mut sums[row][first..][..INT8_CHANNELS];
        // SAFETY: eight i32 each.
        unsafe {
            let offsets = _mm256_loadu_si256(offsets.as_ptr().cast::<__m256i>());
            let channels = _mm256_sub_epi32(channels, offsets);
            _mm256_storeu_si256(target.as_mut_ptr().cast::<__m256i>(), channels);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn int16_tile(operands: &Int16Operands<'_>, sums: &mut [RowOf<i32>]) {
    for first in (0..operands.columns()).step_by(INT16_COLUMNS) {
        with_rows!(operands.rows(), int16_rows; operands, first, sums);
    }
}

/// The columns from `first` on, of which there are whole passes.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn int16_rows<const ROWS: usize>(
    operands: &Int16Operands<'_>,
    first: usize,
    sums: &mut [RowOf<i32>],
) {
    let (x, stride) = (operands.first::<ROWS>(), operands.stride());
    let (panel, width) = (operands.panel().as_ptr(), operands.columns());
    assert!(first + INT16_COLUMNS <= width, "columns of a pass");
    let mut acc = [[_mm256_setzero_si256(); 2]; ROWS];
    if operands.onto() {
        for row in 0..ROWS {
            let held = &sums[row][first..][..INT16_COLUMNS];
            // SAFETY: sixteen i32.
            acc[row] = unsafe {
                let held = held.as_ptr().cast::<__m256i>();
                [_mm256_loadu_si256(held), _mm256_loadu_si256(held.add(1))]
            };
        }
    }
    for pair in 0..operands.groups() {
        // SAFETY: 64 bytes of the panel's pair of inputs.
        let columns = unsafe {
            let at = panel.add((pair * width + first) * 2).cast::<__m256i>();
            [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))]
        };
        for row in 0..ROWS {
            // SAFETY: two values of row `row`, which has as many pairs as the panel; read unaligned.
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

/// Elements of float panels.
trait Weight: Sized {
    /// Eight of them as f32.
    ///
    /// # Safety
    /// `from` points at as many that may be read, and the processor has AVX2.
    unsafe fn load(from: *const Self) -> __m256;
}

impl Weight for f32 {
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn load(from: *const Self) -> __m256 {
        // SAFETY: passed on from the caller.
        unsafe { _mm256_loadu_ps(from) }
    }
}

impl Weight for bf16 {
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn load(from: *const Self) -> __m256 {
        // SAFETY: 16 bytes and instructions, passed on from the caller.
        unsafe {
            let halves = _mm_loadu_si128(from.cast());
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
        }
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn float_tile(operands: &FloatOperands<'_>, sums: &mut [RowOf<f32>]) {
    for first in (0..operands.columns()).step_by(FLOAT_CHANNELS) {
        with_rows!(operands.rows(), float_rows of f32; operands, first, sums);
    }
}

#[target_feature(enable = "avx2,fma")]
pub(super) fn bf16_tile(operands: &Bf16Operands<'_>, sums: &mut [RowOf<f32>]) {
    for first in (0..operands.columns()).step_by(FLOAT_CHANNELS) {
        with_rows!(operands.rows(), float_rows of bf16; operands, first, sums);
    }
}

/// The channels from `first` on, of which there are whole passes.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn float_rows<const ROWS: usize, W: Weight>(
    operands: &Operands<'_, f32, W, 1>,
    first: usize,
    sums: &mut [RowOf<f32>],
) {
    let (x, stride) = (operands.first::<ROWS>(), operands.stride());
    let (panel, width) = (operands.panel().as_ptr(), operands.columns());
    assert!(first + FLOAT_CHANNELS <= width, "channels of a pass");
    let mut acc = [[_mm256_setzero_ps(); 2]; ROWS];
    if operands.onto() {
        for row in 0..ROWS {
            let held = &sums[row][first..][..FLOAT_CHANNELS];
            // SAFETY: sixteen f32.
            acc[row] =
                unsafe { [_mm256_loadu_ps(held.as_ptr()), _mm256_loadu_ps(held.as_ptr().add(8))] };
        }
    }
    for input in 0..operands.groups() {
        // SAFETY: 16 channels of the panel's input.
        let weights = unsafe {
            let at = panel.add(input * width + first);
            [W::load(at), W::load(at.add(8))]
        };
        for row in 0..ROWS {
            // SAFETY: a value of row `row`, which has as many inputs as the panel.
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
