//! AVX-VNNI: `VPDPBUSD` on 256 bits, on processors without AVX-512. All but its tiles of 8-bit products are AVX2's.
#![allow(unsafe_code, reason = "vector loads and stores through pointers that operands check")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores are used")]
#![allow(clippy::needless_range_loop, reason = "as in the AVX-512 tiles: constant ranges unroll")]

pub(super) mod blocks;

use std::arch::x86_64::{
    __m256i, _mm256_dpbusd_avx_epi32, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_setzero_si256,
    _mm256_storeu_si256, _mm256_sub_epi32,
};

use super::avx2;
use super::operands::{Int8Operands, RowOf};
use super::set::{KernelSet, Tile};
use crate::layout::{INT8_GROUP, PANEL};

/// Channels that one pass over the panel sums: two registers a row, 12 of the 16 at six rows.
const CHANNELS: usize = 16;

pub(super) const SET: KernelSet = KernelSet {
    name: "avx-vnni",
    runs_here: || (avx2::SET.runs_here)() && is_x86_feature_detected!("avxvnni"),
    int8: Tile { rows: avx2::ROWS, run: int8_tile },
    blocks: Tile { rows: avx2::BLOCK_ROWS, run: blocks::tile },
    ..avx2::SET
};

#[target_feature(enable = "avx2,fma,avxvnni")]
fn int8_tile(operands: &Int8Operands<'_>, offsets: &RowOf<i32>, sums: &mut [RowOf<i32>]) {
    for first in (0..PANEL).step_by(CHANNELS) {
        with_rows!(operands.rows(), int8_rows; operands, offsets, first, sums);
    }
}

/// The channels from `first` on.
#[target_feature(enable = "avx2,fma,avxvnni")]
#[inline]
fn int8_rows<const ROWS: usize>(
    operands: &Int8Operands<'_>,
    offsets: &RowOf<i32>,
    first: usize,
    sums: &mut [RowOf<i32>],
) {
    let offsets = &offsets[first..][..CHANNELS];
    let (x, stride) = (operands.first::<ROWS>(), operands.stride());
    let panel = operands.panel().as_ptr();
    let mut acc = [[_mm256_setzero_si256(); 2]; ROWS];
    for group in 0..operands.groups() {
        // SAFETY: 64 bytes of the panel's group, which is 256 long.
        let weights = unsafe {
            let at = panel.add((group * PANEL + first) * INT8_GROUP).cast::<__m256i>();
            [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))]
        };
        for row in 0..ROWS {
            // SAFETY: four codes of row `row`, which has as many groups as the panel; read unaligned.
            let codes =
                unsafe { x.add(row * stride + group * INT8_GROUP).cast::<i32>().read_unaligned() };
            let codes = _mm256_set1_epi32(codes);
            for part in 0..2 {
                acc[row][part] = _mm256_dpbusd_avx_epi32(acc[row][part], codes, weights[part]);
            }
        }
    }
    for row in 0..ROWS {
        let target = &mut sums[row][first..][..CHANNELS];
        // SAFETY: sixteen i32 each.
        unsafe {
            let offsets = offsets.as_ptr().cast::<__m256i>();
            let target = target.as_mut_ptr().cast::<__m256i>();
            for part in 0..2 {
                let sums = _mm256_sub_epi32(acc[row][part], _mm256_loadu_si256(offsets.add(part)));
                _mm256_storeu_si256(target.add(part), sums);
            }
        }
    }
}
