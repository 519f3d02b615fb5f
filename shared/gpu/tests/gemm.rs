//! Products on the emulated device against sums in f64: every tile, type and epilogue, odd shapes, gaps between rows.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "small shapes, and values that are compared to the bit"
)]

mod emulated;

use defrost_gpu::kernels::{Element, Epilogue, Gemm, Half, OutType, Tile};
use emulated::{Device, Random, gelu, halved, silu, widened};
use proptest::prelude::*;

/// What lies between the rows of C: it must stay.
const GAP: f32 = 12_345.0;

#[derive(Debug, Clone, Copy)]
struct Case {
    element: Element,
    m: usize,
    n: usize,
    k: usize,
    epilogue: Epilogue,
    out_type: OutType,
    bias: bool,
    tile: Option<Tile>,
    /// Granules between the rows of A, and values between those of C.
    gaps: (usize, usize),
    seed: u64,
}

impl Case {
    fn new(element: Element, tile: Tile, m: usize, n: usize, k: usize) -> Self {
        Self {
            element,
            m,
            n,
            k,
            epilogue: Epilogue::Store,
            out_type: OutType::F32,
            bias: true,
            tile: Some(tile),
            gaps: (1, 3),
            seed: 7,
        }
    }

    fn columns(&self) -> usize {
        if self.epilogue == Epilogue::SwiGlu { self.n / 2 } else { self.n }
    }
}

/// The operands of a case: as they lie in memory, and what they mean.
struct Operands {
    a: Vec<f64>,
    weight: Vec<f64>,
    a_bytes: Vec<u8>,
    weight_bytes: Vec<u8>,
    a_scales: Vec<f32>,
    weight_scales: Vec<f32>,
    bias: Vec<f32>,
    before: Vec<f32>,
}

impl Operands {
    fn new(case: &Case) -> Self {
        let mut random = Random::new(case.seed);
        let stride = case.k + case.gaps.0 * case.element.granule() as usize;
        let (mut a, a_bytes) = matrix(case.element, case.m, case.k, stride, &mut random);
        let (mut weight, weight_bytes) = matrix(case.element, case.n, case.k, case.k, &mut random);
        let mut scales = |rows: usize| -> Vec<f32> {
            (0..rows).map(|_| (random.float() + 2.0) / 127.0).collect()
        };
        let (mut a_scales, mut weight_scales) = (Vec::new(), Vec::new());
        if case.element == Element::Int8 {
            (a_scales, weight_scales) = (scales(case.m), scales(case.n));
            scale(&mut a, &a_scales, case.k);
            scale(&mut weight, &weight_scales, case.k);
        }
        let bias = random.floats(case.n);
        let before = random.floats(case.m * case.columns());
        Self { a, weight, a_bytes, weight_bytes, a_scales, weight_scales, bias, before }
    }

    /// C in f64, row after row without gaps.
    fn product(&self, case: &Case) -> Vec<f64> {
        let mut sums = Vec::with_capacity(case.m * case.n);
        for a in self.a.chunks_exact(case.k) {
            for (weight, &bias) in self.weight.chunks_exact(case.k).zip(&self.bias) {
                let sum: f64 = a.iter().zip(weight).map(|(a, w)| a * w).sum();
                sums.push(sum + f64::from(bias) * f64::from(u8::from(case.bias)));
            }
        }
        match case.epilogue {
            Epilogue::Store => sums,
            Epilogue::Gelu => sums.into_iter().map(gelu).collect(),
            Epilogue::SwiGlu => sums
                .chunks_exact(case.n)
                .flat_map(|row| {
                    let (gates, ups) = row.split_at(case.n / 2);
                    gates.iter().zip(ups).map(|(&gate, up)| silu(gate) * up)
                })
                .collect(),
            Epilogue::AddTo => sums
                .iter()
                .zip(&self.before)
                .map(|(sum, &before)| sum + f64::from(before))
                .collect(),
        }
    }

    /// C as the device computes it, and the bits of all that lies there.
    fn run(&self, case: &Case, device: &Device, order: u64) -> (Vec<f32>, Vec<u8>) {
        let (columns, stride) = (case.columns(), case.columns() + case.gaps.1);
        let mut before = vec![GAP; (case.m - 1) * stride + columns];
        for (row, values) in self.before.chunks_exact(columns).enumerate() {
            before[row * stride..][..columns].copy_from_slice(values);
        }
        let out = match case.out_type {
            OutType::F32 => device.put(&before),
            OutType::Half(half) => device.put(&halved(half, &before)),
        };
        let int8 = case.element == Element::Int8;
        let gemm = Gemm {
            element: case.element,
            m: case.m as u32,
            n: case.n as u32,
            k: case.k as u32,
            a: device.put(&self.a_bytes),
            a_stride: case.k as u32 + case.gaps.0 as u32 * case.element.granule(),
            a_scales: int8.then(|| device.put(&self.a_scales)),
            weight: device.put(&self.weight_bytes),
            weight_scales: int8.then(|| device.put(&self.weight_scales)),
            bias: case.bias.then(|| device.put(&self.bias)),
            epilogue: case.epilogue,
            out,
            out_stride: stride as u32,
            out_type: case.out_type,
            tile: case.tile,
        };
        device.run(&gemm.launch(20), order);
        let (values, bytes) = match case.out_type {
            OutType::F32 => {
                let values = device.get::<f32>(out, before.len());
                let bytes = bytemuck::cast_slice(&values).to_vec();
                (values, bytes)
            }
            OutType::Half(half) => {
                let bits = device.get::<u16>(out, before.len());
                (widened(half, &bits), bytemuck::cast_slice(&bits).to_vec())
            }
        };
        let mut rows = Vec::new();
        for row in values.chunks(stride) {
            rows.extend_from_slice(&row[..columns]);
            let gap = widened_gap(case.out_type);
            assert!(row[columns..].iter().all(|&value| value == gap), "between the rows: {case:?}");
        }
        (rows, bytes)
    }
}

fn widened_gap(out_type: OutType) -> f32 {
    match out_type {
        OutType::F32 => GAP,
        OutType::Half(half) => widened(half, &halved(half, &[GAP]))[0],
    }
}

/// Random values, and their bytes with rows `stride` values apart; what lies between would spoil every sum.
fn matrix(
    element: Element,
    rows: usize,
    k: usize,
    stride: usize,
    random: &mut Random,
) -> (Vec<f64>, Vec<u8>) {
    let half = match element {
        Element::Bf16 => Half::Bf16,
        Element::F16 => Half::F16,
        Element::Int8 => {
            let codes: Vec<i8> =
                (0..rows * k).map(|_| (random.below(255) as i32 - 127) as i8).collect();
            let values = codes.iter().map(|&code| f64::from(code)).collect();
            return (values, bytemuck::cast_slice(&apart(&codes, k, stride, 127)).to_vec());
        }
    };
    let bits = halved(half, &random.floats(rows * k));
    let values = widened(half, &bits).into_iter().map(f64::from).collect();
    (values, bytemuck::cast_slice(&apart(&bits, k, stride, 0x7fff)).to_vec())
}

fn apart<T: Copy>(values: &[T], k: usize, stride: usize, between: T) -> Vec<T> {
    let mut spread = vec![between; (values.len() / k - 1) * stride + k];
    for (row, values) in values.chunks_exact(k).enumerate() {
        spread[row * stride..][..k].copy_from_slice(values);
    }
    spread
}

fn scale(values: &mut [f64], scales: &[f32], k: usize) {
    for (row, &scale) in values.chunks_exact_mut(k).zip(scales) {
        for value in row {
            *value *= f64::from(scale);
        }
    }
}

/// How far a value may be off, as a share of the largest of its row or of 1: the rounding of the result, and of sums
/// in f32, which are of the size of 1 and more even where a gate or GELU leaves nearly nothing of them.
fn tolerance(out_type: OutType) -> f64 {
    match out_type {
        OutType::Half(Half::Bf16) => 4e-3,
        OutType::Half(Half::F16) => 6e-4,
        OutType::F32 => 1e-5,
    }
}

fn check(case: &Case) {
    let operands = Operands::new(case);
    let (got, _) = operands.run(case, &Device::new(), case.seed);
    let expected = operands.product(case);
    assert_eq!(got.len(), expected.len());
    let columns = case.columns();
    for (row, (got, expected)) in got.chunks(columns).zip(expected.chunks(columns)).enumerate() {
        let largest = expected.iter().fold(1.0, |largest: f64, value| largest.max(value.abs()));
        for (column, (&got, expected)) in got.iter().zip(expected).enumerate() {
            let off = (f64::from(got) - expected).abs() / largest;
            // Written so that a NaN is off.
            assert!(
                off <= tolerance(case.out_type),
                "{case:?}: row {row}, column {column}: expected {expected}, found {got}"
            );
        }
    }
}

/// More than a tile in both directions, k longer than all stages together, and no length a multiple of anything.
#[test]
fn every_tile_multiplies_every_type() {
    for tile in Tile::ALL {
        let shape = tile.shape();
        for (element, epilogue) in
            Element::ALL.into_iter().zip([Epilogue::Gelu, Epilogue::SwiGlu, Epilogue::AddTo])
        {
            let (m, n) = (shape.rows as usize + 3, shape.columns as usize + 6);
            let k = (shape.depth * shape.stages / element.bytes() + element.granule()) as usize;
            check(&Case { epilogue, ..Case::new(element, tile, m, n, k) });
        }
    }
}

#[test]
fn every_epilogue_stores_every_type() {
    for tile in [Tile::T128x64, Tile::T64x64, Tile::T32x64, Tile::T16x32] {
        for (element, out_type) in
            Element::ALL.into_iter().flat_map(|element| OutType::ALL.map(|out| (element, out)))
        {
            for epilogue in Epilogue::ALL {
                if epilogue == Epilogue::AddTo && out_type != OutType::F32 {
                    continue;
                }
                // Rows of C on 16 bytes, so that whole vectors are stored beside single values at the end.
                let gaps = (0, if epilogue == Epilogue::SwiGlu { 3 } else { 6 });
                check(&Case { epilogue, out_type, gaps, ..Case::new(element, tile, 21, 42, 48) });
            }
        }
    }
}

fn any_case() -> impl Strategy<Value = Case> {
    let tile = prop::option::of(prop::sample::select(Tile::ALL.to_vec()));
    let kinds = (
        prop::sample::select(Element::ALL.to_vec()),
        prop::sample::select(Epilogue::ALL.to_vec()),
        prop::sample::select(OutType::ALL.to_vec()),
        any::<bool>(),
    );
    let lengths = (1usize..=150, 1usize..=150, 1usize..=40);
    let gaps = (0usize..=2, 0usize..=9);
    (kinds, lengths, tile, gaps, any::<u64>()).prop_map(
        |((element, epilogue, out_type, bias), (m, n, granules), tile, gaps, seed)| Case {
            element,
            m,
            n: if epilogue == Epilogue::SwiGlu { n.next_multiple_of(2) } else { n },
            k: granules * element.granule() as usize,
            epilogue,
            out_type: if epilogue == Epilogue::AddTo { OutType::F32 } else { out_type },
            bias,
            tile,
            gaps,
            seed,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_is_multiplied(case in any_case()) {
        check(&case);
    }
}

/// Scales of 1 and sums below 2^24: every value of C is the integer, to the last one.
#[test]
fn int8_sums_are_exact() {
    for tile in [Tile::T128x128, Tile::T64x64, Tile::T16x64] {
        let case = Case { bias: false, ..Case::new(Element::Int8, tile, 37, 70, 1024) };
        let mut operands = Operands::new(&case);
        let mut random = Random::new(3);
        // The first rows have the largest magnitudes that there are, so that sums come close to the limit.
        operands.a_bytes[..1024].fill(127);
        operands.weight_bytes[..1024].fill(127);
        operands.weight_bytes[1024..2048].fill(-127i8 as u8);
        for row in operands.a_bytes.chunks_mut(1040).skip(1) {
            for code in &mut row[..1024] {
                *code = random.next() as u8;
            }
        }
        operands.a_scales.fill(1.0);
        operands.weight_scales.fill(1.0);
        let (got, _) = operands.run(&case, &Device::new(), 1);
        for (row, got) in operands.a_bytes.chunks(1040).zip(got.chunks(70)) {
            for (weight, &got) in operands.weight_bytes.chunks(1024).zip(got) {
                let products =
                    row.iter().zip(weight).map(|(&a, &w)| i32::from(a as i8) * i32::from(w as i8));
                assert_eq!(got, products.sum::<i32>() as f32);
            }
        }
        assert_eq!(got[..2], [16_516_096.0, -16_516_096.0]);
    }
}

/// The same bits in whatever order threads and blocks run.
#[test]
fn no_order_of_threads_changes_a_bit() {
    let cases = [
        Case::new(Element::Bf16, Tile::T64x64, 20, 30, 72),
        Case { epilogue: Epilogue::SwiGlu, ..Case::new(Element::F16, Tile::T32x64, 20, 30, 136) },
        Case { epilogue: Epilogue::AddTo, ..Case::new(Element::Int8, Tile::T16x32, 5, 20, 272) },
    ];
    for case in cases {
        let (operands, device) = (Operands::new(&case), Device::new());
        let (_, first) = operands.run(&case, &device, 0);
        for order in 1..200 {
            assert!(operands.run(&case, &device, order).1 == first, "{case:?}, order {order}");
        }
    }
}

/// A row's result does not depend on how many rows are multiplied with it.
#[test]
fn tiles_agree_to_the_bit() {
    for element in [Element::Bf16, Element::F16] {
        let case = Case::new(element, Tile::T64x64, 40, 50, 200);
        let (operands, device) = (Operands::new(&case), Device::new());
        let (_, first) = operands.run(&case, &device, 1);
        for tile in Tile::ALL {
            let (_, other) = operands.run(&Case { tile: Some(tile), ..case }, &device, 1);
            assert!(other == first, "{element:?}, {tile}");
        }
    }
}

/// What is no number stays in its row of A or its row of W.
#[test]
fn not_a_number_spoils_its_row_and_its_column_alone() {
    for epilogue in Epilogue::ALL {
        for element in Element::ALL {
            let case = Case { epilogue, ..Case::new(element, Tile::T64x64, 19, 36, 64) };
            let mut operands = Operands::new(&case);
            match element {
                Element::Int8 => {
                    operands.a_scales[4] = f32::NAN;
                    operands.weight_scales[7] = f32::NAN;
                }
                // 0xffff is a NaN of both types.
                Element::Bf16 | Element::F16 => {
                    operands.a_bytes[4 * 72 * 2..][..2].fill(0xff);
                    operands.weight_bytes[7 * 64 * 2..][..2].fill(0xff);
                }
            }
            let (got, _) = operands.run(&case, &Device::new(), 1);
            for (row, values) in got.chunks(case.columns()).enumerate() {
                for (column, value) in values.iter().enumerate() {
                    assert_eq!(
                        value.is_nan(),
                        row == 4 || column == 7,
                        "{case:?}: {row}, {column}"
                    );
                }
            }
        }
    }
}
