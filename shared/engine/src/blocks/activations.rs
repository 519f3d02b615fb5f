//! Activations for products with blocks: int8 with a scale for every run of 32.
//!
//! A scale a token, as products of whole int8 matrices have it, would let one outlier of a language model's hidden state take the
//! digits of all others. Beside the scale of a run stand the sums of its codes: what weights add that are stored
//! unsigned (`128 * sum` too much for codes `q + 128`) or have minima (`m * sum`) is then one number for all channels.
//!
//! A run's codes depend on its 32 values alone. A run with NaN or infinity has the scale NaN, so that everything computed
//! from it is NaN.

use bytemuck::{Pod, Zeroable};

use super::RUN;
use crate::buffer::Buffer;
use crate::kernel::{Kernel, per_kernel};
use crate::math::ROUND;
use crate::quantize::scale;
use crate::threads::Threads;

/// What belongs to the codes of a run.
#[derive(Debug, Clone, Copy, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RunScale {
    /// `x = code * scale`.
    pub(crate) scale: f32,
    /// Minus the sum of all codes, of the first 16 and of the last 16.
    pub(crate) minus_sums: [i32; 3],
}

/// Rows of quantised activations.
#[derive(Debug, Default)]
pub(crate) struct QuantizedRuns {
    codes: Buffer<i8>,
    runs: Buffer<RunScale>,
    rows: usize,
    k: usize,
}

/// Values of a task: a few microseconds of work.
const TASK_VALUES: usize = 1 << 15;

impl QuantizedRuns {
    /// Quantises `rows` of `k` values each.
    ///
    /// # Panics
    /// If a row is no whole number of runs.
    #[allow(unsafe_code, reason = "scales of rows, each row written by its own task")]
    pub(crate) fn fill(&mut self, kernel: Kernel, threads: &Threads, rows: &[f32], k: usize) {
        assert!(k > 0 && k.is_multiple_of(RUN) && rows.len().is_multiple_of(k), "rows of runs");
        (self.rows, self.k) = (rows.len() / k, k);
        let (stride, per_row) = (self.stride(), k / RUN);
        self.codes.resize(self.rows * stride);
        self.runs.resize(self.rows * per_row);
        let runs = crate::gemm::SharedOut::new(&mut self.runs);
        let task_rows = TASK_VALUES.div_ceil(k);
        threads.for_each_chunk(&mut self.codes, task_rows * stride, |task, codes| {
            for (row, codes) in codes.chunks_exact_mut(stride).enumerate() {
                let at = task * task_rows + row;
                // SAFETY: each row belongs to one task.
                let runs = unsafe { runs.run(at * per_row, per_row) };
                quantize(kernel, &rows[at * k..][..k], codes, runs);
            }
        });
    }

    /// Codes, in rows [`QuantizedRuns::stride`] apart.
    pub(crate) fn codes(&self) -> &[i8] {
        &self.codes
    }

    /// Scales, row after row.
    pub(crate) fn runs(&self) -> &[RunScale] {
        &self.runs
    }

    /// Codes from one row to the next: on cache lines, and not at distances of 4096 bytes, where rows of a tile would push each other
    /// out of the first-level cache.
    pub(crate) fn stride(&self) -> usize {
        let lines = self.k.div_ceil(64);
        (lines + usize::from(lines.is_multiple_of(2))) * 64
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Values of a row.
    pub(crate) fn inputs(&self) -> usize {
        self.k
    }
}

/// Codes and scales of one row.
fn quantize(kernel: Kernel, row: &[f32], codes: &mut [i8], runs: &mut [RunScale]) {
    let (values, _) = row.as_chunks::<RUN>();
    let (codes, _) = codes.as_chunks_mut::<RUN>();
    for ((values, codes), run) in values.iter().zip(codes).zip(runs) {
        quantize_run(kernel, values, codes, run);
    }
}

per_kernel! {
    /// Codes and scale of one run. Of one, because compilers would compute several runs side by side and gather their values.
    fn quantize_run(values: &[f32; RUN], codes: &mut [i8; RUN], run: &mut RunScale) {
        const HALF: usize = RUN / 2;
        let mut lanes = [0u32; HALF];
        for (at, lane) in lanes.iter_mut().enumerate() {
            let of = |at: usize| values[at].to_bits() & 0x7fff_ffff;
            *lane = of(at).max(of(HALF + at));
        }
        let mut width = HALF / 2;
        while width > 0 {
            for lane in 0..width {
                lanes[lane] = lanes[lane].max(lanes[lane + width]);
            }
            width /= 2;
        }
        let (scale, inverse) = scale(lanes[0]);
        let mut sums = [0; 2];
        for half in 0..2 {
            let mut rounded = [0i32; HALF];
            for at in 0..HALF {
                // The low byte of the shifted mantissa is the code in two's complement.
                let bits = (values[half * HALF + at] * inverse + ROUND).to_bits();
                rounded[at] = (bits as i32) << 24 >> 24;
            }
            for at in 0..HALF {
                codes[half * HALF + at] = rounded[at] as i8;
            }
            sums[half] = rounded.iter().sum::<i32>();
        }
        *run = RunScale { scale, minus_sums: [-(sums[0] + sums[1]), -sums[0], -sums[1]] };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(
        kernel: Kernel,
        rows: &[f32],
        k: usize,
        threads: usize,
    ) -> (Vec<Vec<i8>>, Vec<RunScale>) {
        let mut quantized = QuantizedRuns::default();
        quantized.fill(kernel, &Threads::new(Some(threads)), rows, k);
        assert_eq!((quantized.rows(), quantized.inputs()), (rows.len() / k, k));
        let rows = quantized.codes().chunks_exact(quantized.stride());
        (rows.map(|row| row[..k].to_vec()).collect(), quantized.runs().to_vec())
    }

    proptest! {
        #[test]
        fn kernels_agree_and_sums_are_those_of_the_codes(
            rows in prop::collection::vec(prop::collection::vec(-50f32..50.0, 96..=96), 1..5),
        ) {
            let k = 96;
            let flat = rows.concat();
            let (codes, runs) = run(Kernel::detect(), &flat, k, 1);
            for kernel in Kernel::available() {
                let found = run(kernel, &flat, k, 2);
                prop_assert_eq!(&found.0, &codes);
                prop_assert_eq!(&found.1, &runs);
            }
            for (row, codes) in rows.iter().zip(&codes) {
                let alone = run(Kernel::detect(), row, k, 1);
                prop_assert_eq!(&alone.0[0], codes);
            }
            let codes = codes.concat();
            for ((values, codes), run) in flat.chunks(RUN).zip(codes.chunks(RUN)).zip(&runs) {
                let sum = |codes: &[i8]| codes.iter().map(|&code| i32::from(code)).sum::<i32>();
                prop_assert_eq!(run.minus_sums, [-sum(codes), -sum(&codes[..16]), -sum(&codes[16..])]);
                for (value, &code) in values.iter().zip(codes) {
                    prop_assert!(code >= -127);
                    prop_assert!((f32::from(code) * run.scale - value).abs() <= run.scale * 0.501);
                }
            }
        }
    }

    #[test]
    fn what_is_not_finite_poisons_its_run_alone() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut row = [1.0; 64];
            row[3] = bad;
            let (_, runs) = run(Kernel::detect(), &row, 64, 1);
            assert!(runs[0].scale.is_nan() && runs[1].scale.is_finite());
        }
        let (codes, runs) = run(Kernel::detect(), &[0.0; 32], 32, 1);
        assert_eq!(codes, [[0; 32]]);
        assert_eq!(runs, [RunScale { scale: 0.0, minus_sums: [0; 3] }]);
        assert_eq!(run(Kernel::detect(), &[1e-42; 32], 32, 1).0, [[0; 32]]);
    }
}
