//! An int8 tile that leaves its registers as finished values: scaled, biased, activated, combined with the output.
//!
//! Sums that went through memory would be stored, loaded and waited for once a tile, which a short product has no time
//! to hide. The steps and their order are those of `epilogue`, and give the same bits.
#![allow(unsafe_code, reason = "vector loads and stores through pointers that operands check")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores are used")]
#![allow(clippy::needless_range_loop, reason = "as in the other tiles: constant ranges unroll")]

use std::arch::x86_64::{
    __m512i, _MM_HINT_ET0, _mm_prefetch, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_si512, _mm512_storeu_ps, _mm512_sub_epi32,
};

use super::super::operands::{Int8Operands, OutRows, RowOf, Scaled, Step};
use super::{LANES, REGISTERS, vector_math};
use crate::layout::{INT8_GROUP, PANEL};

/// [`Step`] as a constant: each has a loop of its own, whose sums never leave their registers.
const REPLACE: u8 = 0;
const ADD: u8 = 1;
const GELU: u8 = 2;
const SILU: u8 = 3;
const MULTIPLY: u8 = 4;

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) fn int8_tile(scaled: &Scaled<'_>, step: Step<'_>, out: &mut OutRows<'_>) {
    let rows = scaled.operands.rows();
    match step {
        Step::Replace => with_rows!(rows, replace; scaled, &[], out),
        Step::Add => with_rows!(rows, add; scaled, &[], out),
        Step::Gelu => with_rows!(rows, gelu; scaled, &[], out),
        Step::Silu => with_rows!(rows, silu; scaled, &[], out),
        Step::Multiply(other) => with_rows!(rows, multiply; scaled, other, out),
    }
}

macro_rules! steps {
    ($($name:ident $step:ident),*) => {
        $(
            #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
            fn $name<const ROWS: usize>(
                scaled: &Scaled<'_>,
                other: &[RowOf<f32>],
                out: &mut OutRows<'_>,
            ) {
                int8_rows::<ROWS, $step>(scaled, other, out);
            }
        )*
    };
}

steps!(replace REPLACE, add ADD, gelu GELU, silu SILU, multiply MULTIPLY);

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
#[inline]
fn int8_rows<const ROWS: usize, const STEP: u8>(
    scaled: &Scaled<'_>,
    other: &[RowOf<f32>],
    out: &mut OutRows<'_>,
) {
    let Scaled { operands, offsets, row_scales, channels } = scaled;
    let row_scales = &row_scales[..ROWS];
    let other = if STEP == MULTIPLY { &other[..ROWS] } else { &[] };
    let (out, out_stride) = (out.first::<ROWS>(), out.stride());
    if STEP == ADD {
        // What is added to comes while the sums are computed.
        for row in 0..ROWS {
            for part in 0..REGISTERS {
                let line = out.wrapping_add(row * out_stride + part * LANES);
                _mm_prefetch::<_MM_HINT_ET0>(line.cast());
            }
        }
    }
    // SAFETY: the operands of a whole panel.
    let acc = unsafe { int8_sums!(ROWS, operands, offsets) };
    // Row by row, as the output lies. Written out, because sums that a loop indexes go through memory.
    macro_rules! value {
        ($row:literal, $part:literal) => {
            let first = $part * LANES;
            let row_scale = _mm512_set1_ps(row_scales[$row]);
            let scaled = _mm512_mul_ps(_mm512_cvtepi32_ps(acc[$row][$part]), row_scale);
            // SAFETY: 16 of 64 values each; 16 values of one of the `ROWS` rows that may be read and written.
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
