//! Quantises a row with AVX-512: 64 values a step, twice over a row that stays in the first-level cache.
#![allow(unsafe_code, reason = "vector loads and stores through pointers into checked chunks")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned stores are used")]
#![allow(clippy::needless_range_loop, reason = "constant ranges unroll and keep registers")]

use std::arch::x86_64::{
    __m128i, _mm_set1_epi8, _mm_storeu_si128, _mm_xor_si128, _mm512_and_si512, _mm512_castps_si512,
    _mm512_cvtepi32_epi8, _mm512_cvtps_epi32, _mm512_loadu_ps, _mm512_max_epu32, _mm512_mul_ps,
    _mm512_reduce_max_epu32, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512,
};

use super::LANES;
use crate::quantize::{ZERO, plain_codes};

/// Registers of one step: independent work hides latencies.
const REGISTERS: usize = 4;
/// Values of one step.
const STEP: usize = LANES * REGISTERS;

/// The bits of the largest magnitude.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn largest_magnitude(row: &[f32]) -> u32 {
    let sign = _mm512_set1_epi32(0x7fff_ffff);
    let mut largest = [_mm512_setzero_si512(); REGISTERS];
    for step in row.chunks_exact(STEP) {
        for part in 0..REGISTERS {
            // SAFETY: 16 of the step's 64 values.
            let values = unsafe { _mm512_loadu_ps(step.as_ptr().add(part * LANES)) };
            let magnitude = _mm512_and_si512(_mm512_castps_si512(values), sign);
            largest[part] = _mm512_max_epu32(largest[part], magnitude);
        }
    }
    let registers = row.chunks_exact(STEP).remainder().chunks_exact(LANES);
    let rest = registers.remainder().iter().map(|value| value.to_bits() & 0x7fff_ffff);
    for register in registers.clone() {
        // SAFETY: 16 values.
        let values = unsafe { _mm512_loadu_ps(register.as_ptr()) };
        let magnitude = _mm512_and_si512(_mm512_castps_si512(values), sign);
        largest[0] = _mm512_max_epu32(largest[0], magnitude);
    }
    let [a, b, c, d] = largest;
    let largest = _mm512_max_epu32(_mm512_max_epu32(a, b), _mm512_max_epu32(c, d));
    rest.fold(_mm512_reduce_max_epu32(largest), u32::max)
}

/// `code = round(value * inverse) + 128`; what is longer than the row becomes the code of zero.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn encode(row: &[f32], inverse: f32, codes: &mut [u8]) {
    let (codes, tail) = codes.split_at_mut(row.len());
    let (steps, mut codes) = (row.chunks_exact(STEP), codes.chunks_exact_mut(STEP));
    let rest = steps.remainder();
    let factor = _mm512_set1_ps(inverse);
    let flip = _mm_set1_epi8(-128);
    for (step, codes) in steps.zip(&mut codes) {
        for part in 0..REGISTERS {
            // SAFETY: 16 of the step's 64 values, and of its 64 codes.
            unsafe {
                let values = _mm512_loadu_ps(step.as_ptr().add(part * LANES));
                let rounded = _mm512_cvtps_epi32(_mm512_mul_ps(values, factor));
                let bytes = _mm_xor_si128(_mm512_cvtepi32_epi8(rounded), flip);
                _mm_storeu_si128(codes.as_mut_ptr().add(part * LANES).cast::<__m128i>(), bytes);
            }
        }
    }
    plain_codes(rest, inverse, codes.into_remainder());
    tail.fill(ZERO);
}
