//! Elementary functions on f32, written so that compilers vectorise them.
//!
//! Only additions, multiplications, both fused, comparisons and bit shifts, in a fixed order: every
//! kernel set computes the same bits. Rounding to integers adds and subtracts `1.5 * 2^23`, which leaves the
//! nearest integer (ties to even) in the low mantissa bits on every processor.

/// `1.5 * 2^23`: adding it to |x| < 2^22 rounds x to an integer.
pub(crate) const ROUND: f32 = 12_582_912.0;

/// e^x with about 2 ulp, for x in [-87, 88]; clamped outside, NaN stays NaN.
///
/// Range reduction `x = n ln 2 + r`, then the degree-5 polynomial of Cephes' `expf`.
#[inline(always)]
#[allow(clippy::excessive_precision, reason = "the published digits of ln 2 in two parts")]
pub(crate) fn exp(x: f32) -> f32 {
    const LN2_HIGH: f32 = 0.693_359_375;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    let mut p = 1.987_569_15e-4f32;
    p = p.mul_add(r, 1.398_199_95e-3);
    p = p.mul_add(r, 8.333_451_9e-3);
    p = p.mul_add(r, 4.166_579_6e-2);
    p = p.mul_add(r, 1.666_666_55e-1);
    p = p.mul_add(r, 5.000_000_1e-1);
    p = p.mul_add(r, 1.0);
    let fraction = p.mul_add(r, 1.0);
    // The integer n sits in the low bits of `shifted`; move it to the exponent.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    fraction * power
}

/// The error function within 8e-7: the rational approximation on [-4, 4] that Eigen and XLA
/// use (odd numerator of degree 13 over even denominator of degree 8).
#[inline(always)]
#[allow(clippy::excessive_precision, reason = "the published coefficients")]
pub(crate) fn erf(x: f32) -> f32 {
    let x = x.clamp(-4.0, 4.0);
    let x2 = x * x;
    let mut p = -2.726_142_3e-10f32;
    p = p.mul_add(x2, 2.770_681_4e-8);
    p = p.mul_add(x2, -2.101_024_e-6);
    p = p.mul_add(x2, -5.692_506_4e-5);
    p = p.mul_add(x2, -7.349_906_3e-4);
    p = p.mul_add(x2, -2.954_599_8e-3);
    p = p.mul_add(x2, -1.609_603_3e-2);
    let mut q = -1.456_607_2e-5f32;
    q = q.mul_add(x2, -2.133_740_6e-4);
    q = q.mul_add(x2, -1.682_827e-3);
    q = q.mul_add(x2, -7.373_329e-3);
    q = q.mul_add(x2, -1.426_474e-2);
    x * p / q
}

/// `x Phi(x)`, the exact GELU of BERT.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    let half = 0.5 * x;
    half.mul_add(erf(x * std::f32::consts::FRAC_1_SQRT_2), half)
}

/// `x sigmoid(x)`, the activation of Qwen's gate.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// Lanes of a reduction. Partial sums are kept in this many independent lanes and folded at the
/// end in a fixed order, so vector width changes the speed, not the result.
const LANES: usize = 16;

#[inline(always)]
fn fold(lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
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
