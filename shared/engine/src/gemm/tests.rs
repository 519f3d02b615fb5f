use proptest::prelude::*;

use super::*;
use crate::layout::{self, INT8_GROUP};

fn problem(seed: u64, len: usize) -> Vec<f32> {
    // SplitMix64: reproducible and without a dependency.
    let mut state = seed;
    (0..len)
        .map(|_| {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z >> 40) as f32 / 16_777_216.0 - 0.5) * 4.0
        })
        .collect()
}

struct Packed {
    panels: Vec<i8>,
    scales: Vec<f32>,
    offsets: Vec<i32>,
    rows: Vec<i8>,
}

fn pack(weights: &[f32], n: usize, k: usize) -> Packed {
    let (rows, scales) = layout::quantize_rows(weights, k);
    Packed {
        panels: layout::panels(&rows, n, k, INT8_GROUP),
        offsets: layout::pad_to_panel(layout::int8_offsets(&rows, k)),
        scales: layout::pad_to_panel(scales),
        rows,
    }
}

fn run_int8(
    kernel: Kernel,
    threads: usize,
    x: &[f32],
    k: usize,
    packed: &Packed,
    n: usize,
) -> Vec<f32> {
    let threads = Threads::new(Some(threads));
    let mut quantized = QuantizedRows::default();
    quantized.fill(kernel, &threads, x, k);
    let mut out = vec![0.0; x.len() / k * n];
    let product = Int8Product {
        x: &quantized,
        panels: &packed.panels,
        scales: &packed.scales,
        offsets: &packed.offsets,
        k,
    };
    int8(Context { kernel, threads: &threads }, &product, n, &Epilogue::default(), &mut out);
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The integer part is exact in every kernel set: equal to i64 arithmetic on the same codes,
    /// with extreme values that would saturate 16-bit sums.
    #[test]
    fn integer_sums_are_exact(m in 1usize..14, n in 1usize..140, groups in 1usize..40, extreme: bool, seed: u64) {
        let k = groups * INT8_GROUP;
        let mut x: Vec<u8> = problem(seed, m * k).iter().map(|v| (v.to_bits() >> 3) as u8).collect();
        let mut w: Vec<i8> = problem(!seed, n * k).iter().map(|v| (v.to_bits() >> 3) as u8 as i8).collect();
        if extreme {
            x = x.iter().map(|x| 0xfe | (x & 1)).collect();
            w = w.iter().map(|w| if w & 1 == 0 { 127 } else { -128 }).collect();
        }
        let panels = layout::panels(&w, n, k, INT8_GROUP);
        let offsets = layout::pad_to_panel((0..n as i32).collect());
        for kernel in Kernel::for_tests() {
            let tile_rows = kernel.set().int8.rows;
            for rows in (0..m).collect::<Vec<_>>().chunks(tile_rows) {
                for panel in 0..n.div_ceil(PANEL) {
                    let mut sums = vec![[77; PANEL]; tile_rows];
                    let operands = Operands::new(&x[rows[0] * k..], k, rows.len(), &panels[panel * PANEL * k..][..PANEL * k], PANEL);
                    kernel.int8_tile(&operands, of_panel(&offsets, panel), &mut sums);
                    for (&row, sums) in rows.iter().zip(&sums) {
                        for (column, &sum) in sums.iter().enumerate().take(n - (panel * PANEL).min(n)) {
                            let channel = panel * PANEL + column;
                            if channel >= n { continue; }
                            let exact: i64 = (0..k).map(|i| i64::from(x[row * k + i]) * i64::from(w[channel * k + i])).sum();
                            prop_assert_eq!(i64::from(sum), exact - channel as i64);
                        }
                    }
                }
            }
        }
    }

    /// Pairs of 16-bit numbers, in panels of every width.
    #[test]
    fn pair_sums_are_exact(rows in 1usize..=MOST_ROWS, registers in 1usize..=4, pairs in 1usize..70, seed: u64) {
        let (width, stride) = (16 * registers, 2 * pairs + 3);
        let codes = |seed: u64, len: usize| -> Vec<i16> {
            problem(seed, len).iter().map(|v| ((v.to_bits() >> 3) as i16) >> 3).collect()
        };
        let (x, panel) = (codes(seed, rows * stride), codes(!seed, pairs * 2 * width));
        for kernel in Kernel::for_tests() {
            let rows = rows.min(kernel.set().int16.rows);
            let mut sums = vec![[77; PANEL]; rows];
            kernel.int16_tile(&Operands::new(&x, stride, rows, &panel, width), &mut sums);
            for (row, sums) in sums.iter().enumerate().take(rows) {
                for (column, &sum) in sums.iter().enumerate().take(width) {
                    let exact: i64 = (0..2 * pairs).map(|i| {
                        i64::from(x[row * stride + i]) * i64::from(panel[(i / 2 * width + column) * 2 + i % 2])
                    }).sum();
                    prop_assert_eq!(i64::from(sum), exact);
                }
            }
        }
    }

    /// Finished in registers or through memory, at the edges of a matrix or inside: the same bits.
    #[test]
    fn every_kernel_finishes_alike(m in 1usize..20, panels in 1usize..4, edge in 0usize..64, k in 1usize..90, step in 0usize..4, seed: u64) {
        let gated = step == 3;
        // The gate and the up projection must each be whole panels.
        let n = if gated { 2 * PANEL * panels } else { PANEL * panels - edge };
        let (x, weights) = (problem(seed, m * k), problem(!seed, n * k));
        let packed = pack(&weights, n, k);
        let bias = layout::pad_to_panel(problem(seed ^ 1, n));
        let activation = [Activation::Identity, Activation::Gelu, Activation::Identity, Activation::SwiGlu][step];
        let epilogue = Epilogue { bias: Some(&bias), activation, accumulate: step == 2 };
        let run = |kernel: Kernel| {
            let threads = Threads::new(Some(2));
            let mut quantized = QuantizedRows::default();
            quantized.fill(kernel, &threads, &x, k);
            let product = Int8Product { x: &quantized, panels: &packed.panels, scales: &packed.scales, offsets: &packed.offsets, k };
            let mut out = problem(seed ^ 2, m * if gated { n / 2 } else { n });
            int8(Context { kernel, threads: &threads }, &product, n, &epilogue, &mut out);
            out.into_iter().map(f32::to_bits).collect::<Vec<_>>()
        };
        let expected = run(Kernel::by_name("portable").unwrap());
        for kernel in Kernel::for_tests() {
            prop_assert_eq!(run(kernel), expected.clone());
        }
    }

    #[test]
    fn int8_products_equal_the_formula_in_every_kernel(m in 1usize..20, n in 1usize..140, k in 1usize..90, seed: u64) {
        let (x, weights) = (problem(seed, m * k), problem(!seed, n * k));
        let packed = pack(&weights, n, k);
        let expected = run_int8(Kernel::by_name("portable").unwrap(), 1, &x, k, &packed, n);
        for kernel in Kernel::for_tests() {
            let out = run_int8(kernel, 2, &x, k, &packed, n);
            prop_assert!(out.iter().zip(&expected).all(|(a, b)| a.to_bits() == b.to_bits()));
        }
        for row in 0..m {
            let x = &x[row * k..][..k];
            let max = x.iter().fold(0f32, |max, v| max.max(v.abs()));
            for channel in 0..n {
                let exact: f64 = x.iter().zip(&packed.rows[channel * k..]).map(|(&x, &w)| {
                    f64::from((x * (127.0 / max)).round_ties_even()) * f64::from(max / 127.0) * f64::from(w) * f64::from(packed.scales[channel])
                }).sum();
                prop_assert!((f64::from(expected[row * n + channel]) - exact).abs() < 1e-3 * (1.0 + exact.abs()));
            }
        }
    }

    #[test]
    fn float_products_are_right_and_independent_of_the_batch(m in 1usize..20, n in 1usize..140, k in 1usize..90, seed: u64) {
        let (x, weights) = (problem(seed, m * k), problem(!seed, n * k));
        let panels = layout::panels(&weights, n, k, 1);
        let halves = layout::panels(&layout::to_bf16(&weights), n, k, 1);
        for kernel in Kernel::for_tests() {
            for (panels, tolerance) in [(FloatPanels::F32(&panels), 1e-4), (FloatPanels::Bf16(&halves), 2e-2)] {
                let run = |kernel: Kernel, x: &[f32], threads: usize| {
                    let threads = Threads::new(Some(threads));
                    let mut out = vec![0.0; x.len() / k * n];
                    float(Context { kernel, threads: &threads }, x, k, panels, n, &Epilogue::default(), &mut out);
                    out
                };
                let all = run(kernel, &x, 2);
                let reference = run(Kernel::by_name("portable").unwrap(), &x, 1);
                for row in 0..m {
                    let alone = run(kernel, &x[row * k..][..k], 1);
                    for channel in 0..n {
                        let exact: f64 = (0..k).map(|i| f64::from(x[row * k + i]) * f64::from(weights[channel * k + i])).sum();
                        prop_assert!((f64::from(alone[channel]) - exact).abs() < tolerance * (k as f64).sqrt() * 4.0);
                        prop_assert_eq!(alone[channel].to_bits(), all[row * n + channel].to_bits());
                        prop_assert_eq!(alone[channel].to_bits(), reference[row * n + channel].to_bits());
                    }
                }
            }
        }
    }
}

#[test]
fn epilogue_adds_bias_activates_and_accumulates() {
    let (n, k) = (70, 5);
    let weights = problem(7, n * k);
    let x = problem(8, k);
    let panels = layout::panels(&weights, n, k, 1);
    let bias = layout::pad_to_panel(problem(9, n));
    for kernel in Kernel::for_tests() {
        let threads = Threads::new(Some(1));
        let cx = Context { kernel, threads: &threads };
        let run = |epilogue: Epilogue<'_>| {
            let mut out = vec![2.0; n];
            float(cx, &x, k, FloatPanels::F32(&panels), n, &epilogue, &mut out);
            out
        };
        let plain = run(Epilogue::default());
        let gelu =
            run(Epilogue { bias: Some(&bias), activation: Activation::Gelu, accumulate: true });
        let tanh =
            run(Epilogue { bias: Some(&bias), activation: Activation::Tanh, accumulate: false });
        for channel in 0..n {
            let y = plain[channel] + bias[channel];
            assert_eq!(gelu[channel].to_bits(), (2.0 + crate::math::gelu(y)).to_bits());
            assert_eq!(tanh[channel].to_bits(), y.tanh().to_bits());
        }
    }
}
