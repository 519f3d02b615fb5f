//! Input channels of a product brought to one size, so that one int8 scale per row serves them all.
//!
//! A token's activations share one scale, `max|x| / 127`. A channel that is sixty times larger than
//! the others therefore leaves them two of the 127 steps. But `x W^T` stays the same when channel
//! `j` of `x` is divided by `s_j` and column `j` of `W` multiplied by it, and `s` moves the difficulty
//! from activations, which share a scale across channels, to weights, whose scales are per row and
//! whose columns are all alike:
//!
//! ```text
//! s_j = max|x_j|^a / max|W_j|^(1-a)        (Xiao et al., SmoothQuant, 2023, equation 4)
//! ```
//!
//! Two changes to the paper: `a` is not one number for all models but tried for each product, as the
//! best one differs between layers; and `s` is rounded to powers of two, so that multiplying and
//! dividing by it changes no bit of a mantissa. Folding is therefore exact: in f32 the treated model
//! computes what the untreated one does, to the last bit.
//!
//! Which `a` is best is first estimated from the rounding errors of both factors, taken as
//! independent of each other:
//!
//! ```text
//! |dy|^2  =  sum_j  dx_j^2 |W_j|^2  +  x_j^2 |dW_j|^2      dx, dW: rounding errors under s
//! ```
//!
//! which costs one pass over the weights and no product. The error of the best one is then measured,
//! see [`super::measure`], and `s` is only used if that is smaller than without.

use defrost_engine::layout::quantize_rows;
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::ParallelSlice;

/// Exponents that are tried. 0.5 is the paper's usual choice; 1 takes all difficulty off the
/// activations. 0 would only serve the weights, which have no outlier rows that int8 minds.
const EXPONENTS: [f32; 4] = [0.25, 0.5, 0.75, 1.0];

/// A channel that the texts never moved may move later: it counts as at least this part of the
/// median channel.
const FLOOR: f32 = 0.125;

/// Bounds of `s`, far beyond what real models need (massive activations are some thousandfold).
const LARGEST_POWER: f32 = 12.0;

/// Rows per task, fixed so that sums are added up in one order whatever the number of threads.
const ROWS_PER_TASK: usize = 64;

/// Every so many-th channel stands for the others in the estimate: they are hundreds.
const CHANNEL_STEP: usize = 8;

/// A product whose inputs can be rescaled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product<'a> {
    /// Activations, rows of `k`.
    pub(super) x: &'a [f32],
    /// Weights, rows of `k`.
    pub(super) weights: &'a [f32],
    pub(super) k: usize,
    /// The scale that each input channel takes, by number; `None`: each channel has its own.
    pub(super) slots: Option<&'a [usize]>,
}

/// Scales and the exponent they come from.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Scales {
    pub(super) exponent: f32,
    /// The scales, one power of two per slot.
    pub(super) values: Vec<f32>,
}

impl Product<'_> {
    fn slot(&self, channel: usize) -> usize {
        self.slots.map_or(channel, |slots| slots[channel])
    }

    /// The largest magnitude per slot in rows of `k`.
    fn largest(&self, rows: &[f32]) -> Vec<f32> {
        let count = self.slots.map_or(self.k, |slots| slots.iter().max().map_or(0, |max| max + 1));
        let mut largest = vec![0f32; count];
        for row in rows.chunks_exact(self.k) {
            for (channel, value) in row.iter().enumerate() {
                let slot = self.slot(channel);
                largest[slot] = largest[slot].max(value.abs());
            }
        }
        largest
    }

    /// The scale of each channel.
    pub(super) fn spread(&self, scales: &Scales) -> Vec<f32> {
        (0..self.k).map(|channel| scales.values[self.slot(channel)]).collect()
    }

    /// The scales that promise the smallest error, `None` if none promises less than no scales.
    /// `sizes` are the squared lengths of the output rows, against which errors count.
    pub(super) fn propose(&self, sizes: &[f32]) -> Option<Scales> {
        let x = raised(self.largest(self.x));
        let weights = raised(self.largest(self.weights));
        let ones = Scales { exponent: 0.0, values: vec![1.0; x.len()] };
        let mut best = (self.promised(&ones, sizes), None);
        for exponent in EXPONENTS {
            let scales = Scales { exponent, values: powers(&x, &weights, exponent) };
            let error = self.promised(&scales, sizes);
            if error < best.0 {
                best = (error, Some(scales));
            }
        }
        best.1
    }

    /// The formula at the head of this file, over all rows of `x`, each relative to its output.
    fn promised(&self, scales: &Scales, sizes: &[f32]) -> f64 {
        let (k, s) = (self.k, self.spread(scales));
        // Squared lengths of the scaled columns, and of their rounding errors.
        let columns = sum_rows(self.weights, k, &|row, column| {
            let scaled: Vec<f32> = row.iter().zip(&s).map(|(w, s)| w * s).collect();
            let (codes, scale) = quantize_rows(&scaled, k);
            for ((sums, w), &q) in column.chunks_exact_mut(2).zip(&scaled).zip(&codes) {
                let error = w - f32::from(q) * scale[0];
                sums[0] += w * w;
                sums[1] += error * error;
            }
        });
        let tasks: Vec<f64> = self
            .x
            .par_chunks(ROWS_PER_TASK * k)
            .zip(sizes.par_chunks(ROWS_PER_TASK))
            .map(|(rows, sizes)| {
                let mut total = 0.0;
                for (row, &size) in rows.chunks_exact(k).zip(sizes) {
                    let scaled: Vec<f32> = row.iter().zip(&s).map(|(x, s)| x / s).collect();
                    let (codes, scale) = quantize_rows(&scaled, k);
                    let mut error = 0.0;
                    for ((x, &q), column) in scaled.iter().zip(&codes).zip(columns.chunks_exact(2))
                    {
                        let rounding = x - f32::from(q) * scale[0];
                        error += rounding * rounding * column[0] + x * x * column[1];
                    }
                    total += f64::from(error) / f64::from(size.max(f32::MIN_POSITIVE));
                }
                total
            })
            .collect();
        tasks.iter().sum()
    }
}

/// Per column of `rows` two sums that `add` makes of some of the rows, added up in one order.
fn sum_rows(rows: &[f32], k: usize, add: &(dyn Fn(&[f32], &mut [f32]) + Sync)) -> Vec<f32> {
    let tasks: Vec<Vec<f32>> = rows
        .par_chunks(ROWS_PER_TASK * k)
        .map(|rows| {
            let mut sums = vec![0.0; 2 * k];
            rows.chunks_exact(k).step_by(CHANNEL_STEP).for_each(|row| add(row, &mut sums));
            sums
        })
        .collect();
    let mut total = vec![0.0; 2 * k];
    for sums in tasks {
        total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum * CHANNEL_STEP as f32);
    }
    total
}

/// Lifts what lies far below the median.
fn raised(mut values: Vec<f32>) -> Vec<f32> {
    let mut sorted = values.clone();
    sorted.sort_by(f32::total_cmp);
    let floor = (sorted.get(sorted.len() / 2).copied().unwrap_or(1.0) * FLOOR).max(1e-20);
    for value in &mut values {
        *value = value.max(floor);
    }
    values
}

/// The paper's formula, with the geometric mean at one and rounded to powers of two.
fn powers(x: &[f32], weights: &[f32], exponent: f32) -> Vec<f32> {
    let logs: Vec<f32> = x
        .iter()
        .zip(weights)
        .map(|(&x, &w)| libm::log2f(x) * exponent - libm::log2f(w) * (1.0 - exponent))
        .collect();
    let mean = logs.iter().sum::<f32>() / logs.len() as f32;
    logs.iter()
        .map(|log| libm::exp2f((log - mean).round_ties_even().clamp(-LARGEST_POWER, LARGEST_POWER)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of eight channels, one of which is a hundredfold.
    fn activations() -> Vec<f32> {
        let mut x: Vec<f32> = (0..16).map(|at| ((at * 37 % 11) as f32 - 5.0) / 5.0).collect();
        x[3] *= 100.0;
        x[11] *= 100.0;
        x
    }

    #[test]
    fn an_outlier_channel_is_scaled_down_by_a_power_of_two() {
        let x = activations();
        let weights: Vec<f32> = (0..64).map(|at| ((at * 29 % 13) as f32 - 6.0) / 6.0).collect();
        let product = Product { x: &x, weights: &weights, k: 8, slots: None };
        let scales = product.propose(&[1.0, 1.0]).unwrap();
        let outlier = scales.values[3];
        assert!(scales.values.iter().enumerate().all(|(at, &s)| at == 3 || s * 4.0 <= outlier));
        assert!(scales.values.iter().all(|s| s.to_bits() << 9 == 0), "{:?}", scales.values);
    }

    #[test]
    fn channels_that_share_a_slot_share_a_scale() {
        let x = activations();
        let weights = vec![0.5; 16];
        let slots = [0, 1, 2, 3, 0, 1, 2, 3];
        let product = Product { x: &x, weights: &weights, k: 8, slots: Some(&slots) };
        let spread = product.spread(&product.propose(&[1.0, 1.0]).unwrap());
        assert_eq!(spread[..4], spread[4..]);
        assert!(spread[3] > spread[0]);
    }
}
