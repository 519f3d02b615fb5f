use proptest::prelude::*;

use super::*;
use crate::blocks::{dequantize, pack, row_len};
use crate::gemm::Activation;
use crate::kernel::Kernel;
use crate::layout;
use crate::threads::Threads;

/// `SplitMix64`: reproducible and without a dependency.
fn bits(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

fn values(seed: u64, len: usize) -> Vec<f32> {
    bits(seed).take(len).map(|bits| ((bits >> 40) as f32 / 16_777_216.0 - 0.5) * 4.0).collect()
}

/// Rows of a GGUF file: any codes, 6-bit scales and signs, and f16 scales around 0.01.
fn file(seed: u64, kind: BlockKind, n: usize, k: usize) -> Vec<u8> {
    let mut rows: Vec<u8> =
        bits(seed).take(n * row_len(kind, k)).map(|bits| (bits >> 56) as u8).collect();
    let factors: &[usize] = match kind {
        BlockKind::Q8_0 | BlockKind::Q4_0 | BlockKind::Q5_0 => &[0],
        BlockKind::Q6_K => &[208],
        _ => &[0, 2],
    };
    let mut random = values(!seed, rows.len()).into_iter();
    for block in rows.chunks_exact_mut(kind.gguf_block().1) {
        for &at in factors {
            let factor = half::f16::from_f32(random.next().unwrap_or(1.0) * 0.01);
            block[at..at + 2].copy_from_slice(&factor.to_le_bytes());
        }
    }
    rows
}

/// A matrix in one of its forms, and its values.
#[derive(Clone)]
enum Stored {
    Blocks(BlockKind, Vec<u8>),
    Bf16(Vec<bf16>),
    F32(Vec<f32>),
}

#[derive(Clone)]
struct Matrix {
    n: usize,
    stored: Stored,
    rows: Vec<f32>,
}

impl Matrix {
    /// The `form`th of the kinds of blocks, bf16 and f32.
    fn random(seed: u64, form: usize, n: usize, k: usize) -> Self {
        let Some(&kind) = BlockKind::ALL.get(form) else {
            let rows: Vec<f32> =
                layout::to_bf16(&values(seed, n * k)).iter().map(|v| v.to_f32()).collect();
            let stored = if form == BlockKind::ALL.len() {
                Stored::Bf16(layout::panels(&layout::to_bf16(&rows), n, k, 1))
            } else {
                Stored::F32(layout::panels(&rows, n, k, 1))
            };
            return Self { n, stored, rows };
        };
        let file = file(seed, kind, n, k);
        let mut rows = vec![0.0; n * k];
        dequantize(kind, &file, &mut rows);
        Self { n, stored: Stored::Blocks(kind, pack(kind, &file, n, k)), rows }
    }

    fn segment(&self) -> Segment<'_> {
        let panels = match &self.stored {
            Stored::Blocks(kind, panels) => SegmentPanels::Blocks(*kind, panels),
            Stored::Bf16(panels) => SegmentPanels::Bf16(panels),
            Stored::F32(panels) => SegmentPanels::F32(panels),
        };
        Segment { n: self.n, panels }
    }
}

const FORMS: usize = BlockKind::ALL.len() + 2;

struct Problem {
    k: usize,
    matrices: Vec<Matrix>,
    bias: Vec<f32>,
}

impl Problem {
    fn outputs(&self, activation: Activation) -> usize {
        if activation.is_gated() {
            self.matrices[0].n
        } else {
            self.matrices.iter().map(|matrix| matrix.n).sum()
        }
    }

    fn run(
        &self,
        kernel: Kernel,
        threads: usize,
        x: &[f32],
        activation: Activation,
        accumulate: bool,
    ) -> Vec<f32> {
        let threads = Threads::new(Some(threads));
        let cx = Context { kernel, threads: &threads };
        let mut quantized = QuantizedRuns::default();
        quantized.fill(kernel, &threads, x, self.k);
        let matrices: Vec<Segment<'_>> = self.matrices.iter().map(Matrix::segment).collect();
        let of = Segments { x, k: self.k, quantized: &quantized, matrices: &matrices, only: None };
        let epilogue = Epilogue { bias: Some(&self.bias), activation, accumulate };
        let mut out = values(7, x.len() / self.k * self.outputs(activation));
        segments(cx, &of, &epilogue, &mut out);
        out
    }
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// What the formula says in f64, up to the rounding of activations to 8 bits (told exactly) and of f32 sums.
    #[test]
    fn products_equal_the_values_of_their_codes(form in 0..BlockKind::ALL.len(), n in 1usize..80, blocks in 1usize..3, m in 1usize..8, seed: u64) {
        let k = 256 * blocks;
        let matrix = Matrix::random(seed, form, n, k);
        let problem = Problem { k, matrices: vec![matrix], bias: vec![0.0; n.next_multiple_of(PANEL)] };
        let x = values(!seed, m * k);
        let mut quantized = QuantizedRuns::default();
        let portable = Kernel::by_name("portable").unwrap();
        quantized.fill(portable, &Threads::new(Some(1)), &x, k);
        let out = problem.run(portable, 1, &x, Activation::Identity, false);
        for row in 0..m {
            let codes = &quantized.codes()[row * quantized.stride()..][..k];
            let scales = &quantized.runs()[row * k / 32..];
            for channel in 0..n {
                let weights = &problem.matrices[0].rows[channel * k..][..k];
                let terms = codes.iter().zip(weights).enumerate().map(|(at, (&code, &weight))| {
                    f64::from(code) * f64::from(scales[at / 32].scale) * f64::from(weight)
                });
                let (mut exact, mut size, mut coded) = (0.0, 0.0, 0.0);
                for term in terms {
                    exact += term;
                    size += term.abs();
                }
                for (&x, &weight) in x[row * k..][..k].iter().zip(weights) {
                    coded += f64::from(x) * f64::from(weight);
                }
                let found = f64::from(out[row * n + channel]);
                // Minima may be far larger than what is left of codes and them: their products round, too.
                prop_assert!((found - exact).abs() <= 2e-5 * size + 1e-6, "{found} {exact} of {size}");
                prop_assert!((found - coded).abs() <= 0.02 * size + 1e-6, "{found} {coded} of {size}");
            }
        }
    }

    /// The same bits in every kernel set, for one row and many, on one thread and several, of lists of any forms.
    #[test]
    fn kernels_rows_and_threads_agree(
        forms in prop::collection::vec((0..FORMS, 1usize..140), 1..4),
        m in 1usize..40,
        accumulate: bool,
        seed: u64,
    ) {
        let k = 512;
        let matrices: Vec<Matrix> = forms.iter().enumerate()
            .map(|(at, &(form, n))| Matrix::random(seed ^ at as u64, form, n, k)).collect();
        let n: usize = forms.iter().map(|(_, n)| n).sum();
        let problem = Problem { k, matrices, bias: layout::pad_to_panel(values(!seed ^ 1, n)) };
        let x = values(!seed, m * k);
        let run = |kernel, threads, x: &[f32]| problem.run(kernel, threads, x, Activation::Identity, accumulate);
        let expected = run(Kernel::by_name("portable").unwrap(), 1, &x);
        for kernel in Kernel::for_tests() {
            prop_assert!(same(&run(kernel, 2, &x), &expected), "{}", kernel.name());
        }
        if !accumulate {
            for (row, expected) in x.chunks_exact(k).zip(expected.chunks_exact(n)) {
                prop_assert!(same(&run(Kernel::detect(), 1, row), expected));
            }
            // Each matrix alone has the same columns.
            let mut first = 0;
            for matrix in &problem.matrices {
                let bias = layout::pad_to_panel(problem.bias[first..first + matrix.n].to_vec());
                let alone = Problem { k, matrices: vec![matrix.clone()], bias };
                let found = alone.run(Kernel::detect(), 1, &x, Activation::Identity, false);
                for (found, all) in found.chunks_exact(matrix.n).zip(expected.chunks_exact(n)) {
                    prop_assert!(same(found, &all[first..first + matrix.n]));
                }
                first += matrix.n;
            }
        }
    }

    /// A gate and an up projection of different forms, of any width.
    #[test]
    fn gates_are_their_formula(forms in [0..FORMS, 0..FORMS], n in 1usize..140, m in 1usize..9, by_tanh: bool, seed: u64) {
        let k = 256;
        let matrices: Vec<Matrix> = forms.iter().enumerate()
            .map(|(at, &form)| Matrix::random(seed ^ at as u64, form, n, k)).collect();
        let problem = Problem { k, matrices, bias: layout::pad_to_panel(values(!seed ^ 1, 2 * n)) };
        let x = values(!seed, m * k);
        let (gate, act): (_, fn(f32) -> f32) =
            if by_tanh { (Activation::GeGlu, crate::math::gelu_tanh) } else { (Activation::SwiGlu, crate::math::silu) };
        let portable = Kernel::by_name("portable").unwrap();
        let both = problem.run(portable, 1, &x, Activation::Identity, false);
        let expected: Vec<f32> = both.chunks_exact(2 * n)
            .flat_map(|both| (0..n).map(|at| act(both[at]) * both[n + at]).collect::<Vec<_>>()).collect();
        for kernel in Kernel::for_tests() {
            prop_assert!(same(&problem.run(kernel, 2, &x, gate, false), &expected), "{}", kernel.name());
        }
    }
}

/// Codes and activations at their ends, where sums of 16 bits would saturate.
#[test]
fn sums_are_exact_at_the_ends() {
    let (n, k) = (64, 256);
    for kind in BlockKind::ALL {
        for (byte, sign) in [(0xff, 1.0), (0x00, 1.0), (0xff, -1.0), (0x80, -1.0), (0x7f, 1.0)] {
            let mut file = vec![byte; n * row_len(kind, k)];
            let factors: &[usize] = match kind {
                BlockKind::Q8_0 | BlockKind::Q4_0 | BlockKind::Q5_0 => &[0],
                BlockKind::Q6_K => &[208],
                _ => &[0, 2],
            };
            for block in file.chunks_exact_mut(kind.gguf_block().1) {
                for &at in factors {
                    block[at..at + 2].copy_from_slice(&half::f16::ONE.to_le_bytes());
                }
            }
            let mut rows = vec![0.0; n * k];
            dequantize(kind, &file, &mut rows);
            let x = vec![127.0 * sign; k];
            let exact: f64 = rows[..k].iter().map(|&w| f64::from(w) * f64::from(x[0])).sum();
            let stored = Stored::Blocks(kind, pack(kind, &file, n, k));
            let matrices = vec![Matrix { n, stored, rows }];
            let problem = Problem { k, matrices, bias: vec![0.0; n] };
            for kernel in Kernel::for_tests() {
                let out = problem.run(kernel, 1, &x, Activation::Identity, false);
                for found in out {
                    let error = (f64::from(found) - exact).abs();
                    assert!(
                        error <= 1e-5 * exact.abs(),
                        "{} {kernel:?} {found} {exact}",
                        kind.name()
                    );
                }
            }
        }
    }
}

/// What is not finite spoils the rows that have it, and no others.
#[test]
fn a_row_that_is_not_finite_stays_so() {
    let (n, k) = (70, 256);
    for form in 0..FORMS {
        let matrices = vec![Matrix::random(3, form, n, k)];
        let problem = Problem { k, matrices, bias: vec![0.0; 128] };
        let mut x = values(5, 3 * k);
        x[k + 17] = f32::NAN;
        for kernel in Kernel::for_tests() {
            let out = problem.run(kernel, 1, &x, Activation::Identity, false);
            assert!(out[n..2 * n].iter().all(|value| value.is_nan()));
            assert!(out[..n].iter().chain(&out[2 * n..]).all(|value| value.is_finite()));
        }
    }
}

/// Only panels that somebody needs are multiplied, and they have the values that they would have among all.
#[test]
fn panels_that_nobody_needs_are_left_alone() {
    let (n, k, m) = (300, 256, 9);
    let matrices = vec![Matrix::random(3, 0, n, k)];
    let problem = Problem { k, matrices, bias: vec![0.0; 320] };
    let x = values(5, m * k);
    let all = problem.run(Kernel::detect(), 2, &x, Activation::Identity, false);
    let needed = |panel: usize, rows: Range<usize>| panel == 1 && rows.contains(&7) || panel == 4;
    for kernel in Kernel::for_tests() {
        let threads = Threads::new(Some(2));
        let mut quantized = QuantizedRuns::default();
        quantized.fill(kernel, &threads, &x, k);
        let matrices = [problem.matrices[0].segment()];
        let of =
            Segments { x: &x, k, quantized: &quantized, matrices: &matrices, only: Some(&needed) };
        let mut out = vec![9.0; m * n];
        let cx = Context { kernel, threads: &threads };
        segments(cx, &of, &Epilogue::default(), &mut out);
        for row in 0..m {
            let (found, all) = (&out[row * n..][..n], &all[row * n..][..n]);
            assert!(same(&found[256..], &all[256..]));
            assert!(same(&found[..64], &[9.0; 64]) && same(&found[128..256], &[9.0; 128]));
        }
        assert!(same(&out[7 * n + 64..][..64], &all[7 * n + 64..][..64]));
    }
}
