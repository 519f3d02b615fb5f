//! An int8 tile that leaves its registers as finished values: scaled, biased, activated, combined with the output.
//!
//! Sums that went through memory would be stored, loaded and waited for once a tile, which a short product has no time
//! to hide. The steps and their order are those of `epilogue`, and give the same bits.
#![allow(unsafe_code, reason = "vector loads and stores through pointers that callers checked")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores are used")]
#![allow(clippy::needless_range_loop, reason = "as in the other tiles: constant ranges unroll")]

use std::arch::x86_64::{
    __m512i, _MM_HINT_ET0, _mm_prefetch, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_storeu_ps, _mm512_sub_epi32,
};

use super::super::epilogue::Channels;
use super::super::{TILE_ROWS, Tile};
use super::{LANES, REGISTERS, vector_math};
use crate::layout::{INT8_GROUP, PANEL};

/// What is done with a scaled and biased value.
#[derive(Clone, Copy)]
pub(crate) enum Step<'a> {
    /// It replaces the output.
    Replace,
    /// It is added to the output.
    Add,
    /// Its GELU replaces the output.
    Gelu,
    /// Its `SiLU` replaces the output.
    Silu,
    /// Its product with another tile's value replaces the output.
    Multiply(&'a Tile<f32>),
}

/// [`Step`] as a constant: each has a loop of its own, whose sums never leave their registers.
const REPLACE: u8 = 0;
const ADD: u8 = 1;
const GELU: u8 = 2;
const SILU: u8 = 3;
const MULTIPLY: u8 = 4;

/// The operands of a tile.
pub(crate) struct Operands<'a> {
    pub(crate) x: &'a [u8],
    pub(crate) stride: usize,
    pub(crate) panel: &'a [i8],
    pub(crate) offsets: &'a [i32],
    pub(crate) row_scales: &'a [f32],
    pub(crate) channels: Channels<'a>,
}

/// # Safety
/// The processor has the features; `x` holds as many rows as there are row scales, at most six, at `stride`, each of
/// the panel's inputs, `panel` holds whole groups of 256 bytes, `offsets` 64; so many rows of 64 floats at
/// `out_stride` may be read and written.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(crate) unsafe fn int8_tile(
    operands: &Operands<'_>,
    step: Step<'_>,
    out: *mut f32,
    out_stride: usize,
) {
    let rows = operands.row_scales.len();
    let none = &NO_TILE;
    // SAFETY: passed on from the caller.
    unsafe {
        match step {
            Step::Replace => with_rows!(rows, replace; operands, none, out, out_stride),
            Step::Add => with_rows!(rows, add; operands, none, out, out_stride),
            Step::Gelu => with_rows!(rows, gelu; operands, none, out, out_stride),
            Step::Silu => with_rows!(rows, silu; operands, none, out, out_stride),
            Step::Multiply(other) => with_rows!(rows, multiply; operands, other, out, out_stride),
        }
    }
}

static NO_TILE: Tile<f32> = [[0.0; PANEL]; TILE_ROWS];

macro_rules! steps {
    ($($name:ident $step:ident),*) => {
        $(
            /// # Safety
            /// As [`int8_tile`].
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
            unsafe fn $name<const ROWS: usize>(
                operands: &Operands<'_>,
                other: &Tile<f32>,
                out: *mut f32,
                out_stride: usize,
            ) {
                // SAFETY: passed on from the caller.
                unsafe { int8_rows::<ROWS, $step>(operands, other, out, out_stride) }
            }
        )*
    };
}

steps!(replace REPLACE, add ADD, gelu GELU, silu SILU, multiply MULTIPLY);

/// # Safety
/// As [`int8_tile`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
unsafe fn int8_rows<const ROWS: usize, const STEP: u8>(
    operands: &Operands<'_>,
    other: &Tile<f32>,
    out: *mut f32,
    out_stride: usize,
) {
    let Operands { x, stride, panel, offsets, row_scales, channels } = operands;
    let groups = panel.len() / (PANEL * INT8_GROUP);
    if STEP == ADD {
        // What is added to comes while the sums are computed.
        for row in 0..ROWS {
            for part in 0..REGISTERS {
                let line = out.wrapping_add(row * out_stride + part * LANES);
                _mm_prefetch::<_MM_HINT_ET0>(line.cast());
            }
        }
    }
    // SAFETY: passed on from the caller.
    let acc = unsafe { int8_sums!(ROWS, x.as_ptr(), *stride, panel.as_ptr(), groups, offsets) };
    // Row by row, as the output lies. Written out, because sums that a loop indexes go through memory.
    macro_rules! value {
        ($row:literal, $part:literal) => {
            let first = $part * LANES;
            let row_scale = _mm512_set1_ps(row_scales[$row]);
            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[$row][$part]), row_scale);
            // SAFETY: 16 of 64 values each; 16 values of a row that may be read and written, by the caller's promise;
            // 16 of the other tile's 64.
            unsafe {
                let scales = _mm512_loadu_ps(channels.scales.as_ptr().add(first));
                let bias = _mm512_loadu_ps(channels.bias.as_ptr().add(first));
                let value = _mm512_fmadd_ps(scaled, scales, bias);
                let target = out.wrapping_add($row * out_stride + first);
                let value = match STEP {
                    ADD => _mm512_add_ps(_mm512_loadu_ps(target), value),
                    GELU => vector_math::gelu(value),
                    SILU => vector_math::silu(value),
                    MULTIPLY => {
                        _mm512_mul_ps(_mm512_loadu_ps(other[$row].as_ptr().add(first)), value)
                    }
                    _ => value,
                };
                _mm512_storeu_ps(target, value);
            }
        };
    }
    macro_rules! rows {
        ($($row:literal)*) => {
            $(
                if ROWS > $row {
                    value!($row, 0);
                    value!($row, 1);
                    value!($row, 2);
                    value!($row, 3);
                }
            )*
        };
    }
    rows!(0 1 2 3 4 5);
}

const _: () = assert!(REGISTERS * LANES == PANEL);
