//! An emulated device with arrays in it, and numbers to fill them with.

#![allow(dead_code, reason = "no test needs all of it")]

use bytemuck::{AnyBitPattern, NoUninit};
use defrost_gpu::{Address, Launch};
use defrost_gpu_emulator::Emulator;
use half::{bf16, f16};

/// A device of its own for each test.
pub(crate) struct Device(Emulator);

impl Device {
    pub(crate) fn new() -> Self {
        Self(Emulator::new())
    }

    /// A copy of the values, with nothing readable before or behind them.
    pub(crate) fn put<T: NoUninit>(&self, values: &[T]) -> Address {
        let bytes = bytemuck::cast_slice::<T, u8>(values);
        let address = self.0.allocate(bytes.len());
        self.0.write(address, bytes);
        Address(address)
    }

    /// Room for so many values, which hold NaN.
    pub(crate) fn room<T>(&self, count: usize) -> Address {
        Address(self.0.allocate(count * size_of::<T>()))
    }

    pub(crate) fn get<T: AnyBitPattern + NoUninit>(&self, at: Address, count: usize) -> Vec<T> {
        let mut values = vec![T::zeroed(); count];
        self.0.read(at.0, bytemuck::cast_slice_mut(&mut values));
        values
    }

    /// Runs it, with threads and blocks in the order of the seed.
    pub(crate) fn run(&self, launch: &Launch, seed: u64) {
        let Launch { kernel, grid, block, shared, params } = *launch;
        let done = self.0.launch(kernel, grid, block, shared, params.bytes(), seed);
        done.unwrap_or_else(|fault| panic!("{fault}"));
    }
}

/// Numbers without a pattern, the same ones for the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 24) as u32
    }

    /// From -1 to 1.
    pub(crate) fn float(&mut self) -> f32 {
        (f64::from(self.next()) / f64::from(u32::MAX) * 2.0 - 1.0) as f32
    }

    pub(crate) fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.float()).collect()
    }

    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.next() % end
    }
}

/// The values in two bytes each, as bits.
pub(crate) fn halved(half: defrost_gpu::kernels::Half, values: &[f32]) -> Vec<u16> {
    use defrost_gpu::kernels::Half;
    let bits = |&value: &f32| match half {
        Half::Bf16 => bf16::from_f32(value).to_bits(),
        Half::F16 => f16::from_f32(value).to_bits(),
    };
    values.iter().map(bits).collect()
}

/// What such bits say.
pub(crate) fn widened(half: defrost_gpu::kernels::Half, bits: &[u16]) -> Vec<f32> {
    use defrost_gpu::kernels::Half;
    let value = |&bits: &u16| match half {
        Half::Bf16 => bf16::from_bits(bits).to_f32(),
        Half::F16 => f16::from_bits(bits).to_f32(),
    };
    bits.iter().map(value).collect()
}

/// The error function to 1e-15: its series for small, its continued fraction for large arguments.
pub(crate) fn erf(x: f64) -> f64 {
    if x.abs() < 3.0 {
        let (mut term, mut sum) = (x, x);
        for i in 1..80 {
            term *= -x * x / f64::from(i);
            sum += term / f64::from(2 * i + 1);
        }
        return sum * 2.0 / std::f64::consts::PI.sqrt();
    }
    let fraction = (1..80).rev().fold(x, |below, i| x + f64::from(i) / 2.0 / below);
    let tail = |x: f64| (-x * x).exp() / std::f64::consts::PI.sqrt() / fraction.abs();
    (1.0 - tail(x)).copysign(x)
}

pub(crate) fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + erf(x / std::f64::consts::SQRT_2))
}

pub(crate) fn silu(x: f64) -> f64 {
    x / (1.0 + (-x).exp())
}

/// The bits of values, to compare with.
pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Fails where a value is further from what it should be than the share `within` of the largest of these.
#[track_caller]
pub(crate) fn assert_close(
    found: &[f32],
    expected: &[f64],
    within: f64,
    what: &dyn std::fmt::Debug,
) {
    assert_eq!(found.len(), expected.len(), "{what:?}");
    let largest = expected.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    for (at, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let off = (f64::from(found) - expected).abs();
        assert!(
            off <= within * largest,
            "{what:?}: value {at} is {found}, not {expected} (largest {largest})"
        );
    }
}
