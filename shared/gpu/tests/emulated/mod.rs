//! A device with arrays in it, and numbers to fill them with.
//!
//! It is the emulator, whose threads run in the order of a seed. With `TEST_DEVICE` it is the device of that name instead,
//! so that a card can be asked the same: `TEST_DEVICE=cuda cargo test -p defrost-gpu --features cuda,cubins`. A card has
//! its own order, whatever the seed: where all seeds must agree, its runs must.

#![allow(dead_code, reason = "no test needs all of it")]

use std::cell::RefCell;
use std::env;
use std::sync::Arc;

use bytemuck::{AnyBitPattern, NoUninit};
use defrost_gpu::device::{self, Memory, Opening, Stream};
use defrost_gpu::{Address, Launch};
use defrost_gpu_emulator::Emulator;
use half::{bf16, f16};

/// A device of its own for each test.
pub(crate) struct Device(Kind);

enum Kind {
    Emulator(Emulator),
    /// One that all tests of a process share, each with a stream and memory of its own.
    Named {
        device: Arc<dyn device::Device>,
        stream: Box<dyn Stream>,
        memory: RefCell<Vec<Memory>>,
    },
}

static OPENING: Opening = Opening::new();

impl Device {
    pub(crate) fn new() -> Self {
        let Some(name) = env::var_os("TEST_DEVICE") else {
            return Self(Kind::Emulator(Emulator::new()));
        };
        let device = OPENING.device(name.to_str()).unwrap_or_else(|error| panic!("{error}"));
        let stream = device.stream().expect("a device has streams");
        Self(Kind::Named { device, stream, memory: RefCell::default() })
    }

    fn allocate(&self, bytes: usize) -> Address {
        match &self.0 {
            Kind::Emulator(emulator) => Address(emulator.allocate(bytes)),
            Kind::Named { device, memory, .. } => {
                let own = Memory::new(device, bytes).expect("tests need little memory");
                let at = own.address();
                memory.borrow_mut().push(own);
                at
            }
        }
    }

    /// A copy of the values, with nothing readable before or behind them.
    pub(crate) fn put<T: NoUninit>(&self, values: &[T]) -> Address {
        let bytes = bytemuck::cast_slice::<T, u8>(values);
        let address = self.allocate(bytes.len());
        match &self.0 {
            Kind::Emulator(emulator) => emulator.write(address.0, bytes),
            Kind::Named { stream, .. } => stream.write(bytes, address).expect("it is allocated"),
        }
        address
    }

    /// Room for so many values, which hold NaN.
    pub(crate) fn room<T>(&self, count: usize) -> Address {
        let bytes = count * size_of::<T>();
        match &self.0 {
            Kind::Emulator(_) => self.allocate(bytes),
            Kind::Named { .. } => self.put(&vec![0xffu8; bytes]),
        }
    }

    pub(crate) fn get<T: AnyBitPattern + NoUninit>(&self, at: Address, count: usize) -> Vec<T> {
        let mut values = vec![T::zeroed(); count];
        let bytes = bytemuck::cast_slice_mut(&mut values);
        match &self.0 {
            Kind::Emulator(emulator) => emulator.read(at.0, bytes),
            Kind::Named { stream, .. } => {
                stream.download(at, bytes).unwrap_or_else(|error| panic!("{error}"));
            }
        }
        values
    }

    /// Runs it, with threads and blocks in the order of the seed.
    pub(crate) fn run(&self, launch: &Launch, seed: u64) {
        match &self.0 {
            Kind::Emulator(emulator) => {
                let Launch { kernel, grid, block, shared, params } = *launch;
                let done = emulator.launch(kernel, grid, block, shared, params.bytes(), seed);
                done.unwrap_or_else(|fault| panic!("{fault}"));
            }
            Kind::Named { stream, .. } => {
                let done = stream.launch(launch).and_then(|()| stream.synchronize());
                done.unwrap_or_else(|error| panic!("{error}"));
            }
        }
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
