//! How far an int8 product is from the exact one, measured with int8 products.
//!
//! Write `Q` for rounding to int8 and `R = 1 - Q` for what it leaves. Then
//!
//! ```text
//! x W  =  Q(x) Q(W)  +  R(x) Q(W) + Q(x) R(W)  +  R(x) R(W)
//!         what int8     the error                  a hundredth of a hundredth
//!         computes
//! ```
//!
//! and the residues themselves are rounded to int8 with scales of their own, so that three int8
//! products give the exact one to fifteen bits. They run at the speed of int8, and unlike sums in f32
//! they are equal bit for bit on every processor: packing a checkpoint takes the same decisions on each.

use defrost_engine::layout::quantize_rows;
use defrost_engine::{Int8Matrix, Kernel, Threads};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};
use rayon::slice::{ParallelSlice, ParallelSliceMut};

use super::equalise::{Product, Scales};

/// Where products run.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) kernel: Kernel,
    pub(super) threads: Threads,
}

/// A product's treatment and what it brought.
#[derive(Debug)]
pub(super) struct Measured {
    /// The scales, if they help.
    pub(super) scales: Option<Scales>,
    /// Relative error of the plain int8 product: root of the mean over rows of `|dy|^2 / |y|^2`.
    pub(super) before: f32,
    /// The relative error with the scales.
    pub(super) after: f32,
    /// The product to fifteen bits.
    pub(super) y: Vec<f32>,
}

/// Scales must lower the error to this part of itself to be used: less is noise of the few texts.
const WORTHWHILE: f32 = 0.97;

/// Measures the product without scales and, where they may be used, with the best ones. `sections`
/// are the heights of matrices that were put one below the other (queries, keys and values, or gate
/// and up): each counts alike, however large its outputs. Errors are relative to the tokens' spread,
/// that of the residual stream where the product is added to it.
pub(super) fn measure(
    machine: &Machine,
    product: Product<'_>,
    sections: &[usize],
    foldable: bool,
    residual: Option<&[f32]>,
) -> Measured {
    let (k, n) = (product.k, product.weights.len() / product.k);
    let (codes, mut scales) = quantize_rows(product.weights, k);
    let plain = Int8Matrix::new(&codes, scales.clone(), k);
    let mut rough = plain.multiply(machine.kernel, &machine.threads, product.x);
    let balance = balance(&rough, sections);
    scale_columns(&mut rough, &balance, |y, by| y * by);
    let mut weights = product.weights.to_vec();
    weights.par_chunks_exact_mut(k).zip(&balance).for_each(|(row, by)| {
        for weight in row {
            *weight *= by;
        }
    });
    scales.iter_mut().zip(&balance).for_each(|(scale, by)| *scale *= by);
    let sizes = sizes(&rough, n, residual);
    let balanced = Product { weights: &weights, ..product };
    let proposed = if foldable { balanced.propose(&sizes) } else { None };
    let mut measured = if let Some(proposed) = proposed {
        scaled(machine, balanced, proposed, &rough, &sizes)
    } else {
        subtract(&mut weights, &codes, &scales, k);
        let rest = Int8Matrix::quantize(&weights, k);
        let split = Split { codes: Int8Matrix::new(&codes, scales, k), rest };
        let y = split.exact(machine, &rough, product.x, k);
        let error = distance(&rough, &y, n, &sizes);
        Measured { scales: None, before: error, after: error, y }
    };
    scale_columns(&mut measured.y, &balance, |y, by| y / by);
    measured
}

/// Measures the product with scales, and forgets them if they are not worthwhile.
fn scaled(
    machine: &Machine,
    product: Product<'_>,
    scales: Scales,
    rough: &[f32],
    sizes: &[f32],
) -> Measured {
    let (k, n) = (product.k, product.weights.len() / product.k);
    let spread = product.spread(&scales);
    let mut x = product.x.to_vec();
    scale_columns(&mut x, &spread, |x, s| x / s);
    let mut weights = product.weights.to_vec();
    scale_columns(&mut weights, &spread, |weight, s| weight * s);
    let split = Split::new(weights, k);
    let better = split.codes.multiply(machine.kernel, &machine.threads, &x);
    let y = split.exact(machine, &better, &x, k);
    let before = distance(rough, &y, n, sizes);
    let after = distance(&better, &y, n, sizes);
    if after < before * WORTHWHILE {
        Measured { scales: Some(scales), before, after, y }
    } else {
        Measured { scales: None, before, after: before, y }
    }
}

/// Combines every row with `by`, value by value.
fn scale_columns(rows: &mut [f32], by: &[f32], combine: impl Fn(f32, f32) -> f32 + Sync) {
    rows.par_chunks_exact_mut(by.len()).for_each(|row| {
        row.iter_mut().zip(by).for_each(|(value, &by)| *value = combine(*value, by));
    });
}

/// Per channel the power of two that brings its section's outputs to about unit size. Rows have
/// scales of their own, so this changes no int8 code.
fn balance(y: &[f32], sections: &[usize]) -> Vec<f32> {
    let n: usize = sections.iter().sum();
    let mut factors = Vec::with_capacity(n);
    if sections.len() == 1 {
        return vec![1.0; n];
    }
    for &height in sections {
        let first = factors.len();
        let squares: f32 = y.chunks_exact(n).map(|row| squares(&row[first..first + height])).sum();
        let mean = squares / (y.len() / n * height).max(1) as f32;
        let power = if mean > 0.0 && mean.is_finite() { -0.5 * libm::log2f(mean) } else { 0.0 };
        factors.resize(first + height, libm::exp2f(power.round_ties_even().clamp(-60.0, 60.0)));
    }
    factors
}

/// A matrix as int8 and what that leaves, as int8.
struct Split {
    codes: Int8Matrix,
    rest: Int8Matrix,
}

impl Split {
    fn new(mut weights: Vec<f32>, k: usize) -> Self {
        let (codes, scales) = quantize_rows(&weights, k);
        subtract(&mut weights, &codes, &scales, k);
        Self { codes: Int8Matrix::new(&codes, scales, k), rest: Int8Matrix::quantize(&weights, k) }
    }

    /// `x W` from its int8 product.
    fn exact(&self, machine: &Machine, product: &[f32], x: &[f32], k: usize) -> Vec<f32> {
        let mut rest = x.to_vec();
        let (codes, scales) = quantize_rows(x, k);
        subtract(&mut rest, &codes, &scales, k);
        let mut y = self.codes.multiply(machine.kernel, &machine.threads, &rest);
        let other = self.rest.multiply(machine.kernel, &machine.threads, x);
        for ((y, other), product) in y.iter_mut().zip(other).zip(product) {
            *y += other + product;
        }
        y
    }
}

/// What rounding leaves.
fn subtract(rows: &mut [f32], codes: &[i8], scales: &[f32], k: usize) {
    rows.par_chunks_exact_mut(k).zip(codes.par_chunks_exact(k)).zip(scales).for_each(
        |((row, codes), &scale)| {
            row.iter_mut().zip(codes).for_each(|(value, &q)| *value -= f32::from(q) * scale);
        },
    );
}

fn squares(row: &[f32]) -> f32 {
    row.iter().map(|value| value * value).sum()
}

/// What errors count against: per row the distance from the mean row, of the residual stream after
/// the product where it is added to that. Elsewhere what all tokens share counts a little: products
/// of nearly constant inputs are not worth saving.
fn sizes(y: &[f32], n: usize, residual: Option<&[f32]>) -> Vec<f32> {
    /// Part of a row's own energy that it spreads at least.
    const SHARED: f32 = 0.1;
    if let Some(residual) = residual {
        let sum: Vec<f32> = residual.iter().zip(y).map(|(x, y)| x + y).collect();
        return spreads(&sum, n);
    }
    let mut sizes = spreads(y, n);
    for (size, row) in sizes.iter_mut().zip(y.chunks_exact(n)) {
        *size = size.max(SHARED * squares(row));
    }
    sizes
}

/// A row that happens to lie near the mean one counts as this far from it, relative to the others.
const LEAST_SPREAD: f32 = 0.01;

/// Squared distance of each row of `n` from the mean row: what all tokens have in common tells
/// none from another, and residual channels that are large in all of them would hide the rest.
pub(super) fn spreads(y: &[f32], n: usize) -> Vec<f32> {
    let mut mean = vec![0f32; n];
    for row in y.chunks_exact(n) {
        mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value);
    }
    let rows = (y.len() / n).max(1) as f32;
    let spread = |row: &[f32]| {
        let away = row.iter().zip(&mean).map(|(value, sum)| value - sum / rows);
        away.map(|away| away * away).sum()
    };
    let mut spreads: Vec<f32> = y.chunks_exact(n).map(spread).collect();
    let floor = spreads.iter().sum::<f32>() / rows * LEAST_SPREAD;
    for spread in &mut spreads {
        *spread = spread.max(floor);
    }
    spreads
}

/// Root of the mean over rows of `n` of the squared distance relative to the row's size. Each row
/// counts alike: a token with massive activations would hide all others in a ratio of sums.
pub(super) fn distance(found: &[f32], exact: &[f32], n: usize, sizes: &[f32]) -> f32 {
    let total: f64 = found
        .chunks_exact(n)
        .zip(exact.chunks_exact(n))
        .zip(sizes)
        .map(|((found, exact), &size)| {
            let off: f32 = found.iter().zip(exact).map(|(a, b)| (a - b) * (a - b)).sum();
            f64::from(off) / f64::from(size.max(f32::MIN_POSITIVE))
        })
        .sum();
    #[allow(clippy::cast_possible_truncation, reason = "a figure of a few digits")]
    let root = (total / (exact.len() / n).max(1) as f64).sqrt() as f32;
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_int8_products_make_an_exact_one() {
        let (n, k, rows) = (33, 64, 5);
        let value = |at: usize| ((at * 7919 % 1009) as f32 / 504.5 - 1.0) * 3.0;
        let mut weights: Vec<f32> = (0..n * k).map(value).collect();
        let mut x: Vec<f32> = (0..rows * k).map(|at| value(at + 11)).collect();
        x.iter_mut().skip(7).step_by(k).for_each(|value| *value *= 40.0);
        weights.iter_mut().skip(7).step_by(k).for_each(|weight| *weight /= 40.0);
        let machine = Machine { kernel: Kernel::detect(), threads: Threads::new(Some(1)) };
        let product = Product { x: &x, weights: &weights, k, slots: None };
        for foldable in [false, true] {
            let measured = measure(&machine, product, &[30, 3], foldable, None);
            for (row, y) in x.chunks_exact(k).zip(measured.y.chunks_exact(n)) {
                for (channel, y) in weights.chunks_exact(k).zip(y) {
                    let sum: f32 = row.iter().zip(channel).map(|(x, w)| x * w).sum();
                    assert!((sum - y).abs() < 0.05, "{sum} {y}");
                }
            }
            assert_eq!(measured.scales.is_some(), foldable);
            assert!(measured.before > 0.01, "{}", measured.before);
            assert!(!foldable || measured.after < measured.before / 2.0, "{}", measured.after);
        }
    }
}
