//! Rows to int8 on the emulated device: the integers and scales of the CPU engine, to the bit.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "small shapes, and values that are compared to the bit"
)]

mod emulated;

use defrost_gpu::kernels::{Float, Quantize};
use emulated::{Device, Random, halved, widened};

/// The engine's rule, value by value.
fn expected(row: &[f32]) -> (Vec<i8>, f32) {
    let largest = row.iter().map(|value| value.to_bits() & 0x7fff_ffff).max().expect("a value");
    let max = f32::from_bits(largest);
    if !max.is_finite() {
        return (vec![0; row.len()], f32::NAN);
    }
    let inverse = if max > 1e-36 { 127.0 / max } else { 0.0 };
    let code = |value: &f32| (value * inverse).round_ties_even() as i8;
    (row.iter().map(code).collect(), max / 127.0)
}

/// Rows as the type holds them, quantised on a device.
fn run(
    device: &Device,
    x_type: Float,
    rows: &[f32],
    width: usize,
    order: u64,
) -> (Vec<i8>, Vec<f32>) {
    let count = rows.len() / width;
    let quantize = Quantize {
        rows: count as u32,
        width: width as u32,
        x: match x_type {
            Float::F32 => device.put(rows),
            Float::Half(half) => device.put(&halved(half, rows)),
        },
        x_type,
        q: device.room::<i8>(count * width),
        scales: device.room::<f32>(count),
    };
    device.run(&quantize.launch(), order);
    (device.get(quantize.q, count * width), device.get(quantize.scales, count))
}

fn held(x_type: Float, rows: &[f32]) -> Vec<f32> {
    match x_type {
        Float::F32 => rows.to_vec(),
        Float::Half(half) => widened(half, &halved(half, rows)),
    }
}

fn check(x_type: Float, rows: &[f32], width: usize, order: u64) {
    let (codes, scales) = run(&Device::new(), x_type, rows, width, order);
    let rows = held(x_type, rows);
    for (at, row) in rows.chunks(width).enumerate() {
        let (own, scale) = expected(row);
        assert_eq!(codes[at * width..][..width], own, "{x_type:?}, width {width}, row {at}");
        assert_eq!(scales[at].is_nan(), scale.is_nan(), "{x_type:?}, width {width}, row {at}");
        if !scale.is_nan() {
            assert_eq!(
                scales[at].to_bits(),
                scale.to_bits(),
                "{x_type:?}, width {width}, row {at}"
            );
        }
    }
}

#[test]
fn rows_of_any_width_are_the_engines() {
    for width in [1, 2, 7, 8, 9, 16, 31, 64, 100, 127, 128, 384, 599, 600, 1024, 1032, 2500] {
        for x_type in Float::ALL {
            let mut random = Random::new(width as u64);
            let mut rows = Vec::new();
            // Rows of very different size, one of which is zeros.
            for size in [1.0, 1e-3, 0.0, 300.0, 7.3] {
                rows.extend(random.floats(width).iter().map(|value| value * size));
            }
            check(x_type, &rows, width, width as u64);
        }
    }
}

#[test]
fn halves_go_to_the_even_neighbour() {
    let row = [127.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 3.4999];
    let (codes, scales) = run(&Device::new(), Float::F32, &row, 8, 1);
    assert_eq!((codes, scales), (vec![127, 0, 2, 2, 0, -2, -2, 3], vec![1.0]));
}

#[test]
fn what_is_not_finite_spoils_its_own_row() {
    for width in [5, 8, 200] {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for x_type in Float::ALL {
                let mut rows = Random::new(9).floats(3 * width);
                rows[2 * width - 1] = bad;
                check(x_type, &rows, width, 3);
                let (_, scales) = run(&Device::new(), x_type, &rows, width, 3);
                assert_eq!([false, true, false], [0, 1, 2].map(|row| scales[row].is_nan()));
            }
        }
    }
    // Too small for 127 / max, and for a scale.
    let (codes, scales) = run(&Device::new(), Float::F32, &[1e-42, -1e-40, 1e-37], 3, 1);
    assert_eq!(codes, [0, 0, 0]);
    assert!(scales[0] >= 0.0);
}

#[test]
fn no_order_of_threads_changes_a_bit() {
    for (x_type, width) in [(Float::F32, 131), (Float::ALL[0], 520)] {
        let (rows, device) = (Random::new(5).floats(3 * width), Device::new());
        let (codes, scales) = run(&device, x_type, &rows, width, 0);
        for order in 1..200 {
            assert_eq!(run(&device, x_type, &rows, width, order), (codes.clone(), scales.clone()));
        }
    }
}
