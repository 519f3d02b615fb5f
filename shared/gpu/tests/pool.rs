//! Pooling on the emulator against f64.

#![allow(clippy::cast_possible_truncation, reason = "shapes are small")]

mod emulated;

use defrost_gpu::kernels::{Pool, Pooling, SequenceRow};
use emulated::{Device, Random, assert_close, bits};

const KINDS: [Pooling; 6] =
    [Pooling::First, Pooling::Last, Pooling::Mean, Pooling::Max, Pooling::Sqrt, Pooling::Weighted];

fn run(kind: Pooling, hidden: &[f32], lens: &[usize], width: usize, seed: u64) -> Vec<f32> {
    let device = Device::new();
    let mut start = 0;
    let sequences: Vec<SequenceRow> = lens
        .iter()
        .map(|&len| {
            start += len as u32;
            // A prefix and stored rows do not count.
            let before =
                SequenceRow { prefix_start: 0, prefix_len: 3, stored: 2, ..SequenceRow::default() };
            SequenceRow { start: start - len as u32, len: len as u32, ..before }
        })
        .collect();
    let out = device.room::<f32>(lens.len() * width);
    let pool = Pool {
        kind,
        hidden: device.put(hidden),
        width: width as u32,
        sequences: device.put(&sequences),
        count: lens.len() as u32,
        out,
    };
    device.run(&pool.launch(), seed);
    device.get(out, lens.len() * width)
}

fn formula(kind: Pooling, rows: &[f32], width: usize) -> Vec<f64> {
    let rows: Vec<Vec<f64>> =
        rows.chunks_exact(width).map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect();
    let count = rows.len() as f64;
    let sum = |weight: &dyn Fn(usize) -> f64| -> Vec<f64> {
        let of =
            |column: usize| rows.iter().enumerate().map(|(at, row)| row[column] * weight(at)).sum();
        (0..width).map(of).collect()
    };
    let largest = |column: usize| rows.iter().map(|row| row[column]).fold(f64::MIN, f64::max);
    match kind {
        Pooling::First => rows[0].clone(),
        Pooling::Last => rows[rows.len() - 1].clone(),
        Pooling::Mean => sum(&|_| 1.0 / count),
        Pooling::Max => (0..width).map(largest).collect(),
        Pooling::Sqrt => sum(&|_| 1.0 / count.sqrt()),
        Pooling::Weighted => sum(&|at| (at + 1) as f64 / (count * (count + 1.0) / 2.0)),
    }
}

#[test]
fn every_pooling_agrees_with_the_formula() {
    let lens = [1, 2, 7, 8, 9, 33, 600];
    let rows: usize = lens.iter().sum();
    for kind in KINDS {
        for width in [1, 31, 33, 100] {
            let hidden = Random::new(width as u64).floats(rows * width);
            let found = run(kind, &hidden, &lens, width, 1);
            let mut rest = hidden.as_slice();
            for (found, len) in found.chunks_exact(width).zip(lens) {
                let (own, after) = rest.split_at(len * width);
                rest = after;
                assert_close(found, &formula(kind, own, width), 1e-6, &(kind, width, len));
            }
        }
    }
}

#[test]
fn a_nan_is_not_lost() {
    for kind in KINDS {
        for row in [0, 1, 11, 19] {
            let mut hidden = Random::new(1).floats(20 * 3);
            hidden[row * 3 + 1] = f32::NAN;
            let found = run(kind, &hidden, &[20], 3, 1);
            let read = match kind {
                Pooling::First => row == 0,
                Pooling::Last => row == 19,
                _ => true,
            };
            assert_eq!(found.iter().map(|x| x.is_nan()).collect::<Vec<_>>(), [false, read, false]);
        }
    }
}

#[test]
fn no_order_of_threads_and_no_batch_changes_a_bit() {
    for kind in KINDS {
        let hidden = Random::new(2).floats(24 * 40);
        let first = bits(&run(kind, &hidden, &[21, 3], 40, 0));
        for seed in 1..200 {
            assert_eq!(
                bits(&run(kind, &hidden, &[21, 3], 40, seed)),
                first,
                "{kind:?}, seed {seed}"
            );
        }
        assert_eq!(bits(&run(kind, &hidden[..21 * 40], &[21], 40, 300)), first[..40]);
        assert_eq!(bits(&run(kind, &hidden[21 * 40..], &[3], 40, 300)), first[40..]);
    }
}
