//! Activations to int8, one scale per token.
//!
//! `q = round(x * 127 / max|x|)`, stored as `q + 128` because the multiply instructions take one
//! unsigned operand. A row's integers depend on that row alone. A row that holds NaN or infinity
//! gets the scale NaN, so that everything computed from it is NaN and is refused at the end instead
//! of passing as a plausible number.

use crate::blocks::QuantizedRuns;
use crate::buffer::Buffer;
use crate::kernel::{Kernel, per_kernel};
use crate::layout::INT8_GROUP;
use crate::math::ROUND;
use crate::threads::Threads;

/// Rows per task: a few microseconds of work, enough to hide the hand-over to a thread.
const ROWS_PER_TASK: usize = 32;

/// Quantised rows, each padded to a whole number of groups.
#[derive(Debug, Default)]
pub(crate) struct QuantizedRows {
    data: Buffer<u8>,
    scales: Vec<f32>,
    stride: usize,
    /// Rows with a scale for every run, which products with blocks fill instead.
    pub(crate) runs: QuantizedRuns,
}

impl QuantizedRows {
    /// Quantises `rows` of `k` values each.
    #[allow(unsafe_code, reason = "writes of scales, each row by its own task")]
    pub(crate) fn fill(&mut self, kernel: Kernel, threads: &Threads, rows: &[f32], k: usize) {
        let count = rows.len() / k;
        self.stride = stride(k);
        let stride = self.stride;
        self.data.resize(count * stride);
        self.scales.resize(count, 0.0);
        let scales = crate::gemm::SharedOut::new(&mut self.scales);
        threads.for_each_chunk(&mut self.data, ROWS_PER_TASK * stride, |task, data| {
            for (row, quantized) in data.chunks_exact_mut(stride).enumerate() {
                let at = task * ROWS_PER_TASK + row;
                let scale = quantize(kernel, &rows[at * k..][..k], quantized);
                // SAFETY: each row belongs to one task.
                unsafe { scales.write(at, scale) }
            }
        });
    }

    /// The `q + 128` bytes, row-major with [`QuantizedRows::stride`].
    pub(crate) fn data(&self) -> &[u8] {
        &self.data
    }

    /// One scale per row: `x = q * scale`.
    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// Bytes from one row to the next.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.scales.len()
    }
}

/// Rows start on cache lines, and not at distances of 4096 bytes: rows of a tile that fall into the same set of
/// the first-level cache push each other out.
fn stride(k: usize) -> usize {
    let lines = k.next_multiple_of(INT8_GROUP).div_ceil(64);
    (lines + usize::from(lines.is_multiple_of(2))) * 64
}

/// The code of zero.
pub(crate) const ZERO: u8 = 0x80;

/// Quantises one row and returns its scale; `codes` may be longer (its tail is set to the code of zero).
fn quantize(kernel: Kernel, row: &[f32], codes: &mut [u8]) -> f32 {
    let (scale, inverse) = scale(largest_magnitude(kernel, row));
    if kernel.encode(row, inverse, codes).is_none() {
        plain_encode(kernel, row, inverse, codes);
    }
    scale
}

/// The bits of the largest magnitude. Absolute values compare like integers, and NaN and infinity are the largest.
pub(crate) fn largest_magnitude(kernel: Kernel, row: &[f32]) -> u32 {
    kernel.largest_magnitude(row).unwrap_or_else(|| {
        let mut largest = 0;
        plain_largest(kernel, row, &mut largest);
        largest
    })
}

per_kernel! {
    fn plain_largest(row: &[f32], largest: &mut u32) {
        let mut lanes = [0u32; 16];
        let runs = row.chunks_exact(16);
        for (lane, value) in lanes.iter_mut().zip(runs.remainder()) {
            *lane = value.to_bits() & 0x7fff_ffff;
        }
        for run in runs {
            for (lane, value) in lanes.iter_mut().zip(run) {
                *lane = (*lane).max(value.to_bits() & 0x7fff_ffff);
            }
        }
        *largest = lanes.into_iter().fold(0, u32::max);
    }
}

/// A row's scale, and what its values are multiplied with.
pub(crate) fn scale(largest: u32) -> (f32, f32) {
    let max = f32::from_bits(largest);
    let scale = if max.is_finite() { max / 127.0 } else { f32::NAN };
    // Below this, 127 / max overflows; such a row is zero for every purpose.
    let inverse = if max > 1e-36 && max.is_finite() { 127.0 / max } else { 0.0 };
    (scale, inverse)
}

per_kernel! {
    fn plain_encode(row: &[f32], inverse: f32, codes: &mut [u8]) {
        let (codes, tail) = codes.split_at_mut(row.len());
        plain_codes(row, inverse, codes);
        tail.fill(ZERO);
    }
}

/// A code a value.
#[inline(always)]
pub(crate) fn plain_codes(values: &[f32], inverse: f32, codes: &mut [u8]) {
    for (code, &value) in codes.iter_mut().zip(values) {
        let rounded = (value * inverse + ROUND).to_bits();
        // The low byte of the shifted mantissa is q in two's complement; + 128 flips its sign bit.
        *code = (rounded & 0xff) as u8 ^ ZERO;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(kernel: Kernel, row: &[f32]) -> (Vec<u8>, f32) {
        let threads = Threads::new(Some(1));
        let mut quantized = QuantizedRows::default();
        quantized.fill(kernel, &threads, row, row.len());
        (quantized.data().to_vec(), quantized.scales()[0])
    }

    proptest! {
        #[test]
        fn kernels_agree_and_round_to_nearest(row in prop::collection::vec(-50f32..50.0, 1..100)) {
            let (expected, scale) = run(Kernel::detect(), &row);
            for kernel in Kernel::available() {
                let (codes, other) = run(kernel, &row);
                prop_assert_eq!(&codes, &expected);
                prop_assert_eq!(other.to_bits(), scale.to_bits());
            }
            for (code, value) in expected.iter().zip(&row) {
                let q = i32::from(*code) - 128;
                prop_assert!((-127..=127).contains(&q));
                prop_assert!((q as f32 * scale - value).abs() <= scale * 0.501);
            }
            prop_assert!(expected[row.len()..].iter().all(|&code| code == 128));
        }
    }

    #[test]
    fn what_is_not_finite_poisons_its_scale() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            assert!(run(Kernel::detect(), &[1.0, bad, 2.0]).1.is_nan());
        }
        assert_eq!(run(Kernel::detect(), &[0.0, -0.0]), (vec![128; 64], 0.0));
        assert_eq!(run(Kernel::detect(), &[1e-42]).0, vec![128; 64]);
    }
}
