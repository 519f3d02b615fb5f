//! Head norms and rotation on the emulator against f64.

#![allow(clippy::cast_possible_truncation, reason = "shapes are small")]

mod emulated;

use defrost_gpu::kernels::{Half, HeadNorms, Rotary, Rotation};
use emulated::{Device, Random, assert_close, halved, widened};

#[derive(Debug, Clone, Copy)]
struct Case {
    half: Half,
    rows: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    turns: bool,
    norms: bool,
}

const EPS: f32 = 1e-6;

impl Case {
    fn width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    fn qkv(&self) -> Vec<u16> {
        halved(self.half, &Random::new(1).floats(self.rows * self.width()))
    }

    /// Places that do not follow each other.
    fn positions(&self) -> Vec<u32> {
        (0..self.rows as u32).map(|row| row * 7 % 11).collect()
    }

    fn angles(&self) -> Vec<f32> {
        let half = self.head_dim / 2;
        let angle = |position: usize, pair: usize| {
            position as f32 / 1000f32.powf(2.0 * pair as f32 / self.head_dim as f32)
        };
        let row = |position| {
            let cos = (0..half).map(move |pair| angle(position, pair).cos());
            cos.chain((0..half).map(move |pair| angle(position, pair).sin()))
        };
        (0..11).flat_map(row).collect()
    }

    fn norm_weights(&self) -> [Vec<f32>; 2] {
        [Random::new(2).floats(self.head_dim), Random::new(3).floats(self.head_dim)]
    }

    fn run(&self, seed: u64) -> Vec<u16> {
        let device = Device::new();
        let qkv = device.put(&self.qkv());
        let rotation = Rotation {
            positions: device.put(&self.positions()),
            angles: device.put(&self.angles()),
        };
        let [query, key] = self.norm_weights().map(|weight| device.put(&weight));
        let rotary = Rotary {
            rows: self.rows as u32,
            heads: self.heads as u32,
            kv_heads: self.kv_heads as u32,
            head_dim: self.head_dim as u32,
            qkv,
            half: self.half,
            rotation: self.turns.then_some(rotation),
            norms: self.norms.then_some(HeadNorms { query, key, eps: EPS }),
        };
        device.run(&rotary.launch(), seed);
        device.get(qkv, self.rows * self.width())
    }

    fn check(&self) {
        let (dim, half) = (self.head_dim, self.head_dim / 2);
        let (before, found) = (self.qkv(), self.run(1));
        let (angles, positions) = (self.angles(), self.positions());
        let weights = self.norm_weights();
        let heads = before.chunks_exact(dim).zip(found.chunks_exact(dim)).enumerate();
        for (at, (before, found)) in heads {
            let (row, head) = (at / (self.width() / dim), at % (self.width() / dim));
            if head >= self.heads + self.kv_heads {
                assert_eq!(before, found, "{self:?}: values are left alone");
                continue;
            }
            let mut x: Vec<f64> =
                widened(self.half, before).iter().map(|&x| f64::from(x)).collect();
            if self.norms {
                let square = x.iter().map(|x| x * x).sum::<f64>() / dim as f64;
                let inverse = (square + f64::from(EPS)).sqrt().recip();
                let weight = &weights[usize::from(head >= self.heads)];
                x.iter_mut().zip(weight).for_each(|(x, &weight)| *x *= inverse * f64::from(weight));
            }
            if self.turns {
                let angles = &angles[positions[row] as usize * dim..][..dim];
                for pair in 0..half {
                    let (cos, sin) = (f64::from(angles[pair]), f64::from(angles[half + pair]));
                    let (a, b) = (x[pair], x[half + pair]);
                    x[pair] = a * cos - b * sin;
                    x[half + pair] = b * cos + a * sin;
                }
            }
            let within = if self.half == Half::Bf16 { 4e-3 } else { 5e-4 };
            assert_close(&widened(self.half, found), &x, within, &(self, row, head));
        }
    }
}

#[test]
fn heads_are_normalised_and_turned() {
    for (number, head_dim) in [4, 8, 20, 32, 64, 80, 96, 128, 132, 256].into_iter().enumerate() {
        for (turns, norms) in [(true, false), (true, true), (false, true)] {
            let half = Half::ALL[number % 2];
            Case { half, rows: 13, heads: 4, kv_heads: 2, head_dim, turns, norms }.check();
            Case { half, rows: 2, heads: 1, kv_heads: 1, head_dim, turns, norms }.check();
        }
    }
}

#[test]
fn no_order_of_threads_changes_a_bit() {
    let half = Half::Bf16;
    let case =
        Case { half, rows: 3, heads: 4, kv_heads: 2, head_dim: 72, turns: true, norms: true };
    let first = case.run(0);
    for seed in 1..200 {
        assert_eq!(case.run(seed), first, "seed {seed}");
    }
}
