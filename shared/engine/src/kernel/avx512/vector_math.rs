//! `math`'s functions on sixteen lanes, operation for operation, so that they give the same bits.

use std::arch::x86_64::{
    __m512, _mm512_add_epi32, _mm512_add_ps, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_div_ps, _mm512_fmadd_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_slli_epi32, _mm512_sub_ps,
};

use crate::math::{ERF_DENOMINATOR, ERF_NUMERATOR, EXP, LN2_HIGH, LN2_LOW, ROUND};

/// Brings values into the range; NaN stays NaN, because both instructions give their second operand then.
#[target_feature(enable = "avx512f")]
#[inline]
fn clamp(x: __m512, low: f32, high: f32) -> __m512 {
    _mm512_min_ps(_mm512_set1_ps(high), _mm512_max_ps(_mm512_set1_ps(low), x))
}

#[target_feature(enable = "avx512f")]
#[inline]
fn polynomial<const N: usize>(coefficients: [f32; N], x: __m512) -> __m512 {
    let mut sum = _mm512_set1_ps(coefficients[0]);
    for at in 1..N {
        sum = _mm512_fmadd_ps(sum, x, _mm512_set1_ps(coefficients[at]));
    }
    sum
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn exp(x: __m512) -> __m512 {
    let x = clamp(x, -87.0, 88.0);
    let round = _mm512_set1_ps(ROUND);
    let shifted = _mm512_fmadd_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E), round);
    let n = _mm512_sub_ps(shifted, round);
    let high = _mm512_fmadd_ps(n, _mm512_set1_ps(-LN2_HIGH), x);
    let r = _mm512_fmadd_ps(n, _mm512_set1_ps(-LN2_LOW), high);
    let fraction = polynomial(EXP, r);
    let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(shifted));
    let power = _mm512_add_epi32(exponent, _mm512_set1_epi32(0x3f80_0000));
    _mm512_mul_ps(fraction, _mm512_castsi512_ps(power))
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn gelu(x: __m512) -> __m512 {
    let half = _mm512_mul_ps(_mm512_set1_ps(0.5), x);
    let y = _mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::FRAC_1_SQRT_2));
    let y = clamp(y, -4.0, 4.0);
    let y2 = _mm512_mul_ps(y, y);
    let numerator = _mm512_mul_ps(y, polynomial(ERF_NUMERATOR, y2));
    let erf = _mm512_div_ps(numerator, polynomial(ERF_DENOMINATOR, y2));
    _mm512_fmadd_ps(half, erf, half)
}

#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn silu(x: __m512) -> __m512 {
    let minus = _mm512_sub_ps(_mm512_set1_ps(-0.0), x);
    let one = _mm512_set1_ps(1.0);
    _mm512_div_ps(x, _mm512_add_ps(one, exp(minus)))
}
