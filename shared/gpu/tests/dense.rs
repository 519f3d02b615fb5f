//! Small layers on the emulated device against f64.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::float_cmp,
    reason = "small shapes, and values that are compared to the bit"
)]

mod emulated;

use defrost_gpu::kernels::{Activation, Dense};
use emulated::{Device, Random, gelu, silu};

struct Layer {
    rows: usize,
    n: usize,
    k: usize,
    x: Vec<f32>,
    weight: Vec<f32>,
    bias: Option<Vec<f32>>,
}

impl Layer {
    fn new(rows: usize, n: usize, k: usize, bias: bool) -> Self {
        let mut random = Random::new((rows * 1_000_000 + n * 1000 + k) as u64);
        let (x, weight) = (random.floats(rows * k), random.floats(n * k));
        let bias = bias.then(|| random.floats(n));
        Self { rows, n, k, x, weight, bias }
    }

    fn run(&self, device: &Device, activation: Activation, order: u64) -> Vec<f32> {
        let dense = Dense {
            rows: self.rows as u32,
            n: self.n as u32,
            k: self.k as u32,
            x: device.put(&self.x),
            weight: device.put(&self.weight),
            bias: self.bias.as_ref().map(|bias| device.put(bias)),
            activation,
            tiled: self.rows.min(self.n) >= 32,
            out: device.room::<f32>(self.rows * self.n),
        };
        device.run(&dense.launch(), order);
        device.get(dense.out, self.rows * self.n)
    }

    /// Checks each value against the function of its sum, within what f32 sums of k products may be off.
    fn check(&self, activation: Activation) {
        let got = self.run(&Device::new(), activation, 3);
        let off = 1e-6 * (self.k as f64).sqrt() + 1e-6;
        for (row, x) in self.x.chunks(self.k).enumerate() {
            for (column, weight) in self.weight.chunks(self.k).enumerate() {
                let products = x.iter().zip(weight).map(|(&x, &w)| f64::from(x) * f64::from(w));
                let bias = self.bias.as_ref().map_or(0.0, |bias| f64::from(bias[column]));
                let expected = exact(activation, products.sum::<f64>() + bias);
                let value = f64::from(got[row * self.n + column]);
                assert!(
                    (value - expected).abs() <= off * (1.0 + expected.abs()),
                    "{activation:?} of {} x {} x {}: row {row}, column {column}: expected {expected}, found {value}",
                    self.rows,
                    self.n,
                    self.k
                );
            }
        }
    }
}

fn exact(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Tanh => x.tanh(),
        Activation::Relu => x.max(0.0),
        Activation::Gelu => gelu(x),
        Activation::Silu => silu(x),
        Activation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
    }
}

#[test]
fn layers_of_any_shape() {
    for rows in [1, 2, 4, 5, 13] {
        for n in [1, 2, 4, 7, 33] {
            for (k, bias) in
                [(1, true), (3, false), (31, true), (128, false), (200, true), (401, true)]
            {
                Layer::new(rows, n, k, bias).check(Activation::Identity);
            }
        }
    }
}

/// From half a tile on in both directions: tiles.
#[test]
fn layers_of_many_rows_and_columns() {
    for (rows, n) in [(32, 32), (33, 70), (64, 64), (65, 129), (130, 40)] {
        for (k, bias) in [(1, true), (16, false), (18, true), (44, true), (97, false)] {
            Layer::new(rows, n, k, bias).check(Activation::Gelu);
        }
    }
}

#[test]
fn every_activation() {
    for activation in Activation::ALL {
        for k in [7, 64] {
            Layer::new(6, 9, k, true).check(activation);
        }
    }
}

#[test]
fn not_a_number_passes_every_activation_in_its_row_alone() {
    for activation in Activation::ALL {
        for k in [5, 8] {
            let mut layer = Layer::new(3, 2, k, true);
            layer.x[k + 3] = f32::NAN;
            let got = layer.run(&Device::new(), activation, 1);
            let nan: Vec<bool> = got.iter().map(|value| value.is_nan()).collect();
            assert_eq!(nan, [false, false, true, true, false, false], "{activation:?}");
        }
    }
}

#[test]
fn no_order_of_threads_changes_a_bit() {
    for layer in [Layer::new(5, 6, 130, true), Layer::new(34, 35, 36, true)] {
        let device = Device::new();
        let first = layer.run(&device, Activation::Gelu, 0);
        for order in 1..200 {
            assert_eq!(layer.run(&device, Activation::Gelu, order), first, "order {order}");
        }
    }
}
