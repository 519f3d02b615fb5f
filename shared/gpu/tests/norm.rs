//! Norms on the emulator against f64; 16-bit and int8 results to the bit against the f32 one.

#![allow(clippy::cast_possible_truncation, reason = "shapes are small")]

mod emulated;

use defrost_gpu::Address;
use defrost_gpu::kernels::{Half, Norm, NormKind};
use emulated::{Device, Random, assert_close, bits, halved, widened};

/// Where a test's norm leaves everything that it can.
struct Places {
    norm: Norm,
    rows: usize,
    out: Address,
    out_f32: Address,
    q: Address,
    scales: Address,
}

/// A norm of rows that asks for everything but `keep`.
fn places(
    device: &Device,
    kind: NormKind,
    half: Half,
    x: &[f32],
    width: usize,
    row_of: Option<&[u32]>,
) -> Places {
    let rows = row_of.map_or(x.len() / width, <[u32]>::len);
    let (weight, bias) = weights(width);
    let (out, out_f32) = (device.room::<u16>(rows * width), device.room::<f32>(rows * width));
    let (q, scales) = (device.room::<i8>(rows * width), device.room::<f32>(rows));
    let norm = Norm {
        kind,
        rows: rows as u32,
        width: width as u32,
        eps: EPS,
        x: device.put(x),
        row_of: row_of.map(|rows| device.put(rows)),
        weight: device.put(&weight),
        bias: (kind == NormKind::Layer).then(|| device.put(&bias)),
        keep: false,
        out: Some((out, half)),
        out_f32: Some(out_f32),
        quantized: Some((q, scales)),
    };
    Places { norm, rows, out, out_f32, q, scales }
}

const EPS: f32 = 1e-5;

fn weights(width: usize) -> (Vec<f32>, Vec<f32>) {
    (Random::new(77).floats(width), Random::new(78).floats(width))
}

fn formula(kind: NormKind, x: &[f32]) -> Vec<f64> {
    let (weight, bias) = weights(x.len());
    let count = x.len() as f64;
    let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let mean = if kind == NormKind::Rms { 0.0 } else { x.iter().sum::<f64>() / count };
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let inverse = (variance + f64::from(EPS)).sqrt().recip();
    let weighted = x.iter().zip(weight).zip(bias);
    weighted
        .map(|((x, weight), bias)| {
            let bias = if kind == NormKind::Rms { 0.0 } else { f64::from(bias) };
            (x - mean) * inverse * f64::from(weight) + bias
        })
        .collect()
}

/// As the CPU's engine does it.
fn quantize(row: &[f32]) -> (Vec<i8>, f32) {
    let largest = row.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
    let inverse = if largest > 1e-36 { 127.0 / largest } else { 0.0 };
    let code = |x: &f32| (x * inverse).round_ties_even() as i8;
    (row.iter().map(code).collect(), largest / 127.0)
}

#[test]
fn every_width_agrees_with_the_formula() {
    for (number, width) in
        [1, 3, 4, 31, 32, 100, 384, 1000, 1023, 1024, 1025, 1028, 2051, 4096, 8200, 16_384]
            .into_iter()
            .enumerate()
    {
        for kind in [NormKind::Layer, NormKind::Rms] {
            let half = Half::ALL[number % 2];
            let device = Device::new();
            let x = Random::new(number as u64).floats(5 * width);
            let places = places(&device, kind, half, &x, width, None);
            device.run(&places.norm.launch(), number as u64);
            let out = device.get::<f32>(places.out_f32, x.len());
            for (found, x) in out.chunks_exact(width).zip(x.chunks_exact(width)) {
                assert_close(found, &formula(kind, x), 2e-6, &(kind, width));
            }
            assert_eq!(device.get::<u16>(places.out, x.len()), halved(half, &out));
            let q = device.get::<i8>(places.q, x.len());
            let scales = device.get::<f32>(places.scales, places.rows);
            for ((row, q), scale) in out.chunks_exact(width).zip(q.chunks_exact(width)).zip(scales)
            {
                assert_eq!((q.to_vec(), scale), quantize(row), "{kind:?} of {width}");
            }
        }
    }
}

#[test]
fn rows_are_chosen_and_kept() {
    for width in [40, 1100] {
        let device = Device::new();
        let x = Random::new(1).floats(6 * width);
        let chosen = [5u32, 0, 3];
        let mut places = places(&device, NormKind::Layer, Half::Bf16, &x, width, Some(&chosen));
        places.norm.keep = true;
        device.run(&places.norm.launch(), 1);
        let out = device.get::<f32>(places.out_f32, chosen.len() * width);
        let kept = device.get::<f32>(places.norm.x, x.len());
        for (row, kept) in kept.chunks_exact(width).enumerate() {
            let before = &x[row * width..][..width];
            match chosen.iter().position(|&chosen| chosen as usize == row) {
                Some(at) => {
                    let own = &out[at * width..][..width];
                    assert_close(own, &formula(NormKind::Layer, before), 2e-6, &row);
                    assert_eq!(bits(own), bits(kept));
                }
                None => assert_eq!(bits(before), bits(kept)),
            }
        }
    }
}

/// A variance taken as the difference of two large numbers would be wrong by a third here.
#[test]
fn the_variance_is_taken_about_the_mean() {
    for width in [64, 1536] {
        let x: Vec<f32> = Random::new(3).floats(width).iter().map(|x| 3000.0 + x).collect();
        let device = Device::new();
        let places = places(&device, NormKind::Layer, Half::Bf16, &x, width, None);
        device.run(&places.norm.launch(), 1);
        let out = device.get::<f32>(places.out_f32, width);
        assert_close(&out, &formula(NormKind::Layer, &x), 1e-3, &width);
    }
}

#[test]
fn a_row_that_is_not_finite_has_no_scale_and_a_row_of_zeros_has_the_scale_zero() {
    for width in [33, 64, 1040] {
        let mut x = Random::new(4).floats(4 * width);
        x[width + 2] = f32::NAN;
        x[2 * width..3 * width].fill(0.0);
        x[3 * width + 1] = f32::INFINITY;
        let device = Device::new();
        let places = places(&device, NormKind::Rms, Half::F16, &x, width, None);
        device.run(&places.norm.launch(), 1);
        let scales = device.get::<f32>(places.scales, 4);
        assert!(scales[0] > 0.0 && scales[1].is_nan() && scales[2] == 0.0 && scales[3].is_nan());
        let out = widened(Half::F16, &device.get::<u16>(places.out, 4 * width));
        let nan = |row: usize| out[row * width..][..width].iter().any(|x| x.is_nan());
        assert_eq!([nan(0), nan(1), nan(2), nan(3)], [false, true, false, true]);
        assert!(
            device.get::<i8>(places.q, 4 * width)[2 * width..3 * width].iter().all(|&q| q == 0)
        );
    }
}

/// Halves go to the even neighbour, and a row too small for a factor is zeros.
#[test]
fn codes_are_those_of_the_engine() {
    let halves = [127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -126.5, 3.25];
    let tiny = [1e-37, 0.0, -1e-38, 9e-37, 1e-45, 0.0, 0.0, 5e-37];
    for (weight, codes) in [(halves, [127, 0, 2, 2, 0, -2, -126, 3]), (tiny, [0; 8])] {
        for width in [8, 7] {
            let device = Device::new();
            let x = vec![1.0; width];
            let mut places = places(&device, NormKind::Rms, Half::Bf16, &x, width, None);
            // With a row of ones the result is the weight.
            places.norm.eps = 0.0;
            places.norm.weight = device.put(&weight[..width]);
            device.run(&places.norm.launch(), 1);
            assert_eq!(bits(&device.get(places.out_f32, width)), bits(&weight[..width]));
            assert_eq!(device.get::<i8>(places.q, width), codes[..width]);
            let largest = weight[..width].iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
            assert_eq!(bits(&device.get(places.scales, 1)), bits(&[largest / 127.0]));
        }
    }
}

#[test]
fn no_order_of_threads_and_no_batch_changes_a_bit() {
    for width in [100, 1027] {
        let x = Random::new(9).floats(5 * width);
        let run = |x: &[f32], seed| {
            let device = Device::new();
            let places = places(&device, NormKind::Layer, Half::Bf16, x, width, None);
            device.run(&places.norm.launch(), seed);
            let rows = places.rows;
            let out = bits(&device.get::<f32>(places.out_f32, x.len()));
            (out, device.get::<i8>(places.q, x.len()), bits(&device.get(places.scales, rows)))
        };
        let first = run(&x, 0);
        for seed in 1..200 {
            assert_eq!(run(&x, seed), first, "seed {seed}");
        }
        for (row, x) in x.chunks_exact(width).enumerate() {
            let own = row * width..(row + 1) * width;
            let (out, q, scales) = run(x, 300);
            assert_eq!(out, first.0[own.clone()]);
            assert_eq!((q.as_slice(), scales[0]), (&first.1[own], first.2[row]));
        }
    }
}
