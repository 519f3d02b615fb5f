//! Quantises a row with AVX-512: 64 values a step, twice over a row that stays in the first-level cache.
#![allow(unsafe_code, reason = "vector loads and stores through pointers into checked chunks")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned stores are used")]
#![allow(clippy::needless_range_loop, reason = "constant ranges unroll and keep registers")]

use std::arch::x86_64::{
    __m128i, _mm_set1_epi8, _mm_storeu_si128, _mm_xor_si128, _mm512_and_si512, _mm512_castps_si512,
    _mm512_cvtepi32_epi8, _mm512_cvtps_epi32, _mm512_loadu_ps, _mm512_max_epu32, _mm512_mul_ps,
    _mm512_reduce_max_epu32, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512,
};

/// Values of a register.
pub(super) const LANES: usize = 16;
/// Registers of one step: independent work hides latencies.
const REGISTERS: usize = 4;
/// Values of one step.
pub(super) const STEP: usize = LANES * REGISTERS;

/// The bits of the largest magnitude of whole registers of `row`; the caller sees to the rest.
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
    for register in row.chunks_exact(STEP).remainder().chunks_exact(LANES) {
        // SAFETY: 16 values.
        let values = unsafe { _mm512_loadu_ps(register.as_ptr()) };
        let magnitude = _mm512_and_si512(_mm512_castps_si512(values), sign);
        largest[0] = _mm512_max_epu32(largest[0], magnitude);
    }
    let [a, b, c, d] = largest;
    _mm512_reduce_max_epu32(_mm512_max_epu32(_mm512_max_epu32(a, b), _mm512_max_epu32(c, d)))
}

/// `code = round(value * inverse) + 128` for whole steps; returns how many values that were.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn encode(row: &[f32], inverse: f32, codes: &mut [u8]) -> usize {
    let inverse = _mm512_set1_ps(inverse);
    let flip = _mm_set1_epi8(-128);
    for (step, codes) in row.chunks_exact(STEP).zip(codes.chunks_exact_mut(STEP)) {
        for part in 0..REGISTERS {
            // SAFETY: 16 of the step's 64 values, and of its 64 codes.
            unsafe {
                let values = _mm512_loadu_ps(step.as_ptr().add(part * LANES));
                let rounded = _mm512_cvtps_epi32(_mm512_mul_ps(values, inverse));
                let bytes = _mm_xor_si128(_mm512_cvtepi32_epi8(rounded), flip);
                _mm_storeu_si128(codes.as_mut_ptr().add(part * LANES).cast::<__m128i>(), bytes);
            }
        }
    }
    row.len() / STEP * STEP
}
