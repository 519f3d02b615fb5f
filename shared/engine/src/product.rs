//! One int8 product outside of a model: what packing measures quantisation with.
//!
//! It is the product that a forward pass runs, with the same rounding of activations and the same
//! kernels, whose int8 results are equal bit for bit on every processor: a decision made from them
//! is the same wherever a model is packed.

use crate::gemm::{self, Context, Epilogue, Int8Product};
use crate::layout::{INT8_GROUP, int8_offsets, pad_to_panel, panels, quantize_rows};
use crate::quantize::QuantizedRows;
use crate::{Kernel, Threads};

/// A matrix of `n` channels of `k` inputs, int8 with one scale per channel.
#[derive(Debug)]
pub struct Int8Matrix {
    n: usize,
    k: usize,
    panels: Vec<i8>,
    scales: Vec<f32>,
    offsets: Vec<i32>,
}

impl Int8Matrix {
    /// Quantises row-major channels of `k` inputs each, as `pack` does.
    pub fn quantize(rows: &[f32], k: usize) -> Self {
        let (quantized, scales) = quantize_rows(rows, k);
        Self::new(&quantized, scales, k)
    }

    /// A matrix that [`quantize_rows`] has made.
    pub fn new(quantized: &[i8], scales: Vec<f32>, k: usize) -> Self {
        let n = scales.len();
        Self {
            n,
            k,
            panels: panels(quantized, n, k, INT8_GROUP),
            offsets: pad_to_panel(int8_offsets(quantized, k)),
            scales: pad_to_panel(scales),
        }
    }

    /// `x W^T` for rows of `k` activations, which are quantised with one scale per row.
    pub fn multiply(&self, kernel: Kernel, threads: &Threads, x: &[f32]) -> Vec<f32> {
        let mut quantized = QuantizedRows::default();
        quantized.fill(kernel, threads, x, self.k);
        let product = Int8Product {
            x: &quantized,
            panels: &self.panels,
            scales: &self.scales,
            offsets: &self.offsets,
            k: self.k,
        };
        let mut out = vec![0.0; x.len() / self.k * self.n];
        let cx = Context { kernel, threads };
        gemm::int8(cx, &product, self.n, &Epilogue::default(), &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multiplies_alike_with_every_kernel() {
        let (n, k, rows) = (70, 37, 9);
        let value = |at: usize| ((at * 7919 % 1009) as f32 / 504.5 - 1.0) * 2.0;
        let weights: Vec<f32> = (0..n * k).map(value).collect();
        let x: Vec<f32> = (0..rows * k).map(|at| value(at + 5)).collect();
        let threads = Threads::new(Some(2));
        let matrix = Int8Matrix::quantize(&weights, k);
        let found = matrix.multiply(Kernel::detect(), &threads, &x);
        for kernel in Kernel::available() {
            assert_eq!(matrix.multiply(kernel, &threads, &x), found);
        }
        for (row, found) in x.chunks_exact(k).zip(found.chunks_exact(n)) {
            for (channel, found) in weights.chunks_exact(k).zip(found) {
                let exact: f32 = row.iter().zip(channel).map(|(x, w)| x * w).sum();
                assert!((exact - found).abs() < 0.02 * k as f32, "{exact} {found}");
            }
        }
    }
}
