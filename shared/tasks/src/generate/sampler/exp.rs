//! Exponentials of many numbers, none of them above 0: the same bits on every machine, and several at once where the compiler
//! finds instructions for that. A library's function is called for each number, which took most of the time of a choice.

/// Below it is nothing that a sum with 1 in it would notice.
const LEAST: f32 = -87.0;

/// `e` to the power of `x`, which is at most 0, within 2 units of the last place; 0 below [`LEAST`].
///
/// By the powers of two: `x = n ln 2 + r`, with `r` at most half of `ln 2` in size, where the series to its seventh term is
/// as good as its sum.
#[inline]
pub(crate) fn exp(x: f32) -> f32 {
    /// Added and taken away again, it rounds to whole numbers; its last bits then hold them.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, the first with zeros at its end, so that its product with a small whole number is exact.
    const HIGH: f32 = 0.693_359_4;
    const LOW: f32 = -2.121_944_4e-4;
    let within = if x > LEAST { x } else { LEAST };
    let rounded = within * std::f32::consts::LOG2_E + ROUND;
    let n = rounded - ROUND;
    let r = (within - n * HIGH) - n * LOW;
    let mut series = 1.0 / 5040.0;
    for factor in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        series = series * r + factor;
    }
    let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    let value = series * f32::from_bits(exponent << 23);
    if x < LEAST { 0.0 } else { value }
}

/// The sum of `exp((logit - best) / temperature)`, in an order that depends on their number alone.
pub(crate) fn sum(logits: &[f32], best: f32, temperature: f32) -> f64 {
    let (chunks, rest) = logits.as_chunks::<8>();
    let mut sums = [0f64; 8];
    for chunk in chunks {
        // In two loops: the compiler then takes several numbers at once.
        let weights = chunk.map(|logit| exp((logit - best) / temperature));
        for (sum, weight) in sums.iter_mut().zip(weights) {
            *sum += f64::from(weight);
        }
    }
    for (sum, &logit) in sums.iter_mut().zip(rest) {
        *sum += f64::from(exp((logit - best) / temperature));
    }
    sums.iter().sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn it_is_the_exponential(x in prop_oneof![-87.0f32..0.0, -1.0f32..0.0, Just(0.0)]) {
            let expected = f64::from(x).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            prop_assert!(error < 2.0 * f64::from(f32::EPSILON), "{x}: {error:e}");
        }

        #[test]
        fn sums_are_sums(logits in prop::collection::vec(-30.0f32..5.0, 0..100), temperature in 0.1f32..3.0) {
            let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let expected: f64 = logits.iter().map(|&logit| f64::from((logit - best) / temperature).exp()).sum();
            prop_assert!((sum(&logits, best, temperature) - expected).abs() <= 1e-6 * expected);
        }
    }

    #[test]
    fn ends_are_what_they_are() {
        assert_eq!((exp(0.0).to_bits(), exp(-0.0).to_bits()), (1f32.to_bits(), 1f32.to_bits()));
        for nothing in [f32::NEG_INFINITY, f32::MIN, -87.1] {
            assert_eq!(exp(nothing).to_bits(), 0);
        }
        assert!(exp(LEAST) > 0.0);
    }
}
