//! What tests of kernels share: typed memory of an emulated device, and numbers that are random and yet the same every time.

#![allow(dead_code, reason = "every test binary uses a part")]

use bytemuck::{AnyBitPattern, NoUninit};
use defrost_gpu::kernels::Half;
use defrost_gpu::{Address, Launch};
use defrost_gpu_emulator::Emulator;
use half::{bf16, f16};

/// An emulated device. What is put into its memory lies there exactly, so that a read past the end is found.
pub(crate) struct Device(Emulator);

impl Device {
    pub(crate) fn new() -> Self {
        Self(Emulator::new())
    }

    /// Memory for so many values, which hold what no kernel may take for an answer.
    pub(crate) fn space<T>(&self, len: usize) -> Address {
        Address(self.0.allocate(len * size_of::<T>()))
    }

    pub(crate) fn put<T: NoUninit>(&self, values: &[T]) -> Address {
        let at = self.space::<T>(values.len());
        self.0.write(at.0, bytemuck::cast_slice(values));
        at
    }

    pub(crate) fn get<T: AnyBitPattern>(&self, at: Address, len: usize) -> Vec<T> {
        let mut bytes = vec![0; len * size_of::<T>()];
        self.0.read(at.0, &mut bytes);
        bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect()
    }

    /// f32 values in 16 bits.
    pub(crate) fn put_half(&self, half: Half, values: &[f32]) -> Address {
        self.put(&to_half(half, values))
    }

    /// 16-bit values as f32.
    pub(crate) fn get_half(&self, half: Half, at: Address, len: usize) -> Vec<f32> {
        from_half(half, &self.get::<u16>(at, len))
    }

    /// Runs a kernel, its threads in the order of the seed.
    #[track_caller]
    pub(crate) fn run(&self, launch: &Launch, seed: u64) {
        let Launch { kernel, grid, block, shared, params } = launch;
        if let Err(fault) = self.0.launch(kernel, *grid, *block, *shared, params.bytes(), seed) {
            panic!("{fault}");
        }
    }
}

/// The bits of values in 16 bits.
pub(crate) fn to_half(half: Half, values: &[f32]) -> Vec<u16> {
    let bits = |&value: &f32| match half {
        Half::Bf16 => bf16::from_f32(value).to_bits(),
        Half::F16 => f16::from_f32(value).to_bits(),
    };
    values.iter().map(bits).collect()
}

/// The values of such bits.
pub(crate) fn from_half(half: Half, bits: &[u16]) -> Vec<f32> {
    let value = |&bits: &u16| match half {
        Half::Bf16 => bf16::from_bits(bits).to_f32(),
        Half::F16 => f16::from_bits(bits).to_f32(),
    };
    bits.iter().map(value).collect()
}

/// Values between -2 and 2, those of a seed.
pub(crate) fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed >> 40) as f32 / (1u64 << 24) as f32) * 4.0 - 2.0
    };
    (0..len).map(|_| next()).collect()
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
