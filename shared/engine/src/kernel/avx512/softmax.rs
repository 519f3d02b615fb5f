//! The inner loops of attention in integers with AVX-512, operation for operation those of the plain ones.
#![allow(unsafe_code, reason = "vector loads and stores of whole registers inside checked chunks")]
#![allow(clippy::cast_ptr_alignment, reason = "only unaligned loads and stores are used")]

use std::arch::x86_64::{
    __m256i, __m512, _CMP_LT_OQ, _mm256_storeu_si256, _mm512_add_epi32, _mm512_add_ps,
    _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cmp_ps_mask, _mm512_cvtepi32_epi16,
    _mm512_cvtps_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_mov_ps, _mm512_max_ps,
    _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32,
    _mm512_storeu_ps, _mm512_sub_ps,
};

use super::LANES;
use crate::kernel::set::LaneSums;
use crate::math::{EXP2, LEAST_EXP2, ROUND};

/// `codes = round(vector * factor)` of whole registers.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn round(vector: &[[f32; LANES]], factor: f32, codes: &mut [[i16; LANES]]) {
    let factor = _mm512_set1_ps(factor);
    for (values, codes) in vector.iter().zip(codes) {
        // SAFETY: 16 values and 16 codes.
        unsafe {
            let values = _mm512_mul_ps(_mm512_loadu_ps(values.as_ptr()), factor);
            let rounded = _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(values));
            _mm256_storeu_si256(codes.as_mut_ptr().cast::<__m256i>(), rounded);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
fn lanes(register: __m512) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    // SAFETY: 16 values.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), register) }
    lanes
}

/// The largest score in each lane.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn largest(scores: &[[f32; LANES]]) -> [f32; LANES] {
    let mut largest = _mm512_set1_ps(f32::NEG_INFINITY);
    for step in scores {
        // SAFETY: 16 values. The instruction gives its second operand where the first is not a number.
        largest = _mm512_max_ps(unsafe { _mm512_loadu_ps(step.as_ptr()) }, largest);
    }
    lanes(largest)
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
#[inline]
fn exp2(x: __m512) -> __m512 {
    let round = _mm512_set1_ps(ROUND);
    let shifted = _mm512_add_ps(x, round);
    let r = _mm512_sub_ps(x, _mm512_sub_ps(shifted, round));
    let mut value = _mm512_set1_ps(EXP2[0]);
    for coefficient in &EXP2[1..] {
        value = _mm512_fmadd_ps(value, r, _mm512_set1_ps(*coefficient));
    }
    let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
    let power = _mm512_add_epi32(exponent, _mm512_set1_epi32(0x3f80_0000));
    let value = _mm512_mul_ps(value, _mm512_castsi512_ps(power));
    let none = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, _mm512_set1_ps(LEAST_EXP2));
    _mm512_mask_mov_ps(value, none, _mm512_setzero_ps())
}

/// Each lane's sums over the steps: of exponentials, of these times the value scales, and the largest such product,
/// which replaces the score.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) fn exponentials(
    scores: &mut [[f32; LANES]],
    value_scales: &[[f32; LANES]],
    max: f32,
    factor: f32,
) -> LaneSums {
    let (max, factor) = (_mm512_set1_ps(max), _mm512_set1_ps(factor));
    let mut totals = _mm512_setzero_ps();
    let mut sums = _mm512_setzero_ps();
    let mut largest = _mm512_setzero_ps();
    for (step, value_scales) in scores.iter_mut().zip(value_scales) {
        // SAFETY: 16 values each.
        unsafe {
            let score = _mm512_loadu_ps(step.as_ptr());
            let e = exp2(_mm512_mul_ps(_mm512_sub_ps(score, max), factor));
            let weight = _mm512_mul_ps(e, _mm512_loadu_ps(value_scales.as_ptr()));
            totals = _mm512_add_ps(totals, e);
            sums = _mm512_add_ps(sums, weight);
            largest = _mm512_max_ps(weight, largest);
            _mm512_storeu_ps(step.as_mut_ptr(), weight);
        }
    }
    [lanes(totals), lanes(sums), lanes(largest)]
}
