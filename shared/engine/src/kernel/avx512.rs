//! Kernels for AVX-512 with VNNI; tiles of up to 6 rows by 4 registers of 16 channels.
#![allow(unsafe_code, reason = "vector loads and stores through pointers that operands check")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores are used")]
#![allow(
    clippy::needless_range_loop,
    reason = "constant ranges unroll and keep the accumulators in registers; zipped iterators were \
              measured to spill them, at a fifth of the speed"
)]

use std::arch::x86_64::{
    __m512, __m512i, _mm256_loadu_si256, _mm512_add_epi32, _mm512_castsi512_ps,
    _mm512_cvtepu16_epi32, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_reduce_add_epi32, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_storeu_ps,
    _mm512_storeu_si512, _mm512_sub_epi32,
};

use half::bf16;

use super::operands::{Bf16Operands, FloatOperands, Int8Operands, Int16Operands, Operands, RowOf};
use super::set::{KernelSet, LANES, Peak, Quantize, Softmax, Tile, Vectors};
use crate::layout::{INT8_GROUP, PANEL, PANELS_OF_64};

/// Registers across a panel.
const REGISTERS: usize = PANEL / LANES;

/// Rows of a tile: 24 of the 32 registers hold sums.
const ROWS: usize = 6;

/// Rows of a tile of blocks: four times as many as the registers hold sums for, which share a run that is taken apart.
const BLOCK_ROWS: usize = 4 * ROWS;

pub(super) const SET: KernelSet = KernelSet {
    name: "avx512-vnni",
    runs_here: || {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
    },
    vectors: Vectors::Avx512,
    layout: &PANELS_OF_64,
    int8: Tile { rows: ROWS, run: int8_tile },
    int16: Tile { rows: ROWS, run: int16_tile },
    float: Tile { rows: ROWS, run: float_tile },
    bf16: Tile { rows: ROWS, run: bf16_tile },
    blocks: Tile { rows: BLOCK_ROWS, run: blocks::tile },
    finished_int8: Some(fused::int8_tile),
    quantize: Some(Quantize {
        largest_magnitude: quantize::largest_magnitude,
        encode: quantize::encode,
    }),
    softmax: Some(Softmax {
        largest: softmax::largest,
        exponentials: softmax::exponentials,
        round: softmax::round,
    }),
    thread: None,
    peak: Some(Peak { run: multiply_registers, multiplies: CHAINS * LANES * INT8_GROUP }),
};

/// The sums of a tile, in registers: a macro, because a function would hand them over through memory.
///
/// To be used in an unsafe block, for operands of a whole panel.
macro_rules! int8_sums {
    ($rows:ident, $operands:expr, $offsets:expr) => {{
        let operands: &Int8Operands<'_> = $operands;
        let offsets: &RowOf<i32> = $offsets;
        let (x, stride) = (operands.first::<$rows>(), operands.stride());
        let panel = operands.panel().as_ptr();
        let mut acc = [[_mm512_setzero_si512(); REGISTERS]; $rows];
        for part in 0..REGISTERS {
            let offsets = &offsets[part * LANES..][..LANES];
            let offsets = _mm512_loadu_si512(offsets.as_ptr().cast());
            for row in 0..$rows {
                acc[row][part] = _mm512_sub_epi32(acc[row][part], offsets);
            }
        }
        for group in 0..operands.groups() {
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

mod blocks;
mod fused;
mod quantize;
mod softmax;
mod vector_math;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn int8_tile(operands: &Int8Operands<'_>, offsets: &RowOf<i32>, sums: &mut [RowOf<i32>]) {
    with_rows!(operands.rows(), int8_rows; operands, offsets, sums);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn int8_rows<const ROWS: usize>(
    operands: &Int8Operands<'_>,
    offsets: &RowOf<i32>,
    sums: &mut [RowOf<i32>],
) {
    let sums = &mut sums[..ROWS];
    // SAFETY: the operands of a whole panel.
    let acc = unsafe { int8_sums!(ROWS, operands, offsets) };
    for row in 0..ROWS {
        for part in 0..REGISTERS {
            let target = &mut sums[row][part * LANES..][..LANES];
            // SAFETY: 16 i32.
            unsafe { _mm512_storeu_si512(target.as_mut_ptr().cast(), acc[row][part]) }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn int16_tile(operands: &Int16Operands<'_>, sums: &mut [RowOf<i32>]) {
    match operands.columns() / LANES {
        1 => with_rows!(operands.rows(), int16_16; operands, sums),
        2 => with_rows!(operands.rows(), int16_32; operands, sums),
        3 => with_rows!(operands.rows(), int16_48; operands, sums),
        _ => with_rows!(operands.rows(), int16_64; operands, sums),
    }
}

/// `VPDPWSSD`: adds the products of pairs to sums. As the intrinsic, the compiler takes most apart again, into a multiply
/// and an addition.
#[target_feature(enable = "avx512f,avx512vnni")]
#[inline]
fn add_pairs(mut sums: __m512i, x: __m512i, y: __m512i) -> __m512i {
    // SAFETY: an instruction on registers, which the processor has.
    unsafe {
        std::arch::asm!(
            "vpdpwssd {sums}, {x}, {y}",
            sums = inout(zmm_reg) sums,
            x = in(zmm_reg) x,
            y = in(zmm_reg) y,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

macro_rules! int16_rows {
    ($name:ident, $registers:literal) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
        #[inline]
        fn $name<const ROWS: usize>(operands: &Int16Operands<'_>, sums: &mut [RowOf<i32>]) {
            let (x, stride) = (operands.first::<ROWS>(), operands.stride());
            let panel = operands.panel().as_ptr();
            assert_eq!(operands.columns(), $registers * LANES, "columns of a tile");
            let sums = &mut sums[..ROWS];
            let mut acc = [[_mm512_setzero_si512(); $registers]; ROWS];
            if operands.onto() {
                for row in 0..ROWS {
                    for part in 0..$registers {
                        let held = &sums[row][part * LANES..][..LANES];
                        // SAFETY: 16 i32.
                        acc[row][part] = unsafe { _mm512_loadu_si512(held.as_ptr().cast()) };
                    }
                }
            }
            for pair in 0..operands.groups() {
                let mut columns = [_mm512_setzero_si512(); $registers];
                for part in 0..$registers {
                    let at = panel.wrapping_add((pair * $registers + part) * 2 * LANES);
                    // SAFETY: 16 columns of the panel's pair of inputs.
                    columns[part] = unsafe { _mm512_loadu_si512(at.cast::<__m512i>()) };
                }
                for row in 0..ROWS {
                    let at = x.wrapping_add(row * stride + 2 * pair).cast::<i32>();
                    // SAFETY: two values of row `row`, which has as many pairs as the panel.
                    let values = unsafe { at.read_unaligned() };
                    let values = _mm512_set1_epi32(values);
                    for part in 0..$registers {
                        acc[row][part] = add_pairs(acc[row][part], values, columns[part]);
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

/// Does nothing but multiply: what no product can exceed.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
fn multiply_registers(rounds: usize) -> i32 {
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

/// Elements of float panels.
trait Weight: Sized {
    /// Sixteen of them as f32.
    ///
    /// # Safety
    /// `from` points at as many that may be read, and the processor has AVX-512 F.
    unsafe fn load(from: *const Self) -> __m512;
}

impl Weight for f32 {
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn load(from: *const Self) -> __m512 {
        // SAFETY: passed on from the caller.
        unsafe { _mm512_loadu_ps(from) }
    }
}

impl Weight for bf16 {
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn load(from: *const Self) -> __m512 {
        // SAFETY: 32 bytes by the caller's promise.
        let halves = unsafe { _mm256_loadu_si256(from.cast()) };
        _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn float_tile(operands: &FloatOperands<'_>, sums: &mut [RowOf<f32>]) {
    match operands.columns() / LANES {
        1 => with_rows!(operands.rows(), float_16 of f32; operands, sums),
        2 => with_rows!(operands.rows(), float_32 of f32; operands, sums),
        3 => with_rows!(operands.rows(), float_48 of f32; operands, sums),
        _ => with_rows!(operands.rows(), float_64 of f32; operands, sums),
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
fn bf16_tile(operands: &Bf16Operands<'_>, sums: &mut [RowOf<f32>]) {
    with_rows!(operands.rows(), float_64 of bf16; operands, sums);
}

macro_rules! float_rows {
    ($name:ident, $registers:literal) => {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        #[inline]
        fn $name<const ROWS: usize, W: Weight>(
            operands: &Operands<'_, f32, W, 1>,
            sums: &mut [RowOf<f32>],
        ) {
            let (x, stride) = (operands.first::<ROWS>(), operands.stride());
            let panel = operands.panel().as_ptr();
            assert_eq!(operands.columns(), $registers * LANES, "columns of a tile");
            let sums = &mut sums[..ROWS];
            let mut acc = [[_mm512_setzero_ps(); $registers]; ROWS];
            if operands.onto() {
                for row in 0..ROWS {
                    for part in 0..$registers {
                        let held = &sums[row][part * LANES..][..LANES];
                        // SAFETY: 16 f32.
                        acc[row][part] = unsafe { _mm512_loadu_ps(held.as_ptr()) };
                    }
                }
            }
            for input in 0..operands.groups() {
                let mut weights = [_mm512_setzero_ps(); $registers];
                for part in 0..$registers {
                    let at = panel.wrapping_add((input * $registers + part) * LANES);
                    // SAFETY: 16 columns of the panel's input.
                    weights[part] = unsafe { W::load(at) };
                }
                for row in 0..ROWS {
                    // SAFETY: a value of row `row`, which has as many inputs as the panel.
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

float_rows!(float_16, 1);
float_rows!(float_32, 2);
float_rows!(float_48, 3);
float_rows!(float_64, 4);
