//! The int8 tile for AVX-VNNI: `VPDPBUSD` on 256 bits, on processors without AVX-512. Everything else is AVX2's.
#![allow(unsafe_code, reason = "vector loads and stores through pointers that callers checked")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores are used")]
#![allow(clippy::needless_range_loop, reason = "as in the AVX-512 tiles: constant ranges unroll")]

use std::arch::x86_64::{
    __m256i, _mm256_dpbusd_avx_epi32, _mm256_loadu_si256, _mm256_set1_epi32, _mm256_setzero_si256,
    _mm256_storeu_si256, _mm256_sub_epi32,
};

use super::Tile;
use crate::layout::{INT8_GROUP, PANEL};

/// Channels that one pass over the panel sums: two registers a row, 12 of the 16 at six rows.
const CHANNELS: usize = 16;

/// # Safety
/// The processor has the features; `x` holds `rows` rows of `4 * groups` bytes at `stride`, `panel` `groups * 256`
/// and `offsets` 64.
#[target_feature(enable = "avx2,fma,avxvnni")]
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
    for first in (0..PANEL).step_by(CHANNELS) {
        // SAFETY: passed on from the caller.
        unsafe {
            with_rows!(rows, int8_rows; x, stride, panel, groups, offsets, first, sums);
        }
    }
}

/// # Safety
/// As [`int8_tile`]; `first` is the first of the sixteen channels.
#[target_feature(enable = "avx2,fma,avxvnni")]
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
    let mut acc = [[_mm256_setzero_si256(); 2]; ROWS];
    for group in 0..groups {
        // SAFETY: 64 bytes of row `group` of the panel, inside by the caller's promise.
        let weights = unsafe {
            let at = panel.add((group * PANEL + first) * INT8_GROUP).cast::<__m256i>();
            [_mm256_loadu_si256(at), _mm256_loadu_si256(at.add(1))]
        };
        for row in 0..ROWS {
            // SAFETY: four codes of row `row`, inside by the caller's promise; read unaligned.
            let codes =
                unsafe { x.add(row * stride + group * INT8_GROUP).cast::<i32>().read_unaligned() };
            let codes = _mm256_set1_epi32(codes);
            for part in 0..2 {
                acc[row][part] = _mm256_dpbusd_avx_epi32(acc[row][part], codes, weights[part]);
            }
        }
    }
    let offsets = &offsets[first..][..CHANNELS];
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
