//! Buffers on an emulated device, and parameters as bytes.

#![allow(dead_code, reason = "each test binary takes what it needs")]

use defrost_gpu_emulator::Emulator;

/// Fresh memory with these words.
pub(crate) fn words(emulator: &Emulator, values: &[u32]) -> u64 {
    let address = emulator.allocate(values.len() * 4);
    emulator.write(address, &values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<_>>());
    address
}

pub(crate) fn floats(emulator: &Emulator, values: &[f32]) -> u64 {
    words(emulator, &values.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
}

pub(crate) fn read_words(emulator: &Emulator, address: u64, count: usize) -> Vec<u32> {
    let mut bytes = vec![0; count * 4];
    emulator.read(address, &mut bytes);
    bytes.chunks_exact(4).map(|x| u32::from_le_bytes(x.try_into().expect("4 bytes"))).collect()
}

pub(crate) fn read_floats(emulator: &Emulator, address: u64, count: usize) -> Vec<f32> {
    read_words(emulator, address, count).into_iter().map(f32::from_bits).collect()
}

/// A struct of addresses and then of words.
pub(crate) fn params(addresses: &[u64], words: &[u32]) -> Vec<u8> {
    let mut bytes: Vec<u8> = addresses.iter().flat_map(|x| x.to_le_bytes()).collect();
    bytes.extend(words.iter().flat_map(|x| x.to_le_bytes()));
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

/// Numbers that look like chance (xorshift), the same in each run.
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.next() % limit
    }
}
