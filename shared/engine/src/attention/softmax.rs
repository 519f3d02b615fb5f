//! Softmax over a row of scores, in steps of sixteen keys, equal to the bit in every kernel set.

pub(super) use crate::kernel::set::LANES;
use crate::kernel::set::LaneSums;
use crate::kernel::{Kernel, per_kernel};
use crate::layout::PANEL;
use crate::math;
use crate::quantize::largest_magnitude;

/// Bound of the sum of a row's probability codes; see [`super::int16`].
pub(super) const LARGEST_SUM: f32 = (1 << 18) as f32;
/// Largest code of a probability.
const LARGEST_CODE: f32 = 32767.0;

per_kernel! {
    /// `scores[..seen] = exp((score - max) * scale)`, the rest 0; `total` is their sum.
    pub(super) fn float(scores: &mut [f32], seen: usize, scale: f32, total: &mut f32) {
        let (seen, masked) = scores.split_at_mut(seen);
        let max = math::max(seen);
        for score in seen.iter_mut() {
            *score = math::exp((*score - max) * scale);
        }
        *total = math::sum(seen, |x| x);
        masked.fill(0.0);
    }
}

per_kernel! {
    /// One panel of a row of scores: `sum * key scale`.
    pub(super) fn scores(sums: &[i32; PANEL], scales: &[f32], scores: &mut [f32]) {
        for ((score, &sum), &scale) in scores.iter_mut().zip(sums).zip(scales) {
            *score = sum as f32 * scale;
        }
    }
}

per_kernel! {
    /// The results of the second product: `sum * back`.
    pub(super) fn back(sums: &[i32; PANEL], back: f32, out: &mut [f32]) {
        for (out, &sum) in out.iter_mut().zip(sums) {
            *out = sum as f32 * back;
        }
    }
}

/// What [`int16`] needs beside the scores, and `back`, which it finds.
pub(super) struct Weights<'a> {
    /// Keys that the row sees; the others get the code 0.
    pub(super) seen: usize,
    /// The factor from scores to the exponent: the query's scale over the root of the width.
    pub(super) factor: f32,
    pub(super) value_scales: &'a [f32],
    /// The factor from the second product's sums to results.
    pub(super) back: f32,
}

/// Codes of the probabilities of a row; `scores` is used up. As long as whole steps, both.
pub(super) fn int16(
    kernel: Kernel,
    scores: &mut [f32],
    codes: &mut [i16],
    weights: &mut Weights<'_>,
) {
    let seen = weights.seen;
    // The last step's masked keys become the least score there is, whose exponential is exactly 0.
    let steps = seen.div_ceil(LANES);
    scores[seen..steps * LANES].fill(f32::NEG_INFINITY);
    let (scores, _) = scores[..steps * LANES].as_chunks_mut::<LANES>();
    let (value_scales, _) = weights.value_scales[..steps * LANES].as_chunks::<LANES>();
    let (codes, masked) = codes.split_at_mut(steps * LANES);
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let factor = weights.factor * std::f32::consts::LOG2_E;
    let max = math::fold(largest(kernel, scores), larger);
    let [totals, sums, products] = exponentials(kernel, scores, value_scales, max, factor);
    let total = math::fold(totals, |a, b| a + b);
    let sum = math::fold(sums, |a, b| a + b);
    let product = math::fold(products, larger);
    // Values that are all zero, or so small that a quotient overflows, give zero.
    let scale = if product > 1e-30 { (LARGEST_CODE / product).min(LARGEST_SUM / sum) } else { 0.0 };
    // A score or a value that is not a number makes a sum one, and so the result.
    let poison = (total + sum) * 0.0;
    weights.back = if scale > 0.0 { 1.0 / (scale * total) + poison } else { poison };
    round(kernel, scores, scale, codes.as_chunks_mut::<LANES>().0);
    masked.fill(0);
}

fn largest(kernel: Kernel, scores: &[[f32; LANES]]) -> [f32; LANES] {
    kernel.largest_scores(scores).unwrap_or_else(|| {
        let mut lanes = [f32::NEG_INFINITY; LANES];
        plain_largest(kernel, scores, &mut lanes);
        lanes
    })
}

per_kernel! {
    fn plain_largest(scores: &[[f32; LANES]], lanes: &mut [f32; LANES]) {
        for step in scores {
            for at in 0..LANES {
                lanes[at] = if step[at] > lanes[at] { step[at] } else { lanes[at] };
            }
        }
    }
}

fn exponentials(
    kernel: Kernel,
    scores: &mut [[f32; LANES]],
    value_scales: &[[f32; LANES]],
    max: f32,
    factor: f32,
) -> LaneSums {
    kernel.exponentials(scores, value_scales, max, factor).unwrap_or_else(|| {
        let mut found = LaneSums::default();
        plain_exponentials(kernel, scores, value_scales, max, factor, &mut found);
        found
    })
}

per_kernel! {
    fn plain_exponentials(
        scores: &mut [[f32; LANES]],
        value_scales: &[[f32; LANES]],
        max: f32,
        factor: f32,
        found: &mut LaneSums,
    ) {
        let [totals, sums, largest] = found;
        for (step, value_scales) in scores.iter_mut().zip(value_scales) {
            for at in 0..LANES {
                let e = math::exp2((step[at] - max) * factor);
                let weight = e * value_scales[at];
                totals[at] += e;
                sums[at] += weight;
                largest[at] = if weight > largest[at] { weight } else { largest[at] };
                step[at] = weight;
            }
        }
    }
}

/// `codes = round(values * factor)`.
fn round(kernel: Kernel, values: &[[f32; LANES]], factor: f32, codes: &mut [[i16; LANES]]) {
    if kernel.round(values, factor, codes).is_none() {
        plain_round(kernel, values, factor, codes);
    }
}

per_kernel! {
    fn plain_round(values: &[[f32; LANES]], factor: f32, codes: &mut [[i16; LANES]]) {
        for (values, codes) in values.iter().zip(codes) {
            for at in 0..LANES {
                // The low half of the shifted mantissa is the code in two's complement.
                codes[at] = (values[at] * factor + math::ROUND).to_bits() as u16 as i16;
            }
        }
    }
}

/// `codes = round(vector * largest / max|vector|)`, and what brings them back: not a number where the vector is not
/// finite.
pub(super) fn encode(kernel: Kernel, vector: &[f32], largest: f32, codes: &mut [i16]) -> f32 {
    let (runs, rest) = vector.as_chunks::<LANES>();
    let max = f32::from_bits(largest_magnitude(kernel, vector));
    // Below this, the quotient overflows; such a vector is zero for every purpose.
    let inverse = if max > 1e-30 && max.is_finite() { largest / max } else { 0.0 };
    let (codes, rest_codes) = codes.split_at_mut(runs.len() * LANES);
    round(kernel, runs, inverse, codes.as_chunks_mut::<LANES>().0);
    for (code, value) in rest_codes.iter_mut().zip(rest) {
        *code = (value * inverse + math::ROUND).to_bits() as u16 as i16;
    }
    if max.is_finite() { max / largest } else { f32::NAN }
}
