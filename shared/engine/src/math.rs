//! Elementary functions on f32, written so that compilers vectorise them.
//!
//! Only additions, multiplications, both fused, comparisons and bit shifts, in a fixed order: every
//! kernel set computes the same bits. Rounding to integers adds and subtracts `1.5 * 2^23`, which leaves the
//! nearest integer (ties to even) in the low mantissa bits on every processor.

/// `1.5 * 2^23`: adding it to |x| < 2^22 rounds x to an integer.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// ln 2 in two parts, the first of few bits, so that its multiples are exact.
#[allow(clippy::excessive_precision, reason = "exact in f32, and so written")]
pub(crate) const LN2_HIGH: f32 = 0.693_359_375;
#[allow(clippy::excessive_precision, reason = "the published digits")]
pub(crate) const LN2_LOW: f32 = -2.121_944_4e-4;

/// The polynomial of Cephes' `expf`, highest degree first.
#[allow(clippy::excessive_precision, reason = "the published coefficients")]
pub(crate) const EXP: [f32; 8] = [
    1.987_569_15e-4,
    1.398_199_95e-3,
    8.333_451_9e-3,
    4.166_579_6e-2,
    1.666_666_55e-1,
    5.000_000_1e-1,
    1.0,
    1.0,
];

/// Numerator, over x, of the rational approximation of erf on [-4, 4] that Eigen and XLA use, highest degree first.
#[allow(clippy::excessive_precision, reason = "the published coefficients")]
pub(crate) const ERF_NUMERATOR: [f32; 7] = [
    -2.726_142_3e-10,
    2.770_681_4e-8,
    -2.101_024_e-6,
    -5.692_506_4e-5,
    -7.349_906_3e-4,
    -2.954_599_8e-3,
    -1.609_603_3e-2,
];

/// The denominator of the same fraction.
#[allow(clippy::excessive_precision, reason = "the published coefficients")]
pub(crate) const ERF_DENOMINATOR: [f32; 5] =
    [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_474e-2];

/// Horner's rule with one rounding a step.
#[inline(always)]
fn polynomial<const N: usize>(coefficients: [f32; N], x: f32) -> f32 {
    let mut sum = coefficients[0];
    for coefficient in &coefficients[1..] {
        sum = sum.mul_add(x, *coefficient);
    }
    sum
}

/// e^x with about 2 ulp, for x in [-87, 88]; clamped outside, NaN stays NaN.
///
/// Range reduction `x = n ln 2 + r`, then a polynomial.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    // The integer n sits in the low bits of `shifted`; move it to the exponent.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    polynomial(EXP, r) * power
}

/// The polynomial of Cephes' `exp2f` on [-0.5, 0.5], highest degree first.
#[allow(clippy::excessive_precision, reason = "the published coefficients")]
pub(crate) const EXP2: [f32; 7] = [
    1.535_336_2e-4,
    1.339_887_44e-3,
    9.618_437_36e-3,
    5.550_332_47e-2,
    2.402_264_79e-1,
    6.931_472_03e-1,
    1.0,
];

/// Below this 2^x is taken for zero; it would not be a normal number.
pub(crate) const LEAST_EXP2: f32 = -126.0;

/// 2^x with about 2 ulp, for x up to 127; exactly 0 below -126, NaN stays NaN.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    let shifted = x + ROUND;
    let r = x - (shifted - ROUND);
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    let value = polynomial(EXP2, r) * power;
    if x < LEAST_EXP2 { 0.0 } else { value }
}

/// The error function within 8e-7.
#[inline(always)]
pub(crate) fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let x2 = x * x;
    x * polynomial(ERF_NUMERATOR, x2) / polynomial(ERF_DENOMINATOR, x2)
}

/// `x Phi(x)`, the exact GELU of BERT.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    let half = 0.5 * x;
    half.mul_add(erf(x * std::f32::consts::FRAC_1_SQRT_2), half)
}

/// GELU by its approximation with tanh, `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, the activation of Gemma's gate.
#[inline(always)]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    /// `2 sqrt(2/pi)`: `1 + tanh(u)` is `2 / (1 + exp(-2u))`.
    const TWICE: f32 = 1.595_769;
    let inner = (0.044_715 * x * x).mul_add(x, x);
    x / (1.0 + exp(-TWICE * inner))
}

/// `x sigmoid(x)`, the activation of Qwen's gate.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-0.0 - x))
}

/// Lanes of a reduction. Partial sums are kept in this many independent lanes and folded at the
/// end in a fixed order, so vector width changes the speed, not the result.
const LANES: usize = 16;

/// Folds lanes in a fixed order.
#[inline(always)]
pub(crate) fn fold(lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] = combine(lanes[lane], lanes[lane + width]);
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn reduce(
    values: &[f32],
    start: f32,
    term: impl Fn(f32) -> f32,
    combine: impl Fn(f32, f32) -> f32,
) -> f32 {
    let mut lanes = [start; LANES];
    let runs = values.chunks_exact(LANES);
    let rest = runs.remainder();
    for run in runs {
        for (lane, &value) in lanes.iter_mut().zip(run) {
            *lane = combine(*lane, term(value));
        }
    }
    for (lane, &value) in lanes.iter_mut().zip(rest) {
        *lane = combine(*lane, term(value));
    }
    fold(lanes, combine)
}

/// Sum of `term` over the values.
#[inline(always)]
pub(crate) fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    reduce(values, 0.0, term, |a, b| a + b)
}

/// Largest value; NaN is ignored.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    reduce(values, f32::NEG_INFINITY, |value| value, |a, b| if b > a { b } else { a })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grid(from: f32, to: f32) -> impl Iterator<Item = f32> {
        (0..=200_000u32).map(move |step| from + (to - from) * (step as f32 / 200_000.0))
    }

    #[test]
    fn exp_is_within_two_ulp() {
        for x in grid(-87.0, 88.0) {
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 2.5e-7 * exact, "exp({x})");
        }
        assert!(exp(f32::NAN).is_nan());
        assert_eq!(exp(0.0).to_bits(), 1.0f32.to_bits());
        assert!(exp(-1e30) < 1e-37 && exp(1e30).is_finite());
    }

    #[test]
    fn exp2_is_within_two_ulp() {
        for x in grid(-126.0, 127.0) {
            let exact = f64::from(x).exp2();
            assert!((f64::from(exp2(x)) - exact).abs() <= 2.5e-7 * exact, "exp2({x})");
        }
        assert!(exp2(f32::NAN).is_nan());
        assert_eq!(exp2(0.0).to_bits(), 1.0f32.to_bits());
        for x in [-126.1, -1e30, f32::NEG_INFINITY] {
            assert_eq!(exp2(x).to_bits(), 0);
        }
    }

    #[test]
    fn erf_and_gelu_are_within_a_few_ulp_of_one() {
        for x in grid(-6.0, 6.0) {
            assert!(
                (f64::from(erf(x)) - libm::erf(f64::from(x))).abs() <= 8e-7,
                "erf({x}) {} {}",
                erf(x),
                libm::erf(f64::from(x))
            );
            let exact = 0.5 * f64::from(x) * (1.0 + libm::erf(f64::from(x) / 2f64.sqrt()));
            assert!((f64::from(gelu(x)) - exact).abs() <= 1.5e-6, "gelu({x})");
        }
        assert!(gelu(f32::NAN).is_nan());
    }

    #[test]
    fn gelu_by_tanh_is_close() {
        for x in grid(-30.0, 30.0) {
            let wide = f64::from(x);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3));
            let exact = 0.5 * wide * (1.0 + inner.tanh());
            let error = (f64::from(gelu_tanh(x)) - exact).abs();
            assert!(error <= 1e-6 * (1.0 + exact.abs()), "gelu_tanh({x})");
        }
        assert!(gelu_tanh(f32::NAN).is_nan());
    }

    #[test]
    fn silu_is_close() {
        for x in grid(-30.0, 30.0) {
            let exact = f64::from(x) / (1.0 + f64::from(-x).exp());
            assert!((f64::from(silu(x)) - exact).abs() <= 4e-7 * (1.0 + exact.abs()), "silu({x})");
        }
    }

    #[test]
    fn reductions_see_every_value() {
        for len in 0..70 {
            let values: Vec<f32> = (0..len).map(|at| at as f32 - 5.0).collect();
            let expected: f32 = values.iter().sum();
            assert_eq!(sum(&values, |value| value).to_bits(), (expected + 0.0).to_bits());
            let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&values).to_bits(), largest.to_bits());
        }
    }
}
